import json
from datetime import UTC, datetime

import pytest
from feedfixtures import NOW, document, feed_input, parsed, refusal

from undercroft.advisories.feeds import debian_tracker
from undercroft.advisories.feeds.debian_tracker import parse
from undercroft.advisories.records import Advisory, Status
from undercroft.model.finding import Severity

TRACKER = document("debian-tracker.json")


def advisory(vulnerability: str, release: str) -> Advisory:
    _, records = parsed(parse, TRACKER)
    (found,) = [r for r in records if (r.vulnerability, r.release) == (vulnerability, release)]
    return found


def test_resolved_is_fixed_in_the_version_that_it_names():
    found = advisory("CVE-2024-12133", "debian:12")
    assert (found.source, found.status, found.fixed_version) == (
        "libtasn1-6",
        Status.FIXED,
        "4.19.0-2+deb12u1",
    )
    assert (found.severity, found.severity_source) == (Severity.UNKNOWN, "")


def test_fixed_version_zero_is_not_affected():
    found = advisory("CVE-2099-0002", "debian:12")
    assert (found.status, found.fixed_version, found.severity) == (Status.NOT_AFFECTED, "", Severity.HIGH)


@pytest.mark.parametrize(
    ("vulnerability", "release", "status", "severity"),
    [
        ("CVE-2099-0001", "debian:12", Status.UNFIXED, Severity.NEGLIGIBLE),  # unimportant, nodsa
        ("CVE-2099-0001", "debian:13", Status.UNFIXED, Severity.MEDIUM),  # medium**
        ("CVE-2099-0001", "debian:11", Status.UNFIXED, Severity.UNKNOWN),  # end-of-life
        ("CVE-2099-0002", "debian:13", Status.UNDETERMINED, Severity.UNKNOWN),
        ("TEMP-0000000-ABCDEF", "debian:12", Status.UNFIXED, Severity.LOW),
    ],
)
def test_status_and_urgency_are_kept_apart(vulnerability, release, status, severity):
    found = advisory(vulnerability, release)
    assert (found.status, found.severity) == (status, severity)


def test_the_header_is_complete_for_the_releases_that_are_known():
    feed, records = parsed(parse, TRACKER)
    assert feed.header.complete_for == ("debian:11", "debian:12", "debian:13", "debian:sid")
    assert len(records) == 8  # of 9 statements one is for a release that nobody knows yet


def test_the_edition_is_dated_by_the_server_or_else_by_the_import():
    when = datetime(2025, 2, 13, 6, 30, tzinfo=UTC)
    assert parse(feed_input(TRACKER, modified_at=when)).header.published_at == when
    undated = parse(feed_input(TRACKER)).header
    assert (undated.published_at, undated.serial) == (None, "2025-02-14T12:00:00Z")


def test_a_title_is_the_first_line_and_statements_carry_no_date():
    found = advisory("CVE-2099-0001", "debian:12")
    assert (found.title, found.published_on) == ("Crash on a crafted file.", None)


@pytest.mark.parametrize(
    ("document_", "message"),
    [
        (TRACKER[:-40], "no valid JSON"),
        (TRACKER + b"{}", "something follows its end"),
        (b"[]", "expected '{'"),
        (b"{}", "names no Debian release"),
        (b'{"a": {"CVE-2099-0001": {"releases": {"tomorrow": {"status": "open"}}}}}', "no Debian release"),
        (b'{"a": {"CVE-2099-0001": {"releases": {"sid": {"status": "gone"}}}}}', "unknown status 'gone'"),
        (b'{"a": {"CVE-2099-0001": {"releases": {"sid": {"status": "resolved"}}}}}', "is not a version"),
        (b'{"a": {"CVE-2099-0001": {"releases": []}}}', "expected an object, found list"),
        (b'{"a": {"CVE-2099-0001": 1}}', "expected an object, found int"),
        (b'{"../a": {}}', "is not a package name"),
        (b'{"a": {"no id": {"releases": {"sid": {}}}}}', "is not an id"),
        (b'{"a": {"CVE-2099-0001": {"releases": {"sid": {"status": "open", "urgency": 7}}}}}', "found int"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "no valid JSON"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": {}} \xff', "no UTF-8"),
        (b"{1: {}}", "a key is no text"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(document_, message):
    assert message in refusal(parse, document_)


def test_more_than_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(debian_tracker, "MAX_BYTES", 100)
    assert "larger than the limit of 100 bytes" in refusal(parse, TRACKER)


def test_an_edition_from_the_future_is_refused():
    ahead = NOW.replace(year=2026)
    assert "in the future" in refusal(parse, TRACKER, modified_at=ahead)


def test_a_lone_surrogate_in_a_title_is_replaced_and_a_control_character_kept():
    content = json.loads(TRACKER)
    content["example-lib"]["CVE-2099-0001"]["description"] = "a\ud800b\x1b[31mc"
    _, records = parsed(parse, json.dumps(content))
    titles = {record.title for record in records}
    assert "a\ufffdb\x1b[31mc" in titles
    assert "".join(titles).encode()
