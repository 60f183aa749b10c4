"""Two policies with their machines, which a program enforces in turns until it is killed.

with program(folder) as run:
    run("step", 7)          # killed before or after the 7th step between file and kernel
    run("time", 200_000)    # killed after 0.2 s
"""

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from firewallworld import FLEET, LABELS, PING, WORLD, ip_packet, label, tcp, udp
from spoofs import A4, A6, B4, B6, V4, A, B, V, arp, ethernet, icmp6, six

from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.policy import FirewallPolicy, Flow, LogRate, Ports
from undercroft.usecases.firewall.enforcing import Enforcer

PORTS = (A.tap, B.tap, V.tap, "eth0")
NEEDED = (Flow(label("web"), label("db"), (tcp(5432), PING)),)
OTHERS = (
    Flow(label("blue"), label("red"), (tcp(1), udp(1, 40))),
    Flow(label("web"), WORLD, (tcp(443), udp(53))),
    Flow(label("web"), label("web"), (tcp(1000),)),
    Flow(label("web"), label("db"), (udp(2000, 2400),)),
)
_OPENING = struct.pack(">HH", 40000, 5432) + bytes(16)
_ANSWERING = struct.pack(">HH", 5432, 40000) + bytes(16)
_TELNET = struct.pack(">HH", 40000, 23) + bytes(16)


def _to(port: Port, frame: bytes, source: bytes) -> bytes:
    return port.mac + source + frame[12:]


ALLOWED = (
    (A.tap, B.tap, ethernet(ip_packet(4, A4, B4, 6, _OPENING))),
    (A.tap, B.tap, six(ip_packet(6, A6, B6, 6, _OPENING))),
    (B.tap, A.tap, _to(A, ethernet(ip_packet(4, B4, A4, 6, _ANSWERING)), B.mac)),
    (A.tap, B.tap, arp(1, A.mac, A4, B4)),
)
DENIED = (
    (A.tap, ethernet(ip_packet(4, A4, B4, 6, _TELNET))),
    (A.tap, ethernet(ip_packet(4, V4, B4, 6, _OPENING))),
    (A.tap, ethernet(ip_packet(4, A4, B4, 6, _OPENING), source=V.mac)),
    (A.tap, B.mac + A.mac + b"\x81\0\0\x05\x08\0" + ip_packet(4, A4, B4, 6, _OPENING)),
    (A.tap, icmp6(b"\x86\0\0\0" + bytes(12))),
    (B.tap, _to(A, ethernet(ip_packet(4, B4, A4, 6, _OPENING)), B.mac)),
)


def extra(number: int, labels: tuple[str, ...]) -> Port:
    """Return a machine that no frame is from."""
    mac = bytes((0x52, 0x54, 1)) + number.to_bytes(3, "big")
    ipv4, ipv6 = IPv4Address(0x0A020000 + number), IPv6Address((0x20010DB9 << 96) + number)
    return Port(f"x-{number}", f"x{number}", f"vnet{100 + number}", mac, (ipv4,), (ipv6,), frozenset(labels))


COMING = extra(77, ("blue", "red"))
"""A machine with labels that nobody else has."""


def policy(which: str) -> FirewallPolicy:
    flows = {"old": NEEDED, "new": (*NEEDED, *OTHERS)}[which]
    uplinks = ("eth0", f"eth-{which}")
    return FirewallPolicy(labels=LABELS, flows=flows, ports=Ports(uplinks=uplinks), log=LogRate(packets=0))


def fleet(which: str) -> Fleet:
    labels = {"old": ("blue",), "new": ("web", "red")}[which]
    return Fleet("here", FLEET.host_addresses, (A, B, V, *(extra(number, labels) for number in range(20))))


def enforce(enforcer: Enforcer, which: str) -> None:
    enforcer.enforce(policy(which), fleet(which))


_PROGRAM = """
import os, random, signal, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from enforced import make
from enforcedruns import COMING, enforce
from undercroft.adapters.nftables import Nftables
from undercroft.adapters.nftables.wire import Channel

passed = 0

def dying(function, last):
    def step(*arguments):
        global passed
        passed += 1
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)
        made = function(*arguments)
        passed += 1
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return made
    return step

def run(order, number):
    if order == "step":
        for owner, name in ((os, "fsync"), (os, "replace"), (Channel, "commit")):
            setattr(owner, name, dying(getattr(owner, name), number))
    else:
        signal.setitimer(signal.ITIMER_REAL, number / 1e6)  # SIGALRM kills as SIGKILL does.
    enforcer = make(Nftables(), Path(sys.argv[1]))
    enforcer.recall()
    while True:
        enforce(enforcer, "new")
        enforcer.admit([COMING])
        if order == "step":
            return
        enforce(enforcer, "old")

print("ready", flush=True)
for line in sys.stdin:
    order, number = line.split()
    child = os.fork()
    if not child:
        run(order, int(number))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Program:
    """Runs the engine in a process of its own, to be killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert self._line() == "ready"

    def __call__(self, order: str, number: int) -> bool:
        """Let it enforce until it is killed, and tell whether it was."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order} {number}\n")
        self._process.stdin.flush()
        return int(self._line()) != 0

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def program(folder: Path) -> Iterator[Program]:
    """Start it, with the engine's memory in this folder, in the network namespace of this thread."""
    command = [sys.executable, "-c", _PROGRAM, str(folder), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()
