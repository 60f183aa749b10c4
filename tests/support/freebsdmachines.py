"""Disks of FreeBSD for tests: UFS by makefs, a GPT by sfdisk, disklabels as bsdlabel(8) writes them."""

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import ufsimages
from diskimages import MIB, make_raw, partition, place, run

UFS, SWAP, SLICE = (f"{kind}-6ecf-11d6-8ff8-00022d09712b" for kind in ("516e7cb6", "516e7cb5", "516e7cb4"))
GPT_BOOT = "83bd6b9d-7f41-11dc-be0b-001560b84f0f"
LABEL_UFS, LABEL_SWAP, LABEL_WHOLE = 7, 1, 0
ROOT_START, ROOT_MIB, VAR_MIB = 4 * MIB, 16, 12

VERSION = '#!/bin/sh\nset -e\nUSERLAND_VERSION="14.1-RELEASE-p5"\nkernel_version() {\n :\n}\n'


def pkg_database(path: Path, installed: Mapping[str, str]) -> None:
    """Write a database of pkg's with packages and what owns /usr/local/bin/NAME."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE packages (id INTEGER PRIMARY KEY, origin TEXT NOT NULL, name TEXT NOT NULL,"
        "version TEXT NOT NULL, arch TEXT NOT NULL);"
        "CREATE TABLE files (path TEXT PRIMARY KEY, sha256 TEXT, package_id INTEGER);"
    )
    for number, (name, version) in enumerate(installed.items(), 1):
        values = (number, f"ports/{name}", name, version)
        connection.execute("INSERT INTO packages VALUES (?, ?, ?, ?, 'FreeBSD:14:amd64')", values)
        connection.execute("INSERT INTO files VALUES (?, '1', ?)", (f"/usr/local/bin/{name}", number))
    connection.commit()
    connection.close()


def tree(folder: Path, fstab: str, installed: Mapping[str, str] | None = None) -> Path:
    """Fill a folder with what a scan of FreeBSD 14 reads; without packages /var lies elsewhere."""
    files = {"etc/fstab": fstab, "bin/freebsd-version": VERSION, "etc/rc.conf": 'hostname="bsd"\n'}
    for name in installed or ():
        files[f"usr/local/bin/{name}"] = "#!/bin/sh\n"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if "bin/" in name else 0o644)
    for name, release in (("kernel", "14.1-RELEASE-p5"), ("kernel.old", "14.0-RELEASE")):
        (folder / "boot" / name).mkdir(parents=True)
        banner = f"@(#)FreeBSD {release} releng/14.1-n267679 GENERIC\0".encode()
        (folder / "boot" / name / "kernel").write_bytes(
            b"\x7fELF" + bytes((1 << 20) - 20) + banner + bytes(99)
        )
    (folder / "etc/os-release").symlink_to("../var/run/os-release")
    (folder / "var").mkdir(exist_ok=True)
    if installed:
        pkg_database(folder / "var/db/pkg/local.sqlite", installed)
    return folder


def gpt_disk(disk: Path, root: Path, var: Path | None = None) -> Path:
    """Make a disk with boot code, a root, swap with pages in it, and /var where it has its own volume."""
    start, swap = ROOT_START, ROOT_START + ROOT_MIB * MIB
    lines = [
        "label: gpt",
        f"start={2048}, size=1024, type={GPT_BOOT}, name=gptboot0",
        f"start={start // 512}, size={ROOT_MIB * 2048}, type={UFS}, name=rootfs",
        f"start={swap // 512}, size=4096, type={SWAP}, name=swap0",
    ]
    make_raw(disk, swap + (4 + VAR_MIB) * MIB)
    if var:
        lines.append(f"start={swap // 512 + 4096}, size={VAR_MIB * 2048}, type={UFS}, name=varfs")
    partition(disk, "\n".join(lines) + "\n")
    place(root, disk, start)
    if var:
        place(var, disk, swap + 2 * MIB)
    with disk.open("r+b") as file:
        file.seek(swap + 100_000)
        file.write(b"pages of memory, which are no filesystem" * 500)
    return disk


def label(partitions: Sequence[tuple[int, int, int]], base: int = 0) -> bytes:
    """Return a disklabel's sector.

    Args:
        partitions: (first sector from the slice's start, sectors, type) from `a` on; `c` is the whole.
        base: what all are counted from, on the disk, as older systems did.
    """
    entries = b"".join(
        struct.pack("<III BBH", size, first + base if size else 0, 0, kind, 0, 0)
        for first, size, kind in partitions
    )
    head = bytearray(148)
    struct.pack_into("<I", head, 0, 0x82564557)
    struct.pack_into("<I", head, 40, 512)
    struct.pack_into("<I", head, 132, 0x82564557)
    struct.pack_into("<H", head, 138, len(partitions))
    whole = bytearray(bytes(head) + entries)
    total = 0
    for word in struct.unpack(f"<{len(whole) // 2}H", whole):
        total ^= word
    struct.pack_into("<H", whole, 136, total)
    return bytes(whole).ljust(512, b"\0")


def mbr_disk(disk: Path, root: Path, *, start: int = MIB, absolute: bool = False) -> Path:
    """Make a disk with one slice, its label, and in it a root at its very start and swap."""
    size = (ROOT_MIB + 4) * MIB
    make_raw(disk, start + size + MIB)
    place(root, disk, start)
    if start:
        partition(disk, f"label: dos\nstart={start // 512}, size={size // 512}, type=a5, bootable\n")
    else:  # as FreeBSD's boot1 has it, "dangerously dedicated": the length means nothing
        with disk.open("r+b") as file:
            file.seek(446 + 3 * 16)
            file.write(struct.pack("<B3xB3xII2s", 0x80, 0xA5, 0, 50_000, b"\x55\xaa"))
    parts = [
        (0, ROOT_MIB * 2048, LABEL_UFS),
        (ROOT_MIB * 2048, 8192, LABEL_SWAP),
        (0, size // 512, LABEL_WHOLE),
    ]
    parts += [(0, 0, 0)] * 5
    with disk.open("r+b") as file:
        file.seek(start + 512)
        file.write(label(parts, start // 512 if absolute else 0))
        file.seek(start + ROOT_MIB * MIB + 100_000)
        file.write(b"pages of memory, which are no filesystem" * 500)
    return disk


def ufs(source: Path, image: Path, mib: int, options: str = "version=2") -> Path:
    """Make a UFS of a tree."""
    return ufsimages.make(source, image, options, mib * MIB)


def partx(disk: Path) -> list[tuple[int, int, int]]:
    """Return (number, first sector, sectors) of a disk's partitions by libblkid."""
    shown = run("partx", "-b", "-g", "-o", "NR,START,SECTORS", "-s", disk)
    return [tuple(map(int, line.split())) for line in shown.splitlines()]  # type: ignore[misc] # of three
