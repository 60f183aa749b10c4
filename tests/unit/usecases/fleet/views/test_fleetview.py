"""The fleet's table holds everything that is on record, and nothing looks better than it is known to be."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import fleetdata
import pytest
from fleetdata import NOW, ago
from memoryrecords import MemoryRecords

from undercroft.model.domain import Survey
from undercroft.model.verdict import Action, Outcome, SubjectKind, Verdict
from undercroft.ports.records import Record
from undercroft.usecases.fleet.views.fleet import fleet_view
from undercroft.usecases.fleet.views.values import QUIET, FleetRow, FleetView, Network


@pytest.fixture
def records() -> MemoryRecords:
    records = MemoryRecords()
    fleetdata.fill(records)
    return records


@pytest.fixture
def record(records: MemoryRecords) -> Iterator[Record]:
    with records.transaction() as record:
        yield record


def view(record: Record) -> FleetView:
    return fleet_view(record, NOW)


def row(record: Record, name: str) -> FleetRow:
    return next(found for found in view(record).rows if found.name == name)


def test_everything_on_record_has_one_row(record: Record) -> None:
    found = [shown.subject for shown in view(record).rows]
    surveyed = {
        f"snapshot:{domain.uuid}:{s.name}" for domain in fleetdata.SURVEY.domains for s in domain.snapshots
    }
    machines = {domain.uuid for domain in fleetdata.SURVEY.domains}
    assert len(found) == len(set(found))
    assert {subject.key for subject in record.subjects()} | surveyed <= set(found)
    assert {shown.machine for shown in view(record).rows} - {""} == machines


def test_the_worst_come_first_alarms_before_all_and_running_before_off(record: Record) -> None:
    names = [shown.name for shown in view(record).rows if shown.kind is SubjectKind.MACHINE]
    assert names[:4] == ["gw01", "db01", "mail01", "new01"]
    verdicts = [shown.verdict for shown in view(record).rows if shown.kind is SubjectKind.MACHINE][1:]
    order = [Verdict.QUARANTINED, Verdict.UNKNOWN, Verdict.DRIFTING, Verdict.STEADY]
    assert verdicts == sorted(verdicts, key=order.index)
    assert names.index("web02") < names.index("db02")


def test_snapshots_stand_behind_their_machine(record: Record) -> None:
    names = [shown.name for shown in view(record).rows]
    start = names.index("web01")
    assert names[start : start + 4] == ["web01", "web01@installed", "web01@before-upgrade", "web01@nightly"]


def test_numbers_in_names_sort_as_numbers(record: Record) -> None:
    domains = tuple(fleetdata.domain(900 + number, f"vm{number}") for number in (10, 9, 100))
    record.put_survey(Survey(fleetdata.HOST, "", NOW, domains))
    names = [shown.name for shown in view(record).rows if shown.kind is SubjectKind.MACHINE]
    assert names == ["vm9", "vm10", "vm100"]


def test_what_was_never_judged_is_unknown_and_says_so(record: Record) -> None:
    new = row(record, "new01")
    assert (new.verdict, new.why, new.action, new.since) == (Verdict.UNKNOWN, "not read yet", None, None)
    assert not new.complete
    warm = row(record, "app01@warm")
    assert (warm.verdict, warm.brought_back) == (Verdict.UNKNOWN, None)


def test_what_was_read_but_not_judged_says_so(record: Record) -> None:
    steady = fleetdata.machine(fleetdata.NEW, Verdict.STEADY, Action.ALLOW)
    fleetdata._put(record, steady)
    record.drop_subjects([steady.subject.key])
    scan = record.scan(f"machine:{fleetdata.WEB02.uuid}")
    assert scan is not None
    record.put_scan(replace(scan, subject=steady.subject.key))
    assert row(record, "new01").why == "read, but not judged yet"


def test_a_machine_that_cannot_be_read_gives_its_cause(record: Record) -> None:
    broken = fleetdata.domain(50, "broken", problem="its XML is no XML")
    record.put_survey(Survey("host9", "", NOW, (broken,)))
    assert row(record, "broken").why == "not read yet: its XML is no XML"


def test_a_machine_that_is_gone_has_no_row(record: Record) -> None:
    record.put_survey(replace(fleetdata.SURVEY, domains=(fleetdata.WEB01,), taken_at=NOW))
    names = {shown.name for shown in view(record).rows if shown.kind is SubjectKind.MACHINE}
    assert names == {"web01"}


def test_whether_packets_pass(record: Record) -> None:
    found = {name: row(record, name).network for name in ("web01", "db01", "app01", "db02")}
    assert found == {
        "web01": Network.OPEN,
        "db01": Network.CLOSED,
        "app01": Network.PENDING,
        "db02": Network.NONE,
    }


def test_the_patch_floor_tells_what_a_revert_brings_back(record: Record) -> None:
    assert row(record, "web01@installed").brought_back == len(fleetdata.OLD)
    assert row(record, "web01@nightly").brought_back == 0


def without_floor_rules(record: Record) -> None:
    judged = record.judgements().values()
    bare = [replace(one, results=tuple(r for r in one.results if r.rule != "floor")) for one in judged]
    record.put_judgements(bare)


def test_without_a_floor_the_current_state_is_compared(record: Record) -> None:
    without_floor_rules(record)
    current = {("CVE-2023-4911", "glibc"), ("CVE-2024-0101", "curl"), ("CVE-2023-5678", "openssl")}
    old = {(finding.vulnerability, finding.source) for finding in fleetdata.OLD}
    assert row(record, "web01@installed").brought_back == len(old - current) == 39
    assert row(record, "web01@nightly").brought_back == 0


def test_where_nothing_can_be_compared_nobody_knows_what_comes_back(record: Record) -> None:
    without_floor_rules(record)
    record.drop_subjects([f"machine:{fleetdata.WEB01.uuid}"])
    assert row(record, "web01@installed").brought_back is None


def test_a_floor_that_could_not_be_compared_is_not_nothing(record: Record) -> None:
    key = f"snapshot:{fleetdata.WEB01.uuid}:nightly"
    judged = record.judgement(key)
    assert judged is not None
    unproven = fleetdata.result("floor", "versions prove nothing", Outcome.UNKNOWN, "glibc")
    record.put_judgements([replace(judged, results=(unproven,))])
    assert row(record, "web01@nightly").brought_back is None


def test_a_snapshot_that_only_an_image_knows_has_its_row(record: Record) -> None:
    record.put_subject(fleetdata.taken(fleetdata.WEB02, "by-hand", Verdict.STEADY, Action.ALLOW).subject)
    names = [shown.name for shown in view(record).rows]
    assert names[names.index("web02") + 1] == "web02@by-hand"


def test_two_live_executions_are_an_alarm(record: Record) -> None:
    (alarm,) = row(record, "gw01").alarms
    assert "gw01 lives twice" in alarm
    assert row(record, "web01").alarms == ()


def test_an_image_that_two_machines_write_is_an_alarm_of_both(record: Record) -> None:
    twin = fleetdata.domain(60, "twin", disks=fleetdata.WEB02.disks)
    record.put_survey(replace(fleetdata.SURVEY, domains=(*fleetdata.SURVEY.domains, twin)))
    assert "both run and write to" in row(record, "twin").alarms[0]
    assert row(record, "web02").alarms == row(record, "twin").alarms


def test_as_of_is_the_host_that_was_surveyed_longest_ago(record: Record) -> None:
    assert view(record).as_of == ago(minutes=1)
    record.put_survey(Survey("host2", "", ago(hours=3), (fleetdata.domain(70, "far"),)))
    assert view(record).as_of == ago(hours=3)
    assert view(record).hosts == ("host1", "host2")


def test_the_agents_last_word_is_found_behind_thousands_of_entries(record: Record) -> None:
    for _ in range(2500):
        record.log("verdict", "machine:x", {}, NOW)
    assert view(record).agent_heard_at == ago(seconds=20)


def test_a_record_that_nobody_writes_is_behind(record: Record) -> None:
    assert not view(record).behind
    assert not fleet_view(record, NOW + QUIET - timedelta(minutes=1)).behind
    assert fleet_view(record, NOW + QUIET).behind
    record.log("agent", fleetdata.HOST, {"agent": "connected"}, NOW + timedelta(minutes=1))
    assert not fleet_view(record, NOW + QUIET).behind
    record.put_survey(replace(fleetdata.SURVEY, taken_at=NOW + QUIET))
    assert not fleet_view(record, NOW + QUIET + QUIET).behind


def test_an_agent_that_stopped_leaves_a_record_behind_at_once(record: Record) -> None:
    record.log("agent", fleetdata.HOST, {"agent": "stopped"}, NOW)
    assert (view(record).agent_stopped, view(record).behind) == (True, True)
    record.log("agent", fleetdata.HOST, {"agent": "started", "version": "1"}, NOW)
    assert (view(record).agent_stopped, view(record).behind) == (False, False)


def test_an_empty_record_is_behind_and_has_no_rows() -> None:
    with MemoryRecords().reading() as record:
        empty = fleet_view(record, NOW)
    assert (empty.rows, empty.as_of, empty.agent_heard_at, empty.behind) == ((), None, None, True)
