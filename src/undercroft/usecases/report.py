"""Inventories and what the advisories say of them, put together for every state of a machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime

from undercroft.errors import InputError
from undercroft.model.disk import Coverage
from undercroft.model.finding import Assessment
from undercroft.model.inventory import Inventory, Package
from undercroft.model.report import ScanReport, StateReport
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.states import State

Assess = Callable[[Inventory], Assessment]
Progress = Callable[[int, int, str], None]
"""Called with (done, total, what comes next)."""

MAX_STATES = 256
"""States of one scan; an image may hold 65,536 snapshots."""

_NO_COVERAGE = Coverage(())


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

    A state that cannot be read is reported with its problem; the others go on. Of more than `MAX_STATES`
    states the oldest snapshots are left out, which is a problem of the current one.
    """
    every = list(states or machine.states)
    shared = _Shared(assess)
    if progress:
        progress(0, min(len(every), MAX_STATES), f"{machine.name}@{every[0].name}")
    reports = [_state_report(machine, every[0], shared)]
    if not states and _may_have_guest_states(reports[0]):
        every[1:], told = _with_guest_states(machine, every)
        reports[0] = replace(reports[0], problems=(*reports[0].problems, *told))
    wanted = (*every[:1], *every[1:][-(MAX_STATES - 1) :])
    for done, state in enumerate(wanted[1:], 1):
        if progress:
            progress(done, len(wanted), f"{machine.name}@{state.name}")
        reports.append(_state_report(machine, state, shared))
    if len(wanted) < len(every):
        left_out = (
            f"{len(every) - len(wanted)} older snapshots were left out, the limit is {MAX_STATES} states;"
            " name one of them as @STATE"
        )
        reports[0] = replace(reports[0], problems=(*reports[0].problems, left_out))
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
    )


def _may_have_guest_states(current: StateReport) -> bool:
    volumes = current.inventory.coverage.volumes if current.inventory else ()
    return any(volume.content == "btrfs" and "/" in volume.mounts for volume in volumes)


def _with_guest_states(machine: OpenMachine, every: Sequence[State]) -> tuple[list[State], list[str]]:
    """Return the snapshots of the disks and the guest's own in order of time, and what went wrong."""
    try:
        own = machine.guest_states(every[0])
    except InputError as error:
        return list(every[1:]), [f"the guest's own snapshots could not be listed: {error}"]
    return sorted((*every[1:], *own), key=lambda state: state.created_at_s), []


class _Shared:
    """What states have in common, held once: a hundred snapshots of one machine differ in a few packages."""

    def __init__(self, assess: Assess) -> None:
        self._assess = assess
        self._packages: dict[Package, Package] = {}
        self._lists: dict[tuple[Package, ...], tuple[Package, ...]] = {}
        self._assessments: dict[Inventory, Assessment] = {}

    def inventory(self, found: Inventory) -> Inventory:
        """Return an equal inventory whose packages are those of earlier states where they are equal."""
        known = self._packages
        packages = tuple([known.setdefault(package, package) for package in found.packages])
        return replace(found, packages=self._lists.setdefault(packages, packages))

    def assessment(self, inventory: Inventory) -> Assessment:
        """Assess `inventory`, once for all states with the same content. Coverage plays no part in it."""
        content = replace(inventory, coverage=_NO_COVERAGE)
        if content not in self._assessments:
            self._assessments[content] = self._assess(inventory)
        return self._assessments[content]


def _state_report(machine: OpenMachine, state: State, shared: _Shared) -> StateReport:
    started = time.perf_counter()
    inventory = assessment = None
    problems: list[str] = []
    try:
        inventory = shared.inventory(machine.inventory(state))
        problems.extend(inventory.coverage.problems)
    except InputError as error:
        problems.append(str(error))
    read_ms = (time.perf_counter() - started) * 1000
    if inventory is not None:
        assessment = shared.assessment(inventory)
        problems.extend(assessment.problems)
    return StateReport(
        name=state.name,
        ident=state.ident,
        created_at_s=state.created_at_s,
        inventory=inventory,
        assessment=assessment,
        problems=tuple(problems),
        read_ms=round(read_ms, 1),
    )
