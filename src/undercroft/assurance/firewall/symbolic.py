"""What a table of the bridge family does with every packet, as Z3 terms.

Each expression follows the kernel's evaluation of it (Linux 6, net/netfilter): `nft_do_chain` in
nf_tables_core.c for rules, verdicts and the stack of jumps; `nft_payload_eval`, `nft_meta_get_eval` and
`nft_meta_set_eval`, `nft_cmp_eval`, `nft_range_eval`, `nft_bitwise_eval_mask_xor`, `nft_lookup_eval`,
`nft_immediate_eval`, `nft_dynset_eval`, `nft_ct_get_eval`, `nft_limit_eval` for the expressions. What a limit
lets through, and whether a dynamic set has room, is left open. What is not known here fails the proof and
names its place: an expression, a key, a register that its rule has not set, a set without a definition.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    Rule,
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
class Passage:
    """What a hook does: whether the packet goes on, the mark that it then has, and what was written."""

    accepted: Truth
    mark: Bytes
    written: tuple[Written, ...]


@dataclass(slots=True)
class _Frame:
    """A rule as it runs: registers by byte, whether it still does, and the verdict that it has come to."""

    place: str
    live: Truth
    registers: list[Byte | None] = field(default_factory=lambda: [None] * (REGISTERS * REGISTER_BYTES))
    verdicts: list[tuple[Truth, Verdict]] = field(default_factory=list)

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


@dataclass(slots=True)
class _State:
    """What a packet takes along from rule to rule, and from hook to hook."""

    mark: Bytes
    accepted: list[Truth] = field(default_factory=list)
    dropped: list[Truth] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)


class Executor:
    """Runs a table's chains over a packet."""

    def __init__(self, table: Table, packet: SymbolicPacket, sets: Sets) -> None:
        """Take a table.

        Args:
            table: as it was read from the kernel.
            packet: any packet.
            sets: what sets and maps hold.

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
        self._chains = {chain.name: chain for chain in table.chains}
        self._definitions = {definition.name: definition for definition in table.sets}
        self._table = table
        self._hook = Hook.PREROUTING
        if len(self._chains) != len(table.chains) or len(self._definitions) != len(table.sets):
            raise UnsupportedError(f"table {table.name}: two chains or two sets have one name: read it again")

    def hook(self, hook: Hook, mark: Bytes, before: Sequence[Written] = ()) -> Passage:
        """Return what the base chains of a hook do, in the order of their priorities.

        Args:
            hook: which.
            mark: of the packet when it comes there, 4 bytes in memory order.
            before: what the packet has written at hooks before.

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
        state, live = _State(mark, written=list(before)), TRUE
        for chain in chains:
            if chain.policy not in {Code.ACCEPT, Code.DROP}:
                raise UnsupportedError(f"chain {chain.name}: policy {chain.policy} is none of the kernel's")
            state.accepted = []
            rest = self._chain(chain, live, state, 0)
            live = either([*state.accepted, *([rest] if chain.policy is Code.ACCEPT else [])])
        return Passage(live, state.mark, tuple(state.written))

    def _chain(self, chain: Chain, live: Truth, state: _State, depth: int) -> Truth:
        """Run a chain; return for which packets it ends without a verdict: by its end or by `return`."""
        if depth > MAX_JUMPS:
            raise UnsupportedError(f"chain {chain.name}: jumps nest deeper than {MAX_JUMPS}")
        returned: list[Truth] = []
        for number_, rule in enumerate(chain.rules, 1):
            if live is FALSE:
                break
            frame = _Frame(f"chain {chain.name}, rule {number_}", live)
            self._rule(rule, frame, state)
            back: list[Truth] = []
            for condition, verdict in frame.verdicts:
                live = both(live, negated(condition))
                self._verdict(verdict, condition, state, frame.place, depth, (returned, back))
            live = either([live, *back])
        return either([*returned, live])

    def _verdict(
        self,
        verdict: Verdict,
        condition: Truth,
        state: _State,
        place: str,
        depth: int,
        ends: tuple[list[Truth], list[Truth]],
    ) -> None:
        """Follow a verdict; `ends` takes what leaves the chain and what goes on with its next rule."""
        returned, back = ends
        match verdict.code:
            case Code.ACCEPT:
                state.accepted.append(condition)
            case Code.DROP:
                state.dropped.append(condition)
            case Code.RETURN:
                returned.append(condition)
            case Code.JUMP:
                back.append(self._chain(self._target(verdict, place), condition, state, depth + 1))
            case Code.GOTO:
                returned.append(self._chain(self._target(verdict, place), condition, state, depth + 1))
            case Code.CONTINUE:
                back.append(condition)

    def _target(self, verdict: Verdict, place: str) -> Chain:
        chain = self._chains.get(verdict.chain)
        if chain is None or chain.hook is not None:
            raise UnsupportedError(f"{place}: {verdict.code} to {verdict.chain!r}, no chain to go to")
        return chain

    def _rule(self, rule: Rule, frame: _Frame, state: _State) -> None:
        for expression in rule.expressions:
            if frame.live is FALSE:
                return
            self._expression(expression, frame, state)

    def _expression(self, expression: Expression, frame: _Frame, state: _State) -> None:
        match expression:
            case SetMark(register):
                state.mark = chosen(frame.live, frame.read(register, REGISTER_BYTES), state.mark)
            case Compare(register, operator, data):
                frame.require(_compared(frame.read(register, len(data)), operator, data))
            case Range(register, low, high, inverted):
                value = joined(frame.read(register, len(low)))
                within = both(z3.UGE(value, number(low)), z3.ULE(value, number(high)))
                frame.require(negated(within) if inverted else within)
            case Lookup():
                self._lookup(expression, frame, state)
            case Immediate(verdict):
                _conclude(frame, frame.live, verdict)
            case Update():
                self._update(expression, frame, state)
            case Limit():
                frame.require(z3.Bool(f"limit {frame.place}"))
            case Log() | Counter():
                pass
            case Unknown(name):
                raise UnsupportedError(
                    f"{frame.place}: {name!r} is an expression that the proof does not know: "
                    "nothing is proven while it stands there"
                )
            case _:
                self._load(expression, frame, state)

    def _load(
        self, expression: Payload | Meta | Bitwise | Load | Conntrack, frame: _Frame, state: _State
    ) -> None:
        """Run what fills registers."""
        match expression:
            case Payload(register, base, offset, length):
                frame.require(self._packet.reaches(base, offset + length))
                frame.write(register, self._packet.load(base, offset, length))
            case Meta(register, key):
                self._meta(register, key, frame, state)
            case Bitwise(source, target, mask, xor):
                frame.write(target, _masked(frame.read(source, len(mask)), mask, xor))
            case Load(register, data):
                frame.write(register, constant(data))
            case Conntrack(register):
                frame.write(register, self._packet.state)

    def _meta(self, register: int, key: Key, frame: _Frame, state: _State) -> None:
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
                data = state.mark
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

    def _lookup(self, lookup: Lookup, frame: _Frame, state: _State) -> None:
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
        found = self._found(lookup.set_name, key, state)
        if lookup.inverted:
            frame.require(negated(found))
            return
        frame.require(found)
        if lookup.target is not None:
            frame.write(lookup.target, self._sets.data(lookup.set_name, key))
        if lookup.verdicts:
            live = frame.live
            given = self._sets.verdicts(lookup.set_name)
            if not given:
                frame.require(FALSE)  # a map of nothing never has the key
            for verdict in given:
                _conclude(frame, both(live, self._sets.gives(lookup.set_name, key, verdict)), verdict)

    def _found(self, name: str, key: Bytes, state: _State) -> Truth:
        """A key is in a set when it was, or when this very packet has put it there."""
        fresh = [
            both(written.condition, same(joined(written.key), joined(key)))
            for written in state.written
            if written.set_name == name
        ]
        return either([self._sets.holds(name, key), *fresh])

    def _update(self, update: Update, frame: _Frame, state: _State) -> None:
        definition = self._definition(update.set_name, frame)
        if not definition.dynamic or definition.data:
            raise UnsupportedError(f"{frame.place}: adds to {update.set_name}, which is no dynamic set")
        key = frame.read(update.register, key_bytes(definition))
        frame.require(either([self._found(update.set_name, key, state), room(update.set_name)]))
        state.written.append(Written(update.set_name, frame.live, key, update.timeout_ms))

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


def _conclude(frame: _Frame, condition: Truth, verdict: Verdict) -> None:
    """Give a verdict; `continue` lets the rule's next expression run."""
    if verdict.code is not Code.CONTINUE:
        frame.verdicts.append((condition, verdict))
        frame.live = FALSE if condition is frame.live else both(frame.live, negated(condition))


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
