"""`undercroft audit`: the log of decisions is verified, and exported with the head that pins it."""

import re
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from undercroft.assurance.auditheads import LogProof, public_key
from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleetoptions import administrator, record_option
from undercroft.cli.options import examples, show, writing
from undercroft.cli.render.escape import harmless
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.model.audit import SignedHead
from undercroft.ports.records import Records
from undercroft.usecases.fleet.audit import audit
from undercroft.usecases.fleet.audit import restart as anew
from undercroft.usecases.fleet.audit.headfile import existing_key, read_heads
from undercroft.usecases.fleet.places import Places

_KEY = re.compile(r"[0-9a-f]{64}")
_MAX_KEY_FILE_BYTES = 4096


@click.group(
    short_help="Verify and export the log of decisions.",
    epilog=examples(
        "undercroft audit export -o audit.jsonl",
        "undercroft audit verify",
        "undercroft audit restart --reason 'backup of Monday put back, ticket 4711'",
        "undercroft audit verify --key 3f5a... --heads /mnt/elsewhere/heads.jsonl",
    ),
)
def command() -> None:
    """Verify and export the log of decisions.

    Each entry has the digest of the one before it. Signed heads pin the log: whoever can write the database
    can compute a whole log anew, but not sign it. What is pinned is as safe as the copies of the heads that
    lie elsewhere; whoever has the signing key and every copy can make any log.
    """


@command.command(
    short_help="Verify the log, or an export of it.",
    epilog=examples(
        "undercroft audit verify",
        "undercroft audit verify --key audit.pub --heads /mnt/elsewhere/heads.jsonl",
        "undercroft audit verify --key audit.pub audit.jsonl",
    ),
)
@click.argument("exported", metavar="[EXPORT]", required=False, type=click.Path(path_type=Path))
@record_option
@click.option(
    "--heads",
    "head_files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Signed heads that lie elsewhere, in place of this host's own; repeatable.",
)
@click.option(
    "--key", default="", metavar="HEX|FILE", help="The pinned public key; default: this host's own."
)
def verify(exported: Path | None, database: str, head_files: tuple[Path, ...], key: str) -> int:
    """Verify the log, or the file EXPORT, against signed heads.

    Exits with 0 where it is whole, 1 where it is not, and 4 where no head pins it, so that nobody can tell.
    """
    if exported and database:
        raise click.UsageError("give an EXPORT or a --record, not both")
    places = Places.default()
    pinned = pinned_key(key, places)
    heads = _heads(head_files, places, needed=exported is None)
    begun: tuple[str, ...] = ()
    if exported:
        proof = audit.verify_export(exported, heads, pinned)
    else:
        records = _open(database or places.database_url)
        try:
            proof, begun = _verified(records, heads, pinned)
        finally:
            records.close()
    show("".join(f"{harmless(line)}\n" for line in (_told(proof, pinned), *begun)))
    if proof.last and not proof.heads:
        click.echo("undercroft: no head pins this log: it may have been computed anew", err=True)
        return ExitCode.INCOMPLETE
    return ExitCode.CLEAN


@command.command(
    short_help="Write the log and the signed head that pins it.",
    epilog=examples(
        "undercroft audit export -o audit.jsonl", "undercroft audit export --after 1000 | ssh ..."
    ),
)
@record_option
@click.option("--after", default=0, type=click.IntRange(min=0), metavar="N", help="Only entries above N.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to FILE instead of standard output.",
)
def export(database: str, after: int, output: Path | None) -> int:
    """Write the log's entries as JSON lines, and the signed head that pins them."""
    places = Places.default()
    records = _open(database or places.database_url)
    now = datetime.now(UTC)
    try:
        if output is None:
            with writing():
                stream = sys.stdout.buffer
                head = audit.export(records, places.audit_key, places.heads, stream, now, after=after)
                stream.flush()
        else:
            head = audit.export_file(records, places.audit_key, places.heads, output, now, after=after)
    finally:
        records.close()
    click.echo(f"undercroft: {head.number - after:,} entries; pin the key {head.key}", err=True)
    return ExitCode.CLEAN


@command.command(
    short_help="Begin the signing anew, after a backup was put back.",
    epilog=examples("undercroft audit restart --reason 'backup of Monday put back, ticket 4711'"),
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; goes on record.")
@record_option
def restart(reason: str, database: str) -> int:
    """Begin the signing of the log anew, where the log does not continue what was signed.

    That is so once a backup of the record was put back, or a new record was begun; until then nothing is
    signed or exported. The old heads are kept beside the new ones, and the log says who did this and why.
    Heads that lie elsewhere go on telling what the log has lost.
    """
    if not reason.strip():
        raise click.UsageError("--reason says why, for the record")
    places, now = Places.default(), datetime.now(UTC)
    records = _open(database or places.database_url)
    host, by = socket.gethostname(), administrator()
    try:
        done = anew.restart(records, places.audit_key, places.heads, now, host=host, by=by, reason=reason)
    finally:
        records.close()
    was = f"the last one is of entry {done.last.number:,}" if done.last else "the last one is damaged"
    show(
        f"signing begins anew with entry {done.entry.number:,}; key {done.head.key}\n"
        f"the heads from before are in {harmless(str(done.archive))}; {was}\n"
    )
    return ExitCode.CLEAN


def _verified(records: Records, heads: Sequence[SignedHead], key: str) -> tuple[LogProof, tuple[str, ...]]:
    """Verify the record's log; return what it says of signing that was begun anew, too.

    Whoever wrote the log wrote that as well: it explains a failure, and excuses none.
    """
    try:
        proof = audit.verify_record(records, heads, key)
    except StateError as error:
        told = "".join(f"\nthe log says, which proves nothing: {line}" for line in _restarts(records))
        raise StateError(f"{error}{told}") from error
    return proof, _restarts(records)


def _restarts(records: Records) -> tuple[str, ...]:
    try:
        with records.reading() as record:
            return tuple(anew.restarts(record))
    except OperationError:  # an entry that was edited, which the verification tells
        return ()


def _open(url: str) -> Records:
    from undercroft.store.fleet.records import open_records  # noqa: PLC0415 - SQLAlchemy, not for --help

    return open_records(url, create=False)


def _heads(files: tuple[Path, ...], places: Places, *, needed: bool) -> list[SignedHead]:
    """Return the heads of the files, or of this host; an export brings its own."""
    if files:
        return [head for file in files for head in read_heads(file)]
    return list(read_heads(places.heads)) if needed and places.heads.exists() else []


def pinned_key(text: str, places: Places) -> str:
    """Return the public key that is named, or this host's."""
    if not text:
        try:
            return public_key(existing_key(places.audit_key))
        except NotFoundError as error:
            raise NotFoundError(f"{error}: give the public key that you pinned with --key") from error
    if _KEY.fullmatch(text):
        return text
    try:
        with open(text, "rb") as file:
            found = file.read(_MAX_KEY_FILE_BYTES).decode("ascii").strip()
    except FileNotFoundError as error:
        raise NotFoundError(f"--key {text}: neither 64 hexadecimal digits nor a file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"--key {text}: cannot be read as a key: {error}") from error
    if not _KEY.fullmatch(found):
        raise InputError(f"--key {text}: a public key is 64 hexadecimal digits")
    return found


def _told(proof: LogProof, key: str) -> str:
    if not proof.last:
        return f"whole: no entries, {proof.heads} heads checked, key {key}"
    rest = proof.last - proof.pinned
    after = f", the {rest:,} after it are chained only" if rest and proof.pinned else ""
    return (
        f"whole: entries {proof.first:,} to {proof.last:,}, {proof.heads:,} heads checked, "
        f"pinned up to entry {proof.pinned:,}{after}; key {key}"
    )
