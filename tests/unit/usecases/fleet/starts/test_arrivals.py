"""Machines on their way: what the record tells of them, and what an agent alone knows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from memoryrecords import MemoryRecords
from recordvalues import domain

from undercroft.model.domain import Power
from undercroft.model.execution import Execution, Origin
from undercroft.ports.records import Record
from undercroft.usecases.fleet.starts.arrivals import Arrivals, views

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HERE, THERE = "alpha", "beta"
MACHINE = domain(1)
NONE: frozenset[str] = frozenset()
IT = frozenset({MACHINE.uuid})


def lives(record: Record, host: str, number: int, origin: Origin) -> Execution:
    found = Execution(
        f"{number:032}", MACHINE.uuid, MACHINE.name, host, origin, "", "", NOW + timedelta(seconds=number)
    )
    record.put_execution(found)
    return found


def leaves(record: Record) -> None:
    """Let the machine be on both hosts, as it is while it migrates."""
    lives(record, HERE, 1, Origin.START)
    lives(record, THERE, 2, Origin.MIGRATE)


def test_what_left_by_post_copy_is_told_by_its_own_host_and_by_no_other() -> None:
    with MemoryRecords().transaction() as record:
        leaves(record)
        running = replace(MACHINE, power=Power.RUNNING)
        record.put_domain(THERE, MACHINE.uuid, running, NOW + timedelta(minutes=1))
        arrivals = Arrivals(HERE)
        assert arrivals.now(record) == NONE, "the other host says that it runs there"
        arrivals.left(record, MACHINE.uuid)
        assert arrivals.now(record) == arrivals.now(record, [MACHINE.uuid]) == IT
        assert views(record, HERE) == (NONE, IT), "prove takes either"


@pytest.mark.parametrize("ends", ["arrived", "forgotten", "anew"])
def test_what_left_has_left_until_it_runs_here_or_is_gone(ends: str) -> None:
    with MemoryRecords().transaction() as record:
        first = lives(record, HERE, 1, Origin.START)
        arrivals = Arrivals(HERE)
        arrivals.left(record, MACHINE.uuid)
        assert arrivals.now(record) == IT
        if ends == "arrived":
            arrivals.arrived(record, MACHINE.uuid)
        elif ends == "forgotten":
            arrivals.forget(MACHINE.uuid)
        else:
            record.put_execution(replace(first, ended_at=NOW + timedelta(seconds=2)))
            lives(record, HERE, 3, Origin.START)
        assert arrivals.now(record) == NONE


def test_what_does_not_live_here_leaves_nothing() -> None:
    with MemoryRecords().transaction() as record:
        lives(record, THERE, 1, Origin.START)
        arrivals = Arrivals(HERE)
        arrivals.left(record, MACHINE.uuid)
        assert arrivals.now(record) == NONE
        assert views(record, HERE) == (NONE,)


def test_what_comes_and_what_leaves_are_told_apart_by_whoever_proves() -> None:
    with MemoryRecords().transaction() as record:
        leaves(record)
        assert views(record, THERE) == (IT,), "that it comes the record tells"
        assert views(record, HERE) == (NONE, IT)
