"""Who arrives: what the record says of a migration, and what an announcement counts for."""

from datetime import UTC, datetime, timedelta

import pytest
from memoryrecords import MemoryRecords

from undercroft.model.domain import Domain, Power
from undercroft.model.execution import Execution, Origin
from undercroft.usecases.fleet.starts.arrivals import (
    ANNOUNCED_S,
    MAX_ANNOUNCED,
    Arrivals,
    on_their_way,
)

UUID = "0a0b0c0d-0000-4000-8000-000000000001"
OTHER = "0a0b0c0d-0000-4000-8000-000000000002"
HOST, AWAY = "host1", "host2"
AT = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lives(records: MemoryRecords, host: str, origin: Origin, minutes: int) -> None:
    with records.transaction() as record:
        at = AT + timedelta(minutes=minutes)
        record.put_execution(Execution(f"{host}{minutes:025}", UUID, "web", host, origin, "", "", at))


def seen(records: MemoryRecords, power: Power, minutes: int, uuid: str = UUID, name: str = "web") -> None:
    with records.transaction() as record:
        record.put_domain(HOST, uuid, Domain(uuid, name, power), AT + timedelta(minutes=minutes))


def now(records: MemoryRecords, arrivals: Arrivals) -> frozenset[str]:
    with records.reading() as record:
        return arrivals.now(record)


def announced(records: MemoryRecords, clock: Clock | None = None) -> Arrivals:
    arrivals = Arrivals(HOST, clock or Clock())
    with records.reading() as record:
        arrivals.announce(record, UUID)
    return arrivals


def test_an_announcement_counts_for_a_minute_without_a_process_and_then_no_more() -> None:
    records, clock = MemoryRecords(), Clock()
    arrivals = announced(records, clock)
    assert now(records, arrivals) == {UUID}
    clock.now = ANNOUNCED_S
    assert now(records, arrivals) == frozenset()
    lives(records, HOST, Origin.MIGRATE, 1)
    assert now(records, arrivals) == frozenset(), "it is over for good"


def test_an_announcement_of_a_machine_that_is_started_after_it_is_none() -> None:
    records = MemoryRecords()
    arrivals = announced(records)
    lives(records, HOST, Origin.START, 1)
    assert now(records, arrivals) == frozenset()


def test_a_machine_of_a_host_that_is_not_on_record_arrives_until_it_was_seen_running() -> None:
    records, clock = MemoryRecords(), Clock()
    seen(records, Power.RUNNING, 0)  # of a process before, whose end nobody saw
    arrivals = announced(records, clock)
    lives(records, HOST, Origin.MIGRATE, 1)
    clock.now = 100 * ANNOUNCED_S
    assert now(records, arrivals) == {UUID}
    seen(records, Power.PAUSED, 2)
    assert now(records, arrivals) == {UUID}
    seen(records, Power.RUNNING, 3)
    assert now(records, arrivals) == frozenset()
    seen(records, Power.PAUSED, 4)
    assert now(records, arrivals) == frozenset(), "one that stands still again has not gone back"


def test_by_the_record_a_machine_arrives_while_it_runs_elsewhere_and_was_not_seen_running_here() -> None:
    records = MemoryRecords()
    lives(records, AWAY, Origin.START, 0)
    lives(records, HOST, Origin.MIGRATE, 1)
    arrivals = Arrivals(HOST)
    with records.reading() as record:
        assert on_their_way(record, HOST) == arrivals.now(record) == {UUID}
        assert on_their_way(record, AWAY) == frozenset()
    seen(records, Power.RUNNING, 2, uuid=OTHER, name=UUID)
    assert now(records, arrivals) == {UUID}, "a machine with another one's UUID as its name is another one"
    seen(records, Power.RUNNING, 2)
    with records.reading() as record:
        assert on_their_way(record, HOST) == arrivals.now(record) == frozenset()
    seen(records, Power.PAUSED, 3)
    assert now(records, arrivals) == frozenset(), "it has come once"


def test_which_of_two_hosts_a_machine_goes_to_is_told_by_no_clock() -> None:
    """A host whose clock is an hour late would never see a machine arrive, and drop what it is answered."""
    records = MemoryRecords()
    lives(records, AWAY, Origin.START, 60)
    lives(records, HOST, Origin.MIGRATE, 0)
    with records.reading() as record:
        assert (on_their_way(record, HOST), on_their_way(record, AWAY)) == ({UUID}, frozenset())
    lives(records, AWAY, Origin.MIGRATE, 70)  # it goes back, where nobody has seen its end
    with records.reading() as record:
        assert (on_their_way(record, HOST), on_their_way(record, AWAY)) == (frozenset(), {UUID})
        assert Arrivals(AWAY).now(record, [UUID]) == {UUID}
        assert Arrivals(AWAY).now(record, [OTHER]) == frozenset()


def test_libvirt_s_word_counts_for_the_process_that_it_was_about() -> None:
    records = MemoryRecords()
    lives(records, AWAY, Origin.START, 0)
    lives(records, HOST, Origin.MIGRATE, 1)
    arrivals = Arrivals(HOST)
    with records.reading() as record:
        arrivals.arrived(record, UUID)
    assert now(records, arrivals) == frozenset()
    lives(records, HOST, Origin.MIGRATE, 5)
    assert now(records, arrivals) == {UUID}


@pytest.mark.parametrize("lived", [True, False])
def test_announcements_of_any_uuid_take_no_more_than_their_room(lived: bool) -> None:
    records = MemoryRecords()
    arrivals = Arrivals(HOST, Clock())
    if lived:
        lives(records, HOST, Origin.START, 0)
    with records.reading() as record:
        for number in range(2 * MAX_ANNOUNCED):
            arrivals.announce(record, f"{number:036}")
        arrivals.announce(record, UUID)
        assert len(arrivals.now(record)) == MAX_ANNOUNCED
        assert arrivals.is_announced(UUID) is not lived
