"""Debian's lists of security advisories: DSA (the security team's) and DLA (long-term support).

Follows data/DSA/list and data/DLA/list of the security-tracker repository:

    [12 Feb 2025] DSA-5865-1 webkit2gtk - security update
            {CVE-2025-24143 CVE-2025-24150}
            [bookworm] - webkit2gtk 2.46.6-1~deb12u1

Guarantees: every statement is dated, so it has an answer for --as-of; an advisory that names no CVE (a
regression update) stands under its own id; the edition is dated by its newest advisory. An advisory list
says nothing of what it does not name, so it is complete for no release.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.bounded import decode_text, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead
from undercroft.advisories.feeds.releases import debian_release
from undercroft.advisories.records import Advisory, FeedHeader, Status
from undercroft.errors import InputError

MAX_BYTES = 64 << 20

_HEAD = re.compile(r"\[(\d{1,2} [A-Z][a-z]{2} \d{4})\] ((?:DSA|DLA)-\d{1,6}(?:-\d{1,4})?) (.{1,500})")
_CVES = re.compile(r"\s+\{([^{}]*)\}\s*")
_STATEMENT = re.compile(r"\s+\[([a-z]{1,32})\] - (\S{1,255})\s+(\S{1,255})(?: .*)?")
_NOTE = re.compile(r"\s*|\s+(?:NOTE|TODO):.*|\s+-\s.*|STOP.*", re.DOTALL)
_MAX_AGES_S = {"DSA": ages.DEBIAN_DSA_S, "DLA": ages.DEBIAN_DLA_S}
_STATUS = {"<not-affected>": Status.NOT_AFFECTED, "<undetermined>": Status.UNDETERMINED}


@dataclass(slots=True)
class _Entry:
    dated_on: date
    advisory: str
    title: str
    vulnerabilities: list[str] = field(default_factory=list)
    statements: list[tuple[str, str, str]] = field(default_factory=list)


def parse(source: FeedInput) -> Feed:
    """Return the list's statements. Raises InputError."""
    text = decode_text(read_all(source.file, MAX_BYTES, source.name), source.name)
    entries = list(_entries(text, source.name))
    if not entries:
        raise InputError(f"{source.name}: holds no advisory")
    newest = max(entries, key=lambda entry: (entry.dated_on, _number(entry.advisory)))
    kind = newest.advisory[:3]
    name = f"debian-{kind.lower()}"
    if any(not entry.advisory.startswith(kind) for entry in entries):
        raise InputError(f"{source.name}: mixes DSA and DLA; import the two lists one by one")
    published_at = datetime.combine(newest.dated_on, datetime.min.time(), UTC)
    check_not_ahead(published_at, source.now, source.name)
    records = [record for entry in entries for record in _advisories(entry, name, source.name)]
    header = FeedHeader(
        name=name,
        serial=f"{newest.dated_on.isoformat()} {len(entries):07d}",
        published_at=published_at,
        valid_until=None,
        max_age_s=_MAX_AGES_S[kind],
        releases=tuple(sorted({record.release for record in records})),
    )
    return Feed(header, iter(records))


def _number(advisory: str) -> tuple[int, ...]:
    return tuple(int(part) for part in advisory.split("-")[1:])


def _entries(text: str, what: str) -> Iterator[_Entry]:
    entry: _Entry | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        place = f"{what}: line {number}"
        if head := _HEAD.match(line):
            if entry:
                yield entry
            entry = _Entry(_day(head[1], place), head[2], fields.title(head[3]))
        elif entry and (cves := _CVES.fullmatch(line)):
            entry.vulnerabilities += [fields.ident(name, place) for name in cves[1].split()]
        elif entry and (statement := _STATEMENT.fullmatch(line)):
            entry.statements.append((statement[1], fields.package(statement[2], place), statement[3]))
        elif not _NOTE.fullmatch(line):
            raise InputError(f"{place}: neither an advisory nor one of its lines: {ascii(line)[:80]}")
    if entry:
        yield entry


def _day(text: str, place: str) -> date:
    try:
        return datetime.strptime(text, "%d %b %Y").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise InputError(f"{place}: {text!r} is no date") from error


def _advisories(entry: _Entry, feed: str, what: str) -> Iterator[Advisory]:
    for codename, package, untrusted_version in entry.statements:
        release = debian_release(codename)
        if release is None:
            continue
        fixed_version = ""
        status = _STATUS.get(untrusted_version, Status.UNFIXED)
        if not untrusted_version.startswith("<"):
            status = Status.FIXED
            fixed_version = fields.version(untrusted_version, f"{what}: {entry.advisory}")
        for vulnerability in entry.vulnerabilities or [entry.advisory]:
            yield Advisory(
                feed=feed,
                release=release,
                source=package,
                vulnerability=vulnerability,
                advisory=entry.advisory,
                status=status,
                fixed_version=fixed_version,
                published_on=entry.dated_on,
                title=entry.title,
            )
