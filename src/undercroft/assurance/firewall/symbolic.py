"""What a table of the bridge family does with every packet, as Z3 terms.

Each expression follows the kernel's evaluation of it (Linux 6, net/netfilter): `nft_do_chain` in
nf_tables_core.c for rules, verdicts and the stack of jumps; `nft_payload_eval`, `nft_meta_get_eval` and
`nft_meta_set_eval`, `nft_cmp_eval`, `nft_range_eval`, `nft_bitwise_eval_mask_xor`, `nft_lookup_eval`,
`nft_immediate_eval`, `nft_dynset_eval`, `nft_ct_get_eval`, `nft_limit_eval` for the expressions. What a limit
lets through, and whether a dynamic set has room, is left open. What is not known here fails the proof and
names its place: an expression, a key, a register that its rule has not set, a set without a definition.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import z3

from undercroft.assurance.firewall.contents import Sets, key_bytes
from undercroft.assurance.firewall.packet import SymbolicPacket
from undercroft.assurance.firewall.terms import (
    FALSE,
    TRUE,
    ZERO,
    Byte,
    Bytes,
    Truth,
    both,
    chosen,
    constant,
    either,
    joined,
    negated,
    number,
    same,
)
from undercroft.errors import UnsupportedError
from undercroft.firewall.kernel import (
    REGISTER_BYTES,
    REGISTERS,
    Bitwise,
    Chain,
    Code,
    Compare,
    Conntrack,
    Counter,
    Expression,
    Hook,
    Immediate,
    Key,
    Limit,
    Load,
    Log,
    Lookup,
    Meta,
    Operator,
    Payload,
    Range,
    SetDefinition,
    SetMark,
    Table,
    Unknown,
    Update,
    Verdict,
)

MAX_JUMPS = 16
"""`NFT_JUMP_STACK_SIZE`: what a table may nest."""
DORMANT = 1
LIMIT = "limit"
BRIDGE_FAMILY = 7
_NO_NAME: Bytes = constant(bytes(16))
_NO_INDEX: Bytes = constant(bytes(4))


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


_Writes = tuple[Written, ...]


@dataclass(slots=True)
class _Frame:
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
    known: _Writes
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

    def left(self) -> _Writes:
        """Return what may have been written by packets that go on with the next rule."""
        ended = {id(condition) for condition in self.ended}
        return tuple(write for write in self.writes if id(write.condition) not in ended)


@dataclass(slots=True)
class _Run:
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
    pending: dict[str, list[tuple[Truth, _Writes]]] | None = None
    returned: list[tuple[Truth, _Writes]] = field(default_factory=list)


class Executor:
    """Runs a table's chains over a packet.

    A chain that packets go to for good runs once, for all that come to it; a chain that is jumped to runs
    once for each mark that packets may bring, and its outcome is taken over by each rule that jumps there.
    """

    def __init__(self, table: Table, packet: SymbolicPacket, sets: Sets, cuts: Cuts = Cuts()) -> None:
        """Take a table.

        Args:
            table: as it was read from the kernel.
            packet: any packet.
            sets: what sets and maps hold.
            cuts: where to end.

        Raises:
            UnsupportedError: the table does not filter at all, or its parts are not clear.
        """
        if table.flags & DORMANT:
            raise UnsupportedError(
                f"table {table.name}: it is dormant and filters nothing: apply the policy again"
            )
        for definition in table.sets:
            if definition.unknown:
                raise UnsupportedError(
                    f"set {definition.name}: {', '.join(definition.unknown)}: the proof does not know that, "
                    "nothing is proven while it stands there"
                )
        self._packet = packet
        self._sets = sets
        self._cuts = cuts
        self._chains = {chain.name: chain for chain in table.chains}
        self._definitions = {definition.name: definition for definition in table.sets}
        self._table = table
        self._hook = Hook.PREROUTING
        self._jumps: dict[tuple[object, ...], tuple[_Run, Bytes, _Writes]] = {}
        self._order: list[str] | None = None
        if len(self._chains) != len(table.chains) or len(self._definitions) != len(table.sets):
            raise UnsupportedError(f"table {table.name}: two chains or two sets have one name: read it again")

    def hook(self, hook: Hook, mark: Bytes) -> Passage:
        """Return what the base chains of a hook do, in the order of their priorities.

        Args:
            hook: which.
            mark: of the packet when it comes there, 4 bytes in memory order.

        Raises:
            UnsupportedError: something that is not known here; the message names its place.
        """
        chains = sorted(
            (chain for chain in self._table.chains if chain.hook is hook), key=lambda chain: chain.priority
        )
        for one, other in pairwise(chains):
            if one.priority == other.priority:
                raise UnsupportedError(
                    f"chains {one.name} and {other.name}: both have priority {one.priority} at {hook}, "
                    "their order is not known: give them different ones"
                )
        self._hook = hook
        self._jumps.clear()
        live, written, arrivals = TRUE, list[Written](), list[Arrival]()
        for chain in chains:
            if chain.policy not in {Code.ACCEPT, Code.DROP}:
                raise UnsupportedError(f"chain {chain.name}: policy {chain.policy} is none of the kernel's")
            run = _Run(mark, pending={})
            self._base(chain, live, tuple(written), run)
            rest = [condition for condition, _ in run.returned] if chain.policy is Code.ACCEPT else []
            live, mark = either([*run.accepted, *rest]), run.mark
            written += run.written
            arrivals += run.arrivals
        return Passage(live, mark, tuple(written), tuple(arrivals))

    def chain(self, name: str, hook: Hook, mark: Bytes) -> Passage:
        """Return what one chain does for packets that go to it for good, none of which it may send back.

        Raises:
            UnsupportedError: as `hook`, and where the chain's end is no verdict.
        """
        self._hook = hook
        self._jumps.clear()
        run = _Run(mark, pending={})
        if name not in self._chains:
            raise UnsupportedError(f"chain {name}: it is not in the table")
        self._base(self._chains[name], TRUE, (), run)
        if any(condition is not FALSE for condition, _ in run.returned):
            raise UnsupportedError(f"chain {name}: it may end without a verdict")
        return Passage(either(run.accepted), run.mark, tuple(run.written), tuple(run.arrivals))

    def _base(self, chain: Chain, live: Truth, known: _Writes, run: _Run) -> None:
        """Run a base chain, then what it goes to, each chain after all that may go there."""
        assert run.pending is not None
        run.pending[chain.name] = [(live, known)]
        for name in self._sorted():
            entries = run.pending.pop(name, [])
            if entries:
                known = _merged(writes for _, writes in entries)
                self._chain(self._chains[name], either([one for one, _ in entries]), known, run, 0)

    def _chain(self, chain: Chain, live: Truth, known: _Writes, run: _Run, depth: int) -> None:
        """Run a chain's rules; what comes to no verdict is added to `run.returned`."""
        if depth > MAX_JUMPS:
            raise UnsupportedError(f"chain {chain.name}: jumps nest deeper than {MAX_JUMPS}")
        for place, rule in enumerate(chain.rules, 1):
            if live is FALSE:
                return
            frame = _Frame(f"chain {chain.name}, rule {place}", live, known)
            for expression in rule.expressions:
                if frame.live is not FALSE:
                    self._expression(expression, frame, run)
            run.written += frame.writes
            # A verdict without a condition lets nothing by; the term would say so less plainly.
            whole = any(ended is live for ended in frame.ended)
            live = FALSE if whole else both(live, *(negated(ended) for ended in frame.ended))
            known = (*known, *frame.left())
            for condition, verdict in frame.verdicts:
                back = self._verdict(verdict, condition, frame, run, depth)
                if back is not None:
                    live, known = either([live, back[0]]), _merged((known, back[1]))
        run.returned.append((live, known))

    def _verdict(
        self, verdict: Verdict, condition: Truth, frame: _Frame, run: _Run, depth: int
    ) -> tuple[Truth, _Writes] | None:
        """Follow a verdict; return what comes back to the next rule."""
        known = (*frame.known, *frame.writes)
        match verdict.code:
            case Code.ACCEPT:
                run.accepted.append(condition)
            case Code.RETURN:
                run.returned.append((condition, known))
            case Code.GOTO if run.pending is not None and verdict.chain in self._cuts.chains:
                run.arrivals.append(Arrival(verdict.chain, (), condition, bool(known)))
            case Code.GOTO if run.pending is not None:
                target = self._target(verdict, frame.place)
                run.pending.setdefault(target.name, []).append((condition, known))
            case Code.GOTO:
                back = self._jump(self._target(verdict, frame.place), condition, known, run, depth)
                run.returned.append(back)
            case Code.JUMP:
                return self._jump(self._target(verdict, frame.place), condition, known, run, depth)
            case _:
                pass
        return None

    def _jump(
        self, chain: Chain, condition: Truth, known: _Writes, run: _Run, depth: int
    ) -> tuple[Truth, _Writes]:
        """Take over what a chain does, and return for which packets it comes to no verdict."""
        place = (chain.name, *map(id, run.mark), *map(id, known))
        if place not in self._jumps:
            inner = _Run(run.mark)
            self._chain(chain, TRUE, known, inner, depth + 1)
            self._jumps[place] = (inner, run.mark, known)  # what is named by id has to stay alive
        inner = self._jumps[place][0]
        run.accepted += [both(condition, accepted) for accepted in inner.accepted]
        run.written += [replace(write, condition=both(condition, write.condition)) for write in inner.written]
        run.mark = chosen(condition, inner.mark, run.mark)
        back = both(condition, either([returned for returned, _ in inner.returned]))
        return back, _merged(writes for returned, writes in inner.returned if returned is not FALSE)

    def _sorted(self) -> list[str]:
        """Return the chains, each after all that go or jump to it."""
        if self._order is None:
            done: dict[str, None] = {}
            for name in self._chains:
                self._visit(name, done, ())
            self._order = list(reversed(done))
        return self._order

    def _visit(self, name: str, done: dict[str, None], way: tuple[str, ...]) -> None:
        if name in way:
            raise UnsupportedError(f"chain {name}: it is reached from itself by {' -> '.join(way)}")
        if name in done:
            return
        for place, rule in enumerate(self._chains[name].rules, 1):
            for expression in rule.expressions:
                for verdict in self._given(expression):
                    if verdict.code in {Code.GOTO, Code.JUMP}:
                        target = self._target(verdict, f"chain {name}, rule {place}")
                        self._visit(target.name, done, (*way, name))
        done[name] = None

    def _given(self, expression: Expression) -> Sequence[Verdict]:
        if isinstance(expression, Immediate):
            return (expression.verdict,)
        if isinstance(expression, Lookup) and expression.verdicts:
            return self._sets.verdicts(expression.set_name)
        return ()

    def _target(self, verdict: Verdict, place: str) -> Chain:
        chain = self._chains.get(verdict.chain)
        if chain is None or chain.hook is not None:
            raise UnsupportedError(f"{place}: {verdict.code} to {verdict.chain!r}, no chain to go to")
        return chain

    def _expression(self, expression: Expression, frame: _Frame, run: _Run) -> None:
        match expression:
            case SetMark(register):
                run.mark = chosen(frame.live, frame.read(register, REGISTER_BYTES), run.mark)
            case Compare(register, operator, data):
                frame.require(_compared(frame.read(register, len(data)), operator, data))
            case Range(register, low, high, inverted):
                value = joined(frame.read(register, len(low)))
                within = both(z3.UGE(value, number(low)), z3.ULE(value, number(high)))
                frame.require(negated(within) if inverted else within)
            case Lookup():
                self._lookup(expression, frame, run)
            case Immediate(verdict):
                frame.conclude([(frame.live, verdict)])
            case Update():
                self._update(expression, frame)
            case Limit():
                frame.require(z3.Bool(f"{LIMIT} {frame.place}"))
            case Log() | Counter():
                pass
            case Unknown(name):
                raise UnsupportedError(
                    f"{frame.place}: {name!r} is an expression that the proof does not know: "
                    "nothing is proven while it stands there"
                )
            case _:
                self._load(expression, frame, run)

    def _load(
        self, expression: Payload | Meta | Bitwise | Load | Conntrack, frame: _Frame, run: _Run
    ) -> None:
        """Run what fills registers."""
        match expression:
            case Payload(register, base, offset, length):
                frame.require(self._packet.reaches(base, offset + length))
                frame.write(register, self._packet.load(base, offset, length))
            case Meta(register, key):
                self._meta(register, key, frame, run)
            case Bitwise(source, target, mask, xor):
                frame.write(target, _masked(frame.read(source, len(mask)), mask, xor))
            case Load(register, data):
                frame.write(register, constant(data))
            case Conntrack(register):
                frame.write(register, self._packet.state)

    def _meta(self, register: int, key: Key, frame: _Frame, run: _Run) -> None:
        packet = self._packet
        incoming = self._hook in {Hook.PREROUTING, Hook.INPUT, Hook.FORWARD}
        outgoing = self._hook in {Hook.FORWARD, Hook.OUTPUT, Hook.POSTROUTING}
        match key:
            case Key.INPUT_NAME:
                data = packet.input_name if incoming else _NO_NAME
            case Key.OUTPUT_NAME:
                data = packet.output_name if outgoing else _NO_NAME
            case Key.INPUT_INDEX:
                data = packet.input_index if incoming else _NO_INDEX
            case Key.OUTPUT_INDEX:
                data = packet.output_index if outgoing else _NO_INDEX
            case Key.MARK:
                data = run.mark
            case Key.PROTOCOL:
                data = packet.ethernet_protocol()
            case Key.NETWORK_FAMILY:
                data = constant(bytes([BRIDGE_FAMILY]))
            case Key.TRANSPORT_PROTOCOL:
                frame.require(packet.has_transport())
                data = (packet.protocol(),)
            case Key.PACKET_TYPE:
                data = (packet.packet_type,)
            case Key.LENGTH:
                data = packet.length_bytes()
        frame.write(register, data)

    def _lookup(self, lookup: Lookup, frame: _Frame, run: _Run) -> None:
        definition = self._definition(lookup.set_name, frame)
        if lookup.inverted and (lookup.verdicts or lookup.target is not None):
            raise UnsupportedError(f"{frame.place}: an inverted lookup in {lookup.set_name} can give nothing")
        expected = "verdict" if lookup.verdicts else "" if lookup.target is None else "mark"
        if definition.data != expected:
            raise UnsupportedError(
                f"{frame.place}: takes {expected or 'no data'} from {lookup.set_name}, "
                f"which gives {definition.data or 'none'}"
            )
        key = frame.read(lookup.register, key_bytes(definition))
        found = self._found(lookup.set_name, key, frame)
        if lookup.inverted:
            frame.require(negated(found))
            return
        frame.require(found)
        if lookup.target is not None:
            frame.write(lookup.target, self._sets.data(lookup.set_name, key))
        if lookup.verdicts:
            live, given = frame.live, self._sets.verdicts(lookup.set_name)
            if not given:
                frame.require(FALSE)  # a map of nothing never has the key
                return
            if run.pending is not None and self._is_cut(given):
                writes = bool(frame.known or frame.writes)
                run.arrivals.append(Arrival(lookup.set_name, key, live, writes))
                frame.ended.append(live)
                frame.live = FALSE
                return
            frame.conclude([(both(live, self._sets.gives(lookup.set_name, key, one)), one) for one in given])

    def _is_cut(self, given: Sequence[Verdict]) -> bool:
        """Tell whether a map only gives chains at which the look ends."""
        known = self._cuts.chains | self._cuts.ends
        return bool(self._cuts.chains) and all(
            verdict.code is Code.GOTO and verdict.chain in known for verdict in given
        )

    def _found(self, name: str, key: Bytes, frame: _Frame) -> Truth:
        """A key is in a set when it was, or when this very packet has put it there."""
        fresh = [
            both(written.condition, same(joined(written.key), joined(key)))
            for written in (*frame.known, *frame.writes)
            if written.set_name == name
        ]
        return either([self._sets.holds(name, key), *fresh])

    def _update(self, update: Update, frame: _Frame) -> None:
        definition = self._definition(update.set_name, frame)
        if not definition.dynamic or definition.data:
            raise UnsupportedError(f"{frame.place}: adds to {update.set_name}, which is no dynamic set")
        key = frame.read(update.register, key_bytes(definition))
        frame.require(either([self._found(update.set_name, key, frame), room(update.set_name)]))
        frame.writes.append(Written(update.set_name, frame.live, key, update.timeout_ms))

    def _definition(self, name: str, frame: _Frame) -> SetDefinition:
        definition = self._definitions.get(name)
        if definition is None:
            raise UnsupportedError(f"{frame.place}: set {name!r} is not in the table")
        return definition


def room(set_name: str) -> Truth:
    """Return whether a dynamic set has room for one element more; left open."""
    return z3.Bool(f"room {set_name}")


def host_order(value: int) -> bytes:
    """Return a 32-bit number as the kernel keeps it in memory."""
    return value.to_bytes(4, sys.byteorder)


def _merged(parts: Iterable[_Writes]) -> _Writes:
    """Return what any of the ways has written, each once."""
    return tuple({id(write): write for part in parts for write in part}.values())


def _masked(source: Bytes, mask: bytes, xor: bytes) -> Bytes:
    """Return `(source & mask) ^ xor`; bytes that the mask leaves alone stay the terms that they are."""
    answer: list[Byte] = []
    for byte, kept, flipped in zip(source, mask, xor, strict=True):
        masked = byte if kept == 0xFF else ZERO if not kept else byte & kept
        answer.append(masked ^ flipped if flipped else masked)
    return tuple(answer)


def _compared(value: Bytes, operator: Operator, data: bytes) -> Truth:
    """Return whether bytes compare so with constant ones, the first being the highest."""
    left, right = joined(value), number(data)
    match operator:
        case Operator.EQUAL:
            return same(left, right)
        case Operator.UNEQUAL:
            return negated(same(left, right))
        case Operator.LESS:
            return z3.ULT(left, right)
        case Operator.LESS_OR_EQUAL:
            return z3.ULE(left, right)
        case Operator.GREATER:
            return z3.UGT(left, right)
        case Operator.GREATER_OR_EQUAL:
            return z3.UGE(left, right)
