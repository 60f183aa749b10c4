"""Bills of materials are valid CycloneDX 1.6 and never pass for whole when they are not."""

import json
from dataclasses import replace
from typing import Any

import pytest
import reports
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from reports import assessment, finding, inventory, package, report, state, vulnerable

from undercroft.cli.render.cyclonedx import render_cyclonedx
from undercroft.model.finding import FixState, Severity
from undercroft.model.inventory import Package
from undercroft.model.report import StateReport

UNREAD = state("broken", "3", inventory=None, assessment=None, problems=("vda: no L2 table",))
UNASSESSED = state("unassessed", "4", assessment=None)
EVIL = state(
    reports.EVIL,
    "5",
    inventory=inventory(
        package(reports.EVIL, reports.EVIL), package(reports.EVIL, reports.EVIL), hostname=reports.EVIL
    ),
    assessment=assessment(finding(reports.EVIL, reports.EVIL, title=reports.EVIL, packages=(reports.EVIL,))),
)


def bill(one: StateReport) -> Any:
    text = render_cyclonedx(report(state(), one), one)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return json.loads(text)


@pytest.mark.parametrize("one", [state(), vulnerable(), UNREAD, UNASSESSED, EVIL])
def test_every_bill_is_valid(one: StateReport) -> None:
    bill(one)


@pytest.mark.parametrize(
    ("one", "aggregate"), [(vulnerable(), "complete"), (UNREAD, "incomplete"), (UNASSESSED, "incomplete")]
)
def test_coverage_is_part_of_the_bill(one: StateReport, aggregate: str) -> None:
    document = bill(one)
    assert document["compositions"] == [{"aggregate": aggregate, "assemblies": ["machine"]}]
    properties = {entry["name"]: entry["value"] for entry in document["metadata"]["properties"]}
    assert properties["undercroft:complete"] == ("true" if aggregate == "complete" else "false")
    assert properties.get("undercroft:problem") == (one.problems[0] if one.problems else None)


def test_package_urls_carry_architecture_distribution_and_source() -> None:
    libc = Package("dpkg", "libc-bin", "2.36-9+b1", "amd64", "glibc", "2.36-9")
    document = bill(state(inventory=inventory(libc)))
    (url,) = [entry["purl"] for entry in document["components"] if "purl" in entry]
    assert PackageURL.from_string(url) == PackageURL(
        "deb",
        "debian",
        "libc-bin",
        "2.36-9+b1",
        {"arch": "amd64", "distro": "debian-12", "upstream": "glibc@2.36-9"},
    )


def test_an_enabled_repository_is_no_component() -> None:
    repository = Package("repository", "epel", "enabled", "", "epel", "enabled")
    names = [
        one["name"] for one in bill(state(inventory=inventory(package("a", "1"), repository)))["components"]
    ]
    assert "a" in names
    assert "epel" not in names


def test_a_vulnerability_names_rating_source_affected_package_and_fix() -> None:
    (entry,) = [entry for entry in bill(vulnerable())["vulnerabilities"] if entry["id"] == "CVE-2023-4911"]
    assert entry["ratings"] == [
        {"method": "CVSSv31", "score": 7.8, "severity": "high", "source": {"name": "cve"}}
    ]
    assert [target["ref"] for target in entry["affects"]] == ["libc6:amd64@2.36-9+deb12u1"]
    assert entry["recommendation"] == "Upgrade glibc to 2.36-9+deb12u3."
    assert {"name": "undercroft:known-exploited-on", "value": "2023-11-21"} in entry["properties"]
    assert entry["references"][0]["id"] == "DSA-5514-1"


@pytest.mark.parametrize(
    ("severity", "word"),
    [(Severity.NEGLIGIBLE, "info"), (Severity.UNKNOWN, "unknown"), (Severity.LOW, "low")],
)
def test_severities_are_those_of_the_standard(severity: Severity, word: str) -> None:
    one = state(assessment=assessment(finding(severity=severity, severity_source="")))
    assert bill(one)["vulnerabilities"][0]["ratings"] == [{"severity": word}]


def test_what_has_no_fix_recommends_none() -> None:
    one = state(assessment=assessment(finding(fix=FixState.UNFIXED, fixed_version="")))
    assert "recommendation" not in bill(one)["vulnerabilities"][0]


def test_the_same_scan_gives_the_same_bill() -> None:
    assert bill(vulnerable()) == bill(vulnerable())
    other = replace(report(), machine="web02")
    assert (
        json.loads(render_cyclonedx(other, other.states[0]))["serialNumber"] != bill(state())["serialNumber"]
    )


def test_caveats_and_the_editions_of_the_advisories_are_part_of_the_bill() -> None:
    noted = state("noted", "7", assessment=assessment(notes=("no security tracker is imported",)))
    properties = [(entry["name"], entry["value"]) for entry in bill(noted)["metadata"]["properties"]]
    assert ("undercroft:note", "no security tracker is imported") in properties
    feeds = [value for name, value in properties if name == "undercroft:feed"]
    assert feeds[-1] == "kev 2025.05.31, published 2025-05-31T12:00Z, fetched 2025-06-01T12:00Z"
    assert feeds[1].endswith(", too old")
