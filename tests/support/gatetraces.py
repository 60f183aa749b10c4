"""An agent's run, judged by the invariants: what its record tells, beside what the guest service wrote."""

import time
from collections.abc import Iterable
from typing import Any

from undercroft.assurance import trace
from undercroft.assurance.tracecheck import check
from undercroft.assurance.violations import Violation
from undercroft.ports.records import Records
from undercroft.usecases.fleet.history import traced


def always(policy: str, machine: str) -> bool:
    """Every policy of the run wants fresh randomness of every machine."""
    del policy, machine
    return True


def run_of(
    records: Records, host: str, service: Iterable[trace.Event], wanted: traced.Wanted = always
) -> list[trace.Event]:
    """Return a run as one trace."""
    behind_ns = time.time_ns() - time.monotonic_ns()
    with records.reading() as record:
        history = traced.read(record)
    return traced.merged(traced.tell(history, host, wanted, behind_ns), service)


def broken(
    records: Records, host: str, service: Iterable[trace.Event], wanted: traced.Wanted = always
) -> list[Violation]:
    """Return what a run has broken."""
    return check(run_of(records, host, service, wanted))


class PlayedService:
    """What a guest service would have written, where a test says itself what guests have confirmed."""

    def __init__(self) -> None:
        self.events: list[trace.Event] = []
        self.generation = 1 << 40
        self.behind_ns = time.time_ns() - time.monotonic_ns()

    def gives(self, eid: str, *, credited: bool = True) -> int:
        """Give an execution a seed, which it confirms; return its generation."""
        self.generation += 1
        self.events.append(trace.Seeded(time.monotonic_ns(), eid, self.generation))
        if credited:
            self.events.append(trace.Confirmed(time.monotonic_ns(), eid, self.generation))
        return self.generation


def kinds(events: Iterable[trace.Event], *of: type[Any]) -> list[str]:
    """Return the names of the events of these kinds, in their order."""
    return [type(event).__name__ for event in events if isinstance(event, of)]
