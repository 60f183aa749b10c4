import json
from datetime import UTC, date, datetime

import pytest
from feedfixtures import document, feed_input, parsed, refusal, zipped

from undercroft.advisories.feeds import osv
from undercroft.advisories.feeds.osv import parse_archive, parse_record
from undercroft.advisories.feeds.osv_records import archive_records
from undercroft.advisories.records import Status
from undercroft.errors import UnsupportedError
from undercroft.model.finding import Severity

DEBIAN = document("osv-debian.json")
UBUNTU = document("osv-ubuntu.json")


def debian(**changes: object) -> bytes:
    return json.dumps(json.loads(DEBIAN) | changes).encode()


def with_affected(*affected: dict[str, object], ecosystem: str = "Debian:12") -> bytes:
    package = {"package": {"ecosystem": ecosystem, "name": "example-lib"}}
    return debian(affected=[package | entry for entry in affected])


def with_events(*events: dict[str, object]) -> bytes:
    return with_affected({"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]})


def intervals(content: bytes) -> list[tuple[Status, str, str]]:
    return [(r.status, r.introduced_version, r.fixed_version) for r in parsed(parse_record, content)[1]]


def test_an_advisory_speaks_for_the_cve_that_it_names():
    _, (found,) = parsed(parse_record, DEBIAN)
    assert (found.release, found.source) == ("debian:12", "libtasn1-6")
    assert (found.vulnerability, found.advisory) == ("CVE-2024-12133", "DSA-5863-1")
    assert (found.status, found.fixed_version) == (Status.FIXED, "4.19.0-2+deb12u1")
    assert found.published_on == date(2025, 2, 10)


def test_ubuntu_pro_is_a_stream_of_its_own_and_fips_archives_are_left_out():
    _, records = parsed(parse_record, UBUNTU)
    assert [(r.release, r.stream, r.status, r.fixed_version) for r in records] == [
        ("ubuntu:16.04", "esm", Status.FIXED, "4.7-3ubuntu0.16.04.3+esm4"),
        ("ubuntu:22.04", "", Status.FIXED, "4.18.0-4ubuntu0.1"),
        ("ubuntu:24.10", "", Status.UNFIXED, ""),
    ]


def test_ubuntus_priority_goes_before_a_cvss_score():
    _, records = parsed(parse_record, UBUNTU)
    assert {(r.severity, r.severity_source) for r in records} == {(Severity.MEDIUM, "ubuntu:priority")}


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        (
            [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
            (Severity.CRITICAL, "osv:cvss3.1:9.8"),
        ),
        (
            [
                {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
                {
                    "type": "CVSS_V4",
                    "score": "CVSS:4.0/AV:L/AC:L/AT:P/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
                },
            ],
            (Severity.HIGH, "osv:cvss4.0:7.3"),
        ),
        ([{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:N/I:N/A:P"}], (Severity.MEDIUM, "osv:cvss2.0:5.0")),
        ([{"type": "Ubuntu", "score": "negligible"}], (Severity.NEGLIGIBLE, "ubuntu:priority")),
        ([{"type": "CVSS_V3", "score": "CVSS:3.1/nonsense"}], (Severity.UNKNOWN, "")),
        ([{"type": "CVSS_V9", "score": "CVSS:9.0/AV:N"}], (Severity.UNKNOWN, "")),
        ([], (Severity.UNKNOWN, "")),
    ],
)
def test_severity_comes_from_the_best_source_or_is_unknown(severity, expected):
    _, (found,) = parsed(parse_record, debian(severity=severity))
    assert (found.severity, found.severity_source) == expected


def test_debians_urgency_goes_before_a_score():
    affected = json.loads(DEBIAN)["affected"][0] | {"ecosystem_specific": {"urgency": "unimportant"}}
    vector = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}
    _, (found,) = parsed(parse_record, debian(affected=[affected], severity=[vector]))
    assert (found.severity, found.severity_source) == (Severity.NEGLIGIBLE, "debian:urgency")


def test_several_intervals_become_several_statements():
    content = with_events(
        {"introduced": "1.0-1"}, {"fixed": "1.2-1"}, {"introduced": "2.0-1"}, {"fixed": "2.1-1"}
    )
    assert intervals(content) == [(Status.FIXED, "1.0-1", "1.2-1"), (Status.FIXED, "2.0-1", "2.1-1")]


def test_introduced_without_an_end_is_unfixed():
    assert intervals(with_events({"introduced": "0"})) == [(Status.UNFIXED, "", "")]
    assert intervals(with_events({"introduced": "1.0"}, {"introduced": "2.0"}, {"fixed": "2.1"})) == [
        (Status.UNFIXED, "1.0", ""),
        (Status.FIXED, "2.0", "2.1"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        with_events({"introduced": "0"}, {"last_affected": "1.0-1"}),
        with_affected({"versions": ["1.0-1", "1.0-2"]}),
        with_affected({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}),
        with_affected({}),
    ],
    ids=["last_affected", "versions", "git", "nothing"],
)
def test_what_no_interval_can_say_is_undetermined_and_never_left_out(content):
    assert intervals(content) == [(Status.UNDETERMINED, "", "")]


def test_fixed_in_version_zero_is_not_affected():
    assert intervals(with_events({"introduced": "0"}, {"fixed": "0"})) == [(Status.NOT_AFFECTED, "", "")]


def test_a_withdrawn_record_states_nothing():
    assert parsed(parse_record, debian(withdrawn="2025-02-11T00:00:00Z"))[1] == []


def test_aliases_are_names_too_and_related_ones_only_where_nothing_else_is_named():
    def names(**changes: object) -> list[str]:
        return [record.vulnerability for record in parsed(parse_record, debian(**changes))[1]]

    assert names(upstream=[], aliases=["CVE-2099-0001", "GHSA-aaaa"]) == ["CVE-2099-0001"]
    assert names(upstream=[], related=["CVE-2099-0002"]) == ["CVE-2099-0002"]
    assert names(upstream=["CVE-2099-0001"], related=["CVE-2099-0002"]) == ["CVE-2099-0001"]
    assert names(upstream=[]) == ["DSA-5863-1"]


def test_an_archive_is_the_ecosystems_feed_dated_by_its_newest_record():
    other = with_affected({}, ecosystem="Debian:11")
    feed, records = parsed(parse_archive, zipped({"a.json": DEBIAN, "b.json": other}))
    assert (feed.header.name, feed.header.serial) == ("osv:Debian", "2025-02-12T01:02:03Z")
    assert feed.header.releases == ("debian:11", "debian:12")
    assert feed.header.complete_for == ()
    assert len(records) == 2


def test_an_archive_of_one_release_speaks_for_that_release_only():
    both = json.loads(DEBIAN)["affected"]
    both.append({"package": {"ecosystem": "Debian:11", "name": "libtasn1-6"}})
    archive = zipped({"a.json": DEBIAN, "b.json": debian(affected=both)})
    feed, records = parsed(parse_archive, archive)
    assert (feed.header.name, feed.header.releases) == ("osv:Debian:12", ("debian:12",))
    assert {record.release for record in records} == {"debian:12"}


def test_only_a_whole_archive_of_per_vulnerability_records_is_complete(monkeypatch):
    archive = zipped({"a.json": UBUNTU})
    assert parse_archive(feed_input(archive)).header.complete_for == ()
    monkeypatch.setattr(osv, "MIN_COMPLETE_RECORDS", 1)
    assert parse_archive(feed_input(archive)).header.complete_for == (
        "ubuntu:16.04",
        "ubuntu:22.04",
        "ubuntu:24.10",
    )


def test_records_of_the_future_do_not_date_an_archive():
    future = debian(id="DSA-9999-1", modified="2099-01-01T00:00:00Z")
    header = parse_archive(feed_input(zipped({"a.json": DEBIAN, "b.json": future}))).header
    assert header.serial == "2025-02-12T01:02:03Z"


def test_livepatches_are_no_package_versions():
    with pytest.raises(UnsupportedError):
        parse_record(feed_input(debian(id="LSN-0100-1")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (debian(schema_version="2.0.0"), "reads schema 1, update it"),
        (debian(schema_version=1), "expected a text"),
        (debian(id="a b"), "is not an id"),
        (debian(modified=None), "is no date-time"),
        (debian(modified="2099-01-01T00:00:00Z"), "in the future"),
        (debian(affected={}), "expected a list"),
        (debian(affected=[]), "none of its packages speaks for"),
        (debian(upstream=[1]), "expected a text"),
        (debian(severity=[{"type": "CVSS_V3", "score": 9.8}]), "expected a text"),
        (with_affected({}, ecosystem="Mageia:9"), "none of its packages speaks for"),
        (with_events({"fixed": "1.0"}), "fixed before it was introduced"),
        (with_events({"introduced": "0"}, {"fixed": "1 0"}), "is not a version"),
        (with_events({"introduced": 0}), "is not a version"),
        (DEBIAN[:-30], "no valid JSON"),
    ],
)
def test_what_is_malformed_or_of_tomorrow_is_refused(content, message):
    assert message in refusal(parse_record, content)


def test_minor_versions_and_fields_of_tomorrow_are_read():
    assert parsed(parse_record, debian(schema_version="1.99.0", new={"a": []}))[1]


def test_an_archive_of_other_distributions_is_refused_and_not_empty():
    archive = zipped({"a.json": with_affected({}, ecosystem="Mageia:9")})
    assert "of its 1 OSV records none speaks for" in refusal(parse_archive, archive)


def test_a_real_archive_of_errata_is_read_to_its_end(shared_data):
    path = shared_data / "advisories" / "osv-AlmaLinux-9.zip"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, which only some checkouts have")
    records = list(archive_records(feed_input(path.read_bytes())))
    assert len(records) == len({record.ident for record in records}) == 1783
    feed = parse_archive(feed_input(path.read_bytes(), now=datetime(2026, 12, 1, tzinfo=UTC)))
    assert (feed.header.name, feed.header.listed_for) == ("osv:AlmaLinux:9", ("alma:9",))
    assert {advisory.release for advisory in feed.records} == {"alma:9"}
