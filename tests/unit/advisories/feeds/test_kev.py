import json
from datetime import date

import pytest
from feedfixtures import document, edited, feed_input, parsed, refusal

from undercroft.advisories.feeds.kev import parse
from undercroft.advisories.records import KnownExploited

KEV = document("kev.json")


def test_each_entry_says_since_when():
    feed, records = parsed(parse, KEV)
    assert KnownExploited("CVE-2022-0847", date(2022, 4, 25)) in records
    assert (feed.header.name, feed.header.serial) == ("kev", "2025-02-13T15:00:11Z")


def test_of_two_entries_for_one_number_the_earlier_counts():
    entries = [{"cveID": "CVE-2022-0847", "dateAdded": day} for day in ("2022-04-25", "2022-04-01")]
    _, records = parsed(parse, edited("kev.json", vulnerabilities=entries))
    assert records == [KnownExploited("CVE-2022-0847", date(2022, 4, 1))]


def test_fields_of_tomorrow_are_passed_over():
    content = json.loads(KEV)
    content["newField"] = {"a": [1]}
    content["vulnerabilities"][0]["newField"] = None
    assert len(parsed(parse, json.dumps(content))[1]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (edited("kev.json", count=3), "cut off: count is 3, entries found are 2"),
        (edited("kev.json", vulnerabilities=[], count=0), "cut off"),
        (edited("kev.json", vulnerabilities={}), "expected a list"),
        (edited("kev.json", vulnerabilities=[1, 2]), "expected an object"),
        (edited("kev.json", dateReleased=None), "is no date-time"),
        (edited("kev.json", dateReleased="2099-01-01T00:00:00Z"), "in the future"),
        (edited("kev.json", dateReleased=5), "expected a text"),
        (KEV.replace(b"CVE-2022-0847", b"CVE-2022-084x"), "is not a CVE number"),
        (KEV.replace(b"2022-04-25", b"2022-04-31"), "is no date-time"),
        (KEV[:200], "no valid JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"null", "expected an object"),
    ],
)
def test_what_is_malformed_is_refused(content, message):
    assert message in refusal(parse, content)


def test_the_real_catalog_is_read_whole(shared_data):
    path = shared_data / "advisories" / "cisa-kev.json"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, which only some checkouts have")
    data = path.read_bytes()
    late = feed_input(data)
    feed = parse(type(late)(late.name, late.file, late.now.replace(year=2026)))
    assert len(list(feed.records)) == json.loads(data)["count"] == 1404
