"""The exit code of a scan, as scripts rely on it.

0 clean, 1 error, 2 usage (click's own), 3 not found, 4 incomplete or unknown, 6 findings, the last only
with `--fail-on`. Where several apply the order is 1, 4, 6: a gate must not report findings alone when
there may be more that nobody could see.
"""

from enum import IntEnum, StrEnum

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
    if fail_on is FailOn.KEV and not _knows_exploited(report):
        return ExitCode.INCOMPLETE
    if fail_on and any(_refused(assessment, fail_on) for assessment in assessments if assessment):
        return ExitCode.FINDINGS
    return ExitCode.CLEAN


def _knows_exploited(report: ScanReport) -> bool:
    """Tell whether a catalog of known exploited vulnerabilities could be asked."""
    return any(feed.name == "kev" and not feed.stale for feed in report.feeds)


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
