"""A worker that reads mutants of an XFS image under limits, and says what became of each.

    xfsmutants.py IMAGE FIRST COUNT SEALED

prints one JSON object: seed -> "same", "refused", "wrong" or what crashed it. Only metadata that is in use is
damaged: superblock, inodes, blocks of directories, trees and symlinks, the part of the log that is replayed.
With SEALED "1" all checksums are set right again, as an attacker would.
"""

import contextlib
import json
import resource
import signal
import sys
from pathlib import Path

from extmutants import MEMORY_LIMIT_BYTES, digest_tree, judge
from mutants import Family, mutate
from xfsimages import set_checksum

from undercroft.disks import xfs
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BytesSource
from undercroft.disks.xfs import replay
from undercroft.disks.xfs import superblock as superblocks
from undercroft.disks.xfs.content import Content
from undercroft.disks.xfs.inode import Inode
from undercroft.disks.xfs.log import Log, _checksums
from undercroft.disks.xfs.log_ends import find_ends
from undercroft.errors import InputError

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


_MAGICS = {b"IN": 100, b"XFSB": 224, b"XDB3": 4, b"XDD3": 4, b"XSLM": 12, b"BMA3": 64}


class Seal:
    """Sets the checksums of a mutant's metadata right: of what the undamaged image has in the same place."""

    def __init__(self, image: bytes, found: tuple[tuple[int, int], ...]) -> None:
        self._image = image
        source = BytesSource(image)
        superblock, _ = superblocks.find(source)
        self._log = replay._open_log(source, superblock)
        ends = find_ends(self._log)
        self._records, done = [], 0
        while done < (ends.head - ends.tail) % self._log.blocks:
            self._records.append(self._log.record_at(ends.tail + done))
            done += self._records[-1].blocks
        places = {(start, length): image[start : start + 4] for start, length in found}
        self._structures = [
            (start, length, at)
            for (start, length), magic in places.items()
            for known, at in _MAGICS.items()
            if magic.startswith(known)
        ]

    def __call__(self, mutant: bytes) -> bytes:
        """Return the mutant with right checksums."""
        sealed = bytearray(mutant)
        for start, length, at in self._structures:
            if sealed[start : start + length] != self._image[start : start + length]:
                structure = sealed[start : start + length]
                set_checksum(structure, at)
                sealed[start : start + length] = structure
        log = self._log
        for record in self._records:
            start = log._offset + record.position * 512
            if (
                sealed[start : start + record.blocks * 512]
                == self._image[start : start + record.blocks * 512]
            ):
                continue
            with contextlib.suppress(InputError):
                source = BytesSource(bytes(sealed))
                found = Log(source, log._offset, log.blocks, log._uuid, has_checksums=False)
                damaged = found.record_at(record.position)
                data = found.read(record.position, damaged.blocks)
                size = damaged.header_blocks * 512
                right = next(iter(_checksums(data[:size], data[size : size + damaged.length])))
                sealed[start + 32 : start + 36] = right.to_bytes(4, "little")
        return bytes(sealed)


def main() -> None:
    """Judge COUNT mutants from FIRST on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    path, first, count, is_sealed = sys.argv[1:]
    image = Path(path).read_bytes()
    family = Family(Path(path).name, image, areas(image), "raw")
    seal = Seal(image, family.areas) if is_sealed == "1" else bytes
    expected, refused = digest_tree(image, xfs.open_filesystem)
    assert not refused, refused
    outcomes = {
        seed: judge(seal(mutate(family, seed)), expected, xfs.open_filesystem)
        for seed in range(int(first), int(first) + int(count))
    }
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
