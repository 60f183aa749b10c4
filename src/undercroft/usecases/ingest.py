"""One parsed feed into the database: atomically, with progress, errors turned into a result."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol

from undercroft.advisories.feeds.feed import Feed
from undercroft.advisories.records import ChangelogEntry, FeedHeader, Record
from undercroft.errors import OperationError, UndercroftError
from undercroft.model.finding import FeedStatus
from undercroft.usecases.feedresult import FeedProgress, FeedResult, Outcome, Progress

PROGRESS_STEP = 2000
READ_STEP_BYTES = 1 << 20
READ_BUFFER_BYTES = 1 << 16


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
        """Add changelogs to a feed of them, all or nothing; those that it holds already stay."""
        ...

    def confirm_feed(self, name: str, fetched_at: datetime) -> None:
        """Note that the edition that is there is still the publisher's newest."""
        ...

    def changelog_versions(self, name: str) -> frozenset[tuple[str, str]]:
        """Return the (source, version) pairs whose changelogs a feed holds."""
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
    _serials: dict[str, str] | None = field(default=None, init=False)

    def replace(self, feed: Feed) -> FeedResult:
        """Store an edition. Raises what the parser and the store raise; then the former edition stays."""
        header = feed.header
        counted = _Counted(feed.records, header.name, self.progress)
        serials, self._serials = self.serials(), None  # asked for anew after an error
        if not self.database.replace_feed(header, counted, self.now):
            self._serials = serials
            return FeedResult(header.name, Outcome.UNCHANGED, serial=header.serial)
        serials[header.name] = header.serial
        self._serials = serials
        return FeedResult(header.name, Outcome.IMPORTED, counted.count, serial=header.serial)

    def serials(self) -> dict[str, str]:
        """Return the serials of the stored editions by feed name."""
        if self._serials is None:
            self._serials = {status.name: status.serial for status in self.database.feeds(self.now)}
        return self._serials


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


class WatchedFile(io.RawIOBase):
    """A file whose reading is told to `progress`: parsing a large archive takes minutes.

    Args:
        file: seekable, open for as long as this is used.
        name: of the feed or file.
        progress: called once in a while with the position.
    """

    def __init__(self, file: BinaryIO, name: str, progress: Progress) -> None:
        self._file = file
        self._name = name
        self._progress = progress
        self._size_bytes = file.seek(0, io.SEEK_END)
        self._told_bytes = 0
        file.seek(0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position, as any file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`, as any raw file does."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        position = self._file.tell()
        if abs(position - self._told_bytes) >= READ_STEP_BYTES:
            self._told_bytes = position
            self._progress(FeedProgress(self._name, "read", position, self._size_bytes))
        return len(data)


def watched(file: BinaryIO, name: str, progress: Progress) -> BinaryIO:
    """Return `file` as a buffered `WatchedFile`."""
    return io.BufferedReader(WatchedFile(file, name, progress), READ_BUFFER_BYTES)


@contextmanager
def refusals(results: list[FeedResult], name: str) -> Iterator[None]:
    """Turn an error about one feed into its result, so that the others go on.

    What the system refuses counts as an OperationError that names the path.
    """
    try:
        try:
            yield
        except OSError as error:
            raise OperationError(f"{error.filename or name}: {error.strerror or error}") from error
    except UndercroftError as error:
        results.append(FeedResult(name, Outcome.REFUSED, detail=str(error)))
