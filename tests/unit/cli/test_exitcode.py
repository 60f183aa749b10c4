"""Exit codes as scripts rely on them."""

from dataclasses import replace
from datetime import date

import pytest
from reports import FEEDS, assessment, finding, state, vulnerable
from reports import report as plain_report

from undercroft.cli.exitcode import ExitCode, FailOn, exit_code, why
from undercroft.model.finding import FixState, Severity
from undercroft.model.report import ScanReport, StateReport

KEV = replace(FEEDS[0], name="kev", stale=False)


def report(*states: StateReport) -> ScanReport:
    """Return a report that a catalog of known exploited vulnerabilities was asked for."""
    return plain_report(*states, feeds=(*FEEDS, KEV))


PROBLEM = ("vda2 was not read",)


@pytest.mark.parametrize("gate", [None, *FailOn])
def test_a_clean_scan_is_zero_behind_every_gate(gate) -> None:
    assert exit_code(report(state()), gate) == 0


def test_findings_without_a_gate_are_zero() -> None:
    assert exit_code(report(), None) == 0


@pytest.mark.parametrize("gate", FailOn)
def test_findings_of_a_snapshot_alone_fail_the_gate(gate) -> None:
    assert exit_code(report(state(), vulnerable()), gate) == 6


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        ({"severity": Severity.CRITICAL}, {"high", "fixable", "any"}),
        ({"severity": Severity.HIGH}, {"high", "fixable", "any"}),
        ({"severity": Severity.MEDIUM}, {"fixable", "any"}),
        ({"severity": Severity.NEGLIGIBLE, "fix": FixState.UNFIXED}, {"any"}),
        ({"severity": Severity.LOW, "fix": FixState.NEEDS_SUBSCRIPTION}, {"any"}),
        ({"severity": Severity.UNKNOWN, "fix": FixState.UNFIXED}, {"high", "any"}),
        (
            {"severity": Severity.LOW, "known_exploited_on": date(2024, 1, 1)},
            {"kev", "high", "fixable", "any"},
        ),
    ],
)
def test_each_gate_fails_on_what_it_names_and_high_on_unknown_too(changes, gates) -> None:
    scan = report(state(assessment=assessment(finding(**changes))))
    assert {gate.value for gate in FailOn if exit_code(scan, gate) == ExitCode.FINDINGS} == gates


@pytest.mark.parametrize("gate", [None, *FailOn])
@pytest.mark.parametrize(
    "other",
    [
        state("half", "2", problems=PROBLEM),
        state("unread", "2", inventory=None, assessment=None, problems=PROBLEM),
        state("unassessed", "2", assessment=None),
        state("unsure", "2", assessment=assessment(problems=("no advisories for debian 99",))),
    ],
)
def test_incomplete_comes_before_findings(gate, other) -> None:
    assert exit_code(report(vulnerable("current", ""), other), gate) == 4


def test_a_report_without_states_is_incomplete() -> None:
    assert exit_code(replace(report(), states=())) == 4


@pytest.mark.parametrize("catalog", [(), (replace(KEV, stale=True),)])
def test_the_gate_for_known_exploited_needs_a_catalog_that_is_not_stale(catalog) -> None:
    scan = plain_report(state(), feeds=catalog)
    assert exit_code(scan, FailOn.KEV) == ExitCode.INCOMPLETE
    assert exit_code(scan, FailOn.ANY) == ExitCode.CLEAN


@pytest.mark.parametrize(
    ("catalog", "reason"), [((), "is not imported"), ((replace(KEV, stale=True),), "is too old")]
)
def test_a_gate_that_cannot_be_judged_says_why(catalog, reason) -> None:
    scan = plain_report(state(), feeds=catalog)
    assert reason in why(scan, FailOn.KEV)
    assert "undercroft feeds update kev" in why(scan, FailOn.KEV)
    assert why(scan, None) == why(scan, FailOn.ANY) == ""
    assert why(report(), FailOn.KEV) == ""


def test_a_gate_that_only_unknown_severities_fail_says_so() -> None:
    unrated = finding(severity=Severity.UNKNOWN)
    assert "counts as high" in why(report(state(assessment=assessment(unrated))), FailOn.HIGH)
    rated = finding(severity=Severity.HIGH)
    assert why(report(state(assessment=assessment(unrated, rated))), FailOn.HIGH) == ""
