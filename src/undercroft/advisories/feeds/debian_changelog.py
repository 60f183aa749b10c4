"""debian/changelog: each version of a source package, its date, and the CVE numbers that it names.

Follows Debian Policy section 4.4 and deb-changelog(5). Guarantees: every entry is kept, newest first as in
the file; CVE numbers in the order of their first mention, each once. What an entry says about a number is
prose: that it names one means "dealt with here" as a rule, and nothing better can be had from this source.
An entry's title is the first point of its list that names a number (the first of all where none does), when
that says anything beside the number.

Very old entries have dates that no calendar knows; such an entry takes the date of the one above it, which
is no earlier. Binary packages may carry the newer part of the history only; then the last entry ends it.
"""

import re
from collections.abc import Iterable, Iterator
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

_BULLET = re.compile(r"[*+~-]\s+")
_PERSON = re.compile(r"\[[^]]{1,200}\]")
_REMARK = re.compile(r"\([^()]{0,1000}\)")
_PATCH = re.compile(r"(?:\S{0,200}/)?\S{1,200}\.(?:patch|diff)\b|\b(?:d|debian)/\S{1,200}", re.IGNORECASE)
_STOCK_WORD = re.compile(
    r"\b(?:add|added|and|backport|backported|closes|cve|cves|debian|fix|fixed|fixes|fixing|for|from|import|"
    r"imported|issue|issues|maintainer|new|non|patch|patches|release|security|team|test|tests|the|update|"
    r"upload|upstream|version|vulnerabilities|vulnerability|with)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z]{3}")


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
    bullets = list(_bullets(draft.lines))
    naming = next((bullet for bullet in bullets if _CVE.search(bullet)), None)
    title = fields.title(naming if naming is not None else next(iter(bullets), ""))
    return ChangelogEntry(
        source=draft.source,
        version=draft.version,
        dated_on=dated_on,
        vulnerabilities=tuple(dict.fromkeys(numbers)),
        title=title if _says_something(title) else "",
    )


def _bullets(lines: Iterable[str]) -> Iterator[str]:
    """Yield each point of a list in one line, without its mark. Names in brackets and blank lines end one."""
    bullet: list[str] | None = None
    for line in lines:
        text = line.strip()
        mark = _BULLET.match(text)
        if mark or not text or _PERSON.fullmatch(text):
            if bullet:
                yield " ".join(bullet)
            bullet = [text[mark.end() :]] if mark else None
        elif bullet is not None:
            bullet.append(text)
    if bullet:
        yield " ".join(bullet)


def _says_something(text: str) -> bool:
    """Tell whether a title has words besides numbers, patches' paths, (remarks) and what all fixes say."""
    for noise in (_REMARK, _PATCH, _CVE, _STOCK_WORD):
        text = noise.sub(" ", text)
    return _WORD.search(text) is not None


def _day(text: str) -> date | None:
    parsed = parsedate_tz(text)
    if parsed is None:
        return None
    try:
        return date(*parsed[:3])
    except ValueError:
        return None
