"""What the hook notes of a machine that runs."""

from pathlib import Path

from undercroft.adapters.hookfiles.files import (
    MAX_NOTE_BYTES,
    checked_uuid,
    json_bytes,
    loaded,
    told,
    write_file,
)
from undercroft.adapters.hookfiles.values import RunNote
from undercroft.errors import NotFoundError
from undercroft.model.schema import decode, encode


def read_note(state: Path, machine: str) -> RunNote | None:
    """Return what the hook noted of a machine that runs, None for nothing. Raises InputError."""
    path = state / "run" / f"{checked_uuid(machine)}.json"
    try:
        return decode(RunNote, loaded(path, MAX_NOTE_BYTES), str(path))
    except NotFoundError:
        return None


def write_note(state: Path, note: RunNote) -> None:
    """Replace the hook's note: once its network is open, `closed` is False and `taps` empty.

    A hook that finds a closed one when libvirt's daemon comes back holds its taps again.
    Raises InputError, OperationError.
    """
    path = state / "run" / f"{checked_uuid(note.machine)}.json"
    with told(path):
        write_file(path, json_bytes(encode(note)))
