"""Fast commits: what the guest's kernel logged between two full transactions, as operations.

A fast commit lists changed inodes, ranges of blocks and names, and ends with a checksum; several follow
one another in an area of their own behind the log. Only whole ones count. Follows ext4's "Fast commits"
and the scan in fs/ext4/fast_commit.c.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from undercroft.disks.ext4.checksum import chain_from_stored, crc32c, stored
from undercroft.disks.ext4.journal_log import Log
from undercroft.errors import InputError, UnsupportedError

ADD_RANGE = 1
DELETE_RANGE = 2
CREATE = 3
LINK = 4
UNLINK = 5
INODE = 6
_PADDING = 7
_TAIL = 8
_HEAD = 9
_TAG = Struct("<H H")
_TWO_WORDS = Struct("<I I")
_LEAST_BYTES = {
    ADD_RANGE: 16,
    DELETE_RANGE: 12,
    CREATE: 9,
    LINK: 9,
    UNLINK: 9,
    INODE: 132,
    _TAIL: 8,
    _HEAD: 8,
}
_MAX_OPERATIONS = 1 << 20


@dataclass(frozen=True, slots=True)
class Operation:
    """One change: `kind` is a tag, `value` its bytes, at least as long as the tag's fixed part."""

    kind: int
    value: bytes


def whole_commits(log: Log, sequence: int) -> tuple[Operation, ...]:
    """Return the operations of all whole fast commits that follow the last full transaction.

    Args:
        log: the journal.
        sequence: of the transaction that they belong to, the one after the last whole one.

    Raises:
        UnsupportedError: a tag or feature that this version does not know.
        InputError: the first of them is damaged, or a limit is passed.
    """
    whole: list[Operation] = []
    pending: list[Operation] = []
    chain = chain_from_stored(0)
    for kind, raw in _tags(log):
        value = raw[_TAG.size :]
        if kind == _HEAD:
            features, head_sequence = _TWO_WORDS.unpack_from(value)
            if features:
                raise UnsupportedError(f"ext journal: fast commits with features {features:#x}")
            if head_sequence != sequence:
                break
        elif kind == _TAIL:
            tail_sequence, found = _TWO_WORDS.unpack_from(value)
            if tail_sequence != sequence:
                break
            if found != stored(crc32c(raw[: _TAG.size + 4], chain)):
                if not whole:
                    raise InputError("ext journal: the checksum of the first fast commit is wrong")
                break
            whole += pending
            pending = []
            chain = chain_from_stored(0)
            continue
        elif kind != _PADDING:
            pending.append(Operation(kind, value))
        if len(whole) + len(pending) > _MAX_OPERATIONS:
            raise InputError(f"ext journal: more than {_MAX_OPERATIONS} operations in fast commits")
        chain = crc32c(raw, chain)
    return tuple(whole)


def _tags(log: Log) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, bytes with the tag's header) until the area ends or holds something else."""
    # jbd2 leaves one block between the log and the area.
    for position in range(log.superblock.end + 1, log.superblock.length):
        block = log.read(position)
        offset = 0
        while offset + _TAG.size <= len(block):
            kind, length = _TAG.unpack_from(block, offset)
            end = offset + _TAG.size + length
            if kind not in _LEAST_BYTES or length < _LEAST_BYTES[kind] or end > len(block):
                return
            yield kind, block[offset:end]
            offset = end
            if kind == _TAIL:
                break
