"""Arch's security tracker: its statuses, and what no group may leave out."""

import json

import pytest
from feedfixtures import parsed, refusal

from undercroft.advisories.feeds import arch
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.records import Status
from undercroft.model.finding import Severity


def group(number: int = 1, **changes: object) -> dict[str, object]:
    return {
        "name": f"AVG-{number}",
        "packages": ["openssl", "lib32-openssl"],
        "status": "Fixed",
        "severity": "High",
        "type": "arbitrary code execution",
        "affected": "3.0-1",
        "fixed": "3.0-2",
        "ticket": None,
        "issues": ["CVE-2024-0001"],
        "advisories": ["ASA-202401-1"],
    } | changes


def document(*groups: dict[str, object]) -> bytes:
    return json.dumps(groups).encode()


def test_a_group_speaks_for_each_package_and_issue() -> None:
    feed, records = parsed(parse_any, document(group()))
    assert (feed.header.name, feed.header.releases, feed.header.complete_for) == ("arch", ("arch",), ())
    assert [item.source for item in records] == [
        "binary:openssl",
        "openssl",
        "binary:lib32-openssl",
        "lib32-openssl",
    ]
    assert {(item.status, item.fixed_version, item.advisory) for item in records} == {
        (Status.FIXED, "3.0-2", "ASA-202401-1")
    }
    assert {(item.severity, item.severity_source) for item in records} == {(Severity.HIGH, "arch:severity")}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": "Testing"}, Status.FIXED),
        ({"status": "Vulnerable", "fixed": None}, Status.UNFIXED),
        ({"status": "Unknown", "fixed": None}, Status.UNDETERMINED),
        ({"status": "Not affected", "fixed": None}, Status.NOT_AFFECTED),
        ({"status": "Fixed", "fixed": None}, Status.UNDETERMINED),
    ],
)
def test_a_status_means_what_arch_means_by_it(changes: dict[str, object], status: Status) -> None:
    assert {item.status for item in parsed(arch.parse, document(group(**changes)))[1]} == {status}


def test_a_whole_tracker_is_complete_and_an_excerpt_is_not() -> None:
    whole = document(*(group(number) for number in range(arch.MIN_GROUPS)))
    assert parsed(arch.parse, whole)[0].header.complete_for == ("arch",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "holds no group"),
        (b"{}", "expected a list"),
        (document(group(status="New")), "unknown status"),
        (document(group(packages=["a b"])), "is not a package name"),
        (document(group(issues=["a b"])), "is not an id"),
        (document(group(fixed="1 0")), "is not a version"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, message: str) -> None:
    assert message in refusal(arch.parse, data)
