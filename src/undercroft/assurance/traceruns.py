"""The invariants of a trace that are not about names: executions, seeds and ports, starts of the service."""

from collections.abc import Iterator, Mapping, Sequence, Set

from undercroft.assurance import trace
from undercroft.assurance.tracecalls import Call
from undercroft.assurance.violations import Violation
from undercroft.channel.requests import Outcome
from undercroft.errors import InputError
from undercroft.model.execution import Origin

_GO_ON = frozenset((Origin.START, Origin.LOAD))
"""What follows another execution on its machine, whatever else is known of it."""


def executions(events: Sequence[trace.Event]) -> Iterator[Violation]:
    """Tree: each execution begins once, after its parent, from a state that its parent was in."""
    began: dict[str, trace.Began] = {}
    taken: dict[tuple[str, str], set[str]] = {}
    for event in events:
        if isinstance(event, trace.Began):
            if event.eid in began:
                yield Violation("Tree", event.at_ns, f"execution {event.eid} began twice")
            if event.how in _GO_ON and not event.parent:
                yield Violation("Tree", event.at_ns, f"{event.eid} goes on from nothing")
            if event.parent and event.parent not in began:
                yield Violation("Tree", event.at_ns, f"{event.eid} goes on from what has not begun")
            by = taken.get((event.machine, event.state), set()) if event.state else set()
            if by and event.parent not in by:
                text = f"{event.eid} began from a state of {', '.join(sorted(by))}, not of its parent"
                yield Violation("Tree", event.at_ns, text)
            began.setdefault(event.eid, event)
        elif isinstance(event, trace.Snapshotted) and event.eid in began:
            taken.setdefault((began[event.eid].machine, event.name), set()).add(event.eid)
        if not isinstance(event, trace.Began) and (eid := getattr(event, "eid", "")) and eid not in began:
            yield Violation("Tree", event.at_ns, f"{eid} acts before it began")


def gate(events: Sequence[trace.Event]) -> Iterator[Violation]:
    """NoOutputBeforeReseed: a gated port opens after its own execution confirmed a seed of its own.

    Or after an administrator let out this very execution. A migration is as fresh as what it continues. What
    the agent has on record as confirmed, its guest has confirmed.
    """
    begun = {event.eid: event for event in events if isinstance(event, trace.Began)}
    machines = {eid: event.machine for eid, event in begun.items()}
    given: dict[tuple[str, int], str] = {}
    latest: dict[str, int] = {}
    proven: set[tuple[str, int]] = set()
    confirmed: set[str] = set()
    released: set[str] = set()
    ended: set[str] = set()
    for event in events:
        if isinstance(event, trace.Seeded):
            machine = machines.get(event.eid)
            if machine is None:
                raise InputError(f"execution {event.eid} is given a seed in the trace, and never began")
            fresh = event.generation > latest.get(machine, 0)
            if not fresh and given.get((machine, event.generation)) != event.eid:
                text = f"generation {event.generation} was given before, or a later one"
                yield Violation("NoOutputBeforeReseed", event.at_ns, text)
            given.setdefault((machine, event.generation), event.eid)
            latest[machine] = max(event.generation, latest.get(machine, 0))
        elif isinstance(event, trace.Confirmed):
            if given.get((machines.get(event.eid, ""), event.generation)) != event.eid:
                text = f"{event.eid} confirmed generation {event.generation}, which it was not given"
                yield Violation("NoOutputBeforeReseed", event.at_ns, text)
            confirmed.add(event.eid)
            proven.add((event.eid, event.generation))
        elif isinstance(event, trace.Recorded):
            if (event.eid, event.generation) not in proven:
                text = f"{event.eid} never confirmed generation {event.generation}, which is on record"
                yield Violation("NoOutputBeforeReseed", event.at_ns, text)
        elif isinstance(event, trace.Released):
            released.add(event.eid)
        elif isinstance(event, trace.Ended):
            ended.add(event.eid)
        elif isinstance(event, trace.Opened):
            if event.gated and event.eid not in released and not _is_fresh(event.eid, begun, confirmed):
                text = f"the port of {event.eid} opened before its seed was confirmed"
                yield Violation("NoOutputBeforeReseed", event.at_ns, text)
            if event.eid in ended:
                text = f"a port opened for {event.eid}, which had ended"
                yield Violation("FailClosed", event.at_ns, text)


def _is_fresh(eid: str, begun: Mapping[str, trace.Began], confirmed: Set[str]) -> bool:
    """Tell whether an execution has confirmed, or continues by migrations one that has."""
    passed: set[str] = set()
    while eid not in confirmed:
        found = begun.get(eid)
        if found is None or found.how is not Origin.MIGRATE or eid in passed:
            return False
        passed.add(eid)
        eid = found.parent
    return True


def service(events: Sequence[trace.Event], found: Sequence[Call]) -> Iterator[Violation]:
    """Epochs only rise; while nothing serves, nothing is granted; who refuses says why and nothing else."""
    highest = 0
    silent: list[tuple[int, int]] = []
    since = 0
    for event in events:
        if isinstance(event, trace.Served):
            if event.epoch <= highest:
                text = f"epoch {event.epoch} was served after {highest}"
                yield Violation("NoSilentRollback", event.at_ns, text)
            highest = max(highest, event.epoch)
            silent += [(since, event.at_ns)] if since else []
            since = 0
        elif isinstance(event, trace.Refused | trace.Died):
            since = since or event.at_ns
        elif isinstance(event, trace.Seeded) and since:
            yield Violation("FailClosed", event.at_ns, f"{event.eid} was given a seed while nothing served")
    silent += [(since, events[-1].at_ns + 1)] if since else []
    for call in found:
        if call.answered is None:
            continue
        if call.answered.outcome is not Outcome.OK:
            if [type(value) for value in call.answered.values] != [str]:
                text = f"{call.asked.operation.name} was refused with more than a reason"
                yield Violation("FailClosed", call.end_ns, text)
        elif any(down < call.begin_ns and call.end_ns < up for down, up in silent):
            text = f"{call.asked.operation.name} was granted while nothing served"
            yield Violation("FailClosed", call.end_ns, text)
