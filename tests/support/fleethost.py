"""A host as an administrator has it: libvirtd, a bridge, and `undercroft up` with everything real.

Machines boot a tiny kernel from outside their disk, and mount the disk: a small Debian tree whose package
database says whether openssl is patched. The guest counts on its console, and sends on its network card
from its first second.
"""

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guests
import hookhost
import libvirtd
import taps
from diskimages import make_qcow2, run
from fleetstates import NEW, OLD, mac_of, write_advisories
from program import PROGRAM

from undercroft.adapters import hookfiles
from undercroft.model.verdict import Judgement
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records

BRIDGE = hookhost.BRIDGE
WAIT_S = 60.0

WORKLOAD = """
stty -F /dev/ttyS1 raw -echo
(while read -r order; do eval "$order"; echo "DID $order"; done </dev/ttyS1) &
mount -t ext4 /dev/vda /mnt
ip addr add 192.0.2.7/24 dev eth0 2>/dev/null && ip link set eth0 up
n=0
while :; do
  n=$((n+1))
  arping -q -c 1 -w 1 -I eth0 192.0.2.1 &
  usleep 250000
  echo ALIVE $n
done
"""
UPGRADE = f"sed -i s/{OLD}/{NEW}/ /mnt/var/lib/dpkg/status; sync"
"""What a guest is told to patch itself."""


@dataclass
class FleetHost:
    """The host.

    Attributes:
        daemon: its libvirtd.
        folder: policy, advisories, and what the test makes.
        boot: what its machines boot.
        ear: hears what comes in over the bridge, from before any start.
        agent: the process of `undercroft up`, None while it is not running.
    """

    daemon: libvirtd.Libvirtd
    folder: Path
    boot: guests.BootFiles
    ear: taps.Ear
    agent: subprocess.Popen[bytes] | None = None
    databases: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The agent's folder of state."""
        return self.daemon.root / "state"

    @property
    def environment(self) -> dict[str, str]:
        """What the program is told."""
        return {
            **os.environ,
            "NO_COLOR": "1",
            "COLUMNS": "140",
            "UNDERCROFT_DATABASE": str(self.folder / "advisories.db"),
            "UNDERCROFT_STATE": str(self.state),
            "UNDERCROFT_ETC": str(self.folder),
            "UNDERCROFT_RUN": str(self.daemon.root / "agent"),
            "UNDERCROFT_FLEET_DATABASE": self.databases.get("fleet", ""),
        }

    # The administrator's commands

    def virsh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run virsh on this libvirtd."""
        command = [*self.daemon.inside, "virsh", "-c", "qemu:///system", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert not check or done.returncode == 0, done.stderr
        return done

    def undercroft(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the program on this host."""
        done = subprocess.run(
            [*self.daemon.inside_network, str(PROGRAM), *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
            timeout=100,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, (done.returncode, done.stderr, done.stdout)
        return done

    def document(self, *arguments: str) -> Any:
        """Return what the program says as JSON."""
        done = self.undercroft(*arguments, "-f", "json")
        assert done.stdout, (done.returncode, done.stderr)
        return json.loads(done.stdout)

    def policy(self, text: str) -> None:
        """Write the policy; an agent that runs takes it over within seconds."""
        path = self.folder / "policy.yaml"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)

    # The agent

    @contextmanager
    def up(self, *options: str) -> Iterator[None]:
        """Run the agent while the block runs; it is asked to end then, and does."""
        self.start_agent(*options)
        try:
            yield
        finally:
            self.stop_agent()

    @contextmanager
    def without(self) -> Iterator[None]:
        """For a control run: neither agent nor hook while the block runs."""
        hook = self.daemon.root / "etc" / "hooks" / "qemu.d" / "undercroft"
        self.stop_agent()
        aside = hook.rename(self.folder / "hook-aside")
        try:
            yield
        finally:
            aside.rename(hook)
            self.start_agent()

    def start_agent(self, *options: str) -> None:
        """Start the agent and wait until it answers hooks."""
        log = (self.folder / "agent.log").open("ab")
        # The program runs in namespaces; what is signalled is nsenter's child, which has its number there.
        command = [*self.daemon.inside_network, str(PROGRAM), "up", "--no-metrics", *options]
        self.agent = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
        )
        log.close()
        address = self.daemon.root / "agent" / "admission.sock"
        self.wait(lambda: self._answers(address), "the agent answers hooks")

    def _answers(self, address: Path) -> bool:
        assert self.agent is not None
        assert self.agent.poll() is None, self.log()
        return _listens(address)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Keep the agent from doing anything while the block runs."""
        self._signal_agent(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_agent(signal.SIGCONT)
            assert self.agent is not None
            self.agent.send_signal(signal.SIGCONT)  # nsenter stops with what it started

    def _signal_agent(self, number: int) -> None:
        assert self.agent is not None
        for child in Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text().split():
            os.kill(int(child), number)

    def stop_agent(self, number: int = signal.SIGTERM) -> None:
        """End the agent by a signal."""
        if self.agent is None:
            return
        self._signal_agent(number)
        code = self.agent.wait(timeout=60)
        self.agent = None
        assert number == signal.SIGKILL or code == 0, self.log()

    def log(self) -> str:
        """Return what the agent has written for the journal."""
        path = self.folder / "agent.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @contextmanager
    def records(self) -> Iterator[Records]:
        """Open the record."""
        with closing(open_records(self.databases.get("fleet") or str(self.state / "fleet.db"))) as records:
            yield records

    # Machines

    def image(self, name: str, state: Path) -> Path:
        """Make the image of a machine from a filesystem."""
        path = self.daemon.images / f"{name}.qcow2"
        return make_qcow2(state, path)

    def write(self, image: Path, state: Path) -> None:
        """Write a filesystem into the image of a machine that is off; its snapshots stay."""
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", state, image)

    def define(
        self, name: str, image: Path, devices: str | None = None, *, genid: bool = True, metadata: str = ""
    ) -> str:
        """Define a machine and return its UUID."""
        path, ident = self.described(name, image, devices, genid=genid, metadata=metadata)
        self.virsh("define", str(path))
        return ident

    def described(
        self, name: str, image: Path, devices: str | None = None, *, genid: bool = True, metadata: str = ""
    ) -> tuple[Path, str]:
        """Return a file with a machine's XML, and its UUID; libvirt knows nothing of it yet."""
        devices = hookhost.interface(mac_of(name)) if devices is None else devices
        orders = f"<serial type='unix'><source mode='bind' path='{self._orders(name)}'/></serial>"
        ident = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{self.daemon.root.name}"))
        serial = self.serial(name)
        disks = [libvirtd.disk_xml(image, "vda")]
        xml = libvirtd.domain_xml(name, self.boot, serial, disks, extra=devices)
        xml = xml.replace("<memballoon", f"{orders}<memballoon", 1)
        extra = f"<uuid>{ident}</uuid>{'<genid/>' if genid else ''}{metadata}"
        path = self.daemon.images / f"{name}.xml"
        path.write_text(xml.replace("</name>", f"</name>{extra}", 1))
        return path, ident

    def serial(self, name: str) -> Path:
        """Return the file that a machine's console writes to."""
        return self.daemon.images / f"{name}.serial"

    def alive(self, name: str) -> int:
        """Return the last number that the guest has counted to."""
        lines = [line for line in guests.lines(self.serial(name)) if line.startswith("ALIVE ")]
        return int(lines[-1].split()[1]) if lines else 0

    def goes_on(self, name: str) -> None:
        """Wait until the guest counts on from where it is."""
        seen = self.alive(name)
        self.wait(lambda: self.alive(name) > seen + 1, f"{name} counts on")

    def tell(self, name: str, order: str) -> None:
        """Have the guest's shell do something, and wait until it has."""
        seen = guests.lines(self.serial(name)).count(f"DID {order}")
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(str(self._orders(name)))
            console.sendall(f"{order}\n".encode())
            self.wait(
                lambda: guests.lines(self.serial(name)).count(f"DID {order}") > seen, f"{name} does {order}"
            )

    def _orders(self, name: str) -> Path:
        return self.daemon.images / f"{name}.sock"

    # What the bridge carries

    def packets(self, name: str) -> int:
        """Return how many packets of a machine the bridge has carried so far."""
        return [source for source, _, _ in self.ear.frames()].count(mac_of(name))

    def sends(self, name: str) -> None:
        """Wait until the bridge carries packets of a machine that it did not carry before."""
        seen = self.packets(name)
        self.wait(lambda: self.packets(name) > seen, f"packets of {name} arrive")

    def closed(self, name: str, mac: str = "") -> bool:
        """Tell whether each tap of a machine is off its bridge and down, as ip(8) tells it."""
        links = self._links(name, mac)
        return all("master" not in link and "UP" not in link["flags"] for link in links) and bool(links)

    def on_bridge(self, name: str, mac: str = "") -> bool:
        """Tell whether each tap of a machine is on its bridge and up, as ip(8) tells it."""
        links = self._links(name, mac)
        return all("master" in link and "UP" in link["flags"] for link in links) and bool(links)

    def _links(self, name: str, mac: str) -> list[dict[str, Any]]:
        """Return the taps of a machine with that address, its own where none is given."""
        listed = self.virsh("domiflist", name).stdout.splitlines()
        taps_there = {line.split()[0] for line in listed if (mac or mac_of(name)) in line} - {"-"}
        command = [*self.daemon.inside_network, "ip", "-j", "link"]
        shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return [link for link in shown if link["ifname"] in taps_there]

    def forget(self, name: str) -> None:
        """Stop a machine, if it runs, and forget it."""
        self.virsh("destroy", name, check=False)
        self.virsh("undefine", name, "--managed-save", "--snapshots-metadata", check=False)

    # Waiting

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        timeout_s: float = WAIT_S,
        told: Callable[[], object] = str,
    ) -> Any:
        """Wait until `condition` gives something, and return it; a failure shows what is `told` then."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{told()}\n{self.situation()}"
            time.sleep(0.05)
        return found

    def situation(self) -> str:
        """Return what there is to know where a wait was in vain: machines, consoles, links, the log."""
        names = self.virsh("list", "--all", "--name", check=False).stdout.split()
        links = subprocess.run(
            [*self.daemon.inside_network, "ip", "-br", "link"], capture_output=True, text=True, check=False
        )
        return "\n".join(
            (
                *(self.undercroft("machine", name).stdout for name in names),
                *("\n".join([name, *guests.lines(self.serial(name))[-10:]]) for name in names),
                links.stdout,
                self.log(),
            )
        )

    def judgement(self, name: str) -> Judgement | None:
        """Return what the agent says of a subject by its name, None while it has said nothing."""
        with self.records() as records, records.reading() as record:
            keys = {subject.name: subject.key for subject in record.subjects()}
            return record.judgement(keys.get(name, ""))

    def verdict(self, name: str) -> str:
        """Return the verdict on a subject by its name, "" while there is none."""
        judgement = self.judgement(name)
        return judgement.verdict.value if judgement else ""

    def wait_for_action(self, name: str, action: str) -> None:
        """Wait until a start from this subject would meet this."""
        self.wait(
            lambda: (found := self.judgement(name)) and found.action == action, f"{name} meets {action}"
        )

    def wait_for_verdict(self, name: str, verdict: str) -> None:
        """Wait until the verdict on a subject is this one."""
        self.wait(lambda: self.verdict(name) == verdict, f"{name} is {verdict}, not {self.verdict(name)}")


@contextmanager
def running(folder: Path, workload: str = WORKLOAD, hostname: str = "") -> Iterator[FleetHost]:
    """Run the libvirtd with the hook and a bridge; the agent is the test's to start."""

    def prepare(root: Path) -> None:
        hookfiles.prepare_folders(root / "state")
        (root / "etc" / "hooks" / "qemu.d").mkdir(parents=True)
        hookfiles.install_hook(root / "etc" / "hooks", hookhost.settings_of(root))

    with libvirtd.running(prepare, hostname=hostname) as daemon:
        taps.make_bridge(daemon.inside_network, BRIDGE)
        boot = guests.with_workload(guests.boot_files(), workload, daemon.images)
        write_advisories(folder / "advisories.db")
        with taps.listening(daemon.inside_network, BRIDGE, folder / "ear") as ear:
            host = FleetHost(daemon, folder, boot, ear)
            try:
                yield host
            finally:
                host.stop_agent(signal.SIGKILL)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def missing() -> str:
    """Return why there can be no such host here, "" when there can."""
    return hookhost.missing()
