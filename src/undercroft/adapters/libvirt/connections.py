"""Connections to one libvirt that mend themselves: opened when first needed, anew when they have died.

A libvirt connection may be used by several threads at once; only opening and closing take the lock.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

from undercroft.adapters.libvirt import eventloop
from undercroft.adapters.libvirt.bindings import Connection, Libvirt, message
from undercroft.errors import OperationError

KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 5
"""A libvirtd that answers nothing for half a minute counts as gone."""


class Connections:
    """One connection for reading and one for commands.

    Args:
        libvirt: the loaded binding.
        uri: of this host.
    """

    def __init__(self, libvirt: Libvirt, uri: str) -> None:
        self._libvirt = libvirt
        self._uri = uri
        self._lock = threading.Lock()
        self._open: dict[bool, Connection] = {}
        eventloop.ensure_running(libvirt)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give the connection for reading; libvirt's error that leaves the block is an OperationError."""
        with self._given(commands=False) as connection:
            yield connection

    @contextlib.contextmanager
    def commanding(self) -> Iterator[Connection]:
        """Give the connection that may write, as `reading` does."""
        with self._given(commands=True) as connection:
            yield connection

    def open_for_events(self) -> Connection:
        """Return a connection of the caller's own, who closes it. Raises OperationError."""
        return self._opened(self._libvirt.openReadOnly)

    def close(self) -> None:
        """Close what is open; the next use opens it anew."""
        with self._lock:
            while self._open:
                with contextlib.suppress(self._libvirt.libvirtError):
                    self._open.popitem()[1].close()

    @contextlib.contextmanager
    def _given(self, *, commands: bool) -> Iterator[Connection]:
        try:
            yield self._living(commands=commands)
        except self._libvirt.libvirtError as error:
            raise OperationError(f"libvirt at {self._uri}: {message(error)}") from error

    def _living(self, *, commands: bool) -> Connection:
        with self._lock:
            connection = self._open.get(commands)
            if connection is None or not is_alive(self._libvirt, connection):
                # A dead one is only let go: another thread may be inside a call on it.
                opener = self._libvirt.open if commands else self._libvirt.openReadOnly
                connection = self._open[commands] = self._opened(opener)
            return connection

    def _opened(self, opener: Callable[[str], Connection]) -> Connection:
        try:
            connection = opener(self._uri)
        except self._libvirt.libvirtError as error:
            raise OperationError(
                f"libvirt at {self._uri}: {message(error)}; start libvirtd (systemctl start libvirtd, or"
                " virtqemud), or name another with -c URI"
            ) from error
        with contextlib.suppress(self._libvirt.libvirtError):  # a driver in this process has none
            connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        return connection


def is_alive(libvirt: Libvirt, connection: Connection) -> bool:
    """Tell whether the connection still stands, and whoever runs the machines is behind it.

    Where virtproxyd is between, the connection to it outlives the one that it has.
    """
    try:
        return connection.isAlive() == 1 and connection.getLibVersion() > 0
    except libvirt.libvirtError:
        return False


def raise_when_dead(libvirt: Libvirt, connection: Connection, error: Exception) -> None:
    """Raise `error` where it is the end of the connection, and no answer to what was asked."""
    if isinstance(error, libvirt.libvirtError) and not is_alive(libvirt, connection):
        raise error
