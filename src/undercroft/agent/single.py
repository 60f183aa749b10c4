"""One agent for one folder of state: a second one would take the first one's events out of its spool."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from undercroft.errors import OperationError, StateError

LOCK_NAME = "agent.lock"


@contextmanager
def only_agent(state: Path) -> Iterator[None]:
    """Be the only agent of a folder while the block runs; the kernel ends it with the process.

    Raises:
        StateError: another one runs.
        OperationError: the lock's file cannot be had.
    """
    path = state / LOCK_NAME
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise StateError(f"{path}: another agent runs with {state}: stop it first") from error
    try:
        yield
    finally:
        os.close(file)
