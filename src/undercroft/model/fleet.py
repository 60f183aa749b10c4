"""What is on record of the fleet: machines, scans and what they rest on, floors, holds, intents."""

from dataclasses import dataclass
from datetime import datetime

from undercroft.model.domain import Domain


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """One machine on one host.

    `gone_at` is set when it was no longer defined nor running; the record stays.
    """

    host: str
    domain: Domain
    first_seen: datetime
    last_seen: datetime
    gone_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """An image file or block device as it was when it was read.

    A file whose identity is equal was not written since: writing sets `changed_ns` (ctime), which no call
    can set back. For block devices, and for a file that was written within a second of the read, nothing
    is proven: `proves` is then False.
    """

    path: str
    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    proves: bool = True


@dataclass(frozen=True, slots=True)
class DiskRead:
    """One read of a machine's disk: `disk` counts from 0 in the machine's order; the range is in bytes."""

    disk: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ReadSet:
    """Every byte that an answer rests on: the reader is a function of these, so equal bytes, equal answer.

    Attributes:
        reads: in the order in which they were made; ranges that join are one.
        sizes: size of each disk in bytes, -1 for one that could not be opened.
        digest: SHA-256 over the disks' names and sizes, why some are unread, the reader's version, and all
            bytes read, in order, in hexadecimal.
    """

    reads: tuple[DiskRead, ...]
    sizes: tuple[int, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found when a subject was last read.

    Attributes:
        subject: its key.
        inventory: digest of the whole inventory, "" where none could be had.
        software: digest of the part that advisories are matched with; equal for clones of one machine.
        credentials: digest of its `Credentials`, "" where they were not read.
        fingerprint: of its disks, "" where they could not be read.
        lineage: `Fingerprint.lineage`.
        files: the files that the answer rests on, top images first.
        problems: why it is not whole, without the advisories' problems.
        scanned_at: when its bytes were read or found to be the same.
        inputs: digest of how the disks were given to the reader (names, formats, chain), "" where nothing
            is proven: `files` prove the answer for these only.
    """

    subject: str
    inventory: str
    software: str
    credentials: str
    fingerprint: str
    lineage: str
    files: tuple[FileIdentity, ...]
    problems: tuple[str, ...]
    scanned_at: datetime
    inputs: str = ""


@dataclass(frozen=True, slots=True)
class FloorEntry:
    """The highest version of one package that a machine was proved to have, in the words of who listed it.

    `source` is called as the advisory database calls subjects: "openssl" is a source package,
    "binary:openssl-libs" a binary one, "binary:npm@nodejs:18" one of a module's stream.
    """

    release: str
    source: str
    version: str
    reached_at: datetime


@dataclass(frozen=True, slots=True)
class Floor:
    """A machine's patch floor, sorted by release and source."""

    machine: str
    entries: tuple[FloorEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldTap:
    """One tap that is off its bridge, and the bridge that it goes back to."""

    tap: str
    bridge: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A machine whose network is closed, and why.

    `pending` is True while only its way of starting is to be confirmed, False for a quarantine. `by_filter`
    is True where the filter closes it: its taps stay on their bridges with the quarantine's labels, and
    `taps` is empty. `reseed` is True where its taps stay held until its guest has confirmed fresh randomness,
    and all else is known: a pending hold ends then, a quarantine goes on by the filter where one is in force.
    """

    machine: str
    eid: str
    taps: tuple[HeldTap, ...]
    reason: str
    since: datetime
    pending: bool
    by_filter: bool = False
    reseed: bool = False


@dataclass(frozen=True, slots=True)
class Intent:
    """What an administrator has decided by command, for the next start of a machine to find.

    Attributes:
        machine: UUID.
        kind: "revert" or "release".
        state: name of the snapshot, "" for a release.
        by: the user.
        reason: in the user's words; required where the policy's answer was another.
        at: when.
        until: past this it counts for nothing.
        overrides: the policy would have answered otherwise.
    """

    machine: str
    kind: str
    state: str
    by: str
    reason: str
    at: datetime
    until: datetime
    overrides: bool
