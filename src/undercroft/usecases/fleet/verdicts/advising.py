"""What the advisories say of everything on record, asked once for each different software.

A thousand clones of one machine are one question. An answer holds for one *mark*: the editions of the feeds,
which of them are stale, and the day (on which a release may end).
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.match import assess
from undercroft.errors import NotFoundError, OperationError, StateError
from undercroft.model.finding import Assessment, FeedStatus
from undercroft.model.inventory import Inventory
from undercroft.ports.records import Record, Records
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.assess import knowledge_for, unassessed

_ONE_BY_ONE = 16
"""Up to so many assessments are looked up singly; more are taken from all that are there."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The advisories at one time.

    Attributes:
        mark: of what they hold; equal marks give equal answers.
        assess: says what they know of an inventory.
        knowledge: returns the records that bear on an inventory, None where there are no advisories.
    """

    mark: str
    assess: Callable[[Inventory], Assessment]
    knowledge: Callable[[Inventory], Knowledge | None]


class Advisor:
    """The advisories of one database file, which importers replace as a whole; for any number of threads.

    Args:
        database: path of the advisory database.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._known: tuple[tuple[int, ...], tuple[FeedStatus, ...]] = (), ()

    def mark(self, now: datetime) -> str:
        """Return the mark of what the advisories hold now; the file is opened only where it is another.

        One that cannot be used holds nothing; `advice` says why.
        """
        stamp = self._stamp()
        if not stamp:
            return advisories_mark((), now)
        if self._known[0] != stamp:
            try:
                with AdvisoryDatabase(self._database) as advisories:
                    self._known = stamp, advisories.feeds(now)
            except (NotFoundError, StateError, OperationError):
                return advisories_mark((), now)
        feeds = (replace(feed, stale=now > feed.valid_until) for feed in self._known[1])
        return advisories_mark(feeds, now)

    @contextmanager
    def advice(self, now: datetime) -> Iterator[Advice]:
        """Open the advisories, for one thread.

        Without any, or where they cannot be used, every assessment is a problem that says so: then nothing is
        known of a machine, and the policy says what that means. A start is not left without an answer for it.
        """
        try:
            advisories = AdvisoryDatabase(self._database)
        except (NotFoundError, StateError, OperationError) as error:
            problem = str(error)
            mark = advisories_mark((), now)
            yield Advice(mark, lambda inventory: unassessed(inventory, problem, now.date()), lambda _: None)
            return
        with advisories:
            yield Advice(
                advisories_mark(advisories.feeds(now), now),
                lambda inventory: assess(inventory, knowledge_for(advisories, inventory), now=now),
                lambda inventory: knowledge_for(advisories, inventory),
            )

    def _stamp(self) -> tuple[int, ...]:
        """Return what differs when the file is another, () where there is none."""
        try:
            found = os.stat(self._database)
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def advisories_mark(feeds: Iterable[FeedStatus], now: datetime) -> str:
    """Return what changes whenever an assessment may: the editions, their staleness, the day."""
    digest = hashlib.sha256()
    for feed in feeds:
        digest.update(f"{feed.name}\0{feed.serial}\0{feed.fetched_at.isoformat()}\0{feed.stale}\n".encode())
    return f"{digest.hexdigest()[:24]}@{now:%Y-%m-%d}"


def assess_all(records: Records, advised: Advice, software: Iterable[str]) -> Mapping[str, Assessment]:
    """Return an assessment for each software digest; those that are not on record yet are made and put there.

    Digests that the record no longer knows are left out.
    """
    wanted = {digest for digest in software if digest}
    with records.reading() as record:
        known = _on_record(record, wanted, advised.mark)
        missing = {}
        for digest in wanted - known.keys():
            try:
                missing[digest] = record.software(digest)
            except NotFoundError:
                continue  # dropped by somebody else since
    made = {digest: advised.assess(inventory) for digest, inventory in missing.items()}
    if made:
        with records.transaction() as record:
            for digest, assessment in made.items():
                record.put_assessment(digest, advised.mark, assessment)
    return {digest: found for digest, found in {**known, **made}.items() if digest in wanted}


def _on_record(record: Record, wanted: set[str], mark: str) -> dict[str, Assessment]:
    if len(wanted) > _ONE_BY_ONE:
        return dict(record.assessments(mark))
    found = {digest: record.assessment(digest, mark) for digest in wanted}
    return {digest: assessment for digest, assessment in found.items() if assessment is not None}
