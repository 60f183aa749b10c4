"""A worker that reads mutants of an ext image under limits, and says what became of each.

    extmutants.py IMAGE AREAS FIRST COUNT

prints one JSON object: seed -> "same", "refused", "wrong" or what crashed it. AREAS is JSON.
"""

import hashlib
import json
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from mutants import Family, mutate

from undercroft.disks import ext4, xfs
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BlockSource, BytesSource
from undercroft.errors import InputError

MEMORY_LIMIT_BYTES = 512 << 20
TIME_LIMIT_S = 10
READ_LIMIT_BYTES = 64 << 20
ENTRY_LIMIT = 20_000
SAME, REFUSED, WRONG = "same", "refused", "wrong"
Opener = Callable[[BlockSource], ext4.Ext4 | xfs.Xfs]


def digest_tree(image: bytes, opener: Opener = ext4.open_filesystem) -> tuple[str, list[str]]:
    """Return a digest of all that can be read, and what could not be."""
    filesystem = opener(BytesSource(image))
    refused = list(filesystem.problems)
    digest = hashlib.sha256()
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


def judge(image: bytes, expected: str, opener: Opener = ext4.open_filesystem) -> str:
    """Return the outcome for one mutant; anything but InputError comes back as its traceback."""
    signal.alarm(TIME_LIMIT_S)
    try:
        found, refused = digest_tree(image, opener)
    except InputError:
        return REFUSED
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    if refused:
        return REFUSED
    return SAME if found == expected else WRONG


def main() -> None:
    """Judge COUNT mutants from FIRST on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    path, areas, first, count = sys.argv[1:]
    image = Path(path).read_bytes()
    family = Family(
        Path(path).name, image, tuple((start, length) for start, length in json.loads(areas)), "raw"
    )
    expected, refused = digest_tree(image)
    assert not refused, refused
    outcomes = {
        seed: judge(mutate(family, seed), expected) for seed in range(int(first), int(first) + int(count))
    }
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
