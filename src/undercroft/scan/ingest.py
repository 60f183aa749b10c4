"""One parsed feed into the database: atomically, with progress, errors turned into a result."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from undercroft.advisories.feeds.feed import Feed
from undercroft.advisories.records import FeedHeader, Record
from undercroft.errors import UndercroftError
from undercroft.model.finding import FeedStatus
from undercroft.scan.feedresult import FeedProgress, FeedResult, Outcome, Progress

PROGRESS_STEP = 2000


class AdvisoryStore(Protocol):
    """The database of advisories, as far as feeds are concerned."""

    def replace_feed(self, header: FeedHeader, records: Iterable[Record], fetched_at: datetime) -> object:
        """Put an edition in place of the feed's former one, all or nothing.

        Raises:
            StateError: its serial goes back.
        """
        ...

    def extend_feed(self, header: FeedHeader, records: Iterable[Record], fetched_at: datetime) -> object:
        """Add records to a feed, all or nothing; those that it already holds stay."""
        ...

    def statuses(self, at: datetime) -> tuple[FeedStatus, ...]:
        """Return what the database holds."""
        ...


@dataclass(slots=True)
class Ingest:
    """Puts feeds into a database at one time.

    `imported` and `refused` collect what became of them.
    """

    database: AdvisoryStore
    now: datetime
    progress: Progress

    def replace(self, feed: Feed) -> FeedResult:
        """Store an edition. Raises what the parser and the store raise; then the former edition stays."""
        counted = _Counted(feed.records, feed.header.name, self.progress)
        self.database.replace_feed(feed.header, counted, self.now)
        return FeedResult(feed.header.name, Outcome.IMPORTED, counted.count, serial=feed.header.serial)

    def extend(self, feed: Feed) -> FeedResult:
        """Add to a feed. Raises what the parser and the store raise; then nothing was added."""
        counted = _Counted(feed.records, feed.header.name, self.progress)
        self.database.extend_feed(feed.header, counted, self.now)
        return FeedResult(feed.header.name, Outcome.IMPORTED, counted.count, serial=feed.header.serial)

    def serial(self, name: str) -> str:
        """Return the serial of the stored edition, "" where there is none."""
        return next((status.serial for status in self.database.statuses(self.now) if status.name == name), "")


class _Counted:
    """Records on their way, counted."""

    def __init__(self, records: Iterator[Record], name: str, progress: Progress) -> None:
        self._records = records
        self._name = name
        self._progress = progress
        self.count = 0

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.count += 1
            if self.count % PROGRESS_STEP == 0:
                self._progress(FeedProgress(self._name, "import", self.count))
            yield record
        self._progress(FeedProgress(self._name, "import", self.count, self.count))


@contextmanager
def refusals(results: list[FeedResult], name: str) -> Iterator[None]:
    """Turn an error about one feed into its result, so that the others go on."""
    try:
        yield
    except UndercroftError as error:
        results.append(FeedResult(name, Outcome.REFUSED, detail=str(error)))
