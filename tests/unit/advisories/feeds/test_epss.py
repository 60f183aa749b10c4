import gzip
from datetime import date

import pytest
from feedfixtures import document, parsed, refusal

from undercroft.advisories.feeds import epss
from undercroft.advisories.feeds.epss import parse
from undercroft.advisories.records import ExploitProbability

EPSS = document("epss.csv")


@pytest.mark.parametrize("content", [EPSS, gzip.compress(EPSS, mtime=0), EPSS.replace(b"\n", b"\r\n")])
def test_scores_are_read_plain_and_compressed(content):
    feed, records = parsed(parse, content)
    assert records[0] == ExploitProbability("CVE-2022-0847", 0.0752, date(2025, 2, 13))
    assert (len(records), feed.header.serial) == (3, "2025-02-13T00:00:00Z")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first line"),
        (b"cve,epss,percentile\nCVE-2022-0847,0.1,0.2\n", "the first line"),
        (EPSS.replace(b"cve,epss", b"cve,score"), "the columns"),
        (EPSS.replace(b"0.07520", b"-0.1"), "no probability of 0 to 1"),
        (EPSS.replace(b"0.07520", b"1.1"), "no probability of 0 to 1"),
        (EPSS.replace(b"0.07520", b"nan"), "no probability of 0 to 1"),
        (EPSS.replace(b"0.07520", b"inf"), "no probability of 0 to 1"),
        (EPSS.replace(b"0.07520", b"1e999"), "no probability of 0 to 1"),
        (EPSS.replace(b"0.07520", b""), "is no number"),
        (EPSS.replace(b"CVE-2024-53104", b"CVE-2022-0847"), "line 4: a second score for CVE-2022-0847"),
        (EPSS.replace(b"CVE-2024-53104", b"'; DROP"), "is not a CVE number"),
        (EPSS.replace(b"2025-02-13", b"2125-02-13"), "in the future"),
        (EPSS.replace(b"2025-02-13", b"2025-13-13"), "is no date-time"),
        (EPSS + b"x" * 5000, "a line of more than"),
        (b"\n".join(EPSS.split(b"\n")[:2]), "holds no scores"),
        (gzip.compress(EPSS, mtime=0)[:-9], "cut off"),
        (gzip.compress(EPSS, mtime=0)[:40] + b"\0\0" + gzip.compress(EPSS, mtime=0)[42:], "damaged"),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(content, message):
    assert message in refusal(parse, content)


def test_a_gzip_bomb_stops_at_the_limit(monkeypatch):
    monkeypatch.setattr(epss, "MAX_BYTES", 1 << 20)
    lines = b"".join(b"CVE-2098-%06d,0.5,0.5\n" % number for number in range(60_000))
    bomb = gzip.compress(EPSS + lines, mtime=0)
    assert len(bomb) < len(lines) / 4
    assert "more than the limit" in refusal(parse, bomb)
