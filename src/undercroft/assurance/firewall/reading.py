"""Fields of a packet as the meaning speaks of them: bytes, and whether the packet has them.

A field that is not there is equal to nothing and in no set. Offsets are written here anew from the standards,
not taken from the compiler: IEEE 802.3, RFC 791, 826, 792, 8200, 4443, 4861, 9293, 768.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import z3

from undercroft.assurance.firewall.contents import Sets
from undercroft.assurance.firewall.packet import SymbolicPacket
from undercroft.assurance.firewall.terms import (
    TRUE,
    ZERO,
    Bytes,
    Truth,
    both,
    either,
    equal,
    joined,
    negated,
    same,
)
from undercroft.firewall.kernel import REGISTER_BYTES, Base

TAP = b"tun".ljust(16, b"\0")


@dataclass(frozen=True, slots=True)
class Field:
    """Some bytes of a packet, of meaning only where they are `there`."""

    data: Bytes
    there: Truth = TRUE

    def reads(self, value: bytes) -> Truth:
        """Return whether the field is there and is this."""
        return both(self.there, equal(self.data, value))

    def among(self, values: Iterable[bytes]) -> Truth:
        """Return whether the field is there and is one of these."""
        return both(self.there, either([equal(self.data, value) for value in values]))

    def has_bits(self, mask: int) -> Truth:
        """Return whether the field is there and any bit under the mask is set."""
        return both(self.there, (joined(self.data) & mask) != 0)


@dataclass(slots=True)
class Reading:
    """A packet with its sets, as the meaning looks at it."""

    packet: SymbolicPacket
    sets: Sets
    _fields: dict[tuple[Base, int, int], Field] = field(default_factory=dict)

    def part(self, base: Base, offset: int, length: int) -> Field:
        """Return bytes of one of the headers."""
        known = (base, offset, length)
        if known not in self._fields:
            self._fields[known] = Field(
                self.packet.load(base, offset, length), self.packet.reaches(base, offset + length)
            )
        return self._fields[known]

    def network(self, offset: int, length: int) -> Field:
        """Return bytes from the network header on."""
        return self.part(Base.NETWORK, offset, length)

    def transport(self, offset: int, length: int) -> Field:
        """Return bytes from the transport header on."""
        return self.part(Base.TRANSPORT, offset, length)

    def is_plain(self, kind: bytes) -> Truth:
        """Return whether the frame bears no tag and is of this Ethernet type."""
        return both(negated(self.packet.tagged), equal(self.packet.kind, kind))

    def holds(self, kind: bytes) -> Truth:
        """Return whether what is in the frame, behind its tag if it has one, is of this Ethernet type."""
        return equal(self.packet.kind, kind)

    def is_said_rightly(self) -> Truth:
        """Return whether the host's stack knows a frame of its own by the type that stands in it."""
        return same(joined(self.packet.said), joined(self.packet.kind))

    def in_vlan(self, mark: Field) -> Truth:
        """Return whether the frame bears an 802.1Q tag whose id is granted to the class of this mark."""
        kind, (high, low) = self.packet.tag[:2], self.packet.tag[2:]
        granted = self.in_set("vlans", mark, Field((high & 0x0F, low)))
        return both(self.packet.tagged, equal(kind, b"\x81\x00"), granted)

    @property
    def input_name(self) -> Field:
        """The port where it comes in."""
        return Field(self.packet.input_name)

    @property
    def output_name(self) -> Field:
        """The port where it goes out."""
        return Field(self.packet.output_name)

    @property
    def comes_by_tap(self) -> Truth:
        """Whether the port where it comes in is a tap: a device that a program holds the other end of."""
        return Field(self.packet.input_kind, self.packet.input_made).reads(TAP)

    @property
    def leaves_by_tap(self) -> Truth:
        """Whether the port where it goes out is a tap."""
        return Field(self.packet.output_kind, self.packet.output_made).reads(TAP)

    @property
    def target_mac(self) -> Field:
        """The Ethernet header's destination."""
        return Field(self.packet.link[:6])

    @property
    def source_mac(self) -> Field:
        """The Ethernet header's source."""
        return Field(self.packet.link[6:])

    @property
    def protocol(self) -> Field:
        """The transport protocol, as the kernel finds it."""
        return Field((self.packet.protocol(),), self.packet.has_transport())

    def in_set(self, name: str, *fields: Field) -> Truth:
        """Return whether the fields are there and are an element of a set, or a key of a map."""
        return both(*(item.there for item in fields), self.sets.holds(name, key(*fields)))


def key(*fields: Field) -> Bytes:
    """Return the key that fields make: each filled up with zeros where there are several."""
    if len(fields) == 1:
        return fields[0].data
    return tuple(
        byte for item in fields for byte in (*item.data, *((ZERO,) * (-len(item.data) % REGISTER_BYTES)))
    )


def starts_with(name: Bytes, prefix: str) -> Truth:
    """Return whether a name begins so."""
    data = prefix.encode()
    return equal(name[: len(data)], data) if data else z3.BoolVal(True)
