"""Reading one table while others change theirs all the time, faster than it can be read.

The kernel's generation is of all tables together, so that a program that adds to a set of its own makes every
reading one of several generations. Who listens to the kernel's events knows better: what was read is of one
state where nothing of our table has happened meanwhile, and no chain or table has come or gone (they share a
list, in which a dump counts its way).
Source: net/netfilter/nf_tables_api.c of Linux 6.18, nf_tables_commit, nf_tables_dump_chains.
"""

import errno
from collections.abc import Collection
from types import TracebackType

from undercroft.adapters.netlinkcodec import attributes, messages
from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.failures import failure
from undercroft.adapters.nftables.wire import DATAGRAM_BYTES, Channel

EVENT_BYTES = 32 << 20
"""Room for events that come while a table is read: what finds none counts as a change of ours."""

_GROUPS = 1 << numbers.GROUP_NFTABLES - 1
_FAMILY_BYTES = 4
_TABLE = 1
"""The attribute that names the table, in events of every kind but that of a generation."""

_LISTED = frozenset({numbers.NEW_TABLE, numbers.DELETE_TABLE, numbers.NEW_CHAIN, numbers.DELETE_CHAIN})


class Bystander:
    """Sees what happens to tables from the moment when it is made."""

    def __init__(self, table: str, own: Collection[int] | None = None) -> None:
        """Listen.

        Args:
            table: that matters.
            own: port numbers of the sockets whose changes of the table are known; others' chains and tables
                then do not matter, as nothing is read. It may change. None where a table is read.

        Raises:
            DeniedError, OperationError: no events can be had.
        """
        self._own = own
        self._name = table.encode() + b"\0"
        self._disturbed = False
        self._events = Channel(_GROUPS, EVENT_BYTES)
        self._events.socket.setblocking(False)

    def __enter__(self) -> "Bystander":
        return self

    def close(self) -> None:
        """Listen no more."""
        self._events.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()

    def calm(self, channel: Channel) -> bool:
        """Tell whether all that has happened until now is of no concern to who has read the table."""
        # Whose change can be seen already may not have told of it yet: wait until it has.
        channel.settle()
        while not self._disturbed:
            try:
                data = self._events.socket.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise failure(error.errno or 0, "events of nftables") from error
                self._disturbed = True
                break
            self._disturbed = self._concerns(data)
        return False

    def _concerns(self, data: bytes) -> bool:
        for event in messages(data):
            kind = event.kind & 0xFF
            if kind == numbers.NEW_GENERATION:
                continue
            if len(event.body) < _FAMILY_BYTES or (kind in _LISTED and self._own is None):
                return True
            if self._own is not None and event.port in self._own:
                continue
            named = dict(attributes(event.body[_FAMILY_BYTES:])).get(_TABLE, self._name)
            if event.body[0] == numbers.BRIDGE and named == self._name:
                return True
        return False
