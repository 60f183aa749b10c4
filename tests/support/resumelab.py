"""Real guests that are resumed more than once: with the layer beneath them, and without.

    with resumelab.lab() as lab:
        guest = lab.boot()
        lab.layer.seed(guest)              # the real guest service; a guest without this is a control
        lab.snapshot(guest, "s")
        again = lab.revert(guest, "s")     # a new process of QEMU, as libvirt makes it

QEMU runs without acceleration. What libvirt does at each way back is done here by hand: a revert and a
restore are a new process with a fresh generation id, a load through the monitor is neither.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import channelguest
import guests
import reseedhelper
import resumeapps
from channelpair import HELPER
from program import PROGRAM

from undercroft.adapters.guestservice import GuestEvent, GuestService

DRAW = resumeapps.DRAW_BYTES
WAIT_S = 120.0
RAM_MIB = 192
KERNELS = {"cloud": "linux-image-cloud-amd64", "generic": "linux-image-amd64"}
"""Debian's, and the package that depends on each. Debian 12's first one has no driver of vmgenid."""
HELPERS = {"Python": "/usr/bin/python3 -ISB /undercroft_guest.py run", "C": "/undercroft-reseed"}
"""The guest's helpers, and how each is started."""
_WORKLOAD = """
mkdir -p /run /sys/fs/cgroup
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
{helper} > /dev/ttyS0 2>&1 &
/usr/bin/python3 -ISB /resumeapps.py > /dev/ttyS0 2>&1
"""
missing = channelguest.missing


def boot_files(folder: Path, kernel: str, helper: str) -> guests.BootFiles:
    """Return boot files whose guest runs a helper and the programs that draw."""
    root = folder / "root"
    support = Path(__file__).parent
    programs = (HELPER, support / "resumeapps.py", support / "p256.py")
    for file in {each for program in programs[:2] for each in channelguest.python_files(program)}:
        place = root / str(file).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    for program in programs:
        shutil.copy(program, root)
    if helper == "C":
        shutil.copy(reseedhelper.static(), root)
    kind = "-channel" if kernel == "cloud" else f"-channel-{kernel}"
    bare = guests.boot_files(kind, channelguest.MODULES, KERNELS[kernel])
    boot = guests.with_workload(bare, _WORKLOAD.format(helper=HELPERS[helper]), folder)
    names = sorted(str(each.relative_to(root)) for each in root.rglob("*"))
    boot.initrd.write_bytes(boot.initrd.read_bytes() + guests.archive(root, names))
    return boot


def connected(
    path: Path, process: "subprocess.Popen[bytes]", kind: int = socket.SOCK_STREAM
) -> socket.socket:
    """Return a connection to a process's socket that may not be there yet."""
    until = time.monotonic() + WAIT_S
    while True:
        connection = socket.socket(socket.AF_UNIX, kind)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            assert process.poll() is None, f"{path.name}: its process has ended"
            assert time.monotonic() < until, path
            time.sleep(0.01)
        else:
            return connection


def shared(resumes: Iterable[Iterable[str]]) -> int:
    """Return how many values were drawn in more than one resume, or twice in one."""
    counts = Counter(value for drawn in resumes for value in drawn)
    return sum(count > 1 for count in counts.values())


def drawn_in(ram: bytes) -> int:
    """Return how many draws the tight loop had begun or done by what is in its guest's RAM."""
    found, at = [], -1
    while (at := ram.find(resumeapps.MAGIC, at + 1)) >= 0:
        if at % resumeapps.FIRST_AT == 0:  # else it is the program's own constant
            # Python clears a word before it writes one: either may have been caught at nought.
            found.append(max(struct.unpack_from("<QQ", ram, at + len(resumeapps.MAGIC))))
    (drawn,) = found
    assert 0 < drawn < resumeapps.MOST_DRAWS, "it draws, and has not come to its end"
    return int(drawn)


class Monitor:
    """QEMU's monitor."""

    def __init__(self, path: Path, process: "subprocess.Popen[bytes]") -> None:
        with connected(path, process) as connection:
            self.file = connection.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: object) -> Any:
        """Give one command; return what it gives back."""
        self.file.write(json.dumps({"execute": command, "arguments": arguments}))
        self.file.flush()
        while True:
            told = json.loads(self.file.readline())
            if "return" in told or "error" in told:
                assert "return" in told, told
                return told["return"]

    def line(self, line: str) -> None:
        """Give the human monitor a line, such as `savevm now`."""
        told = self("human-monitor-command", **{"command-line": line})
        assert not told, told

    def wait(self, command: str, *statuses: str) -> None:
        """Wait until what `command` asks for has one of these states."""
        until = time.monotonic() + WAIT_S
        while (found := self(command).get("status")) not in statuses:
            assert time.monotonic() < until, found
            time.sleep(0.005)


@dataclass
class Guest:
    """One process of QEMU.

    Attributes:
        folder: its sockets and its console.
        disk: its first disk, where internal snapshots are.
        state: its second disk, where a program keeps its state.
        process: QEMU.
        monitor: its monitor.
        channel: the host's end of the helper's port.
        port: the host's end of the programs' port.
        execution: as the layer calls it.
    """

    folder: Path
    disk: Path
    state: Path
    process: "subprocess.Popen[bytes]"
    monitor: Monitor
    channel: socket.socket
    port: socket.socket
    execution: str = ""
    held: bytes = b""
    asked: list[str] = field(default_factory=list)

    def tell(self, order: str, *arguments: object) -> None:
        """Give the programs an order; `told` has the answer."""
        self.asked.append(uuid.uuid4().hex)
        self.port.sendall(" ".join([self.asked[-1], order, *map(str, arguments)]).encode() + b"\n")

    def told(self) -> Any:
        """Return the answer to the oldest order that was not answered yet."""
        token = self.asked.pop(0).encode()
        until = time.monotonic() + WAIT_S
        while True:
            *lines, self.held = self.held.split(b"\n")
            for place, line in enumerate(lines):
                if line.startswith(token):
                    self.held = b"\n".join([*lines[place + 1 :], self.held])
                    told = json.loads(line[len(token) :])
                    assert not isinstance(told, dict) or "error" not in told, told
                    return told
            assert time.monotonic() < until, self.console()
            self.port.settimeout(WAIT_S)
            self.held += self.port.recv(1 << 20)

    def ask(self, order: str, *arguments: object) -> Any:
        """Give the programs an order; return the answer."""
        self.tell(order, *arguments)
        return self.told()

    def loop(self, first: int, most: int) -> list[str]:
        """Return what the tight loop has drawn from number `first` on, and end it."""
        drawn = self.ask("loop_drawn", first, most)
        self.ask("loop_stop")
        return [drawn[at : at + 2 * DRAW] for at in range(0, len(drawn), 2 * DRAW)]

    def console(self) -> str:
        """Return what the guest has written to its console last."""
        return (self.folder / "serial").read_text(errors="replace")[-2000:]

    def ram(self) -> bytes:
        """Return the guest's memory; it has to be stopped."""
        path = self.folder / "ram"
        self.monitor("pmemsave", val=0, size=RAM_MIB << 20, filename=str(path))
        memory = path.read_bytes()
        path.unlink()
        return memory

    def end(self) -> None:
        """End it as a power failure does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.monitor.file.close()
        self.channel.close()
        self.port.close()


class Layer:
    """The guest service as a process of its own, and what the agent orders it."""

    def __init__(self, folder: Path, machine: str) -> None:
        self.machine, self.address = machine, folder / "service"
        command = [str(PROGRAM), "guest-service", "--state", str(folder / "vaults"), "--tpm", "none"]
        environment = {**os.environ, "UNDERCROFT_GUEST_SOCKET": str(self.address)}
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        connected(self.address, self.process, socket.SOCK_SEQPACKET).close()
        self.client = GuestService.connect(self.address, WAIT_S)
        self.watch = self.client.watch()
        self.heard: list[GuestEvent] = []

    def attach(self, guest: Guest, *, forked: bool = False) -> bool:
        """Begin an execution and hand its guest over; return whether it holds the vault."""
        guest.execution = uuid.uuid4().hex
        line = guest.channel.fileno()
        fence = self.client.attach(self.machine, "lab", guest.execution, line, forked=forked)
        guest.channel.close()
        return fence

    def seed(self, guest: Guest, *, forked: bool = False) -> Mapping[str, Any]:
        """Begin an execution and wait until its guest has its seed; return what it confirmed."""
        self.attach(guest, forked=forked)
        return self.confirmed(guest)

    def confirmed(self, guest: Guest) -> Mapping[str, Any]:
        """Wait until the guest has its seed."""
        fields = self.told("confirmed", guest)
        assert fields["credited"], fields
        return fields

    def quiesce(self, guest: Guest) -> Mapping[str, Any]:
        """Have all but the helper frozen."""
        self.client.quiesce(self.machine, guest.execution)
        fields = self.told("quiesced", guest)
        assert fields["frozen"], fields
        return fields

    def go_on(self, guest: Guest) -> Mapping[str, Any]:
        """Let a machine go on that was quiesced for its snapshot."""
        guest.monitor("cont")
        assert self.client.again(self.machine, guest.execution)
        return self.confirmed(guest)

    def found_out(self, guest: Guest) -> Mapping[str, Any]:
        """Wait until the guest is known to be put back, and let it go on in another execution."""
        self.told("rewound", guest)
        before, guest.execution = guest.execution, uuid.uuid4().hex
        self.client.renew(self.machine, guest.execution, before=before)
        return self.confirmed(guest)

    def told(self, event: str, guest: Guest) -> Mapping[str, Any]:
        """Wait for an event of a guest's; return what it has. Those of others are kept for who asks later."""
        until = time.monotonic() + WAIT_S
        while True:
            for found in self.heard:
                if (found.event, found.execution) == (event, guest.execution):
                    self.heard.remove(found)
                    return found.fields
            heard = self.watch.next(until - time.monotonic())
            assert heard is not None, (event, guest.console())
            self.heard.append(heard)

    def close(self) -> None:
        """End the service."""
        self.watch.close()
        self.client.close()
        self.process.terminate()
        self.process.wait(WAIT_S)


class Lab:
    """A folder of guests of one machine.

    Args:
        folder: for all files.
        kernel: one of `KERNELS`.
        helper: one of `HELPERS`.
        tpm: whether the machine has a virtual TPM, of swtpm.
    """

    def __init__(
        self, folder: Path, kernel: str = "cloud", helper: str = "Python", *, tpm: bool = False
    ) -> None:
        self.folder, self.tpm = folder, tpm
        self.files = boot_files(folder, kernel, helper)
        self.guests: list[Guest] = []
        self.helpers: list[subprocess.Popen[bytes]] = []
        self.layer = Layer(folder, str(uuid.uuid4()))
        self.disks = folder / "disk.qcow2", folder / "state.qcow2"
        for disk in self.disks:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)

    def boot(self, *disks: Path) -> Guest:
        """Switch the machine on, with its own disks or others; its programs run when this returns."""
        guest = self._start(*(disks or self.disks))
        guest.ask("public")
        return guest

    # The ways back

    def snapshot(self, guest: Guest, name: str) -> bytes:
        """Take a snapshot with RAM; return the RAM. The guest stays stopped."""
        guest.monitor("stop")
        guest.monitor.line(f"savevm {name}")
        return guest.ram()

    def load(self, guest: Guest, name: str) -> None:
        """Load a snapshot through the monitor: the same process, and nobody is told."""
        guest.monitor.line(f"loadvm {name}")
        guest.monitor("cont")

    def revert(self, guest: Guest, name: str) -> Guest:
        """Put the machine back as libvirt does: in a new process, with a fresh generation id."""
        guest.end()
        return self._start(guest.disk, guest.state, "-loadvm", name)

    def save(self, guest: Guest) -> tuple[Path, bytes]:
        """Write the RAM to a file and end the machine, as a managed save does; return both."""
        file = self.folder / f"save-{len(self.guests)}"
        guest.monitor("stop")
        ram = guest.ram()
        guest.monitor("migrate", uri=f"exec:cat > {file}")
        guest.monitor.wait("query-migrate", "completed", "failed")
        guest.end()
        return file, ram

    def restore(self, file: Path, disk: Path, state: Path, *, paused: bool = False) -> Guest:
        """Begin the machine from a file with RAM. With other disks it is a clone."""
        guest = self._start(disk, state, "-incoming", f"exec:cat {file}", "-S")
        guest.monitor.wait("query-status", "paused", "prelaunch")
        if not paused:
            guest.monitor("cont")
        return guest

    def copy(self, disk: Path) -> Path:
        """Return a copy of a disk of a machine that is off."""
        copy = self.folder / f"copy-{uuid.uuid4().hex}.qcow2"
        shutil.copy(disk, copy)
        return copy

    def _start(self, disk: Path, state: Path, *more: str) -> Guest:
        folder = self.folder / f"guest{len(self.guests)}"
        folder.mkdir()
        process = subprocess.Popen([
            *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", str(RAM_MIB), "-nodefaults"),
            *("-display", "none", "-serial", f"file:{folder}/serial", "-append", "console=ttyS0 quiet"),
            *("-kernel", str(self.files.kernel), "-initrd", str(self.files.initrd)),
            *("-device", f"vmgenid,guid={uuid.uuid4()}"),
            *("-drive", f"file={disk},format=qcow2,if=virtio"),
            *("-drive", f"file={state},format=qcow2,if=virtio"),
            *("-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng"),
            *("-device", "virtio-serial"),
            *("-chardev", f"socket,id=channel,path={folder}/channel,server=on,wait=off"),
            *("-device", "virtserialport,chardev=channel,name=org.undercroft.channel.0"),
            *("-chardev", f"socket,id=port,path={folder}/port,server=on,wait=off"),
            *("-device", f"virtserialport,chardev=port,name={resumeapps.PORT_NAME}"),
            *("-qmp", f"unix:{folder}/monitor,server=on,wait=off"),
            *self._tpm(folder),
            *more,
        ])  # fmt: skip
        monitor = Monitor(folder / "monitor", process)
        lines = connected(folder / "channel", process), connected(folder / "port", process)
        self.guests.append(Guest(folder, disk, state, process, monitor, *lines))
        return self.guests[-1]

    def _tpm(self, folder: Path) -> Sequence[str]:
        if not self.tpm:
            return ()
        (folder / "tpm").mkdir()
        control = f"type=unixio,path={folder}/tpm.ctrl"
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}/tpm", "--ctrl", control]
        self.helpers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        connected(folder / "tpm.ctrl", self.helpers[-1]).close()
        chardev = f"socket,id=tpm,path={folder}/tpm.ctrl"
        return "-chardev", chardev, "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"

    def close(self) -> None:
        """End all guests."""
        for guest in self.guests:
            guest.end()
        for helper in self.helpers:
            helper.kill()
            helper.wait()
        self.layer.close()


@contextmanager
def lab(kernel: str = "cloud", helper: str = "Python", *, tpm: bool = False) -> Iterator[Lab]:
    """Have a lab while the block runs."""
    # Short, as the sockets' paths have 107 bytes; in memory, as a snapshot waits for its fsyncs.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="resume-", dir=memory))
    made = None
    try:
        made = Lab(folder, kernel, helper, tpm=tpm)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(folder)
