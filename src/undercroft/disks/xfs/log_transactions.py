"""Transactions put together from the operations of records.

A transaction's operations bear its number and may lie in several records, between those of others; what does
not fit a record goes on in the next. Only what is committed is given out. Follows xlog_recover_process_ophdr
and xlog_recover_add_to_trans of the kernel's fs/xfs/xfs_log_recover.c.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from undercroft.disks.xfs import log_layout as layout
from undercroft.disks.xfs.log import Record
from undercroft.errors import InputError

Region = bytes | bytearray


@dataclass(slots=True)
class Item:
    """One item of a transaction: a description, and the regions that it speaks of.

    Attributes:
        expected: how many regions it has, the description included.
        regions: those that were found.
    """

    expected: int
    regions: list[Region] = field(default_factory=list)

    @property
    def kind(self) -> int:
        """The item's type, one of `log_layout`."""
        kind: int = layout.ITEM.unpack_from(self.regions[0])[0]
        return kind


@dataclass(slots=True)
class Transaction:
    """A transaction.

    Attributes:
        place: cycle and position of the record in which it began, as one number.
        items: in the order in which they were logged.
        size_bytes: what it takes in memory.
    """

    place: int
    header: bytearray = field(default_factory=bytearray)
    items: list[Item] = field(default_factory=list)
    size_bytes: int = 0


class Transactions:
    """Takes records in the order of the log."""

    def __init__(self) -> None:
        self._open: dict[int, Transaction] = {}
        self._pending_bytes = 0
        self._operations = 0

    def add(self, record: Record, body: bytearray) -> Iterator[Transaction]:
        """Yield the transactions that are committed in `record`.

        Raises InputError where its operations are malformed or a limit is passed; also midway.
        """
        where = f"xfs log: the record at block {record.position}"
        self._operations += record.operations
        if self._operations > layout.MAX_OPERATIONS:
            raise InputError(f"xfs log: more than {layout.MAX_OPERATIONS} operations")
        offset, end = 0, len(body)
        unpack = layout.OPERATION.unpack_from
        for _ in range(record.operations):
            if offset + layout.OPERATION_BYTES > end:
                return  # as the kernel does: a count that is too high meets the end
            number, length, client, flags = unpack(body, offset)
            offset += layout.OPERATION_BYTES
            if client not in layout.CLIENTS or offset + length > end:
                raise InputError(f"{where}: an operation of {length} bytes for client {client:#x}")
            transaction = self._open.get(number)
            if transaction is None:
                if flags & layout.START:
                    self._start(number, record.place)
            elif self._take(transaction, body[offset : offset + length], flags, where):
                del self._open[number]
                self._pending_bytes -= transaction.size_bytes
                if flags & layout.COMMIT:
                    yield _whole(transaction, where)
            offset += length

    def _start(self, number: int, place: int) -> None:
        if len(self._open) >= layout.MAX_TRANSACTIONS:
            raise InputError(f"xfs log: more than {layout.MAX_TRANSACTIONS} transactions at once")
        self._open[number] = Transaction(place)

    def _take(self, transaction: Transaction, data: bytearray, flags: int, where: str) -> bool:
        """Add an operation to its transaction; return whether that ends it."""
        flags &= ~layout.END
        if flags & layout.CONTINUES:
            flags &= ~layout.CONTINUED
        if flags in (layout.COMMIT, layout.UNMOUNT):
            return True
        cost = len(data) + layout.OPERATION_COST_BYTES
        self._pending_bytes += cost
        transaction.size_bytes += cost
        if self._pending_bytes > layout.MAX_PENDING_BYTES:
            raise InputError(f"xfs log: more than {layout.MAX_PENDING_BYTES} bytes are in open transactions")
        if flags in (0, layout.CONTINUED):
            if data:
                _add(transaction, data, where)
        elif flags == layout.CONTINUES:
            _continue(transaction, data, where)
        else:
            raise InputError(f"{where}: an operation with flags {flags:#x}")
        return False


def _add(transaction: Transaction, data: bytearray, where: str) -> None:
    if len(transaction.header) < layout.TRANSACTION_HEADER_BYTES:
        _add_header(transaction, data, where)
        return
    items = transaction.items
    if not items or len(items[-1].regions) == items[-1].expected:
        if len(data) < layout.ITEM.size:
            raise InputError(f"{where}: an item of {len(data)} bytes")
        _, count = layout.ITEM.unpack_from(data)
        if not 0 < count <= layout.MAX_REGIONS:
            raise InputError(f"{where}: an item of {count} regions")
        items.append(Item(count))
    items[-1].regions.append(bytes(data))


def _add_header(transaction: Transaction, data: bytearray, where: str) -> None:
    transaction.header += data
    if len(transaction.header) > layout.TRANSACTION_HEADER_BYTES:
        raise InputError(f"{where}: a transaction's header of {len(transaction.header)} bytes")
    if int.from_bytes(transaction.header[:4], "little") != layout.TRANSACTION_MAGIC:
        raise InputError(f"{where}: a transaction that begins with {bytes(transaction.header[:4])!r}")


def _continue(transaction: Transaction, data: bytearray, where: str) -> None:
    if not transaction.items:
        _add_header(transaction, data, where)
        return
    regions = transaction.items[-1].regions
    if len(regions[-1]) + len(data) > layout.MAX_REGION_BYTES:
        raise InputError(f"{where}: a region of over {layout.MAX_REGION_BYTES} bytes")
    if not isinstance(regions[-1], bytearray):
        regions[-1] = bytearray(regions[-1])
    regions[-1] += data


def _whole(transaction: Transaction, where: str) -> Transaction:
    if any(len(item.regions) != item.expected for item in transaction.items):
        raise InputError(f"{where}: a transaction with an item that is not whole is committed")
    return transaction
