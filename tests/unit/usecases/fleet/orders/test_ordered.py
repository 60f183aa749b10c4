"""What commands did is found in the log: once, also what was done while the agent was away."""

from dataclasses import replace
from datetime import UTC, datetime

from memoryrecords import MemoryRecords
from recordvalues import domain

from undercroft.model.vaulthome import VaultHome
from undercroft.usecases.fleet.orders import ordered as module
from undercroft.usecases.fleet.orders.ordered import Ordered, ordered

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_releases_and_removals_are_taken_up_once_and_refusals_not_at_all() -> None:
    here, elsewhere = domain(1), domain(2)
    with MemoryRecords().transaction() as record:
        record.put_domain("alpha", here.uuid, here, NOW)
        record.put_domain("beta", elsewhere.uuid, elsewhere, NOW)
        for uuid in (here.uuid, elsewhere.uuid):
            record.log("release", uuid, {"outcome": "refused"}, NOW)
            record.log("release", uuid, {"outcome": "done"}, NOW)
            record.log("release", uuid, {"outcome": "done"}, NOW)
        after, found = ordered(record, "alpha", -1)
        assert found == [Ordered(here.uuid, surveyed=False)]
        assert ordered(record, "alpha", after) == (after, [])

        record.log("retention", here.uuid, {"outcome": "ordered"}, NOW)
        record.log("retention", here.uuid, {"outcome": "removed"}, NOW)
        assert ordered(record, "alpha", after)[1] == [Ordered(here.uuid, surveyed=True)]


def test_a_vault_that_got_another_home_is_told_where_its_machine_is_and_a_first_home_is_no_order() -> None:
    with MemoryRecords().transaction() as record:
        record.put_domain("alpha", domain(1).uuid, domain(1), NOW)
        record.put_vault_home(VaultHome(domain(1).uuid, "beta", 3, 0, NOW), "beta", "first")
        after, found = ordered(record, "alpha", -1)
        assert found == []
        record.put_vault_home(VaultHome(domain(1).uuid, "alpha", 0, 3, NOW), "alice", "beta burned")
        assert ordered(record, "alpha", after)[1] == [Ordered(domain(1).uuid, surveyed=False, rehomed=True)]


def test_a_first_look_goes_back_so_far_and_no_further() -> None:
    with MemoryRecords().transaction() as record:
        record.put_domain("alpha", domain(1).uuid, domain(1), NOW)
        record.log("release", domain(1).uuid, {"outcome": "done"}, NOW)
        for number in range(module.LOOK_BACK):
            record.log("agent", "alpha", {"number": number}, NOW)
        assert ordered(record, "alpha", -1)[1] == []
        assert ordered(record, "alpha", 0)[1] == [Ordered(domain(1).uuid, surveyed=False)]


def test_a_host_that_was_forgotten_and_reads_that_is_to_be_surveyed_once() -> None:
    with MemoryRecords().transaction() as record:
        record.log("host", "beta", {"outcome": "forgotten"}, NOW)
        record.log("host", "beta", {"outcome": "forgotten"}, NOW)
        after, found = ordered(record, "beta", -1)
        assert found == [Ordered("", surveyed=True)]
        assert ordered(record, "beta", after) == (after, [])
        assert ordered(record, "alpha", -1)[1] == [Ordered("", surveyed=False)], "what it had is free"


def test_an_entry_that_somebody_damaged_keeps_nobody_from_the_others() -> None:
    with MemoryRecords().transaction() as record:
        record.put_domain("alpha", domain(1).uuid, domain(1), NOW)
        record.log("release", domain(1).uuid, {"outcome": "done"}, NOW)
        (entry,) = record.log_entries(0, 10)
        damaged = [replace(entry, number=2, body=body) for body in ("{", "[]", "")]
        assert not any(map(module._is_done, damaged))
        assert module._is_done(entry)
