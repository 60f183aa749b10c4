"""A guest whose kernel filters for the host's code: netlink, taps and commands of it, over a serial port.

The guest is Debian's cloud kernel, which knows the state of a bridged frame's connection. In it runs one
static program (`filterguest.c`); everything else, the codec of netlink above all, is the product's own.

    with FilterGuest(folder) as guest:
        guest.run("ip link add lab0 type bridge")
        kernel = guest.packet_filter()              # a PacketFilter, as in this process
        kernel.replace(ruleset)
        guest.put("vnet1", frame)                   # as `Wire.put`
"""

import shutil
import socket
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import guests
from wire import BRIDGE, HOST, bridge_commands, end_commands, is_uplink

from undercroft.adapters.nftables import Nftables
from undercroft.adapters.nftables.wire import Channel

MODULES = (
    "virtio_pci",
    "virtio_console",
    "tun",
    "veth",
    "bridge",
    "nf_tables",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nfnetlink_log",
    "nf_conntrack_bridge",
    "nft_meta_bridge",
)
MEMORY_MIB = 256
UP_S = 90.0
_SOURCE = Path(__file__).with_name("filterguest.c")
_PROGRAMS = ("ip",)
_FROM_HOST = 255
_WORKLOAD = "chmod +x /filterguest; /filterguest /dev/vport0p1"


def missing() -> str:
    """Return why there can be no such guest here, "" when there can."""
    if shutil.which("gcc") is None:
        return "a guest with a program needs gcc: apt-get install gcc libc6-dev"
    return guests.missing()


class FilterGuest:
    """A guest, from boot until the block ends."""

    def __init__(self, folder: Path) -> None:
        """Make its files in a folder of the test's."""
        self._folder = folder
        self._stack = ExitStack()
        self._taps: tuple[str, ...] = ()

    def __enter__(self) -> "FilterGuest":
        boot, port = self._boot_files(), self._folder / "port"
        command = [
            *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", str(MEMORY_MIB)),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self._folder / 'serial'}"),
            *("-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", "console=ttyS0 quiet"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=port,path={port},server=on,wait=off"),
            *("-device", "virtserialport,chardev=port"),
        ]
        process = self._stack.enter_context(subprocess.Popen(command))
        self._stack.callback(process.kill)
        self._socket = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self._socket.settimeout(UP_S)
        deadline = time.monotonic() + UP_S
        while not port.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._socket.connect(str(port))
        self.run("true")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, command: str) -> str:
        """Run a command in the guest's shell, and return what it wrote, at most 64 KiB.

        Raises AssertionError where it failed.
        """
        # Busybox's shell prefers its own small `ip` to any in the path.
        whole = f'ip() {{ /sbin/ip "$@"; }}; ({command}) 2>&1 && echo done'
        (told,) = self.ask(b"X", whole.encode())
        text = told.decode(errors="replace")
        assert text.endswith("done\n"), f"{command}: {text}"
        return text.removesuffix("done\n")

    def packet_filter(self) -> Nftables:
        """Return the guest's packet filter, for one thread."""
        return _Remote(self)

    def plug(self, ports: Sequence[str]) -> None:
        """Make a bridge with taps, as `Wire` does."""
        for name in ports:
            for command in end_commands(name) if is_uplink(name) else ():
                self.run(command)
            assert not self.ask(b"U" if is_uplink(name) else b"T", name.encode())
        for command in bridge_commands(ports):
            self.run(command)
        assert not self.ask(b"H", BRIDGE.encode())
        self._taps = tuple(ports)

    def unplug(self) -> None:
        """Take taps and bridge away."""
        self.ask(b"Z", b"")
        for name in filter(is_uplink, self._taps):
            self.run(f"ip link del {name}")
        self.run(f"ip link del {BRIDGE}")

    def put(self, port: str, frame: bytes, mark: int = 0) -> dict[str, list[bytes]]:
        """Send a frame into a port, and return what came out, by port; "" is the host. See `Wire.put`."""
        number = self._taps.index(port) if port else _FROM_HOST
        found: dict[str, list[bytes]] = {}
        for told in self.ask(b"P", struct.pack("=BI", number, mark) + frame):
            name = HOST if told[0] == _FROM_HOST else self._taps[told[0]]
            found.setdefault(name, []).append(told[1:])
        return found

    def ask(self, kind: bytes, data: bytes) -> list[bytes]:
        """Return the records that answer a request, see `filterguest.c`."""
        self._socket.sendall(kind + struct.pack("=I", len(data)) + data)
        (count,) = struct.unpack("=I", self._received(4))
        return [self._received(struct.unpack("=I", self._received(4))[0]) for _ in range(count)]

    def _received(self, length: int) -> bytes:
        parts = []
        while length:
            part = self._socket.recv(min(length, 1 << 16))
            assert part, "the guest has gone: " + "\n".join(guests.lines(self._folder / "serial")[-20:])
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _boot_files(self) -> guests.BootFiles:
        boot = guests.with_workload(guests.boot_files("-filter", MODULES), _WORKLOAD, self._folder)
        root = self._folder / "root"
        root.mkdir()
        program = root / "filterguest"
        compiler = ["gcc", "-O1", "-static", "-o", str(program), str(_SOURCE)]
        subprocess.run(compiler, check=True, capture_output=True)
        for name in _PROGRAMS:
            _copy_program(name, root)
        names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        with boot.initrd.open("ab") as initrd:
            initrd.write(guests.archive(root, names))
        return boot


class _Remote(Nftables):
    """The packet filter, always on the one socket of the guest's, and never on one of this machine's."""

    def __init__(self, guest: FilterGuest) -> None:
        super().__init__()
        self._remote = _RemoteChannel(guest)

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        yield self._remote


class _RemoteChannel(Channel):
    """A channel whose socket is in the guest."""

    def __init__(self, guest: FilterGuest) -> None:
        super().__init__()
        self.socket.close()
        self.socket = _RemoteSocket(guest)  # type: ignore[assignment]


class _RemoteSocket:
    """What `Channel` uses of a netlink socket."""

    def __init__(self, guest: FilterGuest) -> None:
        self._guest = guest
        self._answers: deque[bytes] = deque()

    def send(self, data: bytes) -> int:
        for told in self._guest.ask(b"N", data):
            if told[:1] == b"E":
                raise OSError(struct.unpack("=i", told[1:])[0], "in the guest")
            self._answers.append(told[1:])
        return len(data)

    def recvmsg(self, *_: int) -> tuple[bytes, list[object], int, tuple[int, int]]:
        if not self._answers:
            raise BlockingIOError
        return self._answers.popleft(), [], 0, (0, 0)

    def setsockopt(self, *_: int) -> None:
        """Do nothing: the guest's program has set its own."""

    def close(self) -> None:
        """Do nothing: it is the guest's."""


def _copy_program(name: str, root: Path) -> None:
    """Copy a program of this machine with the libraries that it needs."""
    path = Path(str(shutil.which(name))).resolve()
    listed = subprocess.run(["ldd", str(path)], check=True, capture_output=True, text=True).stdout
    needed = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    for file in map(Path, needed):
        target = root / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (root / "sbin").mkdir(exist_ok=True)
    shutil.copy(path, root / "sbin" / name)
