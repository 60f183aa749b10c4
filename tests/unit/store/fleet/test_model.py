"""Random histories on the fake and on SQLite side by side: whatever is done, both answer the same."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memoryrecords import MemoryRecords
from recordvalues import (
    NOW,
    assessment,
    decision,
    domain,
    eid,
    event,
    execution,
    identity,
    inventory,
    judgement,
    later,
    reads,
    scan,
    subject,
    survey,
    uuid,
)

from undercroft.assurance.auditheads import verify_log
from undercroft.errors import NotFoundError
from undercroft.model.domain import Domain, Interface, Ownership
from undercroft.model.execution import Origin, RecordedState, StateKind
from undercroft.model.filter import FilterState, MovedFlows
from undercroft.model.fleet import Hold, Intent
from undercroft.model.verdict import Verdict
from undercroft.ports.records import Record, Records
from undercroft.store.fleet.records import open_records

Step = Callable[[Record], object]
small = st.integers(0, 3)


def _networked(number: int, at: int) -> Domain:
    interfaces = (
        Interface(f"52:54:00:00:00:0{number}", "network", tap=f"vnet{at}", addresses=(f"192.0.2.{at}",)),
    )
    ownership = Ownership(addresses=(f"192.0.2.{at % 2}@52:54:00:00:00:0{number}",))
    return domain(number, autostart=bool(at % 2), interfaces=interfaces, ownership=ownership)


def _scanned(record: Record, number: int, kind: int, at: int) -> None:
    record.put_subject(subject(f"machine:{uuid(number)}", machine=uuid(number)))
    digest, _ = record.put_inventory(inventory(kind), reads(number))
    files = (identity(number, changed_ns=at), identity(99))
    record.put_scan(scan(f"machine:{uuid(number)}", digest, files=files, scanned_at=later(at)))


def _judged(record: Record, number: int, verdict: Verdict, at: int) -> None:
    record.put_judgements([judgement(f"machine:{uuid(number)}", verdict=verdict, at=later(at))])


def _intended(record: Record, number: int, at: int) -> None:
    record.put_intent(Intent(uuid(number), "revert", "s", "root", "r", later(at), later(at + 2), False))


def _state(record: Record, number: int, at: int) -> None:
    record.put_state(
        RecordedState(f"end:{number}", StateKind.END, uuid(number), "", "", later(at), f"f{at % 2}")
    )


def _execution(record: Record, number: int, parent: int, ended: bool, host: int, migrated: bool) -> None:
    changes: dict[str, object] = {"ended_at": later(50), "ending": "stopped"} if ended else {}
    changes |= {"origin": Origin.MIGRATE} if migrated else {}
    record.put_execution(
        execution(number, uuid(number % 2), parent=eid(parent), host=f"host{host}", **changes)
    )


def _filtered(record: Record, number: int, problem: int, at: int) -> None:
    record.put_filter_state(
        FilterState(f"host{number}", at, f"d{at}", at, 1, later(at), "?" * problem, later(at))
    )


def _moved(record: Record, number: int, at: int) -> None:
    record.put_moved_flows(MovedFlows(uuid(number), "host1", later(at), {"flows4": (bytes([at]),) * at}))


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda numbers, at, host: (
            lambda record: record.put_survey(
                survey(
                    *(_networked(number, at) for number in sorted(numbers)), host=f"host{host}", at=later(at)
                )
            )
        ),
        st.sets(small),
        small,
        st.integers(1, 2),
    ),
    st.builds(
        lambda number, at, host, gone: (
            lambda record: record.put_domain(
                f"host{host}", uuid(number), None if gone else _networked(number, at), later(at)
            )
        ),
        small,
        small,
        st.integers(1, 2),
        st.booleans(),
    ),
    st.builds(lambda *given: lambda record: _scanned(record, *given), small, small, small),
    st.builds(lambda *given: lambda record: _judged(record, *given), small, st.sampled_from(Verdict), small),
    st.builds(lambda number: lambda record: record.drop_subjects([f"machine:{uuid(number)}"]), small),
    st.builds(lambda number: lambda record: record.put_decision(decision(f"d{number}")), small),
    st.builds(lambda number: lambda record: record.take_event(event(f"e{number}")), small),
    st.builds(
        lambda *given: lambda record: _execution(record, *given),
        small,
        small,
        st.booleans(),
        st.integers(1, 2),
        st.booleans(),
    ),
    st.builds(lambda *given: lambda record: _intended(record, *given), small, small),
    st.builds(lambda number: lambda record: record.end_intent(uuid(number), "revert", NOW), small),
    st.builds(lambda *given: lambda record: _state(record, *given), small, small),
    st.builds(
        lambda number, at: lambda record: record.put_hold(Hold(uuid(number), "", (), "r", later(at), True)),
        small,
        small,
    ),
    st.builds(lambda number: lambda record: record.drop_hold(uuid(number), "r", NOW), small),
    st.builds(
        lambda number, kind: lambda record: record.put_assessment(f"s{number}", f"a{kind}", assessment(kind)),
        small,
        small,
    ),
    st.builds(
        lambda number: lambda record: record.seen_fixes([("r", "s", str(number))], later(number)), small
    ),
    st.builds(
        lambda at: lambda record: record.put_applied_policy(f"body{at}", f"d{at}", "root", "r", later(at)),
        small,
    ),
    st.builds(lambda *given: lambda record: _filtered(record, *given), small, small, small),
    st.builds(lambda number: lambda record: record.drop_filter_state(f"host{number}"), small),
    st.builds(lambda *given: lambda record: _moved(record, *given), small, small),
    st.builds(lambda number: lambda record: record.drop_moved_flows(uuid(number)), small),
)


def _answers(records: Records) -> list[object]:
    with records.reading() as record:
        verify_log(record.log_entries(), (), "")
        scans = record.scans()
        return [
            record.machines(gone=True),
            [record.find_machines(uuid(number)) for number in range(4)],
            record.subjects(),
            record.subjects_of_lineage("l"),
            scans,
            [record.inventory(known.inventory) for _, known in sorted(scans.items())],
            record.candidates(identity(99), 1),
            record.judgements(),
            record.decisions(),
            record.holds(),
            [record.intent(uuid(number), "revert", later(2)) for number in range(4)],
            [record.executions(uuid(number)) for number in range(2)],
            record.live_executions(),
            record.states(),
            record.states_like(fingerprint="f1"),
            [record.assessments(f"a{number}") for number in range(4)],
            record.seen_fixes([("r", "s", str(number)) for number in range(4)], later(9)),
            record.networked_machines(),
            [record.networked_machines([uuid(number), "?"]) for number in range(4)],
            record.machines_with(["192.0.2.1", "52:54:00:00:00:02", "tap vnet1 of host2"], ["vm0000"]),
            record.live_origins(),
            record.live_origins([uuid(0)]),
            record.executions_as_told(uuid(1)),
            record.verdicts(),
            record.verdicts([f"machine:{uuid(number)}" for number in range(2)]),
            record.holds([uuid(1), uuid(2)]),
            record.applied_policy(),
            record.filter_states(),
            [record.moved_flows(uuid(number)) for number in range(4)],
            [(entry.kind, entry.subject, entry.body, entry.at) for entry in record.log_entries()],
        ]


def _transact(records: Records, transaction: list[Step], *, is_kept: bool) -> list[object]:
    results: list[object] = []
    with suppress(NotFoundError), records.transaction() as record:
        results += [step(record) for step in transaction]
        if not is_kept:
            record.inventory("0" * 64)
    return results


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(st.lists(steps, max_size=6), st.booleans()), max_size=6))
def test_the_fake_and_the_database_answer_the_same(tmp_path: Path, history: list[tuple[list[Step], bool]]):
    empty = tmp_path / "empty.db"
    if not empty.exists():
        open_records(str(empty)).close()
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "fleet.db"  # an example that failed leaves its journal
    shutil.copy(empty, path)
    with closing(open_records(str(path), now=lambda: NOW)) as real:
        fake = MemoryRecords(lambda: NOW)
        for transaction, is_kept in history:
            expected = _transact(fake, transaction, is_kept=is_kept)
            assert expected == _transact(real, transaction, is_kept=is_kept)
            assert _answers(fake) == _answers(real)
