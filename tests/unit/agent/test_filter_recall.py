"""An agent that begins while the record or the kernel is away: what the host has filtered, it will."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from agentlab import QUICK, TAP, FailingRecords, Fault
from filterlab import POLICY, FilterLab, without_snapshots
from sqlalchemy import text

from undercroft.agent.host import now
from undercroft.errors import OperationError
from undercroft.model.filter import FilterState
from undercroft.store.fleet.records import SqlRecords, open_records
from undercroft.usecases.firewall.applying import status
from undercroft.usecases.firewall.values import Holding


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def lab(tmp_path: Path) -> FilterLab:
    """A host that has filtered, by the record."""
    lab = FilterLab(tmp_path)
    lab.apply()
    without_snapshots(lab)
    with lab.records.transaction() as record:
        record.put_filter_state(FilterState("host1", 1, POLICY.digest, 7, 0, None, "", now()))
    return lab


@pytest.mark.parametrize("labelled", [True, False])
def test_until_the_record_was_read_what_the_hook_was_told_before_counts(
    lab: FilterLab, labelled: bool
) -> None:
    records = lab.records
    lab.records = FailingRecords(lab.records, Fault(1))  # type: ignore[assignment]
    lab._wired()
    lab.filters.begin(labelled=labelled)
    assert lab.firewall.labels.required is labelled
    with records.reading() as record:
        assert [state.digest for state in record.filter_states()] == [POLICY.digest], (
            "it knows nothing to tell"
        )
    lab.filters._follow()
    assert lab.firewall.labels.required
    assert lab.has_table()


def test_a_host_that_never_filtered_needs_no_labels_once_the_record_was_read(tmp_path: Path) -> None:
    lab = FilterLab(tmp_path)
    lab._wired()
    lab.filters.begin(labelled=True)
    assert not lab.firewall.labels.required


@pytest.mark.parametrize("labelled", [True, False])
def test_a_host_that_was_forgotten_goes_on_holding_what_starts_where_its_kernel_refuses(
    lab: FilterLab, labelled: bool
) -> None:
    """The record has nothing of its filter any more; its hook still has that it has filtered."""
    with lab.records.transaction() as record:
        record.drop_filter_state("host1")
    lab.packet_filter.fail(OperationError("nftables: Operation not supported"))
    lab._wired()
    lab.filters.begin(labelled=labelled)
    assert lab.firewall.labels.required is labelled
    assert "Operation not supported" in lab.problem()
    lab._wired()
    lab.filters.begin()
    assert lab.firewall.labels.required is labelled, "the next agent goes by what this one told"


def test_a_host_whose_kernel_refuses_holds_what_starts_after_any_number_of_agents(lab: FilterLab) -> None:
    """Each puts its state on record, which the next one goes by."""
    lab.packet_filter.fail(OperationError("nftables: Operation not supported"))

    async def again() -> None:
        async with lab.running():
            await lab.until(lambda: "Operation not supported" in lab.problem(), "it is told")
            assert lab.firewall.labels.required

    async def held() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            assert await lab.start()
            assert lab.taps.bridges[TAP] == ""

    asyncio.run(again())
    asyncio.run(again())
    asyncio.run(held())


def test_the_numbers_of_classes_are_recalled_before_a_policy_is_enforced(
    lab: FilterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a packet on its way bears the number of another class."""
    lab.records = FailingRecords(lab.records, Fault(1))  # type: ignore[assignment]
    lab._wired()
    order: list[str] = []
    enforcer = lab.firewall.enforcer
    recall, enforce = enforcer.recall, enforcer.enforce
    monkeypatch.setattr(enforcer, "recall", lambda: (order.append("recall"), recall())[1])
    monkeypatch.setattr(
        enforcer, "enforce", lambda *one, **two: (order.append("enforce"), enforce(*one, **two))[1]
    )
    lab.filters.begin()
    lab.filters._follow()
    assert order[:2] == ["recall", "enforce"]


def _damage(lab: FilterLab, host: str) -> None:
    """Let a host have a row on record that says nothing."""
    assert isinstance(lab.records, SqlRecords)
    with lab.records.engine.begin() as connection:
        connection.execute(text("INSERT OR REPLACE INTO filter_state VALUES (:host, '{')"), {"host": host})


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[FilterLab]:
    """A host with a policy that nobody has enforced yet, and a record in a database."""
    lab = FilterLab(tmp_path)
    with closing(open_records(str(tmp_path / "fleet.db"))) as records:
        lab.records = records  # type: ignore[assignment]
        lab.apply()
        lab._wired()
        yield lab


def test_a_damaged_row_of_another_host_keeps_nobody_from_beginning(stored: FilterLab) -> None:
    _damage(stored, "host0")
    stored.filters.begin()
    assert stored.has_table()
    with stored.records.reading() as record:
        damaged, mine = status(record, now()).hosts
    assert (mine.host, mine.holding) == ("host1", Holding.HELD)
    assert (damaged.host, damaged.holding) == ("host0", Holding.BEHIND)
    assert damaged.state is not None
    assert "filter state of host0 is damaged" in damaged.state.problem


@pytest.mark.parametrize("labelled", [True, False])
def test_a_host_whose_own_row_is_damaged_is_taken_to_have_filtered_and_tells_it_anew(
    stored: FilterLab, labelled: bool
) -> None:
    _damage(stored, "host1")
    stored.packet_filter.fail(OperationError("nftables: Operation not supported"))
    stored.filters.begin(labelled=labelled)
    assert stored.firewall.labels.required, "what starts is held"
    assert any("filter state of host1 is damaged" in line for line in stored.reports)
    assert "Operation not supported" in stored.problem()
    stored.packet_filter.mend()
    stored.filters._follow()
    assert stored.has_table()
    assert stored.problem() == ""
