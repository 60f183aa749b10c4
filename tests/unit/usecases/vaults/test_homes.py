"""Which host keeps a machine's vault: one, whoever comes first; another only by an administrator's word."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memoryrecords import MemoryRecords
from recordvalues import NOW, execution, later, uuid

from undercroft.errors import InputError, OperationError, StateError
from undercroft.model.vaulthome import VaultHome
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records
from undercroft.usecases.vaults.homes import Place, adopt, placed

MACHINE = uuid(1)


class Served:
    """A host's guest service, as far as epochs go."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def status(self) -> dict[str, object]:
        return {"epoch": self.epoch}

    def lift(self, above: int) -> int:
        self.epoch = max(self.epoch, above + 1)
        return self.epoch


def runs_on(records: Records, host: str, number: int = 1) -> None:
    with records.transaction() as record:
        for one in record.live_executions():
            record.put_execution(replace(one, ended_at=later(number), ending="migrated"))
        record.put_execution(
            replace(execution(number), machine=MACHINE, host=host, ended_at=None, ending="", parent="")
        )


def alarms(records: Records) -> list[dict[str, Any]]:
    with records.reading() as record:
        return [json.loads(one.body) for one in record.log_entries() if one.kind == "alarm"]


def test_the_host_that_serves_a_machine_first_keeps_its_vault() -> None:
    records, first, second = MemoryRecords(), Served(3), Served(9)
    assert placed(records, first, MACHINE, "host1", NOW) == Place("", 3)
    assert placed(records, second, MACHINE, "host2", NOW) == Place("host1", 0)
    first.epoch = 4
    assert placed(records, first, MACHINE, "host1", NOW) == Place("", 4)
    with records.reading() as record:
        assert record.vault_home(MACHINE) == VaultHome(MACHINE, "host1", 4, 0, NOW)
        assert [one.kind for one in record.log_entries()] == ["vault"], "an epoch more is no news"
    assert not alarms(records)


def test_hosts_that_begin_at_once_agree_on_one_home(tmp_path: Path) -> None:
    records = open_records(str(tmp_path / "fleet.db"))
    machines = [uuid(number) for number in range(1, 9)]
    found: dict[str, list[Place]] = {"host1": [], "host2": [], "host3": []}
    begin = threading.Barrier(len(found))

    def host(name: str) -> None:
        begin.wait()
        found[name] = [placed(records, Served(5), machine, name, NOW) for machine in machines]

    threads = [threading.Thread(target=host, args=(name,)) for name in found]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    with records.reading() as record:
        homes = record.vault_homes()
    records.close()
    for at, machine in enumerate(machines):
        for name, places in found.items():
            expected = Place("", 5) if homes[machine].host == name else Place(homes[machine].host, 0)
            assert places[at] == expected


def test_nothing_is_guessed_while_the_record_is_away() -> None:
    class Away(MemoryRecords):
        def reading(self) -> Any:
            raise OperationError("the record is away")

    with pytest.raises(OperationError):
        placed(Away(), Served(3), MACHINE, "host1", NOW)


def test_a_service_whose_start_was_refused_claims_nothing() -> None:
    records = MemoryRecords()
    assert placed(records, Served(0), MACHINE, "host1", NOW) == Place("", 0)
    with records.reading() as record:
        assert record.vault_homes() == {}


def test_an_adopted_vault_begins_above_all_that_its_old_home_gave_out() -> None:
    records, second = MemoryRecords(), Served(2)
    placed(records, Served(7), MACHINE, "host1", NOW)
    runs_on(records, "host2")
    with records.transaction() as record:
        home = adopt(record, MACHINE, "host2", by="alice", reason=" host1 burned ", now=later(5))
        assert home == VaultHome(MACHINE, "host2", 0, 7, later(5))
    assert placed(records, second, MACHINE, "host2", NOW) == Place("", 8)
    assert placed(records, Served(8), MACHINE, "host1", NOW) == Place("host2", 0)
    with records.reading() as record:
        entries = [json.loads(one.body) for one in record.log_entries() if one.kind == "vault"]
    assert [(one["home"], one["reason"]) for one in entries] == [
        ("host1", "it served this machine first"),
        ("host2", "host1 burned"),
    ]
    assert not alarms(records)


def test_a_vault_is_adopted_only_where_its_machine_runs_and_nowhere_else() -> None:
    records = MemoryRecords()

    def refused(host: str, why: str, reason: str = "why") -> None:
        with pytest.raises((StateError, InputError), match=why), records.transaction() as record:
            adopt(record, MACHINE, host, by="alice", reason=reason, now=NOW)

    refused("host2", "no home yet")
    placed(records, Served(7), MACHINE, "host1", NOW)
    refused("host2", "does not run on this host")
    runs_on(records, "host1")
    refused("host1", "kept by this host")
    refused("host2", "it runs on host1")
    runs_on(records, "host2", 2)
    refused("host2", "with a reason", " ")


def test_a_home_that_comes_with_an_earlier_epoch_goes_on_above_with_an_alarm() -> None:
    records, service = MemoryRecords(), Served(9)
    placed(records, service, MACHINE, "host1", NOW)
    service.epoch = 3
    assert placed(records, service, MACHINE, "host1", NOW) == Place("", 10)
    (alarm,) = alarms(records)
    assert alarm["alarm"] == "vault-rollback"
    assert "epoch 3, and had served epoch 9" in alarm["reason"]
    assert placed(records, service, MACHINE, "host1", NOW) == Place("", 10)
    assert len(alarms(records)) == 1


@given(st.lists(st.tuples(st.sampled_from(["serve", "restart", "adopt"]), st.integers(0, 2)), max_size=30))
def test_no_two_homes_of_a_vault_ever_serve_it_in_one_epoch(steps: list[tuple[str, int]]) -> None:
    records = MemoryRecords()
    services = [Served(1) for _ in range(3)]
    served: dict[int, int] = {}
    highest = 0
    for number, (what, at) in enumerate(steps, 1):
        host = f"host{at}"
        if what == "restart":
            services[at].epoch += 1
            continue
        if what == "adopt":
            runs_on(records, host, number)
            with records.transaction() as record:
                try:
                    adopt(record, MACHINE, host, by="alice", reason="r", now=NOW)
                except StateError:
                    continue
        place = placed(records, services[at], MACHINE, host, NOW)
        if not place.elsewhere:
            assert served.setdefault(place.epoch, at) == at
            assert place.epoch >= highest, "a later home is above each earlier one"
            highest = place.epoch
