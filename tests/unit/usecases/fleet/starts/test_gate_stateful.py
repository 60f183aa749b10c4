"""Whatever happens to a machine, in whatever order, wherever a step fails: its tap is open only if it may be.

The steps are the agent's own functions; the test plays libvirt, the hook, the guest, an administrator, and a
record that fails at the nth transaction of a step, after which the agent does it again, or something else.
"""

import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from agentlab import BRIDGE, HOST, TAP, UUID, Fault, Lab
from comebackdata import PATCHED, UNPATCHED
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from memoryrecords import MemoryRecords

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import RunNote
from undercroft.agent.host import now
from undercroft.errors import OperationError
from undercroft.model.channel import Reseed
from undercroft.model.domain import Domain, Power
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import HeldTap, Intent
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Decision
from undercroft.usecases.fleet.history.facts import RAN, end
from undercroft.usecases.fleet.history.rewinds import rewound
from undercroft.usecases.fleet.starts.confirming import confirm, settle
from undercroft.usecases.fleet.starts.gate import HOOK, reseeded
from undercroft.usecases.fleet.starts.noted import hold_of
from undercroft.usecases.fleet.starts.reseed import RELEASE
from undercroft.usecases.fleet.subjects import domain_subjects

POLICY = "version: 1\ndefaults: {drifting: quarantine, below_floor: quarantine, reseed: required}\n"
BOOTED = "libvirt said at 2026-11-26T00:00:00+00:00: started booted"
FAILS = st.integers(0, 6)


class Records:
    """A record that fails at the nth transaction from now on, once."""

    def __init__(self, records: MemoryRecords) -> None:
        self.records, self.fault = records, Fault()

    @contextmanager
    def transaction(self) -> Any:
        self.fault.step()
        with self.records.transaction() as record:
            yield record
            self.fault.step()

    @contextmanager
    def reading(self) -> Any:
        with self.records.reading() as record:
            yield record


class Gate(RuleBasedStateMachine):
    """One machine with one tap."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.records = Records(MemoryRecords())
        self.lab = Lab(Path(self.folder.name), self.records, policy=POLICY)  # type: ignore[arg-type]
        self.host = self.lab._host()
        self.taps = self.lab.taps
        self.count = 0
        self.is_alone = self.is_released = False

    @initialize()
    def begins(self) -> None:
        machine = replace(self.lab.fleet.domain(UUID), snapshots=(), channel=True)
        self.domain: Domain = replace(machine, power=Power.RUNNING, libvirt_id=1)
        with self.records.records.transaction() as record:
            record.put_domain(HOST, UUID, self.domain, now())
            for subject in domain_subjects(HOST, self.domain):
                record.put_subject(subject)
        self._start(alone=False)

    def teardown(self) -> None:
        try:
            if TAP in self.taps.bridges:
                self._comes_right_in_the_end()
        finally:
            self.host.close()
            self.folder.cleanup()

    # What is so

    def _read(self, what: Any) -> Any:
        with self.records.records.reading() as record:
            return what(record)

    def _live(self) -> Execution:
        found: Execution = self._read(lambda record: record.live_executions())[-1]
        return found

    @property
    def is_open(self) -> bool:
        return bool(self.taps.bridges[TAP])

    @invariant()
    def it_is_open_only_when_it_may_be(self) -> None:
        """Also where the record could not say so any more: what is half done, its watcher closes again."""
        if TAP not in self.taps.bridges or not self.is_open:
            return
        found = self._read(lambda record: record.reseed(self._live().eid))
        fresh = found is not None and found.credited
        assert fresh or self.is_released or self.is_alone

    # What happens

    def _start(self, *, alone: bool) -> None:
        self.count += 1
        eid = f"{self.count:032x}"
        action = Action.ALLOW
        self.taps.plug(TAP, BRIDGE)
        self.is_alone, self.is_released = alone, False
        with self.records.records.transaction() as record:
            for known in record.live_executions():
                end(record, known, "stopped", now())
            record.drop_hold(UUID, "it stopped", now())
            begun = Execution(eid, UUID, "web01", HOST, Origin.START, "", "", now(), evidence=(RAN, BOOTED))
            record.put_execution(begun)
            if alone:
                record.put_decision(Decision(eid, UUID, "web01", eid, action, False, "alone", now(), HOOK))
        held: tuple[HeldTap, ...] = () if alone else (self.taps.hold(TAP),)
        note = RunNote(UUID, "web01", eid, action, not alone, not alone, "held", held)
        hookfiles.write_note(self.lab.places.state, note)

    @rule(alone=st.booleans())
    def is_started_anew(self, *, alone: bool) -> None:
        self._start(alone=alone)

    @rule(patched=st.booleans())
    def its_disks_change(self, *, patched: bool) -> None:
        self.lab.disks[CURRENT] = PATCHED if patched else UNPATCHED

    @rule(fails=FAILS)
    def the_agent_confirms(self, fails: int) -> None:
        if self._tried(fails, lambda: confirm(self.host.means, self.taps, self.domain, self._live())):
            self.is_alone = False

    @rule(fails=FAILS)
    def the_agent_looks_at_what_runs(self, fails: int) -> None:
        subject = domain_subjects(HOST, self.domain)[0]
        scanned = self.host.scanner.scan(None, subject)  # type: ignore[arg-type]
        self._tried(fails, lambda: settle(self.host.means, self.taps, self.domain, scanned))

    @rule(fails=FAILS)
    def the_agent_hears_that_it_is_fresh(self, fails: int) -> None:
        self._tried(fails, lambda: reseeded(self.host.means, self.taps, self.domain))

    def _tried(self, fails: int, call: Any) -> bool:
        self.records.fault.count, self.records.fault.strikes_at = 0, fails
        try:
            call()
        except OperationError:
            return False
        finally:
            self.records.fault.strikes_at = 0
        return True

    @rule(back=st.sampled_from((0, 0, 1, 2)), credited=st.booleans())
    def a_guest_confirms(self, back: int, *, credited: bool) -> None:
        known = self._read(lambda record: record.own_executions(UUID))
        eid = known[max(len(known) - 1 - back, 0)].eid
        with self.records.records.transaction() as record:
            known_before = record.reseed(eid)
            if credited or known_before is None:  # what was fresh once is, until it is put back
                record.put_reseed(Reseed(eid, UUID, 7, credited, 64, 0, 0, 40, now()))

    @rule()
    def its_channel_proves_that_it_was_put_back(self) -> None:
        """The agent confirms right after, which a kill may keep it from: the next one does."""
        live = self._live()
        with self.records.records.transaction() as record:
            assert rewound(record, live.eid, "a number that was seen", now(), HOST)
        self.is_released = False
        while not self._tried(0, lambda: confirm(self.host.means, self.taps, self.domain, self._live())):
            continue

    @precondition(lambda self: not self.is_open)
    @rule()
    def an_administrator_lets_it_out(self) -> None:
        hold = self._read(lambda record: hold_of(record, UUID))
        if hold is None:
            return
        with self.records.records.transaction() as record:
            until = now() + timedelta(days=1)
            record.put_intent(Intent(UUID, RELEASE, "", "alice", "now", now(), until, overrides=True))
            record.drop_hold(UUID, "released", now())
            for tap in hold.taps:
                self.taps.open_tap(tap)
        with suppress(Exception):
            note = hookfiles.read_note(self.lab.places.state, UUID)
            if note is not None:
                hookfiles.write_note(self.lab.places.state, replace(note, closed=False, hold=False, taps=()))
        self.is_released = True

    def _comes_right_in_the_end(self) -> None:
        """Nothing stands against it, its guest confirms, and the agent does what it does: then it is open."""
        self.lab.disks[CURRENT] = PATCHED
        with self.records.records.transaction() as record:
            record.put_reseed(Reseed(self._live().eid, UUID, 7, True, 64, 0, 0, 40, now()))
        self.the_agent_hears_that_it_is_fresh(0)
        self.the_agent_confirms(0)
        self.the_agent_looks_at_what_runs(0)
        self.the_agent_confirms(0)
        assert self.is_open


Gate.TestCase.settings = settings(max_examples=200, stateful_step_count=25, deadline=None)
TestGate = Gate.TestCase
