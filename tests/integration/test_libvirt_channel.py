"""libvirt gives a machine its channel and takes its snapshots, as the adapter asks it to."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import libvirtd
import pytest

from undercroft.adapters import channelsocket
from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.errors import OperationError, StateError
from undercroft.ports.fleet import ChannelEnabled

MISSING = libvirtd.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("libvirt-channel"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]
CONTROLLER = "<controller type='virtio-serial' index='0'/>"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@pytest.fixture(scope="module")
def daemon() -> Iterator[libvirtd.Libvirtd]:
    with libvirtd.running() as daemon:
        yield daemon


class Machine:
    """One without an operating system."""

    def __init__(self, daemon: libvirtd.Libvirtd, name: str, devices: str = "") -> None:
        self.daemon, self.name = daemon, name
        disk = daemon.images / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
        path = daemon.images / f"{name}.xml"
        path.write_text(
            f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            f"<emulator>/usr/bin/qemu-system-x86_64</emulator>{libvirtd.disk_xml(disk, 'vda')}{devices}"
            "<memballoon model='none'/></devices></domain>"
        )
        self.virsh("define", str(path))
        self.uuid = self.virsh("domuuid", name).strip()

    def virsh(self, *arguments: str) -> str:
        command = [*self.daemon.inside, "virsh", "-c", "qemu:///system", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def ports(self, *flags: str) -> list[str]:
        """Return the names of its virtio-serial ports."""
        root = ElementTree.fromstring(self.virsh("dumpxml", self.name, *flags))
        return [one.get("name", "") for one in root.findall("devices/channel/target")]


@pytest.fixture
def fleet(daemon: libvirtd.Libvirtd) -> Iterator[LibvirtFleet]:
    with LibvirtFleet(daemon.uri) as fleet:
        yield fleet


def test_a_machine_that_is_off_has_its_channel_from_the_next_start_on(
    daemon: libvirtd.Libvirtd, fleet: LibvirtFleet
) -> None:
    machine = Machine(daemon, "off", AGENT)
    assert not fleet.domain(machine.uuid).channel
    assert fleet.enable_channel(machine.uuid) == ChannelEnabled(defined=True)
    assert fleet.enable_channel(machine.uuid) == ChannelEnabled()
    assert machine.ports() == ["org.qemu.guest_agent.0", "org.undercroft.channel.0"]
    found = fleet.domain(machine.uuid)
    assert (found.channel, found.channel_path) == (True, "")
    machine.virsh("start", machine.name)
    found = fleet.domain(machine.uuid)
    assert found.channel_path.endswith("/org.undercroft.channel.0")
    where = Path(f"/proc/{daemon.pid}/root") / found.channel_path.lstrip("/")
    with channelsocket.connected(str(where)) as line:
        assert line.fileno() >= 0
    machine.virsh("destroy", machine.name)
    with pytest.raises(OperationError, match=r"org\.undercroft\.channel\.0"):
        channelsocket.connected(str(where))


def test_it_is_plugged_into_what_runs_where_there_is_a_controller_for_it(
    daemon: libvirtd.Libvirtd, fleet: LibvirtFleet
) -> None:
    machine = Machine(daemon, "plugged", CONTROLLER)
    machine.virsh("start", machine.name)
    assert fleet.enable_channel(machine.uuid) == ChannelEnabled(defined=True, plugged=True)
    assert fleet.enable_channel(machine.uuid) == ChannelEnabled()
    assert machine.ports() == machine.ports("--inactive") == ["org.undercroft.channel.0"]
    assert fleet.domain(machine.uuid).channel_path


def test_where_it_cannot_be_plugged_in_that_is_told_and_the_definition_has_it(
    daemon: libvirtd.Libvirtd, fleet: LibvirtFleet
) -> None:
    machine = Machine(daemon, "later")
    machine.virsh("start", machine.name)
    done = fleet.enable_channel(machine.uuid)
    assert (done.defined, done.plugged) == (True, False)
    assert "virtio-serial" in done.problem
    assert (machine.ports(), machine.ports("--inactive")) == ([], ["org.undercroft.channel.0"])
    again = fleet.enable_channel(machine.uuid)
    assert (again.defined, again.problem) == (False, done.problem)


def test_a_snapshot_has_the_ram_of_what_runs_and_its_name_only_once(
    daemon: libvirtd.Libvirtd, fleet: LibvirtFleet
) -> None:
    machine = Machine(daemon, "taken")
    cold = fleet.take_snapshot(machine.uuid, "co<ld")
    assert (cold.name, cold.memory, cold.state) == ("co<ld", "no", "shutoff")
    machine.virsh("start", machine.name)
    before = time.time()
    warm = fleet.take_snapshot(machine.uuid, "warm")
    assert (warm.name, warm.memory, warm.state, warm.parent) == ("warm", "internal", "running", "co<ld")
    assert abs(warm.created_at_s - before) < 60
    with pytest.raises(StateError, match="has a snapshot 'warm' already"):
        fleet.take_snapshot(machine.uuid, "warm")
    assert not fleet.is_paused(machine.uuid)
    machine.virsh("suspend", machine.name)
    assert fleet.is_paused(machine.uuid)
