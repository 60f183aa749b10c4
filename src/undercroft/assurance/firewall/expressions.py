"""What each expression of a rule does with every packet, as Z3 terms.

Each follows the kernel's evaluation of it (Linux 6, net/netfilter): `nft_payload_eval`, `nft_meta_get_eval`
and `nft_meta_set_eval`, `nft_cmp_eval`, `nft_range_eval`, `nft_bitwise_eval_mask_xor`, `nft_lookup_eval`,
`nft_immediate_eval`, `nft_dynset_eval`, `nft_ct_get_eval`, `nft_limit_eval`. What a limit lets through, and
whether a dynamic set has room, is left open: what is proven holds for either. What is not known here fails
the proof and names its place.
"""

from collections.abc import Sequence

import z3

from undercroft.assurance.firewall.contents import Sets
from undercroft.assurance.firewall.packet import SymbolicPacket
from undercroft.assurance.firewall.running import Arrival, ChainRun, Cuts, RuleRun, Written, room, within
from undercroft.assurance.firewall.terms import (
    FALSE,
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
    Bitwise,
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
from undercroft.firewall.registers import key_bytes

LIMIT = "limit"
BRIDGE_FAMILY = 7
_NO_NAME: Bytes = constant(bytes(16))
_NO_INDEX: Bytes = constant(bytes(4))


class Evaluator:
    """Runs single expressions."""

    def __init__(self, table: Table, packet: SymbolicPacket, sets: Sets, cuts: Cuts) -> None:
        """Take a table, of which it needs the definitions of sets."""
        self._packet = packet
        self._sets = sets
        self._cuts = cuts
        self._definitions = {definition.name: definition for definition in table.sets}
        self._hook = Hook.PREROUTING
        self._limits = 0

    def expression(self, expression: Expression, frame: RuleRun, run: ChainRun) -> None:
        """Run one expression: change what is live, registers, verdicts and what is written.

        Raises:
            UnsupportedError: it, or what it names, is not known here; the message has its place.
        """
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
                # Asked twice it may answer otherwise, also for one packet.
                self._limits += 1
                frame.require(z3.Bool(f"{LIMIT} {self._limits}, {frame.place}"))
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
        self, expression: Payload | Meta | Bitwise | Load | Conntrack, frame: RuleRun, run: ChainRun
    ) -> None:
        """Run what fills registers."""
        match expression:
            case Payload(register, base, offset, length):
                frame.require(self._packet.loads(base, offset, length))
                frame.write(register, self._packet.load(base, offset, length))
            case Meta(register, key):
                self._meta(register, key, frame, run)
            case Bitwise(source, target, mask, xor):
                if 0 < abs(target - source) * REGISTER_BYTES < len(mask):
                    raise UnsupportedError(
                        f"{frame.place}: writes registers from {target} on while it reads from {source} on"
                    )
                frame.write(target, _masked(frame.read(source, len(mask)), mask, xor))
            case Load(register, data):
                frame.write(register, constant(data))
            case Conntrack(register):
                frame.write(register, self._packet.state)

    def _meta(self, register: int, key: Key, frame: RuleRun, run: ChainRun) -> None:
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
            case Key.INPUT_KIND:
                frame.require(packet.input_made if incoming else FALSE)
                data = packet.input_kind
            case Key.OUTPUT_KIND:
                frame.require(packet.output_made if outgoing else FALSE)
                data = packet.output_kind
            case Key.MARK:
                data = run.mark
            case Key.PROTOCOL:
                data = packet.ethernet_protocol() if incoming else packet.said
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

    def _lookup(self, lookup: Lookup, frame: RuleRun, run: ChainRun) -> None:
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

    def _found(self, name: str, key: Bytes, frame: RuleRun) -> Truth:
        """A key is in a set when it was, or when this very packet has put it there."""
        fresh = [
            both(written.condition, same(joined(written.key), joined(key)))
            for written in (*frame.known, *frame.writes)
            if written.set_name == name
        ]
        return either([self._sets.holds(name, key), *fresh])

    def _update(self, update: Update, frame: RuleRun) -> None:
        definition = self._definition(update.set_name, frame)
        if not definition.dynamic or definition.data:
            raise UnsupportedError(f"{frame.place}: adds to {update.set_name}, which is no dynamic set")
        key = frame.read(update.register, key_bytes(definition))
        frame.require(either([self._found(update.set_name, key, frame), room(update.set_name)]))
        before = (*frame.known, *frame.writes)
        asked = either([write.condition for write in before if write.set_name == update.set_name])
        frame.writes.append(Written(update.set_name, frame.live, key, update.timeout_ms))
        if update.limit:
            # Who asks a key's limit twice may get another answer.
            self._limits += 1
            again = z3.Bool(f"{LIMIT} {self._limits}, {frame.place}")
            once = both(negated(asked), within(update.set_name, update.limit))
            frame.require(either([once, both(asked, again)]))

    def _definition(self, name: str, frame: RuleRun) -> SetDefinition:
        definition = self._definitions.get(name)
        if definition is None:
            raise UnsupportedError(f"{frame.place}: set {name!r} is not in the table")
        return definition


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
