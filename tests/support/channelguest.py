"""A real guest with the helper in it: QEMU without acceleration, a channel, a generator, a monitor.

Its Python is this machine's own: the interpreter, what it links to, and the modules that the helper imports.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import guests
from channelpair import HELPER, Host

from undercroft.channel.session import Event, Ready

MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "ext4")
PYTHON = "/usr/bin/python3"
_LISTED = (
    "import sys, importlib.util as u; s = u.spec_from_file_location('g', sys.argv[1]);"
    "m = u.module_from_spec(s); s.loader.exec_module(m);"
    "import encodings.utf_8, encodings.ascii, encodings.latin_1, encodings.idna;"
    "print('\\n'.join(f for f in (getattr(m, '__file__', None) for m in list(sys.modules.values())) if f))"
)
_WORKLOAD = """
mkdir -p /run /sys/fs/cgroup /etc/undercroft/hooks.d
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
cat > /etc/undercroft/hooks.d/tell << 'END'
#!/bin/sh
echo HOOK $UNDERCROFT_GENERATION, told $(cat /run/undercroft/generation) > /dev/ttyS0
[ $UNDERCROFT_GENERATION != 99 ] || kill -9 $PPID
END
chmod 755 /etc/undercroft/hooks.d/tell
(while :; do echo TICK; sleep 0.2; done) &
while :; do
    /usr/bin/python3 -ISB /undercroft_guest.py run > /dev/ttyS0 2>&1
    echo ENDED
done
"""

RNG = "rng-random,filename=/dev/urandom"
SILENT_RNG = "rng-egd,chardev=rngs"
"""A host's generator that gives nothing until somebody gives bytes at the socket `rng`."""


def missing() -> str:
    """Return why such a guest cannot be had here, "" when it can."""
    if not Path(PYTHON).exists():
        return f"needs {PYTHON}, which the guest gets a copy of"
    return guests.missing()


def python_files(program: Path = HELPER) -> list[Path]:
    """Return what a program's Python needs but the program: itself, libraries, modules."""
    linked = subprocess.run(["ldd", PYTHON], capture_output=True, text=True, check=True).stdout.split()
    files = {Path(word) for word in linked if word.startswith("/")} | {Path(PYTHON)}
    listed = subprocess.run(
        [PYTHON, "-ISBc", _LISTED, str(program)], capture_output=True, text=True, check=True
    )
    modules = {Path(line) for line in listed.stdout.splitlines() if line.startswith("/usr/")}
    for module in [each for each in modules if each.suffix == ".so"]:
        found = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout.split()
        files |= {Path(word) for word in found if word.startswith("/")}
    return sorted(files | modules)


def boot_files(folder: Path) -> guests.BootFiles:
    """Return boot files whose guest runs the helper and says TICK five times a second."""
    root = folder / "root"
    for file in python_files():
        place = root / str(file).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    shutil.copy(HELPER, root / "undercroft_guest.py")
    names = sorted(str(each.relative_to(root)) for each in root.rglob("*"))
    boot = guests.with_workload(guests.boot_files("-channel", MODULES), _WORKLOAD, folder)
    boot.initrd.write_bytes(boot.initrd.read_bytes() + guests.archive(root, names))
    return boot


class ChannelGuest:
    """The guest, its monitor, and a host at its channel."""

    def __init__(
        self, folder: Path, rng: str = RNG, boot: guests.BootFiles | None = None, memory_mib: int = 192
    ) -> None:
        boot = boot or boot_files(folder)
        self.folder, self.serial = folder, folder / "serial"
        disk = folder / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
        self.process = subprocess.Popen([
            *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", str(memory_mib), "-nodefaults"),
            *("-display", "none"),
            *("-serial", f"file:{self.serial}", "-kernel", str(boot.kernel), "-initrd", str(boot.initrd)),
            *("-append", "console=ttyS0 quiet", "-drive", f"file={disk},format=qcow2,if=virtio"),
            *("-chardev", f"socket,id=rngs,path={folder}/rng,server=on,wait=off"),
            *("-object", f"{rng},id=rng", "-device", "virtio-rng-pci,rng=rng"),
            *("-chardev", f"socket,id=channel,path={folder}/channel,server=on,wait=off"),
            *("-device", "virtio-serial"),
            *("-device", "virtserialport,chardev=channel,name=org.undercroft.channel.0"),
            *("-qmp", f"unix:{folder}/monitor,server=on,wait=off"),
        ])  # fmt: skip
        with self._connected("monitor") as connection:
            self.monitor = connection.makefile("rw")
        self.monitor.readline()
        self._ask("qmp_capabilities")
        self.line = self._connected("channel")
        self.line.setblocking(False)
        self.host = Host()

    def _connected(self, name: str) -> socket.socket:
        until = time.monotonic() + 60
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect(str(self.folder / name))
                return connection
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)

    def random_peer(self) -> socket.socket:
        """Come to the other end of the host's generator, where it is `SILENT_RNG`: what is sent is given."""
        return self._connected("rng")

    def _ask(self, command: str, **arguments: object) -> object:
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}))
        self.monitor.flush()
        while True:
            told = json.loads(self.monitor.readline())
            if "return" in told or "error" in told:
                assert "return" in told, told
                return told["return"]

    def order(self, line: str) -> None:
        """Give the monitor a line, such as `savevm now`."""
        told = self._ask("human-monitor-command", **{"command-line": line})
        assert told in ("", None), told

    def until(self, done, most_s: float = 90.0):
        """Take what the guest says until `done()`; return that."""
        end = time.monotonic() + most_s
        while time.monotonic() < end:
            found = done()
            if found:
                return found
            self.take()
        raise AssertionError(f"{self.host.events}\n{self.serial.read_text(errors='replace')[-2000:]}")

    def take(self, wait_s: float = 0.02) -> list[Event]:
        """Take what the guest has said."""
        try:
            return self.host.take(self.line.recv(65_536))
        except BlockingIOError:
            time.sleep(wait_s)
            return []

    def meet(self, seed: bytes | None, generation: int) -> Ready | None:
        """Begin a session; return the guest's answer, or None if it proves a rewind."""
        before, rewinds = len(self.host.events), len(self.host.rewinds())
        self.line.send(self.host.session.begin())

        def answered():
            ready = [each for each in self.host.events[before:] if isinstance(each, Ready)]
            return ready or self.host.rewinds()[rewinds:]

        (found,) = self.until(answered)
        if not isinstance(found, Ready):
            return None
        self.line.send(self.host.session.welcome(generation, seed, 1))
        return found

    def said(self, kind: type) -> list:
        """All messages of one kind so far."""
        return [each for each in self.host.said() if isinstance(each, kind)]

    def console(self) -> str:
        """What the guest has said on its console."""
        return self.serial.read_text(errors="replace")

    def ticks(self) -> int:
        """How often the guest's counter has ticked."""
        return self.console().count("TICK")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.monitor.close()
        self.line.close()


if __name__ == "__main__":
    sys.stdout.write("\n".join(map(str, python_files())))
