"""Files that are copies of each other: what the reader said of one holds for the other.

A linked clone that never ran is a file of a few hundred KiB, the same for a thousand clones. Guarantees:
two files have the same mark only where all their bytes are equal (SHA-256), or where they are one file that
nobody has written to since. The reader is a function of the files' bytes and of how they are given to it, so
the same marks get the same answer. Nothing is parsed here, and nothing that a reader said chooses what is
compared: a child that an image took over speaks for copies of that image alone.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

from undercroft.errors import InputError
from undercroft.model.disk import ImageInfo
from undercroft.model.fleet import FileIdentity
from undercroft.model.job import Replayed
from undercroft.usecases.identity import identify, identity_key
from undercroft.usecases.opening import OpenFile

WHOLE_BYTES = 1 << 20
"""A file of up to this size is compared by all its bytes: an overlay that was never written is smaller."""

MAX_ANSWERS = 256

Answer = TypeVar("Answer")
Mark = tuple[object, ...]
"""Equal for equal bytes."""


def mark(file: OpenFile, begun_at_ns: int) -> Mark | None:
    """Return the mark of an open file, None where it is large and nothing proves that it stays as it is.

    Args:
        file: an open image; its bytes are hashed, never parsed.
        begun_at_ns: as in `identify`.

    Raises:
        InputError: it shrank, or cannot be read.
    """
    if file.size_bytes <= WHOLE_BYTES:
        return "bytes", file.size_bytes, _digest(file)
    identity = identify(file, begun_at_ns)
    return ("file", *identity_key(identity)) if identity.proves else None


def marks(files: Sequence[OpenFile], begun_at_ns: int) -> Mark | None:
    """Return the marks of several files as one, None where one has none. Raises as `mark` does."""
    found = [mark(file, begun_at_ns) for file in files]
    return None if None in found else tuple(found)


def settled(identities: Sequence[FileIdentity], files: Sequence[OpenFile]) -> bool:
    """Tell whether nobody wrote to files since before a read: their marks are of what was read."""
    return all(identity.proves for identity in identities) and not any(file.changed() for file in files)


class Answers(Generic[Answer]):
    """Answers by what they follow from, least recently used ones forgotten first; for several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Mark, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, place: Mark) -> Answer | None:
        """Return the answer that follows, None where it is not known."""
        with self._lock:
            found = self._known.get(place)
            if found is not None:
                self._known.move_to_end(place)
            return found

    def keep(self, place: Mark, answer: Answer) -> None:
        """Keep an answer. `settled` has to have said that the marks in `place` are of what was read."""
        with self._lock:
            self._known[place] = answer
            while len(self._known) > MAX_ANSWERS:
                self._known.popitem(last=False)


class Copies:
    """What the reader said lately of files that may have copies."""

    def __init__(self) -> None:
        self.inspected: Answers[ImageInfo] = Answers()
        self.replayed: Answers[Replayed] = Answers()


def _digest(file: OpenFile) -> str:
    try:
        data = os.pread(file.descriptor, file.size_bytes + 1, 0)
    except OSError as error:
        raise InputError(f"{file.path}: cannot be read: {error.strerror}") from error
    if len(data) != file.size_bytes:
        raise InputError(f"{file.path}: changed its size while it was opened")
    return hashlib.sha256(data).hexdigest()
