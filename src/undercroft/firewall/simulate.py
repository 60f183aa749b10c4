"""What a table does with one packet: the kernel's bytecode, interpreted one expression after the other.

Later fragments are read as the kernel at hand reads them, ports and all (`Packet.misread_transport`): a table
has to do the same whatever they seem to hold.

Sets that rules add to are kept in a `Memory`, whose timeouts are whoever's who keeps it. Rates never bind
here: a `Limit`, also one of a set's key, lets everything through, as a set has room for everything.
Source: net/netfilter/nf_tables_core.c and nft_*.c.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from undercroft.errors import InputError
from undercroft.firewall.decisions import Path, PathKind
from undercroft.firewall.kernel import (
    Base,
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
    Payload,
    Range,
    Rule,
    Ruleset,
    SetMark,
    Update,
    Verdict,
)
from undercroft.firewall.packets import Packet
from undercroft.firewall.registers import Registers, compares, key_bytes

MAX_JUMPS = 16
_BRIDGE_FAMILY = 7
_CONTINUE = Verdict(Code.CONTINUE)


@dataclass(slots=True)
class Memory:
    """Keys that rules have put into sets, and what conntrack says of the packet's connection."""

    sets: dict[str, set[bytes]] = field(default_factory=dict)
    connection_bits: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """Where a packet is: names of its devices, "" for none, its mark, and the devices' kinds."""

    input_name: str = ""
    output_name: str = ""
    mark: int = 0
    input_kind: str = ""
    output_kind: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it.

    Attributes:
        accept: it goes on.
        mark: as it is then.
        way: chain and number of the rule (from 0) of each verdict, in order.
        logged: prefixes of what was told.
    """

    accept: bool
    mark: int
    way: tuple[tuple[str, int], ...]
    logged: tuple[str, ...] = ()


def run(ruleset: Ruleset, hook: Hook, packet: Packet, context: Context, memory: Memory) -> Outcome:
    """Return what the table's base chains at one hook do with a packet, and change `memory`.

    Raises:
        InputError: the table holds what the kernel would not: an unknown expression, set or chain.
    """
    machine = _Machine(ruleset, packet, context, memory)
    bases = [chain for chain in ruleset.table.chains if chain.hook is hook]
    accept = True
    for chain in sorted(bases, key=lambda chain: chain.priority):
        verdict = machine.chain(chain, 0)
        code = verdict.code if verdict.code in {Code.ACCEPT, Code.DROP} else chain.policy
        if code is Code.DROP:
            accept = False
            break
    return Outcome(accept, machine.mark, tuple(machine.way), tuple(machine.logged))


def follow(ruleset: Ruleset, packet: Packet, path: Path, memory: Memory, routed_mark: int = 0) -> Outcome:
    """Return what becomes of a packet on its whole way over the bridge, and change `memory`.

    Args:
        ruleset: the table.
        packet: what is sent.
        path: the way; its `routed` is not looked at.
        memory: what has passed before.
        routed_mark: the mark that a packet bears which a machine sent to the host to be routed.

    Raises:
        InputError: as `run`.
    """
    hook = {
        PathKind.FORWARD: Hook.FORWARD,
        PathKind.TO_HOST: Hook.INPUT,
        PathKind.FROM_HOST: Hook.OUTPUT,
    }[path.kind]
    way: tuple[tuple[str, int], ...] = ()
    logged: tuple[str, ...] = ()
    mark = routed_mark
    if path.kind is not PathKind.FROM_HOST:
        arriving = Context(path.source, input_kind=path.source_kind)
        first = run(ruleset, Hook.PREROUTING, packet, arriving, memory)
        if not first.accept:
            return first
        way, logged, mark = first.way, first.logged, first.mark
    context = Context(path.source, path.target, mark, path.source_kind, path.target_kind)
    last = run(ruleset, hook, packet, context, memory)
    return Outcome(last.accept, last.mark, (*way, *last.way), (*logged, *last.logged))


class _Machine:
    """The registers and the packet's mark, over one hook."""

    def __init__(self, ruleset: Ruleset, packet: Packet, context: Context, memory: Memory) -> None:
        self._packet = packet
        self._context = context
        self._memory = memory
        self._elements: Mapping[str, Mapping[bytes, bytes | Verdict | None]] = ruleset.elements
        self._chains = {chain.name: chain for chain in ruleset.table.chains}
        self._lengths = {definition.name: key_bytes(definition) for definition in ruleset.table.sets}
        self._registers = Registers()
        self._verdict = _CONTINUE
        self.mark = context.mark
        self.way: list[tuple[str, int]] = []
        self.logged: list[str] = []

    def chain(self, chain: Chain, depth: int) -> Verdict:
        """Return the verdict of a chain: ACCEPT, DROP, or CONTINUE where it ends without one."""
        if depth > MAX_JUMPS:
            raise InputError(f"chain {chain.name}: more than {MAX_JUMPS} jumps deep; the kernel refuses that")
        for number, rule in enumerate(chain.rules):
            verdict = self._rule(rule)
            if verdict.code is Code.CONTINUE:
                continue
            self.way.append((chain.name, number))
            match verdict.code:
                case Code.JUMP | Code.GOTO:
                    inner = self.chain(self._chain(verdict.chain), depth + 1)
                    if inner.code is not Code.CONTINUE:
                        return inner
                    if verdict.code is Code.GOTO:
                        return _CONTINUE
                case Code.RETURN:
                    return _CONTINUE
                case _:
                    return verdict
        return _CONTINUE

    def _chain(self, name: str) -> Chain:
        try:
            return self._chains[name]
        except KeyError:
            raise InputError(f"chain {name}: the table has none of that name") from None

    def _rule(self, rule: Rule) -> Verdict:
        self._verdict = _CONTINUE
        for expression in rule.expressions:
            if not self._goes_on(expression):
                return _CONTINUE
            if self._verdict.code is not Code.CONTINUE:
                return self._verdict
        return _CONTINUE

    def _goes_on(self, expression: Expression) -> bool:
        """Do one expression; False where it ends the rule."""
        match expression:
            case Payload():
                return self._payload(expression)
            case Meta():
                return self._meta(expression)
            case Compare(register=register, operator=operator, data=data):
                return compares(self._registers.read(register, len(data)), operator, data)
            case Range(register=register, low=low, high=high, inverted=inverted):
                return (low <= self._registers.read(register, len(low)) <= high) is not inverted
            case Bitwise(source=source, target=target, mask=mask, xor=xor):
                value = self._registers.read(source, len(mask))
                self._registers.write(
                    target, bytes((a & b) ^ c for a, b, c in zip(value, mask, xor, strict=True))
                )
            case Lookup():
                return self._lookup(expression)
            case Update(set_name=name, register=register):
                self._memory.sets.setdefault(name, set()).add(self._key(name, register))
            case _:
                self._simple(expression)
        return True

    def _simple(self, expression: Expression) -> None:
        match expression:
            case Immediate(verdict=verdict):
                self._verdict = verdict
            case Load(register=register, data=data):
                self._registers.write(register, data)
            case SetMark(register=register):
                self.mark = int.from_bytes(self._registers.read(register, 4), sys.byteorder)
            case Conntrack(register=register):
                self._registers.write(register, self._memory.connection_bits.to_bytes(4, sys.byteorder))
            case Log(prefix=prefix):
                self.logged.append(prefix)
            case Limit() | Counter():
                pass
            case _:
                raise InputError(f"{expression}: an expression that this model does not know")

    def _payload(self, load: Payload) -> bool:
        reads = {
            Base.LINK: self._packet.link,
            Base.NETWORK: self._packet.network,
            Base.TRANSPORT: self._packet.misread_transport,
        }
        found = reads[load.base](load.offset, load.length)
        if found is None:
            return False
        self._registers.write(load.register, found)
        return True

    def _meta(self, load: Meta) -> bool:
        match load.key:
            case Key.INPUT_NAME:
                value = self._context.input_name.encode().ljust(16, b"\0")
            case Key.OUTPUT_NAME:
                value = self._context.output_name.encode().ljust(16, b"\0")
            case Key.INPUT_KIND | Key.OUTPUT_KIND:
                incoming = load.key is Key.INPUT_KIND
                kind = self._context.input_kind if incoming else self._context.output_kind
                if not kind:
                    return False
                value = kind.encode().ljust(16, b"\0")
            case Key.MARK:
                value = self.mark.to_bytes(4, sys.byteorder)
            case Key.PROTOCOL:
                value = self._packet.ether_type.to_bytes(2, "big")
            case Key.NETWORK_FAMILY:
                value = bytes([_BRIDGE_FAMILY])
            case Key.TRANSPORT_PROTOCOL:
                if self._packet.protocol is None:
                    return False
                value = bytes([self._packet.protocol])
            case Key.LENGTH:
                length = len(self._packet.frame) - self._packet.network_offset
                value = length.to_bytes(4, sys.byteorder)
            case _:
                raise InputError(f"meta {load.key}: not known to this model")
        self._registers.write(load.register, value)
        return True

    def _lookup(self, lookup: Lookup) -> bool:
        key = self._key(lookup.set_name, lookup.register)
        elements = self._elements.get(lookup.set_name, {})
        known = key in elements or key in self._memory.sets.get(lookup.set_name, ())
        if known is lookup.inverted:
            return False
        value = elements.get(key)
        if lookup.verdicts and isinstance(value, Verdict):
            self._verdict = value
        elif lookup.target is not None and isinstance(value, bytes):
            self._registers.write(lookup.target, value)
        return True

    def _key(self, name: str, register: int) -> bytes:
        if name not in self._lengths:
            raise InputError(f"set {name}: the table has none of that name")
        return self._registers.read(register, self._lengths[name])
