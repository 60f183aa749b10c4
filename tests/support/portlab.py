"""Machines' ports on a real bridge in a network namespace, frames between them, and small programs of BPF.

The other end of port X is called x-X. Everything is of the namespace of the thread that calls.
"""

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

from undercroft.adapters.netlinkcodec import attribute, nested
from undercroft.adapters.surroundings import gather
from undercroft.adapters.surroundings.rtnetlink import connected
from undercroft.assurance.firewall.surroundings import Danger, Finding, judge
from undercroft.firewall.fleet import Port
from undercroft.firewall.senders import PRIORITY

BRIDGE, UPLINK, OUTSIDE = "lab0", "eth0", "out0"
TAPS = ("vnet1", "vnet2", "vnet3")
HEARD_WITHIN_S = 0.15
_BPF, _PROGRAM_LOAD, _LINK_CREATE = 321, 5, 28
_XDP, _CLASSIFIER, _TCX_INGRESS = 6, 3, 46
_SET_LINK, _LINK_XDP = 19, 43


def run(*commands: str) -> None:
    """Run programs, one after the other."""
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)


def nft(rules: str) -> None:
    """Load rules."""
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)


def make_bridge(*, stp: bool = False, ipv6: bool = False) -> None:
    """A bridge with three taps and an uplink, and a device that is on no bridge."""
    if not ipv6:
        run("sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1")
    run("ip link set lo up", f"ip link add {BRIDGE} type bridge mcast_snooping 0")
    for name in (*TAPS, UPLINK, OUTSIDE):
        run(f"ip link add {name} type veth peer name x-{name}")
        if name != OUTSIDE:
            run(f"ip link set {name} master {BRIDGE}")
        run(f"ip link set x-{name} up", f"ip link set {name} up")
    # With br_netfilter, new namespaces have it called.
    run(*(f"sysctl -q -e -w net.bridge.bridge-nf-call-{what}tables=0" for what in ("ip", "ip6", "arp")))
    run(f"ip link set {BRIDGE} up")
    wait_for_ports()
    if stp:
        run(
            f"ip link set {BRIDGE} type bridge forward_delay 0",
            f"ip link set {BRIDGE} type bridge stp_state 1",
        )
        wait_for_ports()


def findings() -> tuple[Finding, ...]:
    """Return what is found around a table of the filter's priorities."""
    priorities = tuple((hook, PRIORITY) for hook in ("prerouting", "input", "forward", "output"))
    return judge(gather("undercroft", TAPS, priorities))


def told() -> set[tuple[Danger, str]]:
    """Return dangers and things of what is found."""
    return {(finding.danger, finding.thing) for finding in findings()}


def wait_for_ports() -> None:
    """A port takes frames some time after it is up."""
    while True:
        told = subprocess.run(["bridge", "link", "show"], check=True, capture_output=True, text=True).stdout
        if told.count("state forwarding") == len(TAPS) + 1:
            return
        time.sleep(0.02)


@contextlib.contextmanager
def plugged(port: str) -> Iterator[socket.socket]:
    """Speak and listen at the other end of a port."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as end:
        end.bind((f"x-{port}", 0))
        end.settimeout(HEARD_WITHIN_S)
        yield end


def heard(frame: bytes, sender: str, receiver: str, *, within: bytes = b"") -> bool:
    """Tell whether a frame, or one that holds these bytes, comes out of another port."""
    with plugged(sender) as mouth, plugged(receiver) as ear:
        mouth.send(frame)
        with contextlib.suppress(TimeoutError):
            while True:
                if (within or frame[6:]) in ear.recv(2048):
                    return True
    return False


def segment(source: Port, target: Port, service: int) -> bytes:
    """The first segment of a TCP connection, as the source's machine sends it."""
    tcp = struct.pack(">HHIIBBHHH", 40_000, service, 1, 0, 0x50, 2, 1024, 0, 0)
    return target.mac + source.mac + b"\x08\0" + ipv4(source.ipv4[0].packed, target.ipv4[0].packed, 6, tcp)


def datagram(target_mac: bytes, source: bytes, target: bytes) -> bytes:
    """A UDP datagram to port 9999, in a frame to any MAC."""
    payload = b"past all hooks"
    udp = struct.pack(">HHHH", 1234, 9999, 8 + len(payload), 0) + payload
    return target_mac + bytes((0x52, 0x54, 0, 0, 0, 1)) + b"\x08\0" + ipv4(source, target, 17, udp)


def ipv4(source: bytes, target: bytes, protocol: int, payload: bytes) -> bytes:
    """A packet with a checksum that is right."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    return _summed(head + source + target) + payload


def fragment(packet: bytes, place: int) -> bytes:
    """The same packet as a fragment: `place` is the field of flags and offset."""
    return (
        _summed(packet[:6] + place.to_bytes(2, "big") + packet[8:10] + bytes(2) + packet[12:20]) + packet[20:]
    )


def _summed(head: bytes) -> bytes:
    """A head of 20 bytes with its checksum, which is zero before."""
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + checksum.to_bytes(2, "big") + head[12:]


def redirect_by_xdp(source: str, target: str) -> None:
    """Attach an XDP program that sends every frame of one device out of another."""
    with os.fdopen(_redirecting(_XDP, target)) as program:
        flags = attribute(3, struct.pack("=I", 2))  # In the kernel's own, slow way, which each device has.
        body = nested(_LINK_XDP, attribute(1, struct.pack("=i", program.fileno())), flags)
        with connected() as kernel:
            head = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(source), 0, 0)
            kernel.change(_SET_LINK, head + body, source)


@contextlib.contextmanager
def redirected_by_tcx(source: str, target: str) -> Iterator[None]:
    """The same with a program of TCX, while the block runs."""
    program = _redirecting(_CLASSIFIER, target)
    request = struct.pack("=IIII48x", program, socket.if_nametoindex(source), _TCX_INGRESS, 0)
    link = _bpf(_LINK_CREATE, request)
    try:
        yield
    finally:
        os.close(link)
        os.close(program)


def _redirecting(kind: int, target: str) -> int:
    """Load a program that calls bpf_redirect(target, 0) and returns what it says."""
    code = b"".join(
        struct.pack("=BBhi", opcode, registers, 0, value)
        for opcode, registers, value in (
            (0xB7, 1, socket.if_nametoindex(target)),
            (0xB7, 2, 0),
            (0x85, 0, 23),
            (0x95, 0, 0),
        )
    )
    held, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    request = struct.pack("=IIQQ", kind, len(code) // 8, ctypes.addressof(held), ctypes.addressof(licence))
    return _bpf(_PROGRAM_LOAD, request.ljust(64, b"\0"))


def _bpf(command: int, request: bytes) -> int:
    buffer = ctypes.create_string_buffer(request, len(request))
    result = ctypes.CDLL(None, use_errno=True).syscall(_BPF, command, buffer, len(request))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)
