"""However often a guest forges that it was put back, few executions begin."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from memoryrecords import MemoryRecords
from recordvalues import NOW, execution, later

from undercroft.model.execution import Origin
from undercroft.usecases.fleet.history.rewinds import AT_ONCE, EVERY, allowance, rewound

FIRST = replace(execution(1), started_at=NOW)


def forged(seconds: int, *, bounded: bool = True) -> tuple[int, list[datetime]]:
    """Forge a proof in each session, ten times a second; return how many, and when executions began."""
    records, handed, proofs = MemoryRecords(), FIRST.eid, 0
    begun: list[datetime] = []
    with records.transaction() as record:
        record.put_execution(FIRST)
        for tenth in range(seconds * 10):
            now = later(tenth / 10)
            live = record.own_executions(FIRST.machine, 1)[-1]
            if handed != live.eid and bounded and allowance(record, FIRST.machine, now) < 0:
                continue  # it has no session
            handed, proofs = live.eid, proofs + 1
            put = rewound(record, live.eid, "a number that was seen", now, FIRST.host)
            assert put is not None
            assert put.is_new
            begun.append(now)
    return proofs, begun


def test_control_a_thousand_forged_proofs_begin_a_thousand_executions() -> None:
    proofs, begun = forged(100, bounded=False)
    assert (proofs, len(begun)) == (1000, 1000)


def test_a_guest_that_forges_ten_proofs_a_second_has_a_few_at_once_and_then_one_a_minute() -> None:
    _, begun = forged(1200)
    assert sum(at < later(30) for at in begun) == AT_ONCE + 1
    pauses = [after - before for before, after in pairwise(begun[AT_ONCE:])]
    assert min(pauses) > EVERY - timedelta(seconds=1), "but for what the first seconds gave back"
    assert len(begun) == AT_ONCE + 1200 // 60


def test_over_half_a_day_it_is_hardly_more_than_one_a_minute() -> None:
    with MemoryRecords().transaction() as record:
        record.put_execution(FIRST)
        minutes, count, now = 12 * 60, 0, NOW
        while now < NOW + timedelta(minutes=minutes):
            if (left := allowance(record, FIRST.machine, now)) < 0:
                now += -left * EVERY + timedelta(milliseconds=1)
                continue
            rewound(record, record.own_executions(FIRST.machine, 1)[-1].eid, "again", now, FIRST.host)
            count, now = count + 1, now + timedelta(milliseconds=1)
    assert count < minutes * 1.25


def test_loads_that_libvirt_told_of_count_for_nothing() -> None:
    with MemoryRecords().transaction() as record:
        for number in range(1, 40):
            record.put_execution(replace(execution(number), origin=Origin.LOAD, started_at=NOW))
        assert allowance(record, FIRST.machine, NOW) == AT_ONCE
