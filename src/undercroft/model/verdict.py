"""Verdicts: what a policy makes of what is known about a machine, and what follows."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class SubjectKind(StrEnum):
    """What is judged."""

    MACHINE = "machine"
    SNAPSHOT = "snapshot"
    TEMPLATE = "template"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that is judged: a machine's current state, a snapshot, a template, an image of no machine.

    Attributes:
        key: "machine:UUID", "snapshot:UUID:NAME", "template:UUID", "image:HOST:PATH"; templates that are
            images are "image:".
        kind: what it is.
        name: what people call it: "web01", "web01@before-upgrade", a path.
        host: where it lies.
        machine: UUID of its machine, "" for an image.
        state: `CURRENT` or the snapshot's name.
    """

    key: str
    kind: SubjectKind
    name: str
    host: str
    machine: str = ""
    state: str = "current"


class Verdict(StrEnum):
    """The word that stands in the table.

    QUARANTINED: its network is closed, whatever it runs; the judgement's results say why.
    UNKNOWN: something that matters could not be read or judged. Never better than DRIFTING.
    """

    STEADY = "steady"
    DRIFTING = "drifting"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What happens when the machine starts, weakest first."""

    ALLOW = "allow"
    QUARANTINE = "quarantine"
    REFUSE = "refuse"


class Outcome(StrEnum):
    """What one rule says.

    GRACE: it fails, but not for long enough to act. EXCEPTED: an exception covers it.
    """

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNKNOWN = "unknown"
    GRACE = "grace"
    EXCEPTED = "excepted"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule's answer.

    Attributes:
        rule: "known-exploited", "fixable", "end-of-life", "scanned", "coverage", "severity", "floor",
            "expiry", "identity", ...
        outcome: what it says.
        reason: one sentence for people, untrusted texts in it included as they are.
        source: where the policy says so: "policy.yaml:12", "default".
        items: what it rests on: vulnerabilities ("CVE-2024-1 in openssl"), problems. Not shortened.
        until: when a grace or an exception ends, None for none.
    """

    rule: str
    outcome: Outcome
    reason: str
    source: str
    items: tuple[str, ...] = ()
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the policy says of one subject at one time.

    Attributes:
        subject: its key.
        verdict: the word for it.
        action: what a start would meet.
        results: every rule that was asked, in the policy's order; none is left out.
        policy: digest of the policy.
        advisories: mark of the advisories that were asked ("" for none); changes with every import.
        judged_at: when.
        since: since when the verdict is this one.
    """

    subject: str
    verdict: Verdict
    action: Action
    results: tuple[RuleResult, ...]
    policy: str
    advisories: str
    judged_at: datetime
    since: datetime

    @property
    def why(self) -> str:
        """The first reason that stands against it, "" when it is steady."""
        order = (Outcome.FAIL, Outcome.UNKNOWN, Outcome.GRACE)
        bad = [result for wanted in order for result in self.results if result.outcome is wanted]
        return bad[0].reason if bad else ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was answered to one start, restore, migration or revert.

    Attributes:
        ident: the hook event's, or 16 random bytes of a decision without one, in hexadecimal.
        machine: UUID.
        name: the machine's name.
        eid: the execution that it is about, "" where none began.
        action: what was answered.
        hold: its taps stay off their bridges until the agent has seen how it started.
        reason: one sentence; also shown by virsh where it is a refusal.
        at: when.
        by: "agent", "hook" (alone), "USER" of a command.
        leaves_open: interfaces that cannot be held stay open beside those that are, which the policy allows.
    """

    ident: str
    machine: str
    name: str
    eid: str
    action: Action
    hold: bool
    reason: str
    at: datetime
    by: str
    leaves_open: bool = False
