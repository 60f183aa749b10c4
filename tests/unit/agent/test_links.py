"""Taps that are closed stay closed, those of this host's machines alone."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from agentlab import BRIDGE, HOST, TAP, UUID, Lab, MemoryTaps
from memoryrecords import MemoryRecords

from undercroft.agent.host import now
from undercroft.agent.links import Links
from undercroft.errors import NotFoundError, OperationError
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import HeldTap, Hold
from undercroft.usecases.fleet.starts.network import let_go, reopen

OTHER = "0a0b0c0d-0000-4000-8000-000000000002"
EID = "e1" * 16


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose machine is held in an execution that lives."""
    lab = Lab(tmp_path, MemoryRecords())
    lab.host = lab._host()
    held(lab, UUID, HOST)
    return lab


def execution(machine: str, host: str, eid: str = EID) -> Execution:
    return Execution(eid, machine, "web", host, Origin.START, "", "", now() - timedelta(minutes=5))


def held(lab: Lab, machine: str, host: str, eid: str = EID) -> Hold:
    hold = Hold(machine, eid, (HeldTap(TAP, BRIDGE),), "below its floor", now(), pending=False)
    with lab.records.transaction() as record:
        record.put_execution(execution(machine, host, eid))
        record.put_hold(hold)
    return hold


def alarms(lab: Lab) -> list[str]:
    with lab.records.reading() as record:
        return [entry.subject for entry in record.log_entries() if entry.kind == "alarm"]


def test_a_tap_that_somebody_opened_is_closed_again_with_an_alarm(lab: Lab) -> None:
    lab.taps.plug(TAP, BRIDGE)
    Links(lab.host)._close(TAP)
    assert lab.taps.bridges == {TAP: ""}
    assert alarms(lab) == [UUID]
    Links(lab.host)._close_all()
    assert alarms(lab) == [UUID], "what is closed is no news"


def test_a_hold_of_another_host_closes_no_tap_of_the_same_name_here(tmp_path: Path) -> None:
    """Hosts share a record; vnet1 is there on each of them."""
    lab = Lab(tmp_path, MemoryRecords())
    lab.host = lab._host()
    held(lab, OTHER, "host2", "e2" * 16)
    lab.taps.plug(TAP, BRIDGE)
    Links(lab.host)._close(TAP)
    Links(lab.host)._close_all()
    assert lab.taps.bridges == {TAP: BRIDGE}
    assert alarms(lab) == []


def test_the_hold_of_a_process_that_is_gone_ends_and_one_that_lives_stays(lab: Lab) -> None:
    with lab.records.transaction() as record:
        let_go(record, UUID, "ef" * 16, now())
        assert len(record.holds()) == 1
        record.put_execution(replace(execution(UUID, HOST), ended_at=now(), ending="stopped"))
        let_go(record, UUID, "ef" * 16, now())
        assert record.holds() == ()


class NoBridge(MemoryTaps):
    """Taps whose bridge is gone."""

    def open_tap(self, held: HeldTap) -> None:
        raise NotFoundError(f"{held.bridge}: no such network device")


def test_a_tap_whose_bridge_is_gone_stays_closed_and_held(lab: Lab) -> None:
    taps = NoBridge()
    taps.plug(TAP, "")
    with lab.records.reading() as record:
        (hold,) = record.holds()
    with pytest.raises(OperationError, match="it stays closed: br0"), lab.records.transaction() as record:
        reopen(record, taps, hold, "in order", now(), lab.places.state)
    with lab.records.reading() as record:
        assert record.holds() == (hold,)
    taps.bridges.clear()
    with lab.records.transaction() as record:  # the tap is gone with its machine: nothing is to be opened
        reopen(record, taps, hold, "in order", now(), lab.places.state)
        assert record.holds() == ()
