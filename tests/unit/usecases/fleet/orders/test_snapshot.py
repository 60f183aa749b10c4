"""A snapshot of a guest that stands still: what makes it a quiesced one, and that all is thawed after it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from memoryfleet import MemoryFleet
from memoryrecords import MemoryRecords
from recordvalues import NOW, domain

from undercroft.errors import BusyError, NotFoundError, OperationError, StateError
from undercroft.model.domain import Domain, Power
from undercroft.model.execution import Execution, Origin
from undercroft.usecases.fleet.orders.snapshot import Means, take_cold, take_quiesced

EID, HOST = "e1" * 16, "host1"


@dataclass(frozen=True)
class Told:
    """An event of the guest service."""

    event: str
    machine: str
    execution: str = EID
    fields: dict[str, Any] = field(default_factory=dict)


class Scene:
    """A machine that runs, its guest service, and what was asked of both, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        machine = replace(domain(1), channel=True)
        self.fleet = MemoryFleet([machine], host=HOST)
        self.fleet.start(machine.uuid)
        self.uuid = machine.uuid
        self.records = MemoryRecords()
        with self.records.transaction() as record:
            record.put_execution(Execution(EID, self.uuid, "m", HOST, Origin.START, "", "", NOW))
        frozen = {"number": 7, "frozen": True, "processes": 12, "text": ""}
        self.events = [Told("quiesced", self.uuid, fields=frozen)]
        self.confirmed: Told | None = Told("confirmed", self.uuid, fields={"credited": True})
        self.held = True
        self.fails: dict[str, Exception] = {}
        self.take = self.fleet.take_snapshot
        self.fleet.take_snapshot = self._take  # type: ignore[method-assign]

    def _step(self, name: str) -> None:
        self.asked.append(name)
        if name in self.fails:
            raise self.fails[name]

    def _take(self, uuid: str, name: str, **_options: Any) -> Any:
        self._step("take")
        return self.take(uuid, name)

    # The guest service and its watch

    def quiesce(self, machine: str, execution: str) -> int:
        assert (machine, execution) == (self.uuid, EID)
        self._step("quiesce")
        return 7

    def again(self, machine: str, execution: str) -> bool:
        assert (machine, execution) == (self.uuid, EID)
        self._step("again")
        return self.held

    def next(self, timeout_s: float | None = None) -> Told | None:
        self._step("next")
        return self.events.pop(0) if self.events else None

    def until(self, event: str, execution: str, timeout_s: float) -> Told | None:
        assert (event, execution) == ("confirmed", EID)
        self._step("until")
        return self.confirmed

    # The command

    @property
    def machine(self) -> Domain:
        return self.fleet.domain(self.uuid)

    def means(self) -> Means:
        ticks = iter(range(1000))
        return Means(
            self.records,
            self.fleet,
            HOST,
            lambda: NOW,
            pause=lambda _s: self.asked.append("pause"),
            monotonic=lambda: next(ticks) / 10,
        )

    def quiesced(self) -> Any:
        return take_quiesced(self.means(), self.machine, "s1", "alice", self, self)

    def names(self) -> set[str]:
        """Return the snapshots that count as quiesced."""
        with self.records.reading() as record:
            return {one.key.split(":")[2] for one in record.quiesced(self.uuid).values()}

    def logged(self) -> list[str]:
        with self.records.reading() as record:
            return [entry.body for entry in record.log_entries() if entry.kind == "snapshot"]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_it_is_frozen_taken_and_thawed_in_this_order_and_on_record(scene: Scene) -> None:
    taken = scene.quiesced()
    assert scene.asked == ["quiesce", "next", "take", "again", "until"]
    assert (taken.quiesced, taken.processes, taken.fresh) == (True, 12, True)
    assert [one.name for one in scene.machine.snapshots] == ["s1"]
    assert scene.names() == {"s1"}
    (body,) = scene.logged()
    assert '"by":"alice"' in body


def test_a_guest_that_did_not_stand_still_all_the_time_leaves_an_exposed_one(scene: Scene) -> None:
    scene.held = False  # the service was away in between, or gave it another session
    taken = scene.quiesced()
    assert not taken.quiesced
    assert scene.names() == set()


def test_one_that_has_not_confirmed_since_is_told(scene: Scene) -> None:
    scene.confirmed = None
    assert not scene.quiesced().fresh
    assert scene.names() == {"s1"}, "what was taken is quiesced all the same"


NOTHING_TAKEN: dict[str, Callable[[Scene], None]] = {
    "no session": lambda scene: scene.fails.update(quiesce=StateError("the guest has no session")),
    "not attached": lambda scene: scene.fails.update(quiesce=NotFoundError("it is not attached")),
    "no service": lambda scene: scene.fails.update(quiesce=OperationError("the service does not run")),
    "silent": lambda scene: scene.events.insert(0, Told("silent", scene.uuid)),
    "gone": lambda scene: scene.events.insert(0, Told("gone", scene.uuid)),
    "rewound": lambda scene: scene.events.insert(0, Told("rewound", scene.uuid)),
    "something runs": lambda scene: scene.events[0].fields.update(frozen=False, text="2 of 30 go on"),
    "libvirt fails": lambda scene: scene.fails.update(take=OperationError("no space left")),
    "the service dies": lambda scene: scene.fails.update(next=OperationError("it tells nothing more")),
    "it is interrupted": lambda scene: scene.fails.update(take=KeyboardInterrupt()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", NOTHING_TAKEN)
def test_whatever_fails_before_it_is_taken_the_machine_is_thawed_and_nothing_removed(
    scene: Scene, what: str
) -> None:
    scene.take(scene.uuid, "earlier")
    NOTHING_TAKEN[what](scene)
    with pytest.raises((StateError, OperationError, KeyboardInterrupt)):
        scene.quiesced()
    if scene.asked != ["quiesce"]:
        assert scene.asked[-1] == "again", "it was frozen, or may be"
    assert [one.name for one in scene.machine.snapshots] == ["earlier"]
    assert scene.names() == set()


@pytest.mark.parametrize("step", ["quiesce", "silent", "something runs"])
def test_a_refusal_names_the_way_to_take_it_all_the_same(scene: Scene, step: str) -> None:
    NOTHING_TAKEN["no session" if step == "quiesce" else step](scene)
    with pytest.raises(StateError, match="--exposed"):
        scene.quiesced()


def test_others_events_are_passed_over(scene: Scene) -> None:
    wrong = {"number": 6, "frozen": True, "processes": 1}
    scene.events[:0] = [
        Told("silent", "another"),
        Told("gone", scene.uuid, "ab" * 16),
        Told("quiesced", scene.uuid, fields=wrong),
        Told("about", scene.uuid, fields={"helper": "x"}),
    ]
    assert scene.quiesced().processes == 12


def test_where_it_cannot_be_thawed_that_is_told_and_it_counts_as_exposed(scene: Scene) -> None:
    scene.fails["again"] = OperationError("the service does not run")
    with pytest.raises(OperationError, match=r"counts as exposed.*stands still until"):
        scene.quiesced()
    assert scene.names() == set()
    assert [one.name for one in scene.machine.snapshots] == ["s1"]


def test_where_it_cannot_be_thawed_after_a_failure_both_are_told(scene: Scene) -> None:
    scene.fails |= {"take": OperationError("no space left"), "again": OperationError("it is away")}
    with pytest.raises(OperationError, match=r"no space left; and .*stands still until.*it is away"):
        scene.quiesced()


def test_a_scan_that_holds_it_is_waited_for(scene: Scene) -> None:
    scene.fails["take"] = BusyError("a scan holds its disks")
    original = scene._step

    def step(name: str) -> None:
        if scene.asked.count("take") == 2:
            scene.fails.pop("take", None)
        original(name)

    scene._step = step  # type: ignore[method-assign]
    assert scene.quiesced().quiesced
    assert scene.asked.count("pause") == 2


def test_a_name_that_is_there_freezes_nobody(scene: Scene) -> None:
    scene.take(scene.uuid, "s1")
    with pytest.raises(StateError, match="has a snapshot 's1' already"):
        scene.quiesced()
    assert scene.asked == []


def test_what_is_paused_or_not_on_record_cannot_answer(scene: Scene) -> None:
    scene.fleet.change(replace(scene.machine, power=Power.PAUSED))
    with pytest.raises(StateError, match="cannot answer"):
        scene.quiesced()
    scene.fleet.change(replace(scene.machine, power=Power.RUNNING))
    with scene.records.transaction() as record:
        known = record.execution(EID)
        assert known is not None
        record.put_execution(replace(known, ended_at=NOW, ending="stopped"))
    with pytest.raises(StateError, match="undercroft up"):
        scene.quiesced()
    assert scene.asked == []


def test_an_exposed_one_and_one_of_a_machine_that_is_off_ask_nobody(scene: Scene) -> None:
    exposed = take_cold(scene.means(), scene.machine, "s1", "alice")
    assert (exposed.quiesced, exposed.cold) == (False, False)
    scene.fleet.destroy(scene.uuid)
    off = take_cold(scene.means(), scene.machine, "s2", "alice")
    assert (off.quiesced, off.cold) == (False, True)
    assert scene.asked == ["take", "take"]
    assert scene.names() == set()
    assert len(scene.logged()) == 2
