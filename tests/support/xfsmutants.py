"""A worker that reads mutants of an XFS image under limits, and says what became of each.

    xfsmutants.py IMAGE FIRST COUNT

prints one JSON object: seed -> "same", "refused", "wrong" or what crashed it. Only metadata that is in use is
damaged: superblock, inodes, blocks of directories, trees and symlinks, the part of the log that is replayed.
"""

import json
import resource
import signal
import sys
from pathlib import Path

from extmutants import MEMORY_LIMIT_BYTES, digest_tree, judge
from mutants import Family, mutate

from undercroft.disks import xfs
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BytesSource
from undercroft.disks.xfs import replay
from undercroft.disks.xfs import superblock as superblocks
from undercroft.disks.xfs.content import Content
from undercroft.disks.xfs.inode import Inode
from undercroft.disks.xfs.log_ends import find_ends

Areas = list[tuple[int, int]]


class Recorder(BytesSource):
    """A source that remembers what was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.ranges: Areas = []

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, and remember where they are."""
        self.ranges.append((offset, length))
        return super().read(offset, length)


def areas(image: bytes) -> tuple[tuple[int, int], ...]:
    """Return where the metadata in use lies; inodes, blocks and log by turns count for about as much."""
    source = Recorder(image)
    superblock, _ = superblocks.find(source)
    filesystem = xfs.open_filesystem(source)
    inodes, others = [], []
    pending, seen = [filesystem.root], set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        group, inner = divmod(node, 1 << superblock.group_log + superblock.block_inodes_log)
        place = (group * superblock.group_blocks << superblock.block_log) + (inner << superblock.inode_log)
        inodes.append((place, superblock.inode_bytes))
        kind = filesystem.stat(node).kind
        if kind is FileKind.DIRECTORY:
            pending += [child for _, child, _ in filesystem.entries(node)]
        others += _blocks_of(filesystem._inodes.get(node), kind, filesystem._content, source)
    log = _log_areas(source, superblock)
    # The superblock is one in some twenty: there is more of everything else.
    return tuple(
        [(0, 512)] * (len(inodes) // 20) + inodes + _as_many(others, len(inodes)) + _as_many(log, len(inodes))
    )


def _as_many(found: Areas, count: int) -> Areas:
    return (found * (count // len(found) + 1))[:count] if 0 < len(found) < count else found


def _blocks_of(inode: Inode, kind: FileKind, content: Content, source: Recorder) -> Areas:
    """Return the blocks of a directory, of a tree of extents or of a symlink's target."""
    source.ranges = []
    if kind is FileKind.DIRECTORY and inode.format != 1:
        for _ in content.directory_blocks(inode):
            pass
    elif kind is FileKind.SYMLINK:
        content.target(inode)
    elif kind is FileKind.REGULAR:
        for _ in content._extents.runs(inode):
            pass
    return source.ranges


def _log_areas(source: Recorder, superblock: superblocks.Superblock) -> Areas:
    log = replay._open_log(source, superblock)
    ends = find_ends(log)
    count = (ends.head - ends.tail) % log.blocks or 2
    first = (ends.head - count) % log.blocks
    return [
        (log._offset + (first + block) % log.blocks * 512, 512 * min(8, count - block))
        for block in range(0, count, 8)
        if (first + block) % log.blocks + 8 <= log.blocks
    ]


def main() -> None:
    """Judge COUNT mutants from FIRST on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    path, first, count = sys.argv[1:]
    image = Path(path).read_bytes()
    family = Family(Path(path).name, image, areas(image), "raw")
    expected, refused = digest_tree(image, xfs.open_filesystem)
    assert not refused, refused
    outcomes = {
        seed: judge(mutate(family, seed), expected, xfs.open_filesystem)
        for seed in range(int(first), int(first) + int(count))
    }
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
