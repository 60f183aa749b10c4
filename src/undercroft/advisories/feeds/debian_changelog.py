"""debian/changelog: each version of a source package, its date, and the CVE numbers that it names.

Follows Debian Policy section 4.4 and deb-changelog(5). Guarantees: every entry is kept, newest first as in
the file; CVE numbers in the order of their first mention, each once. What an entry says about a number is
prose: that it names one means "dealt with here" as a rule, and nothing better can be had from this source.

Very old entries have dates that no calendar knows; such an entry takes the date of the one above it, which
is no earlier. Binary packages may carry the newer part of the history only; then the last entry ends it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from email.utils import parsedate_tz

from undercroft.advisories.feeds import fields
from undercroft.advisories.records import ChangelogEntry
from undercroft.errors import InputError

MAX_ENTRIES = 20_000

_HEAD = re.compile(r"(\w[-+0-9a-z.]{0,254}) \(([^() \t]{1,255})\)(?: [-+0-9A-Za-z.]+)+;.*", re.ASCII)
_TRAILER = re.compile(r" -- .{0,1000}?<.{0,1000}?>\s+(.{1,100})")
_OLD_FORMAT = re.compile(r"(?:old changelog:|local variables:|changes from version .*)\s*", re.IGNORECASE)
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}", re.IGNORECASE)


@dataclass(slots=True)
class _Draft:
    source: str
    version: str
    lines: list[str] = field(default_factory=list)
    dated_on: date | None = None


def changelog_entries(data: bytes, what: str) -> list[ChangelogEntry]:
    """Return the entries of a changelog, in its order. Raises InputError; undecodable bytes are replaced."""
    entries: list[ChangelogEntry] = []
    newer: date | None = None
    for draft in _drafts(data.decode("utf-8", "replace"), what):
        newer = draft.dated_on or newer
        if newer is None:
            raise InputError(f"{what}: the newest entry, {draft.version}, has no date")
        entries.append(_entry(draft, newer))
        if len(entries) > MAX_ENTRIES:
            raise InputError(f"{what}: more than {MAX_ENTRIES} entries")
    if not entries:
        raise InputError(f"{what}: holds no entry of a Debian changelog")
    return entries


def _drafts(text: str, what: str) -> Iterator[_Draft]:
    draft: _Draft | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if head := _HEAD.fullmatch(line):
            if draft:
                yield draft
            place = f"{what}: line {number}"
            draft = _Draft(fields.package(head[1], place), fields.version(head[2], place))
        elif draft is None:
            if line.strip():
                raise InputError(f"{what}: line {number}: no Debian changelog: {ascii(line)[:80]}")
        elif _OLD_FORMAT.fullmatch(line):
            break  # what follows is in no format
        elif trailer := _TRAILER.fullmatch(line):
            draft.dated_on = _day(trailer[1])
        else:
            draft.lines.append(line)
    if draft:
        yield draft


def _entry(draft: _Draft, dated_on: date) -> ChangelogEntry:
    numbers = (match.upper() for line in draft.lines for match in _CVE.findall(line))
    naming = next((line for line in draft.lines if _CVE.search(line)), "")
    first = next((line for line in draft.lines if line.lstrip().startswith("*")), "")
    return ChangelogEntry(
        source=draft.source,
        version=draft.version,
        dated_on=dated_on,
        vulnerabilities=tuple(dict.fromkeys(numbers)),
        title=fields.title((naming or first).strip().lstrip("*-+ \t")),
    )


def _day(text: str) -> date | None:
    parsed = parsedate_tz(text)
    if parsed is None:
        return None
    try:
        return date(*parsed[:3])
    except ValueError:
        return None
