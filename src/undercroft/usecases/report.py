"""Inventories and what the advisories say of them, put together for every state of a machine."""

import time
from collections.abc import Callable, Sequence
from datetime import date, datetime

from undercroft.errors import InputError
from undercroft.model.finding import Assessment
from undercroft.model.inventory import Inventory
from undercroft.model.report import ScanReport, StateReport
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.states import State

Assess = Callable[[Inventory], Assessment]
Progress = Callable[[int, int, str], None]
"""Called with (done, total, what comes next)."""


def scan_machine(
    machine: OpenMachine,
    assess: Assess,
    *,
    scanned_at: datetime,
    sandboxed: bool,
    as_of: date | None = None,
    states: Sequence[State] = (),
    progress: Progress | None = None,
) -> ScanReport:
    """Return the report on `states` of a machine (default: all of them), one after the other.

    A state that cannot be read is reported with its problem; the others go on.
    """
    wanted = states or machine.states
    reports = []
    for done, state in enumerate(wanted):
        if progress:
            progress(done, len(wanted), f"{machine.name}@{state.name}")
        reports.append(_state_report(machine, state, assess))
    if progress:
        progress(len(wanted), len(wanted), machine.name)
    return ScanReport(
        machine=machine.name,
        disks=machine.disk_reports(),
        states=tuple(reports),
        sandboxed=sandboxed,
        scanned_at=scanned_at,
        as_of=as_of,
        feeds=next((report.assessment.feeds for report in reports if report.assessment), ()),
        warnings=machine.warnings(),
    )


def _state_report(machine: OpenMachine, state: State, assess: Assess) -> StateReport:
    started = time.perf_counter()
    inventory = assessment = None
    problems: list[str] = []
    try:
        inventory = machine.inventory(state)
        problems.extend(inventory.coverage.problems)
    except InputError as error:
        problems.append(str(error))
    read_ms = (time.perf_counter() - started) * 1000
    if inventory is not None:
        assessment = assess(inventory)
        problems.extend(assessment.problems)
    problems.extend(
        f"{path}: changed during both reads, so the answer may mix two moments; use -d for a running machine"
        for path in machine.unstable(state)
    )
    return StateReport(
        name=state.name,
        ident=state.ident,
        created_at_s=state.created_at_s,
        inventory=inventory,
        assessment=assessment,
        problems=tuple(problems),
        read_ms=round(read_ms, 1),
    )
