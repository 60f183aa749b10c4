"""The socket of QEMU's NBD server: connected to with care, and left before the server stops.

The folder of the socket belongs to the QEMU process, and a guest that took that over could put a link there
to a socket that only root may use. So no link is followed, and the process that listens must run as the
folder's owner.

QEMU 7.2.22 (with the fixes for CVE-2024-7409) **freezes the guest for good** when its NBD server is stopped
while a client has not finished the handshake. So every connection is hung up first, and the hang-up of the
other side is waited for; copies of the socket in other processes are hung up with it.
"""

import contextlib
import os
import socket
import stat
import threading
import time
from pathlib import Path

from undercroft.errors import DeniedError, OperationError

TIMEOUT_S = 15.0
"""For connecting and for hanging up; QEMU drops a client that has not finished the handshake after 10 s."""
_DRAIN_BYTES = 1 << 20
_CREDENTIALS_BYTES = 12


class Endpoint:
    """One NBD server and all connections to it that were handed out.

    Args:
        path: its socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handed_out: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_open = True

    def connect(self) -> socket.socket:
        """Return a connection, blocking and without a timeout; the caller closes it.

        Raises:
            DeniedError: the path is no socket, or another user listens there.
            OperationError: nobody listens, or the connections have been hung up.
        """
        with self._lock:
            if not self._is_open:
                raise OperationError(f"{self.path}: the point in time is over")
            return self._new_connection()

    def hang_up(self) -> None:
        """End all connections, in whatever process they are, and wait until the server has noticed."""
        deadline = time.monotonic() + TIMEOUT_S
        with self._lock:
            self._is_open = False
            for connection in self._handed_out:
                with contextlib.suppress(OSError):  # the server was first: nothing is left to wait for
                    connection.shutdown(socket.SHUT_WR)
            while self._handed_out:
                with self._handed_out.pop() as connection, contextlib.suppress(OSError):
                    connection.settimeout(max(deadline - time.monotonic(), 0.001))
                    while connection.recv(_DRAIN_BYTES):
                        pass

    def remove(self) -> None:
        """Remove the socket from its folder."""
        self.path.unlink(missing_ok=True)

    def _new_connection(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(TIMEOUT_S)
            self._connect(connection)
            connection.settimeout(None)
            self._handed_out.append(connection.dup())
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError):
                raise OperationError(f"{self.path}: {error.strerror or error}") from error
            raise
        return connection

    def _connect(self, connection: socket.socket) -> None:
        owner = self.path.parent.stat().st_uid
        handle = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(handle).st_mode):
                raise DeniedError(f"{self.path}: not a socket; its QEMU process may be compromised")
            connection.connect(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS_BYTES)
        listener = int.from_bytes(credentials[4:8], "little")  # struct ucred: pid, uid, gid
        if listener != owner:
            raise DeniedError(
                f"{self.path}: user {listener} listens there, but its folder belongs to user {owner}"
            )
