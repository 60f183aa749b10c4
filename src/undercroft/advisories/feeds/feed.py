"""What goes into a parser and what comes out, and the checks that every edition passes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from undercroft.advisories.records import FeedHeader, Record
from undercroft.errors import InputError

MAX_CLOCK_SKEW = timedelta(days=1)
"""How far a publisher's clock may be ahead. An edition "of next year" would never grow stale."""


@dataclass(frozen=True, slots=True)
class FeedInput:
    """One untrusted file.

    Attributes:
        name: for error messages: the file's path or address.
        file: binary, seekable, open for as long as the feed's records are taken.
        now: the time of the import, with a time zone.
        modified_at: what the publisher's server said of the file's age (Last-Modified), None where
            nothing did. Used only by formats that carry no date of their own.
        release: release key that the caller says it is for, "" where the content has to tell.
        repository: the one that the caller says it is of, "" likewise. Both are for errata of rpms alone.
    """

    name: str
    file: BinaryIO
    now: datetime
    modified_at: datetime | None = None
    release: str = ""
    repository: str = ""


@dataclass(frozen=True, slots=True)
class Feed:
    """One edition of one feed; `records` can be taken once."""

    header: FeedHeader
    records: Iterator[Record]


Parser = Callable[[FeedInput], Feed]


def serial_of(moment: datetime) -> str:
    """Return `moment` as a serial: UTC, to the second, ordered as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_not_ahead(moment: datetime, now: datetime, what: str) -> None:
    """Raise InputError when `moment` lies more than `MAX_CLOCK_SKEW` after `now`."""
    if moment > now + MAX_CLOCK_SKEW:
        raise InputError(
            f"{what} is dated {serial_of(moment)}, which is in the future; "
            "check this machine's clock and where the file comes from"
        )
