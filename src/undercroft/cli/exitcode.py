"""The exit code of a scan, as scripts rely on it.

0 clean, 1 error, 2 usage (click's own), 3 not found, 4 incomplete or unknown, 6 findings, the last only
with `--fail-on`. Where several apply the order is 1, 4, 6: a gate must not report findings alone when
there may be more that nobody could see.
"""

from enum import IntEnum, StrEnum

from undercroft.advisories.asked import CATALOG, knows_exploited
from undercroft.model.finding import Assessment, Finding, FixState, Severity
from undercroft.model.report import ScanReport


class ExitCode(IntEnum):
    """What the command line ends with."""

    CLEAN = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    INCOMPLETE = 4
    FINDINGS = 6


class FailOn(StrEnum):
    """What `--fail-on` refuses. Every gate also refuses what it can't judge.

    KEV: known to be exploited. HIGH: high and critical, and a severity that no source gives. FIXABLE: a
    fixed version can be had. ANY: every finding.
    """

    KEV = "kev"
    HIGH = "high"
    FIXABLE = "fixable"
    ANY = "any"


_HIGH = frozenset({Severity.CRITICAL, Severity.HIGH, Severity.UNKNOWN})


def exit_code(report: ScanReport, fail_on: FailOn | None = None) -> ExitCode:
    """Return what a scan that ran to its end exits with.

    A state without an assessment is incomplete even when it names no problem, and so is a report
    without any state: nothing was found there because nothing was looked at. `FailOn.KEV` without a catalog
    to ask is unknown, too.
    """
    if not report.states or not report.complete:
        return ExitCode.INCOMPLETE
    assessments = [state.assessment for state in report.states]
    if any(assessment is None or not assessment.complete for assessment in assessments):
        return ExitCode.INCOMPLETE
    if fail_on is FailOn.KEV and not knows_exploited(report.feeds):
        return ExitCode.INCOMPLETE
    if fail_on and any(_refused(assessment, fail_on) for assessment in assessments if assessment):
        return ExitCode.FINDINGS
    return ExitCode.CLEAN


def why(report: ScanReport, fail_on: FailOn | None) -> str:
    """Return why the exit code is not what the findings shown suggest, "" where they speak for themselves.

    One line for stderr, without the name of the program.
    """
    code = exit_code(report, fail_on)
    if fail_on is FailOn.KEV and not knows_exploited(report.feeds):
        stale = any(feed.name == CATALOG for feed in report.feeds)
        missing = "is too old" if stale else "is not imported"
        return (
            f"--fail-on kev: the catalog of known exploited vulnerabilities {missing}, "
            f"so the gate cannot be judged: undercroft feeds update {CATALOG}"
        )
    if fail_on is FailOn.HIGH and code is ExitCode.FINDINGS and not _any_rated_high(report):
        return (
            "--fail-on high: no finding is rated high, but some have no severity, which counts as high; "
            "a feed that gives severities helps: undercroft feeds update"
        )
    return ""


def _any_rated_high(report: ScanReport) -> bool:
    return any(
        finding.severity is not Severity.UNKNOWN and _fails(finding, FailOn.HIGH)
        for state in report.states
        if state.assessment
        for finding in state.assessment.findings
    )


def _refused(assessment: Assessment, fail_on: FailOn) -> bool:
    return any(_fails(finding, fail_on) for finding in assessment.findings)


def _fails(finding: Finding, fail_on: FailOn) -> bool:
    match fail_on:
        case FailOn.KEV:
            return finding.known_exploited_on is not None
        case FailOn.HIGH:
            return finding.severity in _HIGH or finding.known_exploited_on is not None
        case FailOn.FIXABLE:
            return finding.fix is FixState.FIXABLE
        case FailOn.ANY:
            return True
