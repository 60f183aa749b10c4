"""A host that has died: its machines are free to run elsewhere once somebody says that it is gone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from memoryrecords import MemoryRecords
from recordvalues import NOW, decision, domain, eid, execution, judgement, later, scan, subject, survey, uuid

from undercroft.errors import DeniedError, InputError, NotFoundError
from undercroft.firewall.policy import FirewallPolicy, LabelRule
from undercroft.firewall.stored import to_text
from undercroft.model.domain import Domain, Interface, Power
from undercroft.model.execution import Origin
from undercroft.model.filter import FilterState
from undercroft.model.fleet import Floor, FloorEntry, Hold
from undercroft.model.verdict import SubjectKind
from undercroft.ports.records import Record, Records
from undercroft.steady.policy import Match
from undercroft.store.fleet.records import open_records
from undercroft.usecases.firewall.machines import Gathered, gathered
from undercroft.usecases.firewall.values import Holding
from undercroft.usecases.fleet.history.reconcile import surveyed
from undercroft.usecases.fleet.orders.examine import Order
from undercroft.usecases.fleet.orders.forget import Forgotten, Moved, forget
from undercroft.usecases.fleet.subjects import domain_subjects, put_subjects
from undercroft.usecases.fleet.views.hosts import FILTER_QUIET, hosts_view
from undercroft.usecases.fleet.views.values import QUIET, HostRow

DEAD, OTHER = "host1", "host2"
POLICY = FirewallPolicy(labels=(LabelRule("web", Match(names=("web*",))),))
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
ORDER = Order("alice", NOW + HOUR, "its power supply burned")


def nic(number: int, tap: str) -> Interface:
    return Interface(f"52:54:00:00:00:{number:02x}", "bridge", "br0", "br0", tap, (f"192.0.2.{number}",))


def web(number: int, tap: str = "vnet1", **changes: object) -> Domain:
    interfaces = (nic(number, tap),)
    running = domain(number, f"web{number:02}", power=Power.RUNNING, libvirt_id=number, interfaces=interfaces)
    return replace(running, **changes)  # type: ignore[arg-type]


def put(record: Record, host: str, *domains: Domain, at: datetime = NOW, eids: int = 0) -> None:
    """Put machines that run on record, as a survey and hooks do."""
    found = survey(*domains, host=host, at=at, volumes=())
    record.put_survey(found)
    put_subjects(record, found)
    for one in domains:
        number = one.libvirt_id + eids
        begun = execution(number, one.uuid, name=one.name, host=host, origin=Origin.START, started_at=at)
        record.put_execution(begun)


def look(records: Records, host: str) -> Gathered:
    with records.reading() as record:
        return gathered(record, POLICY, host, ())


def forgotten(records: Records, host: str = DEAD, order: Order = ORDER, here: str = OTHER) -> Forgotten:
    with records.transaction() as record:
        return forget(record, host, order, here)


def hosts(records: Records, at: datetime) -> dict[str, HostRow]:
    with records.reading() as record:
        return {row.host: row for row in hosts_view(record, at)}


POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))


@pytest.fixture(params=["memory", "sqlite"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    """A record with web01 and web02 on the host that dies, and web03 on the other one."""
    if request.param == "memory":
        opened: Records = MemoryRecords()
    elif request.param == "sqlite":
        opened = open_records(str(tmp_path / "fleet.db"))
    else:
        server = request.getfixturevalue("postgres")
        opened = open_records(server.url(server.new_database("migrated")))
    with opened.transaction() as record:
        record.put_applied_policy(to_text(POLICY), POLICY.digest, "root", "", NOW)
        for host in (DEAD, OTHER):
            record.put_filter_state(FilterState(host, 1, POLICY.digest, 7, 2, NOW, "", NOW))
        put(record, DEAD, web(1), web(2, "vnet2"))
        put(record, OTHER, web(3, "vnet9"))
    yield opened
    opened.close()


@pytest.fixture
def moved(records: Records) -> Records:
    """The host has died, and a cluster has started web01 cold on the other one, as its hook tells."""
    with records.transaction() as record:
        record.put_domain(OTHER, uuid(1), web(1, "vnet10"), later(60))
        begun = execution(11, uuid(1), name="web01", host=OTHER, origin=Origin.START, started_at=later(60))
        record.put_execution(begun)
    return records


@pytest.mark.parametrize("records", ["memory", "sqlite", POSTGRESQL], indirect=True)
def test_a_machine_that_starts_elsewhere_is_closed_until_its_dead_host_is_forgotten(moved: Records) -> None:
    before = look(moved, OTHER)
    assert [port.name for port in before.fleet.ports] == ["web03"]
    assert before.problems == (
        "web01: it is closed on host2, where it was not migrated to: its UUID is that of web01 on host1; "
        "undefine one of them, or define it anew with another UUID; if host1 is gone for good: "
        "undercroft host forget host1 --reason TEXT",
    )
    assert forgotten(moved) == Forgotten(DEAD, 2, 2, (Moved("web01", OTHER),))
    after = look(moved, OTHER)
    assert after.problems == ()
    (port,) = after.ports_of(uuid(1))
    assert (port.tap, port.labels, port.ipv4) == ("vnet10", {"web"}, (IPv4Address("192.0.2.1"),))


def test_one_that_was_made_anew_with_the_address_of_a_dead_host_s_has_it_then(records: Records) -> None:
    anew = domain(
        5, "web05", power=Power.RUNNING, libvirt_id=5, interfaces=(nic(1, "vnet5"), nic(5, "vnet6"))
    )
    with records.transaction() as record:
        put(record, OTHER, web(3, "vnet9"), anew, at=later(60))
    assert [problem.partition("; if ")[2] for problem in look(records, OTHER).problems] == [
        "host1 is gone for good: undercroft host forget host1 --reason TEXT"
    ] * 2
    forgotten(records)
    assert look(records, OTHER).problems == ()
    assert [port.tap for port in look(records, OTHER).ports_of(anew.uuid)] == ["vnet5", "vnet6"]


def test_nothing_of_it_is_there_any_more_and_all_that_was_is_still_on_record(moved: Records) -> None:
    floor = Floor(uuid(2), (FloorEntry("debian:12", "openssl", "3.0", NOW),))
    with moved.transaction() as record:
        assert record.put_decision(decision("d2", machine=uuid(2)))
        record.put_floor(floor)
        record.put_subject(subject(f"image:{DEAD}:/a.qcow2", kind=SubjectKind.IMAGE, machine=""))
    forgotten(moved)
    assert list(hosts(moved, later(3600))) == [OTHER]
    with moved.reading() as record:
        assert record.machines(DEAD) == record.volumes(DEAD) == ()
        assert {one.gone_at for one in record.machines(DEAD, gone=True)} == {ORDER.at}
        assert [state.host for state in record.filter_states()] == [OTHER]
        assert {one.host for one in record.live_executions()} == {OTHER}
        assert {one.host for one in record.subjects()} == {OTHER}
        (ended,) = record.own_executions(uuid(2))
        assert (ended.ending, ended.ended_at) == ("lost", ORDER.at)
        assert ended.evidence[-1] == "its host, host1, was forgotten"
        assert [one.ident for one in record.decisions(uuid(2))] == ["d2"]
        assert record.floor(uuid(2)) == floor
        (entry,) = [one for one in record.log_entries() if one.kind == "host"]
    assert (entry.subject, entry.at) == (DEAD, ORDER.at)
    assert json.loads(entry.body) == {
        "outcome": "forgotten",
        "by": "alice",
        "reason": "its power supply burned",
        "anyway": False,
        "heard_at": NOW.isoformat(),
        "machines": [uuid(1), uuid(2)],
        "executions": 2,
    }


def test_the_log_grows_by_it_which_is_what_wakes_the_other_agents(records: Records) -> None:
    with records.transaction() as record:
        record.put_domain(DEAD, uuid(1), None, NOW)
        record.put_domain(DEAD, uuid(2), None, NOW)
        for one in record.live_executions():
            if one.host == DEAD:
                record.put_execution(replace(one, ended_at=later(1), ending="stopped"))
        before = record.log_head()[1]
    forgotten(records)
    with records.reading() as record:
        assert record.log_head()[1] == before + 1


def test_what_is_known_of_a_machine_s_software_goes_with_it_to_where_it_is_now(moved: Records) -> None:
    """Its verdict may be one of its labels, and nobody has surveyed the host that it is on."""
    key = domain_subjects(DEAD, web(1))[0].key
    with moved.transaction() as record:
        record.put_scan(scan(key))
        record.put_judgements([judgement(key)])
        assert record.subject(key).host == DEAD  # type: ignore[union-attr]
    forgotten(moved)
    with moved.reading() as record:
        assert record.subject(key).host == OTHER  # type: ignore[union-attr]
        assert record.scan(key) is not None
        assert record.judgement(key) is not None


def test_its_holds_end_and_those_of_the_other_host_stay(moved: Records) -> None:
    with moved.transaction() as record:
        # web01's is of its execution on the other host, web02's of the dead one.
        for machine, of in ((1, 11), (2, 2)):
            record.put_hold(Hold(uuid(machine), eid(of), (), "it drifts", NOW, pending=False, by_filter=True))
    forgotten(moved)
    with moved.reading() as record:
        assert [hold.machine for hold in record.holds()] == [uuid(1)]


def test_what_was_just_prepared_and_what_began_by_a_clock_that_is_ahead_end_too(records: Records) -> None:
    with records.transaction() as record:
        ahead = execution(12, uuid(2), host=DEAD, origin=Origin.START, started_at=ORDER.at + HOUR)
        record.put_execution(ahead)
    forgotten(records)
    with records.reading() as record:
        found = record.execution(eid(12))
    assert found is not None
    assert (found.ending, found.ended_at) == ("lost", ahead.started_at)


def test_a_host_that_speaks_again_has_its_machines_back_and_takes_nothing_from_others(moved: Records) -> None:
    forgotten(moved)
    back = survey(web(1), web(2, "vnet2"), host=DEAD, at=ORDER.at + HOUR, volumes=())
    with moved.transaction() as record:
        surveyed(record, back)
        record.put_survey(back)
    assert [port.name for port in look(moved, DEAD).fleet.ports] == ["web02"]
    assert [port.name for port in look(moved, OTHER).fleet.ports] == ["web01", "web03"]
    (problem,) = look(moved, DEAD).problems
    assert problem.startswith("web01: it is closed on host1, where it was not migrated to")
    assert problem.endswith("if host2 is gone for good: undercroft host forget host2 --reason TEXT")


# Who is refused


def test_a_host_that_was_heard_just_now_is_refused_and_nothing_changes(moved: Records) -> None:
    with moved.transaction() as record:
        record.put_filter_state(FilterState(DEAD, 1, POLICY.digest, 8, 2, NOW, "", later(70)))
        before = record.log_head()
    alive = replace(ORDER, at=later(100))
    with pytest.raises(DeniedError, match=r"^host1: its agent was heard 30 s ago.*systemctl stop.*--anyway"):
        forgotten(moved, order=alive)
    with moved.reading() as record:
        assert record.log_head() == before
        assert len(record.machines(DEAD)) == 2
    assert [port.name for port in look(moved, OTHER).fleet.ports] == ["web03"]
    forgotten(moved, order=replace(alive, anyway=True))
    with moved.reading() as record:
        assert json.loads(record.log_entries(last=True)[-1].body)["anyway"] is True


def test_one_whose_clock_is_ahead_counts_as_heard_just_now(records: Records) -> None:
    with records.transaction() as record:
        record.put_filter_state(FilterState(DEAD, 1, POLICY.digest, 8, 2, NOW, "", ORDER.at + HOUR))
    with pytest.raises(DeniedError, match="heard 0 s ago"):
        forgotten(records)


def test_this_very_host_is_not_forgotten_whatever_the_order_says(records: Records) -> None:
    with pytest.raises(DeniedError, match="host1: it is this very host"):
        forgotten(records, order=replace(ORDER, anyway=True), here=DEAD)


def test_a_host_that_is_not_on_record_is_told_with_those_that_are(records: Records) -> None:
    with pytest.raises(NotFoundError, match=r"host9: nothing on record.*hosts on record: host1, host2"):
        forgotten(records, "host9")
    forgotten(records)
    with pytest.raises(NotFoundError, match=r"host1: nothing on record.*hosts on record: host2"):
        forgotten(records)


def test_it_goes_on_record_with_a_reason_only(records: Records) -> None:
    with pytest.raises(InputError, match="--reason"):
        forgotten(records, order=replace(ORDER, reason=" "))


# When a host was heard


def test_a_host_that_filters_is_silent_sooner_than_one_that_only_surveys(records: Records) -> None:
    with records.transaction() as record:
        put(record, "host3", web(4))
    just, after = NOW + FILTER_QUIET, NOW + FILTER_QUIET + SECOND
    assert [row.silent for row in hosts(records, just).values()] == [False, False, False]
    assert [row.silent for row in hosts(records, after).values()] == [True, True, False]
    late = NOW + QUIET + SECOND
    assert [row.silent for row in hosts(records, late).values()] == [True, True, True]
    with records.transaction() as record:  # where nothing is filtered, nobody tells of it each half minute
        record.put_applied_policy("", "", "root", "", NOW)
    assert not hosts(records, after)[DEAD].silent


def test_a_row_says_what_is_on_record_of_a_host(records: Records) -> None:
    with records.transaction() as record:
        put(record, DEAD, web(1), web(2, "vnet2", power=Power.OFF), at=later(5))
    at = later(65)
    assert hosts(records, at)[DEAD] == HostRow(
        DEAD, later(5), False, False, 120, machines=2, running=1, policy=1, filter=Holding.PROVEN
    )


def test_an_agent_that_has_stopped_is_not_alive(records: Records) -> None:
    with records.transaction() as record:
        record.log("agent", DEAD, {"agent": "stopped"}, later(10))
    row = hosts(records, later(11))[DEAD]
    assert (row.heard_at, row.stopped, row.silent) == (later(10), True, True)
    with records.transaction() as record:
        record.log("agent", DEAD, {"agent": "started"}, later(12))
    row = hosts(records, later(13))[DEAD]
    assert (row.heard_at, row.stopped, row.silent) == (later(12), False, False)


def test_what_somebody_says_about_a_host_is_no_word_of_its_agent(records: Records) -> None:
    with records.transaction() as record:
        record.log("host", DEAD, {"outcome": "forgotten"}, ORDER.at)
    assert hosts(records, ORDER.at)[DEAD].heard_at == NOW
