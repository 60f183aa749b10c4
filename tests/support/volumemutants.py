"""A worker that assembles mutants of a kept set of volumes under limits, and says what became of each.

    volumemutants.py lvm|md FIRST COUNT SEALED

prints one JSON object: "seed kind" -> "same", "refused", "wrong" or what crashed it. Only metadata are
damaged: labels, texts, tables of pools and snapshots, superblocks. With SEALED "1" their checksums are set
right again.
"""

import hashlib
import json
import re
import resource
import signal
import sys
import traceback
from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from mutants import Family, mutate
from volumechanges import areas_of, md_places, seal_lvm, seal_md, seal_thin, text_of, text_place
from volumeimages import VolumeImages, kept

from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BlockSource, BytesSource, check_range
from undercroft.errors import InputError

MEMORY_LIMIT_BYTES = 768 << 20
TIME_LIMIT_S = 10
LOOKED_AT_BYTES = 256 << 10
WINDOW_BYTES = 2 << 20
EXTENT = 64 << 10
SAME, REFUSED, WRONG = "same", "refused", "wrong"


class View(NamedTuple):
    """What is seen of a machine: a digest of each device, and all that is said."""

    devices: dict[str, str]
    said: tuple[str, ...]


class Patched:
    """A disk with other bytes in one place."""

    def __init__(self, data: bytes, start: int, patch: bytes) -> None:
        self.size_bytes = len(data)
        self._data, self._start, self._patch = data, start, patch

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, as any source does."""
        check_range(offset, length, self.size_bytes, "disk")
        found = bytearray(self._data[offset : offset + length])
        first, last = max(offset, self._start), min(offset + length, self._start + len(self._patch))
        if first < last:
            found[first - offset : last - offset] = self._patch[first - self._start : last - self._start]
        return bytes(found)


def look(disks: Mapping[str, BlockSource]) -> View:
    """Open every device and read its beginning."""
    found = open_volumes(list(disks.items()))
    devices, said = {}, [*found.problems, *found.notes]
    for volume in found.volumes:
        said.append(f"{volume.name}: {volume.content.kind} {volume.reason} {volume.content.note}")
        if volume.device and volume.device.source:
            source = volume.device.source
            try:
                data = source.read(0, min(source.size_bytes, LOOKED_AT_BYTES))
                devices[volume.name] = f"{source.size_bytes} {hashlib.sha256(data).hexdigest()}"
            except InputError as error:
                said.append(f"{volume.name}: {error}")
    return View(devices, tuple(said))


def judge(disks: Mapping[str, BlockSource], expected: View) -> str:
    """Return the outcome for one mutant; anything but InputError comes back as its traceback."""
    signal.alarm(TIME_LIMIT_S)
    try:
        found = look(disks)
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    if found.said != expected.said:
        return REFUSED
    return SAME if found.devices == expected.devices else WRONG


def pieces_of(name: str, images: VolumeImages) -> list[tuple[str, int, int, str]]:
    """Return (disk, offset, length, kind) of all metadata."""
    if name == "md":
        return [("sda", place, 512, "md") for place in md_places(images.disks["sda"])]
    found = []
    starts = {
        "pv0": ("sda", 2 << 20),
        "pv1": ("sdb", 1 << 20),
        "pv2": ("sdc", 1 << 20),
        "pv3": ("sdd", 1 << 20),
    }
    for disk, data in images.disks.items():
        label = data.index(b"LABELONE")
        found.append((disk, label, 128, "label"))
        for area in areas_of(data):
            offset, length, _ = text_place(data, area)
            found += [(disk, area, 128, "header"), (disk, area + offset, length, "text")]
    text = text_of(images.disks["sda"])
    hidden = r"^(\w*(?:_tmeta|_rmeta_\d+)|snap|merging) \{.*?stripes = \[\n\"(pv\d)\", (\d+)"
    for match in re.finditer(hidden, text, re.MULTILINE | re.DOTALL):
        disk, start = starts[match[2]]
        kind = "thin" if "tmeta" in match[1] else "table"
        length = 8 << 12 if kind == "thin" else 4096 if "rmeta" in match[1] else 8192
        found.append((disk, start + int(match[3]) * EXTENT, length, kind))
    return found


def main() -> None:
    """Judge COUNT mutants from FIRST on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    name, first, count, sealed = sys.argv[1:]
    images = kept(name)
    pieces = pieces_of(name, images)
    disks = {disk: BytesSource(data, disk) for disk, data in images.disks.items()}
    expected = look(disks)
    outcomes = {}
    for seed in range(int(first), int(first) + int(count)):
        random = Random(seed)
        kind = random.choice(sorted({each[3] for each in pieces}))
        disk, start, length, kind = random.choice([each for each in pieces if each[3] == kind])
        # A window holds all that a checksum of the piece covers or lies in.
        window = start - start % WINDOW_BYTES if kind in ("label", "header", "text") else start
        changed = bytearray(images.disks[disk][window : window + WINDOW_BYTES])
        inside = start - window
        piece = bytes(changed[inside : inside + length])
        mutant = mutate(Family(f"{name}{kind}", piece, ((0, length),), "raw"), seed)
        changed[inside : inside + length] = (mutant + bytes(length))[:length]
        if sealed == "1":
            seal(changed, kind, inside, length)
        patched = Patched(images.disks[disk], window, bytes(changed))
        outcomes[f"{seed} {kind}"] = judge({**disks, disk: patched}, expected)
    sys.stdout.write(json.dumps(outcomes))


def seal(disk: bytearray, kind: str, start: int, length: int) -> None:
    """Set the checksums right that a change of a piece made wrong."""
    if kind == "md":
        seal_md(disk, start)
    elif kind == "thin":
        seal_thin(disk, start, length)
    elif kind != "table":
        seal_lvm(disk)


if __name__ == "__main__":
    main()
