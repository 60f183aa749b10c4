"""A distribution mirror's Release file: what a suite is, until when it holds, and its files' digests.

Follows https://wiki.debian.org/DebianRepository/Format. Takes text whose signature has been verified:
nothing here checks one. Guarantees: file names are relative and stay below the suite's folder; only
SHA256 digests count; a file that is expired, from the future, or another suite's than the one asked for
does not pass `check_release`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from undercroft.advisories.feeds.feed import check_not_ahead, serial_of
from undercroft.advisories.feeds.releases import archive_release
from undercroft.errors import InputError, StateError, UnsupportedError

MAX_RELEASE_BYTES = 32 << 20
"""Ubuntu's are the largest, 0.3 MB."""
MAX_FILE_BYTES = 4 << 30

_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]{0,63}):[ \t]*(.*)")
_DIGEST = re.compile(r"[ \t]+([0-9a-f]{64})[ \t]+([0-9]{1,12})[ \t]+(\S{1,500})")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file that a Release lists: its path below the suite's folder, its digest and its length."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Release:
    """One edition of one suite.

    Attributes:
        origin: "Debian", "Ubuntu", ...
        label: "Debian", "Debian-Security", "Ubuntu".
        suite: "oldstable-security".
        codename: "bookworm-security".
        version: "12", "" for none.
        release: release key ("debian:12").
        dated_at: its Date.
        valid_until: its Valid-Until, None for none.
        by_hash: whether files can be fetched by digest (Acquire-By-Hash).
        files: by path.
    """

    origin: str
    label: str
    suite: str
    codename: str
    version: str
    release: str
    dated_at: datetime
    valid_until: datetime | None
    by_hash: bool
    files: Mapping[str, IndexFile]

    @property
    def name(self) -> str:
        """What tells this suite from the others of its release: "bookworm-security", "jammy-updates"."""
        return self.codename if self.origin == "Debian" else self.suite

    @property
    def serial(self) -> str:
        """The edition's serial: its date."""
        return serial_of(self.dated_at)


def parse_release(text: str, what: str) -> Release:
    """Return the Release file in `text`, whose signature was verified.

    Raises:
        InputError: malformed.
        UnsupportedError: of an origin other than Debian and Ubuntu.
    """
    values, digests = _fields(text, what)
    origin, codename = values.get("origin", ""), values.get("codename", "")
    release = archive_release(origin, values.get("version", ""), codename)
    if release is None:
        raise UnsupportedError(
            f"{what}: an archive of {ascii(origin)[:60]}, {ascii(codename)[:60]}; "
            "releases of Debian and Ubuntu are read"
        )
    valid_until = values.get("valid-until")
    return Release(
        origin=origin,
        label=values.get("label", ""),
        suite=values.get("suite", ""),
        codename=codename,
        version=values.get("version", ""),
        release=release,
        dated_at=_moment(values.get("date", ""), f"{what}: Date"),
        valid_until=None if valid_until is None else _moment(valid_until, f"{what}: Valid-Until"),
        by_hash=values.get("acquire-by-hash", "").lower() == "yes",
        files=dict(_files(digests, what)),
    )


def check_release(release: Release, suite: str, now: datetime, what: str) -> None:
    """Check that a verified Release is the suite that was asked for, and of these days.

    A mirror holds many files that are rightly signed. What it may not do is to answer with another
    suite's, with one that has expired, or with one dated so far ahead that it never would.

    Raises:
        InputError: another suite, or dated in the future.
        StateError: past its Valid-Until.
    """
    if suite not in _names(release):
        raise InputError(
            f"{what}: asked for {suite}, found {ascii(release.suite)[:60]} ({ascii(release.codename)[:60]})"
        )
    check_not_ahead(release.dated_at, now, what)
    if release.valid_until is not None and release.valid_until <= now:
        raise StateError(
            f"{what}: expired at {serial_of(release.valid_until)}: the mirror is no longer updated, or "
            "somebody holds it back; use another mirror"
        )


def _names(release: Release) -> set[str]:
    """Return the names by which a suite may be asked for, none of them another suite's too."""
    if release.origin != "Debian":
        return {release.suite}  # Ubuntu's codename is the same in all pockets
    names = {release.suite, release.codename}
    if release.label == "Debian-Security" and not release.codename.endswith("-security"):
        return {f"{name}/updates" for name in names}  # until Debian 10 it shared the main suite's names
    return names


def _fields(text: str, what: str) -> tuple[dict[str, str], list[str]]:
    """Return (single-line fields by lower-case name, lines of the SHA256 field)."""
    values: dict[str, str] = {}
    digests: list[str] = []
    name = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if match := _FIELD.fullmatch(line.rstrip("\r")):
            name = match[1].lower()
            if name in values:
                raise InputError(f"{what}: line {number}: a second field {match[1]}")
            values[name] = match[2].strip()
        elif line[:1] in {" ", "\t"}:
            if name == "sha256":
                digests.append(line)
        elif line.strip():
            raise InputError(f"{what}: line {number}: no field of a Release file: {ascii(line)[:80]}")
    return values, digests


def _files(lines: list[str], what: str) -> Iterator[tuple[str, IndexFile]]:
    for line in lines:
        match = _DIGEST.fullmatch(line.rstrip())
        if match is None:
            raise InputError(f"{what}: no digest, size and name: {ascii(line)[:120]}")
        path, size_bytes = match[3], int(match[2])
        check_path(path, what)
        if size_bytes > MAX_FILE_BYTES:
            raise InputError(f"{what}: {ascii(path)[:120]} of {size_bytes} bytes")
        yield path, IndexFile(path, match[1], size_bytes)


def check_path(path: str, what: str) -> None:
    """Raise InputError unless `path` is relative and every part of it is a plain name."""
    parts = path.split("/")
    if not path.isascii() or not path.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise InputError(f"{what}: a path that leads elsewhere: {ascii(path)[:120]}")


def _moment(text: str, place: str) -> datetime:
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise InputError(f"{place}: {ascii(text)[:60]} is no date") from error
