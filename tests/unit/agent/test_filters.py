"""The firewall in the agent: what policies, starts, quarantines and others do to the kernel's table."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from agentlab import BRIDGE, HOST, QUICK, TAP, UUID, WAIT_S, FailingRecords, Fault
from comebackdata import PATCHED, UNPATCHED
from filterlab import NO_QUARANTINE, POLICY, FilterLab, without_snapshots
from memoryfilter import MemoryFilter
from memoryrecords import MemoryRecords

from undercroft.adapters.hookfiles import RunNote
from undercroft.agent import starts
from undercroft.agent.host import now
from undercroft.agent.orders import Orders
from undercroft.agent.scans import Wish
from undercroft.errors import OperationError
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.policy import (
    Drift,
    FirewallPolicy,
    Never,
    Peer,
    PeerKind,
)
from undercroft.model.domain import Domain, Interface, Power, Survey
from undercroft.model.execution import Execution, Origin
from undercroft.model.filter import FilterState
from undercroft.model.report import CURRENT
from undercroft.ports.fleet import Happening
from undercroft.usecases.fleet.orders.examine import Order
from undercroft.usecases.fleet.orders.forget import forget


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


def play(lab: FilterLab, scene: Callable[[], Awaitable[None]]) -> None:
    """Run the agent while the scene is played."""

    async def run() -> None:
        async with lab.running():
            await scene()

    asyncio.run(run())


async def runs(lab: FilterLab) -> None:
    """Start the machine, once it is known, and wait until its network is open."""
    await lab.until(lab.action, "it is known")
    assert await lab.start()
    await lab.until(lab.is_open, "it runs")


@pytest.fixture
def lab(tmp_path: Path) -> FilterLab:
    return FilterLab(tmp_path)


def test_without_a_policy_nothing_is_asked_of_the_kernel_and_starts_are_as_ever(lab: FilterLab) -> None:
    lab.packet_filter.fail(OperationError("it may not be asked"))

    async def scene() -> None:
        await lab.until(lab.is_known, "it is known")
        assert await lab.start()
        await lab.until(lab.is_open, "it began as it was judged")

    play(lab, scene)
    assert (lab.state(), lab.needs_labels) == (None, [])


def test_a_policy_is_in_force_soon_after_it_was_applied_and_proven(lab: FilterLab) -> None:
    async def scene() -> None:
        await lab.known()
        lab.apply()
        await lab.until(lab.is_proven, "it is proven")

    play(lab, scene)
    state = lab.state()
    assert state is not None
    assert (state.host, state.number, state.digest) == (HOST, 1, POLICY.digest)
    assert lab.needs_labels == [True]


def test_a_tap_has_its_labels_before_qemu_runs_and_none_after_its_release(lab: FilterLab) -> None:
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        assert await lab.start()
        assert lab.seen == [(True, frozenset({"web"}))]
        await lab.until(lab.is_open, "it runs")
        await lab.stop()
        await lab.until(lambda: lab.labels() is None, "its labels are gone")
        await lab.until(lab.is_proven, "and the table is proven without them")

    play(lab, scene)


def test_a_release_takes_no_labels_from_what_has_begun_while_it_was_handled(
    lab: FilterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hooks wait behind the release; a start that libvirt or a survey tells of does not."""
    lab.apply()
    without_snapshots(lab)
    taken: list[frozenset[str] | None] = []

    async def scene() -> None:
        await runs(lab)
        (first,) = lab._read(lambda record: record.live_executions())
        gone = lab.filters.gone

        def gone_late(machine: str, *, migrated: bool) -> None:
            with lab.records.transaction() as record:
                record.put_execution(replace(first, eid="e2", started_at=now()))
            gone(machine, migrated=migrated)
            taken.append(lab.labels())

        monkeypatch.setattr(lab.filters, "gone", gone_late)
        await lab.stop()
        await lab.until(lambda: bool(taken), "its end is handled")
        assert taken == [frozenset({"web"})]

    play(lab, scene)


def test_a_release_that_is_told_twice_takes_no_labels_from_what_has_begun_since(lab: FilterLab) -> None:
    """Its file stays where the disk fails, or the agent ends, before it is removed."""
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await runs(lab)
        (first,) = lab._read(lambda record: record.live_executions())
        await lab.stop()
        await lab.until(lambda: lab.labels() is None, "its labels are gone")
        assert await lab.start()
        await lab.until(lab.is_open, "it runs again")
        await asyncio.to_thread(lab._tell, lab.fleet.domain(UUID), "release", first.eid, sub="end")
        await lab.until(lab.is_quiet, "it is taken")
        assert lab.labels() == {"web"}
        await lab.stop()
        await lab.until(lambda: lab.labels() is None, "its own release takes them")

    play(lab, scene)


def test_what_waits_for_a_confirmation_is_off_its_bridge_until_it_is_opened_with_its_labels(
    lab: FilterLab,
) -> None:
    lab.apply()

    async def scene() -> None:
        await lab.known()
        assert await lab.start()
        assert not lab.seen[0][0]
        await lab.until(lab.is_open, "it began as it was judged")
        assert lab.labels() == {"web"}

    play(lab, scene)


def test_a_quarantined_start_is_on_its_bridge_with_the_quarantine_s_labels_alone(lab: FilterLab) -> None:
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        lab.disks[CURRENT] = UNPATCHED
        assert await lab.start()
        assert lab.seen == [(True, frozenset({"quarantine"}))]
        await lab.until(lambda: len(lab.holds()) == 1, "it is on record")

    play(lab, scene)
    (hold,) = lab.holds()
    assert (hold.by_filter, hold.pending, hold.taps) == (True, False, ())
    assert lab.labels() == {"quarantine"}


def test_a_revert_into_quarantine_goes_back_to_its_bridge_once_it_has_the_labels(lab: FilterLab) -> None:
    lab.apply()

    async def scene() -> None:
        await lab.known()
        assert await lab.start()
        await lab.until(lab.is_open, "it began as it was judged")
        assert await lab.revert()
        assert not lab.seen[-1][0], "nobody knows yet how it began"
        await lab.until(lambda: [hold.by_filter for hold in lab.holds()] == [True], "it is in quarantine")

    play(lab, scene)
    assert lab.taps.bridges[TAP] == BRIDGE
    assert lab.labels() == {"quarantine"}


@pytest.mark.parametrize("policy", [None, NO_QUARANTINE], ids=["withdrawn", "another policy"])
def test_before_a_policy_goes_that_quarantines_what_it_keeps_is_held_off_its_bridge(
    lab: FilterLab, policy: FirewallPolicy | None
) -> None:
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        lab.disks[CURRENT] = UNPATCHED
        assert await lab.start()
        await lab.until(lambda: lab.labels() == {"quarantine"}, "it is in quarantine")
        lab.apply(policy)
        await lab.until(lambda: (found := lab.state()) and found.number == 2, "the next policy is in force")

    play(lab, scene)
    (hold,) = lab.holds()
    assert (hold.by_filter, [tap.tap for tap in hold.taps]) == (False, [TAP])
    assert lab.taps.bridges[TAP] == ""
    assert lab.has_table() is (policy is not None)
    assert lab.needs_labels == ([True, False] if policy is None else [True])


class ChangingLab(FilterLab):
    """A host where another policy comes into force between the hook's question and QEMU's start."""

    after_prepare: FirewallPolicy | None = NO_QUARANTINE

    def _is_labelled(self, domain: Domain, note: RunNote) -> bool:
        self.apply(self.after_prepare)
        ends = time.monotonic() + WAIT_S
        while (state := self.state()) is None or state.number < 2:
            assert time.monotonic() < ends, "the next policy is in force"
            time.sleep(0.005)
        return super()._is_labelled(domain, note)


@pytest.mark.parametrize("policy", [None, NO_QUARANTINE], ids=["withdrawn", "another policy"])
def test_a_quarantined_start_is_held_off_its_bridge_where_no_label_closes_it_any_more(
    tmp_path: Path, policy: FirewallPolicy | None
) -> None:
    """It was answered that labels would do, and the policy that had them has gone since."""
    lab = ChangingLab(tmp_path)
    lab.after_prepare = policy
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        await lab.until(lab.is_proven, "a policy is in force")
        lab.disks[CURRENT] = UNPATCHED
        assert await lab.start()
        assert not lab.seen[-1][0]
        await lab.until(lab.is_quarantined, "that it is held is on record")

    play(lab, scene)
    assert [(hold.by_filter, len(hold.taps)) for hold in lab.holds()] == [(False, 1)]


class ReluctantFilter(MemoryFilter):
    """A filter that fails at the nth change while it is asked to."""

    fails_at = 0
    count = 0

    def change(self, *arguments: Any, **named: Any) -> int:
        self._step()
        return super().change(*arguments, **named)

    def replace(self, *arguments: Any, **named: Any) -> int:
        self._step()
        return super().replace(*arguments, **named)

    def _step(self) -> None:
        self.count += 1
        if self.count == self.fails_at:
            raise OperationError("nftables: No buffer space available")


@pytest.mark.parametrize("fails_at", range(1, 7))
def test_the_filter_fails_at_any_change_and_no_tap_is_ever_open_without_its_labels(
    lab: FilterLab, fails_at: int
) -> None:
    lab.packet_filter = ReluctantFilter()
    lab.packet_filter.fails_at = fails_at
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        await lab.until(lambda: lab.firewall.labels.required, "a policy is in force")
        for _ in range(2):
            assert await lab.start()
            assert lab.seen[-1] in {(True, frozenset({"web"})), (False, None)}
            await lab.until(lab.is_open, "it is open")
            assert lab.labels() == {"web"}
            await lab.stop()
            await lab.until(lambda: lab.labels() is None, "its labels are gone")
        await lab.until(lab.is_proven, "and all is well again")

    play(lab, scene)


def test_a_policy_that_cannot_be_enforced_leaves_the_one_before_and_is_told(lab: FilterLab) -> None:
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        await lab.until(lab.is_proven, "the first is in force")
        with lab.records.transaction() as record:
            record.put_applied_policy('{"format":9}', "ab" * 32, "alice", "", now())
        await lab.until(
            lambda: "policy 2 cannot be enforced, 1 stays in force" in lab.problem(), "it is told"
        )
        assert await lab.start()
        assert lab.seen == [(True, frozenset({"web"}))], "the first one counts on"

    play(lab, scene)
    state = lab.state()
    assert state is not None
    assert (state.number, state.digest) == (1, POLICY.digest)


def test_a_host_whose_policy_cannot_be_enforced_any_more_keeps_what_starts_off_its_bridge(
    lab: FilterLab,
) -> None:
    """Its kernel was replaced: what it filtered until then does not start unfiltered."""
    lab.apply()
    without_snapshots(lab)
    with lab.records.transaction() as record:
        record.put_filter_state(FilterState(HOST, 1, POLICY.digest, 7, 0, None, "", now()))
    lab.packet_filter.fail(OperationError("nftables: Operation not supported"))

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        assert await lab.start()
        assert lab.taps.bridges[TAP] == ""
        await lab.until(lambda: "Operation not supported" in lab.problem(), "it is told")
        await lab.until(lambda: [hold.pending for hold in lab.holds()] == [True], "it is held")
        lab.packet_filter.mend()
        await lab.until(lab.is_open, "it opens once it has its labels")
        assert lab.labels() == {"web"}

    play(lab, scene)


async def calm(lab: FilterLab) -> None:
    """Wait until the agent has done what it had to do."""
    same, last = 0, 0
    while same < 30:
        await asyncio.sleep(0.01)
        now_ = lab.packet_filter.generation()
        same, last = (same + 1 if now_ == last and lab.is_quiet() else 0), now_


def foreign(lab: FilterLab) -> None:
    """Be somebody who opens the table."""
    table = lab.packet_filter.read(TABLE_NAME)
    lab.packet_filter.interfere(replace(table, elements={**table.elements, "taps": {}, "classes": {}}))


@pytest.mark.parametrize(
    "change", [foreign, lambda lab: lab.packet_filter.vanish(TABLE_NAME)], ids=["emptied", "deleted"]
)
def test_a_foreign_change_is_an_alarm_and_put_right(
    lab: FilterLab, change: Callable[[FilterLab], None]
) -> None:
    lab.apply()
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        assert await lab.start()
        await lab.until(lab.is_proven, "it is in force")
        await calm(lab)
        change(lab)
        await lab.until(lambda: bool(lab.alarms()), "it is seen")
        await lab.until(lambda: lab.labels() == {"web"} and lab.is_proven(), "it is put right")

    play(lab, scene)
    assert any("has changed the firewall's table" in reason for reason in lab.alarms())


def test_a_policy_may_want_a_foreign_change_reported_only(lab: FilterLab) -> None:
    lab.apply(replace(POLICY, drift=Drift.REPORT))

    async def scene() -> None:
        await lab.known()
        await lab.until(lab.is_proven, "it is in force")
        await calm(lab)
        lab.packet_filter.vanish(TABLE_NAME)
        await lab.until(lambda: "nothing is filtered" in lab.problem(), "it is told")
        await asyncio.sleep(0.1)

    play(lab, scene)
    assert not lab.has_table()


def test_what_was_wrong_with_a_table_goes_with_it(lab: FilterLab) -> None:
    lab.apply(replace(POLICY, drift=Drift.REPORT))

    async def scene() -> None:
        await lab.known()
        await lab.until(lab.is_proven, "it is in force")
        await calm(lab)
        lab.packet_filter.vanish(TABLE_NAME)
        await lab.until(lambda: "nothing is filtered" in lab.problem(), "it is told")
        lab.apply(None)
        await lab.until(lambda: (found := lab.state()) and not found.digest, "it is withdrawn")

    play(lab, scene)
    assert lab.problem() == ""


def test_where_a_foreign_change_stands_nobody_s_quarantine_rests_on_it(lab: FilterLab) -> None:
    lab.apply(replace(POLICY, drift=Drift.REPORT))
    without_snapshots(lab)

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        lab.disks[CURRENT] = UNPATCHED
        assert await lab.start()
        await lab.until(lab.is_in_quarantine, "it is in quarantine")
        await calm(lab)
        lab.packet_filter.vanish(TABLE_NAME)
        await lab.until(lambda: lab.taps.bridges[TAP] == "", "it is held off its bridge")

    play(lab, scene)
    assert [(hold.by_filter, len(hold.taps)) for hold in lab.holds()] == [(False, 1)]


def test_a_policy_that_was_withdrawn_while_the_agent_was_away_opens_no_quarantine(lab: FilterLab) -> None:
    lab.apply()
    without_snapshots(lab)

    async def begin() -> None:
        await lab.until(lab.action, "it is known")
        lab.disks[CURRENT] = UNPATCHED
        assert await lab.start()
        await lab.until(lab.is_in_quarantine, "it is in quarantine")

    async def again() -> None:
        await lab.until(lambda: (found := lab.state()) and found.number == 2, "it is withdrawn here too")

    play(lab, begin)
    lab.apply(None)
    play(lab, again)
    assert (lab.taps.bridges[TAP], lab.has_table()) == ("", False)
    assert [hold.by_filter for hold in lab.holds()] == [False]


def test_a_table_of_an_agent_that_was_killed_before_it_told_of_it_goes_with_the_withdrawal(
    lab: FilterLab,
) -> None:
    lab.apply()

    async def begin() -> None:
        await lab.until(lab.has_table, "it is in force")

    async def again() -> None:
        await lab.until(lambda: (found := lab.state()) and not found.digest, "it is withdrawn here too")

    play(lab, begin)
    lab.records = MemoryRecords()  # on which this host has told nothing
    lab.apply(None)
    play(lab, again)
    assert not lab.has_table()
    assert lab.problem() == ""


def test_a_machine_of_a_dead_host_that_starts_here_has_its_labels_once_that_is_forgotten(
    lab: FilterLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells the agent but the record's log, and it waits for no other confirmation."""
    monkeypatch.setattr(starts, "CONFIRM_AGAIN_S", (0.01, 0.01, 3600.0))
    lab.apply()
    without_snapshots(lab)
    long_ago = now() - timedelta(hours=1)
    with lab.records.transaction() as record:
        there = lab.fleet.domain(UUID)
        record.put_survey(Survey("dead", "", long_ago, (replace(there, power=Power.RUNNING),)))
        record.put_execution(
            Execution("d" * 32, UUID, there.name, "dead", Origin.START, "", "", started_at=long_ago)
        )

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        assert await lab.start()
        assert lab.seen == [(False, None)]
        await lab.until(lambda: "undercroft host forget dead" in lab.problem(), "the cure is told")
        assert (lab.is_open(), lab.labels()) == (False, None)
        orders = Orders(lab.host, lambda _: None, lambda: None, lab.events.starts.again)
        following = asyncio.create_task(orders.run())
        with lab.records.transaction() as record:
            forget(record, "dead", Order("alice", now(), "burned"), HOST)
        await lab.until(lambda: lab.is_open() and lab.labels() == {"web"}, "it is open, with its labels")
        following.cancel()
        await lab.until(lab.is_proven, "and the table is proven")

    play(lab, scene)


def test_a_machine_with_an_address_in_a_never_s_network_is_told_with_the_flow_and_filtered(
    lab: FilterLab,
) -> None:
    never = Never(Peer(PeerKind.WORLD), Peer(PeerKind.NETWORK, networks=(ip_network("192.0.2.0/24"),)))
    lab.apply(replace(POLICY, nevers=(never,)))
    without_snapshots(lab)
    flow = "the policy allows world -> web01 (192.0.2.7) by tcp/443"

    async def scene() -> None:
        await lab.until(lab.action, "it is known")
        assert await lab.start()
        await lab.until(lambda: flow in lab.problem(), "it is told")
        assert lab.labels() == {"web"}, "nothing is closed for it"

    play(lab, scene)


def test_an_agent_that_comes_back_changes_nothing_for_a_machine_that_runs(lab: FilterLab) -> None:
    lab.apply()
    without_snapshots(lab)

    async def begin() -> None:
        await runs(lab)
        await lab.until(lab.is_proven, "it is proven")

    async def again() -> None:
        await lab.until(lab.is_proven, "it is proven again")

    play(lab, begin)
    before, generation = lab.packet_filter.read(TABLE_NAME), lab.packet_filter.generation()
    play(lab, again)
    assert lab.packet_filter.read(TABLE_NAME) == before
    assert lab.packet_filter.generation() == generation


def test_an_interface_that_is_plugged_in_gets_its_labels(lab: FilterLab) -> None:
    lab.apply(replace(POLICY, addresses=()))
    without_snapshots(lab)

    async def scene() -> None:
        await runs(lab)
        second = Interface("52:54:00:00:00:02", "bridge", BRIDGE, BRIDGE, "vnet2")
        domain = lab.fleet.domain(UUID)
        lab.taps.plug("vnet2", BRIDGE)
        lab.fleet._put(replace(domain, interfaces=(*domain.interfaces, second)))
        lab.fleet.emit(Happening.CHANGED, "device-added", domain)
        await lab.until(lambda: lab.labels("vnet2") == {"web"}, "both have them")
        assert lab.labels(TAP) == {"web"}

    play(lab, scene)


async def begun(lab: FilterLab) -> None:
    """Start it, again where a hook got no answer to its `prepare`."""
    while not await lab.start():
        assert "the agent is away" in lab.refused[-1]


async def life(lab: FilterLab) -> None:
    """Known, started, stopped, started in quarantine, in order again, stopped."""
    await lab.until(lab.action, "it is known")
    await lab.until(lambda: lab.firewall.labels.required, "a policy is in force")
    await begun(lab)
    await lab.until(lambda: lab.is_open() and lab.labels() == {"web"}, "it runs")
    await lab.stop()
    await lab.until(lambda: lab.is_over() and lab.labels() is None, "its end is on record")
    lab.disks[CURRENT] = UNPATCHED
    await begun(lab)
    await lab.until(lab.is_in_quarantine, "it is in quarantine")
    lab.disks[CURRENT] = PATCHED
    lab.scans.add(UUID, Wish(settle=True))
    await lab.until(lambda: lab.is_open() and lab.labels() == {"web"}, "it is out")
    await lab.stop()
    await lab.until(lambda: lab.is_over() and lab.labels() is None, "its last end is on record")


def lived(folder: Path, fault: Fault) -> dict[str, Any]:
    """Return the story of a life; whenever QEMU begins, its tap has its labels or is off its bridge."""
    folder.mkdir()
    lab = FilterLab(folder)
    lab.apply()
    without_snapshots(lab)
    lab.records = FailingRecords(lab.records, fault)  # type: ignore[assignment]

    async def run() -> None:
        async with lab.running():
            await life(lab)

    asyncio.run(run())
    steady, quarantined = frozenset({"web"}), frozenset({"quarantine"})
    first, *later = lab.seen
    assert first in {(True, steady), (False, None), (False, steady)}
    assert all(on_run[1] in {quarantined, None} or not on_run[0] for on_run in later), lab.seen
    return lab.story()


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.soak)])
def test_the_record_fails_at_any_point_and_no_tap_is_open_without_its_labels(
    tmp_path: Path, step: int
) -> None:
    """Also between the kernel and the record: what was admitted, and is not on record, comes again."""
    counting = Fault()
    whole = lived(tmp_path / "0", counting)
    for number in range(1, counting.count + 1, step):
        story = lived(tmp_path / str(number), Fault(number))
        assert story["holds"] == whole["holds"] == [], number
        assert story["taps"] == whole["taps"] == {}, number
