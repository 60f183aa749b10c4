"""The fleet's libvirt with the test driver that libvirt itself carries, which runs in this process."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.sax.saxutils import escape

import pytest

from undercroft.adapters.libvirt import domain_xml
from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.adapters.libvirt.survey import Surveyor
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.lineage.alarms import alarms
from undercroft.model.domain import Domain, Interface, Ownership, Power

if TYPE_CHECKING:
    import libvirt

URI = "test:///default"
GONE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def fleet() -> Iterator[LibvirtFleet]:
    pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    with LibvirtFleet(URI, Path("/save")) as fleet:
        yield fleet


@pytest.fixture
def driver(fleet: LibvirtFleet) -> "Iterator[libvirt.virConnect]":
    """libvirt's own binding, on the same driver: the administrator's virsh."""
    import libvirt  # noqa: PLC0415 - only where it is installed

    with closing(libvirt.open(URI)) as connection:
        yield connection


def xml(name: str, inner: str = "") -> str:
    return (
        f"<domain type='test'><name>{escape(name)}</name><uuid>{uuid.uuid4()}</uuid><memory>8192</memory>"
        f"<os><type>hvm</type></os>{inner}</domain>"
    )


@pytest.fixture
def defined(driver: "libvirt.virConnect") -> "Iterator[libvirt.virDomain]":
    domain = driver.defineXML(xml("web01"))
    yield domain
    if domain.isActive():
        domain.destroy()
    for snapshot in domain.listAllSnapshots():
        snapshot.delete()
    domain.undefine()


def named(fleet: LibvirtFleet, name: str) -> Domain:
    (found,) = [domain for domain in fleet.survey().domains if domain.name == name]
    return found


def test_a_machine_is_seen_in_each_state(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    identity = defined.UUIDString()
    assert fleet.domain(identity).power is Power.OFF
    defined.setAutostart(True)
    fleet.start(identity)
    found = named(fleet, "web01")
    assert (found.power, found.persistent, found.autostart) == (Power.RUNNING, True, True)
    assert found.libvirt_id == defined.connect().lookupByName("web01").ID()  # a handle keeps its first ID
    defined.suspend()
    assert named(fleet, "web01").power is fleet.domain(identity).power is Power.PAUSED
    fleet.destroy(identity)
    fleet.destroy(identity)
    assert named(fleet, "web01").power is Power.OFF
    defined.setAutostart(False)


def test_a_machine_that_was_started_anew_is_not_stopped_for_what_ran_before(
    fleet: LibvirtFleet, defined: "libvirt.virDomain"
) -> None:
    identity = defined.UUIDString()
    fleet.start(identity)
    before = fleet.domain(identity).libvirt_id
    fleet.destroy(identity, before)
    fleet.destroy(identity, before)  # it is off
    fleet.start(identity)
    with pytest.raises(StateError, match="web01: it was started anew since"):
        fleet.destroy(identity, before)
    assert fleet.domain(identity).power is Power.RUNNING
    fleet.destroy(identity, fleet.domain(identity).libvirt_id)
    assert fleet.domain(identity).power is Power.OFF


def test_a_transient_machine_is_said_to_be_one(fleet: LibvirtFleet, driver: "libvirt.virConnect") -> None:
    domain = driver.createXML(xml("brief"))
    assert not named(fleet, "brief").persistent
    assert not fleet.domain(domain.UUIDString()).persistent
    with pytest.raises(OperationError, match="brief: transient"):
        fleet.enable_genid(domain.UUIDString())
    domain.destroy()


def test_a_survey_and_a_single_look_agree(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    fleet.start(defined.UUIDString())
    for domain in fleet.survey().domains:
        assert fleet.domain(domain.uuid) == domain


def test_a_stopped_machines_bridge_is_that_of_its_network(
    fleet: LibvirtFleet, driver: "libvirt.virConnect"
) -> None:
    interfaces = "".join(
        f"<interface type='network'><mac address='52:54:00:00:00:0{number}'/><source network='{network}'/>"
        "</interface>"
        for number, network in enumerate(("default", "default", "nosuch"))
    )
    domain = driver.defineXML(xml("net01", f"<devices>{interfaces}</devices>"))
    survey = fleet.survey()
    (found,) = [domain for domain in survey.domains if domain.name == "net01"]
    assert found.interfaces == (
        Interface("52:54:00:00:00:00", "network", "default", "virbr0"),
        Interface("52:54:00:00:00:01", "network", "default", "virbr0"),
        Interface("52:54:00:00:00:02", "network", "nosuch"),
    )
    assert [problem for problem in survey.problems if "network" in problem] == [
        "network 'nosuch': its bridge and reservations are not known"
        " (Network not found: no network with matching name 'nosuch')"
    ]
    domain.undefine()


LAB = (
    "<network><name>lab</name><bridge name='virbr7'/><ip address='192.0.2.1' netmask='255.255.255.0'>"
    "<dhcp><host mac='52:54:00:00:00:01' name='web' ip='192.0.2.7'/></dhcp></ip>"
    "<ip family='ipv6' address='2001:db8::1' prefix='64'><dhcp>"
    "<host id='0:3:0:1:52:54:0:0:0:1' ip='2001:db8::7'/></dhcp></ip></network>"
)


def test_what_a_network_reserves_for_a_mac_is_its_interfaces(
    fleet: LibvirtFleet, driver: "libvirt.virConnect"
) -> None:
    network = driver.networkCreateXML(LAB)
    interfaces = "".join(
        f"<interface type='network'><mac address='52:54:00:00:00:0{number}'/><source network='{name}'/>"
        "</interface>"
        for number, name in enumerate(("lab", "lab", "default"))
    )
    other = "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='virbr7'/></interface>"
    domain = driver.defineXML(xml("lab01", f"<devices>{interfaces}{other}</devices>"))
    for _ in range(2):  # off, and running
        found = named(fleet, "lab01")
        assert fleet.domain(found.uuid) == found
        assert [item.addresses for item in found.interfaces] == [(), ("192.0.2.7", "2001:db8::7"), (), ()]
        if not domain.isActive():
            domain.create()
    domain.destroy()
    domain.undefine()
    network.destroy()


def test_a_network_that_cannot_be_read_for_a_moment_takes_no_addresses_away(
    fleet: LibvirtFleet, driver: "libvirt.virConnect"
) -> None:
    import libvirt  # noqa: PLC0415 - only where it is installed

    class Deaf:
        """The connection while nobody answers for networks."""

        def __getattr__(self, name: str) -> object:
            return getattr(driver, name)

        def networkLookupByName(self, name: str) -> object:  # noqa: N802 - libvirt's own name
            raise libvirt.libvirtError(f"virtnetworkd is away, {name} cannot be asked for")

    nic = "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='lab'/></interface>"
    domain = driver.defineXML(xml("lab01", f"<devices>{nic}</devices>"))
    network = driver.networkCreateXML(LAB)
    (read,) = named(fleet, "lab01").interfaces
    deaf, binding = cast("Any", Deaf()), cast("Any", libvirt)
    survey = Surveyor(binding, deaf, Path("/save"), fleet._networks).survey(URI)
    (found,) = [known for known in survey.domains if known.name == "lab01"]
    assert found.interfaces == (read,)
    assert read.addresses == ("192.0.2.7", "2001:db8::7")
    assert any("may be others than when they were read last" in problem for problem in survey.problems)
    # Control: without that memory they would be gone. And those of a network that is gone are.
    forgetful = Surveyor(binding, deaf, Path("/save")).survey(URI)
    assert [one.interfaces[0].addresses for one in forgetful.domains if one.name == "lab01"] == [()]
    network.destroy()
    assert named(fleet, "lab01").interfaces[0].addresses == ()
    domain.undefine()


def test_snapshots_are_a_tree_with_one_current(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    identity = defined.UUIDString()
    defined.create()
    for name in ("z", "y", "\u202eevil <&> '\""):
        defined.snapshotCreateXML(f"<domainsnapshot><name>{escape(name)}</name></domainsnapshot>")
    fleet.revert(identity, "z")
    defined.snapshotCreateXML("<domainsnapshot><name>fork</name></domainsnapshot>")
    found = named(fleet, "web01").snapshots
    assert {snapshot.name: snapshot.parent for snapshot in found} == {
        "z": "",
        "y": "z",
        "fork": "z",
        "\u202eevil <&> '\"": "y",
    }
    assert [snapshot.name for snapshot in found if snapshot.current] == ["fork"]
    assert found[0].name == "z"
    assert {(snapshot.state, snapshot.memory) for snapshot in found} == {("running", "internal")}
    fleet.delete_snapshot(identity, "y")
    assert {snapshot.name: snapshot.parent for snapshot in named(fleet, "web01").snapshots} == {
        "z": "",
        "fork": "z",
        "\u202eevil <&> '\"": "z",
    }


def test_a_revert_may_leave_the_machine_paused(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    defined.create()
    defined.snapshotCreateXML("<domainsnapshot><name>s1</name></domainsnapshot>")
    defined.destroy()
    fleet.revert(defined.UUIDString(), "s1", paused=True)
    assert named(fleet, "web01").power is Power.PAUSED
    fleet.revert(defined.UUIDString(), "s1")
    assert named(fleet, "web01").power is Power.RUNNING


def _disk(path: Path) -> str:
    return (
        "<devices><disk type='file' device='disk'><driver type='raw'/>"
        f"<source file='{path}'/><target dev='vda'/></disk></devices>"
    )


@pytest.mark.parametrize("way", ["hard link", "symbolic link", "linked folder"])
def test_two_machines_on_two_names_of_one_image_are_an_alarm(
    way: str, fleet: LibvirtFleet, driver: "libvirt.virConnect", tmp_path: Path
) -> None:
    """Control: their paths differ, and a copy of the image raises none."""
    image, folder = tmp_path / "a.img", tmp_path / "linked"
    image.write_bytes(b"\0" * 4096)
    folder.symlink_to(tmp_path)
    name = folder / image.name if way == "linked folder" else tmp_path / "b.img"
    if way == "hard link":
        name.hardlink_to(image)
    elif way == "symbolic link":
        name.symlink_to(image)
    copy = tmp_path / "copy.img"
    copy.write_bytes(image.read_bytes())
    domains = [
        driver.createXML(xml(f"on{number}", _disk(path))) for number, path in enumerate((image, name, copy))
    ]
    try:
        survey = fleet.survey()
        paths = {disk.path for domain in survey.domains for disk in domain.disks}
        assert {str(image), str(name), str(copy)} <= paths
        found = [alarm for alarm in alarms((), survey) if alarm.kind == "shared-image"]
        assert [set(alarm.machines) for alarm in found] == [{one.UUIDString() for one in domains[:2]}]
        assert "as well; stop one of them" in found[0].reason
    finally:
        for domain in domains:
            domain.destroy()


def test_files_of_a_machine_that_is_off_are_left_alone(
    fleet: LibvirtFleet, driver: "libvirt.virConnect", tmp_path: Path
) -> None:
    image = tmp_path / "a.img"
    image.touch()
    domain = driver.defineXML(xml("rests", _disk(image)))
    assert named(fleet, "rests").disks[0].identity == ""
    domain.create()
    assert named(fleet, "rests").disks[0].identity == f"file {image.stat().st_dev}:{image.stat().st_ino}"
    image.unlink()
    assert fleet.domain(domain.UUIDString()).disks[0].identity == ""
    domain.destroy()
    domain.undefine()


def test_thousands_of_snapshots_are_read_with_their_parents(
    fleet: LibvirtFleet, defined: "libvirt.virDomain"
) -> None:
    for number in range(2000):
        defined.snapshotCreateXML(f"<domainsnapshot><name>s{number}</name></domainsnapshot>")
    found = named(fleet, "web01")
    assert found.problem == ""
    assert [snapshot.name for snapshot in found.snapshots] == [f"s{number}" for number in range(2000)]
    assert all(
        snapshot.parent == before.name
        for before, snapshot in zip(found.snapshots, found.snapshots[1:], strict=False)
    )


def test_an_owner_is_written_and_taken_back(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    identity = defined.UUIDString()
    addresses = ("192.0.2.7", "2001:db8::7@52:54:00:00:00:01")
    expected = Ownership('me & "you" <x>', ("db", "web"), date(2027, 1, 31), True, addresses=addresses)
    for active in (False, True):
        if active:
            defined.create()
        fleet.set_ownership(
            identity,
            owner=expected.owner,
            labels=["web", "db"],
            expires_on="2027-01-31",
            template=True,
            addresses=expected.addresses[::-1],
        )
        assert named(fleet, "web01").ownership == expected
        fleet.set_ownership(identity, owner="", labels=[], expires_on="", template=False, addresses=())
        assert named(fleet, "web01").ownership == Ownership()
        assert "undercroft" not in defined.XMLDesc()
    with pytest.raises(InputError, match="expires 'soon': a date is possible"):
        fleet.set_ownership(identity, owner="", labels=[], expires_on="soon", template=False, addresses=())


def test_a_genid_is_put_into_a_definition_once(fleet: LibvirtFleet, driver: "libvirt.virConnect") -> None:
    inner = "<metadata><a:x xmlns:a='urn:a' y='1'><a:z>text</a:z></a:x></metadata><title>a &amp; b</title>"
    domain = driver.defineXML(xml("old01", inner))
    before = domain.XMLDesc()
    fleet.enable_genid(domain.UUIDString())
    assert named(fleet, "old01").genid
    after = domain.XMLDesc()
    assert [line for line in after.splitlines() if "genid" not in line] == before.splitlines()
    fleet.enable_genid(domain.UUIDString())
    assert domain.XMLDesc() == after
    domain.undefine()


def test_what_is_not_there_is_not_found(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    identity = defined.UUIDString()
    defined.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
    for command in (fleet.domain, fleet.start, fleet.destroy, fleet.enable_genid):
        with pytest.raises(NotFoundError, match=f"{GONE}.*virsh list"):
            command(GONE)
        with pytest.raises(NotFoundError, match="not-a-uuid"):
            command("not-a-uuid")
    with pytest.raises(NotFoundError, match=r"web01: no snapshot 'befor'; did you mean before\?"):
        fleet.revert(identity, "befor")
    with pytest.raises(NotFoundError, match="no snapshot 'x'; it has 1"):
        fleet.delete_snapshot(identity, "x")


def test_libvirts_own_words_reach_whoever_commands(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    defined.create()
    with pytest.raises(OperationError, match=rf"machine {defined.UUIDString()}: start: .*already running"):
        fleet.start(defined.UUIDString())


@pytest.mark.parametrize("name", ["\u202egnp.exe", "a b;$(x)`y`", "<&>\"'", "-rf", "..", "x" * 200, "ü✓"])
def test_a_hostile_name_is_a_name(fleet: LibvirtFleet, driver: "libvirt.virConnect", name: str) -> None:
    domain = driver.defineXML(xml(name))
    assert named(fleet, name).uuid == domain.UUIDString()
    domain.undefine()


def test_xml_over_the_limit_spoils_one_machine_only(
    fleet: LibvirtFleet, driver: "libvirt.virConnect", defined: "libvirt.virDomain"
) -> None:
    text = "x" * domain_xml.MAX_XML_CHARACTERS
    domain = driver.defineXML(xml("huge", f"<description>{text}</description>"))
    found = named(fleet, "huge")
    assert "the limit is 8388608" in found.problem
    assert (found.uuid, found.power) == (domain.UUIDString(), Power.OFF)
    assert named(fleet, "web01").problem == ""
    domain.undefine()


def test_machines_that_come_and_go_meanwhile_harm_no_survey(
    fleet: LibvirtFleet, driver: "libvirt.virConnect", defined: "libvirt.virDomain"
) -> None:
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            domains = [driver.createXML(xml(f"brief{number}")) for number in range(20)]
            for domain in domains:
                domain.destroy()

    worker = threading.Thread(target=churn)
    worker.start()
    try:
        surveys = [fleet.survey() for _ in range(100)]
    finally:
        ended.set()
        worker.join()
    assert {domain.problem for survey in surveys for domain in survey.domains} == {""}
    assert all("web01" in {domain.name for domain in survey.domains} for survey in surveys)
    assert any("brief0" in {domain.name for domain in survey.domains} for survey in surveys)


def test_several_threads_may_ask_at_once(fleet: LibvirtFleet, defined: "libvirt.virDomain") -> None:
    failed: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(20):
                assert named(fleet, "web01").uuid == fleet.domain(defined.UUIDString()).uuid
                fleet.set_ownership(
                    defined.UUIDString(), owner="me", labels=(), expires_on="", template=False, addresses=()
                )
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_libvirt_that_does_not_answer_is_named_with_a_cure(tmp_path: Path) -> None:
    pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    with (
        LibvirtFleet(f"qemu+unix:///system?socket={tmp_path}/none") as fleet,
        pytest.raises(OperationError, match=r"Failed to connect.*systemctl start libvirtd.*virtqemud"),
    ):
        fleet.survey()


def test_another_hosts_machines_are_not_looked_for() -> None:
    with pytest.raises(OperationError, match="run undercroft on that host"):
        LibvirtFleet("qemu+ssh://host/system")


def test_a_scan_loads_nothing_of_the_fleet() -> None:
    script = "import sys, undercroft.adapters.libvirt; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
