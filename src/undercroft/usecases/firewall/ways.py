"""The way of a flow's first packet and of its answer through the tables of the hosts that are concerned.

Between machines of two hosts both tables are asked; routers and other filters between them are not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from undercroft.errors import StateError
from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.decisions import Path, PathKind
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.packets import parse
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.simulate import Memory, Outcome, follow
from undercroft.firewall.text import render_rule
from undercroft.firewall.tracking import StateKind
from undercroft.usecases.firewall import frames
from undercroft.usecases.firewall.answers import Step, Way
from undercroft.usecases.firewall.parties import Party, Question, port_of

FIRST, ANSWER = "the first packet", "its answer"


@dataclass(slots=True)
class Tables:
    """The table of each host: the kernel's where it was read, else the compiled one."""

    policy: FirewallPolicy
    fleets: Mapping[str, Fleet]
    read: Mapping[str, Ruleset]
    state: StateKind
    _compiled: dict[str, Ruleset] = field(default_factory=dict)

    def of(self, host: str) -> tuple[str, Ruleset]:
        """Return a host's table, and "kernel" or "compiled". Raises StateError where it cannot be made."""
        if host in self.read:
            return "kernel", self.read[host]
        if host not in self._compiled:
            fleet = self.fleets.get(host, Fleet(host))
            sets = [port.labels for port in fleet.ports] + [item.labels for item in fleet.elsewhere]
            classes = assigned(Classes(), sets)
            self._compiled[host] = compile_ruleset(self.policy, fleet, classes, self.state)
        return "compiled", self._compiled[host]


@dataclass(frozen=True, slots=True)
class _Hop:
    """One way over the bridge of one host. `routed`: it bears the mark of the hop before."""

    host: str
    kind: PathKind
    source: str
    target: str
    routed: bool = False


def ways_of(
    question: Question, ends: frames.Ends, tables: Tables, policy: FirewallPolicy, notes: list[str]
) -> Iterable[Way]:
    """Yield what each host's table does with both packets, up to the first that drops one.

    Args:
        question: what is asked.
        ends: MACs and addresses of the first packet.
        tables: of the hosts.
        policy: for the uplinks.
        notes: takes what could not be followed, and why.

    Raises:
        StateError: a table cannot be made.
    """
    forth = _hops(question.source, question.target, ends, policy, notes)
    if not forth:
        return
    back = _hops(question.target, question.source, ends.turned, policy, [])
    memories: dict[str, Memory] = {}
    for packet, frame, hops in (
        (FIRST, frames.opening(ends, question.service), forth),
        (ANSWER, frames.answer(ends, question.service), back),
    ):
        mark = 0
        for hop in hops:
            name, table = tables.of(hop.host)
            memory = memories.setdefault(hop.host, Memory())
            if table_uses_conntrack(table):
                # A new connection when it opens; an established one when it answers.
                memory.connection_bits = 8 if packet == FIRST else 2
            outcome = _followed(table, frame, hop, memory, mark if hop.routed else 0)
            mark = outcome.mark
            yield Way(hop.host, name, packet, _path(hop), outcome.accept, tuple(_steps(table, outcome)))
            if not outcome.accept:
                return


def table_uses_conntrack(table: Ruleset) -> bool:
    """Tell whether a table knows answers by the kernel's conntrack: it then has no set for them."""
    return "flows4" not in {definition.name for definition in table.table.sets}


def _followed(table: Ruleset, frame: bytes, hop: _Hop, memory: Memory, mark: int) -> Outcome:
    packet = parse(frame)
    if packet is None:
        raise StateError("the frame that was made to be traced is none")
    return follow(table, packet, Path(hop.kind, hop.source, hop.target), memory, mark)


def _hops(
    source: Party, target: Party, ends: frames.Ends, policy: FirewallPolicy, notes: list[str]
) -> tuple[_Hop, ...]:
    """Return the bridges that a packet crosses, in order; () where a machine of the two does not run."""
    first, second = port_of(source, ends.source), port_of(target, ends.target)
    for party, port in ((source, first), (target, second)):
        if party.member is not None and port is None:
            notes.append(
                f"{party.name} does not run, or its interface is on no bridge: there is no way to it"
            )
            return ()
    uplink = next(iter(policy.ports.uplinks), "")
    if first and second and first.host == second.host:
        if _bridge(source, first) == _bridge(target, second):
            return (_Hop(first.host, PathKind.FORWARD, first.tap, second.tap),)
        return _out(first, ""), replace(_in(second, ""), routed=True)
    out = (_out(first, "" if target.is_host else uplink),) if first else ()
    into = (_in(second, "" if source.is_host else uplink),) if second else ()
    return out + into


def _out(port: Port, uplink: str) -> _Hop:
    """Return the way outside: by the uplink, or to the host's own stack where there is none."""
    if uplink:
        return _Hop(port.host, PathKind.FORWARD, port.tap, uplink)
    return _Hop(port.host, PathKind.TO_HOST, port.tap, "")


def _in(port: Port, uplink: str) -> _Hop:
    if uplink:
        return _Hop(port.host, PathKind.FORWARD, uplink, port.tap)
    return _Hop(port.host, PathKind.FROM_HOST, "", port.tap)


def _bridge(party: Party, port: Port) -> str:
    interfaces = party.member.record.domain.interfaces if party.member else ()
    return next((item.bridge or item.source for item in interfaces if item.tap == port.tap), "")


def _path(hop: _Hop) -> str:
    return f"{hop.source or 'the host'} to {hop.target or 'the host'}"


def _steps(table: Ruleset, outcome: Outcome) -> Sequence[Step]:
    chains = {chain.name: chain for chain in table.table.chains}
    return [
        Step(name, number + 1, render_rule(chains[name].rules[number], table.table))
        for name, number in outcome.way
    ]
