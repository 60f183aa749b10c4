import json
from datetime import UTC, datetime

import pytest
from feedfixtures import document, edited, parsed, refusal

from undercroft.advisories.feeds.openvex import parse
from undercroft.advisories.records import VexStatus

VEX = document("openvex.json")


def statement(**changes: object) -> bytes:
    content = json.loads(VEX)
    content["statements"][0] |= changes
    return json.dumps(content).encode()


def test_statements_carry_product_status_reason_and_time():
    feed, records = parsed(parse, VEX)
    assert feed.header.name == "openvex:https://vex.example.org/2025/web01"
    assert feed.header.serial == "2025-02-01T10:00:00Z 000000003"
    first, second, third = records
    assert first.products == ("pkg:deb/debian/example-lib@1.0-1?arch=amd64",)
    assert (first.status, first.justification) == (
        VexStatus.NOT_AFFECTED,
        "vulnerable_code_not_in_execute_path",
    )
    assert second.timestamp == datetime(2025, 2, 3, tzinfo=UTC)
    assert (third.vulnerability, third.products) == ("CVE-2099-0003", ())


def test_a_cve_number_among_the_aliases_names_the_vulnerability():
    assert parsed(parse, VEX)[1][1].vulnerability == "CVE-2099-0002"


def test_a_statement_about_a_subcomponent_names_only_the_product():
    assert parsed(parse, VEX)[1][1].products == ("pkg:oci/our-image",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (edited("openvex.json", **{"@context": "https://openvex.dev/ns/v1.0.0"}), "reads 0.x, update it"),
        (edited("openvex.json", **{"@context": "https://example.org"}), "@context is not"),
        (edited("openvex.json", **{"@id": None}), "empty, unprintable"),
        (edited("openvex.json", **{"@id": "a\x1b[2Jb"}), "unprintable"),
        (edited("openvex.json", timestamp="2099-01-01T00:00:00Z"), "in the future"),
        (edited("openvex.json", timestamp=None), "is no date-time"),
        (edited("openvex.json", version=10**20), "version is neither"),
        (edited("openvex.json", statements={}), "expected a list"),
        (statement(status="fine"), "its status is not one of"),
        (statement(justification=None), "needs a justification"),
        (statement(vulnerability=None), "expected an object"),
        (statement(vulnerability="a b"), "is not an id"),
        (statement(products=[5]), "expected an object"),
        (statement(products=[{"@id": ""}]), "empty"),
        (VEX[:-9], "no valid JSON"),
    ],
)
def test_what_is_malformed_or_of_tomorrow_is_refused(content, message):
    assert message in refusal(parse, content)
