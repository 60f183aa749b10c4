"""Inventories assessed with the advisories that this host holds; no disk is read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime

from undercroft.advisories.eol import end_of_life
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.match import assess
from undercroft.advisories.releases import known_release
from undercroft.errors import NotFoundError
from undercroft.model.finding import Assessment
from undercroft.model.inventory import Inventory
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.paths import readable_database
from undercroft.usecases.report import Assess


@contextmanager
def assessor(*, now: datetime, as_of: date | None = None, database: str = "") -> Iterator[Assess]:
    """Give a function that assesses inventories.

    Args:
        now: with a time zone; feeds are judged stale by it.
        as_of: answer as on the evening of this day, None for today.
        database: path of the advisory database, "" for the one that this user reads.

    Raises:
        StateError, OperationError: there is a database and it cannot be used.
    """
    path = database or readable_database(os.environ, is_root=os.geteuid() == 0)
    try:
        advisories = AdvisoryDatabase(path)
    except NotFoundError as error:
        problem = str(error)
        yield lambda inventory: unassessed(inventory, problem, as_of or now.date())
        return
    with advisories:
        yield lambda inventory: assess(inventory, knowledge_for(advisories, inventory), now=now, as_of=as_of)


def knowledge_for(advisories: AdvisoryDatabase, inventory: Inventory) -> Knowledge:
    """Return what an open database knows that bears on `inventory`. Raises OperationError."""
    return advisories.knowledge(known_release(inventory), inventory)


def unassessed(inventory: Inventory, problem: str, on: date) -> Assessment:
    """Return an assessment that says why there is none."""
    lifetime = end_of_life(inventory.os, on)
    return Assessment((), (), (), lifetime, (), problems=(problem,))
