"""The spool of the hook's events.

What stands there was written by the hook as root, and is checked all the same.
"""

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from undercroft.adapters.hookfiles.files import UUID, loaded, told
from undercroft.errors import InputError
from undercroft.model.execution import HookEvent
from undercroft.model.schema import decode

BAD_FOLDER = "bad"
MAX_EVENT_BYTES = 64 << 20
"""A domain's XML of 8 MiB, each character of which JSON may write with six."""
MAX_XML_CHARS = 8 << 20
SAMPLE_BYTES = 1 << 20
HALF_WRITTEN_S = 600.0

_EVENT_NAME = re.compile(r"\d{20}-[0-9a-f]{32}\.json")


def checked_event_name(untrusted: str) -> str:
    """Return the name of a spool file, which is a plain name then. Raises InputError."""
    if not _EVENT_NAME.fullmatch(untrusted):
        raise InputError(
            "not the name of a spool file: 20 digits, '-', 32 hexadecimal digits, '.json' expected"
        )
    return untrusted


def spooled(state: Path) -> list[str]:
    """Return the names of the events that wait, oldest first. Raises OperationError."""
    with told(state / "spool"):
        return sorted(name for name in os.listdir(state / "spool") if _EVENT_NAME.fullmatch(name))


def read_event(state: Path, name: str) -> HookEvent:
    """Return an event of the spool.

    Raises:
        NotFoundError: it is not there any more.
        InputError: the name or the content is malformed; `set_aside` it.
        OperationError: it cannot be read.
    """
    path = state / "spool" / checked_event_name(name)
    untrusted = loaded(path, MAX_EVENT_BYTES)
    # The XML may be longer than the schema lets any other text be.
    xml = untrusted.pop("xml", None)
    if not isinstance(xml, str) or len(xml) > MAX_XML_CHARS:
        raise InputError(f"{path}: xml: a text of at most {MAX_XML_CHARS} characters expected")
    event = replace(decode(HookEvent, {**untrusted, "xml": ""}, str(path)), xml=xml)
    if not UUID.fullmatch(event.uuid) or not re.fullmatch(r"[0-9a-f]{32}", event.ident):
        raise InputError(f"{path}: uuid or ident is not one")
    return event


def set_aside(state: Path, name: str) -> Path:
    """Move a malformed file out of the way and return where it lies now. Raises OperationError."""
    target = state / "spool" / BAD_FOLDER / checked_event_name(name)
    with told(target):
        (state / "spool" / name).replace(target)
    return target


def sweep(state: Path, now: datetime) -> None:
    """Remove what hooks that were killed left half written; a hook lives for less than a minute or two.

    Raises OperationError.
    """
    with told(state):
        for folder in (state / "spool", state / "run"):
            for entry in os.scandir(folder):
                if not entry.name.startswith("."):
                    continue
                with suppress(FileNotFoundError):  # a hook that is at work has just given it its name
                    is_old = now.timestamp() - entry.stat(follow_symlinks=False).st_mtime > HALF_WRITTEN_S
                    if entry.is_file(follow_symlinks=False) and is_old:
                        Path(entry.path).unlink(missing_ok=True)


def remove_event(state: Path, name: str) -> None:
    """Remove an event that is on record. Raises OperationError."""
    path = state / "spool" / checked_event_name(name)
    with told(path):
        path.unlink(missing_ok=True)


def save_sample(file: int) -> str:
    """Return `SaveImage.sample` of an open save image, as the hook counts it. Raises OSError."""
    size = os.fstat(file).st_size
    head = os.pread(file, SAMPLE_BYTES, 0)
    tail = os.pread(file, SAMPLE_BYTES, max(size - SAMPLE_BYTES, 0))
    return hashlib.sha256(size.to_bytes(8, "big") + head + tail).hexdigest()
