"""The journal's superblock, its log as numbered blocks, and what its control blocks list.

Every field that a later step relies on is checked when `JournalSuperblock.parse` returns.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from struct import unpack_from
from typing import NamedTuple

from undercroft.disks.ext4 import journal_layout as layout
from undercroft.disks.ext4.changes import Run
from undercroft.disks.ext4.checksum import check, crc32c, stored
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError


@dataclass(frozen=True, slots=True)
class JournalSuperblock:
    """What the journal's checked superblock says.

    Attributes:
        length: blocks of the journal, the fast-commit area included.
        first, end: the log is a ring of the blocks from `first` up to `end`.
        sequence, start: number and place of the first transaction; a start of 0 means nothing to replay.
        error: what the guest's kernel noted when it gave the journal up, 0 for nothing.
        has_commit_crc32: commit blocks carry a checksum of the transaction (version 1).
        has_async_commits: a commit block may be written before what it commits.
        has_64bit, has_tags_v3: how tags and revoke records are laid out.
        has_fast_commits: whether the blocks from `end` on may hold fast commits.
        seed: start of every checksum of version 2 and 3, None without them.
    """

    length: int
    first: int
    end: int
    sequence: int
    start: int
    error: int
    has_commit_crc32: bool
    has_async_commits: bool
    has_64bit: bool
    has_tags_v3: bool
    has_fast_commits: bool
    seed: int | None

    @property
    def log_blocks(self) -> int:
        """Return the number of blocks in the ring."""
        return self.end - self.first

    @property
    def tag_bytes(self) -> int:
        """Return the size of a tag, without the UUID that may follow it."""
        if self.has_tags_v3:
            return layout.TAG_V3.size
        # The kernel counts the checksum of version 2 a second time.
        return layout.TAG.size + (2 if self.seed is not None else 0) + (4 if self.has_64bit else 0)

    @property
    def tail_bytes(self) -> int:
        """Return how many bytes at the end of descriptor and revoke blocks hold their checksum."""
        return layout.TAIL_BYTES if self.seed is not None else 0

    @classmethod
    def parse(cls, untrusted: bytes, block_bytes: int, file_blocks: int) -> "JournalSuperblock":
        """Return the superblock in `untrusted`, the journal's first 1,024 bytes.

        Args:
            untrusted: from the guest.
            block_bytes: the filesystem's block size, which the journal must share.
            file_blocks: how many blocks the journal's file has.

        Raises:
            UnsupportedError: an incompatible feature that this version does not know.
            InputError: no superblock, a wrong checksum, or values that contradict one another.
        """
        magic, kind, size, length, first, sequence, start, error, *features, uuid = (
            layout.SUPERBLOCK_HEAD.unpack_from(untrusted)
        )
        if magic != layout.MAGIC or kind not in (layout.SUPERBLOCK_V1, layout.SUPERBLOCK_V2):
            raise InputError(f"ext journal: no superblock: magic {magic:#x}, type {kind}")
        compatible, incompatible = features if kind == layout.SUPERBLOCK_V2 else (0, 0)
        if incompatible & ~layout.INCOMPAT_SUPPORTED:
            unknown = incompatible & ~layout.INCOMPAT_SUPPORTED
            raise UnsupportedError(f"ext journal: incompatible feature bits {unknown:#x}")
        has_v2 = bool(incompatible & layout.INCOMPAT_CHECKSUM_V2)
        has_v3 = bool(incompatible & layout.INCOMPAT_CHECKSUM_V3)
        has_crc32 = bool(compatible & layout.COMPAT_CHECKSUM)
        if has_v2 + has_v3 + has_crc32 > 1:
            raise InputError("ext journal: checksums of several versions at once")
        if has_v2 or has_v3:
            _check_checksum(untrusted)
        has_fast_commits = bool(incompatible & layout.INCOMPAT_FAST_COMMIT)
        end = length - (_fast_commit_blocks(untrusted) if has_fast_commits else 0)
        if size != block_bytes or length > file_blocks:
            raise InputError(
                f"ext journal: {length} blocks of {size} in a file of {file_blocks} of {block_bytes}"
            )
        if not 0 < first < end or (start and not first <= start < end):
            raise InputError(f"ext journal: a log from {first} to {end} that starts at {start}")
        return cls(
            length=length,
            first=first,
            end=end,
            sequence=sequence,
            start=start,
            error=error,
            has_commit_crc32=has_crc32,
            has_async_commits=bool(incompatible & layout.INCOMPAT_ASYNC_COMMIT),
            has_64bit=bool(incompatible & layout.INCOMPAT_64BIT),
            has_tags_v3=has_v3,
            has_fast_commits=has_fast_commits,
            seed=crc32c(uuid) if has_v2 or has_v3 else None,
        )


def _check_checksum(untrusted: bytes) -> None:
    offset = layout.SUPERBLOCK_CHECKSUM_OFFSET
    found = int.from_bytes(untrusted[offset : offset + 4], "big")
    blanked = untrusted[:offset] + b"\0\0\0\0" + untrusted[offset + 4 : layout.SUPERBLOCK_BYTES]
    check(found, stored(crc32c(blanked)), "ext journal: superblock")


def _fast_commit_blocks(untrusted: bytes) -> int:
    offset = layout.FAST_COMMIT_BLOCKS_OFFSET
    return int.from_bytes(untrusted[offset : offset + 4], "big") or layout.DEFAULT_FAST_COMMIT_BLOCKS


class Log:
    """The journal's file, as numbered blocks of a volume."""

    def __init__(self, source: BlockSource, block_bytes: int, runs: Iterable[Run], file_blocks: int) -> None:
        self._source = source
        self._block_bytes = block_bytes
        self._runs: list[Run] = []
        for run in runs:
            if len(self._runs) >= layout.MAX_RUNS:
                raise InputError(f"ext journal: its file lies in more than {layout.MAX_RUNS} pieces")
            self._runs.append(run)
        self._firsts = [logical for logical, _, _ in self._runs]
        self.superblock = JournalSuperblock.parse(
            self._source.read(self.offset(0), layout.SUPERBLOCK_BYTES), block_bytes, file_blocks
        )

    def offset(self, position: int) -> int:
        """Return the byte offset in the volume of journal block `position`. Raises InputError at a hole."""
        index = bisect_right(self._firsts, position) - 1
        if index >= 0:
            logical, length, physical = self._runs[index]
            if physical and position < logical + length:
                return (physical + position - logical) * self._block_bytes
        raise InputError(f"ext journal: block {position} is a hole in its file")

    def read(self, position: int) -> bytes:
        """Return journal block `position`. Raises InputError."""
        return self._source.read(self.offset(position), self._block_bytes)

    def advance(self, position: int, steps: int) -> int:
        """Return the place `steps` blocks after `position` in the ring."""
        superblock = self.superblock
        return superblock.first + (position - superblock.first + steps) % superblock.log_blocks

    def has_good_tail(self, block: bytes) -> bool:
        """Return whether the checksum that ends a descriptor or revoke block is right, or not in use."""
        if self.superblock.seed is None:
            return True
        found = int.from_bytes(block[-layout.TAIL_BYTES :], "big")
        return found == stored(crc32c(block[: -layout.TAIL_BYTES] + b"\0\0\0\0", self.superblock.seed))


class Tag(NamedTuple):
    """One block that a descriptor block announces; `checksum` has 32 bits in version 3, else 16."""

    block: int
    is_escaped: bool
    checksum: int


def tags(block: bytes, superblock: JournalSuperblock) -> list[Tag]:
    """Return the tags of a descriptor block, in the order of the data blocks that follow it."""
    found = []
    end = len(block) - superblock.tail_bytes
    offset = layout.HEADER_BYTES
    while offset + superblock.tag_bytes <= end:
        if superblock.has_tags_v3:
            number, flags, high, checksum = layout.TAG_V3.unpack_from(block, offset)
        else:
            number, checksum, flags = layout.TAG.unpack_from(block, offset)
            high = unpack_from(">I", block, offset + layout.TAG.size)[0] if superblock.has_64bit else 0
        number |= high << 32 if superblock.has_64bit else 0
        found.append(Tag(number, bool(flags & layout.TAG_ESCAPED), checksum))
        offset += superblock.tag_bytes
        if not flags & layout.TAG_SAME_UUID:
            offset += layout.TAG_UUID_BYTES
        if flags & layout.TAG_LAST:
            break
    return found


def revoked_blocks(block: bytes, superblock: JournalSuperblock) -> tuple[int, ...]:
    """Return the blocks that a revoke block lists. Raises InputError when it claims more than it holds."""
    (used,) = layout.REVOKE_COUNT.unpack_from(block, layout.HEADER_BYTES)
    if used > len(block) - superblock.tail_bytes:
        raise InputError(f"ext journal: a revoke block with {used} bytes of records")
    code, size = ("Q", 8) if superblock.has_64bit else ("I", 4)
    count = max(0, used - layout.REVOKE_HEADER_BYTES) // size
    return unpack_from(f">{count}{code}", block, layout.REVOKE_HEADER_BYTES)
