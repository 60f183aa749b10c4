"""Headers of editions, and what a first pass over many documents finds out for one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from undercroft.advisories.feeds.feed import MAX_CLOCK_SKEW, FeedInput, check_not_ahead, serial_of
from undercroft.advisories.records import FeedHeader


def dated(
    name: str,
    written_at: datetime,
    max_age_s: int,
    releases: Iterable[str],
    *,
    complete_for: tuple[str, ...] = (),
    listed_for: tuple[str, ...] = (),
) -> FeedHeader:
    """Return the header of an edition that says when it was written; arguments as in `FeedHeader`."""
    return FeedHeader(
        name=name,
        serial=serial_of(written_at),
        published_at=written_at,
        valid_until=None,
        max_age_s=max_age_s,
        releases=tuple(sorted(set(releases))),
        complete_for=complete_for,
        listed_for=listed_for,
    )


def undated(
    source: FeedInput,
    name: str,
    max_age_s: int,
    releases: Iterable[str],
    *,
    complete_for: tuple[str, ...] = (),
    listed_for: tuple[str, ...] = (),
) -> FeedHeader:
    """Return the header of an edition without a date: the server's word for its age counts, or the import.

    Raises:
        InputError: the server's word is of the future.
    """
    if source.modified_at:
        check_not_ahead(source.modified_at, source.now, source.name)
    written_at = source.modified_at or source.now
    header = dated(name, written_at, max_age_s, releases, complete_for=complete_for, listed_for=listed_for)
    return replace(header, published_at=source.modified_at)


class Survey:
    """Counts the documents of an archive.

    Attributes:
        newest: the latest date of a document that is not ahead of the clock, None for none.
        about: how many documents are about each release.
    """

    def __init__(self, now: datetime) -> None:
        self.newest: datetime | None = None
        self.about: Counter[str] = Counter()
        self._now = now

    def add(self, written_at: datetime | None, releases: Iterable[str]) -> None:
        """Count a document that was written at a time, where it tells, and is about `releases`."""
        self.about.update(set(releases))
        if written_at is not None and written_at <= self._now + MAX_CLOCK_SKEW:
            self.newest = max(written_at, self.newest or written_at)

    def with_at_least(self, count: int) -> tuple[str, ...]:
        """Return the releases that so many documents are about, sorted."""
        return tuple(sorted(release for release, found in self.about.items() if found >= count))
