"""What a host's record tells of its executions and ports, as the events of a trace (`assurance.trace`).

    told = tell(read(record), "host1", wanted, behind_ns)
    check(merged(told, tracelines.read(lines)))           what the guest service wrote, and what clients did

The log's numbers give the order, whatever times its entries bear: no event is earlier than that of an entry
before. Seeds and confirmations are the guest service's to tell; the record says only what was put on it.

1. An execution begins as what is known of it in the end. One that is begun twice, or gets another parent
   after the record was certain of the first, begins twice here.
2. A port belongs to the execution that lives when the entry is made: a hold names the one of the process.
3. What opens a port: a hold that ends, one that the filter takes over, an alarm that one is open. Where a
   hold ends because the process is gone, nothing opens.
4. What no hold on record has ever closed counts as open from its beginning, also where a hook had closed it
   and it was over before the agent came back: nobody can say so any more. What began inside a process with an
   open port, and was not closed, was open at its end: until the load was found, nobody could close it.
5. A start that was found running was nobody's to hold, and waits for nothing.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Final, TypeAlias, cast

from undercroft.assurance import trace
from undercroft.assurance.tracelines import MAX_TEXT_CHARS
from undercroft.errors import InputError
from undercroft.model.audit import AuditEntry
from undercroft.model.execution import Origin, RecordedState
from undercroft.model.schema import Json
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.facts import FOUND, RAN
from undercroft.usecases.fleet.starts.network import STOPPED

Wanted: TypeAlias = Callable[[str, str], bool]
"""Whether a policy, by its digest ("" before the log has named one), wants fresh randomness of a machine."""

_PAGE: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class History:
    """What a record holds of executions: its log, the states on it, and which of these were quiesced."""

    entries: tuple[AuditEntry, ...]
    states: tuple[RecordedState, ...] = ()
    quiesced: frozenset[str] = frozenset()


def read(record: Record) -> History:
    """Return what a record tells, of all hosts, in one transaction that reads."""
    entries: list[AuditEntry] = []
    while page := record.log_entries(entries[-1].number if entries else 0, _PAGE):
        entries += page
    return History(tuple(entries), record.states(), frozenset(record.quiesced()))


def tell(history: History, host: str, wanted: Wanted, behind_ns: int) -> list[trace.Event]:
    """Return what a record tells as events, in their order.

    Args:
        history: of the record.
        host: whose ports; executions of others are told too, as parents of its own.
        wanted: what the policies say that held meanwhile.
        behind_ns: the wall's clock less that of the trace, both in nanoseconds; the wall's was not set since.

    Raises:
        InputError: an entry of the log does not say what one of its kind does.
    """
    known: dict[str, dict[str, Json]] = {}
    teller = _Teller(host, wanted, behind_ns, known, history.quiesced)
    told = [(entry, _body(entry)) for entry in history.entries]
    for take in (lambda entry, body: _conclude(known, entry, body), teller.take):
        for entry, body in told:
            try:
                take(entry, body)
            except (KeyError, ValueError, TypeError, IndexError) as error:
                text = f"entry {entry.number} of the log is no {entry.kind!r:.40}: {error!r:.100}"
                raise InputError(text) from error
    return teller.end(history.states)


def merged(*traces: Iterable[trace.Event]) -> list[trace.Event]:
    """Return several traces, each in its order, as one; of one moment the first trace's come first."""
    return list(merge(*traces, key=lambda event: event.at_ns))


def _body(entry: AuditEntry) -> dict[str, Json]:
    try:
        found = json.loads(entry.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"entry {entry.number} of the log has no object in it")
    return found


def _conclude(known: dict[str, dict[str, Json]], entry: AuditEntry, body: dict[str, Json]) -> None:
    """Take over what an entry tells of an execution: in the end it is what is known of it (1)."""
    if entry.kind == "execution" and "origin" in body:
        known.setdefault(str(body["eid"]), dict(body))
    elif entry.kind == "execution" and "changed" in body:
        known.setdefault(str(body["eid"]), {}).update(cast("dict[str, Json]", body["changed"]))


@dataclass(slots=True)
class _Life:
    """An execution as the log has told of it so far.

    `wanted`: the policy of its beginning wants fresh randomness; `first`: where its beginning is among the
    events; `covered`: a hold of the record was over it; `loaded`: it began inside a process whose port was
    open; `opened`: that was told of its own.
    """

    eid: str
    machine: str
    parent: str
    certain: bool
    wanted: bool
    first: int
    covered: bool
    loaded: bool
    opened: bool = False
    ended: bool = False


@dataclass(slots=True)
class _Teller:
    host: str
    wanted: Wanted
    behind_ns: int
    known: Mapping[str, dict[str, Json]]
    quiesced: frozenset[str]
    policy: str = ""
    now_ns: int = 0
    events: list[trace.Event] = field(default_factory=list)
    early: list[tuple[int, trace.Opened]] = field(default_factory=list)
    lives: dict[str, _Life] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def take(self, entry: AuditEntry, body: dict[str, Json]) -> None:
        """Take the next entry of the log."""
        self.now_ns = max(self.now_ns, self._moment(entry.at))
        match entry.kind:
            case "execution" if "origin" in body:
                self._begin(entry.subject, body)
            case "execution" if "changed" in body:
                self._change(entry.subject, body)
            case "ending":
                self._end(str(body["eid"]))
            case "hold" if body["held"]:
                self._close(entry.subject, body)
            case "hold":
                self._drop(entry.subject, body)
            case "release" if body.get("overrides") and "until" in body:
                if life := self._live(entry.subject):
                    self.events.append(trace.Released(self.now_ns, life.eid))
            case "reseed" if body["credited"]:
                generation = int(cast("int", body["generation"]))
                self.events.append(trace.Recorded(self.now_ns, str(body["eid"]), generation))
            case "alarm" if body.get("alarm") == "open":
                self._open(entry.subject, str(cast("list[Json]", body["executions"])[0]))
            case "agent" | "policy" if entry.subject == self.host:
                self.policy = str(body.get("policy") or body.get("digest") or self.policy)

    def end(self, states: Iterable[RecordedState]) -> list[trace.Event]:
        """Return all events, with the states that were taken and what was open all along."""
        for life in self.lives.values():
            if not life.ended:
                self._over(life)
        taken = (
            trace.Snapshotted(
                max(self._moment(state.taken_at), self.began[state.eid]),
                state.eid,
                state.key[:MAX_TEXT_CHARS],
                state.key in self.quiesced,
            )
            for state in states
            if state.eid in self.began
        )
        for first, opened in sorted(self.early, key=lambda each: each[0], reverse=True):
            self.events.insert(first + 1, opened)
        return merged(self.events, sorted(taken, key=lambda event: event.at_ns))

    def _moment(self, at: datetime) -> int:
        return max(0, (at - _EPOCH) // timedelta(microseconds=1) * 1000 - self.behind_ns)

    def _begin(self, machine: str, body: dict[str, Json]) -> None:
        eid = str(body["eid"])
        is_first = eid not in self.began
        known = self.known[eid] if is_first else body
        first = len(self.events)
        self._tell_began(machine, eid, known)
        if body["host"] != self.host or not is_first:
            return
        loaded = known["origin"] == Origin.LOAD
        self.lives[eid] = _Life(
            eid,
            machine,
            str(body["parent"]),
            bool(body["certain"]),
            self.wanted(self.policy, machine),
            first,
            covered=machine in self.held,
            loaded=loaded and machine not in self.held,
        )

    def _tell_began(self, machine: str, eid: str, known: Mapping[str, Json]) -> None:
        state = str(known["state"])[:MAX_TEXT_CHARS]
        parent, how = str(known["parent"]), Origin(str(known["origin"]))
        self.began.setdefault(eid, self.now_ns)
        self.events.append(
            trace.Began(self.now_ns, machine, eid, parent, how, state, quiesced=state in self.quiesced)
        )

    def _change(self, machine: str, body: dict[str, Json]) -> None:
        """Take what was concluded anew: of a parent that was certain there is no other (1)."""
        changed = cast("dict[str, Json]", body["changed"])
        life = self.lives.get(str(body["eid"]))
        if life is None:
            return
        if life.certain and str(changed.get("parent", life.parent)) != life.parent:
            self._tell_began(machine, life.eid, self.known[life.eid])
        life.parent = str(changed.get("parent", life.parent))
        life.certain = bool(changed.get("certain", life.certain))

    def _end(self, eid: str) -> None:
        if (life := self.lives.get(eid)) is not None and not life.ended:
            self._over(life)
            life.ended = True
        if eid in self.began:
            self.events.append(trace.Ended(self.now_ns, eid))

    def _over(self, life: _Life) -> None:
        """Tell that a port was open that nothing had closed (4)."""
        evidence = cast("list[Json]", self.known[life.eid]["evidence"])
        if life.covered or life.opened or RAN not in evidence or FOUND in evidence:
            return
        if life.loaded:
            gated = life.wanted and self.wanted(self.policy, life.machine)
            self.events.append(trace.Opened(self.now_ns, life.eid, gated))
        else:
            at_ns = self.events[life.first].at_ns
            self.early.append((life.first, trace.Opened(at_ns, life.eid, life.wanted)))

    def _close(self, machine: str, body: dict[str, Json]) -> None:
        life = self._live(machine)
        if life is not None:
            life.covered = True
        if body["by_filter"]:
            self._open(machine, str(body["eid"]))
        else:
            self.held.add(machine)
            eid = life.eid if life else str(body["eid"])
            self.events.append(trace.Closed(self.now_ns, eid))

    def _drop(self, machine: str, body: dict[str, Json]) -> None:
        self.held.discard(machine)
        if body["reason"] != STOPPED:
            self._open(machine, str(body["eid"]))
        elif life := self._live(machine):
            life.covered = False  # of another process; this one has to be held anew

    def _open(self, machine: str, eid: str) -> None:
        life = self._live(machine)
        self.held.discard(machine)
        if life is not None:
            life.opened = True
        self.events.append(
            trace.Opened(self.now_ns, life.eid if life else eid, self.wanted(self.policy, machine))
        )

    def _live(self, machine: str) -> _Life | None:
        lives = [life for life in self.lives.values() if life.machine == machine and not life.ended]
        return lives[-1] if lives else None
