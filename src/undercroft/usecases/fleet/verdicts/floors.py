"""Patch floors, raised to what machines were just seen to have fixed; many machines at once.

Clones of one machine reach the same: what an inventory adds to a floor is worked out once for equal ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from undercroft.advisories.knowledge import Knowledge
from undercroft.lineage.floor import raised
from undercroft.model.fleet import Floor, FloorEntry, Scan
from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.ports.records import Record, Records
from undercroft.store.fleet.digests import text_digest, to_text

_ONE_BY_ONE = 64
"""Up to so many machines' floors are asked for singly; for more, all are."""


@dataclass(frozen=True, slots=True)
class Reached:
    """One machine and what it was seen to have.

    Attributes:
        machine: UUID.
        software: digest of its inventory's software.
        at: when it was read.
    """

    machine: str
    software: str
    at: datetime


def seen_to_have(subject: Subject, scan: Scan | None) -> Reached | None:
    """Return what a machine's present state was read to have, None where it is no machine or is unread."""
    if subject.kind is not SubjectKind.MACHINE or scan is None or not scan.software:
        return None
    return Reached(subject.machine, scan.software, scan.scanned_at)


def raise_floors(
    records: Records, reached: Sequence[Reached], knowledge: Callable[[Inventory], Knowledge | None]
) -> None:
    """Raise the floors of machines, on record and in the log; nothing is written where none rises.

    Args:
        records: no transaction of the calling thread may be open.
        reached: what machines have now.
        knowledge: returns the advisories that bear on an inventory, None where there are none: nothing is
            raised by it then.
    """
    work = _Work(knowledge)
    with records.reading() as record:
        floors = record.floors() if len(reached) > _ONE_BY_ONE else {}
        rising = [
            one
            for one in reached
            if work.raised(record, floors.get(one.machine) or record.floor(one.machine), one) is not None
        ]
    if not rising:
        return
    with records.transaction() as record:
        for one in rising:  # from what is on record by now: somebody else may have raised it meanwhile
            before = record.floor(one.machine)
            floor = work.raised(record, before, one)
            if floor is not None:
                put_raised(record, before, floor, one.at)


class _Work:
    """What an inventory adds to a floor, worked out once for equal ones."""

    def __init__(self, knowledge: Callable[[Inventory], Knowledge | None]) -> None:
        self._knowledge = knowledge
        self._known: dict[str, tuple[Inventory, Knowledge | None]] = {}
        self._entries: dict[tuple[str, tuple[FloorEntry, ...]], tuple[FloorEntry, ...]] = {}

    def raised(self, record: Record, floor: Floor, one: Reached) -> Floor | None:
        """Return the floor with what `one` has, None where that adds nothing."""
        place = one.software, floor.entries
        if place not in self._entries:
            if one.software not in self._known:
                inventory = record.software(one.software)
                self._known[one.software] = inventory, self._knowledge(inventory)
            inventory, knowledge = self._known[one.software]
            self._entries[place] = (
                floor.entries if knowledge is None else raised(floor, inventory, knowledge, one.at).entries
            )
        entries = self._entries[place]
        return None if entries == floor.entries else Floor(one.machine, entries)


def put_raised(record: Record, before: Floor, floor: Floor, at: datetime) -> None:
    """Put a floor that rose on record, and into the log."""
    body: dict[str, Json] = {
        "raised": len(set(floor.entries) - set(before.entries)),
        "entries": len(floor.entries),
        "digest": text_digest(to_text(floor)),
    }
    record.put_floor(floor)
    record.log("floor", floor.machine, body, at)
