"""An agent that begins while the record or the kernel is away: what the host has filtered, it will."""

import asyncio
from pathlib import Path

import pytest
from agentlab import QUICK, TAP, FailingRecords, Fault
from filterlab import POLICY, FilterLab, without_snapshots

from undercroft.agent.host import now
from undercroft.errors import OperationError
from undercroft.model.filter import FilterState


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
