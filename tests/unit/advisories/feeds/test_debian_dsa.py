import re
from collections import Counter
from datetime import date

import pytest
from feedfixtures import document, feed_input, parsed, refusal

from undercroft.advisories.feeds.debian_dsa import parse
from undercroft.advisories.records import Status

LIST = document("dsa.list")


def statements() -> dict[tuple[str, str, str], tuple[Status, str]]:
    _, records = parsed(parse, LIST)
    return {(r.vulnerability, r.source, r.release): (r.status, r.fixed_version) for r in records}


def test_each_cve_of_an_advisory_is_a_dated_statement():
    _, records = parsed(parse, LIST)
    first = [record for record in records if record.advisory == "DSA-5865-1"]
    assert [record.vulnerability for record in first] == ["CVE-2025-24143", "CVE-2025-24150"]
    assert {(r.release, r.source, r.fixed_version, r.published_on, r.feed) for r in first} == {
        ("debian:12", "webkit2gtk", "2.46.6-1~deb12u1", date(2025, 2, 12), "debian-dsa")
    }


def test_an_advisory_without_a_cve_stands_under_its_own_id():
    assert statements()["DSA-5699-2", "example-lib", "debian:12"] == (Status.FIXED, "1.0-1+deb12u2")


def test_old_remarks_behind_a_version_and_states_in_brackets_are_understood():
    found = statements()
    assert found["CVE-2099-0003", "example-old", "debian:3.1"] == (Status.FIXED, "1.0-2")
    assert found["CVE-2099-0004", "example-old", "debian:3.0"] == (Status.NOT_AFFECTED, "")
    assert found["CVE-2099-0003", "example-old", "debian:4.0"] == (Status.UNFIXED, "")


def test_the_newest_advisory_dates_the_list_which_is_complete_for_nothing():
    header = parse(feed_input(LIST)).header
    assert (header.name, header.serial) == ("debian-dsa", "2025-02-12 0000004")
    assert header.complete_for == ()
    assert header.published_at.date() == date(2025, 2, 12)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no advisory"),
        (b"<html>", "neither an advisory nor one of its lines"),
        (LIST.replace(b"12 Feb", b"31 Feb"), "is no date"),
        (LIST.replace(b"2025] DSA-5865", b"2099] DSA-5865"), "in the future"),
        (LIST.replace(b"DSA-1000-1", b"DLA-1000-1"), "mixes DSA and DLA"),
        (LIST.replace(b"webkit2gtk 2.46.6", b"web/../kit 2.46.6"), "is not a package name"),
        (LIST.replace(b"2.46.6-1", b"2.46.6-1;"), "is not a version"),
        (LIST.replace(b"{CVE-2025-24143", b"{CVE\x002025"), "is not an id"),
        (LIST[:30] + b"\xff" + LIST[30:], "no UTF-8"),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(content, message):
    assert message in refusal(parse, content)


@pytest.mark.parametrize("kind", ["DSA", "DLA"])
def test_the_real_list_has_as_many_statements_as_a_second_reading_of_it_counts(shared_data, kind):
    path = shared_data / "advisories" / f"debian-{kind}.list"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, which only some checkouts have")
    expected: Counter[str] = Counter()
    for block in re.split(r"(?m)^(?=\[)", path.read_text())[1:]:
        names = re.findall(r"\{([^}]*)\}", block)
        count = max(1, len(" ".join(names).split()))
        for codename in re.findall(r"(?m)^\s+\[([a-z]+)\] - \S+ +\S", block):
            expected[codename] += count
    _, records = parsed(parse, path.read_bytes())
    found = Counter(record.release for record in records)
    assert sum(found.values()) == sum(expected.values()) > 15_000
    assert found["debian:11"] == expected["bullseye"]
    assert found["debian:12"] == expected["bookworm"]
