"""Disk images for tests, made by the tools that users make them with: qemu-img, qemu-io, sfdisk, sgdisk.

Nothing is mounted and nothing needs root. Each helper returns the path of what it made; those that
need a tool that is not installed skip the test and say which.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from undercroft.disks.source import BlockSource, DescriptorSource

MIB = 1 << 20

LINUX_GPT_TYPE = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


def run(*command: str | Path, stdin: str | None = None) -> str:
    """Run a command to its end and return its standard output; fail the test where it fails."""
    program = str(command[0])
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C"}
    if shutil.which(program, path=environment["PATH"]) is None:
        pytest.skip(f"needs {program}")
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=100,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def opened(path: Path) -> Iterator[DescriptorSource]:
    """Open a file as a block source for the length of a `with` block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield DescriptorSource(descriptor, os.lseek(descriptor, 0, os.SEEK_END), path.name)
    finally:
        os.close(descriptor)


def read_in_steps(disk: BlockSource, step: int) -> bytes:
    """Return the whole content of a source, read `step` bytes at a time."""
    return b"".join(
        disk.read(offset, min(step, disk.size_bytes - offset)) for offset in range(0, disk.size_bytes, step)
    )


def assert_reads_as(disk: BlockSource, expected: bytes) -> None:
    """Compare a source with bytes whole, in odd steps and at random places: all ways through a reader."""
    assert disk.size_bytes == len(expected)
    for step in (len(expected) or 1, 3000, 70_001):
        assert read_in_steps(disk, step) == expected, f"differs when read in steps of {step}"
    random = Random(3)
    for _ in range(200):
        offset = random.randrange(len(expected))
        length = random.randrange(min(300_000, len(expected) - offset))
        assert disk.read(offset, length) == expected[offset : offset + length]


def make_raw(path: Path, size_bytes: int, pieces: Mapping[int, bytes] | None = None) -> Path:
    """Make a sparse raw file with the given bytes at the given offsets."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for offset, data in (pieces or {}).items():
            file.seek(offset)
            file.write(data)
    return path


def make_varied_raw(path: Path, size_bytes: int, seed: int = 1) -> Path:
    """Make a raw file of random, compressible, zero and sparse stretches: each kind of cluster occurs."""
    random = Random(seed)
    with path.open("wb") as file:
        file.truncate(size_bytes)
        position = 0
        while position < size_bytes:
            length = min(random.choice((512, 4096, 65_536, 200_000, MIB)), size_bytes - position)
            kind = random.randrange(4)
            if kind == 0:
                file.seek(position)
                file.write(random.randbytes(length))
            elif kind == 1:
                file.seek(position)
                file.write((b"%08d undercroft " % position * (length // 16 + 1))[:length])
            elif kind == 2:
                file.seek(position)
                file.write(bytes(length))
            position += length
    return path


def _qcow2_options(options: Mapping[str, str | int] | None) -> list[str]:
    if not options:
        return []
    return ["-o", ",".join(f"{name}={value}" for name, value in options.items())]


def make_qcow2(
    raw: Path,
    image: Path,
    options: Mapping[str, str | int] | None = None,
    *,
    compressed: bool = False,
    backing: Path | None = None,
    backing_format: str = "qcow2",
) -> Path:
    """Convert a raw file into a qcow2 image.

    Args:
        raw: the content.
        image: where to make the image.
        options: of `qemu-img convert -o` ({"compat": "0.10", "cluster_size": 4096}).
        compressed: compress the clusters.
        backing: only what differs from this image is stored; it is named in the header.
        backing_format: the backing image's format.
    """
    chain = ["-B", backing, "-F", backing_format] if backing else []
    packed = ["-c"] if compressed else []
    run("qemu-img", "convert", "-O", "qcow2", *packed, *_qcow2_options(options), *chain, raw, image)
    return image


def create_qcow2(
    image: Path,
    size_bytes: int,
    options: Mapping[str, str | int] | None = None,
    *,
    backing: Path | None = None,
    backing_format: str = "qcow2",
) -> Path:
    """Make an empty qcow2 image, or an empty overlay of `backing`."""
    chain = ["-b", backing, "-F", backing_format] if backing else []
    run("qemu-img", "create", "-q", "-f", "qcow2", *_qcow2_options(options), *chain, image, str(size_bytes))
    return image


def create_luks_qcow2(image: Path, size_bytes: int) -> Path:
    """Make a qcow2 image that is encrypted with LUKS; qemu-img fails at it now and then under load."""
    for iteration_ms in (300, 600, 1200, 2400):
        options = f"encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time={iteration_ms}"
        done = subprocess.run(
            [
                *("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=key,data=only-a-test"),
                *("-o", options, str(image), str(size_bytes)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return image
    raise AssertionError(done.stderr)


def qemu_io(image: Path, *commands: str) -> Path:
    """Run qemu-io commands on a qcow2 image, such as "write -P 7 4096 512" or "discard 0 1M"."""
    arguments = [part for command in commands for part in ("-c", command)]
    output = run("qemu-io", "-f", "qcow2", *arguments, image)
    assert "failed" not in output, output
    return image


def take_snapshot(image: Path, name: str) -> Path:
    """Take an internal snapshot of an image that no machine has open."""
    run("qemu-img", "snapshot", "-c", name, image)
    return image


def to_raw(image: Path, raw: Path, *, snapshot_id: str | None = None, image_format: str = "qcow2") -> Path:
    """Convert an image to a raw file with qemu-img: the oracle for what a guest would read."""
    choice = ["-l", f"snapshot.id={snapshot_id}"] if snapshot_id else []
    run("qemu-img", "convert", "-f", image_format, "-O", "raw", *choice, image, raw)
    return raw


def place(content: Path, disk: Path, offset: int) -> None:
    """Copy a file into a disk at an offset, leaving holes where the content is zero."""
    with content.open("rb") as source, disk.open("r+b") as target:
        position = offset
        while piece := source.read(MIB):
            if piece.count(0) != len(piece):
                target.seek(position)
                target.write(piece)
            position += len(piece)


def partition(disk: Path, script: str, *options: str) -> Path:
    """Write the partition table of an sfdisk script to a raw file.

    Without `--no-tell-kernel` sfdisk ends with sync(2), which waits for every disk of the machine.
    """
    run("sfdisk", "-q", "--no-tell-kernel", *options, disk, stdin=script)
    return disk


def wrap_gpt(disk: Path, filesystems: Sequence[Path], *, names: Sequence[str] = ()) -> Path:
    """Make a raw disk with a GPT that holds each filesystem image in a partition of its own.

    Partitions start at 1 MiB boundaries and are numbered from 1; there is 1 MiB behind the last one.
    """
    starts, size_bytes = _lay_out(filesystems, gap_bytes=0)
    make_raw(disk, size_bytes)
    lines = ["label: gpt", "unit: sectors"]
    for index, (start, filesystem) in enumerate(zip(starts, filesystems, strict=True)):
        name = f', name="{names[index]}"' if index < len(names) else ""
        size = _whole_mib(filesystem)
        lines.append(f"start={start // 512}, size={size // 512}, type={LINUX_GPT_TYPE}{name}")
    partition(disk, "\n".join(lines) + "\n")
    for start, filesystem in zip(starts, filesystems, strict=True):
        place(filesystem, disk, start)
    return disk


def wrap_mbr(
    disk: Path, filesystems: Sequence[Path], *, logical: int = 0, label_id: int = 0x1234ABCD
) -> Path:
    """Make a raw disk with an MBR; the last `logical` filesystems become logical partitions from 5 on.

    Partitions start at 1 MiB boundaries; a MiB before each logical one holds its own table.
    """
    primaries = len(filesystems) - logical
    starts, size_bytes = _lay_out(filesystems, gap_bytes=MIB if logical else 0)
    make_raw(disk, size_bytes)
    lines = ["label: dos", f"label-id: {label_id:#010x}", "unit: sectors"]
    for index, (start, filesystem) in enumerate(zip(starts, filesystems, strict=True)):
        if index == primaries:
            begin = (start - MIB) // 512
            lines.append(f"{primaries + 1} : start={begin}, size={(size_bytes - MIB) // 512 - begin}, type=5")
        number = index + 1 if index < primaries else 5 + index - primaries
        lines.append(f"{number} : start={start // 512}, size={_whole_mib(filesystem) // 512}, type=83")
    partition(disk, "\n".join(lines) + "\n")
    for start, filesystem in zip(starts, filesystems, strict=True):
        place(filesystem, disk, start)
    return disk


def _whole_mib(path: Path) -> int:
    return -(-path.stat().st_size // MIB) * MIB


def _lay_out(filesystems: Sequence[Path], gap_bytes: int) -> tuple[list[int], int]:
    starts, position = [], MIB
    for filesystem in filesystems:
        position += gap_bytes
        starts.append(position)
        position += _whole_mib(filesystem)
    return starts, position + 2 * MIB
