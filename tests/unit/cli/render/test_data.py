"""JSON and YAML keep their shape, and lose no byte."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import reports
import yaml
from hypothesis import given
from hypothesis import strategies as st
from reports import assessment, finding, inventory, package, report, state, vulnerable

from undercroft.cli.render import data
from undercroft.cli.render.escape import unescape
from undercroft.model.finding import Severity
from undercroft.model.job import FileEntry
from undercroft.model.report import ScanReport
from undercroft.usecases.diff import diff_states

SCHEMA = json.loads((Path(__file__).parents[4] / "docs/schema/scan-v1.json").read_text())
EVIL = report(
    state(inventory=inventory(package(reports.EVIL, "1"), unowned_examples=(reports.EVIL, "/opt/fine"))),
    vulnerable(reports.EVIL, "2"),
    state("unread", "3", inventory=None, assessment=None, problems=(reports.EVIL,)),
    machine=reports.EVIL,
)


def closed(schema: Any) -> Any:
    """Return `schema` with no room for members that it does not name: what we emit must be documented."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return {**inner, "additionalProperties": False} if schema.get("type") == "object" else inner


def checked(scan: ScanReport) -> Any:
    document = json.loads(data.render_scan(scan, "json"))
    checker = jsonschema.Draft202012Validator(
        closed(SCHEMA), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    checker.validate(document)
    return document


@pytest.mark.parametrize("scan", [report(), EVIL, replace(report(), states=(), as_of=reports.NOW.date())])
def test_what_is_emitted_is_what_the_schema_documents(scan: ScanReport) -> None:
    checked(scan)


def test_the_schema_refuses_another_shape() -> None:
    document = checked(report())
    del document["states"][0]["complete"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_counts_and_what_a_revert_brings_back_are_in_it() -> None:
    current, snapshot = checked(report())["states"]
    assert current["brought_back"] is None
    assert snapshot["summary"] == {
        "findings": 5,
        "known_exploited": 1,
        "fixable": 4,
        "by_severity": {"critical": 1, "high": 1, "medium": 1, "low": 1, "negligible": 0, "unknown": 1},
        "whole": True,
    }
    assert snapshot["brought_back"][0] == {"vulnerability": "CVE-2023-4911", "source": "glibc"}


def test_what_no_imported_source_could_tell_is_null_and_not_zero() -> None:
    unrated = finding(severity=Severity.UNKNOWN, severity_source="")
    (document,) = checked(report(state(assessment=assessment(unrated, feeds=reports.MIRROR))))["states"]
    assert document["summary"] == {
        "findings": 1,
        "known_exploited": None,
        "fixable": 1,
        "by_severity": {
            **dict.fromkeys(["critical", "high", "medium", "low", "negligible"]),
            "unknown": 1,
        },
        "whole": False,
    }


def test_what_nobody_knows_is_null_and_not_empty() -> None:
    unread = checked(EVIL)["states"][2]
    assert (unread["complete"], unread["summary"], unread["brought_back"]) == (False, None, None)


def test_texts_are_escaped_and_originals_stand_beside_those_that_changed() -> None:
    document = checked(EVIL)
    name = document["states"][0]["inventory"]["packages"][0]
    assert name["name"] == "evil\\u001B[31m\\u202E\\xFF[bold]\\\\\\u000A"
    assert base64.b64decode(name["name_base64"]) == b"evil\x1b[31m\xe2\x80\xae\xff[bold]\\\n"
    assert "version_base64" not in name
    examples = document["states"][0]["inventory"]["unowned_examples_base64"]
    assert [base64.b64decode(item) for item in examples][1] == b"/opt/fine"


@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=20))
def test_every_name_survives(name: str) -> None:
    document = json.loads(data.render_packages(inventory(package(name, "1")), "json"))
    (shown,) = document["packages"]
    assert unescape(shown["name"]) == name
    if "name_base64" in shown and not any("\ud800" <= char <= "\udfff" for char in name):
        assert base64.b64decode(shown["name_base64"]).decode() == name


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_the_text_is_ascii_and_has_no_control_character(name: str) -> None:
    for form in data.DataFormat:
        text = data.render_packages(inventory(package("x" + name, "1")), form)
        assert text.isascii()
        assert text.replace("\n", "").isprintable()


def test_yaml_says_the_same_as_json() -> None:
    for scan in (report(), EVIL):
        assert yaml.safe_load(data.render_scan(scan, "yaml")) == json.loads(data.render_scan(scan, "json"))


def test_the_other_documents_name_their_shape_too() -> None:
    diff = json.loads(data.render_diff(diff_states(vulnerable(), state()), "json"))
    assert (diff["schema"], diff["complete"], diff["upgraded"][0]["name"]) == (
        "undercroft/diff/1",
        True,
        "libc6",
    )
    files = json.loads(data.render_files([FileEntry("a\udcff", "regular", 0o644, 1, 0, 0, 0)], "json"))
    assert files["files"][0]["name"] == "a\\xFF"
    feeds = json.loads(data.render_feeds(reports.FEEDS, "json"))
    assert [feed["stale"] for feed in feeds["feeds"]] == [False, False, True]


def test_a_finding_is_one_line() -> None:
    scan = report(state(assessment=assessment(finding("CVE-2024-7777"))))
    (line,) = [line for line in data.render_scan(scan, "json").splitlines() if "CVE-2024-7777" in line]
    assert json.loads(line.strip().rstrip(","))["source"] == "openssl"


def test_what_clones_share_is_made_once_and_never_an_alias_in_yaml() -> None:
    shared = vulnerable("current", "")
    first, second = report(shared), report(shared, replace(shared, name="before"))
    one, two = data.scan_document(first), data.scan_document(second)
    assert one["states"][0]["inventory"]["packages"] is two["states"][0]["inventory"]["packages"]
    assert one["states"][0]["assessment"] is two["states"][0]["assessment"]
    assert two["states"][0]["assessment"] == two["states"][1]["assessment"]
    assert two["states"][0]["assessment"] is not two["states"][1]["assessment"]
    assert "&id" not in data.render_scan(second, "yaml")
