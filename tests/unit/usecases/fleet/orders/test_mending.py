"""Changes of a machine's definition: libvirt first, then the log, and never a lie in either."""

import json
from dataclasses import replace
from datetime import date

import fleetdata
import pytest
from fleetdata import DB02, NOW, WEB01
from memoryfleet import MemoryFleet
from memoryrecords import MemoryRecords

from undercroft.errors import NotFoundError, OperationError, StateError
from undercroft.model.domain import Ownership
from undercroft.model.fleet import MachineRecord
from undercroft.usecases.fleet.orders.mending import Ownerships, change_ownership, mend_genid


@pytest.fixture
def records() -> MemoryRecords:
    records = MemoryRecords()
    fleetdata.fill(records)
    return records


@pytest.fixture
def fleet() -> MemoryFleet:
    return MemoryFleet(fleetdata.SURVEY.domains)


def machine(name: str, records: MemoryRecords) -> MachineRecord:
    with records.reading() as record:
        return record.find_machines(name)[0]


def logged(records: MemoryRecords) -> list[dict[str, object]]:
    with records.reading() as record:
        return [json.loads(entry.body) for entry in record.log_entries() if entry.kind == "mend"]


def test_genid_goes_into_the_definition_and_into_the_log(records: MemoryRecords, fleet: MemoryFleet) -> None:
    mend_genid(records, fleet, machine("db02", records), by="alice", now=NOW)
    assert fleet.domain(DB02.uuid).genid
    assert logged(records) == [{"by": "alice", "name": "db02", "what": "genid"}]


def test_a_machine_that_has_genid_is_left_alone(records: MemoryRecords, fleet: MemoryFleet) -> None:
    with pytest.raises(StateError, match="web01: its definition has <genid/> already"):
        mend_genid(records, fleet, machine("web01", records), by="alice", now=NOW)
    assert fleet.calls == []
    assert logged(records) == []


def test_a_transient_machine_has_no_definition_to_mend(records: MemoryRecords) -> None:
    transient = replace(fleetdata.BUILD, genid=False)
    fleet = MemoryFleet([transient])
    with pytest.raises(StateError, match="transient"):
        mend_genid(records, fleet, machine("build-7f3a", records), by="alice", now=NOW)


def test_what_libvirt_refuses_is_not_logged(records: MemoryRecords, fleet: MemoryFleet) -> None:
    fleet.fail("no libvirtd here")
    with pytest.raises(OperationError):
        mend_genid(records, fleet, machine("db02", records), by="alice", now=NOW)
    with pytest.raises(NotFoundError):
        mend_genid(records, MemoryFleet(), machine("db02", records), by="alice", now=NOW)
    assert logged(records) == []


def test_no_writer_waits_for_libvirt(records: MemoryRecords, fleet: MemoryFleet) -> None:
    """An admission waits for the record's writers; the record is free while libvirt is asked."""
    free: list[bool] = []

    class Watching(MemoryFleet):
        def enable_genid(self, uuid: str) -> None:
            with records.transaction():
                free.append(True)

    mend_genid(records, Watching([DB02]), machine("db02", records), by="alice", now=NOW)
    assert free == [True]


def test_a_change_that_could_not_be_logged_says_that_it_was_made(fleet: MemoryFleet) -> None:
    class Full(MemoryRecords):
        full = False

        def transaction(self):  # type: ignore[no-untyped-def]
            if self.full:
                raise OperationError("disk full")
            return super().transaction()

    records = Full()
    fleetdata.fill(records)
    found = machine("db02", records)
    records.full = True
    with pytest.raises(OperationError, match="db02: changed, but that is not in the log: disk full"):
        mend_genid(records, fleet, found, by="alice", now=NOW)
    assert fleet.domain(DB02.uuid).genid


def test_only_what_is_named_of_an_ownership_changes(records: MemoryRecords, fleet: MemoryFleet) -> None:
    change = Ownerships(labels=("b", "a", "a"), expires_on="2026-01-31")
    after = change_ownership(records, fleet, machine("web01", records), change, by="alice", now=NOW)
    assert after == Ownership("web team", ("a", "b"), date(2026, 1, 31))
    assert fleet.domain(WEB01.uuid).ownership == after
    (entry,) = logged(records)
    assert (entry["what"], entry["by"]) == ("ownership", "alice")
    assert entry["ownership"] == {
        "owner": "web team",
        "labels": ["a", "b"],
        "expires_on": "2026-01-31",
        "template": False,
        "problem": "",
        "addresses": [],
    }


def test_addresses_are_written_all_of_them_and_stay_where_others_change(
    records: MemoryRecords, fleet: MemoryFleet
) -> None:
    def changed(change: Ownerships) -> tuple[str, ...]:
        return change_ownership(
            records, fleet, machine("web01", records), change, by="alice", now=NOW
        ).addresses

    assert changed(Ownerships(addresses=("192.0.2.8", "192.0.2.7", "192.0.2.7"))) == (
        "192.0.2.7",
        "192.0.2.8",
    )
    assert changed(Ownerships(owner="ops")) == ("192.0.2.7", "192.0.2.8")
    assert changed(Ownerships(addresses=())) == ()
    assert fleet.domain(WEB01.uuid).ownership == Ownership("ops", ("prod",))


def test_an_expiry_can_be_taken_away(records: MemoryRecords, fleet: MemoryFleet) -> None:
    never = Ownerships(expires_on="")
    after = change_ownership(records, fleet, machine("old-archive", records), never, by="alice", now=NOW)
    assert after.expires_on is None


def test_metadata_that_could_not_be_read_is_replaced_whole() -> None:
    damaged = Ownership("half", ("x",), problem="two owners")
    assert Ownerships(owner="web team").applied(damaged) == Ownership("web team")


def test_nothing_named_is_nothing_to_do() -> None:
    assert Ownerships().empty
    assert not Ownerships(template=False).empty
