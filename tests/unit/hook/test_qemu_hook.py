"""The hook's own small readers and writers against the standard library's."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as some

from undercroft.hook import qemu_hook

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**64) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=20,
)
UUID = "c7a5fdbd-cdaf-9455-926a-d65c16db1809"


@given(VALUES)
def test_what_it_writes_json_reads_as_the_same(value: object) -> None:
    written = qemu_hook.dump(value)
    assert json.loads(written) == value
    assert written.isascii()


@given(VALUES)
def test_what_json_writes_it_reads_as_the_same(value: object) -> None:
    assert qemu_hook.load(json.dumps(value, indent=1).encode()) == value


@given(some.binary(max_size=200) | some.text(alphabet='{}[]",:0129.-etrufalsn\\ ').map(str.encode))
def test_it_reads_json_or_raises_value_error(data: bytes) -> None:
    try:
        found = qemu_hook.load(data)
    except ValueError:
        return
    assert found == json.loads(data) or found != found  # NaN


@given(some.text())
def test_what_it_shows_is_one_printable_line(text: str) -> None:
    assert qemu_hook.printable(text).isprintable()


@given(some.text(max_size=60) | some.uuids().map(str) | some.uuids().map(lambda value: str(value).upper()))
def test_a_uuid_that_it_takes_is_a_plain_name(text: str) -> None:
    try:
        taken = qemu_hook.checked_uuid(text)
    except qemu_hook.Refusal:
        return
    assert len(taken) == 36
    assert set(taken) <= set("0123456789abcdef-")


_TAGS = some.sampled_from(["interface", "source", "target", "mac", "disk", "hostdev", "address", "devices"])
_NAMES = some.sampled_from(["type", "bridge", "dev", "address", "file", "device", "bus", "slot", "domain"])


@given(
    some.recursive(
        some.tuples(_TAGS, some.dictionaries(_NAMES, some.text("a0x/\u00e9", max_size=5)), some.just([])),
        lambda inner: some.tuples(
            _TAGS, some.dictionaries(_NAMES, some.text("a0x/", max_size=5)), some.lists(inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_well_formed_domain_is_read_or_refused(tree: tuple[str, dict[str, str], list[object]]) -> None:
    domain = ET.Element("domain")
    ET.SubElement(domain, "uuid").text = UUID
    _grow(ET.SubElement(domain, "devices"), tree)
    try:
        machine = qemu_hook.read_machine(ET.tostring(domain, encoding="unicode"))
    except qemu_hook.Refusal:
        return
    assert machine.uuid == UUID
    assert len(machine.interfaces) == len(domain.findall("devices/interface"))
    kinds = [element.get("type", "") for element in domain.findall("devices/interface")]
    assert [interface.kind for interface in machine.interfaces] == kinds


def _grow(parent: ET.Element, tree: tuple[str, dict[str, str], list[object]]) -> None:
    tag, attributes, children = tree
    element = ET.SubElement(parent, tag, attributes)
    for child in children:
        _grow(element, child)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["file", "block"])
def test_only_a_disk_s_own_top_image_counts(kind: str) -> None:
    name = "file" if kind == "file" else "dev"
    xml = (
        f"<domain><uuid>{UUID}</uuid><devices><disk type='{kind}'><source {name}='/top'/>"
        "<backingStore type='file'><source file='/base'/></backingStore><mirror><source file='/m'/></mirror>"
        "</disk><disk type='file' device='cdrom'><source file='/cd'/></disk>"
        "<disk type='network' device='disk'><source protocol='rbd' name='x'/></disk></devices></domain>"
    )
    assert qemu_hook.read_machine(xml).disks == ["/top", ""]
