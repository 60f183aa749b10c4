"""What a packet costs from one machine over the bridge to another, filtered in one way or the other.

Each way of filtering has a network namespace of its own, with its bridge, its ports and its rules, loaded
once, and processes that move frames there (`firewallports.c`), all on one processor. They are asked in turn,
in many rounds, and each is compared with the others of its round.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from pathlib import Path

import firewallfleet as machines
from undercroft.firewall.fleet import Port

SLICE_S = 0.02
"""How long one kind of traffic is measured in a round."""
MOST_PIECES = 20_000
_WAYS = 16
_AT_ONCE = 4
"""How many frames are under way: more would fill a tap's queue."""
_NEW_NETWORK = 0x40000000
_SET_TAP, _TAP, _PLAIN = 0x400454CA, 2, 0x1000

Way = tuple[int, int, bytes]
"""Descriptors that pieces go in and out by, and one of them."""


class Traffic(StrEnum):
    """What is moved: a frame from tap to tap, a message between two programs over TCP, 64 KiB over TCP."""

    FRAME = "frame"
    MESSAGE = "message"
    BULK = "bulk"


def in_own_network(function: Callable[[], object]) -> None:
    """Call a function in a network namespace that lasts as long as what it opens or starts."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
                raise SystemExit("needs root, for network namespaces of its own")
            function()
        except BaseException as error:  # noqa: BLE001 - raised again where it was called from
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


class Bridge:
    """A bridge with ports of some machines, filtered as `load` does it for a fleet of `count`."""

    def __init__(
        self,
        name: str,
        count: int,
        load: Callable[[int], object],
        program: Path,
        traffics: Collection[Traffic] = tuple(Traffic),
    ) -> None:
        self.name, self.count, self.traffics = name, count, traffics
        self.load_s = 0.0
        self._load = load
        self._program = program
        self._movers: dict[Traffic, _Mover] = {}
        in_own_network(self._open)

    def _open(self) -> None:
        _run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1")
        _run("ip link add br0 type bridge forward_delay 0 mcast_snooping 0")
        # With br_netfilter, new namespaces have it called.
        _run(*(f"sysctl -q -e -w net.bridge.bridge-nf-call-{what}tables=0" for what in ("ip", "ip6", "arp")))
        _run("ip link set br0 up")
        pairs = list(machines.pairs(self.count, _WAYS + 1))
        web, db = pairs.pop(_WAYS // 2)  # in the middle of rules that stand one after the other
        taps = {port: _tap(port.tap) for pair in pairs for port in pair}
        listening = _plugged(db, web)
        listening.bind((str(db.ipv4[0]), machines.SERVICE))
        listening.listen()
        client = _plugged(web, db)
        _wait_for_ports(len(taps) + 2)
        begun = time.perf_counter()
        self._load(self.count)
        self.load_s = time.perf_counter() - begun
        frames = [way for pair in pairs for way in _frames(taps, *pair)]
        self._movers[Traffic.FRAME] = _Mover(self._program, frames, _AT_ONCE)
        with listening, client:
            if Traffic.MESSAGE in self.traffics:
                self._connect(listening, client, (str(db.ipv4[0]), machines.SERVICE))
        for descriptor in taps.values():
            os.close(descriptor)

    def _connect(self, listening: socket.socket, client: socket.socket, to: tuple[str, int]) -> None:
        client.settimeout(10)
        client.connect(to)
        server, _ = listening.accept()
        with server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setblocking(False)
            one, other = client.fileno(), server.fileno()
            there_and_back = [(one, other, bytes(64)), (other, one, bytes(64))]
            self._movers[Traffic.MESSAGE] = _Mover(self._program, there_and_back, 1)
            self._movers[Traffic.BULK] = _Mover(self._program, [(one, other, bytes(65536))], 1)

    def warm(self) -> None:
        """Let the bridge learn where machines are, and find out how much a round has time for."""
        for traffic, mover in self._movers.items():
            try:
                mover.warm()
            except OSError as error:
                raise SystemExit(f"{self.name}, {self.count} machines, {traffic}: {error}") from error

    def cost_ns(self, traffic: Traffic) -> float:
        """Return the processor time of one piece, all of its way."""
        return self._movers[traffic].cost_ns()

    def close(self) -> None:
        """End the processes, and with them the namespace."""
        for mover in self._movers.values():
            mover.close()


class _Mover:
    """The process that moves pieces of one kind; it has the namespace of the thread that makes it."""

    def __init__(self, program: Path, ways: Sequence[Way], at_once: int) -> None:
        descriptors = {descriptor for way in ways for descriptor in way[:2]}
        self._pieces = 0
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors
        )
        os.sched_setaffinity(self._process.pid, {max(os.sched_getaffinity(0))})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._to.write(struct.pack("=II", len(ways), at_once))
        for one, other, piece in ways:
            self._to.write(struct.pack("=iiI", one, other, len(piece)) + piece)
        self._to.flush()

    def warm(self) -> None:
        self._asked(24 * _WAYS)  # all ways several times: what nobody knew the way of came out everywhere
        cost_ns, _ = self._asked(4 * _WAYS)
        self._pieces = max(4 * _WAYS, min(MOST_PIECES, int(SLICE_S * 1e9 / cost_ns)))
        _, came = self._asked(self._pieces)
        if came != self._pieces:
            raise OSError(f"{came} of {self._pieces} allowed pieces came through")

    def cost_ns(self) -> float:
        return self._asked(self._pieces)[0]

    def _asked(self, pieces: int) -> tuple[float, int]:
        self._to.write(struct.pack("=I", pieces))
        self._to.flush()
        words = self._from.readline().split()
        if len(words) != 3:
            raise OSError(f"the process that moves them ended with {self._process.wait()}")
        return int(words[0]) / pieces, int(words[2])

    def close(self) -> None:
        self._to.close()
        self._from.close()
        self._process.wait()


def built(folder: Path) -> Path:
    """Compile the program that moves frames."""
    program = folder / "ports"
    source = Path(__file__).with_name("firewallports.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(source)], check=True)
    return program


def _frames(taps: dict[Port, int], web: Port, db: Port) -> tuple[Way, Way]:
    question = _segment(web, db, 40_000, machines.SERVICE)
    answer = _segment(db, web, machines.SERVICE, 40_000)
    return (taps[web], taps[db], question), (taps[db], taps[web], answer)


def _segment(source: Port, target: Port, source_port: int, target_port: int) -> bytes:
    """Return a frame of 60 bytes: TCP with an acknowledgement and a little data."""
    tcp = struct.pack(">HHIIBBHHH", source_port, target_port, 1, 1, 0x50, 0x10, 1024, 0, 0) + bytes(6)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0)
    head += source.ipv4[0].packed + target.ipv4[0].packed
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return target.mac + source.mac + b"\x08\0" + head + tcp


def _tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _SET_TAP, struct.pack("16sH22x", name.encode(), _TAP | _PLAIN))
    _run(f"ip link set {name} master br0 up")
    return descriptor


def _plugged(port: Port, other: Port) -> socket.socket:
    """Return a socket of a machine's own network stack, behind its port; it knows the other's MAC."""
    outside, made = threading.get_native_id(), []

    def inside() -> None:
        _run(
            "sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1",
            f"ip link add eth0 address {port.mac.hex(':')} type veth peer name {port.tap} netns {outside}",
            f"ip address add {port.ipv4[0]}/8 dev eth0",
            "ip link set eth0 up",
            f"ip neighbour add {other.ipv4[0]} lladdr {other.mac.hex(':')} dev eth0",
        )
        made.append(socket.socket())

    in_own_network(inside)
    _run(f"ip link set {port.tap} master br0 up")
    return made[0]


def _wait_for_ports(count: int) -> None:
    deadline = time.monotonic() + 10
    while subprocess.check_output(["bridge", "link", "show"]).count(b"state forwarding") < count:
        if time.monotonic() > deadline:
            raise SystemExit("the bridge's ports forward nothing")
        time.sleep(0.02)


def _run(*commands: str) -> None:
    for command in commands:
        subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
