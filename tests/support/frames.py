"""Frames of every form that a bridge may meet, drawn around those that the fleet's policies speak of.

drawn = Crafted(Random(1), Frames(Random(2)))
path, frame = drawn.draw(remembered)
kind_of(frame)                       # "IPv6 extension headers"
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from firewallworld import FLEET, Frames, ip_packet
from wire import BRIDGE_MAC

from undercroft.firewall.decisions import Path, PathKind, Remembered
from undercroft.firewall.packets import parse

TAG_PROTOCOLS = (0x8100, 0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
EXTENSIONS = (0, 43, 44, 51, 59, 60, 135, 139, 140, 253)
GROUPS = tuple(bytes.fromhex("0180c20000") + bytes([last]) for last in range(16))
_NAMED_TYPES = (
    0x0800,
    0x86DD,
    0x0806,
    0x8035,
    0x8847,
    0x8848,
    0x8863,
    0x8864,
    0x88CC,
    0x88E5,
    0x894F,
    0x22F0,
)
_SNAP = b"\xaa\xaa\x03\0\0\0"


def kind_of(frame: bytes) -> str:
    """Return what a frame is by its outermost form, for people who read figures."""
    outer = int.from_bytes(frame[12:14], "big")
    if outer in TAG_PROTOCOLS:
        return "tagged"
    if outer < 0x0600:
        return "LLC or SNAP"
    named = {0x0806: "ARP", 0x8035: "RARP"}
    if outer not in {0x0800, 0x86DD}:
        return named.get(outer, "other Ethernet types")
    packet = parse(frame)
    version = "IPv4" if outer == 0x0800 else "IPv6"
    if packet is None or packet.protocol is None:
        return f"{version}, damaged"
    plain = packet.transport_offset == (34 if version == "IPv4" else 54)
    if not plain:
        word = packet.network(6, 2) or b"\0\0"
        fragment = int.from_bytes(word, "big") & 0x1FFF if version == "IPv4" else word[0] == 44
        return f"{version} fragments" if fragment else f"{version} options or extension headers"
    if version == "IPv4" and int.from_bytes(packet.network(6, 2) or b"", "big") & 0x2000:
        return "IPv4 fragments"
    names = {1: "ICMP", 58: "ICMPv6", 6: "TCP", 17: "UDP", 132: "SCTP"}
    if packet.protocol == 58 and 133 <= (packet.transport(0, 1) or b"\0")[0] <= 137:
        return "neighbour discovery"
    return f"{version} {names.get(packet.protocol, 'other protocols')}"


@dataclass
class Crafted:
    """Draws frames: half of them as the policies have them or near to that, half of them of odd forms."""

    random: Random
    near: Frames

    def draw(self, remembered: Remembered) -> tuple[Path, bytes]:
        """Return a way, of which the port that a frame comes in by counts, and a frame."""
        path, frame = self.near.draw(remembered)
        if self.random.random() < 0.5:
            return path, frame
        makers: tuple[Callable[[bytes], bytes], ...] = (
            self._tagged,
            self._llc,
            self._tunnelled,
            self._extended,
            self._fragment,
            self._damaged_lengths,
            self._garbage,
            self._truncated,
            self._flipped,
            self._other_target,
            self._reverse_arp,
            self._icmp,
            self._options,
        )
        return path, self.random.choice(makers)(frame)

    def _tagged(self, frame: bytes) -> bytes:
        tags = b"".join(
            struct.pack(
                ">HH",
                self.random.choice(TAG_PROTOCOLS),
                self.random.choice((0, 1, 5, 5, 6, 0xFFF, 0xE000, 0x1005)),
            )
            for _ in range(self.random.randrange(1, 4))
        )
        tagged = frame[:12] + tags + frame[12:]
        return tagged[: self.random.randrange(14, 26)] if self.random.random() < 0.05 else tagged

    def _llc(self, frame: bytes) -> bytes:
        header = self.random.choice(
            (
                _SNAP + frame[12:14],
                _SNAP + b"\x81\0\0\0" + frame[12:14],
                b"\xaa\xaa\x03\0\0\xf8" + frame[12:14],
                b"\x06\x06\x03",
                b"\x42\x42\x03",
                b"\xff\xff",
            )
        )
        length = self.random.choice((len(frame) - 14 + len(header), 0, 0x05FF))
        plain = frame[:12] + struct.pack(">H", length & 0x07FF) + header + frame[14:]
        return self._tagged(plain) if self.random.random() < 0.3 else plain

    def _tunnelled(self, frame: bytes) -> bytes:
        inner, version = frame[14:], 6 if frame[12:14] == b"\x86\xdd" else 4
        start, width = (12, 4) if version == 4 else (8, 16)
        ends = inner[start : start + width], inner[start + width : start + 2 * width]
        choice = self.random.randrange(7)
        if choice == 0:
            label = struct.pack(">I", self.random.randrange(1 << 20) << 12 | 0x140)
            return frame[:12] + self.random.choice((b"\x88\x47", b"\x88\x48")) + label + inner
        if choice == 1:
            body = b"\0\x21" if version == 4 else b"\0\x57"
            return frame[:12] + b"\x88\x64\x11\0\0\x01" + struct.pack(">H", len(inner) + 2) + body + inner
        if choice == 2:
            return frame[:12] + b"\x65\x58" + frame
        if len(ends[1]) != width:
            return frame
        protocol, body = self.random.choice(
            (
                (4, inner),
                (41, inner),
                (47, b"\0\0" + frame[12:14] + inner),
                (97, b"\x30\0" + frame),
                (17, struct.pack(">HHHH", 4789, 4789, 16 + len(frame), 0) + b"\x08" + bytes(7) + frame),
                (137, struct.pack(">I", 0x00000140) + inner),
            )
        )
        return frame[:14] + ip_packet(version, *ends, protocol, body[:1300])

    def _extended(self, frame: bytes) -> bytes:
        if frame[12:14] != b"\x86\xdd" or len(frame) < 54:
            return self._options(frame)
        following, rest = frame[20], frame[54:]
        for _ in range(self.random.randrange(1, 5)):
            kind = self.random.choice(EXTENSIONS)
            rest = self._extension(kind, following) + rest
            following = kind
        length = len(rest) if self.random.random() < 0.9 else self.random.randrange(len(rest) + 9)
        return frame[:18] + struct.pack(">HB", length, following) + frame[21:54] + rest

    def _extension(self, kind: int, following: int) -> bytes:
        if kind == 44:
            word = self.random.choice((0, 1, 8, 9, 0x5C8, 0xFFF9))
            return struct.pack(">BBHI", following, 0, word, self.random.randrange(3))
        if kind == 51:
            return bytes([following, 4]) + bytes(22)
        words = self.random.choice((0, 0, 1, 2, 31))
        options = self.random.choice((b"\x01\x04" + bytes(4), b"\xc2\x04\0\1\0\0", b"\x05\x02\0\0\0\0"))
        body = self.random.choice((b"\0\1\0\0\0\0", b"\4\0\0\0\0\0")) if kind == 43 else options
        return (bytes([following, words]) + body).ljust(8 + 8 * self.random.choice((words, words, 0)), b"\0")

    def _fragment(self, frame: bytes) -> bytes:
        """Return a first, a later, an overlapping, a tiny or the only fragment."""
        offset, more, ident = (
            self.random.choice((0, 0, 1, 2, 3, 185, 0x1FFF)),
            self.random.random() < 0.6,
            self.random.randrange(3),
        )
        keep = self.random.choice((0, 1, 4, 7, 8, 16, 64))
        if frame[12:14] == b"\x08\0" and len(frame) >= 34:
            word = offset | (0x2000 if more else 0) | (0x4000 if self.random.random() < 0.1 else 0)
            body = frame[34:][:keep]
            head = struct.pack(">HHH", 20 + len(body), ident, word)
            return frame[:14] + b"\x45" + frame[15:16] + head + frame[22:34] + body
        if frame[12:14] == b"\x86\xdd" and len(frame) >= 54 and frame[20] != 44:
            word = (offset << 3 | more) & 0xFFFF | self.random.choice((0, 0, 6))
            body = struct.pack(">BBHI", frame[20], 0, word, ident) + frame[54:][:keep]
            return frame[:18] + struct.pack(">H", len(body)) + b"\x2c" + frame[21:54] + body
        return frame

    def _damaged_lengths(self, frame: bytes) -> bytes:
        changed = bytearray(frame)
        if len(changed) < 22:
            return frame
        if frame[12:14] == b"\x08\0":
            if self.random.random() < 0.5:
                changed[14] = self.random.choice((0x40, 0x44, 0x46, 0x4F, 0x55, 0x65, 0x05))
            else:
                changed[16:18] = struct.pack(
                    ">H", self.random.choice((0, 19, 20, 21, 24, len(frame) - 13, 0xFFFF))
                )
        elif frame[12:14] == b"\x86\xdd":
            if self.random.random() < 0.3:
                changed[14] ^= 0x10 << self.random.randrange(4)
            else:
                changed[18:20] = struct.pack(
                    ">H", self.random.choice((0, 1, 4, 8, 24, 32, len(frame) - 53, 0xFFFF)) & 0xFFFF
                )
        return bytes(changed)

    def _garbage(self, frame: bytes) -> bytes:
        kind = self.random.choice((*_NAMED_TYPES, self.random.randrange(1 << 16)))
        body = self.random.randbytes(self.random.choice((0, 1, 7, 20, 28, 46, 60, 120)))
        if kind == 0x0800 and body and self.random.random() < 0.7:
            body = b"\x45" + body[1:]
        return frame[:12] + struct.pack(">H", kind) + body

    def _truncated(self, frame: bytes) -> bytes:
        return frame[: self.random.randrange(14, len(frame) + 1)]

    def _flipped(self, frame: bytes) -> bytes:
        changed = bytearray(frame)
        for _ in range(self.random.randrange(1, 4)):
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    def _other_target(self, frame: bytes) -> bytes:
        macs = (BRIDGE_MAC, b"\xff" * 6, b"\x33\x33\0\0\0\1", b"\1\0\x5e\0\0\1", *GROUPS)
        if self.random.random() < 0.2:
            return frame[:6] + self.random.choice((bytes(6), b"\xff" * 6, b"\1\0\x5e\0\0\1")) + frame[12:]
        return self.random.choice(macs) + frame[6:]

    def _reverse_arp(self, frame: bytes) -> bytes:
        port = self.random.choice(FLEET.ports)
        operation = self.random.choice((3, 4, 1))
        head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
        return (
            frame[:12] + b"\x80\x35" + head + (frame[6:12] + bytes(4) + port.mac + bytes(4)).ljust(38, b"\0")
        )

    def _icmp(self, frame: bytes) -> bytes:
        """Return a message of any type in the frame's own addresses, with the frame's packet in it."""
        version = {b"\x08\0": 4, b"\x86\xdd": 6}.get(frame[12:14], 0)
        if not version or len(frame) < (34 if version == 4 else 54):
            return frame
        start, width = (26, 4) if version == 4 else (22, 16)
        source, target = frame[start : start + width], frame[start + width : start + 2 * width]
        kind = self.random.choice((0, 3, 5, 8, 11, 12) if version == 4 else (1, 2, 3, 4, 128, 129, 134, 137))
        inner = bytearray(frame[14:])
        inner[start - 14 : start - 14 + 2 * width] = target + source
        body = bytes([kind, self.random.choice((0, 0, 1, 4))]) + bytes(6) + inner
        cut = self.random.choice((len(body), len(body), 8, 28, 36, 48, 60))
        hops = self.random.choice((64, 255))
        return frame[:14] + ip_packet(
            version, source, target, 1 if version == 4 else 58, body[:cut], hops=hops
        )

    def _options(self, frame: bytes) -> bytes:
        """Return an IPv4 packet with options: source routes, the router alert, timestamps, padding."""
        if frame[12:14] != b"\x08\0" or len(frame) < 34:
            return frame
        options = self.random.choice(
            (
                b"\x83\x07\x04\x0a\x01\0\x02\0",
                b"\x89\x07\x04\x0a\x01\0\x02\0",
                b"\x94\x04\0\0",
                b"\x44\x0c\x05\0" + bytes(8),
                b"\1\1\1\0",
            )
        )
        return frame[:14] + ip_packet(4, frame[26:30], frame[30:34], frame[23], frame[34:], options=options)


def reaches(
    ports: tuple[str, ...], own_macs: frozenset[bytes], path: Path, frame: bytes, *, br_netfilter: bool
) -> tuple[str, ...]:
    """Return where a bridge that learns nothing and has no rules lets a frame out; "" is the host.

    Source: net/bridge/br_input.c, br_handle_frame; br_device.c, br_dev_xmit; net/core/skbuff.c,
    skb_vlan_untag; br_netfilter_hooks.c, br_nf_pre_routing, which no sysctl keeps from dropping short frames.

    Args:
        ports: in the order of flooding.
        own_macs: of the bridge and its ports.
        path: the way; where the frame comes in by is all that counts.
        frame: what is sent.
        br_netfilter: the kernel has it loaded.
    """
    target, source = frame[:6], frame[6:12]
    if path.kind is PathKind.FROM_HOST:
        return () if target in own_macs else ports
    if source[0] & 1 or source == bytes(6) or len(frame) < _shortest(frame, br_netfilter):
        return ()
    if target in own_macs:
        return ("",)
    if target in GROUPS[1:]:
        return ()
    return (*(port for port in ports if port != path.source), "")


def _shortest(frame: bytes, br_netfilter: bool) -> int:
    """Return how long a frame must be to come in: a tag is read with two bytes more than it has."""
    outer, start, least = frame[12:14], 14, 14
    if outer in {b"\x81\0", b"\x88\xa8"}:
        outer, start, least = frame[16:18], 18, 20
    behind = {b"\x81\0": 4 if start == 18 else 0, b"\x88\x64": 8}.get(outer, 0)
    return max(least, start + behind) if br_netfilter else least


def checked(frame: bytes) -> bytes:
    """Return a plain IP frame with the checksums that conntrack looks at; a fragment with its header's."""
    changed = bytearray(frame)
    version = frame[14] >> 4
    if version == 4:
        changed[24:26] = bytes(2)
        changed[24:26] = _checksum(changed[14:34])
    start, protocol, ends = (34, frame[23], frame[26:34]) if version == 4 else (54, frame[20], frame[22:54])
    place = {6: 16, 17: 6, 1: 2, 58: 2}.get(protocol)
    in_pieces = version == 4 and int.from_bytes(frame[20:22], "big") & 0x3FFF
    if place is None or in_pieces:
        return bytes(changed)
    body = bytes(changed[start:])
    pseudo = b"" if protocol == 1 else ends + struct.pack(">II", len(body), protocol)
    at = slice(start + place, start + place + 2)
    changed[at] = bytes(2)
    changed[at] = _checksum(pseudo + bytes(changed[start:]))
    return bytes(changed)


def _checksum(data: bytes) -> bytes:
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
