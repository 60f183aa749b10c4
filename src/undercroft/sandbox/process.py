"""The warm process as the host holds it: started, waited for, ended, and asked for its last words.

Only cheap imports here and in `bubblewrap`: the process is started before everything else is loaded,
so that it comes up meanwhile.
"""

import os
import select
import signal
import socket

from undercroft.sandbox import bubblewrap

CONTROL_DESCRIPTOR = 3
"""The number that the server finds its control socket at."""

END_TIMEOUT_S = 2.0
MAX_STDERR_BYTES = 64 << 10


class SandboxProcess:
    """A running bubblewrap and the host's end of the server's control socket.

    It is killed by the kernel when the thread that started it ends, and ends by itself when the
    control socket is closed.

    Args:
        command: from `bubblewrap.command`.

    Raises:
        DeniedError: bubblewrap is not installed.
    """

    def __init__(self, command: list[str]) -> None:
        self.control, servers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stderr = os.memfd_create("undercroft-sandbox-stderr")
        actions = (
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, self._stderr, 2),
            (os.POSIX_SPAWN_DUP2, servers_end.fileno(), CONTROL_DESCRIPTOR),
        )
        try:
            # No environment; a process group of its own, as the terminal's Ctrl-C is the host's to handle.
            self._pid = os.posix_spawnp(command[0], command, {}, file_actions=actions, setpgroup=0)
        except OSError as error:
            self.control.close()
            os.close(self._stderr)
            raise bubblewrap.not_installed(error) from error
        finally:
            servers_end.close()
        self._pidfd: int | None = os.pidfd_open(self._pid)

    def end(self) -> None:
        """Wait for the end of a process that was told to end or is ending; kill it when it does not."""
        if self._pidfd is None:
            return
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        if not ended.poll(END_TIMEOUT_S * 1000):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._pidfd = None

    def last_words(self) -> str:
        """Return what bubblewrap and the server wrote to standard error, once they have ended."""
        self.end()
        return os.pread(self._stderr, MAX_STDERR_BYTES, 0).decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Kill the process and everything in it; it holds nothing worth keeping. To be called once."""
        self.control.close()
        if self._pidfd is not None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.end()
        os.close(self._stderr)
