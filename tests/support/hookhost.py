"""A libvirtd with the hook installed, and an agent that answers as the test tells it."""

import asyncio
import json
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guests
import libvirtd
import taps

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import HookSettings
from undercroft.agent.admissionserver import AdmissionServer, Answer
from undercroft.model.execution import HookEvent
from undercroft.model.verdict import Action

BRIDGE = "lab0"
ALLOW = Answer(Action.ALLOW, hold=False, reason="as steady as can be")
LABEL = Answer(Action.ALLOW, hold=False, reason="as steady as can be", label=True)
LABELLED = Answer(Action.ALLOW, hold=False, reason="its taps have their labels")
UNLABELLED = Answer(Action.ALLOW, hold=True, reason="two machines have its address")
HOLD = Answer(Action.ALLOW, hold=True, reason="how it begins is to be seen")
QUARANTINE = Answer(Action.QUARANTINE, hold=False, reason="openssl is unpatched: CVE-2099-1")
REFUSE = Answer(Action.REFUSE, hold=False, reason="openssl is unpatched: CVE-2099-1")


@dataclass
class Agent:
    """An agent that answers each `prepare begin` with `answer`, or never where `hangs`.

    `labels` is what it answers to a `start begin`, None for nothing.
    """

    state: Path
    address: Path
    answer: Answer = ALLOW
    hangs: bool = False
    events: list[HookEvent] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    labels: Answer | None = None

    async def handle(self, event: HookEvent) -> Answer | None:
        """Take an event."""
        self.events.append(event)
        if (event.operation, event.sub) == ("start", "begin") and not event.alone:
            return self.labels
        if (event.operation, event.sub) != ("prepare", "begin") or event.alone:
            return None
        if self.hangs:
            await asyncio.sleep(3600)
        return self.answer

    @contextmanager
    def running(self) -> Iterator["Agent"]:
        """Serve while the block runs."""
        ready = threading.Event()
        stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

        async def serve() -> None:
            server = AdmissionServer(self.state, self.address, self.handle, self.reports.append)
            await server.start()
            ended = asyncio.Event()
            stop.append((asyncio.get_running_loop(), ended))
            ready.set()
            await ended.wait()
            for task in asyncio.all_tasks():
                if self.hangs and task is not asyncio.current_task():
                    task.cancel()
            await server.close()

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        assert ready.wait(20)
        try:
            yield self
        finally:
            loop, ended = stop[0]
            loop.call_soon_threadsafe(ended.set)
            thread.join(20)
            assert not thread.is_alive()

    def steps(self, name: str) -> list[str]:
        """Return the calls of one machine, as "prepare begin"."""
        return [f"{event.operation} {event.sub}" for event in self.events if event.name == name]

    def wait_for_events(self, count: int) -> None:
        """Wait until so many calls have arrived."""
        wait_until(lambda: len(self.events) >= count)

    def wait_for(self, name: str, step: str) -> None:
        """Wait until a call of one machine has arrived."""
        wait_until(lambda: step in self.steps(name))


@dataclass
class HookHost:
    """The libvirtd, and where the hook and its agent meet."""

    daemon: libvirtd.Libvirtd
    boot: guests.BootFiles | None = None

    @property
    def state(self) -> Path:
        """The agent's folder of state, the same path for the hook."""
        return self.daemon.root / "state"

    @property
    def hooks(self) -> Path:
        """libvirt's folder of hooks."""
        return self.daemon.root / "etc" / "hooks"

    @property
    def settings(self) -> HookSettings:
        """What the hook is told if nothing else."""
        return settings_of(self.daemon.root)

    def agent(self, answer: Answer = ALLOW, *, hangs: bool = False) -> Agent:
        """Return an agent that does not run yet."""
        return Agent(self.state, Path(self.settings.socket), answer, hangs)

    def virsh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run virsh on this libvirtd."""
        command = [*self.daemon.inside, "virsh", "-c", "qemu:///system", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert not check or done.returncode == 0, done.stderr
        return done

    def define(self, name: str, devices: str = "", disk: Path | None = None) -> str:
        """Define a machine without an operating system and return its UUID."""
        ident = str(uuid.uuid4())
        disks = libvirtd.disk_xml(disk, "vda") if disk else ""
        xml = (
            f"<domain type='qemu'><name>{name}</name><uuid>{ident}</uuid><memory unit='MiB'>16</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            f"<emulator>/usr/bin/qemu-system-x86_64</emulator>{disks}{devices}"
            "<memballoon model='none'/></devices></domain>"
        )
        return self._define(xml, ident, name)

    def define_talking(self, name: str, mac: str, folder: Path) -> tuple[str, Path]:
        """Define a machine that sends from its first second; return its UUID and its serial console."""
        boot = guests.with_workload(guests.boot_files(), TALK, folder)
        serial = folder / "serial"
        xml = libvirtd.domain_xml(name, boot, serial, [], extra=interface(mac))
        ident = str(uuid.uuid4())
        xml = xml.replace("</name>", f"</name><uuid>{ident}</uuid>", 1)
        return self._define(xml, ident, name), serial

    def _define(self, xml: str, ident: str, name: str) -> str:
        path = self.daemon.images / f"{name}.xml"
        path.write_text(xml)
        self.virsh("define", str(path))
        return ident

    def off(self, name: str) -> None:
        """Stop a machine, if it runs, and forget it."""
        self.virsh("destroy", name, check=False)
        self.virsh("undefine", name, "--managed-save", check=False)

    def run(self, *command: str) -> str:
        """Run a command in libvirt's network namespace and return what it says."""
        done = subprocess.run(
            [*self.daemon.inside_network, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restart_daemon(self) -> None:
        """Stop libvirtd while its machines run, start it again, and wait until it answers."""
        pid = self.run("cat", "/run/libvirtd.pid").strip()
        self.run("sh", "-c", f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.02; done; libvirtd -d")
        self.virsh("list")

    def links(self) -> dict[str, dict[str, Any]]:
        """Return the links of libvirt's network namespace as ip(8) tells them."""
        return {link["ifname"]: link for link in json.loads(self.run("ip", "-j", "link"))}

    def spooled(self) -> list[HookEvent]:
        """Return the events that wait in the spool."""
        return [hookfiles.read_event(self.state, name) for name in hookfiles.spooled(self.state)]


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


TALK = """
ip link set lo up
ip addr add 192.0.2.7/24 dev eth0
ip link set eth0 up
n=0
while :; do
  arping -c 1 -w 1 -I eth0 192.0.2.1 >/dev/null 2>&1
  n=$((n+1))
  echo SENT $n
done
"""


def interface(mac: str, bridge: str = BRIDGE) -> str:
    """Return an interface on a bridge."""
    return (
        f"<interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/>"
        "<model type='virtio'/><rom enabled='no'/></interface>"
    )


def settings_of(root: Path, **changes: object) -> HookSettings:
    """Return the settings of a hook below this libvirtd's root."""
    values: dict[str, object] = {
        "state": str(root / "state"),
        "socket": str(root / "agent" / "admission.sock"),
        "timeout_s": 10.0,
        **changes,
    }
    return HookSettings(**values)  # type: ignore[arg-type]


@contextmanager
def running(*, hook: bool = True) -> Iterator[HookHost]:
    """Run the libvirtd, with a bridge; without the hook for a control run."""

    def prepare(root: Path) -> None:
        hookfiles.prepare_folders(root / "state")
        if hook:
            hookfiles.install_hook(root / "etc" / "hooks", settings_of(root))

    with libvirtd.running(prepare) as daemon:
        host = HookHost(daemon)
        taps.make_bridge(daemon.inside_network, BRIDGE)
        yield host


def missing() -> str:
    """Return why there can be no such host here, "" when there can."""
    return guests.missing() or libvirtd.missing()
