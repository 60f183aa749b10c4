"""What is known of a start, and what is concluded from it: the values of `lineage.origin`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.model.execution import Execution, Origin, RecordedState, SaveImage
from undercroft.model.fleet import FileIdentity


@dataclass(frozen=True, slots=True)
class StartFacts:
    """One start, as seen from the host.

    Attributes:
        machine: UUID.
        name: its name.
        host: where it starts.
        at: when, with a time zone.
        eid: the execution that begins.
        restoring: libvirt restores RAM: its hook or its event said so.
        save: the image that it restores from, None where none was found.
        migrating: it comes from another host.
        reverting: libvirt's event said that it comes from a snapshot.
        snapshot: that snapshot's name, "" where it is not known.
        booted: libvirt's event said that it booted: no restore, no revert.
        loaded: paused and resumed under a monitor that somebody else has used.
        rewinds: it has snapshots with RAM: a start and a revert look alike until libvirt's event.
        found: it was found running; nobody saw the start.
        fingerprint: of the disks before the start, "" where they were not read.
        lineage: `Fingerprint.lineage`, "" where they were not read or hold none.
        files: the identities of its top images before the start, () where they were not looked at.
        bases: paths of the backing images below them.
    """

    machine: str
    name: str
    host: str
    at: datetime
    eid: str
    restoring: bool = False
    save: SaveImage | None = None
    migrating: bool = False
    reverting: bool = False
    snapshot: str = ""
    booted: bool = False
    loaded: bool = False
    rewinds: bool = False
    found: bool = False
    fingerprint: str = ""
    lineage: str = ""
    files: tuple[FileIdentity, ...] = ()
    bases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relative:
    """A machine or an image whose filesystems have the same UUIDs: `machine` is "" for an image."""

    machine: str
    name: str
    eid: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What is on record before a start.

    Attributes:
        executions: of this machine and its relatives, in order of their start.
        states: of this machine, oldest first.
        alike: of any machine, with the same fingerprint or the same save image, latest first.
        relatives: other machines and images of the same weak lineage.
    """

    executions: tuple[Execution, ...] = ()
    states: tuple[RecordedState, ...] = ()
    alike: tuple[RecordedState, ...] = ()
    relatives: tuple[Relative, ...] = ()

    def own(self, facts: StartFacts) -> tuple[Execution, ...]:
        """Return the machine's executions that ran before this start, in order."""
        return tuple(
            known
            for known in self.executions
            if known.machine == facts.machine
            and known.eid != facts.eid
            and known.ending != "failed"
            and known.started_at <= facts.at
        )


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How an execution began. `state` is a `RecordedState.key`; the others are as in `Execution`."""

    origin: Origin
    parent: str
    state: str
    evidence: tuple[str, ...]
    certain: bool = True

    def doubted(self, because: str) -> "Conclusion":
        """Return the same conclusion, not certain, with one more sentence."""
        return replace(self, certain=False, evidence=(*self.evidence, because))


def files_mark(files: Sequence[FileIdentity]) -> str:
    """Return a digest of file identities, "" where they prove nothing.

    Equal marks mean that no file was written in between: each holds its ctime. Names do not count.
    """
    if not files or not all(file.proves for file in files):
        return ""
    lines = [
        f"{file.device} {file.inode} {file.size_bytes} {file.modified_ns} {file.changed_ns}\n"
        for file in files
    ]
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()
