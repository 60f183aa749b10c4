"""One machine: which is meant, what is known of it, and what helps."""

from collections.abc import Iterator
from dataclasses import replace

import fleetdata
import pytest
import reports
from fleetdata import NOW, WEB01, ago
from memoryrecords import MemoryRecords

from undercroft.errors import InputError, NotFoundError
from undercroft.model.credentials import Credentials
from undercroft.model.domain import Survey
from undercroft.ports.records import Record
from undercroft.usecases.fleet.views.machine import find_machine, machine_view
from undercroft.usecases.fleet.views.values import MachineView, Network


@pytest.fixture
def record() -> Iterator[Record]:
    records = MemoryRecords()
    fleetdata.fill(records)
    with records.transaction() as record:
        yield record


def view(record: Record, name: str = "web01") -> MachineView:
    return machine_view(record, name, NOW)


def test_a_machine_is_found_by_name_and_by_uuid(record: Record) -> None:
    assert find_machine(record, "web01") == find_machine(record, WEB01.uuid)


def test_a_name_that_nobody_has_suggests_near_misses(record: Record) -> None:
    with pytest.raises(NotFoundError, match=r"wbe01: no machine on record .* did you mean web01"):
        find_machine(record, "wbe01")
    with pytest.raises(NotFoundError, match="undercroft fleet lists them"):
        find_machine(record, "something-else-entirely")


def test_an_empty_record_says_that_it_holds_nothing() -> None:
    with MemoryRecords().reading() as record, pytest.raises(NotFoundError, match="holds no machine yet"):
        find_machine(record, "web01")


def test_a_name_on_two_hosts_lists_both(record: Record) -> None:
    twin = replace(fleetdata.domain(77, "web01"), name="web01")
    record.put_survey(Survey("host2", "", NOW, (twin,)))
    with pytest.raises(InputError) as caught:
        find_machine(record, "web01")
    assert f"{WEB01.uuid} on host1" in str(caught.value)
    assert f"{twin.uuid} on host2" in str(caught.value)
    assert find_machine(record, twin.uuid).host == "host2"


def test_a_machine_that_is_there_comes_before_one_that_is_gone(record: Record) -> None:
    record.put_survey(replace(fleetdata.SURVEY, domains=(), taken_at=NOW))
    assert view(record).gone_at == NOW
    assert view(record).mends == ()
    record.put_survey(Survey("host2", "", NOW, (fleetdata.domain(77, "web01"),)))
    assert find_machine(record, "web01").host == "host2"


def test_the_current_state_comes_first_then_snapshots_with_their_times(record: Record) -> None:
    states = view(record).states
    assert [state.row.state for state in states] == ["current", "installed", "before-upgrade", "nightly"]
    assert [state.taken_at for state in states] == [None, ago(days=40), ago(days=9), ago(days=0.5)]


def test_findings_are_counted_by_severity(record: Record) -> None:
    counts = view(record).states[1].counts
    assert counts is not None
    assert (counts.findings, counts.known_exploited, counts.critical, counts.medium) == (42, 1, 1, 38)
    assert counts.whole


def test_where_no_source_was_asked_a_count_is_unknown(record: Record) -> None:
    scan = record.scan(f"machine:{WEB01.uuid}")
    assert scan is not None
    unrated = reports.assessment(feeds=reports.MIRROR)
    record.put_assessment(scan.software, "later", unrated)
    counts = view(record).states[0].counts
    assert counts is not None
    assert (counts.known_exploited, counts.critical, counts.whole) == (None, None, False)


def test_what_was_not_read_is_unknown_and_its_problem_is_told(record: Record) -> None:
    mail = view(record, "mail01")
    assert mail.states[0].counts is not None
    assert not mail.states[0].counts.whole
    assert "vda: its backing file lies in no storage pool" in mail.problems
    assert any("LUKS" in problem for problem in mail.problems)
    new = view(record, "new01")
    assert (new.states[0].counts, new.credentials, new.system, new.support) == (None, None, "", None)


def test_credentials_are_counted_and_never_shown(record: Record) -> None:
    found = view(record).credentials
    assert found is not None
    assert (found.accounts, found.logins, found.authorized_keys, found.secrets) == (2, 1, 1, 1)
    assert found.whole
    assert "SHA256" not in repr(view(record))


def test_credentials_that_could_not_all_be_read_are_a_lower_bound(record: Record) -> None:
    scan = record.scan(f"machine:{WEB01.uuid}")
    assert scan is not None
    digest = record.put_credentials(Credentials(problems=("/home was not read",)))
    record.put_scan(replace(scan, credentials=digest))
    found = view(record).credentials
    assert found is not None
    assert not found.whole


def test_executions_and_decisions_are_its_own_and_latest_first(record: Record) -> None:
    found = view(record, "db01")
    assert [one.eid[:2] for one in found.executions] == ["e3", "e1"]
    assert [one.machine for one in found.decisions] == [fleetdata.DB01.uuid]
    assert len(machine_view(record, "db01", NOW, limit=1).executions) == 1


def test_only_interfaces_whose_taps_are_held_are_closed(record: Record) -> None:
    (held,) = view(record, "db01").interfaces
    assert held.network is Network.CLOSED
    extra = replace(fleetdata.DB01, interfaces=(*fleetdata.DB01.interfaces, fleetdata.interface(99)))
    record.put_survey(Survey(fleetdata.HOST, "", NOW, (extra,)))
    assert [one.network for one in view(record, "db01").interfaces] == [Network.CLOSED, Network.OPEN]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("db01", "undercroft release db01 --reason REASON"),
        ("web01", "undercroft policy explain web01"),
        ("db02", "undercroft machine db02 --mend genid"),
        ("new01", "undercroft machine new01 --owner WHO"),
        ("gw01", "undercroft lineage gw01"),
        ("gw01", "virsh edit gw01"),
    ],
)
def test_what_is_wrong_comes_with_the_command_that_helps(record: Record, name: str, command: str) -> None:
    assert command in [mend.command for mend in view(record, name).mends]


def test_a_steady_machine_needs_nothing(record: Record) -> None:
    assert view(record, "web02").mends == ()


def test_a_command_never_holds_a_name_that_a_shell_would_read(record: Record) -> None:
    hostile = fleetdata.domain(81, "x; rm -rf ~", genid=False)
    record.put_survey(Survey("host3", "", NOW, (hostile,)))
    commands = [mend.command for mend in view(record, hostile.uuid).mends]
    assert commands
    assert all("rm -rf" not in command and hostile.uuid in command for command in commands)
