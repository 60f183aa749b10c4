"""The gate without a channel: the test puts on record what a guest has confirmed, and what it proves."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agentlab import HOST, QUICK, SNAPSHOT, TAP, UUID, FailingRecords, Fault, Lab
from comebackdata import PATCHED, UNPATCHED
from filterlab import FilterLab
from gatetraces import always, broken
from memoryrecords import MemoryRecords

from undercroft.adapters import hookfiles
from undercroft.agent.host import now
from undercroft.agent.scans import Wish
from undercroft.assurance.violations import Violation
from undercroft.errors import OperationError
from undercroft.model.channel import Reseed
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import Intent
from undercroft.model.report import CURRENT
from undercroft.usecases.fleet.history.rewinds import rewound
from undercroft.usecases.fleet.history.traced import Wanted
from undercroft.usecases.fleet.starts.reseed import RELEASE, is_fresh

REQUIRED = "version: 1\ndefaults: {drifting: quarantine, below_floor: quarantine, reseed: required}\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, MemoryRecords(), policy=REQUIRED)


@pytest.fixture
def filtered(tmp_path: Path) -> FilterLab:
    lab = FilterLab(tmp_path)
    lab.places.policy.write_text(REQUIRED)
    lab.apply()
    return lab


def play(lab: Lab, scene: Callable[[], Awaitable[None]], wanted: Wanted = always) -> list[Violation]:
    """Run the agent while something is played; return what it did that it must not."""

    async def run() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            await scene()

    asyncio.run(run())
    return broken(lab.records, HOST, lab.guests.events, wanted)


def holds(lab: Lab) -> list[tuple[bool, bool, bool]]:
    """Return of each hold: whether it is pending, waits for a seed, and is the filter's."""
    found = lab._read(lambda record: record.holds())
    return [(hold.pending, hold.reseed, hold.by_filter) for hold in found]


def last(lab: Lab) -> Execution:
    found: Execution = lab._read(lambda record: record.own_executions(UUID)[-1])
    return found


def is_closed(lab: Lab) -> bool:
    return lab.taps.bridges.get(TAP) == ""


def confirm(lab: Lab, eid: str = "", *, credited: bool = True, given: bool = True) -> None:
    """Put a confirmation on record, of the last execution, as the guest service's word does.

    Without `given` no guest service ever gave that seed.
    """
    eid = eid or last(lab).eid
    generation = lab.guests.gives(eid, credited=credited) if given else 1
    reseed = Reseed(eid, UUID, generation, credited, 64, 0, 0, 40, now())
    with lab.records.transaction() as record:
        record.put_reseed(reseed)
    lab.events.starts.reseeded(UUID)


def prove_rewind(lab: Lab) -> Execution:
    """Do what the agent does with a proof."""
    with lab.records.transaction() as record:
        put = rewound(record, last(lab).eid, "a number that was seen", now(), HOST)
    assert put is not None
    domain = lab.host.domain(UUID)
    assert domain is not None
    lab.events.starts.confirm(domain, put.execution)
    return put.execution


async def waits(lab: Lab) -> None:
    """Start the machine, and wait until nothing but its guest's word is missing."""
    assert await lab.start()
    await lab.until(lambda: holds(lab) == [(True, True, False)] and is_closed(lab), "it waits for its seed")


def test_the_word_on_its_start_comes_first_and_then_its_guests(lab: Lab) -> None:
    async def scene() -> None:
        await waits(lab)
        confirm(lab)
        await lab.until(lab.is_open, "it is open")

    assert play(lab, scene) == []


def test_its_guests_word_comes_first_and_then_that_on_its_start(lab: Lab) -> None:
    def confirmed() -> None:
        with lab.records.transaction() as record:
            (begun,) = record.live_executions()
            generation = lab.guests.gives(begun.eid)
            record.put_reseed(Reseed(begun.eid, UUID, generation, True, 64, 0, 0, 40, now()))

    async def scene() -> None:
        lab.on_run = confirmed  # type: ignore[method-assign]
        assert await lab.start()
        await lab.until(lab.is_open, "it is open")

    assert play(lab, scene) == []


def test_it_is_closed_before_its_guest_runs_whatever_else_could_hold_it(lab: Lab) -> None:
    lab.fleet._put(replace(lab.fleet.domain(UUID), snapshots=()))  # it can be no revert
    seen: list[bool] = []

    async def scene() -> None:
        lab.on_run = lambda: seen.append(is_closed(lab))  # type: ignore[method-assign]
        await waits(lab)

    assert play(lab, scene) == []
    assert seen == [True]


def test_neither_another_executions_word_opens_it_nor_a_seed_that_was_not_credited(lab: Lab) -> None:
    async def scene() -> None:
        await waits(lab)
        confirm(lab, "ab" * 16, given=False)
        confirm(lab, credited=False)
        await asyncio.sleep(0.1)
        assert holds(lab) == [(True, True, False)]
        assert is_closed(lab)

    found = play(lab, scene)
    assert all("ab" * 16 in each.text for each in found)
    assert {each.invariant for each in found} == {"Tree", "NoOutputBeforeReseed"}, "of what never was"


def test_a_quarantine_by_the_filter_begins_once_its_guest_is_fresh(filtered: FilterLab) -> None:
    lab = filtered

    async def scene() -> None:
        await lab.known(unpatched=True)
        assert await lab.start()
        assert lab.seen[0][0] is False, "off its bridge when QEMU begins"
        await lab.until(lambda: holds(lab) == [(False, True, False)], "it is in quarantine, by its tap")
        assert is_closed(lab)
        confirm(lab)
        await lab.until(lab.is_in_quarantine, "it reaches what its label may")

    assert play(lab, scene) == []


def test_control_without_the_line_a_quarantined_guest_speaks_before_it_is_fresh(filtered: FilterLab) -> None:
    lab = filtered
    lab.places.policy.write_text(REQUIRED.replace("required", "ignored"))

    async def scene() -> None:
        await lab.known(unpatched=True)
        assert await lab.start()
        await lab.until(lab.is_in_quarantine, "it reaches what its label may")

    assert [each.invariant for each in play(lab, scene)] == ["NoOutputBeforeReseed"]
    assert broken(lab.records, HOST, (), lambda *_: False) == []


def test_a_machine_in_quarantine_by_the_filter_that_was_put_back_leaves_its_bridge_until_it_is_fresh(
    filtered: FilterLab,
) -> None:
    lab = filtered

    async def scene() -> None:
        await lab.known(unpatched=True)
        assert await lab.start()
        await lab.until(lambda: holds(lab) == [(False, True, False)], "it is in quarantine")
        confirm(lab)
        await lab.until(lab.is_in_quarantine, "it reaches what its label may")
        prove_rewind(lab)
        await lab.until(lambda: holds(lab) == [(False, True, False)], "it is closed by its tap")
        assert is_closed(lab)
        confirm(lab)
        await lab.until(lab.is_in_quarantine, "it is in its quarantine again")

    assert play(lab, scene) == []


def test_what_was_put_back_is_judged_before_its_guests_word_opens_it(lab: Lab) -> None:
    async def scene() -> None:
        await waits(lab)
        confirm(lab)
        await lab.until(lab.is_open, "it is open")
        lab.disks[CURRENT] = UNPATCHED
        with lab.records.transaction() as record:
            put = rewound(record, last(lab).eid, "a head from before", now(), HOST)
        assert put is not None
        confirm(lab, put.execution.eid)  # quicker than anybody has looked at what now runs
        domain = lab.host.domain(UUID)
        assert domain is not None
        lab.events.starts.confirm(domain, put.execution)
        await lab.until(lambda: holds(lab) == [(False, False, False)], "it is in quarantine")
        assert is_closed(lab)

    assert play(lab, scene) == []


def test_a_quarantine_by_taps_of_what_was_put_back_waits_for_its_new_execution_as_well(lab: Lab) -> None:
    async def scene() -> None:
        await lab.until(lab.is_known, "it was patched once")
        lab.disks[CURRENT] = UNPATCHED
        assert await lab.start()
        await lab.until(lambda: holds(lab) == [(False, False, False)], "it is in quarantine")
        confirm(lab)
        prove_rewind(lab)
        await lab.until(lambda: holds(lab) == [(False, True, False)], "and waits for its seed in it")
        lab.disks[CURRENT] = PATCHED
        lab.scans.add(UUID, Wish(settle=True))
        await lab.until(lambda: holds(lab) == [(True, True, False)] and is_closed(lab), "now for that alone")
        confirm(lab)
        await lab.until(lab.is_open, "it is in order, and fresh")

    play(lab, scene)


@pytest.mark.parametrize("quick_word", [True, False])
def test_what_waited_and_was_put_back_is_judged_and_waits_for_its_new_executions_word(
    lab: Lab, *, quick_word: bool
) -> None:
    opened: list[str] = []
    open_tap = lab.taps.open_tap
    lab.taps.open_tap = lambda held: (opened.append(held.tap), open_tap(held))[1]  # type: ignore[method-assign]

    async def scene() -> None:
        await waits(lab)
        lab.disks[CURRENT] = UNPATCHED
        with lab.records.transaction() as record:
            put = rewound(record, last(lab).eid, "a head from before", now(), HOST)
        assert put is not None
        if quick_word:
            confirm(lab, put.execution.eid)
            await asyncio.sleep(0.05)
        domain = lab.host.domain(UUID)
        assert domain is not None
        lab.events.starts.confirm(domain, put.execution)
        await lab.until(lambda: holds(lab) == [(False, not quick_word, False)], "it is in quarantine")
        assert is_closed(lab)
        assert opened == []
        lab.disks[CURRENT] = PATCHED
        confirm(lab, put.execution.eid)
        lab.scans.add(UUID, Wish(settle=True))
        await lab.until(lab.is_open, "it is in order, and fresh")

    assert play(lab, scene) == []


def test_a_proof_closes_an_open_port_at_once_and_the_new_executions_word_opens_it(lab: Lab) -> None:
    async def scene() -> None:
        await waits(lab)
        confirm(lab)
        await lab.until(lab.is_open, "it is open")
        before = last(lab)
        after = prove_rewind(lab)
        assert (after.origin, after.parent, after.certain) == (Origin.LOAD, before.eid, True)
        await lab.until(lambda: holds(lab) == [(True, True, False)] and is_closed(lab), "it waits")
        confirm(lab, before.eid)
        await asyncio.sleep(0.05)
        assert is_closed(lab), "what the one before has confirmed counts for nothing"
        confirm(lab)
        await lab.until(lab.is_open, "it is open")

    assert play(lab, scene) == []


def test_a_load_that_libvirt_tells_of_as_well_is_one_execution_whichever_word_comes_first(lab: Lab) -> None:
    async def scene() -> None:
        await waits(lab)
        confirm(lab)
        await lab.until(lab.is_open, "it is open")
        prove_rewind(lab)
        lab.fleet.load_in_process(UUID)
        await lab.until(lambda: holds(lab) == [(True, True, False)], "it waits")
        await lab.until(lambda: any("resumed" in one for one in last(lab).evidence), "libvirt's word is in")
        assert [one.origin for one in lab._read(lambda record: record.own_executions(UUID))].count(
            Origin.LOAD
        ) == 1
        first = last(lab)
        confirm(lab)
        await lab.until(lab.is_open, "it is open")

        lab.fleet.load_in_process(UUID)  # and now libvirt is quicker
        await lab.until(lambda: last(lab).eid != first.eid, "it is another execution")
        assert not last(lab).certain
        with lab.records.transaction() as record:
            put = rewound(record, first.eid, "a standing from before", now(), HOST)
        assert put is not None
        assert not put.is_new
        assert put.execution.eid == last(lab).eid
        assert last(lab).certain
        alarms = [one for one in lab._read(lambda record: record.log_entries()) if one.kind == "alarm"]
        assert len([one for one in alarms if "rewound" in one.body]) == 2

    assert play(lab, scene) == []


def test_an_administrators_release_opens_it_and_nobody_closes_it_again_in_this_execution(lab: Lab) -> None:
    async def scene() -> None:
        await waits(lab)
        with lab.records.transaction() as record:
            (hold,) = record.holds()
            until = now().replace(year=2100)
            record.put_intent(Intent(UUID, RELEASE, "", "alice", "tonight", now(), until, overrides=True))
            record.drop_hold(UUID, "released", now())
            lab.taps.open_tap(hold.taps[0])
        domain = lab.host.domain(UUID)
        assert domain is not None
        lab.events.starts.confirm(domain, last(lab))
        lab.events.survey_soon()
        await asyncio.sleep(0.2)
        assert lab.is_open()
        await lab.stop()
        await lab.until(lab.is_over, "its end is on record")
        await waits(lab)  # the order was for that execution

    assert play(lab, scene) == []


@pytest.mark.parametrize("credited", [True, False])
def test_a_guest_that_rebooted_and_confirms_again_in_its_execution_stays_open(
    lab: Lab, *, credited: bool
) -> None:
    """Also where it came up with a kernel that credits nothing: a reboot closes no port."""

    async def scene() -> None:
        await waits(lab)
        confirm(lab)
        await lab.until(lab.is_open, "it is open")
        confirm(lab, credited=credited)
        domain = lab.host.domain(UUID)
        assert domain is not None
        lab.events.starts.confirm(domain, last(lab))
        lab.events.survey_soon()
        await asyncio.sleep(0.2)
        assert lab.is_open()
        assert holds(lab) == []

    assert play(lab, scene) == []


def test_a_revert_is_closed_until_the_new_execution_has_confirmed(lab: Lab) -> None:
    lab.disks[SNAPSHOT] = PATCHED

    async def scene() -> None:
        await waits(lab)
        confirm(lab)
        await lab.until(lab.is_open, "it is open")
        assert await lab.revert()
        await lab.until(lambda: holds(lab) == [(True, True, False)] and is_closed(lab), "it waits")
        confirm(lab)
        await lab.until(lab.is_open, "it is open")

    assert play(lab, scene) == []


def test_what_is_kept_for_when_the_agent_is_away_holds_a_start_that_it_did_not_before(tmp_path: Path) -> None:
    lab = Lab(tmp_path, MemoryRecords(), policy=REQUIRED.replace("required", "ignored"))
    lab.fleet._put(replace(lab.fleet.domain(UUID), snapshots=()))

    def kept() -> bool | None:
        try:
            return hookfiles.read_decision(lab.places.state, UUID).hold
        except Exception:
            return None

    async def scene() -> None:
        assert await lab.start()
        await lab.until(lambda: kept() is False, "a start is not held")
        lab.places.policy.write_text(REQUIRED)
        lab.rounds.judge_everything()
        await lab.until(lambda: kept() is True, "by now it is")

    assert play(lab, scene, lambda digest, _: bool(digest)) == []


def chain(record: Any, *executions: tuple[str, Origin, str]) -> None:
    for eid, origin, parent in executions:
        record.put_execution(Execution(eid, UUID, "web01", HOST, origin, parent, "", now()))


def test_a_migration_is_as_fresh_as_what_it_continues_and_no_fresher() -> None:
    a, b, c = ("a" * 32, "b" * 32, "c" * 32)
    records = MemoryRecords()
    with records.transaction() as record:
        chain(record, (a, Origin.START, ""), (b, Origin.MIGRATE, a), (c, Origin.MIGRATE, b))
        moved = record.execution(c)
        assert moved is not None
        assert not is_fresh(record, moved)
        record.put_reseed(Reseed(a, UUID, 1, True, 0, 0, 0, 0, now()))
        assert is_fresh(record, moved)
        foreign = replace(moved, parent="")
        assert not is_fresh(record, foreign), "of a host whose records are not at hand nobody knows"
        reverted = replace(moved, origin=Origin.REVERT, parent=a)
        assert not is_fresh(record, reverted)
        circle = replace(moved, parent=c)
        record.put_execution(circle)
        assert not is_fresh(record, circle)


# Faults


async def life(lab: Lab) -> None:
    """Started, confirmed, put back, confirmed, stopped; closed whenever its guest's word is missing."""
    await lab.until(lab.is_known, "it is known")
    while not await lab.start():
        assert "the agent is away" in lab.refused[-1]
    await lab.until(lambda: holds(lab) == [(True, True, False)] and is_closed(lab), "it waits")
    await again(lambda: confirm(lab))
    await lab.until(lab.is_open, "it is open")
    await again(lambda: prove_rewind(lab) and None)
    await lab.until(lambda: holds(lab) == [(True, True, False)] and is_closed(lab), "it waits again")
    await again(lambda: confirm(lab))
    await lab.until(lab.is_open, "it is open again")
    await lab.stop()
    await lab.until(lab.is_over, "its end is on record")


async def again(what: Callable[[], None]) -> None:
    """Do what the agent's own parts try until the record takes it."""
    while True:
        with suppress(OperationError):
            return what()
        await asyncio.sleep(0.01)


def lived(folder: Path, fault: Fault) -> None:
    kept = MemoryRecords()
    records = FailingRecords(kept, fault)
    folder.mkdir()
    lab = Lab(folder, records, policy=REQUIRED)

    async def run() -> None:
        async with lab.running():
            await life(lab)

    asyncio.run(run())
    assert broken(kept, HOST, lab.guests.events) == []


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.soak)])
def test_the_record_fails_at_any_point_and_the_gate_ends_where_it_does_without(
    tmp_path: Path, step: int
) -> None:
    folders = (tmp_path / str(number) for number in itertools.count())
    counting = Fault()
    lived(next(folders), counting)
    for number in range(1, counting.count + 1, step):
        lived(next(folders), Fault(number))
