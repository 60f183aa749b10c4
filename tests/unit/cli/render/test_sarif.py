"""SARIF logs keep to the parts of SARIF 2.1.0 that they use."""

import json
from typing import Any

import jsonschema
import pytest
import reports
from reports import assessment, finding, report, state, vulnerable

from undercroft.cli.render.sarif import FINGERPRINT, render_sarif
from undercroft.model.finding import Severity
from undercroft.model.report import ScanReport

MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
SCHEMA = {
    "type": "object",
    "required": ["version", "runs"],  # 3.13
    "properties": {
        "version": {"const": "2.1.0"},
        "$schema": {"type": "string", "format": "uri"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],  # 3.14
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},  # 3.14.17
                    "tool": {
                        "type": "object",
                        "required": ["driver"],  # 3.18
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],  # 3.19
                                "properties": {
                                    "semanticVersion": {"pattern": r"^\d+\.\d+\.\d+"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],  # 3.49
                                            "properties": {"shortDescription": MESSAGE},
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],  # 3.20
                            "properties": {
                                "executionSuccessful": {"type": "boolean"},
                                "endTimeUtc": {"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},  # 3.9
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["message"],  # 3.58
                                        "properties": {"level": LEVEL, "message": MESSAGE},
                                    },
                                },
                            },
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "ruleIndex"],  # 3.27
                            "properties": {
                                "level": LEVEL,
                                "message": MESSAGE,
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "partialFingerprints": {
                                    "type": "object",
                                    "additionalProperties": {"type": "string"},
                                },
                                "locations": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",  # 3.28, 3.29, 3.33
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation"],
                                                "properties": {
                                                    "artifactLocation": {
                                                        "properties": {
                                                            "uri": {"pattern": "^[A-Za-z0-9._~%/:-]+$"}
                                                        }
                                                    }
                                                },
                                            },
                                            "logicalLocations": {"type": "array"},
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
UNREAD = state("broken", "3", inventory=None, assessment=None, problems=("vda: no L2 table",))
EVIL = state(
    reports.EVIL, "5", assessment=assessment(finding(reports.EVIL, reports.EVIL, title=reports.EVIL))
)


def run(scan: ScanReport) -> Any:
    document = json.loads(render_sarif(scan))
    jsonschema.validate(document, SCHEMA)
    (only,) = document["runs"]
    for result in only["results"]:
        assert only["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    return only


@pytest.mark.parametrize("scan", [report(), report(state(), UNREAD, EVIL, machine=reports.EVIL)])
def test_every_log_keeps_to_the_standard(scan: ScanReport) -> None:
    run(scan)


def test_each_state_has_its_results_and_rules_are_shared() -> None:
    log = run(report(vulnerable("current", ""), vulnerable()))
    assert len(log["results"]) == 10
    assert len(log["tool"]["driver"]["rules"]) == 5


@pytest.mark.parametrize(
    ("severity", "level"),
    [
        (Severity.CRITICAL, "error"),
        (Severity.HIGH, "error"),
        (Severity.MEDIUM, "warning"),
        (Severity.UNKNOWN, "warning"),
        (Severity.LOW, "note"),
        (Severity.NEGLIGIBLE, "note"),
    ],
)
def test_levels_follow_severity_and_unknown_is_no_note(severity: Severity, level: str) -> None:
    assert (
        run(report(state(assessment=assessment(finding(severity=severity)))))["results"][0]["level"] == level
    )


def test_known_exploited_is_an_error_whatever_its_severity() -> None:
    exploited = finding(severity=Severity.LOW, known_exploited_on=reports.KEV.known_exploited_on)
    assert run(report(state(assessment=assessment(exploited))))["results"][0]["level"] == "error"


def test_what_was_not_read_is_a_notification_and_the_run_no_success() -> None:
    (invocation,) = run(report(state(), UNREAD, warnings=("the clock went back",)))["invocations"]
    assert not invocation["executionSuccessful"]
    assert [entry["message"]["text"] for entry in invocation["toolExecutionNotifications"]] == [
        "broken: vda: no L2 table",
        "the clock went back",
    ]


def test_a_state_without_assessment_is_no_success_either() -> None:
    (invocation,) = run(report(state(assessment=None)))["invocations"]
    assert not invocation["executionSuccessful"]
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "current: was not assessed"


def test_fingerprints_survive_an_upgrade_and_tell_states_apart() -> None:
    def prints(*states):
        return [result["partialFingerprints"][FINGERPRINT] for result in run(report(*states))["results"]]

    newer = finding(installed_version="1.0-1.5", severity=Severity.HIGH, advisories=())
    assert prints(state(assessment=assessment(finding()))) == prints(state(assessment=assessment(newer)))
    both = prints(state(assessment=assessment(finding())), state("a", "1", assessment=assessment(finding())))
    assert len(set(both)) == 2


def test_what_a_revert_brings_back_is_marked() -> None:
    current = state(assessment=assessment(reports.KEV))
    results = run(report(current, vulnerable()))["results"]
    marks = {
        (entry["properties"]["state"], entry["ruleId"]): entry["properties"]["broughtBack"]
        for entry in results
    }
    assert marks["current", "CVE-2023-4911"] is None
    assert marks["before-upgrade", "CVE-2023-4911"] is False
    assert marks["before-upgrade", "CVE-2024-5535"] is True


def test_what_limits_a_whole_answer_is_a_note_and_the_run_a_success() -> None:
    note = "no catalog of known exploited vulnerabilities is imported"
    noted = assessment(finding(), notes=(note,), feeds=reports.MIRROR)
    log = run(report(state(assessment=noted), state("old", "1", assessment=noted), feeds=reports.MIRROR))
    (invocation,) = log["invocations"]
    assert invocation["executionSuccessful"]
    assert invocation["toolExecutionNotifications"] == [
        {"level": "note", "message": {"text": f"current, old: {note}"}}
    ]
    (feed,) = invocation["properties"]["feeds"]
    assert (feed["name"], feed["serial"], feed["publishedAt"], feed["stale"]) == (
        "mirror:debian:12:bookworm-security",
        "20250601",
        None,
        False,
    )
    assert log["results"][0]["properties"]["knownExploited"] is None, "nobody was asked"


def test_a_catalog_that_was_asked_and_has_no_entry_says_no() -> None:
    (result,) = run(report(state(assessment=assessment(finding()))))["results"]
    assert result["properties"]["knownExploited"] is False
