"""Random lives of machines against a model: the tree on record is what really happened.

Two properties. Soundness, always: what is on record as certain is so. Completeness, for a machine whose whole
life the agent has seen: its tree is the model's, certain or not, but for what docs/LINEAGE.md lists.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lives import Machine, World
from memoryrecords import MemoryRecords

from undercroft.model.execution import Execution, Origin

_PUT_BACK = {Origin.REVERT, Origin.BACKUP}
_PICK = st.integers(min_value=0, max_value=1_000)


class Lives(RuleBasedStateMachine):
    """Up to four machines on one host."""

    @initialize(twice=st.booleans())
    def begin(self, twice: bool) -> None:
        self.world = World(MemoryRecords())
        self.world.twice = twice
        self.world.machine("m0")
        self.names = 0
        self.unsure: set[str] = set()

    def _any(self, pick: int, *, live: bool) -> Machine | None:
        found = [machine for machine in self.world.machines if machine.live is live]
        return found[pick % len(found)] if found else None

    @rule(pick=_PICK)
    def start(self, pick: int) -> None:
        if machine := self._any(pick, live=False):
            unsure = machine.away or self._shared(machine)
            eid = self.world.start(machine)
            if unsure:
                self.unsure.add(eid)

    @rule(pick=_PICK, detail=st.sampled_from(["shutdown", "destroyed", "crashed"]), writes=st.booleans())
    def stop(self, pick: int, detail: str, writes: bool) -> None:
        if machine := self._any(pick, live=True):
            self.world.stop(machine, detail, writes=writes)

    @rule(pick=_PICK)
    def write(self, pick: int) -> None:
        if machine := self._any(pick, live=True):
            self.world.write(machine)

    @rule(pick=_PICK, live=st.booleans())
    def snapshot(self, pick: int, live: bool) -> None:
        if machine := self._any(pick, live=live):
            if not live and not machine.last:
                return
            self.names += 1
            self.world.snapshot(machine, f"s{self.names}")

    @rule(pick=_PICK, which=_PICK, live=st.booleans())
    def revert(self, pick: int, which: int, live: bool) -> None:
        machine = self._any(pick, live=live)
        if machine and machine.snaps:
            before = machine.last
            self.world.revert(machine, machine.snaps[which % len(machine.snaps)])
            if machine.last != before and machine.away:
                self.unsure.add(machine.last)

    @rule(pick=_PICK, which=_PICK)
    def apply(self, pick: int, which: int) -> None:
        machine = self._any(pick, live=False)
        if machine and machine.snaps:
            self.world.apply(machine, machine.snaps[which % len(machine.snaps)])

    @rule(pick=_PICK, which=_PICK)
    def backup(self, pick: int, which: int) -> None:
        machine = self._any(pick, live=False)
        ends = self.world.read_ends(machine) if machine else []  # of others nobody can know
        if machine and ends:
            self.world.backup(machine, ends[which % len(ends)])

    @rule(pick=_PICK)
    def touch(self, pick: int) -> None:
        if machine := self._any(pick, live=False):
            self.world.touch(machine)

    @rule(pick=_PICK)
    def tamper(self, pick: int) -> None:
        machine = self._any(pick, live=False)
        if machine and machine.last:
            self.world.tamper(machine)

    @rule(pick=_PICK)
    def save(self, pick: int) -> None:
        if machine := self._any(pick, live=True):
            self.world.save(machine)

    @rule(which=_PICK, seen=st.booleans())
    def restore(self, which: int, seen: bool) -> None:
        saves = [save for save in self.world.saves if not save.machine.live]
        if saves:
            save = saves[which % len(saves)]
            last = save.machine.last == save.eid
            eid = self.world.restore(save, seen=seen or not last)
            if save.machine.away:
                self.unsure.add(eid)

    @precondition(lambda self: len(self.world.machines) < 4)
    @rule(pick=_PICK)
    def clone(self, pick: int) -> None:
        machine = self._any(pick, live=False)
        if machine and (machine.last or machine.source[1]):
            made = self.world.clone(machine, f"m{len(self.world.machines)}")
            # Never read by anybody: an offline change of the original, or one while nobody looked.
            made.away = machine.away or machine.put is not None

    @rule()
    def leave(self) -> None:
        if self.world.agent:
            self.world.leave_agent()

    @rule()
    def come_back(self) -> None:
        if not self.world.agent:
            self.world.return_agent()

    def _shared(self, machine: Machine) -> bool:
        """Whether states of equal superblocks, but of other executions, leave a choice."""
        holders: set[str] = set()
        for other in self.world.machines:
            holders |= {snap.eid for snap in other.snaps if snap.content == machine.content}
            holders |= {eid for eid, content in other.ends.items() if content == machine.content}
        return len(holders) > 1

    @invariant()
    def what_is_certain_is_so(self) -> None:
        for eid, execution in self.world.executions().items():
            if execution.certain and execution.origin is not Origin.FIRST:  # which claims nothing
                origin, parent = self.world.truth[eid]
                assert execution.parent == parent, execution
                assert _same(origin, execution), (origin, execution)

    @invariant()
    def what_the_agent_saw_is_on_record_as_it_was(self) -> None:
        known = self.world.executions()
        for eid, (origin, parent) in self.world.truth.items():
            if eid in known and eid not in self.unsure:
                assert known[eid].parent == parent, (origin, known[eid])
                if known[eid].certain:
                    assert _same(origin, known[eid]), (origin, known[eid])
        if self.world.agent:
            assert set(self.world.truth) == set(known)


def _same(origin: Origin, execution: Execution) -> bool:
    return execution.origin is origin or {execution.origin, origin} == _PUT_BACK


class TestLives(Lives.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        max_examples=2 * settings.default.max_examples,  # type: ignore[union-attr]
        stateful_step_count=40,
        deadline=None,
    )
