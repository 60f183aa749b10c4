"""libvirt's XML as values."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.adapters.libvirt import domain_xml
from undercroft.errors import InputError
from undercroft.model.domain import ChainEntry, DiskKind, DomainDisk

UUID = "c08c3190-d01e-45b2-a350-6f30e14c6b6b"


def domain(*disks: str, before: str = "") -> str:
    devices = f"<devices>{''.join(disks)}</devices>"
    return f"{before}<domain type='kvm'><name>web01</name><uuid>{UUID}</uuid>{devices}</domain>"


def only_disk(xml: str) -> DomainDisk:
    (disk,) = domain_xml.parse_domain(domain(xml)).disks
    return disk


def test_a_running_domains_chain_is_read_to_its_end() -> None:
    disk = only_disk(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source file='/i/top.qcow2' index='1'/>"
        "<backingStore type='file' index='2'><format type='qcow2'/><source file='/i/middle.qcow2'/>"
        "<backingStore type='block' index='3'><format type='raw'/><source dev='/dev/vg/base'/><backingStore/>"
        "</backingStore></backingStore><target dev='vda' bus='virtio'/></disk>"
    )
    assert (disk.target, disk.kind, disk.path, disk.format) == ("vda", DiskKind.FILE, "/i/top.qcow2", "qcow2")
    assert disk.chain == (ChainEntry("/i/middle.qcow2", "qcow2"), ChainEntry("/dev/vg/base", "raw"))
    assert not disk.problem


def test_a_chain_whose_end_is_not_told_is_not_known() -> None:
    start = "<disk><driver type='qcow2'/><source file='/i/top'/><target dev='vda'/>"
    assert only_disk(f"{start}</disk>").chain is None
    partly = "<backingStore type='file'><format type='qcow2'/><source file='/i/base'/></backingStore>"
    assert only_disk(f"{start}{partly}</disk>").chain is None
    raw = "<backingStore type='file'><format type='raw'/><source file='/i/base'/></backingStore>"
    assert only_disk(f"{start}{raw}</disk>").chain == (ChainEntry("/i/base", "raw"),)


def test_a_raw_disk_has_no_chain_to_be_asked_for() -> None:
    assert only_disk("<disk><source file='/i/disk'/><target dev='vda'/></disk>").chain == ()


def test_a_data_file_is_named_for_the_top_image_and_for_backing_images() -> None:
    top_store = "<dataStore type='file'><format type='raw'/><source file='/i/top.data'/></dataStore>"
    base_store = "<dataStore type='block'><format type='raw'/><source dev='/dev/data'/></dataStore>"
    disk = only_disk(
        "<disk type='file'><driver type='qcow2'/>"
        f"<source file='/i/top.qcow2'>{top_store}</source>"
        "<backingStore type='file'><format type='qcow2'/>"
        f"<source file='/i/base.qcow2'>{base_store}</source><backingStore/>"
        "</backingStore><target dev='vda'/></disk>"
    )
    assert disk.data_file == "/i/top.data"
    assert disk.chain == (ChainEntry("/i/base.qcow2", "qcow2", "/dev/data"),)


@pytest.mark.parametrize(
    ("disk", "problem"),
    [
        (
            "<disk type='network'><source protocol='rbd' name='pool/image'/><target dev='vda'/></disk>",
            "network disk (rbd:pool/image): unread",
        ),
        ("<disk type='nvme'><source type='pci'/><target dev='vda'/></disk>", "disk of type nvme: unread"),
        ("<disk type='dir'><source dir='/x'/><target dev='vda'/></disk>", "disk of type dir: unread"),
        (
            "<disk><source file='/i'><slices><slice type='storage' offset='1' size='2'/></slices></source>"
            "<target dev='vda'/></disk>",
            "a slice of a file: unread",
        ),
        (
            "<disk><driver type='qcow2'/><source file='/i'/><backingStore type='network'><format type='raw'/>"
            "<source protocol='nbd' name='x'/></backingStore><target dev='vda'/></disk>",
            "backing image 1: network disk (nbd:x): unread",
        ),
        (
            "<disk><driver type='qcow2'/><source file='/i'/><backingStore type='file'><source file='/b'/>"
            "</backingStore><target dev='vda'/></disk>",
            "backing image 1: libvirt names no file or no format",
        ),
    ],
)
def test_what_cannot_be_read_as_files_says_why(disk: str, problem: str) -> None:
    assert only_disk(disk).problem == problem


def test_flags_and_removable_drives_are_told() -> None:
    disk = only_disk("<disk device='cdrom'><target dev='sda'/><readonly/><shareable/></disk>")
    assert (disk.removable, disk.readonly, disk.shareable, disk.path) == (True, True, True, "")
    encrypted = "<disk><source file='/i'><encryption format='luks'/></source><target dev='vda'/></disk>"
    assert only_disk(encrypted).encrypted


def test_a_volume_is_named_by_pool_and_volume_and_has_no_path_yet() -> None:
    definition = domain_xml.parse_domain(
        domain("<disk type='volume'><source pool='default' volume='web01.qcow2'/><target dev='vda'/></disk>")
    )
    assert definition.volumes == {"vda": domain_xml.VolumeName("default", "web01.qcow2")}
    assert definition.disks[0].path == ""


def test_a_backup_job_names_every_disk_and_escapes_what_it_names() -> None:
    xml = domain_xml.backup_xml("/run/a&b.sock", {"vda": "/s/<vda>"}, ("hda",))
    root = ElementTree.fromstring(xml)
    assert root.find("server").get("socket") == "/run/a&b.sock"  # type: ignore[union-attr]
    assert [(disk.get("name"), disk.get("backup")) for disk in root.iter("disk")] == [
        ("vda", "yes"),
        ("hda", "no"),
    ]
    assert domain_xml.parse_backup_scratch(xml) == ("/s/<vda>",)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<domain", "malformed"),
        ("", "malformed"),
        ("<volume/>", "<domain> expected"),
        ("<domain><name>x</name></domain>", "no <uuid>"),
        (domain("<disk type='file'/>"), "without <target"),
        (domain("<disk><target dev='vda'/></disk>" * (domain_xml.MAX_DISKS + 1)), "more than 1024 disks"),
        (domain(before="<!DOCTYPE domain [<!ENTITY a 'aaaa'>]>"), "document type"),
        (" " * (domain_xml.MAX_XML_CHARACTERS + 1), "the limit is"),
    ],
)
def test_malformed_and_oversized_descriptions_are_refused(xml: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        domain_xml.parse_domain(xml)


def test_an_endless_chain_is_refused() -> None:
    deep = domain_xml.MAX_CHAIN + 1
    store = "<backingStore type='file'><format type='qcow2'/><source file='/b'/>"
    disk = f"<disk><driver type='qcow2'/><source file='/i'/>{store * deep}{'</backingStore>' * deep}"
    with pytest.raises(InputError, match="more than 256 backing images"):
        domain_xml.parse_domain(domain(f"{disk}<target dev='vda'/></disk>"))


TOKENS = [
    "<disk type='",
    "file",
    "network",
    "'>",
    "<source file='/x'",
    "/>",
    "<target dev='vda'/>",
    "</disk>",
]
TOKENS += [
    "<backingStore>",
    "</backingStore>",
    "<format type='qcow2'/>",
    "<dataStore>",
    "</dataStore>",
    "&#0;",
    "\ud800",
]


@given(st.lists(st.sampled_from(TOKENS) | st.text(max_size=5), max_size=30))
def test_any_text_is_a_domain_or_malformed(parts: list[str]) -> None:
    for text in ("".join(parts), domain("".join(parts))):
        try:
            domain_xml.parse_domain(text)
        except InputError:
            continue
