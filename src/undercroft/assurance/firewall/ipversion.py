"""Fields of one IP version as `answers` speaks of them: ends, tuples, fragments, echoes."""

from dataclasses import dataclass

from undercroft.assurance.firewall.reading import Field, Reading
from undercroft.assurance.firewall.senders import FRAGMENT, ICMP, ICMPV6, IPV4, IPV6, later_fragment6
from undercroft.assurance.firewall.terms import Truth, both, negated


def is_whole4(reading: Reading) -> Truth:
    """Return whether it is IPv4 that does not say that it is a fragment (RFC 791)."""
    return both(reading.holds(IPV4), negated(reading.network(6, 2).has_bits(0x3FFF)))


@dataclass(slots=True)
class IpVersion:
    """Fields of one IP version."""

    reading: Reading
    number: int

    @property
    def plain(self) -> Truth:
        """The packet is of this version."""
        return self.reading.holds(IPV4 if self.number == 4 else IPV6)

    @property
    def source(self) -> Field:
        """The address that it comes from."""
        return self.reading.network(12, 4) if self.number == 4 else self.reading.network(8, 16)

    @property
    def target(self) -> Field:
        """The address that it goes to."""
        return self.reading.network(16, 4) if self.number == 4 else self.reading.network(24, 16)

    @property
    def packet_id(self) -> Field:
        """What all fragments of one packet have in common."""
        return self.reading.network(4, 2) if self.number == 4 else self.reading.network(44, 4)

    @property
    def answer(self) -> tuple[Field, ...]:
        """The tuple of what answers to it."""
        source_port, target_port = self.reading.transport(0, 2), self.reading.transport(2, 2)
        return (self.target, self.source, self.reading.protocol, target_port, source_port)

    @property
    def itself(self) -> tuple[Field, ...]:
        """Its own tuple."""
        source_port, target_port = self.reading.transport(0, 2), self.reading.transport(2, 2)
        return (self.source, self.target, self.reading.protocol, source_port, target_port)

    @property
    def icmp(self) -> bytes:
        """The number of its ICMP."""
        return ICMP if self.number == 4 else ICMPV6

    def is_echo(self, *, reply: bool) -> Truth:
        """An echo request, or a reply to one."""
        kinds = {(4, False): 8, (4, True): 0, (6, False): 128, (6, True): 129}
        message = bytes((kinds[self.number, reply], 0))
        return both(
            self.plain, self.reading.protocol.reads(self.icmp), self.reading.transport(0, 2).reads(message)
        )

    def has_more_fragments(self) -> Truth:
        """More of the packet follows."""
        if self.number == 4:
            return self.reading.network(6, 2).has_bits(0x2000)
        return both(self.reading.network(6, 1).reads(FRAGMENT), self.reading.network(42, 2).has_bits(0x0001))

    def is_later_fragment(self) -> Truth:
        """A fragment without a transport header."""
        if self.number == 4:
            return self.reading.network(6, 2).has_bits(0x1FFF)
        return later_fragment6(self.reading)
