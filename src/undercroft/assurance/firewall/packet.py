"""One packet as Z3 sees it: any frame that may reach a hook of a bridge, and what the kernel knows of it.

Sources, of Linux 6: `nft_payload_eval`, `nft_payload_copy_vlan` (net/netfilter/nft_payload.c) for what lies
where; `nft_set_pktinfo_ipv4_validate`, `nft_set_pktinfo_ipv6_validate` (nf_tables_ipv4.h, nf_tables_ipv6.h)
and `ipv6_find_hdr` for the transport header; `skb_vlan_untag` for the outermost VLAN tag, which is no part
of the bytes any more when a hook sees the frame, and which `payload` puts back; `eth_type_trans` for the
protocol.

The three headers are bytes of their own, though they lie one behind the other. That allows packets that
cannot be, so what is proven holds for those that can. The same goes for the walk over IPv6 extension
headers: where it ends is left open, and `ipv6_find_hdr` is by definition what decides it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import z3

from undercroft.assurance.firewall.terms import Bits, Byte, Bytes, Truth, both, equal, joined, split
from undercroft.firewall.kernel import Base

NAME_BYTES = 16
ETHERNET_BYTES = 14
VLAN_BYTES = 4
ETHERNET_ADDRESSES_BYTES = 12
LENGTH_BITS = 20
LEAST_ETHERTYPE = 0x0600

IPV4 = b"\x08\x00"
IPV6 = b"\x86\xdd"
FRAGMENT = 44
MISREAD_LENGTHS = frozenset({1, 2, 4})
EXTENSIONS = (0, 43, FRAGMENT, 51, 60)
"""What `ipv6_find_hdr` walks over; 59, "no next header", ends the walk as any other protocol does."""


def _byte(name: str) -> Byte:
    return z3.BitVec(name, 8)


def _bytes(name: str, length: int) -> Bytes:
    return tuple(_byte(f"{name}{place}") for place in range(length))


@dataclass(slots=True)
class SymbolicPacket:
    """Any packet. Bytes of the network and transport headers come into being when they are asked for.

    Attributes:
        link: destination and source address, 12 bytes.
        kind: Ethernet type behind the outermost VLAN tag.
        said: the Ethernet type that a program of the host's has told the kernel, right or wrong.
        tagged: there was a VLAN tag, which the kernel took off.
        tag: its protocol and control information.
        input_name: of the port where it came in, padded with zeros; 16 bytes.
        output_name: of the port where it goes out.
        input_index: of the same port.
        output_index: of the same port.
        input_kind, output_kind: what has made these devices, padded with zeros; 16 bytes.
        input_made, output_made: they have a kind: they are not hardware.
        mark: as it is when the first chain sees it, in memory order.
        state: of its connection, a bit mask in memory order.
        packet_type: as `pkttype` has it.
        length: bytes from the network header on.
        walk_ends: the walk over IPv6 extension headers finds an end.
        walk_protocol: the protocol that it finds there.
        walk_offset: where, from the network header.
        walk_later: it found a fragment that is not the first.
        large: the packet is one for the segmenting hardware, whose length field may be 0.
    """

    link: Bytes = field(default_factory=lambda: _bytes("link", ETHERNET_ADDRESSES_BYTES))
    kind: Bytes = field(default_factory=lambda: _bytes("kind", 2))
    said: Bytes = field(default_factory=lambda: _bytes("said", 2))
    tagged: Truth = field(default_factory=lambda: z3.Bool("tagged"))
    tag: Bytes = field(default_factory=lambda: _bytes("tag", VLAN_BYTES))
    input_name: Bytes = field(default_factory=lambda: _bytes("input", NAME_BYTES))
    output_name: Bytes = field(default_factory=lambda: _bytes("output", NAME_BYTES))
    input_index: Bytes = field(default_factory=lambda: _bytes("input_index", 4))
    output_index: Bytes = field(default_factory=lambda: _bytes("output_index", 4))
    input_kind: Bytes = field(default_factory=lambda: _bytes("input_kind", NAME_BYTES))
    output_kind: Bytes = field(default_factory=lambda: _bytes("output_kind", NAME_BYTES))
    input_made: Truth = field(default_factory=lambda: z3.Bool("input_made"))
    output_made: Truth = field(default_factory=lambda: z3.Bool("output_made"))
    mark: Bytes = field(default_factory=lambda: _bytes("mark", 4))
    state: Bytes = field(default_factory=lambda: _bytes("state", 4))
    packet_type: Byte = field(default_factory=lambda: _byte("packet_type"))
    short_protocol: Byte = field(default_factory=lambda: _byte("short_protocol"))
    length: Bits = field(default_factory=lambda: z3.BitVec("length", LENGTH_BITS))
    walk_ends: Truth = field(default_factory=lambda: z3.Bool("walk_ends"))
    walk_protocol: Byte = field(default_factory=lambda: _byte("walk_protocol"))
    walk_offset: Bits = field(default_factory=lambda: z3.BitVec("walk_offset", LENGTH_BITS))
    walk_later: Truth = field(default_factory=lambda: z3.Bool("walk_later"))
    large: Truth = field(default_factory=lambda: z3.Bool("large"))
    _network: dict[int, Byte] = field(default_factory=dict)
    _transport: dict[int, Byte] = field(default_factory=dict)
    _derived: dict[tuple[object, ...], z3.ExprRef] = field(default_factory=dict)

    def network(self, offset: int, length: int) -> Bytes:
        """Return bytes of the network header; whether they are there, `reaches` tells."""
        return tuple(self._kept(self._network, "network", place) for place in range(offset, offset + length))

    def transport(self, offset: int, length: int) -> Bytes:
        """Return bytes of the transport header."""
        return tuple(
            self._kept(self._transport, "transport", place) for place in range(offset, offset + length)
        )

    def frame(self, offset: int, length: int) -> Bytes:
        """Return bytes from the Ethernet header on, the tag put back where it was."""
        return tuple(self._frame_byte(place) for place in range(offset, offset + length))

    def load(self, base: Base, offset: int, length: int) -> Bytes:
        """Return what a payload expression loads."""
        match base:
            case Base.LINK:
                return self.frame(offset, length)
            case Base.NETWORK:
                return self.network(offset, length)
            case Base.TRANSPORT:
                return self.transport(offset, length)

    def reaches(self, base: Base, end: int) -> Truth:
        """Return whether the packet has bytes up to `end` of this header, exclusive."""
        return self._once("reaches", base, end, build=lambda: self._reaches(base, end))

    def loads(self, base: Base, offset: int, length: int) -> Truth:
        """Return whether the kernel loads these bytes.

        Where a later fragment has no transport header, `nft_payload_fast_eval` of some kernels (6.18 is one)
        reads one all the same, for loads of 1, 2 and 4 bytes. So it is left open whether they do.
        """
        there = self.reaches(base, offset + length)
        if base is not Base.TRANSPORT or length not in MISREAD_LENGTHS:
            return there
        misread = both(self.has_transport(), self.later_fragment(), z3.Bool(f"misread {offset} {length}"))
        return self._once("loads", offset, length, build=lambda: z3.Or(there, misread))

    def _reaches(self, base: Base, end: int) -> Truth:
        if base is Base.LINK:
            return self._frame_reaches(end)
        if base is Base.NETWORK:
            return z3.UGE(self.length, end)
        return both(
            self.has_transport(),
            z3.Not(self.later_fragment()),
            z3.ULE(self.transport_offset() + end, self.length),
        )

    def has_transport(self) -> Truth:
        """Return whether the kernel found a transport header (`NFT_PKTINFO_L4PROTO`)."""
        return self._once("has_transport", build=lambda: z3.Or(self._valid_ipv4(), self._valid_ipv6()))

    def protocol(self) -> Byte:
        """Return the transport protocol; of meaning only where there is a transport header."""
        return self._once("protocol", build=self._protocol)

    def _protocol(self) -> Byte:
        return z3.If(
            self.is_ipv4(),
            self.network(9, 1)[0],
            z3.If(self.extended(), self.walk_protocol, self.network(6, 1)[0]),
        )

    def later_fragment(self) -> Truth:
        """Return whether it is a fragment that is not the first."""
        offset = joined(self.network(6, 2)) & 0x1FFF
        return self._once(
            "later",
            build=lambda: z3.If(self.is_ipv4(), offset != 0, z3.And(self.extended(), self.walk_later)),
        )

    def transport_offset(self) -> Bits:
        """Return where the transport header begins, from the network header."""
        return self._once("transport_offset", build=self._transport_offset)

    def _transport_offset(self) -> Bits:
        return z3.If(
            self.is_ipv4(),
            self._ipv4_header_length(),
            z3.If(self.extended(), self.walk_offset, z3.BitVecVal(40, LENGTH_BITS)),
        )

    def is_ipv4(self) -> Truth:
        """Return whether the Ethernet type says IPv4."""
        return self._once("is_ipv4", build=lambda: equal(self.kind, IPV4))

    def is_ipv6(self) -> Truth:
        """Return whether the Ethernet type says IPv6."""
        return self._once("is_ipv6", build=lambda: equal(self.kind, IPV6))

    def extended(self) -> Truth:
        """Return whether the IPv6 header is followed by an extension header."""
        following = self.network(6, 1)[0]
        return self._once("extended", build=lambda: z3.Or(*(following == kind for kind in EXTENSIONS)))

    def ethernet_protocol(self) -> Bytes:
        """Return `skb->protocol`, 2 bytes: the Ethernet type, or 1 or 4 for a length (IEEE 802.3)."""
        named = z3.UGE(joined(self.kind), LEAST_ETHERTYPE)
        short = (z3.BitVecVal(0, 8), self.short_protocol)
        return tuple(z3.If(named, one, other) for one, other in zip(self.kind, short, strict=True))

    def length_bytes(self) -> Bytes:
        """Return the packet's length as the kernel keeps it: 4 bytes in memory order."""
        data = split(z3.ZeroExt(32 - LENGTH_BITS, self.length), 4)
        return data if sys.byteorder == "big" else data[::-1]

    def possible(self) -> Truth:
        """Return what holds for every packet that can be."""
        tag_kind = joined(self.tag[:2])
        walked = [self.walk_protocol != kind for kind in EXTENSIONS]
        states = [equal(self.state, (1 << bit).to_bytes(4, sys.byteorder)) for bit in (0, 1, 2, 3, 6)]
        return z3.And(
            z3.Or(tag_kind == 0x8100, tag_kind == 0x88A8),
            z3.Or(self.short_protocol == 1, self.short_protocol == 4),
            z3.Or(*states),
            z3.ULE(self.length, 0xFFFF),
            z3.UGE(self.walk_offset, 48),
            z3.ULE(self.walk_offset, 0xFFFF),
            *walked,
            self._fragment_header(),
            *_named(self.input_name),
            *_named(self.output_name),
        )

    def _fragment_header(self) -> Truth:
        """A fragment header right behind the IPv6 header is walked over exactly: rules read it too."""
        following = self.network(40, 1)[0]
        offset = joined(self.network(42, 2)) & 0xFFF8
        known = z3.And(*(following != kind for kind in EXTENSIONS))
        there = z3.UGE(self.length, 44)
        ends = z3.And(self.walk_ends == there, self.walk_protocol == following)
        later = z3.If(known, ends, z3.Not(self.walk_ends))
        first = z3.Implies(known, z3.And(ends, self.walk_offset == 48, z3.Not(self.walk_later)))
        exact = z3.If(offset != 0, z3.And(self.walk_later, later), first)
        exact = z3.And(exact, z3.Implies(self.walk_ends, there))
        return z3.Implies(self.network(6, 1)[0] == FRAGMENT, exact)

    def _kept(self, known: dict[int, Byte], name: str, place: int) -> Byte:
        if place not in known:
            known[place] = _byte(f"{name}{place}")
        return known[place]

    def _once(self, *name: object, build: Callable[[], z3.ExprRef]) -> z3.ExprRef:
        if name not in self._derived:
            self._derived[name] = build()
        return self._derived[name]

    def _frame_byte(self, place: int) -> Byte:
        if place < ETHERNET_ADDRESSES_BYTES:
            return self.link[place]
        tagged = (*self.tag, *self.kind)
        plain = place - ETHERNET_ADDRESSES_BYTES
        without = self.kind[plain] if plain < 2 else self.network(plain - 2, 1)[0]
        within = tagged[plain] if plain < 6 else self.network(plain - 6, 1)[0]
        return z3.If(self.tagged, within, without)

    def _frame_reaches(self, end: int) -> Truth:
        plain = max(0, end - ETHERNET_BYTES)
        tagged = max(0, end - ETHERNET_BYTES - VLAN_BYTES)
        if not plain:
            return z3.BoolVal(True)
        return z3.If(self.tagged, z3.UGE(self.length, tagged), z3.UGE(self.length, plain))

    def _ipv4_header_length(self) -> Bits:
        words = z3.Extract(3, 0, self.network(0, 1)[0])
        return z3.ZeroExt(LENGTH_BITS - 4, words) << 2

    def _valid_ipv4(self) -> Truth:
        header = self._ipv4_header_length()
        said = z3.ZeroExt(LENGTH_BITS - 16, joined(self.network(2, 2)))
        total = z3.If(z3.And(said == 0, self.large), self.length, said)
        return z3.And(
            self.is_ipv4(),
            z3.UGE(self.length, 20),
            z3.Extract(7, 4, self.network(0, 1)[0]) == 4,
            z3.UGE(header, 20),
            z3.ULE(total, self.length),
            z3.UGE(total, header),
        )

    def _valid_ipv6(self) -> Truth:
        said = z3.ZeroExt(LENGTH_BITS - 16, joined(self.network(4, 2)))
        payload = z3.If(z3.And(said == 0, self.large), self.length - 40, said)
        return z3.And(
            self.is_ipv6(),
            z3.UGE(self.length, 40),
            z3.Extract(7, 4, self.network(0, 1)[0]) == 6,
            z3.ULE(payload + 40, self.length),
            z3.Or(z3.Not(self.extended()), self.walk_ends),
        )


def _named(name: Bytes) -> list[Truth]:
    """A name is not empty, and only zeros follow the first zero."""
    padded = [z3.Implies(one == 0, other == 0) for one, other in pairwise(name)]
    return [name[0] != 0, name[-1] == 0, *padded]
