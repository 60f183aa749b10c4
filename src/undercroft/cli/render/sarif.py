"""A scan as SARIF 2.1.0 (OASIS), for code-scanning dashboards.

One run for the machine. Each finding of each state is a result; its partial fingerprint is made of
machine, state, vulnerability and source package, so that the same finding is the same alert in the next
scan. What was not read is a notification of the invocation (3.20.21), and `executionSuccessful` is false
then: a run without results is clean only when it is true. What limits a whole answer is a notification of
level `note`, and the invocation's properties name the editions of the advisories.
"""

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from undercroft.advisories.asked import knows_exploited
from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.jsontext import dump
from undercroft.cli.render.sections import all_notes
from undercroft.cli.render.states import brought_back, findings_of
from undercroft.model.finding import FeedStatus, Finding, FixState, Severity
from undercroft.model.report import ScanReport, StateReport
from undercroft.version import VERSION

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINGERPRINT = "undercroft/finding/v1"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.NEGLIGIBLE: "note",
    Severity.UNKNOWN: "warning",  # nobody says that it is harmless
}


def render_sarif(report: ScanReport) -> str:
    """Return `report` with all its states as one SARIF log."""
    findings = [finding for state in report.states for finding in findings_of(state)]
    rules = {finding.vulnerability: _rule(finding) for finding in findings}
    indexes = {vulnerability: index for index, vulnerability in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "Undercroft",
                "semanticVersion": VERSION,
                "rules": list(rules.values()),
            }
        },
        "invocations": [_invocation(report)],
        "results": [result for state in report.states for result in _results(report, state, indexes)],
        "columnKind": "unicodeCodePoints",
    }
    return dump({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(finding: Finding) -> dict[str, Any]:
    text = escape(finding.title) or escape(finding.vulnerability)
    return {"id": escape(finding.vulnerability), "shortDescription": {"text": text}}


def _invocation(report: ScanReport) -> dict[str, Any]:
    notifications = [
        _notification("error", f"{escape(state.name)}: {harmless(problem)}")
        for state in report.states
        for problem in _problems(state)
    ]
    notifications += [_notification("warning", harmless(warning)) for warning in report.warnings]
    notes = words.grouped((escape(state.name), note) for state in report.states for note in all_notes(state))
    notifications += [_notification("note", f"{', '.join(names)}: {harmless(note)}") for note, names in notes]
    return {
        "executionSuccessful": report.complete and all(state.assessment for state in report.states),
        "endTimeUtc": report.scanned_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "toolExecutionNotifications": notifications,
        "properties": {
            "sandboxed": report.sandboxed,
            "asOf": report.as_of.isoformat() if report.as_of else None,
            "feeds": [_feed(feed) for feed in report.feeds],
        },
    }


def _feed(feed: FeedStatus) -> dict[str, Any]:
    return {
        "name": escape(feed.name),
        "serial": escape(feed.serial),
        "publishedAt": feed.published_at.isoformat() if feed.published_at else None,
        "fetchedAt": feed.fetched_at.isoformat(),
        "validUntil": feed.valid_until.isoformat(),
        "stale": feed.stale,
    }


def _problems(state: StateReport) -> Iterator[str]:
    yield from state.problems
    if not state.problems and state.assessment is None:
        yield "was not assessed"


def _notification(level: str, text: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": text}}


def _results(report: ScanReport, state: StateReport, indexes: dict[str, int]) -> Iterator[dict[str, Any]]:
    known = brought_back(report, state) if state.ident else None
    back = {(finding.vulnerability, finding.source) for finding in known or ()}
    asked = state.assessment is not None and knows_exploited(state.assessment.feeds)
    for finding in findings_of(state):
        exploited = finding.known_exploited_on is not None
        yield {
            "ruleId": escape(finding.vulnerability),
            "ruleIndex": indexes[finding.vulnerability],
            "level": "error" if finding.known_exploited_on else _LEVELS[finding.severity],
            "message": {"text": _message(finding, state)},
            "locations": [_location(report, state, finding)],
            "partialFingerprints": {FINGERPRINT: _fingerprint(report, state, finding)},
            "properties": {
                "state": escape(state.name),
                "severity": finding.severity.value,
                "severitySource": escape(finding.severity_source),
                "fix": finding.fix.value,
                "fixedVersion": escape(finding.fixed_version),
                "fixedOn": finding.fixed_on.isoformat() if finding.fixed_on else None,
                "advisories": [escape(advisory) for advisory in finding.advisories],
                "knownExploited": exploited if exploited or asked else None,
                "exploitProbability": finding.exploit_probability,
                "broughtBack": None if known is None else (finding.vulnerability, finding.source) in back,
            },
        }


def _message(finding: Finding, state: StateReport) -> str:
    fix = {
        FixState.FIXABLE: f"fixed in {escape(finding.fixed_version)}",
        FixState.NEEDS_SUBSCRIPTION: f"fixed in {escape(finding.fixed_version)} by an extended subscription",
        **words.WITHOUT_FIX,
    }[finding.fix]
    exploited = ", known to be exploited" if finding.known_exploited_on else ""
    return (
        f"{escape(finding.source)} {escape(finding.installed_version)} in state {escape(state.name)} has "
        f"{escape(finding.vulnerability)} ({finding.severity}{exploited}): {fix}."
    )


def _location(report: ScanReport, state: StateReport, finding: Finding) -> dict[str, Any]:
    """Return the image (3.29) and, within it, state and package (3.33)."""
    name = f"{escape(report.machine)}@{escape(state.name)}/{escape(finding.source)}"
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": name, "kind": "package"}]}
    if report.disks:
        path = report.disks[0].path.encode("utf-8", "surrogateescape")
        location["physicalLocation"] = {"artifactLocation": {"uri": quote(path)}}
    return location


def _fingerprint(report: ScanReport, state: StateReport, finding: Finding) -> str:
    parts = (report.machine, state.name, state.ident, finding.vulnerability, finding.source)
    return hashlib.sha256("\0".join(map(escape, parts)).encode()).hexdigest()
