"""Two hosts of one record: each a libvirtd, a bridge and an agent of its own, joined by a wire.

    with twohosts.running(folder, workload) as hosts:
        hosts.begin("web01", hosts.left, state)
        hosts.migrate("web01", hosts.left, hosts.right)

Host `left` is called "left.lab", `right` "right.lab". Each bridge has the uplink `up0`, whose other end is a
port of a bridge in a third network namespace, `world`: what comes out of a host is heard at that host's port
there. The record is a PostgreSQL database. Machines' disks lie in a folder that both hosts have.
"""

import contextlib
import dataclasses
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fleethost
import guests
import hookhost
import outside
import postgres
import taps
from diskimages import make_qcow2
from fleethost import FleetHost
from outside import World

UPLINK = "up0"
NAMES = ("left", "right")


@dataclass(frozen=True)
class TwoHosts:
    """Two hosts, and what is between them.

    Attributes:
        left: one host.
        right: the other one.
        world: the network between and beyond them.
        disks: where machines' disks are, for both.
    """

    left: FleetHost
    right: FleetHost
    world: World
    disks: Path

    @contextmanager
    def hearing(self, host: FleetHost) -> Iterator[taps.Ear]:
        """Hear what comes out of a host's uplink while the block runs."""
        path = host.folder / f"heard-{time.monotonic_ns()}"
        with taps.listening(self.world.inside, port_of(host), path) as ear:
            yield ear

    def begin(self, name: str, host: FleetHost, state: Path, mac: str) -> None:
        """Start a machine on a host, from a filesystem."""
        image = make_qcow2(state, self.disks / f"{name}.qcow2")
        image.chmod(0o666)
        path, _ = host.described(name, image, hookhost.interface(mac))
        xml = path.read_text()  # the host that it comes to goes on in its console, and begins none anew
        path.write_text(xml.replace(".serial'/>", ".serial' append='on'/>"))
        host.virsh("define", str(path))
        host.virsh("start", name)

    def migrate(self, name: str, source: FleetHost, target: FleetHost) -> None:
        """Migrate a machine while it runs; it is gone from the source when this returns."""
        with self.migrating(name, source, target, mib_per_s=0):
            pass

    @contextmanager
    def migrating(
        self, name: str, source: FleetHost, target: FleetHost, *, mib_per_s: int = 2
    ) -> Iterator["subprocess.Popen[str]"]:
        """Migrate a machine: slowly while the block runs, which begins when it is on both hosts.

        Its console is in the folder of each host. The migration is over, and has not failed, at the end.
        """
        here, there = str(source.daemon.images), str(target.daemon.images)
        # libvirt reads a file of its own network: what is below the root is seen by both.
        xml = source.virsh("dumpxml", "--migratable", name).stdout
        described = source.daemon.images / f"{name}.there.xml"
        described.write_text(re.sub(rf"{re.escape(here)}/", f"{there}/", xml))
        speed = ["--bandwidth", str(mib_per_s)] if mib_per_s else []
        arguments = ["migrate", "--live", "--p2p", "--tunnelled", "--persistent", "--undefinesource"]
        arguments += ["--unsafe", "--xml", str(described), "--persistent-xml", str(described), *speed, name]
        command = [*source.daemon.inside, "virsh", "-c", "qemu:///system", *arguments, target.daemon.uri]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if mib_per_s:
                # Asked of the kernel, not of libvirt, which answers nobody while a hook of the machine waits.
                target.wait(lambda: _has_process(target, name) or running.poll(), f"{name} comes")
            yield running
            source.wait(lambda: _is_over(running, source, name), f"{name} has gone")
            _, failure = running.communicate()
            assert running.returncode == 0, failure
        finally:
            if running.poll() is None:
                source.virsh("domjobabort", name, check=False)
                running.communicate(timeout=fleethost.WAIT_S)

    def bring(self, name: str, host: FleetHost) -> None:
        """Migrate a machine to a host where it is on the other one."""
        other = self.right if host is self.left else self.left
        if host.virsh("domstate", name, check=False).stdout.strip() != "running":
            self.migrate(name, other, host)
        host.goes_on(name)


def port_of(host: FleetHost) -> str:
    """Return the port of the world's bridge at which a host is."""
    return f"host{NAMES.index(host.folder.name)}"


@contextmanager
def running(folder: Path, workload: str, addresses: tuple[str, ...]) -> Iterator[TwoHosts]:
    """Run the hosts; their agents are the test's to start.

    Args:
        folder: for both, empty.
        workload: what the machines do.
        addresses: of the world, with their prefixes' lengths.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.server())
        url = server.url(server.new_database())
        disks = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="disks-")))
        disks.chmod(0o777)
        hosts = []
        for name in NAMES:
            (folder / name).mkdir()
            one = stack.enter_context(fleethost.running(folder / name, workload, f"{name}.lab"))
            hosts.append(dataclasses.replace(one, databases={"fleet": url}))
            stack.callback(hosts[-1].stop_agent, 9)
        daemons = [host.daemon for host in hosts]
        world = stack.enter_context(outside.joined(daemons, fleethost.BRIDGE, UPLINK, addresses))
        yield TwoHosts(hosts[0], hosts[1], world, disks)


def missing() -> str:
    """Return why there can be no such hosts here, "" when there can."""
    return fleethost.missing() or ("" if postgres.programs() else "needs PostgreSQL's server")


def _is_over(running: "subprocess.Popen[str]", source: FleetHost, name: str) -> bool:
    """Tell whether a migration is over; one that goes on is hurried, which counts once it sends."""
    if running.poll() is None:
        source.virsh("migrate-setspeed", name, "1000", check=False)
    return running.poll() is not None


def _has_process(host: FleetHost, name: str) -> bool:
    """Tell whether QEMU runs for a machine: libvirt writes down which as it starts it."""
    return (host.daemon.root / "run" / "libvirt" / "qemu" / f"{name}.pid").exists()


def asks(host: FleetHost, name: str, address: str, port: int) -> bool:
    """Tell whether a guest on a host gets an answer from there."""
    seen = guests.lines(host.serial(name)).count("REPLY")
    host.tell(name, f"echo ask | timeout 2 nc -w 1 {address} {port} | sed s/ask/REPLY/")
    return guests.lines(host.serial(name)).count("REPLY") > seen
