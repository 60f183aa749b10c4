"""Linked clones for tests of the cache by layer, and random writes into images for campaigns."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from diskimages import run

from undercroft.model.domain import DiskKind, Domain, DomainDisk, Power
from undercroft.model.fleet import ReadSet
from undercroft.usecases.fleet.reading.layers import CachedAnswer, LayerReader, Reading
from undercroft.usecases.target import MachineTarget


def make_clone(base: Path, clone: Path, *, base_format: str = "qcow2") -> Path:
    """Make an overlay on a base, named by its absolute path as linked clones of libvirt are."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.resolve(), "-F", base_format, clone)
    return clone


def make_clones(base: Path, folder: Path, count: int) -> list[Path]:
    """Make many equal overlays: an empty overlay says the same of its base wherever it lies."""
    first = make_clone(base, folder / "clone0000.qcow2")
    clones = [folder / f"clone{number:04}.qcow2" for number in range(count)]
    for clone in clones[1:]:
        shutil.copyfile(first, clone)
    return clones


def write_to(image: Path, offset: int, data: bytes) -> None:
    """Write into the virtual disk of a qcow2 image as its guest would."""
    piece = image.with_suffix(".piece")
    piece.write_bytes(data)
    run("qemu-io", "-f", "qcow2", "-c", f"write -q -s {piece} {offset} {len(data)}", image)
    piece.unlink()


def domain_of(name: str, *images: Path, number: int = 1, chain: tuple[()] | None = None) -> Domain:
    """Return a stopped machine of qcow2 images whose chains libvirt does not say, unless `chain` is ()."""
    disks = tuple(
        DomainDisk(f"vd{chr(97 + index)}", "disk", DiskKind.FILE, str(image), "qcow2", chain)
        for index, image in enumerate(images)
    )
    return Domain(f"00000000-0000-4000-8000-{number:012}", name, Power.OFF, disks=disks)


class Cache:
    """What a record would hold of one state, and of all that rests on a base, for tests of one reader."""

    def __init__(self, layers: LayerReader) -> None:
        self.layers = layers
        self.answers: dict[str, CachedAnswer] = {}
        self.sets: dict[str, ReadSet] = {}
        self.inventories: dict[str, object] = {}

    def read(self, subject: str, target: MachineTarget, state: str = "current") -> Reading:
        """Read a state with what is cached of it and of its bases, and cache what comes of it."""
        reading = self.layers.read(target, state, self.answers.get(subject), self._candidates)
        digest = reading.inventory_digest or f"{subject}-{len(self.inventories)}"
        if reading.inventory is not None:
            self.inventories[digest] = reading.inventory
            if reading.reads is not None:
                self.sets[digest] = reading.reads
        self.answers[subject] = CachedAnswer(digest, reading.files, reading.inputs, self.sets.get(digest))
        return reading

    def inventory(self, subject: str) -> object:
        """Return the inventory that stands for a subject."""
        return self.inventories[self.answers[subject].inventory]

    def _candidates(self, base: object, limit: int) -> Sequence[tuple[str, ReadSet]]:
        return [
            (answer.inventory, answer.reads)
            for answer in reversed(self.answers.values())
            if answer.reads is not None and base in answer.files
        ][:limit]


@contextmanager
def scribbled(path: Path, random: Random, ranges: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Hold random bytes in a file for the length of a `with` block: half of the time in one of `ranges`."""
    size_bytes = path.stat().st_size
    length = random.choice((1, 1, 2, 16, 512, 4096))
    offset = random.randrange(size_bytes - length)
    if random.random() < 0.5:
        start, extent = random.choice(ranges)
        offset = min(start + random.randrange(extent), size_bytes - length)
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(length)
        file.seek(offset)
        file.write(random.randbytes(length) if random.random() < 0.7 else bytes(length))
    try:
        yield
    finally:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(before)
