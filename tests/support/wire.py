"""A bridge in the test's own network namespace whose ports are taps that this process holds, as QEMU does.

Ports that are called eth... or veth... are none: they have another end, as uplinks have. What is put into a
port has gone through the bridge by the time its answer is taken: what has come out anywhere by then is all
that will. Nobody learns and everybody is flooded, so that one frame asks about every way at once.

    with Wire(("vnet1", "vnet2", "eth0")) as wire:
        came_out = wire.put("vnet1", frame)     # {"eth0": [frame], "": [frame]}; "" is the host's own stack
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from types import TracebackType

HOST = ""
BRIDGE = "lab0"
BRIDGE_MAC = bytes.fromhex("0200000000fe")
MAX_FRAME_BYTES = 4096
_ARRIVES_S = 5
_TAGS, _TAGGED_BYTES = (b"\x81\0", b"\x88\xa8"), 20

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_SOL_PACKET, _AUXDATA, _IGNORE_OUTGOING = 263, 8, 23
_ALL_PROTOCOLS = 3
_VLAN_VALID, _VLAN_TPID_VALID = 0x10, 0x40


class Wire:
    """A bridge with taps, and the host behind it.

    Attributes:
        order: the ports in the order in which the bridge floods them.
    """

    def __init__(self, ports: Sequence[str]) -> None:
        self.order = tuple(reversed(ports))
        self._closing = contextlib.ExitStack()
        self.taps = {name: self._end(name) if is_uplink(name) else self._tap(name) for name in ports}
        # br_netfilter, where it is loaded, looks at nothing.
        unseen = [
            f"sysctl -q -e -w net.bridge.bridge-nf-call-{what}tables=0" for what in ("ip", "ip6", "arp")
        ]
        for command in (*bridge_commands(ports), *unseen):
            subprocess.run(command.split(), check=True)
        self._ears = {name: self._ear(name) for name in ports if is_uplink(name)}
        self._host = self._closing.enter_context(_packet_socket())
        self._host.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        self._host.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self._host.setblocking(False)
        self._sender = self._closing.enter_context(_packet_socket())
        self._poll = self._closing.enter_context(contextlib.closing(select.epoll()))
        self._names = {tap: name for name, tap in self.taps.items() if name not in self._ears}
        self._names |= {ear.fileno(): name for name, ear in self._ears.items()}
        self._names[self._host.fileno()] = HOST
        for descriptor in self._names:
            self._poll.register(descriptor, select.EPOLLIN)
        self._mark = 0

    def __enter__(self) -> "Wire":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def put(self, port: str, frame: bytes, mark: int = 0) -> dict[str, list[bytes]]:
        """Send a frame into a port, or from the host, and return what came out, by port; "" is the host.

        Args:
            port: a tap, as its machine would; "" for the host's own stack.
            frame: at least 14 bytes, no more than a frame holds.
            mark: of a packet from the host.
        """
        if port:
            os.write(self.taps[port], frame)
            # The kernel drops a frame that ends right behind its tag before anybody sees it (skb_vlan_untag).
            if port in self._ears and not (frame[12:14] in _TAGS and len(frame) < _TAGGED_BYTES):
                self._await(port)
        else:
            if mark != self._mark:
                self._sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                self._mark = mark
            self._sender.send(frame)
        return self.taken()

    def taken(self) -> dict[str, list[bytes]]:
        """Return what has come out since the last time."""
        found: dict[str, list[bytes]] = {}
        while ready := self._poll.poll(0):
            for descriptor, _ in ready:
                name = self._names[descriptor]
                if name in self._ears:
                    frame, kind = _with_tag(self._ears[name])
                    if kind != socket.PACKET_OUTGOING:
                        continue
                else:
                    frame = os.read(descriptor, MAX_FRAME_BYTES) if name else _with_tag(self._host)[0]
                found.setdefault(name, []).append(frame)
        return found

    def _await(self, port: str) -> None:
        """Wait until a frame that was sent at the other end is there; the kernel may take its time."""
        while _with_tag(self._ears[port])[1] == socket.PACKET_OUTGOING:
            pass

    def _end(self, name: str) -> int:
        """Make a port with another end, and return a socket there."""
        for command in end_commands(name):
            subprocess.run(command.split(), check=True)
        return self._closing.enter_context(_packet_socket(f"x-{name}", hears=False)).fileno()

    def _ear(self, name: str) -> socket.socket:
        """Return what hears frames at a port, those that leave and those that come."""
        ear = self._closing.enter_context(_packet_socket(name))
        ear.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        ear.settimeout(_ARRIVES_S)
        return ear

    def _tap(self, name: str) -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._closing.callback(os.close, descriptor)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        return descriptor


def is_uplink(name: str) -> bool:
    """Tell whether a port is none of taps, but has another end."""
    return name.startswith(("eth", "veth"))


def end_commands(name: str) -> list[str]:
    """Return the commands that make a port with another end."""
    return [
        f"ip link add {name} type veth peer name x-{name}",
        f"sysctl -q -w net.ipv6.conf.x-{name}.disable_ipv6=1",
        f"ip link set x-{name} up",
    ]


def kind_of_port(name: str) -> str:
    """Return what the kernel calls the kind of a port of these names."""
    if not name:
        return ""
    return "veth" if is_uplink(name) else "tun"


def bridge_commands(ports: Sequence[str]) -> list[str]:
    """Return the commands that put devices on a bridge which floods and never learns."""
    # Nothing in the namespace says anything by itself.
    commands = [
        "sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1",
        f"ip link add {BRIDGE} address {BRIDGE_MAC.hex(':')} type bridge mcast_snooping 0 forward_delay 0",
    ]
    for number, name in enumerate(ports):
        commands += [
            f"ip link set {name} address fe:54:00:ff:00:{number:02x} master {BRIDGE}",
            f"ip link set {name} type bridge_slave learning off flood on",
            f"ip link set {name} up",
        ]
    # Promiscuous: the host's stack gets whatever the input hook lets by, too.
    commands += [f"ip link set {BRIDGE} promisc on", f"ip link set {BRIDGE} up"]
    return commands


@contextlib.contextmanager
def _packet_socket(device: str = BRIDGE, *, hears: bool = True) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        opened.bind((device, _ALL_PROTOCOLS if hears else 0))
        yield opened


def _with_tag(ear: socket.socket) -> tuple[bytes, int]:
    """Return a frame with the tag that the kernel has taken off, and whose it is: see packet(7)."""
    frame, told, _, (_, _, whose, *_) = ear.recvmsg(MAX_FRAME_BYTES, socket.CMSG_SPACE(20))
    for _, kind, data in told:
        if kind == _AUXDATA:
            status, _, _, _, _, tag, protocol = struct.unpack("IIIHHHH", data[:20])
            if status & _VLAN_VALID:
                protocol = protocol if status & _VLAN_TPID_VALID else 0x8100
                return frame[:12] + struct.pack(">HH", protocol, tag) + frame[12:], whose
    return frame, whose
