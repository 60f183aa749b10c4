"""After a start: what opens a network, what keeps it closed, and what is too old to say anything."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from advisorydata import BOOKWORM
from agentlab import BRIDGE, HOST, SNAPSHOT, TAP, UUID, Lab
from comebackdata import NEW, PATCHED, UNPATCHED
from memoryrecords import MemoryRecords

from undercroft.agent.host import now
from undercroft.model.domain import Domain, Power
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import Floor, FloorEntry, HeldTap, Hold, Intent
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action
from undercroft.usecases.fleet.reading.scanning import Scanned
from undercroft.usecases.fleet.starts.confirming import RELEASE, Next, confirm, settle, unconfirmed
from undercroft.usecases.fleet.subjects import domain_subjects

EID = "e1" * 16


class Stage(Lab):
    """A machine that runs and was patched once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, MemoryRecords())
        self.host = self._host()
        self.domain: Domain = replace(self.fleet.domain(UUID), power=Power.RUNNING, libvirt_id=1)
        self.taps.plug(TAP, "")
        with self.records.transaction() as record:
            record.put_domain(HOST, UUID, self.domain, now())
            record.put_floor(Floor(UUID, (FloorEntry(BOOKWORM, "openssl", NEW, now()),)))
            for subject in domain_subjects(HOST, self.domain):
                record.put_subject(subject)

    def began(self, origin: Origin = Origin.START, ago_s: float = 60, **changes: object) -> Execution:
        """Put an execution on record that began so long ago."""
        begun = Execution(EID, UUID, "web01", HOST, origin, "", "", now() - timedelta(seconds=ago_s))
        begun = replace(begun, **changes)
        with self.records.transaction() as record:
            record.put_execution(begun)
        return begun

    def held(self, eid: str = EID, ago_s: float = 30, *, pending: bool = True) -> Hold:
        """Put a hold on record that is so old."""
        since = now() - timedelta(seconds=ago_s)
        hold = Hold(UUID, eid, (HeldTap(TAP, BRIDGE),), "held", since, pending=pending)
        with self.records.transaction() as record:
            record.put_hold(hold)
        return hold

    def read(self, at: datetime) -> Scanned:
        """Return what the running machine holds, read at that time."""
        subject = domain_subjects(HOST, self.domain)[0]
        return replace(self.host.scanner.scan(None, subject), at=at)  # type: ignore[arg-type]

    def settled(self, at: datetime) -> Next:
        """Settle by what was read at that time."""
        return settle(self.host.means, self.taps, self.domain, self.read(at)).then

    @property
    def holds(self) -> tuple[Hold, ...]:
        with self.records.reading() as record:
            return record.holds()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_read_from_before_the_start_opens_nothing(stage: Stage) -> None:
    """It was patched when it was read, and is reverted before the answer comes."""
    stage.began(ago_s=10)
    stage.held(ago_s=10)
    assert stage.settled(now() - timedelta(seconds=20)) is Next.LOOK
    assert stage.taps.bridges[TAP] == ""
    assert stage.settled(now()) is Next.NOTHING
    assert (stage.taps.bridges[TAP], stage.holds) == (BRIDGE, ())


def test_a_read_from_before_its_network_was_closed_opens_nothing(stage: Stage) -> None:
    stage.began(ago_s=60)
    stage.held(ago_s=5, pending=False)
    assert stage.settled(now() - timedelta(seconds=20)) is Next.LOOK
    assert stage.taps.bridges[TAP] == ""


def test_a_read_from_before_the_start_stops_nothing(stage: Stage) -> None:
    stage.disks[CURRENT] = UNPATCHED
    stage.began(ago_s=10)
    assert stage.settled(now() - timedelta(seconds=20)) is Next.LOOK
    assert stage.holds == ()


def test_a_machine_that_has_stopped_meanwhile_is_not_held(stage: Stage) -> None:
    stage.disks[CURRENT] = UNPATCHED
    stage.began(ended_at=now(), ending="stopped")
    assert stage.settled(now()) is Next.NOTHING
    assert stage.holds == ()


def test_a_hold_of_a_start_that_is_on_record_as_another_is_looked_at(stage: Stage) -> None:
    """The hook's answer came too late, and libvirt's event began an execution of its own."""
    begun = stage.began()
    stage.held(eid="ff" * 16)
    assert confirm(stage.host.means, stage.taps, stage.domain, begun).then is Next.LOOK
    assert stage.settled(now()) is Next.NOTHING
    assert (stage.taps.bridges[TAP], stage.holds) == (BRIDGE, ())


def test_a_state_loaded_inside_a_process_is_held_by_the_process(stage: Stage) -> None:
    """The hook heeds its note of the process when libvirt's daemon comes back."""
    stage.disks[CURRENT] = UNPATCHED
    begun = stage.began(ended_at=now(), ending="superseded")
    inside = replace(begun, eid="e2" * 16, origin=Origin.LOAD, started_at=now(), ended_at=None, ending="")
    with stage.records.transaction() as record:
        record.put_execution(inside)
    stage.taps.plug(TAP, BRIDGE)
    assert stage.settled(now() + timedelta(seconds=1)) is Next.NOTHING
    assert [(hold.eid, hold.pending) for hold in stage.holds] == [(EID, False)]
    assert stage.taps.bridges[TAP] == ""


def test_what_was_released_by_override_stays_out_until_it_ends(stage: Stage) -> None:
    stage.disks[CURRENT] = UNPATCHED
    stage.began()
    order = Intent(UUID, RELEASE, "", "alice", "needed", now(), now() + timedelta(hours=1), overrides=True)
    with stage.records.transaction() as record:
        record.put_intent(order)
    assert stage.settled(now()) is Next.NOTHING
    assert stage.holds == ()


def test_a_rollback_that_nobody_confirmed_is_found_and_one_that_was_is_not(stage: Stage) -> None:
    begun = stage.began(Origin.REVERT)
    with stage.records.reading() as record:
        assert unconfirmed(record, stage.domain, begun)
    assert stage.disks == {CURRENT: PATCHED, SNAPSHOT: UNPATCHED}
    stage.settled(now())
    with stage.records.reading() as record:
        assert not unconfirmed(record, stage.domain, begun)
        assert [(one.action, one.by) for one in record.decisions(UUID)] == [(Action.ALLOW, "agent")]
