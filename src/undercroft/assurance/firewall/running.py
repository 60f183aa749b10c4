"""What is known while a table runs over any packet: registers, verdicts, what was written, where it leads."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import z3

from undercroft.assurance.firewall.terms import (
    FALSE,
    ZERO,
    Byte,
    Bytes,
    Truth,
    both,
    either,
    negated,
)
from undercroft.errors import UnsupportedError
from undercroft.firewall.kernel import (
    REGISTER_BYTES,
    REGISTERS,
    Code,
    Limit,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Written:
    """A key that a packet puts into a dynamic set, or whose timeout it renews, where `condition` holds."""

    set_name: str
    condition: Truth
    key: Bytes
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where packets leave what was looked at: a chain, or a map of verdicts with its key."""

    name: str
    key: Bytes
    condition: Truth
    after_writing: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """What a hook does: whether the packet goes on, the mark that it then has, and what was written.

    `arrivals` is of packets that go to a chain at which the look was cut; they are not in `accepted`.
    """

    accepted: Truth
    mark: Bytes
    written: tuple[Written, ...]
    arrivals: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True)
class Cuts:
    """Chains at which a look ends, and those that maps may give beside them."""

    chains: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()


Writes = tuple[Written, ...]


@dataclass(slots=True)
class RuleRun:
    """A rule as it runs.

    Attributes:
        place: for messages.
        live: for which packets it still runs.
        known: what they have written before.
        registers: by byte.
        verdicts: what it has come to, for which packets.
        ended: for which packets it has come to a verdict.
        writes: what it writes itself.
    """

    place: str
    live: Truth
    known: Writes
    registers: list[Byte | None] = field(default_factory=lambda: [None] * (REGISTERS * REGISTER_BYTES))
    verdicts: list[tuple[Truth, Verdict]] = field(default_factory=list)
    ended: list[Truth] = field(default_factory=list)
    writes: list[Written] = field(default_factory=list)

    def read(self, register: int, length: int) -> Bytes:
        """Return bytes that the rule has put there before."""
        start = register * REGISTER_BYTES
        found = self.registers[start : start + length]
        known = tuple(byte for byte in found if byte is not None)
        if not length or len(known) != length:
            raise UnsupportedError(
                f"{self.place}: reads {length} bytes of register {register}, which this rule has not set: "
                "their content is not defined, look at the rule"
            )
        return known

    def write(self, register: int, data: Sequence[Byte]) -> None:
        """Put bytes into registers; the rest of the last one becomes zero."""
        start, length = register * REGISTER_BYTES, len(data)
        padded = (*data, *((ZERO,) * (-length % REGISTER_BYTES)))
        if not data or register < 0 or start + len(padded) > len(self.registers):
            raise UnsupportedError(f"{self.place}: {length} bytes do not fit into register {register}")
        self.registers[start : start + len(padded)] = padded

    def require(self, condition: Truth) -> None:
        """End the rule for packets that do not meet this."""
        self.live = both(self.live, condition)

    def conclude(self, verdicts: Sequence[tuple[Truth, Verdict]]) -> None:
        """Give verdicts to all that is live; those to which `continue` is given go on with the rule."""
        going = [condition for condition, verdict in verdicts if verdict.code is Code.CONTINUE]
        rest = either(going)
        self.verdicts += [pair for pair in verdicts if pair[1].code is not Code.CONTINUE]
        self.ended.append(self.live if rest is FALSE else both(self.live, negated(rest)))
        self.live = both(self.live, rest)

    def left(self) -> Writes:
        """Return what may have been written by packets that go on with the next rule."""
        ended = {id(condition) for condition in self.ended}
        return tuple(write for write in self.writes if id(write.condition) not in ended)


@dataclass(slots=True)
class ChainRun:
    """A chain that runs, with all that it goes or jumps to.

    Attributes:
        mark: of the packet, as the rules before have left it.
        accepted: for which packets it came to `accept`.
        written: all that was written.
        arrivals: what left it at a cut.
        pending: where packets go that will not come back; None where they come back to a rule that jumped.
        returned: which packets come to an end without a verdict, with what they have written.
    """

    mark: Bytes
    accepted: list[Truth] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    pending: dict[str, list[tuple[Truth, Writes]]] | None = None
    returned: list[tuple[Truth, Writes]] = field(default_factory=list)


def room(set_name: str) -> Truth:
    """Return whether a dynamic set has room for one element more; left open."""
    return z3.Bool(f"room {set_name}")


def within(set_name: str, limit: Limit) -> Truth:
    """Return whether a key of a dynamic set is within its limit; left open, for each limit by itself."""
    return z3.Bool(f"within {limit.rate} in {limit.per_s} s, burst {limit.burst}, of {set_name}")


def host_order(value: int) -> bytes:
    """Return a 32-bit number as the kernel keeps it in memory."""
    return value.to_bytes(4, sys.byteorder)
