"""What a record tells as a trace: a run of the agent breaks nothing, and each way to falsify it is found."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from agentlab import HOST, QUICK, SNAPSHOT, TAP, UUID, Lab
from comebackdata import PATCHED
from gatetraces import always, kinds
from memoryrecords import MemoryRecords

from undercroft.agent.host import now
from undercroft.assurance import trace
from undercroft.assurance.tracecheck import check
from undercroft.assurance.violations import Violation
from undercroft.errors import InputError
from undercroft.model.audit import AuditEntry
from undercroft.model.channel import Reseed
from undercroft.model.execution import Execution, Origin, RecordedState, StateKind
from undercroft.model.fleet import Intent
from undercroft.usecases.fleet.history.rewinds import rewound
from undercroft.usecases.fleet.history.traced import History, Wanted, merged, read, tell

REQUIRED = "version: 1\ndefaults: {drifting: quarantine, below_floor: quarantine, reseed: required}\n"
OTHER = "ab" * 16


class Run(NamedTuple):
    """A run: what its record tells, and what a guest service would have written."""

    history: History
    service: tuple[trace.Event, ...]

    @property
    def eids(self) -> list[str]:
        """Its executions, in their order."""
        return [str(body(one)["eid"]) for one in self.history.entries if is_begin(one)]


def body(entry: AuditEntry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(entry.body)
    return found


def is_begin(entry: AuditEntry) -> bool:
    return entry.kind == "execution" and "origin" in body(entry)


def events_of(run: Run, wanted: Wanted = always) -> list[trace.Event]:
    return merged(tell(run.history, HOST, wanted, 0), run.service)


def judged(run: Run, wanted: Wanted = always) -> list[Violation]:
    return check(events_of(run, wanted))


def _confirms(lab: Lab) -> None:
    eid = lab._read(lambda record: record.own_executions(UUID)[-1]).eid
    generation = lab.guests.gives(eid)
    with lab.records.transaction() as record:
        record.put_reseed(Reseed(eid, UUID, generation, True, 64, 0, 0, 40, now()))
    lab.events.starts.reseeded(UUID)


def _is_waiting(lab: Lab) -> bool:
    holds = lab._read(lambda record: record.holds())
    return lab.taps.bridges.get(TAP) == "" and [(hold.pending, hold.reseed) for hold in holds] == [
        (True, True)
    ]


async def _opens(lab: Lab) -> None:
    await lab.until(lambda: _is_waiting(lab), "it waits")
    _confirms(lab)
    await lab.until(lab.is_open, "it is open")


async def _life(lab: Lab) -> None:
    """Started, put back inside its process, started anew, reverted; confirmed each time; started at last."""
    assert await lab.start()
    await _opens(lab)
    with lab.records.transaction() as record:
        put = rewound(record, record.own_executions(UUID)[-1].eid, "a number that was seen", now(), HOST)
    assert put is not None
    domain = lab.host.domain(UUID)
    assert domain is not None
    lab.events.starts.confirm(domain, put.execution)
    await _opens(lab)
    await lab.stop()
    await lab.until(lab.is_over, "its end is on record")
    assert await lab.start()
    await _opens(lab)
    assert await lab.revert()
    await _opens(lab)
    await lab.stop()
    await lab.until(lab.is_over, "its end is on record")
    assert await lab.start()
    await lab.until(lambda: _is_waiting(lab), "it waits")


def _let_out(lab: Lab) -> None:
    """Release it as an administrator does, while no agent looks at it: it might close it for that moment."""
    with lab.records.transaction() as record:
        (hold,) = record.holds()
        record.put_intent(
            Intent(UUID, "release", "", "alice", "tonight", now(), now().replace(year=2100), overrides=True)
        )
        record.drop_hold(UUID, "released by alice: tonight", now())
        lab.taps.open_tap(hold.taps[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    lab = Lab(tmp_path_factory.mktemp("run"), MemoryRecords(), policy=REQUIRED)
    lab.disks[SNAPSHOT] = PATCHED

    async def play() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            await _life(lab)
        _let_out(lab)

    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in QUICK:
            patch.setattr(module, name, value)
        asyncio.run(play())
    with lab.records.reading() as record:
        history = read(record)
    # The service's moments are of the other clock; what is told here stays on the wall's.
    behind_ns = lab.guests.behind_ns
    service = tuple(replace(event, at_ns=event.at_ns + behind_ns) for event in lab.guests.events)
    return Run(history, service)


def test_a_run_of_the_agent_breaks_nothing_and_its_trace_has_all_that_happened(run: Run) -> None:
    assert judged(run) == []
    opened = kinds(events_of(run), trace.Began, trace.Recorded, trace.Released, trace.Opened)
    fresh = ["Began", "Recorded", "Opened"]
    assert opened == [*fresh * 4, "Began", "Released", "Opened"]
    began = [each for each in events_of(run) if isinstance(each, trace.Began)]
    assert [each.how for each in began] == ["first", "load", "start", "revert", began[-1].how]
    opens = [each for each in events_of(run) if isinstance(each, trace.Opened)]
    assert [each.eid for each in opens] == run.eids, "also what began inside a process has its port"


# Ways to falsify it


def _entries(run: Run, entries: list[AuditEntry]) -> Run:
    return run._replace(history=replace(run.history, entries=tuple(entries)))


def _where(run: Run, what: Callable[[AuditEntry], bool], which: int = 0) -> int:
    return [at for at, entry in enumerate(run.history.entries) if what(entry)][which]


def _is_drop(entry: AuditEntry) -> bool:
    return entry.kind == "hold" and not body(entry)["held"] and body(entry)["reason"] != "it stopped"


def _rewritten(run: Run, at: int, **changes: object) -> Run:
    entries = list(run.history.entries)
    entries[at] = replace(entries[at], body=json.dumps(body(entries[at]) | changes))
    return _entries(run, entries)


def _without(run: Run, what: Callable[[AuditEntry], bool]) -> Run:
    return _entries(run, [entry for entry in run.history.entries if not what(entry)])


def open_a_port_before_its_guest_confirmed(run: Run) -> Run:
    entries = list(run.history.entries)
    drop = entries.pop(_where(run, _is_drop))
    begin = _where(run, is_begin)
    entries.insert(begin + 1, replace(drop, at=entries[begin].at))
    return _entries(run, entries)


def open_a_loaded_guests_port_before_it_confirmed(run: Run) -> Run:
    entries = list(run.history.entries)
    drop = entries.pop(_where(run, _is_drop, 1))
    begin = _where(run, is_begin, 1)
    entries.insert(begin + 1, replace(drop, at=entries[begin].at))
    return _entries(run, entries)


def never_close_a_port(run: Run) -> Run:
    """The third execution's: neither its hook nor the agent has held it, and nobody says that it opened."""
    third = run.eids[2]
    return _without(run, lambda entry: entry.kind == "hold" and body(entry)["eid"] == third)


def leave_a_loaded_guests_port_open(run: Run) -> Run:
    """Nobody closed it after the load, and it never confirmed."""
    begin, end = _where(run, is_begin, 1), _where(run, is_begin, 2)
    gone = {
        entry.number
        for entry in run.history.entries[begin:end]
        if entry.kind in {"hold", "reseed"} and "it stopped" not in entry.body
    }
    fewer = _without(run, lambda entry: entry.number in gone)
    loaded = run.eids[1]
    service = tuple(each for each in run.service if getattr(each, "eid", "") != loaded)
    return fewer._replace(service=service)


def open_for_the_word_of_another(run: Run) -> Run:
    """The service heard the first execution once more, and the third one's port opened."""
    first, third = run.eids[0], run.eids[2]
    service = tuple(
        replace(each, eid=first) if getattr(each, "eid", "") == third else each for each in run.service
    )
    return run._replace(service=service)


def record_the_word_of_another(run: Run) -> Run:
    """The service heard the third execution, and the agent took it for the first one's word."""
    return _rewritten(run, _where(run, lambda entry: entry.kind == "reseed", 2), eid=run.eids[0])


def record_a_word_that_nobody_gave(run: Run) -> Run:
    return run._replace(service=())


def release_another_execution(run: Run) -> Run:
    """What opened by order has none, and the one before it had."""
    at = _where(run, lambda entry: entry.kind == "release")
    entries = list(run.history.entries)
    release = entries.pop(at)
    entries.insert(_where(run, is_begin, -1), release)
    return _entries(run, entries)


def release_without_overriding(run: Run) -> Run:
    return _rewritten(run, _where(run, lambda entry: entry.kind == "release"), overrides=False)


def hide_an_opening_as_a_stop(run: Run) -> Run:
    """The port of a guest that never confirmed opened, and the record calls it the end of its process."""
    fewer = _without(run, lambda entry: entry.kind == "release")
    return _rewritten(fewer, _where(fewer, _is_drop, -1), reason="it stopped")


def alarm_that_a_port_is_open(run: Run) -> Run:
    entries = list(run.history.entries)
    begin = _where(run, is_begin)
    alarm = json.dumps({"alarm": "open", "executions": [run.eids[0]], "reason": "no tap"})
    entries.insert(begin + 1, replace(entries[begin], kind="alarm", body=alarm))
    return _entries(run, entries)


def open_after_the_end(run: Run) -> Run:
    entries = list(run.history.entries)
    at = [at for at, entry in enumerate(entries) if entry.kind == "ending"][2]
    entries.insert(at + 1, replace(entries[_where(run, _is_drop, 2)], at=entries[at].at))
    return _entries(run, entries)


def begin_without_a_parent(run: Run) -> Run:
    return _rewritten(run, _where(run, is_begin, 2), parent="")


def load_without_a_parent(run: Run) -> Run:
    return _rewritten(run, _where(run, is_begin, 1), parent="")


def begin_from_what_never_was(run: Run) -> Run:
    return _rewritten(run, _where(run, is_begin, 3), parent=OTHER)


def lose_the_beginning_of_a_parent(run: Run) -> Run:
    first = run.eids[0]
    service = tuple(each for each in run.service if getattr(each, "eid", "") != first)
    fewer = _without(run, lambda entry: entry.kind == "execution" and body(entry).get("eid") == first)
    return fewer._replace(service=service)


def begin_twice(run: Run) -> Run:
    entries = list(run.history.entries)
    return _entries(run, [*entries, entries[_where(run, is_begin, 2)]])


def get_a_second_parent(run: Run) -> Run:
    """The loaded one's was certain."""
    entries = list(run.history.entries)
    at = _where(run, is_begin, 2)
    changed = json.dumps({"eid": run.eids[1], "changed": {"parent": run.eids[2]}})
    entries.insert(at + 1, replace(entries[at], body=changed))
    return _entries(run, entries)


MISTAKES: list[tuple[Callable[[Run], Run], str]] = [
    (open_a_port_before_its_guest_confirmed, "NoOutputBeforeReseed"),
    (open_a_loaded_guests_port_before_it_confirmed, "NoOutputBeforeReseed"),
    (never_close_a_port, "NoOutputBeforeReseed"),
    (leave_a_loaded_guests_port_open, "NoOutputBeforeReseed"),
    (open_for_the_word_of_another, "NoOutputBeforeReseed"),
    (record_the_word_of_another, "NoOutputBeforeReseed"),
    (record_a_word_that_nobody_gave, "NoOutputBeforeReseed"),
    (release_another_execution, "NoOutputBeforeReseed"),
    (release_without_overriding, "NoOutputBeforeReseed"),
    (hide_an_opening_as_a_stop, "NoOutputBeforeReseed"),
    (alarm_that_a_port_is_open, "NoOutputBeforeReseed"),
    (open_after_the_end, "FailClosed"),
    (begin_without_a_parent, "Tree"),
    (load_without_a_parent, "Tree"),
    (begin_from_what_never_was, "Tree"),
    (lose_the_beginning_of_a_parent, "Tree"),
    (begin_twice, "Tree"),
    (get_a_second_parent, "Tree"),
]


@pytest.mark.parametrize(
    ("mistake", "invariant"), MISTAKES, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_history_that_is_falsified_is_found(
    run: Run, mistake: Callable[[Run], Run], invariant: str
) -> None:
    falsified = mistake(run)
    assert falsified != run
    assert invariant in {each.invariant for each in judged(falsified)}


def test_where_no_policy_wants_it_no_opening_is_too_early(run: Run) -> None:
    early = open_a_port_before_its_guest_confirmed(run)
    assert judged(early)
    assert judged(early, lambda *_: False) == []


# Told of records that no agent wrote


def _history(*what: Callable[[Any], None]) -> History:
    records = MemoryRecords()
    with records.transaction() as record:
        for one in what:
            one(record)
        return read(record)


def _execution(eid: str, origin: Origin, parent: str = "", state: str = "", host: str = HOST) -> Execution:
    return Execution(eid, UUID, "web01", host, origin, parent, state, now(), evidence=("x",))


def test_the_policy_that_holds_is_the_one_that_the_log_has_named_last() -> None:
    asked: list[str] = []

    def wanted(policy: str, machine: str) -> bool:
        asked.append(policy)
        return machine != UUID

    tell(
        _history(
            lambda record: record.log("agent", HOST, {"agent": "started", "policy": "one"}, now()),
            lambda record: record.put_execution(_execution("a" * 32, Origin.FIRST)),
            lambda record: record.log("policy", "host2", {"digest": "theirs", "problem": ""}, now()),
            lambda record: record.log("policy", HOST, {"digest": "two", "problem": ""}, now()),
            lambda record: record.put_execution(_execution("b" * 32, Origin.START, "a" * 32)),
        ),
        HOST,
        wanted,
        0,
    )
    assert asked == ["one", "two"]


def test_an_execution_begins_from_a_state_of_its_parent_and_of_no_other() -> None:
    a, b = "a" * 32, "b" * 32

    def state(record: Any) -> None:
        record.put_state(
            RecordedState("snapshot:s", StateKind.SNAPSHOT, UUID, "s", a, now() - timedelta(seconds=9))
        )

    def history(parent: str) -> History:
        return _history(
            lambda record: record.put_execution(_execution(a, Origin.FIRST)),
            lambda record: record.put_execution(_execution(b, Origin.START, a)),
            state,
            lambda record: record.put_execution(_execution("c" * 32, Origin.REVERT, parent, "snapshot:s")),
        )

    assert check(tell(history(a), HOST, always, 0)) == []
    assert [each.invariant for each in check(tell(history(b), HOST, always, 0))] == ["Tree"]


def test_executions_of_other_hosts_are_parents_and_their_ports_are_not_told() -> None:
    history = _history(
        lambda record: record.put_execution(_execution("a" * 32, Origin.FIRST, host="host2")),
        lambda record: record.put_execution(_execution("b" * 32, Origin.MIGRATE, "a" * 32)),
    )
    assert kinds(tell(history, HOST, always, 0), trace.Began, trace.Opened) == ["Began", "Began"]


@pytest.mark.parametrize("damaged", ["[]", "{}", '{"origin": "first"}', '{"changed": {}}', "no"])
def test_an_entry_that_cannot_be_read_is_an_error_and_never_left_out(run: Run, damaged: str) -> None:
    entries = list(run.history.entries)
    at = _where(run, is_begin)
    entries[at] = replace(entries[at], body=damaged)
    with pytest.raises(InputError, match=r"of the log|never began"):
        judged(_entries(run, entries))


def test_a_guest_that_is_given_a_seed_and_is_not_on_record_cannot_be_judged(run: Run) -> None:
    first = run.eids[0]
    fewer = _without(run, lambda entry: entry.kind == "execution" and body(entry).get("eid") == first)
    with pytest.raises(InputError, match="never began"):
        judged(fewer)
