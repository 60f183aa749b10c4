"""What became of each feed of an update or an import, and what is told on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What an update or import did with one feed."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    SKIPPED = "skipped"  # rightly told or signed, but of a kind or an archive that is not read


@dataclass(frozen=True, slots=True)
class FeedResult:
    """One feed of an update or an import.

    Attributes:
        name: the feed's name; the file's or the publisher's where it was refused before it told its own.
        outcome: what was done; after a refusal what the database had is still there.
        records: how many it brought, 0 unless imported.
        detail: why it was refused or passed over; "" otherwise.
        serial: the edition that the database holds now, "" where that is not known.
    """

    name: str
    outcome: Outcome
    records: int = 0
    detail: str = ""
    serial: str = ""


@dataclass(frozen=True, slots=True)
class FeedProgress:
    """A step of long work.

    Attributes:
        name: the feed, file or package at hand.
        stage: "download", "read", "import" or "changelog".
        done: bytes (download, read), records (import) or packages (changelog) so far.
        total: of how many, None where that is not known.
    """

    name: str
    stage: str
    done: int
    total: int | None = None


Progress = Callable[[FeedProgress], None]


def silent(_: FeedProgress) -> None:
    """Tell nobody."""
