"""Where the metadata of VMware's, Hyper-V's and VirtualBox's images lie, for mutants of them.

    .venv/bin/python tests/support/containermutants.py --mutants 1000 --seed 1
    .venv/bin/python tests/support/containermutants.py --mutants 1000 --seed 1 --alone

print the tables that docs/ROBUSTNESS.md holds. In the first each mutant goes the product's own way, as in
`campaign`; in the second the reader stands alone and every byte of the disk is compared, so that no
filesystem's checksum helps it.
"""

import argparse
import hashlib
import json
import os
import resource
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import containerimages
from campaign import run_campaign, table
from diskimages import MIB, run, to_raw
from machineimages import debian_tree, make_machine, packages
from mutants import Family, mutate, sample

from undercroft.disks.images import Beside, inspect, open_image
from undercroft.disks.source import BytesSource, SliceSource
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat
from undercroft.usecases.session import start_reader

Areas = tuple[tuple[int, int], ...]
SAME, REFUSED, WRONG = "same", "refused", "wrong"
MEMORY_LIMIT_BYTES = 512 << 20
READ_LIMIT_BYTES = 64 << 20
TIME_LIMIT_S = 20
KINDS = ("vmdk", "vmdk-stream", "vhd-size", "vhdx", "vdi")


def container_families(folder: Path) -> list[Family]:
    """Make the base images: one machine in each container, and archives of it."""
    tree = debian_tree(
        folder / "tree", packages(30, "1.0-1"), {f"opt/f{n}": bytes([n]) * 3000 for n in range(40)}
    )
    machine = make_machine(folder / "machine.qcow2", [("now", tree)], "-t", "ext4", size_bytes=10 * MIB)
    raw = to_raw(machine, folder / "machine.raw")
    made = []
    for kind in KINDS:
        image = containerimages.make(kind, raw, folder / f"{kind}.img")
        content = image.read_bytes()
        image_format = containerimages.QEMU_IMAGES[kind][0]
        made.append(Family(kind, content, areas_of(kind, content), image_format))
    logged = folder / "logged.vhdx"
    run("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", logged, str(raw.stat().st_size))
    run("qemu-io", "-f", "vhdx", "-c", f"write -s {raw} 0 {raw.stat().st_size}", logged)
    containerimages.make_log_needed(logged)
    content = logged.read_bytes()
    made.append(Family("vhdx-log", content, (*areas_of("vhdx", content), *log_areas(content)), "vhdx"))
    stream = folder / "disk.vmdk"
    stream.write_bytes((folder / "vmdk-stream.img").read_bytes())
    for name, digest in (("ova", "sha256"), ("ova-no-manifest", None)):
        ova = containerimages.make_ova(folder / f"{name}.ova", [stream], manifest=digest)
        content = ova.read_bytes()
        start = content.index(b"KDMV")
        inner = tuple((start + at, length) for at, length in areas_of("vmdk-stream", stream.read_bytes()))
        made.append(Family(name, content, (*[(0, start)] * 6, *inner), "ova"))
    return made


def areas_of(kind: str, image: bytes) -> Areas:
    """Return where the metadata in use lie; headers count several times, as they are small."""
    return {"vmdk": _vmdk, "vmdk-stream": _vmdk, "vhd-size": _vhd, "vhdx": _vhdx, "vdi": _vdi}[kind](image)


def _vmdk(image: bytes) -> Areas:
    (entries,) = struct.unpack_from("<I", image, 44)
    copy, directory = struct.unpack_from("<QQ", image, 48)
    (capacity,) = struct.unpack_from("<Q", image, 12)
    tables = -(-capacity // (128 * entries))
    areas = [(0, 79), (0, 79), (0, 79), (512, 400)]
    for start in (copy * 512, directory * 512):
        areas.append((start, 4 * tables))
        used = struct.unpack_from(f"<{tables}I", image, start)
        areas += [(table * 512, min(4 * entries, 4 * -(-capacity // 128))) for table in used if table]
    return tuple(areas)


def _vhd(image: bytes) -> Areas:
    table, _, count = struct.unpack_from(">QII", image, 512 + 16)
    return ((0, 90), (512, 60), (len(image) - 512, 90), (table, 4 * count), (table, 4 * count))


def _vhdx(image: bytes) -> Areas:
    regions = []
    for index in range(2):
        ident, offset = struct.unpack_from("<16sQ", image, (192 << 10) + 16 + 32 * index)
        regions.append((ident[:4].hex(), offset))
    known = dict(regions)
    table, metadata = known["6677c22d"], known["06a27c8b"]
    return (
        *((1 << 16, 80), (1 << 17, 80), (192 << 10, 80), (256 << 10, 80)),
        *((table, 88), (table, 88), (metadata, 32 + 5 * 32), (metadata + (64 << 10), 64)),
    )


def log_areas(image: bytes) -> Areas:
    """Return where the entries of a log lie."""
    return tuple((at, 4096) for at in range(1 << 20, 2 << 20, 4096) if any(image[at : at + 4096])) * 2


def _vdi(image: bytes) -> Areas:
    table, _ = struct.unpack_from("<II", image, 340)
    (count,) = struct.unpack_from("<I", image, 384)
    return ((64, 392), (340, 60), (table, 4 * count), (table, 4 * count))


def read_alone(family: Family, image: bytes) -> str:
    """Return a digest of every byte of the disks of an image. Raises InputError."""
    digest = hashlib.sha256()
    source = BytesSource(image)
    kind = DiskFormat(family.image_format)
    info = inspect(kind, source)
    parts = [(kind, source)]
    if kind is DiskFormat.OVA:
        parts = []
        for inner in info.disks:
            if inner.problem:
                raise InputError(inner.problem)
            place = SliceSource(source, inner.offset_bytes, inner.size_bytes)
            parts.append((inner.format or DiskFormat.RAW, place))
    for part_kind, part in parts:
        inspect(part_kind, part)
        disk = open_image(part_kind, part, Beside())
        digest.update(f"{disk.size_bytes}\n".encode())
        # A damaged size may make the disk large: what is beyond the undamaged one cannot be the same.
        for offset in range(0, min(disk.size_bytes, READ_LIMIT_BYTES), MIB):
            digest.update(disk.read(offset, min(MIB, disk.size_bytes - offset)))
    return digest.hexdigest()


def judge_alone(family: Family, number: int, expected: str) -> str:
    """Return what became of one mutant; anything but InputError comes back as its traceback."""
    signal.alarm(TIME_LIMIT_S)
    try:
        found = read_alone(family, mutate(family, number))
    except InputError:
        return REFUSED
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    return SAME if found == expected else WRONG


def run_alone(bases: Sequence[Family], count: int, seed: int) -> dict[str, Counter[str]]:
    """Judge `count` mutants under limits of memory and time; outcomes by family, crashes as tracebacks."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    expected = {family.name: read_alone(family, family.image) for family in bases}
    outcomes: dict[str, Counter[str]] = {family.name: Counter() for family in bases}
    for family, number in sample(bases, count, seed):
        outcomes[family.name][judge_alone(family, number, expected[family.name])] += 1
    return outcomes


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    if arguments.alone:
        with tempfile.TemporaryDirectory() as name:
            bases = container_families(Path(name))
        outcomes = run_alone(bases, arguments.mutants, arguments.seed)
        write(json.dumps(outcomes, indent=1) + "\n")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        reader = start_reader()
        bases = container_families(Path(name))
        tallies = run_campaign(bases, arguments.mutants, arguments.seed, reader, Path(name))
        reader.close()
    write(table(tallies) + "\n")
    for tally in tallies.values():
        for crash in tally.crashes:
            write(crash + "\n")


if __name__ == "__main__":
    main()
