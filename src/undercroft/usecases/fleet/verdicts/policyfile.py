"""A policy from its file or folder, and the last good one kept while somebody edits it and over restarts."""

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
from undercroft.usecases.fleet.verdicts.keptpolicy import Texts, keep, kept_policy, kept_texts

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


def read_policy(path: Path, today: date, kept: Path | None = None) -> Policy:
    """Return the policy of a file or folder; of nothing the last good one, else the built-in one.

    Args:
        path: file or folder.
        today: the day, in UTC.
        kept: where the agent keeps the last good one, None to ask for none.

    Raises:
        InputError: one line for each mistake.
        OperationError: it cannot be read; that is not the same as nothing.
    """
    try:
        texts = read_texts(path)
    except NotFoundError:
        last = kept_policy(kept, today) if kept is not None else None
        return last or Policy()
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
    enforced. Nor does a restart: the texts of the last good policy are kept on disk, and a start that finds
    mistakes or nothing goes by them. A file that says `version: 1` and no more lifts everything.

    Attributes:
        policy: the one that holds.
        problem: why the files did not hold at the start, one line per mistake; "" where they did.
        unkept: why the policy that holds is not kept for a restart; "" where it is. Each look tries again.
    """

    def __init__(self, path: Path, today: Callable[[], date], kept: Path | None = None) -> None:
        """Read the policy for the first time.

        Args:
            path: file or folder.
            today: the day, in UTC.
            kept: where the last good one is kept for a restart, None for nowhere.

        Raises:
            InputError: one line for each mistake, and no good policy was kept.
            OperationError: it cannot be read, and no good policy was kept.
        """
        self._path = path
        self._today = today
        self._kept = kept
        self._to_keep: Texts = ()
        self._stamp = _stamp(path)
        self.problem = self.unkept = ""
        try:
            self.policy = self._read()
        except (InputError, NotFoundError, OperationError) as error:
            self.policy = self._stand_in(error)

    def refresh(self) -> Refreshed | None:
        """Return what came of changed files, None where none has changed since the last look."""
        self._keep()
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        before = self.policy.digest
        try:
            self.policy = self._read()
        except (InputError, NotFoundError, OperationError) as error:
            return Refreshed(self.policy, changed=False, problem=str(error))
        return Refreshed(self.policy, self.policy.digest != before)

    def _read(self) -> Policy:
        texts = read_texts(self._path)
        found = load_policy(texts, self._today())
        self._to_keep = texts
        self._keep()
        return found

    def _stand_in(self, error: InputError | NotFoundError | OperationError) -> Policy:
        """Return what a start goes by where the files are no policy. Raises `error` where nothing is kept."""
        try:
            last = kept_policy(self._kept, self._today()) if self._kept is not None else None
        except (InputError, OperationError) as damaged:
            # Never the built-in policy: there was another, and it may have refused.
            raise type(damaged)(f"{error}\n{damaged}") from error
        if last is not None:
            self.problem = str(error)
            return last
        if isinstance(error, NotFoundError):
            return Policy()
        raise error

    def _keep(self) -> None:
        """Keep the texts that are not kept yet. What fails is no reason to go without the policy."""
        if self._kept is None or not self._to_keep:
            return
        try:
            if not _is_kept(self._kept, self._to_keep):
                keep(self._kept, self._to_keep, self._today())
        except OperationError as error:
            self.unkept = str(error)
            return
        self._to_keep, self.unkept = (), ""


def _is_kept(kept: Path, texts: Texts) -> bool:
    """Tell whether these texts are kept already: then a full disk is no problem at a start."""
    try:
        return kept_texts(kept)[0] == list(texts)
    except (NotFoundError, InputError):
        return False


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
