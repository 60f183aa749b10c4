"""What must not be: two lives at once. A pure function of the live executions and a survey.

An alarm is named by the executions that it is about; these never come back, so an alarm that was raised
once is the same one for as long as it stands.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from undercroft.model.domain import Domain, Survey
from undercroft.model.execution import Execution, Origin


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm.

    Attributes:
        kind: "two-live", "shared-image" or "fork".
        machines: the UUIDs that it is about, sorted.
        executions: the eids that it is about, sorted.
        reason: one sentence; names in it are as they are.
    """

    kind: str
    machines: tuple[str, ...]
    executions: tuple[str, ...]
    reason: str


def alarms(live: Sequence[Execution], survey: Survey | None = None) -> tuple[Alarm, ...]:
    """Return all alarms, sorted by kind and executions.

    Args:
        live: the live executions of all hosts.
        survey: of one host; None leaves out what images tell.
    """
    found = [*_two_live(live), *_forks(live), *(_shared_images(live, survey) if survey else ())]
    return tuple(sorted(found, key=lambda alarm: (alarm.kind, alarm.executions, alarm.reason)))


def _two_live(live: Sequence[Execution]) -> Iterator[Alarm]:
    by_machine: dict[str, list[Execution]] = defaultdict(list)
    for execution in live:
        by_machine[execution.machine].append(execution)
    for machine, several in by_machine.items():
        for first, second in combinations(several, 2):
            # While a machine migrates it is on both hosts, and runs on one.
            if second.origin is Origin.MIGRATE and second.parent == first.eid:
                continue
            yield _alarm(
                "two-live",
                (first, second),
                {machine},
                f"{first.name} lives twice: on {first.host} since {first.started_at:%Y-%m-%d %H:%M} and "
                f"on {second.host} since {second.started_at:%Y-%m-%d %H:%M}; stop one of them",
            )


def _forks(live: Sequence[Execution]) -> Iterator[Alarm]:
    """Yield the forks whose original, the execution that continued the same RAM, is live as well."""
    by_state: dict[str, list[Execution]] = defaultdict(list)
    for execution in live:
        if execution.state.startswith("save:"):
            by_state[execution.state].append(execution)
    for several in by_state.values():
        for first, second in combinations(several, 2):
            if Origin.FORK in {first.origin, second.origin}:
                yield _alarm(
                    "fork",
                    (first, second),
                    {first.machine, second.machine},
                    f"{first.name} on {first.host} and {second.name} on {second.host} continue the same "
                    "RAM: they share keys, random numbers and sessions; stop one of them",
                )


def _shared_images(live: Sequence[Execution], survey: Survey) -> Iterator[Alarm]:
    eids = {known.machine: known.eid for known in live if known.host == survey.host}
    told: set[tuple[str, str, str, str]] = set()
    for users in _writers(survey.domains):
        for (first, its), (second, path) in combinations(users, 2):
            about = (first.uuid, second.uuid, its, path)
            if first.uuid == second.uuid or about in told:
                continue
            told.add(about)
            executions = tuple(sorted(eids[user.uuid] for user in (first, second) if user.uuid in eids))
            named = its if its == path else f"{its}, which is {path} as well"
            yield Alarm(
                "shared-image",
                tuple(sorted((first.uuid, second.uuid))),
                executions,
                f"{first.name} and {second.name} both run and write to {named}; stop one of them",
            )


def _writers(domains: Iterable[Domain]) -> Iterator[Sequence[tuple[Domain, str]]]:
    """Yield who runs and may write to one top image, without those that are meant to, each with its path.

    Once by the path that libvirt names, and once by what the paths lead to: another name of an image is the
    same image, and where nobody could look, the path is all that there is.
    """
    by_path: dict[str, list[tuple[Domain, str]]] = defaultdict(list)
    by_identity: dict[str, list[tuple[Domain, str]]] = defaultdict(list)
    for domain in domains:
        if domain.power.has_process:
            written = {
                (disk.path, disk.identity)
                for disk in domain.disks
                if disk.path and not disk.readonly and not disk.shareable
            }
            for path, identity in sorted(written):
                by_path[path].append((domain, path))
                if identity:
                    by_identity[identity].append((domain, path))
    yield from by_path.values()
    yield from by_identity.values()


def _alarm(kind: str, executions: Sequence[Execution], machines: set[str], reason: str) -> Alarm:
    return Alarm(kind, tuple(sorted(machines)), tuple(sorted(known.eid for known in executions)), reason)
