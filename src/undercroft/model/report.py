"""The result of a scan: one machine, all its states."""

from dataclasses import dataclass
from datetime import date, datetime

from undercroft.model.finding import Assessment, FeedStatus
from undercroft.model.inventory import Inventory

CURRENT = "current"


@dataclass(frozen=True, slots=True)
class StateReport:
    """One state of the machine.

    Attributes:
        name: "current", or the snapshot's name.
        ident: the snapshot's ID, "" for the current state.
        created_at_s: when the snapshot was taken, 0 for the current state.
        inventory: None when nothing could be read.
        assessment: None when there was no inventory or no assessment was asked for.
        problems: why the state is incomplete, the inventory's and the assessment's included.
        read_ms: how long reading took.
    """

    name: str
    ident: str
    created_at_s: int
    inventory: Inventory | None
    assessment: Assessment | None
    problems: tuple[str, ...]
    read_ms: float = 0.0

    @property
    def complete(self) -> bool:
        """True when everything that may hold software was read and could be assessed."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class DiskReport:
    """One disk as it was read: which files, in which formats, and who said so.

    `format_source` is "libvirt", "given" or "probed". `unstable` says that the file changed while it
    was read, twice.
    """

    name: str
    path: str
    format: str
    format_source: str
    chain: tuple[str, ...]
    size_bytes: int
    unstable: bool = False


@dataclass(frozen=True, slots=True)
class ScanReport:
    """One machine: its disks and its states, current first, then snapshots in order of time.

    `sandboxed` is False only when the caller asked for `--no-sandbox`. `as_of` is the day that
    advisories were limited to, None for all of them.
    """

    machine: str
    disks: tuple[DiskReport, ...]
    states: tuple[StateReport, ...]
    sandboxed: bool
    scanned_at: datetime
    as_of: date | None = None
    feeds: tuple[FeedStatus, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True when every state is complete."""
        return all(state.complete for state in self.states)
