"""When a packet between two sides passes: because its service is allowed, or because it answers.

Three things may pass from S to T: what S may open of T; what answers to something that T may open of S, and
has opened; and what belongs to one of these, that is later fragments and ICMP errors. What is opened is
remembered by the tuple of its answer, so what a packet writes is a part of the meaning too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from undercroft.assurance.firewall.places import KIND_MASK, MACHINE, OURS, Place
from undercroft.assurance.firewall.reading import Field, Reading, key
from undercroft.assurance.firewall.running import Written, host_order, room
from undercroft.assurance.firewall.senders import (
    FRAGMENT,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    TCP,
    later_fragment6,
)
from undercroft.assurance.firewall.terms import TRUE, Truth, both, either, equal, negated
from undercroft.firewall.kernel import Base

ECHO_MS = 30_000
FRAGMENT_MS = 30_000
ESTABLISHED, RELATED = 2, 4


@dataclass(frozen=True, slots=True)
class Timing:
    """How the policy remembers: by the kernel's connection tracking, or with these timeouts."""

    conntrack: bool
    tcp_ms: int = 0
    other_ms: int = 0


@dataclass(slots=True)
class _Version:
    """Fields of one IP version."""

    reading: Reading
    number: int

    @property
    def plain(self) -> Truth:
        return self.reading.holds(IPV4 if self.number == 4 else IPV6)

    @property
    def source(self) -> Field:
        return self.reading.network(12, 4) if self.number == 4 else self.reading.network(8, 16)

    @property
    def target(self) -> Field:
        return self.reading.network(16, 4) if self.number == 4 else self.reading.network(24, 16)

    @property
    def packet_id(self) -> Field:
        return self.reading.network(4, 2) if self.number == 4 else self.reading.network(44, 4)

    @property
    def icmp(self) -> bytes:
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


class Passing:
    """What passes between sides, with all that it writes, gathered over all targets."""

    def __init__(self, reading: Reading, mark: Field, timing: Timing) -> None:
        """Take a packet, with the mark that tells whose it is."""
        self._reading = reading
        self._mark = mark
        self._timing = timing
        self._versions = (_Version(reading, 4), _Version(reading, 6))
        self._opens: list[Truth] = []
        self._answers: list[Truth] = []
        self._pings: list[Truth] = []
        self._pongs: list[Truth] = []
        self._others: list[Truth] = []

    def to(self, place: Place, reached: Truth) -> None:
        """Let what reaches a side pass as the policy has it for the two."""
        reading, name = self._reading, place.name
        service = (self._mark, reading.protocol, reading.transport(2, 2))
        back = (self._mark, reading.protocol, reading.transport(0, 2))
        opens = reading.in_set(f"to-{name}", *service)
        answers = both(negated(opens), reading.in_set(f"back-{name}", *back))
        rest = both(reached, negated(either([opens, answers])))
        self._opens.append(both(reached, opens))
        self._answers.append(both(reached, answers))
        self._pings.append(both(rest, reading.in_set(f"ping-{name}", self._mark)))
        self._pongs.append(both(rest, reading.in_set(f"pong-{name}", self._mark)))
        self._others.append(both(rest, reading.in_set(f"near-{name}", self._mark)))

    def outcome(self) -> tuple[Truth, tuple[Written, ...]]:
        """Return what passes, and what that writes."""
        if self._timing.conntrack:
            return self._tracked(), ()
        passed: list[Truth] = []
        written: list[Written] = []
        for version in self._versions:
            kept = self._kept(version)
            through = either([write.condition for write in kept] + [self._answered_echo(version)])
            passed.append(through)
            written += [*kept, self._piece(version, through)]
            passed.append(both(either(self._others), self._belongs(version)))
        return either(passed), tuple(written)

    def _kept(self, version: _Version) -> list[Written]:
        """What opens a flow, answers in one, or asks for an echo, with what it leaves behind."""
        reading = self._reading
        source_port, target_port, protocol = (
            reading.transport(0, 2),
            reading.transport(2, 2),
            reading.protocol,
        )
        answer = (version.target, version.source, protocol, target_port, source_port)
        itself = (version.source, version.target, protocol, source_port, target_port)
        flows, echoes = f"flows{version.number}", f"echoes{version.number}"
        echo = (version.target, version.source, reading.transport(4, 2))
        tcp = protocol.reads(TCP)
        written = []
        for is_kind, timeout_ms in (
            (tcp, self._timing.tcp_ms),
            (both(protocol.there, negated(tcp)), self._timing.other_ms),
        ):
            opened = both(either(self._opens), version.plain, is_kind, self._fits(flows, *answer))
            answered = both(either(self._answers), version.plain, is_kind, reading.in_set(flows, *itself))
            written.append(Written(flows, opened, key(*answer), timeout_ms))
            written.append(Written(flows, answered, key(*itself), timeout_ms))
        asked = both(either(self._pings), version.is_echo(reply=False), self._fits(echoes, *echo))
        return [*written, Written(echoes, asked, key(*echo), ECHO_MS)]

    def _answered_echo(self, version: _Version) -> Truth:
        echo = (version.source, version.target, self._reading.transport(4, 2))
        known = self._reading.in_set(f"echoes{version.number}", *echo)
        return both(either(self._pongs), version.is_echo(reply=True), known)

    def _piece(self, version: _Version, through: Truth) -> Written:
        """A first fragment that passes lets the later ones of its packet pass, where there is room."""
        piece = (version.source, version.target, self._reading.protocol, version.packet_id)
        name = f"pieces{version.number}"
        condition = both(through, version.has_more_fragments(), self._fits(name, *piece))
        return Written(name, condition, key(*piece), FRAGMENT_MS)

    def _fits(self, name: str, *fields: Field) -> Truth:
        """Return whether the fields are there, and the set has them or has room for them."""
        return both(
            *(item.there for item in fields), either([self._reading.in_set(name, *fields), room(name)])
        )

    def _belongs(self, version: _Version) -> Truth:
        """Later fragments of what has passed, and errors about flows of their receiver."""
        piece = (version.source, version.target, self._reading.protocol, version.packet_id)
        later = both(version.is_later_fragment(), self._reading.in_set(f"pieces{version.number}", *piece))
        return both(version.plain, either([later, both(self._is_error(version), self._error(version))]))

    def _is_error(self, version: _Version) -> Truth:
        kind = self._reading.transport(0, 1)
        return both(
            self._reading.protocol.reads(version.icmp), self._reading.in_set(f"errors{version.number}", kind)
        )

    def _error(self, version: _Version) -> Truth:
        """The packet in it (from byte 8 on) is of a flow that the error's receiver takes part in.

        A machine tells of flows of its own only: the flow's other end is then the error's sender.
        """
        part = self._reading.part
        base = Base.TRANSPORT
        if version.number == 4:
            not_plain = both(part(base, 8, 1).there, negated(part(base, 8, 1).reads(b"\x45")))
            bad = either([not_plain, part(base, 14, 2).has_bits(0x1FFF)])
            protocol, inner_target, ports = part(base, 17, 1), part(base, 24, 4), 28
        else:
            unknown = both(
                part(base, 14, 1).there, negated(self._reading.in_set("headers6", part(base, 14, 1)))
            )
            bad = unknown
            protocol, inner_target, ports = part(base, 14, 1), part(base, 32, 16), 48
        machine = equal_mark(self._mark, KIND_MASK, OURS + MACHINE)
        inner = (protocol, ports)
        return both(
            negated(bad),
            either(
                [
                    both(machine, self._of_flow(version, version.source, inner)),
                    both(negated(machine), self._of_flow(version, inner_target, inner)),
                ]
            ),
        )

    def _of_flow(self, version: _Version, peer: Field, inner: tuple[Field, int]) -> Truth:
        protocol, at = inner
        reading, receiver = self._reading, version.target
        source_port, target_port = reading.transport(at, 2), reading.transport(at + 2, 2)
        flows = f"flows{version.number}"
        request = b"\x08\x00" if version.number == 4 else b"\x80\x00"
        return either(
            [
                reading.in_set(flows, peer, receiver, protocol, target_port, source_port),
                reading.in_set(flows, receiver, peer, protocol, source_port, target_port),
                both(
                    protocol.reads(version.icmp),
                    reading.transport(at, 2).reads(request),
                    reading.in_set(f"echoes{version.number}", peer, receiver, reading.transport(at + 4, 2)),
                ),
            ]
        )

    def _tracked(self) -> Truth:
        """The same where the kernel tracks connections: it knows what answers and what is related."""
        state = Field(self._reading.packet.state)
        established = equal_mark(state, ESTABLISHED, ESTABLISHED)
        related = equal_mark(state, RELATED, RELATED)
        passed = [either(self._opens), both(either(self._answers), established)]
        for version in self._versions:
            passed += [
                both(either(self._pings), version.is_echo(reply=False)),
                both(either(self._pongs), version.is_echo(reply=True), established),
                both(either(self._others), version.plain, self._is_error(version), related),
            ]
        return either(passed)


def equal_mark(mark: Field, mask: int, value: int) -> Truth:
    """Return whether the bits of a mark under a mask are these; both as the host has them in memory."""
    kept: Sequence[int] = host_order(mask)
    wanted: Sequence[int] = host_order(value)
    parts = []
    for byte, bits, found in zip(mark.data, kept, wanted, strict=True):
        if bits == 0xFF:
            parts.append(equal((byte,), bytes([found])))
        elif bits:
            parts.append(equal((byte & bits,), bytes([found])))
    return both(TRUE, *parts)
