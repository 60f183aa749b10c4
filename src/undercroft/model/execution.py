"""Executions: the stretches of a machine's life that never rewind, and the states that they begin from.

Executions form a tree: each has one parent, and the recorded state that it continues.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Origin(StrEnum):
    """How an execution began.

    FIRST: nothing earlier is known of the machine. START: cold, its disks as the parent left them.
    RESTORE: from a RAM image, once. REVERT: to a snapshot. BACKUP: its disks were put back, while it was
    off, to a state that is on record. CLONE: its disks are a copy of another machine's. FORK: from a RAM
    image that another execution has already continued. LOAD: inside a running process, through the
    monitor. MIGRATE: it came from a host whose records are not at hand. UNKNOWN: its disks changed while
    it was off, into no state that is on record.
    """

    FIRST = "first"
    START = "start"
    RESTORE = "restore"
    REVERT = "revert"
    BACKUP = "backup"
    CLONE = "clone"
    FORK = "fork"
    LOAD = "load"
    MIGRATE = "migrate"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution.

    Attributes:
        eid: 16 random bytes that the host minted, in hexadecimal.
        machine: the machine's UUID.
        name: the machine's name at its start.
        host: where it ran.
        origin: how it began.
        parent: the execution that it continues or branches off from, "" for none or unknown.
        state: key of the `RecordedState` that it began from, "" for none.
        started_at: with a time zone.
        ended_at: None while it lives, or when its end was not seen.
        ending: "stopped", "saved", "crashed", "migrated", "superseded", "lost" (its end was
            not seen), "failed" (it was prepared and never ran), "" while it lives.
        evidence: what the origin was concluded from, one sentence each.
        certain: False where the evidence leaves another origin possible.
    """

    eid: str
    machine: str
    name: str
    host: str
    origin: Origin
    parent: str
    state: str
    started_at: datetime
    ended_at: datetime | None = None
    ending: str = ""
    evidence: tuple[str, ...] = ()
    certain: bool = True

    @property
    def live(self) -> bool:
        """True while nobody has seen its end."""
        return self.ended_at is None


class StateKind(StrEnum):
    """What kind of thing holds a state. END: the machine's own disks after an execution."""

    SNAPSHOT = "snapshot"
    SAVE = "save"
    END = "end"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class RecordedState:
    """A state of a machine's disks, or of disks and RAM, that an execution may begin from.

    Attributes:
        key: unique: "snapshot:UUID:NAME:CREATED", "save:SAMPLE", "end:EID", "image:HOST:PATH".
        kind: what holds it.
        machine: UUID of the machine whose state it is, "" for an image of none.
        name: what people call it: the snapshot's name, the save image's or the image's path.
        eid: the execution in which it was taken, "" where that is unknown.
        taken_at: with a time zone.
        fingerprint: `Fingerprint.digest` of its disks, "" where they were not read.
        sample: tells the thing itself: `SaveImage.sample`; of an END, a digest of its image files'
            identities, "" where these prove nothing; "" for all others.
        gone_at: when it was found missing, None while it is there.
    """

    key: str
    kind: StateKind
    machine: str
    name: str
    eid: str
    taken_at: datetime
    fingerprint: str = ""
    sample: str = ""
    gone_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one state of a machine's disks from another, read from outside.

    Attributes:
        digest: SHA-256 in hexadecimal over partition tables and superblocks: it changes with every mount
            and every write that reaches a superblock, and is equal for equal disks. A guest can forge it
            for its own disks only.
        lineage: SHA-256 over the UUIDs of partitions and filesystems, which stay for the disk's whole life
            and go with every copy; "" where there are none.
    """

    digest: str
    lineage: str


@dataclass(frozen=True, slots=True)
class SaveImage:
    """A save image that libvirt is reading, as the hook found it among libvirtd's open files.

    `sample` is the SHA-256, in hexadecimal, of its size, its first and its last MiB.
    """

    path: str
    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    sample: str


@dataclass(frozen=True, slots=True)
class HookEvent:
    """One call of libvirt's hook, as it stands in the spool and travels to the agent.

    Attributes:
        ident: 16 random bytes in hexadecimal: what is counted once is told by it.
        at_ns: nanoseconds since the epoch.
        name: the machine's name.
        uuid: from the XML.
        operation: "prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect",
            "attach".
        sub: "begin" or "end".
        extra: libvirt's fourth argument, "-" as a rule; the reason at `stopped` and `release` where given.
        eid: the execution: minted by the hook at `prepare`, repeated until `release`; "" where it has none.
        xml: the domain as libvirt gave it.
        save: at `restore`, the image that is being restored; None where none was found.
        alone: the agent did not answer, and the hook decided by itself; `decided` is then what it decided.
        decided: "allow", "quarantine" or "refuse"; "" where nothing was to decide.
        reason: why.
    """

    ident: str
    at_ns: int
    name: str
    uuid: str
    operation: str
    sub: str
    extra: str
    eid: str
    xml: str
    save: SaveImage | None = None
    alone: bool = False
    decided: str = ""
    reason: str = ""
