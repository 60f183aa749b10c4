"""When a packet between two sides passes: because its service is allowed, or because it answers.

Three things may pass from S to T: what S may open of T; what answers to something that T may open of S, and
has opened; and what belongs to one of these, that is later fragments and ICMP errors. What is opened is
remembered by the tuple of its answer, so what a packet writes is a part of the meaning too.

There are two memories. An opening is in the short one until it is answered: apart for machines and the host,
whose name nobody else can take, and for all others, who may be anybody. New places there are given at a rate:
to each machine's address, and of others to each address that they open to. The first answer makes it a flow,
where it is more than a forged opening gets: TCP's SYN-ACK and reset are none. Answers renew flows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from undercroft.assurance.firewall.ipversion import IpVersion
from undercroft.assurance.firewall.places import HOST_MARK, KIND_MASK, MACHINE, OURS, Kind, Place
from undercroft.assurance.firewall.reading import Field, Reading, key
from undercroft.assurance.firewall.running import Written, host_order, room, within
from undercroft.assurance.firewall.senders import TCP
from undercroft.assurance.firewall.terms import TRUE, Truth, both, either, equal, negated
from undercroft.firewall.kernel import Base, Limit
from undercroft.firewall.policy import FirewallPolicy

ECHO_MS = 30_000
FRAGMENT_MS = 10_000
TRY_MS = 30_000
RATE_MS = 60_000
RATES = ("tries-rate4", "tries-rate6", "knocks-rate4", "knocks-rate6")
SYN_OR_RST = 0x06
KNOWN = frozenset({Kind.MACHINES, Kind.HOST})
ESTABLISHED, RELATED = 2, 4


@dataclass(frozen=True, slots=True)
class Timing:
    """How the policy remembers: by the kernel's connection tracking, or with these timeouts and this rate."""

    conntrack: bool
    tcp_ms: int = 0
    other_ms: int = 0
    openings_per_s: int = 0

    @classmethod
    def of(cls, policy: FirewallPolicy, *, conntrack: bool) -> "Timing":
        """Return what a policy says."""
        tcp_ms, other_ms = 1000 * policy.tcp_state_s, 1000 * policy.other_state_s
        return cls(conntrack, tcp_ms, other_ms, policy.openings_per_s)

    @property
    def rate(self) -> Limit:
        """Of new openings."""
        return Limit(rate=self.openings_per_s, per_s=1, burst=4 * self.openings_per_s)


class Passing:
    """What passes between sides, with all that it writes, gathered over all targets."""

    def __init__(self, reading: Reading, mark: Field, timing: Timing) -> None:
        """Take a packet, with the mark that tells whose it is."""
        self._reading = reading
        self._mark = mark
        self._timing = timing
        self._versions = (IpVersion(reading, 4), IpVersion(reading, 6))
        self._opens: list[Truth] = []
        self._answers: dict[str, list[Truth]] = {"tries": [], "knocks": []}
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
        waiting = "tries" if place.kind in KNOWN else "knocks"
        self._answers[waiting].append(both(reached, answers))
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
            kept = list(self._kept(version))
            through = either([self._answered_echo(version), *(passing for passing, _ in kept)])
            passed.append(through)
            written += [write for _, writes in kept for write in writes]
            written.append(self._piece(version, through))
            passed.append(both(either(self._others), negated(self._asks(version)), self._belongs(version)))
        return either(passed), tuple(written)

    def _kept(self, version: IpVersion) -> Iterator[tuple[Truth, tuple[Written, ...]]]:
        """Yield what passes as it opens, answers or asks for an echo, with what it leaves behind."""
        opens = both(either(self._opens), version.plain)
        asks = self._asks(version)
        flow = self._reading.in_set(f"flows{version.number}", *version.answer)
        yield both(opens, flow), ()
        echo = (version.target, version.source, self._reading.transport(4, 2))
        for waiting, opener in (("tries", self._is_known()), ("knocks", negated(self._is_known()))):
            name, echoes = f"{waiting}{version.number}", f"echoes{version.number}"
            tries = both(opens, opener, negated(flow))
            yield self._new(version, waiting, tries, name, version.answer, TRY_MS)
            yield self._new(version, waiting, both(asks, opener), echoes, echo, ECHO_MS)
            yield self._answered(version, waiting)

    def _asks(self, version: IpVersion) -> Truth:
        """It asks for an echo, and may."""
        return both(either(self._pings), version.is_echo(reply=False))

    def _is_known(self) -> Truth:
        """It is of a machine, or of the host."""
        machine = equal_mark(self._mark, KIND_MASK, OURS + MACHINE)
        return either([machine, equal_mark(self._mark, 2**32 - 1, HOST_MARK)])

    def _new(
        self,
        version: IpVersion,
        waiting: str,
        reached: Truth,
        name: str,
        answer: tuple[Field, ...],
        timeout_ms: int,
    ) -> tuple[Truth, tuple[Written, ...]]:
        """What is remembered already is renewed, and what is new has a rate and needs room."""
        rate = f"{waiting}-rate{version.number}"
        counted = (self._mark, version.source if waiting == "tries" else version.target)
        known = self._reading.in_set(name, *answer)
        asked = both(reached, negated(known), self._fits(rate, *counted))
        new = both(asked, within(rate, self._timing.rate), self._fits(name, *answer))
        passes = either([both(reached, known), new])
        return passes, (
            Written(rate, asked, key(*counted), RATE_MS),
            Written(name, passes, key(*answer), timeout_ms),
        )

    def _answered(self, version: IpVersion, waiting: str) -> tuple[Truth, tuple[Written, ...]]:
        """What answers in a flow renews it; the first real answer to an opening makes one."""
        reading, flows = self._reading, f"flows{version.number}"
        answers = both(either(self._answers[waiting]), version.plain)
        flow = both(answers, reading.in_set(flows, *version.itself))
        first = both(answers, negated(flow), reading.in_set(f"{waiting}{version.number}", *version.itself))
        is_tcp, flags = reading.protocol.reads(TCP), reading.transport(13, 1)
        is_other = both(reading.protocol.there, negated(is_tcp))
        real = both(flags.there, negated(flags.has_bits(SYN_OR_RST)))
        kept = (
            (is_tcp, either([flow, both(first, real, room(flows))]), self._timing.tcp_ms),
            (is_other, either([flow, both(first, room(flows))]), self._timing.other_ms),
        )
        writes = (
            Written(flows, both(is_kind, written), key(*version.itself), timeout_ms)
            for is_kind, written, timeout_ms in kept
        )
        return either([flow, first]), tuple(writes)

    def _answered_echo(self, version: IpVersion) -> Truth:
        echo = (version.source, version.target, self._reading.transport(4, 2))
        known = self._reading.in_set(f"echoes{version.number}", *echo)
        return both(either(self._pongs), version.is_echo(reply=True), known)

    def _piece(self, version: IpVersion, through: Truth) -> Written:
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

    def _belongs(self, version: IpVersion) -> Truth:
        """Later fragments of what has passed, and errors about flows of their receiver."""
        piece = (version.source, version.target, self._reading.protocol, version.packet_id)
        later = both(version.is_later_fragment(), self._reading.in_set(f"pieces{version.number}", *piece))
        return both(version.plain, either([later, both(self._is_error(version), self._error(version))]))

    def _is_error(self, version: IpVersion) -> Truth:
        kind = self._reading.transport(0, 1)
        return both(
            self._reading.protocol.reads(version.icmp), self._reading.in_set(f"errors{version.number}", kind)
        )

    def _error(self, version: IpVersion) -> Truth:
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

    def _of_flow(self, version: IpVersion, peer: Field, inner: tuple[Field, int]) -> Truth:
        protocol, at = inner
        reading, receiver = self._reading, version.target
        source_port, target_port = reading.transport(at, 2), reading.transport(at + 2, 2)
        opened = (peer, receiver, protocol, target_port, source_port)
        answered = (receiver, peer, protocol, source_port, target_port)
        request = b"\x08\x00" if version.number == 4 else b"\x80\x00"
        return either(
            [
                *(
                    reading.in_set(f"{name}{version.number}", *of)
                    for name in ("flows", "tries", "knocks")
                    for of in (opened, answered)
                ),
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
        answers = either([*self._answers["tries"], *self._answers["knocks"]])
        passed = [either(self._opens), both(answers, established)]
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
