"""All that a judgement rests on, gathered by whoever asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from undercroft.model.finding import Assessment
from undercroft.model.fleet import Scan
from undercroft.model.verdict import Subject
from undercroft.steady.policy import Target

FixesSeen = Mapping[tuple[str, str], datetime]
"""When (source, vulnerability) was first seen as fixable; for fixes that nobody dates."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one subject.

    Attributes:
        subject: what is judged.
        target: what the policy's rules are matched with; for a snapshot its machine's.
        scan: the last one, None where it was never read.
        assessment: what the advisories say of `scan.software`, None where they were not asked. Share one
            object among all subjects with the same software: a `Judge` then works on it once.
        advisories: the mark of the advisories that were asked.
        fixes_seen: share one object among the subjects of one assessment, as above.
        ownership_problem: why owner, labels and expiry could not be read, "" when they could.
        expires_on: the first day on which the machine may not start any more, None for never.
        template: it is never started itself.
        genid: whether the definition has `<genid/>`; None for what has no definition.
        beside: what the machine may run that none of its disks holds, in words.
        has_memory_snapshots: a state with RAM could be loaded at its next start.
        unholdable: interfaces whose traffic the host cannot hold back ("user 52:54:00:12:34:56").
        has_floor: the machine has reached something that a state of it can lack.
        below_floor: what this state lacks of it ("CVE-2024-1 in openssl").
        floor_unproven: sources whose versions prove nothing, because no trusted source lists them.
        goes_on: lineage shows that this state goes on from where the machine was. It is no rollback, so a
            version that nobody lists yet is more likely this morning's patch than a guest's lie.
        in_quarantine: a quarantine is on record; one that only waits for a confirmation is none.
        running: the machine runs, or is paused.
    """

    subject: Subject
    target: Target
    scan: Scan | None = None
    assessment: Assessment | None = None
    advisories: str = ""
    fixes_seen: FixesSeen = field(default_factory=dict)
    ownership_problem: str = ""
    expires_on: date | None = None
    template: bool = False
    genid: bool | None = None
    beside: tuple[str, ...] = ()
    has_memory_snapshots: bool = False
    unholdable: tuple[str, ...] = ()
    has_floor: bool = False
    below_floor: tuple[str, ...] = ()
    floor_unproven: tuple[str, ...] = ()
    goes_on: bool = False
    in_quarantine: bool = False
    running: bool = False

    @property
    def was_read(self) -> bool:
        """True when an inventory of some coverage could be had."""
        return self.scan is not None and bool(self.scan.inventory)
