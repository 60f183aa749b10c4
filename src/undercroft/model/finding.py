"""What is known to be wrong with what is installed, and how well that is known."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class Severity(StrEnum):
    """Severity of a finding, worst first. UNKNOWN: no source gives one; it never passes a gate."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NEGLIGIBLE = "negligible"
    UNKNOWN = "unknown"


class FixState(StrEnum):
    """Whether the distribution offers a version without the fault, and if not, what it says of that."""

    FIXABLE = "fixable"
    UNFIXED = "unfixed"
    NEEDS_SUBSCRIPTION = "needs-subscription"  # only an extended stream has it (Ubuntu Pro, SUSE LTSS)
    WILL_NOT_FIX = "will-not-fix"  # its publisher has decided so
    UNDER_INVESTIGATION = "under-investigation"  # its publisher does not know yet whether it is affected
    OUT_OF_SUPPORT = "out-of-support"  # its publisher has stopped looking after this package


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability in one source package of one state.

    Attributes:
        vulnerability: CVE number, or the advisory's own where it names none.
        packages: names of the installed binary packages, sorted.
        source: source package.
        installed_version: installed source version (the oldest, where several are installed); where
            advisories speak of binary packages (rpm, Arch), the binary package's.
        fixed_version: version that fixes it, comparable with the installed one, "" for none.
        fix: whether that version can be had.
        severity: worst first, UNKNOWN where no source gives one.
        severity_source: "cve:cvss3.1:9.8", "debian:urgency", "" for unknown.
        advisories: ids that say so ("DSA-5865-1"), most official first.
        feeds: names of the feeds that said so ("debian-dsa", "mirror").
        title: one line, "" for none. Untrusted text.
        published_on: first dated record, None for none.
        fixed_on: day since when the release offers a fix, None where there is none or nobody dates it.
        known_exploited_on: date of entry in CISA's KEV, None when not listed.
        exploit_probability: EPSS, 0 to 1, None when not listed.
    """

    vulnerability: str
    packages: tuple[str, ...]
    source: str
    installed_version: str
    fixed_version: str
    fix: FixState
    severity: Severity
    severity_source: str
    advisories: tuple[str, ...]
    feeds: tuple[str, ...]
    title: str = ""
    published_on: date | None = None
    fixed_on: date | None = None
    known_exploited_on: date | None = None
    exploit_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Outdated:
    """A package for which a trusted index lists a newer version."""

    package: str
    source: str
    installed_version: str
    candidate_version: str
    suite: str


@dataclass(frozen=True, slots=True)
class Unassessed:
    """A package that no source can vouch for, and why ("no source lists this version")."""

    package: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class EndOfLife:
    """Until when a release gets security updates.

    Attributes:
        ends_on: end of the support that everybody gets; None when unknown.
        extended_ends_on: end of LTS (Debian) or ESM (Ubuntu); None when there is none.
        state: "supported", "extended", "ended" or "unknown" at the time of the assessment.
    """

    ends_on: date | None
    extended_ends_on: date | None
    state: str


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """One source of advisories as the database holds it.

    Attributes:
        name: "debian-tracker", "debian-dsa", "osv:Debian:12", "mirror:bookworm-security", ...
        serial: the publisher's own mark (date, version), as text; never goes back.
        published_at: the publisher's date, None when it gives none.
        fetched_at: when it was imported.
        valid_until: past this its answers are unknown.
        records: how many it holds.
        signed_by: fingerprint of the key, "" when the publisher does not sign.
        stale: past `valid_until` at the time of the assessment.
    """

    name: str
    serial: str
    published_at: datetime | None
    fetched_at: datetime
    valid_until: datetime
    records: int
    signed_by: str = ""
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the advisories say of one inventory.

    Attributes:
        findings: known-exploited first, then by severity, package and vulnerability.
        outdated: sorted by package.
        unassessed: sorted by package.
        end_of_life: of the release.
        feeds: those that were asked, stale ones included.
        problems: why the answer is not whole ("no advisories for debian 12"); empty means whole.
        notes: what limits or explains an answer that is whole all the same ("the fixed kernel is
            installed, but an older one boots").
        suppressed: findings that the user's own OpenVEX statements take away; `feeds` names the document.
    """

    findings: tuple[Finding, ...]
    outdated: tuple[Outdated, ...]
    unassessed: tuple[Unassessed, ...]
    end_of_life: EndOfLife
    feeds: tuple[FeedStatus, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    suppressed: tuple[Finding, ...] = ()

    @property
    def complete(self) -> bool:
        """True when every question that the assessment asks had an answer."""
        return not self.problems
