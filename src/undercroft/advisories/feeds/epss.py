"""EPSS: the probability that a vulnerability is exploited within 30 days, as csv or csv.gz.

Follows https://www.first.org/epss/data_stats: a comment line with the model's version and the date of the
scores, a line of column names, then one line per CVE number. Guarantees: every score is a finite number
of 0 to 1 and every CVE number has one score.
"""

import re
from collections.abc import Iterator
from datetime import date

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.bounded import decode_text
from undercroft.advisories.feeds.decompression import decompressed
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead, serial_of
from undercroft.advisories.records import ExploitProbability, FeedHeader
from undercroft.errors import InputError

NAME = "epss"
MAX_BYTES = 128 << 20
MAX_LINE_BYTES = 4096

_COMMENT = re.compile(r"#model_version:[^,]{1,64},score_date:(?P<date>\S{10,40})")


def parse(source: FeedInput) -> Feed:
    """Return the scores. Raises InputError, also while the records are taken."""
    lines = _lines(source)
    comment = _COMMENT.match(next(lines, ""))
    if comment is None:
        raise InputError(f"{source.name}: the first line is not EPSS's '#model_version:...,score_date:...'")
    columns = next(lines, "").split(",")
    if columns[:2] != ["cve", "epss"]:
        raise InputError(f"{source.name}: the columns are not 'cve,epss,...'")
    scored_at = fields.moment(comment["date"], f"{source.name}: score_date")
    check_not_ahead(scored_at, source.now, source.name)
    header = FeedHeader(
        name=NAME,
        serial=serial_of(scored_at),
        published_at=scored_at,
        valid_until=None,
        max_age_s=ages.EPSS_S,
    )
    return Feed(header, _scores(lines, scored_at.date(), source.name))


def _lines(source: FeedInput) -> Iterator[str]:
    stream = decompressed(source.file, MAX_BYTES, source.name)
    while line := stream.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES:
            raise InputError(f"{source.name}: a line of more than {MAX_LINE_BYTES} bytes")
        yield decode_text(line, source.name).rstrip("\r\n")


def _scores(lines: Iterator[str], scored_on: date, what: str) -> Iterator[ExploitProbability]:
    seen: set[str] = set()
    for number, line in enumerate(lines, start=3):
        place = f"{what}: line {number}"
        untrusted_cve, _, rest = line.partition(",")
        vulnerability = fields.cve_number(untrusted_cve, place)
        score = fields.probability(rest.partition(",")[0], place)
        if vulnerability in seen:
            raise InputError(f"{place}: a second score for {vulnerability}")
        seen.add(vulnerability)
        yield ExploitProbability(vulnerability, score, scored_on)
    if not seen:
        raise InputError(f"{what}: cut off: holds no scores")
