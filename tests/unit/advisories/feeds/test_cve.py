import json
from datetime import date

import pytest
from feedfixtures import document, parsed, refusal, zipped

from undercroft.advisories.feeds.cve import parse_archive, parse_record
from undercroft.model.finding import Severity

RECORD = document("cve.json")
VECTOR_3 = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"


def record(**cna: object) -> bytes:
    content = json.loads(RECORD)
    content["containers"]["cna"] |= cna
    return json.dumps(content).encode()


def test_an_additional_rating_counts_where_the_assigner_gives_none():
    feed, (found,) = parsed(parse_record, RECORD)
    assert (found.severity, found.severity_source) == (Severity.HIGH, "cve:cvss3.1:7.8")
    assert (found.published_on, found.rejected) == (date(2022, 3, 7), False)
    assert found.title.startswith("A flaw was found")
    assert feed.header.name == "cve:CVE-2022-0847"


def test_the_assigners_own_rating_goes_first_and_newer_versions_before_older_ones():
    metrics = [
        {"cvssV2_0": {"vectorString": "AV:N/AC:L/Au:N/C:C/I:C/A:C", "baseScore": 10}},
        {"cvssV3_1": {"vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:L", "baseScore": 5.3}},
    ]
    _, (found,) = parsed(parse_record, record(metrics=metrics))
    assert (found.severity, found.severity_source) == (Severity.MEDIUM, "cve:cvss3.1:5.3")


def test_a_score_counts_where_its_vector_is_malformed_but_never_one_out_of_range():
    def severity(score: str) -> Severity:
        content = json.loads(record(metrics=[{"cvssV3_1": {"vectorString": "x", "baseScore": "SCORE"}}]))
        content["containers"]["adp"] = []
        document_ = json.dumps(content).replace('"SCORE"', score)
        return parsed(parse_record, document_)[1][0].severity

    assert severity("9.8") is Severity.CRITICAL
    out_of_range = ("-1", "11", "1e400", '"9.8"', "null", "true", "9" * 4000)
    assert [severity(score) for score in out_of_range] == [Severity.UNKNOWN] * len(out_of_range)


def test_a_rejected_record_is_kept_as_rejected_without_a_severity():
    content = json.loads(RECORD)
    content["cveMetadata"] |= {"state": "REJECTED"}
    content["containers"] = {"cna": {"rejectedReasons": [{"lang": "en", "value": "Not a fault."}]}}
    _, (found,) = parsed(parse_record, json.dumps(content))
    assert (found.rejected, found.severity, found.title) == (True, Severity.UNKNOWN, "Not a fault.")


def test_an_archive_is_dated_by_its_newest_record_that_is_not_ahead_of_the_clock():
    future = RECORD.replace(b"2025-02-10T14", b"2099-02-10T14").replace(b"CVE-2022-0847", b"CVE-2022-9999")
    archive = zipped(
        {
            "cves/delta.json": b'{"fetchTime": "x"}',
            "cves/deltaLog.json": b"[1]",
            "a.json": RECORD,
            "b.json": future,
        }
    )
    feed, records = parsed(parse_archive, archive)
    assert (feed.header.name, feed.header.serial) == ("cve", "2025-02-10T14:16:35Z")
    assert sorted(found.vulnerability for found in records) == ["CVE-2022-0847", "CVE-2022-9999"]


def test_of_two_records_for_one_number_the_later_one_in_the_archive_counts():
    second = RECORD.replace(b"A flaw", b"A second flaw")
    _, (found,) = parsed(parse_archive, zipped({"a.json": RECORD, "b.json": second}))
    assert found.title.startswith("A second flaw")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RECORD.replace(b'"5.1"', b'"6.0"'), "reads format 5"),
        (RECORD.replace(b'"5.1"', b'"4.0"'), "reads format 5"),
        (RECORD.replace(b"CVE_RECORD", b"CVE_OTHER"), "its dataType is not"),
        (RECORD.replace(b'"CVE-2022-0847", "state"', b'"x", "state"'), "is not a CVE number"),
        (RECORD.replace(b"2025-02-10T14:16:35.012Z", b"yesterday"), "is no date-time"),
        (RECORD.replace(b"2025-02-10T14:16:35.012Z", b"2099-02-10T14:16:35Z"), "in the future"),
        (RECORD[:-60], "no valid JSON"),
        (b'{"dataType": "CVE_RECORD", "dataVersion": "5.1", "cveMetadata": []}', "expected an object"),
    ],
)
def test_what_is_malformed_or_of_tomorrow_is_refused(content, message):
    assert message in refusal(parse_record, content)


def test_minor_versions_and_fields_of_tomorrow_are_read():
    assert parsed(
        parse_record, RECORD.replace(b'"5.1"', b'"5.9"').replace(b'"cna": {', b'"cna": {"new": 1,')
    )[1]


def test_one_bad_record_refuses_the_archive_and_names_the_member():
    archive = zipped({"good.json": RECORD, "deep/bad.json": RECORD[:-60]})
    assert "member 'deep/bad.json': no valid JSON" in refusal(parse_archive, archive)


def test_an_archive_without_records_is_refused_and_not_empty():
    assert "holds no CVE record" in refusal(parse_archive, zipped({"delta.json": b"{}"}))
