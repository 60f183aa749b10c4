"""Image containers read by Undercroft, dissect.hypervisor and qemu-img, as ratios of processor time.

    .venv/bin/python bench/containers.py

Prints the table that docs/BENCHMARKS.md holds. A disk of random, compressible, zero and sparse stretches
is put into each container by qemu-img. Each reader reads all of it in pieces of 1 MiB, and 20,000 pieces of
4 KiB at random places; qemu-img converts it to a disk that throws away what it gets. The readers take turns;
a ratio is the median over the rounds. What a reader gives is compared with the disk byte for byte.
"""

import contextlib
import hashlib
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/support"))

import containerimages
import diskimages
from dissect.hypervisor.disk import vdi, vhd, vhdx, vmdk

from undercroft.disks.images import Beside, inspect, open_image
from undercroft.disks.source import DescriptorSource
from undercroft.model.disk import DiskFormat

SIZE = 256 << 20
PIECE = 1 << 20
SMALL = 4096
SMALL_READS = 20_000
ROUNDS = 5
KINDS = ("vmdk", "vmdk-split", "vmdk-flat", "vmdk-stream", "vhd-size", "vhdx", "vdi")


class Ours:
    """Undercroft's reader."""

    name = "Undercroft"

    def __init__(self, image, kind):
        form = DiskFormat(containerimages.QEMU_IMAGES[kind][0])
        source = self._open(image)
        extents = [self._open(image.parent / name) for name in inspect(form, source).extents]
        self._disk = open_image(form, source, Beside(extents=extents))
        self.size = self._disk.size_bytes

    def _open(self, path):
        descriptor = os.open(path, os.O_RDONLY)
        return DescriptorSource(descriptor, os.path.getsize(path))

    def read(self, offset, length):
        return self._disk.read(offset, length)


class Dissect:
    """dissect.hypervisor's reader."""

    name = "dissect.hypervisor"

    def __init__(self, image, kind):
        form = containerimages.QEMU_IMAGES[kind][0]
        if form == "vmdk":
            self._disk = vmdk.VMDK(image)
        elif form == "vpc":
            self._disk = vhd.VHD(image.open("rb"))
        elif form == "vhdx":
            self._disk = vhdx.VHDX(image)
        else:
            self._disk = vdi.VDI(image.open("rb"))
        self._stream = self._disk.open() if hasattr(self._disk, "open") else self._disk
        self.size = self._stream.size

    def read(self, offset, length):
        self._stream.seek(offset)
        return self._stream.read(length)


def main():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        raw = diskimages.make_varied_raw(Path(folder) / "disk.raw", SIZE)
        expected = hashlib.sha256(raw.read_bytes()).hexdigest()
        print("| container | qemu-img convert | read whole, ratio | 4 KiB each, ratio | read right |")
        print("|---|---|---|---|---|")
        for kind in KINDS:
            image = containerimages.make(kind, raw, Path(folder) / f"{kind}.{containerimages.suffix(kind)}")
            _row(image, kind, expected)


def _row(image, kind, expected):
    rounds = {}
    right = {}
    for _ in range(ROUNDS):
        for reader in (Ours, Dissect):
            with contextlib.suppress(Exception):
                rounds.setdefault(reader.name, []).append(_measured(reader, image, kind))
                right.setdefault(reader.name, rounds[reader.name][-1][2] == expected)
        rounds.setdefault("qemu-img", []).append(_convert_seconds(image, kind))
    ours, theirs, qemu = (rounds.get(name, []) for name in (Ours.name, Dissect.name, "qemu-img"))
    median = statistics.median
    cells = [kind, f"{median(o[0] / q for o, q in zip(ours, qemu, strict=True)):.1f} times"]
    for column in (0, 1):
        if len(theirs) < ROUNDS:
            cells.append("dissect: not read")
            continue
        ratio = median(t[column] / o[column] for o, t in zip(ours, theirs, strict=True))
        cells.append(f"dissect takes {ratio:.1f} times as long")
    cells.append(
        ", ".join(f"{name}: {'yes' if right.get(name) else 'no'}" for name in (Ours.name, Dissect.name))
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def _measured(reader, image, kind):
    started = time.process_time()
    disk = reader(image, kind)
    digest = hashlib.sha256()
    pieces = [disk.read(offset, min(PIECE, SIZE - offset)) for offset in range(0, SIZE, PIECE)]
    whole = time.process_time() - started
    for piece in pieces:
        digest.update(piece)
    del pieces
    places = random.Random(1)
    chosen = [places.randrange(SIZE // SMALL) * SMALL for _ in range(SMALL_READS)]
    started = time.process_time()
    for offset in chosen:
        disk.read(offset, SMALL)
    return whole, time.process_time() - started, digest.hexdigest()


def _convert_seconds(image, kind):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    form = containerimages.QEMU_IMAGES[kind][0]
    command = ["qemu-img", "convert", "-n", "-f", form, "--target-image-opts", str(image)]
    subprocess.run([*command, f"driver=null-co,size={SIZE}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
