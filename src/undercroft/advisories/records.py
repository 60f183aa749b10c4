"""The records that feeds are parsed into, the store holds and matching reads.

A release key names whose statement it is: "debian:12", "alma:9" (see `families`).

What a statement is about, its subject, is a source package in Debian, Ubuntu and Alpine; others name binary
packages, which may bear a source package's name and another version. `subject_name` keeps the two apart,
and the packages of a module's stream from all others.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from undercroft.model.finding import Severity


class Status(StrEnum):
    """What a publisher says of one vulnerability in one source package of one release."""

    FIXED = "fixed"
    UNFIXED = "unfixed"
    NOT_AFFECTED = "not-affected"
    UNDETERMINED = "undetermined"
    INVESTIGATED = "under-investigation"
    WILL_NOT_FIX = "will-not-fix"
    OUT_OF_SUPPORT = "out-of-support"


ANY_STREAM = "*"
"""Stands for a module that the publisher does not name."""

_BINARY = "binary:"


def subject_name(package: str, *, binary: bool = False, module: str = "") -> str:
    """Return how the database and matching call what a statement is about.

    Source packages are called by their names; "binary:openssl-libs" is a binary package, and
    "binary:npm@nodejs:18" one of a module's stream. No package's name holds a colon or an at sign.

    Args:
        package: name of a package, checked.
        binary: it is a binary package's name.
        module: "NAME:STREAM", `ANY_STREAM` where only that it is of a module is known, "" for none.
    """
    return f"{_BINARY if binary else ''}{package}{'@' if module else ''}{module}"


def package_of(subject: str) -> str:
    """Return the package's name in a `subject_name`."""
    return subject.removeprefix(_BINARY).partition("@")[0]


@dataclass(frozen=True, slots=True)
class Advisory:
    """One statement of one feed.

    Attributes:
        feed: name of the feed ("debian-tracker", "debian-dsa", "osv:Debian:12").
        release: "debian:12".
        source: source package, or another `subject_name`.
        vulnerability: CVE number, else the advisory's own id.
        advisory: the publisher's id ("DSA-5865-1"), "" where the statement has none.
        status: see Status.
        fixed_version: first version without the fault; "" unless FIXED.
        introduced_version: versions below are not affected; "" for all.
        stream: "" for everybody's archive, "esm" for Ubuntu Pro only, "ltss" for SUSE's subscribers only.
        published_on: the record's date, None where the feed gives none (then it has no answer for --as-of).
        severity: what this feed says, UNKNOWN where it says nothing.
        severity_source: "debian:urgency", "ubuntu:priority", "osv:cvss3.1:9.8", "" for unknown.
        title: one line, untrusted.
    """

    feed: str
    release: str
    source: str
    vulnerability: str
    advisory: str
    status: Status
    fixed_version: str = ""
    introduced_version: str = ""
    stream: str = ""
    published_on: date | None = None
    severity: Severity = Severity.UNKNOWN
    severity_source: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """What a CVE record says of a vulnerability, whoever is affected."""

    feed: str
    vulnerability: str
    severity: Severity
    severity_source: str
    published_on: date | None
    title: str
    rejected: bool = False


@dataclass(frozen=True, slots=True)
class KnownExploited:
    """An entry of CISA's catalog of known exploited vulnerabilities."""

    vulnerability: str
    added_on: date


@dataclass(frozen=True, slots=True)
class ExploitProbability:
    """An EPSS score, 0 to 1."""

    vulnerability: str
    probability: float
    scored_on: date


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One binary package that a distribution's signed index lists."""

    release: str
    suite: str
    package: str
    architecture: str
    version: str
    source: str
    source_version: str


@dataclass(frozen=True, slots=True)
class ChangelogEntry:
    """One version in the history of a source package, from a changelog inside a package.

    Entries of one changelog keep the order that they have there, newest first.

    Attributes:
        source: source package; an older name in the entries before it was renamed.
        version: source version.
        dated_on: when it was finished, by its author.
        vulnerabilities: the CVE numbers that the entry names; some name none.
        title: one line, untrusted, "" for none.
        branch: the source version whose changelog this stands in.
    """

    source: str
    version: str
    dated_on: date
    vulnerabilities: tuple[str, ...]
    title: str = ""
    branch: str = ""


class VexStatus(StrEnum):
    """OpenVEX statement status."""

    NOT_AFFECTED = "not_affected"
    AFFECTED = "affected"
    FIXED = "fixed"
    UNDER_INVESTIGATION = "under_investigation"


@dataclass(frozen=True, slots=True)
class VexStatement:
    """What the user's own OpenVEX document says.

    Attributes:
        document: its @id.
        vulnerability: CVE number.
        products: package URLs or names; empty means every product.
        status: only NOT_AFFECTED and FIXED take a finding away.
        justification: as in the document.
        timestamp: of the statement, else of the document.
    """

    document: str
    vulnerability: str
    products: tuple[str, ...]
    status: VexStatus
    justification: str
    timestamp: datetime


Record = (
    Advisory
    | Vulnerability
    | KnownExploited
    | ExploitProbability
    | IndexEntry
    | ChangelogEntry
    | VexStatement
)


@dataclass(frozen=True, slots=True)
class FeedHeader:
    """What identifies one edition of one feed.

    Attributes:
        name: see FeedStatus.name.
        serial: grows from edition to edition and is compared as text (ISO date-times, zero-padded numbers).
        published_at: the publisher's date, None when it gives none.
        valid_until: the publisher's own limit (Release: Valid-Until), None when it gives none.
        max_age_s: our limit for this kind of feed, seconds after `published_at` (else after the import).
        releases: release keys that this edition speaks for; empty for feeds about vulnerabilities as such.
        complete_for: releases for which "no record" means "nothing known" (a tracker), not "no advisory".
        signed_by: fingerprint of the verified key, "" when unsigned.
        listed_for: releases for which "no record" means "no fix was published": a publisher's whole list of
            advisories, which does not know what is not fixed yet; or parts of them, where each repository has
            a list of its own ("oracle:9/base").
    """

    name: str
    serial: str
    published_at: datetime | None
    valid_until: datetime | None
    max_age_s: int
    releases: tuple[str, ...] = ()
    complete_for: tuple[str, ...] = ()
    signed_by: str = ""
    listed_for: tuple[str, ...] = ()


def is_mirror(feed: str) -> bool:
    """Tell whether a feed is a suite of a distribution's mirror ("mirror:debian:12:bookworm-security")."""
    return feed.startswith("mirror:")
