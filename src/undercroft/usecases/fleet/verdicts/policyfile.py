"""A policy from its file or folder, and the last good one kept while somebody edits it."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.steady.nodes import MAX_BYTES
from undercroft.steady.policy import Policy
from undercroft.steady.reading import MAX_FILES, load_policy

_Stamp = tuple[tuple[str, int, int, int], ...]


def read_texts(path: Path) -> list[tuple[str, bytes]]:
    """Return name and bytes of a policy file, or of the *.yaml files of a folder in the order of their names.

    Args:
        path: of the administrator. Files are named by it and, in a folder, by their own name.

    Raises:
        NotFoundError: there is nothing, or no *.yaml in the folder.
        InputError: there is no regular file of that name, one is too large, or the folder holds too many.
        OperationError: it cannot be read.
    """
    try:
        return [(str(file), _bytes(file)) for file in _files(path)]
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no policy there") from error
    except OSError as error:
        raise OperationError(f"{error.filename or path}: {error.strerror}") from error


def read_policy(path: Path, today: date) -> Policy:
    """Return the policy of a file or folder; the built-in one where there is nothing.

    Raises:
        InputError: one line for each mistake.
        OperationError: it cannot be read; that is not the same as nothing.
    """
    try:
        texts = read_texts(path)
    except NotFoundError:
        return Policy()
    return load_policy(texts, today)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of looking again.

    Attributes:
        policy: the one that holds.
        changed: it says something else than before.
        problem: why what lies there now does not hold, one line per mistake; "" when it does.
    """

    policy: Policy
    changed: bool
    problem: str = ""


class PolicyKeeper:
    """The policy of a path: read again when its files change, kept where they are wrong or gone.

    That the file is gone does not bring the built-in policy back: who removes a file must not lift what it
    enforced. A restart does.
    """

    def __init__(self, path: Path, today: Callable[[], date]) -> None:
        """Read the policy for the first time. Raises as `read_policy`.

        Args:
            path: file or folder.
            today: the day, in UTC.
        """
        self._path = path
        self._today = today
        self._stamp = _stamp(path)
        self.policy = read_policy(path, today())

    def refresh(self) -> Refreshed | None:
        """Return what came of changed files, None where none has changed since the last look."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            found = load_policy(read_texts(self._path), self._today())
        except (InputError, NotFoundError, OperationError) as error:
            return Refreshed(self.policy, changed=False, problem=str(error))
        changed = found.digest != self.policy.digest
        self.policy = found
        return Refreshed(found, changed)


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix == ".yaml" and file.name[0] != ".")
    if not files:
        raise NotFoundError(f"{path}: no *.yaml there")
    if len(files) > MAX_FILES:
        raise InputError(f"{path}: {len(files)} files, at most {MAX_FILES} are possible")
    return files


def _bytes(file: Path) -> bytes:
    """Return the content, one byte more than the limit at most; never waits for a pipe."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{file}: no regular file; a policy is a YAML file or a folder of them")
        return stream.read(MAX_BYTES + 1)


def _stamp(path: Path) -> _Stamp:
    """Return what differs when the files were written, replaced, added or removed."""
    try:
        return tuple(
            (str(file), found.st_ino, found.st_size, found.st_ctime_ns)
            for file in _files(path)
            for found in (file.stat(),)
        )
    except (OSError, InputError, NotFoundError):
        return ()
