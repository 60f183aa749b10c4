"""The socket on which QEMU listens for a machine's channel, connected for the guest service.

libvirt names the path. What lies there may have been put there by a QEMU that a guest has taken over, and who
connects is root: so nothing but a socket is connected to, no symbolic link is followed at the end, and the
folder and name that were found have to be those that libvirt named.
"""

import os
import socket
import stat
from contextlib import closing
from pathlib import Path, PurePath

from undercroft.errors import OperationError

_TAIL = 2
"""Folder and name: "domain-7-web01/org.undercroft.channel.0". Folders above may be links of the system's."""


def connected(path: str) -> socket.socket:
    """Return a connected socket. It never waits: where somebody else has the line, it is the next in turn.

    Args:
        path: as the hypervisor has it.

    Raises:
        OperationError: nobody listens there (yet), or what lies there is not what was named.
    """
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    try:
        return _connected(path, found)
    finally:
        os.close(found)


def _connected(path: str, found: int) -> socket.socket:
    if not stat.S_ISSOCK(os.fstat(found).st_mode):
        raise OperationError(f"{path}: no socket; a machine's channel is one that QEMU listens on")
    real = str(Path(f"/proc/self/fd/{found}").readlink())
    if PurePath(real).parts[-_TAIL:] != PurePath(path).parts[-_TAIL:]:
        raise OperationError(f"{path}: it leads to {real}, which is none of this machine's")
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.setblocking(False)
        line.connect(f"/proc/self/fd/{found}")
    except OSError as error:
        with closing(line):
            raise OperationError(f"{path}: {error.strerror}") from error
    return line
