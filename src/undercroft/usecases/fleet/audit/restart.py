"""Signing begun anew, where the log does not continue what was signed: a backup was put back, a record begun.

1. The heads get a second name beside themselves; nothing of them is lost, and they verify old exports.
2. The log gets an entry that says who began anew, why, what was wrong, and which head was the last before.
3. A new file of heads begins with the head of that entry, and takes the place of the old one.

It excuses nothing. The old heads say of the log what they said before, so whoever holds a copy of one finds
what the log has lost; and nobody who has the database only can do it, since the first head is signed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from json import loads
from pathlib import Path

from undercroft.assurance import auditheads
from undercroft.assurance.auditheads import public_key
from undercroft.errors import InputError, NotFoundError, StateError
from undercroft.model.audit import AuditEntry, SignedHead
from undercroft.model.schema import Json, encode
from undercroft.ports.records import Record, Records
from undercroft.usecases.fleet.audit.audit import check_continues
from undercroft.usecases.fleet.audit.headfile import (
    HeadFile,
    archive,
    begin_anew,
    locked_heads,
    own_key,
    read_heads,
)

KIND = "restart"
SUBJECT = "audit-log"
"""Of the entries that say so: they are found without reading the whole log."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """What was done.

    Attributes:
        entry: the log's entry that says so.
        head: the first one of the new file, which pins that entry.
        archive: where the old heads lie.
        last: the last one of them, None where it is damaged.
    """

    entry: AuditEntry
    head: SignedHead
    archive: Path
    last: SignedHead | None


def restart(
    records: Records, key_path: Path, heads_path: Path, at: datetime, *, host: str, by: str, reason: str
) -> Restarted:
    """Begin the signing of the log anew.

    Args:
        records: the record.
        key_path: the signing key; made where it is gone.
        heads_path: the file of heads.
        at: now, with a time zone.
        host: this host's name; each host of one record signs for itself.
        by: who asks for it.
        reason: why.

    Raises:
        NotFoundError: nothing was ever signed here.
        StateError: the log continues what was signed, so that there is no reason.
        InputError: the key is damaged.
        DeniedError: no permission.
        OperationError: the database or the disk failed; done again, it begins from the front.
    """
    if not heads_path.exists():
        raise NotFoundError(f"{heads_path}: nothing is signed yet, so there is nothing to begin anew")
    private = own_key(key_path)
    key = public_key(private)
    with locked_heads(heads_path) as heads:
        with records.reading() as record:
            problem, last = _problem(record, heads, heads_path, key)
        old = archive(heads_path, at)
        body: dict[str, Json] = {
            "host": host,
            "by": by,
            "reason": reason,
            "problem": problem,
            "archive": old.name,
            "last": encode(last) if last else None,
        }
        with records.transaction() as record:
            entry = record.log(KIND, SUBJECT, body, at)
            log = record.log_head()[0]
        head = auditheads.sign_head(private, log, entry.number, entry.digest, at)
        begin_anew(heads_path, head)
    return Restarted(entry, head, old, last)


def restarts(record: Record) -> Iterator[str]:
    """Yield a sentence for each time the log says that its signing was begun anew; untrusted text."""
    for entry in record.log_entries(subject=SUBJECT):
        if entry.kind == KIND:
            when = f"{entry.at:%Y-%m-%d %H:%M:%S}"
            yield f"signing was begun anew at entry {entry.number:,} on {when} {_told(entry)}"


def _problem(record: Record, heads: HeadFile, path: Path, key: str) -> tuple[str, SignedHead | None]:
    """Return what keeps the log from being signed, and the last head. Raises StateError for nothing."""
    try:
        last = heads.last()
        read_heads(path)
    except InputError as error:
        return str(error), None
    if last is None:
        raise StateError(f"{path}: holds no head, so the next one is signed as ever; nothing is begun anew")
    try:
        check_continues(record, last, key)
    except StateError as error:
        return str(error).partition(" Nothing is signed")[0], last
    raise StateError(
        f"audit log: it continues the head that was signed last, for entry {last.number}; there is no reason "
        "to begin anew"
    )


def _told(entry: AuditEntry) -> str:
    """Return by whom and why, as an entry that anybody may have written says it."""
    try:
        body = loads(entry.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return "and does not say why"
    by, host, reason, archived = (str(body.get(name, "?")) for name in ("by", "host", "reason", "archive"))
    return f"by {by} on {host}: {reason}; the heads from before are in {archived}"
