"""A worker that reads mutants of a filesystem under limits, and counts what became of them.

    readermutants.py NAME FORMAT IMAGE AREAS FIRST COUNT

AREAS are pairs "start:length" with commas between. Prints "same=N refused=N wrong=N": all of the tree and of
all content as of the image itself, something told as unreadable, or something else without a word.
"""

import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mutants import Family, mutate

from undercroft.disks.detect import Content
from undercroft.disks.filesystem import FileKind
from undercroft.disks.formats import open_filesystem
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError

MEMORY_LIMIT_BYTES = 512 << 20
TIME_LIMIT_S = 10
READ_LIMIT_BYTES = 16 << 20
MAX_FILES = 5000

View = dict[bytes, bytes]


def view(kind: str, image: bytes) -> tuple[View, list[str]]:
    """Return all that can be read of an image, and what could not be. Raises InputError without a root."""
    filesystem = open_filesystem(Content(kind), BytesSource(image))
    found: View = {}
    refused = [*getattr(filesystem, "problems", ())]
    pending, seen = [(b"", filesystem.root)], {filesystem.root}
    while pending and len(found) < MAX_FILES:
        path, folder = pending.pop()
        try:
            for name, node, _ in filesystem.entries(folder):
                stat = filesystem.stat(node)
                found[path + b"/" + name] = repr(stat[1:]).encode()
                if stat.kind is FileKind.DIRECTORY and node not in seen:
                    seen.add(node)
                    pending.append((path + b"/" + name, node))
                elif stat.kind is FileKind.REGULAR:
                    found[path + b"/" + name] += filesystem.read(node, READ_LIMIT_BYTES)
                elif stat.kind is FileKind.SYMLINK:
                    found[path + b"/" + name] += filesystem.readlink(node)
        except InputError as error:
            refused.append(str(error))
    return found, refused


def judge(family: Family, kind: str, seeds: Sequence[int]) -> Counter[str]:
    """Return the outcomes of mutants; what is raised but InputError passes through, as does a signal."""
    expected, refused = view(kind, family.image)
    assert not refused, refused
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        signal.alarm(TIME_LIMIT_S)
        try:
            found, problems = view(kind, mutate(family, seed))
            outcomes["refused" if problems else "same" if found == expected else "wrong"] += 1
        except InputError:
            outcomes["refused"] += 1
        except BaseException as error:
            raise RuntimeError(f"mutant {seed} of {family.name}") from error
    signal.alarm(0)
    return outcomes


def campaign(name: str, kind: str, image: Path, areas: Sequence[tuple[int, int]], count: int) -> Counter[str]:
    """Judge `count` mutants in a process of its own; AssertionError with its words where one ends it."""
    shown = ",".join(f"{start}:{length}" for start, length in areas)
    done = subprocess.run(
        [sys.executable, __file__, name, kind, image, shown, "0", str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S * count + 60,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    words = dict(word.split("=") for word in done.stdout.split())
    return Counter({word: int(number) for word, number in words.items()})


def main() -> None:
    """Judge COUNT mutants from FIRST on."""
    name, kind, image, areas, first, count = sys.argv[1:]
    pairs = tuple((int(pair.split(":")[0]), int(pair.split(":")[1])) for pair in areas.split(","))
    family = Family(name, Path(image).read_bytes(), pairs, "raw")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    outcomes = judge(family, kind, range(int(first), int(first) + int(count)))
    sys.stdout.write(" ".join(f"{word}={number}" for word, number in sorted(outcomes.items())))


if __name__ == "__main__":
    main()
