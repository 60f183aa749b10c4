"""A guest's socket: bounded reads, and one bounded buffer of what waits to be sent."""

import errno
import fcntl
import os
import socket
import stat
import struct
import termios

from undercroft.errors import InputError

READ_BYTES = 16 * 1024
"""Of one guest in one turn: the costliest such piece takes a few milliseconds (docs/CHANNEL.md)."""

HIGH_BYTES = 256 * 1024
"""What waits to be sent, above which nothing more is read of the guest."""

MOST_BYTES = 4 * 1024 * 1024
"""What waits to be sent, above which the session is over. 64 answers of 32 KiB are below it."""


class Link:
    """One connected socket of a machine's channel."""

    def __init__(self, line: socket.socket) -> None:
        """Take a socket for oneself.

        Raises InputError for what is no connected stream socket of this host.
        """
        self._line = line
        self.out = bytearray()
        self.gone = False
        self.polled = 0
        """What the loop watches it for."""
        if line.family != socket.AF_UNIX or line.type != socket.SOCK_STREAM:
            raise InputError("a guest's channel is a connected stream socket in the file system")
        try:
            line.getpeername()
        except OSError as error:
            raise InputError(
                f"the socket of the guest's channel is not connected: {error.strerror}"
            ) from error
        line.setblocking(False)

    def fileno(self) -> int:
        """Return its descriptor, -1 after `close`."""
        return self._line.fileno()

    def read(self, most: int = READ_BYTES) -> bytes:
        """Return what came, b"" for nothing now; `gone` says that the other end is no more."""
        try:
            data = self._line.recv(most)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.gone = True
        return data

    def flush(self) -> None:
        """Send what waits, as far as the other end takes it now."""
        out = self.out
        while out and not self.gone:
            try:
                del out[: self._line.send(out)]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EINTR:
                    self.gone = True

    def begin(self, data: bytes) -> None:
        """Let a session's first bytes take the place of all that waits: they begin with a zero byte."""
        self.out[:] = data

    @property
    def is_drained(self) -> bool:
        """Whether QEMU has taken all that was sent. SIOCOUTQ is TIOCOUTQ (unix(7), asm/sockios.h)."""
        if self.out:
            return False
        try:
            answer = fcntl.ioctl(self._line, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return True
        (count,) = struct.unpack("=i", answer)
        return bool(count == 0)

    def close(self) -> None:
        """Let it go. Twice is no error."""
        self.gone = True
        self._line.close()


def adopt(descriptor: int) -> Link:
    """Return the link of a descriptor that somebody passed; it is closed where it is not fit for one.

    Raises InputError for what is no connected stream socket of this host.
    """
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("what was passed with the order is no socket")
    line = socket.socket(fileno=descriptor)
    try:
        return Link(line)
    except InputError:
        line.close()
        raise
