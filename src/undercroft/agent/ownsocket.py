"""The socket of the agent, which only root and the agent's own user reach."""

import os
import socket
import stat
import struct
from pathlib import Path

from undercroft.errors import OperationError, StateError

_CREDENTIALS = struct.Struct("3i")


def listening(address: Path, most: int) -> socket.socket:
    """Return a listening socket; one that an agent which has ended left there is replaced.

    Args:
        address: its path, at most 107 bytes.
        most: how many may wait to be taken.

    Raises:
        OperationError: the folder or the socket cannot be made.
        StateError: another agent answers there, or something else stands there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        address.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        address.parent.chmod(0o700)
        _remove_stale(address)
        listener.bind(str(address))
        address.chmod(0o600)
        listener.listen(most)
    except OSError as error:
        listener.close()
        raise OperationError(f"{address}: {error.strerror or error}") from error
    except StateError:
        listener.close()
        raise
    return listener


def _remove_stale(address: Path) -> None:
    try:
        found = address.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StateError(f"{address}: is there and is no socket: move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(str(address)) == 0:
            raise StateError(f"{address}: another agent answers there: stop it first")
    address.unlink()


def is_trusted(peer: socket.socket) -> bool:
    """Tell whether root or the agent's own user is at the other end."""
    size = _CREDENTIALS.size
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in {0, os.geteuid()}
