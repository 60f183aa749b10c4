"""One parsed feed into the database: atomically, with progress, errors turned into a result."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from undercroft.advisories.feeds.feed import Feed
from undercroft.advisories.records import ChangelogEntry, FeedHeader, Record
from undercroft.errors import UndercroftError
from undercroft.model.finding import FeedStatus
from undercroft.scan.feedresult import FeedProgress, FeedResult, Outcome, Progress

PROGRESS_STEP = 2000


class AdvisoryStore(Protocol):
    """The database of advisories, as far as feeds are concerned. All methods may raise OperationError."""

    def replace_feed(self, header: FeedHeader, records: Iterable[Record], fetched_at: datetime) -> bool:
        """Put an edition in place of the feed's former one, all or nothing.

        Returns False when this very edition is there already. Raises StateError when the serial goes back.
        """
        ...

    def add_changelogs(
        self, header: FeedHeader, entries: Iterable[ChangelogEntry], fetched_at: datetime
    ) -> None:
        """Add entries to a feed of changelogs, all or nothing; those that it holds already stay."""
        ...

    def confirm_feed(self, name: str, fetched_at: datetime) -> None:
        """Note that the edition that is there is still the publisher's newest."""
        ...

    def changelog_versions(self, name: str) -> frozenset[tuple[str, str]]:
        """Return the (source, version) pairs of the changelog entries that a feed holds."""
        ...

    def feeds(self, now: datetime) -> tuple[FeedStatus, ...]:
        """Return what the database holds, stale or not at `now`."""
        ...


@dataclass(slots=True)
class Ingest:
    """Puts feeds into a database at one time, telling `progress`."""

    database: AdvisoryStore
    now: datetime
    progress: Progress

    def replace(self, feed: Feed) -> FeedResult:
        """Store an edition. Raises what the parser and the store raise; then the former edition stays."""
        header = feed.header
        counted = _Counted(feed.records, header.name, self.progress)
        if not self.database.replace_feed(header, counted, self.now):
            return FeedResult(header.name, Outcome.UNCHANGED, serial=header.serial)
        return FeedResult(header.name, Outcome.IMPORTED, counted.count, serial=header.serial)

    def serials(self) -> dict[str, str]:
        """Return the serials of the stored editions by feed name."""
        return {status.name: status.serial for status in self.database.feeds(self.now)}


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
