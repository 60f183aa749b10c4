"""What is told of each image of a folder: as a scan of it alone would tell it, and where it stands."""

import os
from collections import OrderedDict
from dataclasses import replace
from datetime import date, datetime

from undercroft.errors import UndercroftError
from undercroft.model.disk import Coverage
from undercroft.model.finding import Assessment
from undercroft.model.images import ImageReport, Role
from undercroft.model.inventory import Inventory
from undercroft.model.report import CURRENT, DiskReport, ScanReport, StateReport
from undercroft.usecases.fleet.reading.layers import How
from undercroft.usecases.images.chains import Link, NamedFiles
from undercroft.usecases.images.opening import DISK
from undercroft.usecases.images.reading import ImageRead, StateRead
from undercroft.usecases.images.survey import Seen
from undercroft.usecases.report import MAX_STATES, Assess

MAX_ASSESSMENTS = 64

_NONE = Coverage(())


class Reports:
    """Makes reports.

    Args:
        assess: called by the thread that makes them.
        scanned_at, as_of, sandboxed: for the reports.
    """

    def __init__(self, assess: Assess, scanned_at: datetime, as_of: date | None, *, sandboxed: bool) -> None:
        self._assessed = _Assessed(assess)
        self._scanned_at = scanned_at
        self._sandboxed = sandboxed
        self._as_of = as_of

    def report(
        self, image: Seen, place: Link, read: ImageRead | UndercroftError, files: NamedFiles
    ) -> ImageReport:
        """Return the report on an image that was read, or could not be.

        Args:
            image: as it was seen.
            place: where it stands.
            read: what was read, or why nothing was.
            files: what headers pick from.
        """
        if isinstance(read, UndercroftError):
            lost = StateReport(CURRENT, "", 0, None, None, (str(read),))
            disk = DiskReport(DISK, image.path, "unread", "probed", (), 0)
            return self._with(image, place, (disk,), (lost,))
        states = [self._state_report(state) for state in read.states]
        if read.left_out:
            states[0] = _short(states[0], read.left_out)
        chain = read.disks[0].chain
        warnings: tuple[str, ...] = ()
        name = image.info.backing_name if image.info else ""
        if chain and name and files.moved(name, image.path, chain[0]):
            warnings = (
                f"its header names {name!r}, where nothing lies; {chain[0]} was taken,"
                " the only file here that is called the same",
            )
        how = read.states[0].how
        shared = place.below if how is How.PROVEN and place.below else ""
        return self._with(
            image, place, read.disks, tuple(states), warnings, shared, kept=how is How.UNCHANGED
        )

    def _with(
        self,
        image: Seen,
        place: Link,
        disks: tuple[DiskReport, ...],
        states: tuple[StateReport, ...],
        warnings: tuple[str, ...] = (),
        shared: str = "",
        *,
        kept: bool = False,
    ) -> ImageReport:
        report = ScanReport(
            machine=os.path.basename(image.path),
            disks=disks,
            states=states,
            sandboxed=self._sandboxed,
            scanned_at=self._scanned_at,
            as_of=self._as_of,
            feeds=next((state.assessment.feeds for state in states if state.assessment), ()),
            warnings=warnings,
        )
        return ImageReport(image.path, Role.BASE if place.is_base else Role.MACHINE, report, shared, kept)

    def _state_report(self, read: StateRead) -> StateReport:
        assessment = self._assessed.of(read.inventory) if read.inventory else None
        return StateReport(
            name=read.state.name,
            ident=read.state.ident,
            created_at_s=read.state.created_at_s,
            inventory=read.inventory,
            assessment=assessment,
            problems=(*read.problems, *(assessment.problems if assessment else ())),
            read_ms=read.read_ms,
        )


class _Assessed:
    """Assessments by what they follow from: that of a base is asked for again with each of its clones.

    What tells clones apart, and lists that are the same object, are no part of it: a list of packages that
    was read for each of them costs more to compare than to assess.
    """

    def __init__(self, assess: Assess) -> None:
        self._assess = assess
        self._known: OrderedDict[tuple[int, Inventory], tuple[object, Assessment]] = OrderedDict()

    def of(self, inventory: Inventory) -> Assessment:
        """Return what the advisories say of an inventory."""
        rest = replace(
            inventory, packages=(), hostname="", unowned_executables=0, unowned_examples=(), coverage=_NONE
        )
        key = (id(inventory.packages), rest)  # the list stays this object's for as long as it is kept here
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = (inventory.packages, self._assess(inventory))
            while len(self._known) > MAX_ASSESSMENTS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known[1]


def _short(state: StateReport, left_out: int) -> StateReport:
    """Return the current state with the problem that older snapshots were left out."""
    told = (
        f"{left_out} older snapshots were left out, the limit is {MAX_STATES} states;"
        " scan the image alone and name one of them as @STATE"
    )
    return replace(state, problems=(*state.problems, told))
