"""The audit log as a chain: each entry has the digest of the one before it.

The digest is SHA-256 over the canonical JSON (RFC 8259; ASCII, no spaces) of the list

    ["undercroft-audit-1", number, at, kind, subject, body, previous]

with `at` in UTC as ISO 8601, and `body` as the text that it is. A list of JSON values has one reading only,
so no two different entries have the same bytes under the hash.

A chain alone shows an edit in its middle, no more: who can write the database can recompute it from there
on. What pins it are signed heads that lie elsewhere, see `auditheads`.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from undercroft.errors import StateError
from undercroft.model.audit import AuditEntry
from undercroft.model.schema import Json

NO_DIGEST = "0" * 64
"""What stands for the entry before the first."""

MAX_BODY_CHARS = 60_000
"""Of one entry's body. A larger one is replaced by its beginning and its digest."""

_START_CHARS = 8_000
_DOMAIN = "undercroft-audit-1"


def canonical(value: Json) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def make_entry(
    number: int, previous: str, kind: str, subject: str, body: Mapping[str, Json], at: datetime
) -> AuditEntry:
    """Return the entry that follows the one with digest `previous`.

    Args:
        number: from 1.
        previous: `NO_DIGEST` for the first.
        kind: a word of `AuditEntry.kind`.
        subject: the machine's or subject's key or name; may hold untrusted text.
        body: the rest; one that is larger than `MAX_BODY_CHARS` is shortened, and says so.
        at: with a time zone.
    """
    text = _bounded(canonical(dict(body)))
    moment = at.astimezone(UTC)
    digest = entry_digest(number, moment, kind, subject, text, previous)
    return AuditEntry(number, moment, kind, subject, text, previous, digest)


def entry_digest(number: int, at: datetime, kind: str, subject: str, body: str, previous: str) -> str:
    """Return the digest of an entry with these fields, in hexadecimal."""
    fields: list[Json] = [_DOMAIN, number, at.astimezone(UTC).isoformat(), kind, subject, body, previous]
    return hashlib.sha256(canonical(fields).encode("ascii")).hexdigest()


def check_entry(entry: AuditEntry, number: int, previous: str) -> None:
    """Check that an entry is whole and follows the one with digest `previous`.

    Args:
        entry: untrusted.
        number: what it must have.
        previous: digest of the entry before it, "" where that is not at hand.

    Raises:
        StateError: it was edited, or an entry is missing, doubled or in the wrong place.
    """
    if entry.number != number:
        raise StateError(
            f"audit log: entry {number} is missing or out of place, entry {entry.number} stands there"
        )
    if previous and entry.previous != previous:
        raise StateError(
            f"audit log: entry {number} does not follow the entry before it: the log was cut or put together"
        )
    found = entry_digest(number, entry.at, entry.kind, entry.subject, entry.body, entry.previous)
    if entry.digest != found:
        raise StateError(f"audit log: entry {number} was edited: its digest does not match what it says")


def _bounded(text: str) -> str:
    if len(text) <= MAX_BODY_CHARS:
        return text
    digest = hashlib.sha256(text.encode("ascii")).hexdigest()
    return canonical({"sha256": digest, "shortened": True, "start": text[:_START_CHARS]})
