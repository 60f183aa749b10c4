"""A worker that reads mutants of a btrfs image under limits, and says what became of each.

    btrfsmutants.py IMAGE FIRST COUNT SEALED

prints one JSON object: seed -> "same", "refused", "wrong" or what crashed it. What a read of the whole image
touches is damaged: superblocks, tree blocks, data. With SEALED "1" only superblock and tree blocks are, and
their checksums are set right again, as an attacker would.
"""

import hashlib
import json
import resource
import signal
import sys
import traceback
from pathlib import Path

from mutants import Family, mutate

from undercroft.disks import btrfs
from undercroft.disks.btrfs.checksum import Checksum, checksum_of_type
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import check_range
from undercroft.errors import InputError, NotFoundError

MEMORY_LIMIT_BYTES = 512 << 20
TIME_LIMIT_S = 10
READ_LIMIT_BYTES = 64 << 20
ENTRY_LIMIT = 20_000
SAME, REFUSED, WRONG = "same", "refused", "wrong"
BLOCK, PIECE = 4096, 1 << 16


class Packed:
    """An image without its empty pieces: those that are not empty, one behind the other.

    Attributes:
        content: the pieces.
        size_bytes: of the whole image.
        ranges: what was read of `content`.
    """

    def __init__(self, content: bytes, pieces: dict[int, int], size_bytes: int) -> None:
        self.content = content
        self.size_bytes = size_bytes
        self.ranges: dict[tuple[int, int], None] = {}
        self._pieces = pieces

    @classmethod
    def of(cls, image: Path) -> "Packed":
        """Pack an image."""
        content, pieces, number = bytearray(), {}, 0
        with image.open("rb") as file:
            while piece := file.read(PIECE):
                if piece.strip(b"\0"):
                    pieces[number] = len(content)
                    content += piece
                number += 1
        return cls(bytes(content), pieces, image.stat().st_size)

    def changed(self, content: bytes) -> "Packed":
        """Return the image with other pieces."""
        return Packed(content, self._pieces, self.size_bytes)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, as any source does."""
        check_range(offset, length, self.size_bytes, "image")
        found = b""
        while length:
            number, inside = divmod(offset, PIECE)
            room = min(length, PIECE - inside)
            place = self._pieces.get(number)
            if place is None:
                found += bytes(room)
            else:
                check_range(place + inside, room, len(self.content), "image, cut off")
                self.ranges[place + inside, room] = None
                found += self.content[place + inside : place + inside + room]
            offset += room
            length -= room
        return found


def digest_tree(source: Packed) -> tuple[str, list[str]]:
    """Return a digest of all that can be read, and what could not be."""
    filesystem = btrfs.open_filesystem(source)
    refused = list(filesystem.problems)
    digest = hashlib.sha256(repr(filesystem.subvolumes()).encode())
    pending, seen, count = [filesystem.root], {filesystem.root}, 0
    while pending:
        try:
            entries = sorted(filesystem.entries(pending.pop()), key=lambda entry: entry[0])
        except InputError as error:
            refused.append(str(error))
            continue
        for name, node, _ in entries:
            count += 1
            if count > ENTRY_LIMIT:
                return "too many entries", [*refused, "too many entries"]
            try:
                stat = filesystem.stat(node)
                digest.update(repr((name, stat.mode, stat.size_bytes, stat.uid, stat.gid)).encode())
                if stat.kind is FileKind.REGULAR:
                    digest.update(filesystem.read(node, READ_LIMIT_BYTES))
                elif stat.kind is FileKind.SYMLINK:
                    digest.update(filesystem.readlink(node))
                elif stat.kind is FileKind.DIRECTORY and node not in seen:
                    seen.add(node)
                    pending.append(node)
            except InputError as error:
                refused.append(str(error))
    return digest.hexdigest(), refused


def judge(image: Packed, expected: str) -> str:
    """Return the outcome for one mutant; anything but InputError comes back as its traceback."""
    signal.alarm(TIME_LIMIT_S)
    try:
        found, refused = digest_tree(image)
    except (InputError, NotFoundError):
        return REFUSED
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    if refused:
        return REFUSED
    return SAME if found == expected else WRONG


def seal(image: bytes, original: bytes, areas: list[tuple[int, int]], checksum: Checksum) -> bytes:
    """Set the checksums of changed blocks right again."""
    sealed = bytearray(image)
    for start, length in areas:
        block = sealed[start : start + length]
        if len(block) == length and block != original[start : start + length]:
            sealed[start : start + checksum.size_bytes] = checksum.digest(bytes(block[32:]))
    return bytes(sealed)


def main() -> None:
    """Judge COUNT mutants from FIRST on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    path, first, count, sealed = sys.argv[1:]
    packed = Packed.of(Path(path))
    expected, refused = digest_tree(packed)
    assert not refused, refused
    image = packed.content
    superblock = next(start for start, length in packed.ranges if length == BLOCK)
    node_bytes = int.from_bytes(image[superblock + 0x94 : superblock + 0x98], "little")
    areas = list(packed.ranges)
    if sealed == "1":
        areas = [area for area in areas if area[1] == node_bytes or area[0] == superblock]
    kind = int.from_bytes(image[superblock + 0xC4 : superblock + 0xC6], "little")
    family = Family(Path(path).name, image, tuple(areas), "raw")
    outcomes = {}
    for seed in range(int(first), int(first) + int(count)):
        mutant = mutate(family, seed)
        if sealed == "1":
            mutant = seal(mutant, image, areas, checksum_of_type(kind))
        outcomes[seed] = judge(packed.changed(mutant), expected)
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
