"""What going back to a snapshot would bring back, and what follows from it."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from undercroft.model.finding import Severity
from undercroft.model.fleet import Hold
from undercroft.model.verdict import Action, Judgement


@dataclass(frozen=True, slots=True)
class Returning:
    """One vulnerability that a machine had fixed and that a state of it has.

    Where the whole release goes back, `source` and `vulnerability` are "" and the versions release keys.

    Attributes:
        source: source package.
        vulnerability: CVE number, or the advisory's own.
        installed_version: what the state has, untrusted.
        fixed_version: from which it is fixed.
        floor_version: what the machine had reached.
        severity: UNKNOWN where no source gives one.
        known_exploited_on: date of entry in CISA's KEV, None when not listed.
    """

    source: str
    vulnerability: str
    installed_version: str
    fixed_version: str
    floor_version: str
    severity: Severity = Severity.UNKNOWN
    known_exploited_on: date | None = None


class CredentialKind(StrEnum):
    """What lets somebody in, or proves who the machine is. In the order of urgency."""

    ACCOUNT = "account"
    PASSWORD = "password"  # noqa: S105 - no password
    AUTHORIZED_KEY = "authorized key"
    AUTHORITY = "certificate authority's key"
    HOST_KEY = "host key"
    USER_KEY = "user key"
    CERTIFICATE = "certificate"
    SECRET = "secret"  # noqa: S105 - no password


@dataclass(frozen=True, slots=True)
class CredentialReturning:
    """One thing that had been removed, locked or replaced and would count again.

    Attributes:
        kind: what it is.
        owner: the account, "" for the machine's own.
        name: the account, the fingerprint or the path; untrusted.
        change: what a revert undoes: "was removed", "was locked", "was replaced", "was changed", ...
        detail: a key's comment, a secret's kind, a password's day; untrusted, "" for none.
    """

    kind: CredentialKind
    owner: str
    name: str
    change: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CredentialsBack:
    """What a state has that the present one has no more.

    Attributes:
        returning: in the order of `CredentialKind`.
        lost: how many accounts, keys, certificates and secrets were added since and would be gone.
        problems: why something may be missing from both.
    """

    returning: tuple[CredentialReturning, ...] = ()
    lost: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FindingsBack:
    """How the findings of two states differ, in counts.

    Attributes:
        total: findings of the snapshot's state.
        back: those that the present state has not.
        gone: those of the present state that the snapshot's has not.
        exploited: vulnerabilities among `back` that are known to be exploited, sorted.
        fixable: how many of `back` can be fixed.
    """

    total: int
    back: int
    gone: int
    exploited: tuple[str, ...] = ()
    fixable: int = 0


@dataclass(frozen=True, slots=True)
class Comeback:
    """What a revert would bring back, and the decision.

    Attributes:
        machine: UUID.
        name: the machine's name, the domain's own.
        snapshot: name of the snapshot.
        created_at_s: when the snapshot was taken: one that was taken anew under its name is another.
        returning: known-exploited first.
        unproven: sources in versions above the floor that no trusted index lists: neither old nor fixed.
        findings: how the findings differ, None where one of the states could not be assessed.
        credentials: what would count again.
        judgement: of the snapshot's state under the policy.
        action: what a revert meets.
        reasons: why, one sentence each; () where nothing stands against it.
        problems: why the answer is not whole; not empty: more may come back than is shown.
        checked_at: when.
    """

    machine: str
    name: str
    snapshot: str
    created_at_s: int
    returning: tuple[Returning, ...]
    unproven: tuple[str, ...]
    findings: FindingsBack | None
    credentials: CredentialsBack
    judgement: Judgement
    action: Action
    reasons: tuple[str, ...]
    problems: tuple[str, ...]
    checked_at: datetime

    @property
    def unjudged(self) -> bool:
        """True where it is refused for what could not be read or judged, not for what is known."""
        return self.action is Action.REFUSE and bool(self.problems) and not self.returning


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a machine may leave its quarantine.

    Attributes:
        machine: UUID.
        name: the machine's name.
        hold: as it is on record.
        returning: what it lacks of its own patch floor.
        judgement: of what runs now.
        against: what stands against a release, one sentence each; () when nothing does.
        problems: why the look at it was not whole.
        checked_at: when.
    """

    machine: str
    name: str
    hold: Hold
    returning: tuple[Returning, ...]
    judgement: Judgement
    against: tuple[str, ...]
    problems: tuple[str, ...]
    checked_at: datetime
