"""Canonical's OpenVEX documents: releases, ESM, and what the finding says of a fix."""

import json

import pytest
from advisorydata import UBUNTU_2204, assessed, header, inventory, package
from feedfixtures import parsed, refusal, zipped

from undercroft.advisories.feeds import openvex
from undercroft.advisories.feeds.registry import parse_any
from undercroft.model.finding import FixState

JAMMY = "ubuntu:22.04"


def product(version: str, distro: str = "jammy", arch: str = "source") -> dict[str, str]:
    return {"@id": f"pkg:deb/ubuntu/openssl@{version}?arch={arch}&distro={distro}"}


def document(*statements: tuple[str, list[dict[str, str]]], **changes: object) -> bytes:
    content = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.org/vex/CVE-2024-0001.json",
        "author": "Canonical Ltd.",
        "timestamp": "2025-01-10T00:00:00Z",
        "version": 1,
        "statements": [
            {
                "vulnerability": {"name": "CVE-2024-0001", "description": "a fault"},
                "status": status,
                "products": products,
            }
            for status, products in statements
        ],
    }
    return json.dumps(content | changes).encode()


def found(data: bytes, installed: str) -> list[tuple[FixState, str]]:
    feed, records = parsed(parse_any, data)
    machine = inventory(package("openssl", installed), os=UBUNTU_2204)
    answer = assessed(machine, (header(feed.header.name, (JAMMY,)), records), release=JAMMY)
    return [(finding.fix, finding.fixed_version) for finding in answer.findings]


def test_a_release_and_its_esm_are_told_apart() -> None:
    data = document(
        ("fixed", [product("3.0.2-0ubuntu1.15"), product("1.1.1-1ubuntu2+esm3", "esm-infra/bionic")])
    )
    feed, records = parsed(parse_any, data)
    assert feed.header.name == "ubuntu-vex:CVE-2024-0001"
    assert {(item.release, item.stream, item.fixed_version) for item in records} == {
        (JAMMY, "", "3.0.2-0ubuntu1.15"),
        ("ubuntu:18.04", "esm", "1.1.1-1ubuntu2+esm3"),
    }


@pytest.mark.parametrize(
    ("statement", "states"),
    [
        (("fixed", [product("3.0-2")]), [(FixState.FIXABLE, "3.0-2")]),
        (("fixed", [product("3.0-1")]), []),
        (("affected", [product("3.0-1")]), [(FixState.UNFIXED, "")]),
        (("under_investigation", [product("3.0-1")]), [(FixState.UNDER_INVESTIGATION, "")]),
        (("not_affected", [product("3.0-1")]), []),
        (("fixed", [product("3.0-2+esm1", "esm-apps/jammy")]), [(FixState.NEEDS_SUBSCRIPTION, "3.0-2+esm1")]),
    ],
)
def test_a_status_means_what_canonical_means(
    statement: tuple[str, list[dict[str, str]]], states: list[tuple[FixState, str]]
) -> None:
    assert found(document(statement), "3.0-1") == states


def test_other_archives_architectures_and_releases_are_passed_over() -> None:
    other = [product("1", "fips/jammy"), product("1", "nosuchname"), product("1", arch="amd64")]
    assert "names no release of Ubuntu" in refusal(openvex.parse, document(("fixed", other)))


def test_an_archive_is_one_feed_and_anothers_documents_are_refused() -> None:
    own = document(("affected", [product("3.0-1")]))
    feed, records = parsed(parse_any, zipped({"a.json": own}))
    assert (feed.header.name, len(records), feed.header.complete_for) == ("ubuntu-vex", 1, ())
    other = document(("affected", [product("3.0-1")]), author="somebody")
    assert "Canonical Ltd. only" in refusal(parse_any, zipped({"a.json": other}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (document(("fixed", [product("3.0 1")])), "is not a version"),
        (document(("fine", [])), "unknown status"),
        (document(timestamp="yesterday"), "is no date-time"),
        (document(statements=[{"status": "fixed", "vulnerability": "x"}]), "expected an object"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, message: str) -> None:
    assert message in refusal(openvex.parse, data)
