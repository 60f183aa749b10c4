"""The same tree of 40,000 files in each filesystem: what package list, whole walk and whole read take.

Processor time, which a busy machine leaves alone. The tree is made of this host's own packages (a Debian or
Ubuntu host). Needs root, for the mounts that fill the images; run it as `python bench/filesystems.py`. Images
are kept in .cache/bench/filesystems.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from undercroft.disks.detect import detect, open_filesystem
from undercroft.disks.filesystem import FileKind, FileSystem
from undercroft.disks.source import DescriptorSource

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench" / "filesystems"
UNDERCROFT = str(Path(sys.executable).parent / "undercroft")
FILES = 40_000
MAX_FILE_BYTES = 256 << 10
FOLDERS = ("etc", "var/lib/dpkg", "usr/lib", "usr/share", "usr/include")
RUNS = 9
SIZE = 4 << 30
KINDS = {
    "ext4": (("mkfs.ext4", "-q", "-F"), "rw"),
    "xfs": (("mkfs.xfs", "-q", "-f"), "rw"),
    "btrfs": (("mkfs.btrfs", "-q", "-f"), "rw"),
    "btrfs, zstd": (("mkfs.btrfs", "-q", "-f"), "rw,compress=zstd"),
}


def main() -> None:
    """Print one table."""
    print(
        "| filesystem | packages, whole process | of ext4's | walk with stat | of ext4's | read | of ext4's |"
    )
    print("|---|---|---|---|---|---|---|")
    first: list[float] = []
    for kind in KINDS:
        image = _image(kind)
        seconds = [_median(lambda image=image: _packages(image)), *_walk_and_read(image)]
        first = first or seconds
        shown = [f"{value:.3f} s | {value / base:.2f}" for value, base in zip(seconds, first, strict=True)]
        print(f"| {kind} | {' | '.join(shown)} |", flush=True)


def _image(kind: str) -> Path:
    image = CACHE / f"{kind.replace(', ', '-')}.raw"
    if image.exists():
        return image
    CACHE.mkdir(parents=True, exist_ok=True)
    command, options = KINDS[kind]
    new = image.with_suffix(".tmp")
    with new.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([*command, new], check=True)
    with tempfile.TemporaryDirectory() as point:
        script = (
            'mount -o "loop,$1" "$2" "$3"; cd /; tar -c --no-recursion -T "$4" | tar -x -C "$3"; umount "$3"'
        )
        names = CACHE / "names"
        names.write_bytes(b"\n".join(_names()))
        subprocess.run(["unshare", "-m", "sh", "-ec", script, "sh", options, new, point, names], check=True)
    new.rename(image)
    return image


def _names() -> Iterator[bytes]:
    count = 0
    for top in FOLDERS:
        parts = top.encode().split(b"/")
        yield from (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
        for folder, _, files in os.walk(b"/" + top.encode()):
            yield folder[1:]
            for name in files:
                path = os.path.join(folder, name)
                if b"\n" not in path and b"\\" not in path and os.lstat(path).st_size <= _limit(top):
                    count += 1
                    yield path[1:]
                if count >= FILES:
                    return


def _limit(top: str) -> int:
    return SIZE if top == "var/lib/dpkg" else MAX_FILE_BYTES


def _packages(image: Path) -> float:
    before = os.times()
    subprocess.run([UNDERCROFT, "packages", str(image)], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _walk_and_read(image: Path) -> tuple[float, float]:
    descriptor = os.open(image, os.O_RDONLY)
    source = DescriptorSource(descriptor, os.path.getsize(image))
    try:
        return _median(lambda: _walk(source, read=False)), _median(lambda: _walk(source, read=True), 3)
    finally:
        os.close(descriptor)


def _walk(source: DescriptorSource, *, read: bool) -> float:
    started = time.process_time()
    filesystem: FileSystem = open_filesystem(detect(source), source)
    pending = [filesystem.root]
    while pending:
        for _name, node, kind in filesystem.entries(pending.pop()):
            filesystem.stat(node)
            if kind is FileKind.DIRECTORY:
                pending.append(node)
            elif read and kind is FileKind.REGULAR:
                for _ in filesystem.chunks(node):
                    pass
    return time.process_time() - started


def _median(measure, runs: int = RUNS) -> float:
    return statistics.median([measure() for _ in range(runs + 1)][1:])


if __name__ == "__main__":
    if not shutil.which("unshare") or os.geteuid():
        sys.exit("needs root and unshare(1)")
    main()
