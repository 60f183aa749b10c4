"""Facts of a machine that is in order, findings that are not, and policies from text."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from undercroft.model.finding import Assessment, EndOfLife, FeedStatus, Finding, FixState, Severity
from undercroft.model.fleet import Scan
from undercroft.model.verdict import Judgement, RuleResult, Subject, SubjectKind
from undercroft.steady.facts import Facts
from undercroft.steady.judge import judge
from undercroft.steady.policy import Policy, Target
from undercroft.steady.reading import load_policy

NOW = datetime(2026, 3, 7, 12, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)
UUID = "11111111-2222-3333-4444-555555555555"
MACHINE = Subject(f"machine:{UUID}", SubjectKind.MACHINE, "web01", "host1", UUID)
SUPPORTED = EndOfLife(date(2026, 6, 10), date(2028, 6, 30), "supported")


def feed(name: str = "debian-tracker", **changes: Any) -> FeedStatus:
    """Return a source of advisories that is fresh for two days."""
    return replace(FeedStatus(name, "1", NOW, NOW, NOW + 2 * DAY, 1000), **changes)


FEEDS = (feed(), feed("kev"))


def finding(vulnerability: str = "CVE-2026-1", source: str = "openssl", **changes: Any) -> Finding:
    """Return a finding of medium severity whose fix has been there for a year."""
    made = Finding(
        vulnerability=vulnerability,
        packages=(source,),
        source=source,
        installed_version="1",
        fixed_version="2",
        fix=FixState.FIXABLE,
        severity=Severity.MEDIUM,
        severity_source="cve:cvss3.1:5.0",
        advisories=("DSA-1-1",),
        feeds=("debian-dsa",),
        fixed_on=TODAY - 365 * DAY,
    )
    return replace(made, **changes)


def high(vulnerability: str = "CVE-2026-1", source: str = "openssl", **changes: Any) -> Finding:
    """Return the same of high severity."""
    return finding(vulnerability, source, **{"severity": Severity.HIGH, **changes})


def exploited(vulnerability: str = "CVE-2026-9", **changes: Any) -> Finding:
    """Return a finding that is known to be exploited, of low severity and without a fix."""
    fields = {"severity": Severity.LOW, "fix": FixState.UNFIXED, "fixed_version": "", "fixed_on": None}
    return finding(vulnerability, **{**fields, "known_exploited_on": TODAY, **changes})


def assessment(*findings: Finding, **changes: Any) -> Assessment:
    """Return an assessment that is whole."""
    return replace(Assessment(findings, (), (), SUPPORTED, FEEDS), **changes)


def scan(**changes: Any) -> Scan:
    """Return the scan of a disk that was read whole an hour ago."""
    made: dict[str, Any] = {
        "subject": MACHINE.key,
        "inventory": "i" * 64,
        "software": "s" * 64,
        "credentials": "",
        "fingerprint": "",
        "lineage": "",
        "files": (),
        "problems": (),
        "scanned_at": NOW - timedelta(hours=1),
    }
    return Scan(**{**made, **changes})


def facts(*findings: Finding, **changes: Any) -> Facts:
    """Return the facts of a machine that has only these findings, and is in order without any."""
    made = Facts(
        subject=MACHINE,
        target=Target("web01", ("prod",), "alice", ("default",), "host1"),
        scan=scan(),
        assessment=assessment(*findings),
        advisories="mark",
        genid=True,
        has_floor=True,
    )
    return replace(made, **changes)


def policy(text: str = "version: 1\n", name: str = "policy.yaml", today: date = TODAY) -> Policy:
    """Return the policy of one text."""
    return load_policy([(name, text.encode())], today)


def judged(
    about: Facts, by: Policy | str = "version: 1\n", now: datetime = NOW, since: Judgement | None = None
) -> Judgement:
    """Return the judgement by a policy or its text."""
    return judge(about, policy(by) if isinstance(by, str) else by, now, since)


def result(of: Judgement, rule: str) -> RuleResult:
    """Return what one rule says."""
    (found,) = [item for item in of.results if item.rule == rule]
    return found
