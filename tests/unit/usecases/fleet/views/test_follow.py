"""Following the log: each entry once, in order, under the name that people know."""

from itertools import islice

import fleetdata
import pytest
import reports
from fleetdata import NOW, WEB01
from memoryrecords import MemoryRecords

from undercroft.usecases.fleet.views.follow import follow


class StopError(Exception):
    pass


def stop() -> None:
    raise StopError


@pytest.fixture
def records() -> MemoryRecords:
    records = MemoryRecords()
    with records.transaction() as record:
        record.put_survey(fleetdata.SURVEY)
    return records


def log(records: MemoryRecords, *subjects: str) -> None:
    with records.transaction() as record:
        for subject in subjects:
            record.log("verdict", subject, {}, NOW)


def collected(records: MemoryRecords, after: int = 0) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    try:
        for told in follow(records, after, stop):
            found.append((told.name, told.machine))
    except StopError:
        pass
    return found


def test_subjects_have_the_names_that_people_know(records: MemoryRecords) -> None:
    log(
        records,
        WEB01.uuid,
        f"machine:{WEB01.uuid}",
        f"snapshot:{WEB01.uuid}:a:b",
        "image:host1:/images/x:y.qcow2",
        "host1",
        f"machine:{fleetdata.uuid(999)}",
    )
    assert collected(records) == [
        ("web01", WEB01.uuid),
        ("web01", WEB01.uuid),
        ("web01@a:b", WEB01.uuid),
        ("/images/x:y.qcow2", ""),
        ("host1", ""),
        (f"machine:{fleetdata.uuid(999)}", ""),
    ]


def test_a_hostile_name_is_given_as_it_is(records: MemoryRecords) -> None:
    log(records, fleetdata.HOSTILE.uuid)
    assert collected(records) == [(reports.EVIL, fleetdata.HOSTILE.uuid)]


def test_entries_come_once_and_in_order_also_those_that_arrive_meanwhile(records: MemoryRecords) -> None:
    log(records, "a", "b")
    arriving = iter([("c",), ("d", "e")])

    def pause() -> None:
        log(records, *next(arriving, ()))

    numbers = [told.entry.number for told in islice(follow(records, 0, pause), 5)]
    assert numbers == [1, 2, 3, 4, 5]


def test_more_than_a_page_comes_without_a_pause(records: MemoryRecords) -> None:
    log(records, *["a"] * 2500)
    assert len(collected(records)) == 2500


def test_following_begins_behind_the_number_that_is_named(records: MemoryRecords) -> None:
    log(records, "a", "b", "c")
    assert [name for name, _ in collected(records, after=2)] == ["c"]


def test_a_machine_that_is_defined_later_gets_its_name(records: MemoryRecords) -> None:
    late = fleetdata.domain(500, "late")
    log(records, late.uuid)

    def pause() -> None:
        with records.transaction() as record:
            record.put_survey(fleetdata.Survey("host2", "", NOW, (late,)))
        log(records, late.uuid)

    assert [told.name for told in islice(follow(records, 0, pause), 2)] == [late.uuid, "late"]
