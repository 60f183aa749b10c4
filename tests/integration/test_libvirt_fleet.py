"""The fleet's libvirt with a real libvirtd and a real guest: what a survey says, what the events tell."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import guests
import libvirtd
import pytest
from libvirthost import overlay, wait_until
from memoryfleet import MemoryFleet

from undercroft.adapters.libvirt import connections
from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.errors import OperationError
from undercroft.model.domain import ChainEntry, DiskKind, Domain, Ownership, PoolVolume, Power, SnapshotDisk
from undercroft.ports.fleet import FleetHypervisor, Happening, MachineEvent

if TYPE_CHECKING:
    import libvirt

MISSING = guests.missing() or libvirtd.missing() or ("" if find_spec("libvirt") else "needs libvirt-python")
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

NAME = "web01"
T = TypeVar("T")
EVENT_TIMEOUT_S = 60
REFUSING_HOOK = """#!/bin/sh
cat > /dev/null
if [ "$1 $2" = "refused01 prepare" ]; then echo 'not today, says the hook' >&2; exit 1; fi
"""


@dataclass(frozen=True)
class Host:
    """A libvirtd with one stopped machine on a linked clone."""

    daemon: libvirtd.Libvirtd
    connection: "libvirt.virConnect"
    fleet: LibvirtFleet
    domain: "libvirt.virDomain"
    base: Path
    top: Path

    def seen(self, name: str = NAME) -> Domain:
        (found,) = [domain for domain in self.fleet.survey().domains if domain.name == name]
        return found

    def off(self) -> None:
        """Stop the machine and take its snapshots away."""
        if self.domain.isActive():
            self.domain.destroy()
        for snapshot in self.domain.listAllSnapshots():
            snapshot.delete()


def xml(host_images: Path, name: str, disk: str, extra: str = "") -> str:
    boot = guests.BootFiles(host_images / "vmlinuz", host_images / "initrd")
    return libvirtd.domain_xml(name, boot, host_images / f"serial-{name}", [disk], extra=extra)


def hooks(root: Path) -> None:
    (root / "etc" / "hooks").mkdir()
    hook = root / "etc" / "hooks" / "qemu"
    hook.write_text(REFUSING_HOOK)
    hook.chmod(0o755)


@contextmanager
def a_host() -> Iterator[Host]:
    import libvirt  # noqa: PLC0415 - only where it is installed

    with (
        libvirtd.running(hooks) as daemon,
        LibvirtFleet(daemon.uri, daemon.state_directory / "save") as fleet,
        closing(libvirt.open(daemon.uri)) as connection,
    ):
        guests.with_workload(guests.boot_files(), "while :; do sleep 1; done\n", daemon.images)
        base, top = daemon.images / "base.qcow2", daemon.images / "top.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "16M"], check=True)
        overlay(top, base)
        domain = connection.defineXML(xml(daemon.images, NAME, libvirtd.disk_xml(top, "vda")))
        yield Host(daemon, connection, fleet, domain, base, top)


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    with a_host() as running:
        yield running


@pytest.fixture
def mortal() -> Iterator[Host]:
    """A host of the test's own, whose libvirtd may be ended."""
    with a_host() as running:
        yield running


@pytest.fixture
def host(running: Host) -> Iterator[Host]:
    running.off()
    yield running
    running.off()


def listen(
    host: Host, act: Callable[[], object], until: tuple[Happening, str], fleet: FleetHypervisor | None = None
) -> list[tuple[Happening, str]]:
    """Return the machine's events while `act` runs, up to and with `until`."""

    async def gather() -> list[tuple[Happening, str]]:
        events = (fleet or host.fleet).events()
        assert (await soon(anext(events))).happening is Happening.CONNECTED
        acting = asyncio.ensure_future(asyncio.to_thread(act))
        found = await soon(collect(events))
        await acting
        return found

    async def collect(events: AsyncIterator[MachineEvent]) -> list[tuple[Happening, str]]:
        found: list[tuple[Happening, str]] = []
        while not found or found[-1] != until:
            event = await anext(events)
            assert (event.name, event.uuid) == (NAME, host.domain.UUIDString())
            found.append((event.happening, event.detail))
        return found

    return asyncio.run(gather())


async def soon(what: Awaitable[T]) -> T:
    return await asyncio.wait_for(what, EVENT_TIMEOUT_S)


def snapshot(host: Host, name: str, inner: str = "", flags: int = 0) -> None:
    host.domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name>{inner}</domainsnapshot>", flags)


def test_a_linked_clones_chain_is_said_while_it_runs_and_not_while_it_is_off(host: Host) -> None:
    (disk,) = host.seen().disks
    assert (host.seen().power, disk.path, disk.chain) == (Power.OFF, str(host.top), None)
    host.fleet.start(host.domain.UUIDString())
    (disk,) = host.seen().disks
    assert host.seen().power is Power.RUNNING
    assert (disk.path, disk.chain) == (str(host.top), (ChainEntry(str(host.base), "qcow2"),))


def test_a_revert_of_a_running_machine_is_told_as_libvirt_tells_it(host: Host) -> None:
    host.domain.create()
    snapshot(host, "s1")
    found = listen(
        host,
        lambda: host.fleet.revert(host.domain.UUIDString(), "s1"),
        (Happening.DEFINED, "from-snapshot"),
    )
    assert found == [
        (Happening.STOPPED, "from-snapshot"),
        (Happening.STARTED, "from-snapshot"),
        (Happening.RESUMED, "from-snapshot"),
        (Happening.DEFINED, "from-snapshot"),
    ]
    host.fleet.revert(host.domain.UUIDString(), "s1", paused=True)
    assert host.seen().power is Power.PAUSED
    host.fleet.destroy(host.domain.UUIDString())
    assert host.seen().power is Power.OFF


def test_the_fleet_in_memory_tells_what_libvirt_tells(host: Host) -> None:
    identity = host.domain.UUIDString()
    memory = MemoryFleet([Domain(identity, NAME, Power.OFF)])

    def live(fleet: FleetHypervisor, take: Callable[[], object], save: Callable[[], object]) -> None:
        fleet.start(identity)
        take()
        fleet.revert(identity, "s1")
        fleet.revert(identity, "s1", paused=True)
        fleet.destroy(identity)
        fleet.destroy(identity)
        fleet.revert(identity, "s1")
        fleet.set_ownership(identity, owner="me", labels=(), expires_on="", template=False, addresses=())
        save()

    def live_here() -> None:
        live(host.fleet, lambda: snapshot(host, "s1"), host.domain.managedSave)

    def live_in_memory() -> None:
        live(memory, lambda: memory.take_snapshot(identity, "s1"), lambda: memory.save(identity, "/save"))

    told = listen(host, live_here, (Happening.STOPPED, "saved"))
    metadata = (Happening.CHANGED, "metadata")
    told = [event for event, following in zip(told, [*told[1:], None], strict=True) if event != following]
    assert told.count(metadata) == 1  # libvirt tells it of the running machine and of its definition
    assert listen(host, live_in_memory, (Happening.STOPPED, "saved"), memory) == told
    assert (host.seen().power, memory.domain(identity).power) == (Power.SAVED, Power.SAVED)
    host.fleet.set_ownership(identity, owner="", labels=(), expires_on="", template=False, addresses=())
    host.domain.managedSaveRemove()


def test_a_managed_save_and_the_start_from_it_are_told(host: Host) -> None:
    host.domain.create()
    host.domain.managedSave()
    found = host.seen()
    assert found.power is Power.SAVED
    assert Path(found.managed_save) == host.daemon.state_directory / "save" / f"{NAME}.save"
    assert Path(found.managed_save).stat().st_size > 0
    start = (Happening.RESUMED, "from-snapshot")
    assert listen(host, lambda: host.fleet.start(found.uuid), start) == [
        (Happening.STARTED, "restored"),
        start,
    ]
    assert (host.seen().power, host.seen().managed_save) == (Power.RUNNING, "")


def test_a_snapshot_loaded_through_the_monitor_leaves_its_mark(host: Host) -> None:
    import libvirt_qemu  # noqa: PLC0415 - only where it is installed

    host.domain.create()
    snapshot(host, "s1")
    assert host.seen().tainted == ()
    hmp = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    found = listen(
        host,
        lambda: libvirt_qemu.qemuMonitorCommand(host.domain, "loadvm s1", hmp),
        (Happening.RESUMED, "unpaused"),
    )
    assert found == [(Happening.SUSPENDED, "paused"), (Happening.RESUMED, "unpaused")]
    assert host.seen().tainted == host.fleet.domain(host.domain.UUIDString()).tainted == ("custom-monitor",)
    host.fleet.destroy(host.domain.UUIDString())
    assert host.seen().tainted == ()


def test_external_snapshots_name_their_files_and_libvirt_9_cannot_revert_them(
    host: Host,
) -> None:
    images = host.daemon.images
    lone = overlay(images / "ext.qcow2", host.base)
    domain = host.connection.defineXML(xml(images, "ext01", libvirtd.disk_xml(lone, "vda")))
    domain.create()
    memory = f"<memory snapshot='external' file='{images}/ext1.mem'/>"
    domain.snapshotCreateXML(f"<domainsnapshot><name>e1</name>{memory}</domainsnapshot>")
    for name in ("c1", "c2"):
        domain.checkpointCreateXML(f"<domaincheckpoint><name>{name}</name></domaincheckpoint>")
    try:
        found = host.seen("ext01")
        (taken,) = found.snapshots
        assert (taken.name, taken.state, taken.memory, taken.memory_path, taken.current) == (
            "e1",
            "running",
            "external",
            f"{images}/ext1.mem",
            True,
        )
        assert taken.disks == (SnapshotDisk("vda", "external", f"{images}/ext.e1"),)
        assert found.disks[0].path == f"{images}/ext.e1"
        (first, second) = found.checkpoints
        assert (first.name, first.parent, second.name, second.parent) == ("c1", "", "c2", "c1")
        assert 0 <= time.time() - first.created_at_s < 600
        if host.connection.getLibVersion() < 9_009_000:
            told = r"revert to 'e1': .*not supported.*virsh blockcommit"
            with pytest.raises(OperationError, match=told):
                host.fleet.revert(found.uuid, "e1")
            assert host.seen("ext01").libvirt_id == found.libvirt_id
    finally:
        domain.destroy()


def test_a_disk_that_is_plugged_in_is_a_change(host: Host) -> None:
    host.domain.create()
    image = overlay(host.daemon.images / "plugged.qcow2", host.base)
    found = listen(
        host,
        lambda: host.domain.attachDevice(libvirtd.disk_xml(image, "vdb")),
        (Happening.CHANGED, "device-added"),
    )
    assert found == [(Happening.CHANGED, "device-added")]
    assert [disk.target for disk in host.seen().disks] == ["vda", "vdb"]


def test_a_hooks_refusal_reaches_whoever_starts(host: Host) -> None:
    images = host.daemon.images
    disk = libvirtd.disk_xml(overlay(images / "refused.qcow2", host.base), "vda")
    domain = host.connection.defineXML(xml(images, "refused01", disk))
    with pytest.raises(OperationError, match=r"start: .*not today, says the hook"):
        host.fleet.start(domain.UUIDString())
    domain.undefine()


def test_a_genid_survives_beside_what_libvirt_would_drop(host: Host) -> None:
    text = xml(host.daemon.images, "old01", libvirtd.disk_xml(host.top, "vda"))
    text = text.replace("<domain ", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' ", 1)
    text = text.replace(
        "</domain>", "<qemu:commandline><qemu:env name='A' value='b'/></qemu:commandline></domain>"
    )
    text = text.replace("<memory", "<metadata><a:x xmlns:a='urn:a'>t</a:x></metadata><memory", 1)
    domain = host.connection.defineXML(text)
    before = domain.XMLDesc()
    assert not host.seen("old01").genid
    host.fleet.enable_genid(domain.UUIDString())
    host.fleet.set_ownership(
        domain.UUIDString(),
        owner="web team",
        labels=["web"],
        expires_on="2027-01-31",
        template=False,
        addresses=["192.0.2.7"],
    )
    found = host.seen("old01")
    assert found.genid
    assert found.ownership == Ownership("web team", ("web",), date(2027, 1, 31), addresses=("192.0.2.7",))
    lost = set(before.splitlines()) - set(domain.XMLDesc().splitlines())
    assert lost == set()
    domain.undefine()


def test_what_lies_in_a_pools_folder_behind_its_back_is_found(host: Host) -> None:
    folder = host.daemon.images / "pool"
    folder.mkdir()
    overlay(folder / "known.qcow2", host.base)
    pool = host.connection.storagePoolDefineXML(
        f"<pool type='dir'><name>images</name><target><path>{folder}</path></target></pool>"
    )
    assert any("'images': not active, unread" in problem for problem in host.fleet.survey().problems)
    pool.create()
    (folder / "copied\x1b[31m.qcow2").write_bytes(b"x" * 7)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder").mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).touch()
    disk = (
        "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source pool='images' volume='known.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    )
    domain = host.connection.defineXML(xml(host.daemon.images, "vol01", disk))
    survey = host.fleet.survey()
    size = (folder / "known.qcow2").stat().st_size
    copied = "copied\x1b[31m.qcow2"
    assert survey.volumes == (
        PoolVolume("images", copied, f"{folder}/{copied}", "", 7),
        PoolVolume("images", "known.qcow2", f"{folder}/known.qcow2", "qcow2", size),
    )
    assert survey.unused_volumes() == survey.volumes[:1]
    assert [problem for problem in survey.problems if "UTF-8" in problem] == [
        f"storage pool 'images': {folder}: the name b'bad\\xff' is not UTF-8; unread"
    ]
    (found,) = [found for found in survey.domains if found.name == "vol01"]
    assert (found.disks[0].kind, found.disks[0].path) == (DiskKind.VOLUME, f"{folder}/known.qcow2")
    domain.undefine()
    pool.destroy()
    pool.undefine()


def test_libvirtd_killed_is_an_error_once_and_the_machine_goes_on(mortal: Host) -> None:
    mortal.domain.create()
    before = mortal.seen()

    async def gather() -> list[Happening]:
        events = mortal.fleet.events()
        found = [(await soon(anext(events))).happening]
        for _ in range(2):
            with mortal.daemon.down():
                found.append((await soon(anext(events))).happening)
                with pytest.raises(OperationError, match="systemctl start libvirtd"):
                    mortal.fleet.survey()
            found.append((await soon(anext(events))).happening)
            assert mortal.seen() == before
        return found

    connected, lost = Happening.CONNECTED, Happening.LOST
    assert asyncio.run(gather()) == [connected, lost, connected, lost, connected]


def test_a_survey_that_libvirtd_dies_under_is_an_error_or_whole(mortal: Host) -> None:
    disk = libvirtd.disk_xml(mortal.top, "vda")
    for number in range(300):
        mortal.connection.defineXML(xml(mortal.daemon.images, f"vm{number}", disk))
    results: list[int | OperationError] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                results.append(len(mortal.fleet.survey().domains))
            except OperationError as error:
                results.append(error)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for _ in range(4):
        seen = len(results)
        wait_until(lambda seen=seen: len(results) > seen + 1)
        with mortal.daemon.down():
            pass
    ended.set()
    for thread in asking:
        thread.join()
    assert {result for result in results if isinstance(result, int)} == {301}
    assert any(isinstance(result, OperationError) for result in results)
    assert len(mortal.fleet.survey().domains) == 301


def test_events_wait_for_a_libvirtd_that_is_not_there_yet(mortal: Host) -> None:
    async def gather() -> list[Happening]:
        with mortal.daemon.down():
            events = mortal.fleet.events()
            found = [(await soon(anext(events))).happening]
        found.append((await soon(anext(events))).happening)
        return found

    assert asyncio.run(gather()) == [Happening.LOST, Happening.CONNECTED]


def test_a_libvirtd_that_hangs_is_lost_and_comes_back(mortal: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_INTERVAL_S", 1)
    monkeypatch.setattr(connections, "KEEPALIVE_COUNT", 1)

    async def gather() -> list[MachineEvent]:
        with LibvirtFleet(mortal.daemon.uri) as fleet:
            events = fleet.events()
            found = [await soon(anext(events))]
            os.kill(mortal.daemon.pid, signal.SIGSTOP)
            try:
                found.append(await soon(anext(events)))
            finally:
                os.kill(mortal.daemon.pid, signal.SIGCONT)
            return [*found, await soon(anext(events))]

    connected, lost, again = asyncio.run(gather())
    assert (connected.happening, lost.happening, again.happening) == (
        Happening.CONNECTED,
        Happening.LOST,
        Happening.CONNECTED,
    )
    assert lost.detail == "libvirt answers no keepalive: it hangs"


def test_what_a_network_reserves_is_its_interfaces_as_libvirt_itself_takes_it(host: Host) -> None:
    network = host.connection.networkDefineXML(
        "<network><name>lab</name><bridge name='virbr77'/><ip address='192.0.2.1' netmask='255.255.255.0'>"
        "<dhcp><host mac='52:54:00:AA:00:01' name='web' ip='192.0.2.7'/></dhcp></ip>"
        "<ip family='ipv6' address='2001:db8::1' prefix='64'><dhcp>"
        "<host id='0:3:0:1:52:54:0:aa:0:1' ip='2001:db8::7'/><host name='web' ip='2001:db8::8'/>"
        "</dhcp></ip></network>"
    )
    domain = host.connection.defineXML(
        "<domain type='qemu'><name>lab01</name><memory>65536</memory><os><type>hvm</type></os><devices>"
        "<interface type='network'><mac address='52:54:00:aa:00:01'/><source network='lab'/></interface>"
        "</devices></domain>"
    )
    (found,) = host.seen("lab01").interfaces
    expected = ("192.0.2.7", "2001:db8::7")
    assert (found.bridge, found.addresses) == ("virbr77", expected)
    assert host.fleet.domain(domain.UUIDString()).interfaces == (found,)
    network.undefine()
    (found,) = host.fleet.domain(domain.UUIDString()).interfaces
    assert (found.bridge, found.addresses) == ("", ())
    domain.undefine()


def test_missing_daemons_for_storage_and_networks_are_problems_and_no_failure() -> None:
    import libvirt  # noqa: PLC0415 - only where it is installed

    with (
        libvirtd.running(without=("storage", "network")) as daemon,
        LibvirtFleet(daemon.uri) as fleet,
        closing(libvirt.open(daemon.uri)) as connection,
    ):
        connection.defineXML(
            "<domain type='qemu'><name>net01</name><memory>65536</memory><os><type>hvm</type></os><devices>"
            "<interface type='network'><source network='default'/></interface></devices></domain>"
        )
        survey = fleet.survey()
    assert [domain.name for domain in survey.domains] == ["net01"]
    assert survey.domains[0].problem == ""
    network, storage = survey.problems
    assert "network 'default': its bridge and reservations are not known" in network
    assert "is virtstoraged running?" in storage
