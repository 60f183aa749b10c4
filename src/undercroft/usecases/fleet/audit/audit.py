"""The audit log outside the record: its heads are signed, it is exported, and it is verified.

head = sign_head(records, places.audit_key, places.heads, now)  # the agent, after decisions and on stop
proof = verify_record(records, read_heads(places.heads), key)
"""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from json import loads
from pathlib import Path
from typing import BinaryIO

from undercroft.assurance import auditheads
from undercroft.assurance.auditheads import LogProof, public_key, verify_log
from undercroft.assurance.auditlog import canonical
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.model.audit import AuditEntry, SignedHead
from undercroft.model.schema import decode, encode
from undercroft.ports.records import Record, Records
from undercroft.usecases.fleet.audit.headfile import HeadFile, locked_heads, own_key

RESTART_CURE = (
    "undercroft audit verify; where a backup was put back or the record begun anew on purpose: "
    "undercroft audit restart --reason TEXT"
)
"""What is to be done where the log does not continue what was signed."""
MAX_LINE_BYTES = 1 << 20
_PAGE = 1000


def sign_head(records: Records, key_path: Path, heads_path: Path, at: datetime) -> SignedHead | None:
    """Sign the log's head and keep it, where it has moved since the last one.

    Args:
        records: the record.
        key_path: the signing key; made at first use.
        heads_path: the file of heads.
        at: now, with a time zone.

    Returns:
        The new head; None where the last one still says it all.

    Raises:
        StateError: the log does not continue the last head: it was cut, changed, or put back from a copy.
        InputError: the key or the last head is damaged.
        DeniedError: no permission.
        OperationError: the database or the disk failed.
    """
    private = own_key(key_path)
    with locked_heads(heads_path) as heads, records.reading() as record:
        log, number, digest = record.log_head()
        last = _last(heads)
        if last is not None:
            check_continues(record, last, public_key(private))
            if (last.number, last.digest) == (number, digest):
                return None
        head = auditheads.sign_head(private, log, number, digest, at)
        heads.append(head)
        return head


def export(
    records: Records, key_path: Path, heads_path: Path, out: BinaryIO, at: datetime, *, after: int = 0
) -> SignedHead:
    """Write the log's entries, one JSON line each, and at the end the head that pins them.

    Args:
        records: the record.
        key_path: the signing key.
        heads_path: the file of heads.
        out: a stream of bytes.
        at: now, with a time zone.
        after: entries up to this number are left out.

    Returns:
        The head.

    Raises: as `sign_head`, and NotFoundError where there are no so many entries.
    """
    sign_head(records, key_path, heads_path, at)
    with records.reading() as record:
        log, number, digest = record.log_head()
        if after > number:
            raise NotFoundError(f"audit log: it has {number} entries, so none after {after}")
        out.writelines(
            canonical({"entry": encode(entry)}).encode("ascii") + b"\n" for entry in _entries(record, after)
        )
    head = auditheads.sign_head(own_key(key_path), log, number, digest, at)
    out.write(_line("head", head))
    return head


def export_file(
    records: Records, key_path: Path, heads_path: Path, target: Path, at: datetime, *, after: int = 0
) -> SignedHead:
    """Write the log into a file, for its owner only, that is there once it is whole. As `export`."""
    draft = target.with_name(f"{target.name}.new")
    try:
        descriptor = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with open(descriptor, "wb") as out:
            head = export(records, key_path, heads_path, out, at, after=after)
            out.flush()
            os.fsync(descriptor)
        os.replace(draft, target)
    except OSError as error:
        raise OperationError(f"{target}: {error.strerror}; the log is not exported") from error
    finally:
        draft.unlink(missing_ok=True)
    return head


def verify_record(records: Records, heads: Sequence[SignedHead], key: str) -> LogProof:
    """Verify the log in the record against heads.

    Args:
        records: the record; untrusted as far as its log goes.
        heads: signed ones, those that lie elsewhere too.
        key: the pinned public key in hexadecimal.

    Raises:
        StateError: the log or a head is not what it was.
        OperationError: the database failed.
    """
    with records.reading() as record:
        log, number, digest = record.log_head()
        proof = verify_log(_entries(record, 0), heads, key, log=log)
    if proof.last != number or (number and proof.digest != digest):
        raise StateError(
            f"audit log: its entries end at {proof.last}, its own head is at {number}: the end was cut off "
            "or changed"
        )
    return proof


def verify_export(path: Path, heads: Sequence[SignedHead], key: str) -> LogProof:
    """Verify an exported log against the heads in it and others.

    Args:
        path: what `export` wrote; untrusted. It may begin at any entry.
        heads: others, signed.
        key: the pinned public key in hexadecimal.

    Raises:
        StateError: the log or a head is not what it was.
        InputError: the file is no such export.
        NotFoundError: there is no such file.
        OperationError: it cannot be read.
    """
    first, own = 0, list[SignedHead]()
    for part in _parts(path):
        if isinstance(part, SignedHead):
            own.append(part)
        elif not first:
            first = part.number
    if not first and not own:
        raise InputError(f"{path}: holds neither an entry nor a head: not an exported audit log")
    entries = (part for part in _parts(path) if isinstance(part, AuditEntry))
    start = first or max(head.number for head in own) + 1
    return verify_log(entries, [*own, *heads], key, first=start)


def check_continues(record: Record, last: SignedHead, key: str) -> None:
    """Check that the log still has the entry that was signed last; a new head would hide that it has not.

    Args:
        record: an open transaction.
        last: the last head that was signed here.
        key: the public half of the key that signs here.

    Raises:
        StateError: it does not; the message has the cure.
        OperationError: the database failed.
    """
    log, number, _ = record.log_head()
    try:
        auditheads.check_head(last, key, log)
    except StateError as error:
        raise StateError(f"{error}. Nothing is signed: {RESTART_CURE}") from error
    entries = record.log_entries(last.number - 1, 1) if last.number else ()
    if last.number > number or (last.number and (not entries or entries[0].digest != last.digest)):
        raise StateError(
            f"audit log: it has {number} entries and does not continue the head that was signed for "
            f"{last.number} on {last.at:%Y-%m-%d %H:%M:%S}: the database was changed or put back from a "
            f"copy. Nothing is signed: {RESTART_CURE}"
        )


def _last(heads: HeadFile) -> SignedHead | None:
    try:
        return heads.last()
    except InputError as error:
        raise InputError(f"{error}. Nothing is signed: {RESTART_CURE}") from error


def _line(kind: str, part: AuditEntry | SignedHead) -> bytes:
    return canonical({kind: encode(part)}).encode("ascii") + b"\n"


def _entries(record: Record, after: int) -> Iterator[AuditEntry]:
    while page := record.log_entries(after, _PAGE):
        yield from page
        after = page[-1].number


def _parts(path: Path) -> Iterator[AuditEntry | SignedHead]:
    """Yield the entries and heads of an exported log. Raises as `verify_export`."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield _part(line, f"{path}, line {number}")
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: there is no such file") from error
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error


def _part(untrusted_line: bytes, place: str) -> AuditEntry | SignedHead:
    try:
        document = loads(untrusted_line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not a whole line of JSON; an export ends in a head") from error
    if isinstance(document, dict) and document.keys() == {"entry"}:
        return decode(AuditEntry, document["entry"], place)
    if isinstance(document, dict) and document.keys() == {"head"}:
        return decode(SignedHead, document["head"], place)
    raise InputError(f"{place}: neither an entry nor a head of an audit log")
