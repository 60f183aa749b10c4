"""A snapshot of a running machine whose guest stands still: whoever resumes it draws not one stale byte.

1. The guest's helper freezes all but itself, and says so.
2. libvirt takes the snapshot, with its RAM.
3. The machine that went on gets another session, whose seed thaws it. The guest service tells then whether it
   stood still without a break: only that makes the snapshot a quiesced one.
4. That goes on record. Killed before, the snapshot counts as exposed, which is the safe side.

Whatever fails after 1, the machine is thawed, and nothing is removed. Where this process is killed in
between, the guest service gives the machine another session by itself after two minutes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from undercroft.errors import BusyError, OperationError, StateError, UndercroftError
from undercroft.model.channel import Quiesced
from undercroft.model.domain import Domain, DomainSnapshot, Power
from undercroft.model.execution import Execution
from undercroft.model.schema import Json
from undercroft.ports.fleet import FleetHypervisor
from undercroft.ports.records import Records
from undercroft.usecases.fleet.history.states import snapshot_seen

KIND = "snapshot"
FREEZE_S = 30.0
"""For how long a guest's word that it stands still is waited for."""
THAW_S = 30.0
"""For how long its word that it has a fresh seed is."""
HELD_AGAIN_S = 0.5
HELD_TRIES = 40
"""A scan holds a running machine for a second or so, and libvirt takes no snapshot of it then."""
_RECENT = 16
_STILL = "the machine stands still until the guest service gives it another session, two minutes at the most"
_EXPOSED_CURE = "--exposed takes a snapshot from which every resume draws the same random numbers"


class Said(Protocol):
    """An event of the guest service; its fields are the guest's words."""

    @property
    def event(self) -> str:
        """Return which."""
        ...

    @property
    def machine(self) -> str:
        """Return the machine's UUID."""
        ...

    @property
    def execution(self) -> str:
        """Return the execution's id."""
        ...

    @property
    def fields(self) -> Mapping[str, Any]:
        """Return what else it says."""
        ...


class Watched(Protocol):
    """Events of the guest service, from its `watch` on."""

    def next(self, timeout_s: float | None = None) -> Said | None:
        """Return the next event, None where none came in time. Raises OperationError."""
        ...

    def until(self, event: str, execution: str, timeout_s: float) -> Said | None:
        """Return the next event of a kind and an execution, None in time. Raises OperationError."""
        ...


class Guests(Protocol):
    """The guest service, as far as a snapshot needs it: `adapters.guestservice.GuestService`."""

    def quiesce(self, machine: str, execution: str) -> int:
        """Ask a guest to freeze; return the number. Raises NotFoundError, StateError, OperationError."""
        ...

    def again(self, machine: str, execution: str) -> bool:
        """Begin another session; return whether the guest stood still until now. Raises as `quiesce`."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of it.

    Attributes:
        snapshot: as libvirt has it.
        quiesced: its guest stood still.
        cold: the machine was off: there is no RAM in it that could repeat anything.
        processes: how many stood still.
        frozen_ms: for how long.
        fresh: the machine that went on has confirmed its new seed; True where none was needed.
    """

    snapshot: DomainSnapshot
    quiesced: bool = False
    cold: bool = False
    processes: int = 0
    frozen_ms: int = 0
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Means:
    """What a snapshot is taken with.

    Attributes:
        records: the record; no transaction is open.
        fleet: libvirt.
        host: this host's name.
        clock: gives the time.
        pause: waits for so many seconds.
        monotonic: seconds, for how long it took.
    """

    records: Records
    fleet: FleetHypervisor
    host: str
    clock: Callable[[], datetime]
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


def take_cold(means: Means, domain: Domain, name: str, by: str) -> Taken:
    """Take a snapshot of a machine that is off, or of one that runs on while it is taken: an exposed one.

    Raises StateError, NotFoundError, OperationError as `FleetHypervisor.take_snapshot`.
    """
    snapshot = _take(means, domain, name)
    taken = Taken(snapshot, cold=not domain.power.has_process)
    _put(means, domain, taken, by, "")
    return taken


def take_quiesced(means: Means, domain: Domain, name: str, by: str, guests: Guests, watch: Watched) -> Taken:
    """Take a snapshot of a running machine whose guest stands still.

    Args:
        means: what it is taken with.
        domain: the machine as libvirt has it now.
        name: of the snapshot.
        by: the user.
        guests: the guest service.
        watch: its events, from before this call on.

    Raises:
        StateError: it has such a snapshot, does not run, has no helper, or something in it did not freeze.
        OperationError: libvirt or the service failed; the machine was thawed, or the message tells.
    """
    execution = _live(means, domain)
    if name in {known.name for known in domain.snapshots}:
        raise StateError(f"{domain.name}: it has a snapshot {name!r} already")
    began = means.monotonic()
    try:
        number = guests.quiesce(domain.uuid, execution.eid)
    except UndercroftError as error:
        raise StateError(f"{domain.name}: its guest cannot stand still: {error}; {_EXPOSED_CURE}") from error
    try:
        processes = _frozen(domain, execution, watch, number)
        snapshot = _take(means, domain, name)
    except BaseException as error:
        _thaw(domain, execution, guests, error)
        raise
    held = _thawed(domain, execution, guests)
    frozen_ms = int((means.monotonic() - began) * 1000)
    taken = Taken(snapshot, held, processes=processes, frozen_ms=frozen_ms)
    _put(means, domain, taken, by, execution.eid)
    fresh = _is_fresh(execution, watch)
    return Taken(snapshot, held, processes=processes, frozen_ms=frozen_ms, fresh=fresh)


def _live(means: Means, domain: Domain) -> Execution:
    """Return the execution of a machine that runs. Raises StateError where nothing can be frozen."""
    if domain.power is not Power.RUNNING:
        raise StateError(f"{domain.name}: it is {domain.power}: a guest that does not run cannot answer")
    with means.records.reading() as record:
        known = record.own_executions(domain.uuid, _RECENT)
    found = [one for one in known if one.live and one.host == means.host]
    if not found:
        raise StateError(
            f"{domain.name}: no execution of it is on record here: does `undercroft up` run? {_EXPOSED_CURE}"
        )
    return found[-1]


def _frozen(domain: Domain, execution: Execution, watch: Watched, number: int) -> int:
    """Wait until all but the helper stands still; return how many. Raises StateError."""
    ends = time.monotonic() + FREEZE_S
    while (left := ends - time.monotonic()) > 0:
        event = watch.next(left)
        if event is None or (event.machine, event.execution) != (domain.uuid, execution.eid):
            continue
        if event.event in {"silent", "gone", "rewound"}:
            raise StateError(f"{domain.name}: its helper is {event.event}; {_EXPOSED_CURE}")
        if event.event == "quiesced" and event.fields.get("number") == number:
            text = str(event.fields.get("text", ""))[:400]
            if event.fields.get("frozen") is not True:
                raise StateError(f"{domain.name}: not all of it stood still: {text}; {_EXPOSED_CURE}")
            processes = event.fields.get("processes")
            return processes if isinstance(processes, int) else 0
    raise StateError(f"{domain.name}: its helper has not said within {FREEZE_S:g} s that it stands still")


def _take(means: Means, domain: Domain, name: str) -> DomainSnapshot:
    for _ in range(HELD_TRIES):
        try:
            return means.fleet.take_snapshot(domain.uuid, name)
        except BusyError:
            means.pause(HELD_AGAIN_S)
    return means.fleet.take_snapshot(domain.uuid, name)


def _thawed(domain: Domain, execution: Execution, guests: Guests) -> bool:
    try:
        return guests.again(domain.uuid, execution.eid)
    except UndercroftError as error:
        raise OperationError(
            f"{domain.name}: the snapshot is taken, and counts as exposed; {_STILL}: {error}"
        ) from error


def _thaw(domain: Domain, execution: Execution, guests: Guests, why: BaseException) -> None:
    """Have a machine go on of which no snapshot could be taken."""
    try:
        guests.again(domain.uuid, execution.eid)
    except UndercroftError as error:
        if isinstance(why, UndercroftError):
            raise OperationError(f"{why}; and {_STILL}: {error}") from error


def _is_fresh(execution: Execution, watch: Watched) -> bool:
    try:
        found = watch.until("confirmed", execution.eid, THAW_S)
    except OperationError:
        return False
    return found is not None and found.fields.get("credited") is True


def _put(means: Means, domain: Domain, taken: Taken, by: str, eid: str) -> None:
    now = means.clock()
    body: dict[str, Json] = {
        "snapshot": taken.snapshot.name,
        "quiesced": taken.quiesced,
        "cold": taken.cold,
        "frozen_ms": taken.frozen_ms,
        "by": by,
    }
    try:
        with means.records.transaction() as record:
            state = snapshot_seen(record, domain.uuid, taken.snapshot)
            if taken.quiesced:
                record.put_quiesced(Quiesced(state.key, domain.uuid, eid, taken.processes, now))
            record.log(KIND, domain.uuid, body, now)
    except OperationError as error:
        raise OperationError(
            f"{domain.name}: the snapshot is taken, and counts as exposed: {error}"
        ) from error
