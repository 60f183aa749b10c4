"""Whether one side may open a service of another, by which rule, and how the tables come to that.

    found = tracing(Question("web01", "db01", service), everyone, policy)

The rule is what the policy's meaning says (`firewall.permission`); the way is what the bytecode does with the
first packet and its answer (`firewall.simulate`), through the table of each host that is concerned.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from undercroft.errors import InputError
from undercroft.firewall.fleet import Fleet
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.permission import End, Permission
from undercroft.firewall.policy import (
    PORT_PROTOCOLS,
    FirewallPolicy,
    Flow,
    Peer,
    PeerKind,
    Protocol,
    Service,
)
from undercroft.firewall.tracking import StateKind
from undercroft.usecases.firewall.answers import Trace, Way
from undercroft.usecases.firewall.members import Members
from undercroft.usecases.firewall.parties import Party, Question, ends_of
from undercroft.usecases.firewall.services import includes
from undercroft.usecases.firewall.ways import ANSWER, Tables, ways_of

NEAREST = 4


def tracing(
    question: Question,
    everyone: Members,
    policy: FirewallPolicy,
    *,
    number: int = 0,
    read: Mapping[str, Ruleset] | None = None,
    state: StateKind = StateKind.TUPLES,
    unread: Sequence[str] = (),
) -> Trace:
    """Return the answer.

    Args:
        question: what is asked; at least one side is a machine.
        everyone: all machines under this policy.
        policy: in force, or another one.
        number: of the applied policy, 0 for another one.
        read: the kernel's tables that could be read, by host.
        state: how hosts without a table here know answers.
        unread: why no table was read, in words; told among the notes.

    Raises:
        InputError: neither side is a machine; the filter is not asked then.
        StateError: the tables cannot be made.
    """
    source, target, service = question.source, question.target, question.service
    if source.member is None and target.member is None:
        raise InputError(
            f"{source.name} to {target.name}: neither is a machine on record, and the filter is for machines"
        )
    flow = _decides(question, policy)
    notes = list(unread)
    ways: tuple[Way, ...] = ()
    ends = ends_of(question, everyone, notes)
    if ends is not None:
        tables = Tables(policy, everyone.fleets, read or {}, state)
        ways = tuple(ways_of(question, ends, tables, policy, notes))
    passes = bool(ways) and all(way.accept for way in ways)
    return Trace(
        source=source.shown,
        target=target.shown,
        service=str(service),
        policy=number,
        allowed=flow is not None and passes,
        rule=flow.place if flow else "",
        reason=_reason(flow, ways, passes=passes),
        nearest=() if flow else tuple(_nearest(question, policy)),
        ways=ways,
        notes=tuple(notes),
    )


def _reason(flow: Flow | None, ways: Sequence[Way], *, passes: bool) -> str:
    """Return why, in words: what the policy says, and where the tables say something else."""
    reason = f"allowed by {flow.place}" if flow else "no rule allows it"
    if flow and not passes:
        stopped = next((way for way in ways if not way.accept), None)
        found = f"{stopped.packet} does not pass {stopped.host}" if stopped else "no packet can be on its way"
        return f"{reason}, but {found}"
    if not flow and passes:
        return f"{reason}, but the table lets it pass; undercroft firewall prove, on that host"
    if not flow and ways and ways[-1].packet == ANSWER:
        return f"{reason}, but the table lets its first packet pass; undercroft firewall prove, on that host"
    return reason


def _end(party: Party, permission: Permission) -> End:
    if party.member is not None:
        return permission.machine(party.member.labels)
    if party.is_host:
        return End(is_host=True)
    return permission.address(party.address.packed) if party.address else permission.world


def _decides(question: Question, policy: FirewallPolicy) -> Flow | None:
    """Return the flow that allows it: who has which address is settled already, `party_of` has asked."""
    permission = Permission(policy, Fleet(""))
    source, target = _end(question.source, permission), _end(question.target, permission)
    return permission.allowing(source, target, *_number(question.service))


def _number(service: Service) -> tuple[int, int | None]:
    if service.protocol is Protocol.ICMP:
        return 1, None
    return PORT_PROTOCOLS[service.protocol], service.low


def _nearest(question: Question, policy: FirewallPolicy) -> Iterable[str]:
    """Yield flows that lack one thing: the service first, then one of the sides."""
    found: list[tuple[int, str]] = []
    for flow in policy.flows:
        from_it = _means(policy, flow.source, question.source)
        to_it = _means(policy, flow.target, question.target)
        has_it = includes(flow.services, question.service)
        says = f"{flow.place}: {flow.source} to {flow.target} {', '.join(map(str, flow.services))}"
        if from_it and to_it:
            found.append((0, f"{says}: another service"))
        elif from_it and has_it:
            found.append((1, f"{says}: another target than {question.target.shown}"))
        elif to_it and has_it:
            found.append((2, f"{says}: another source than {question.source.shown}"))
    yield from (line for _, line in sorted(found, key=lambda pair: pair[0])[:NEAREST])


def _means(policy: FirewallPolicy, peer: Peer, party: Party) -> bool:
    """Tell whether a peer means an end, by the flow from it to a machine that there is not."""
    nobody, service = "\0", Service(Protocol.ICMP)
    flow = Flow(peer, Peer(PeerKind.LABEL, nobody), (service,))
    permission = Permission(replace(policy, flows=(flow,)), Fleet(""))
    target = permission.machine(frozenset({nobody}))
    return permission.allowing(_end(party, permission), target, *_number(service)) is not None
