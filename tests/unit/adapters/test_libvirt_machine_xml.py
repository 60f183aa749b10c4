"""libvirt's XML beyond disks: interfaces, snapshots, pools, volumes, and `<genid/>` put in."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.adapters.libvirt import machine_xml
from undercroft.errors import InputError
from undercroft.model.domain import DomainCheckpoint, DomainSnapshot, Interface, PoolVolume, SnapshotDisk

UUID = "8305421a-b7eb-46bf-984d-e3dcf25b0d3e"


def domain(inner: str = "", attributes: str = "type='qemu'") -> str:
    return f"<domain {attributes}>\n  <name>web01</name>\n  <uuid>{UUID}</uuid>\n{inner}</domain>"


def test_a_running_machines_interfaces_have_taps_and_bridges() -> None:
    found = machine_xml.parse_machine(
        domain(
            """<genid>28074e2f-52ff-4b4f-8c7d-041995eac223</genid><devices>
            <interface type='network'><mac address='52:54:00:AA:00:01'/>
              <source network='default' portid='x' bridge='virbr0'/><target dev='vnet3'/></interface>
            <interface type='bridge'><source bridge='br0'/><target dev='vnet4'/></interface>
            <interface type='user'/>
            <interface type='direct'><source dev='eth0' mode='bridge'/><target dev='macvtap0'/></interface>
            </devices>""",
            "type='qemu' id='7'",
        )
    )
    assert found.libvirt_id == 7
    assert found.genid
    assert found.interfaces == (
        Interface("52:54:00:aa:00:01", "network", "default", "virbr0", "vnet3"),
        Interface("", "bridge", "br0", "br0", "vnet4"),
        Interface("", "user"),
        Interface("", "direct", tap="macvtap0"),
    )


def test_a_stopped_machine_has_no_tap_whatever_its_definition_names() -> None:
    inner = (
        "<devices><interface type='network'><source network='n'/><target dev='tap7'/></interface></devices>"
    )
    found = machine_xml.parse_machine(domain(inner))
    assert (found.libvirt_id, found.genid) == (0, False)
    assert found.interfaces == (Interface("", "network", "n"),)


def test_external_and_internal_snapshots_are_read() -> None:
    found = machine_xml.parse_snapshot(
        """<domainsnapshot><name>s2</name><state>running</state><parent><name>s1</name></parent>
        <creationTime>1795634200</creationTime><memory snapshot='external' file='/i/s2.mem'/>
        <disks><disk name='vda' snapshot='external' type='file'><source file='/i/top.s2'/></disk>
        <disk name='vdb' snapshot='external' type='block'><source dev='/dev/vg/s2'/></disk>
        <disk name='vdc' snapshot='no'/><disk name='vdd' snapshot='internal'/></disks>
        <domain><name>web01</name></domain></domainsnapshot>""",
        current=True,
    )
    assert found == DomainSnapshot(
        "s2",
        "s1",
        1795634200,
        "running",
        "external",
        "/i/s2.mem",
        (
            SnapshotDisk("vda", "external", "/i/top.s2"),
            SnapshotDisk("vdb", "external", "/dev/vg/s2"),
            SnapshotDisk("vdc", "no"),
            SnapshotDisk("vdd", "internal"),
        ),
        current=True,
    )


def test_a_checkpoint_is_read_with_its_parent_and_time() -> None:
    text = (
        "<domaincheckpoint><name>c2</name><parent><name>c1</name></parent>"
        "<creationTime>1795634200</creationTime><disks><disk name='vda' checkpoint='bitmap'/></disks>"
        "</domaincheckpoint>"
    )
    assert machine_xml.parse_checkpoint(text) == DomainCheckpoint("c2", "c1", 1795634200)
    assert machine_xml.parse_checkpoint("<domaincheckpoint><name>c</name></domaincheckpoint>") == (
        DomainCheckpoint("c")
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<domaincheckpoint/>", "no <name>"),
        (
            "<domaincheckpoint><name>c</name><creationTime>x</creationTime></domaincheckpoint>",
            "a number expected",
        ),
        ("<domaincheckpoint>", "malformed"),
        ("<domainsnapshot><name>c</name></domainsnapshot>", "<domaincheckpoint> expected"),
    ],
)
def test_a_broken_checkpoint_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        machine_xml.parse_checkpoint(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<domainsnapshot/>", "no <name>"),
        (
            "<domainsnapshot><name>s</name><creationTime>-1</creationTime></domainsnapshot>",
            "a number expected",
        ),
        (
            f"<domainsnapshot><name>s</name><creationTime>{'9' * 20}</creationTime></domainsnapshot>",
            "at most",
        ),
        ("<domainsnapshot><name>s</name>", "malformed"),
        ("<!DOCTYPE d [<!ENTITY a 'b'>]><domainsnapshot><name>&a;</name></domainsnapshot>", "document type"),
        ("<domain/>", "<domainsnapshot> expected"),
    ],
)
def test_a_broken_snapshot_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        machine_xml.parse_snapshot(text, current=False)


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["", *"abcdefghz"])).map(
        lambda parents: [DomainSnapshot(name, parent, 0, "shutoff") for name, parent in parents.items()]
    )
)
def test_parents_come_first_and_circles_lose_nobody(snapshots: list[DomainSnapshot]) -> None:
    ordered = machine_xml.parents_first(snapshots)
    assert sorted(snapshot.name for snapshot in ordered) == sorted(snapshot.name for snapshot in snapshots)
    parents = {snapshot.name: snapshot.parent for snapshot in snapshots}
    place = {snapshot.name: number for number, snapshot in enumerate(ordered)}
    for name, parent in parents.items():
        above, seen = parent, set()
        while above in parents and above not in seen:
            seen.add(above)
            above = parents[above]
        if parent in place and above not in parents:  # no circle above it
            assert place[parent] < place[name]


def test_volumes_that_are_files_or_devices_are_read() -> None:
    text = (
        "<volume type='file'><name>a.qcow2</name><capacity unit='bytes'>99</capacity><physical unit='bytes'>7"
        "</physical><target><path>/i/a.qcow2</path><format type='qcow2'/></target></volume>"
    )
    assert machine_xml.parse_volume(text, "p") == PoolVolume("p", "a.qcow2", "/i/a.qcow2", "qcow2", 7)
    assert machine_xml.parse_volume(text.replace("'file'", "'dir'"), "p") is None
    assert machine_xml.parse_volume(text.replace("'file'", "'network'"), "p") is None


WITH_NAMESPACES = f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>wéb&lt;</name>
  <uuid>{UUID}</uuid >
  <metadata>
    <a:x xmlns:a="urn:a"><a:uuid>no</a:uuid><uuid xmlns="urn:b">no</uuid></a:x>
  </metadata>
  <sysinfo type='smbios'><system><entry name='uuid'>{UUID}</entry></system></sysinfo>
  <qemu:commandline>
    <qemu:arg value='-newarg'/>
  </qemu:commandline>
</domain>
"""


def test_a_genid_goes_in_and_everything_else_stays_to_the_byte() -> None:
    after = machine_xml.with_genid(WITH_NAMESPACES)
    assert after.replace("\n  <genid/>", "") == WITH_NAMESPACES
    root = ElementTree.fromstring(after)
    assert [child.tag for child in root][:3] == ["name", "uuid", "genid"]
    assert len(root.findall(".//genid")) == 1
    assert machine_xml.with_genid(after) == after


def test_a_parser_that_writes_the_xml_anew_would_rename_its_prefixes() -> None:
    assert "qemu:commandline" not in ElementTree.tostring(
        ElementTree.fromstring(WITH_NAMESPACES), encoding="unicode"
    )


def test_a_definition_without_uuid_gets_no_genid() -> None:
    with pytest.raises(InputError, match="no <uuid>"):
        machine_xml.with_genid("<domain><name>a</name></domain>")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (
        machine_xml.parse_machine,
        machine_xml.parse_pool,
        machine_xml.with_genid,
        lambda xml: machine_xml.parse_volume(xml, "p"),
        lambda xml: machine_xml.parse_snapshot(xml, current=False),
    ):
        for candidate in (text, f"<domain>{text}</domain>"):
            try:
                parse(candidate)
            except InputError:
                continue
