"""Images of VMware, Hyper-V and VirtualBox for tests: made by qemu-img, or built here where it makes none."""

import struct
import zlib
from pathlib import Path

from diskimages import run

SECTOR = 512

QEMU_IMAGES: dict[str, tuple[str, dict[str, str]]] = {
    "vmdk": ("vmdk", {}),
    "vmdk-zero-grains": ("vmdk", {"zeroed_grain": "on"}),
    "vmdk-flat": ("vmdk", {"subformat": "monolithicFlat"}),
    "vmdk-split": ("vmdk", {"subformat": "twoGbMaxExtentSparse"}),
    "vmdk-split-flat": ("vmdk", {"subformat": "twoGbMaxExtentFlat"}),
    "vmdk-stream": ("vmdk", {"subformat": "streamOptimized"}),
    "vhd": ("vpc", {}),
    "vhd-size": ("vpc", {"force_size": "on"}),
    "vhd-fixed": ("vpc", {"subformat": "fixed"}),
    "vhdx": ("vhdx", {}),
    "vhdx-fixed": ("vhdx", {"subformat": "fixed"}),
    "vhdx-large-blocks": ("vhdx", {"block_size": "33554432", "block_state_zero": "off"}),
    "vdi": ("vdi", {}),
    "vdi-static": ("vdi", {"static": "on"}),
}
"""What qemu-img makes: name -> its format, its options."""


def suffix(kind: str) -> str:
    """Return what a file of that kind ends with."""
    return kind.split("-", maxsplit=1)[0]


def make(kind: str, source: Path, image: Path) -> Path:
    """Convert a raw file into an image of a kind of `QEMU_IMAGES`."""
    image_format, options = QEMU_IMAGES[kind]
    chosen = ["-o", ",".join(f"{key}={value}" for key, value in options.items())] if options else []
    run("qemu-img", "convert", "-f", "raw", "-O", image_format, *chosen, source, image)
    return image


def stream_with_footer(content: bytes, *, grain_sectors: int = 128) -> bytes:
    """Return a stream-optimized vmdk as ESX exports it: markers, tables behind the grains, a footer.

    `content` is of whole sectors. A grain of zeros is left out.
    """
    grain_bytes = grain_sectors * SECTOR
    capacity = len(content) // SECTOR
    descriptor = (
        b'# Disk DescriptorFile\nversion=1\nCID=7e57c0de\nparentCID=ffffffff\ncreateType="streamOptimized"\n'
        + f'RW {capacity} SPARSE "call-me-disk1.vmdk"\n'.encode()
    ).ljust(2 * SECTOR, b"\0")

    def header(directory: int) -> bytes:
        return struct.pack(
            "<4sIIQQQQIQQQB4sH",
            *(b"KDMV", 3, 0x30001, capacity, grain_sectors, 1, 2, 512, 0, directory, 128, 0, b"\n \r\n", 1),
        ).ljust(SECTOR, b"\0")

    out = bytearray(header(0xFFFFFFFFFFFFFFFF) + descriptor)
    out += bytes(128 * SECTOR - len(out))
    grains = -(-len(content) // grain_bytes)
    directory: list[int] = []
    for table_start in range(0, grains, 512):
        table = []
        for grain in range(table_start, min(table_start + 512, grains)):
            data = content[grain * grain_bytes : (grain + 1) * grain_bytes]
            table.append(0)
            if any(data):
                table[-1] = len(out) // SECTOR
                packed = zlib.compress(data.ljust(grain_bytes, b"\0"))
                out += struct.pack("<QI", grain * grain_sectors, len(packed)) + packed
                out += bytes(-len(out) % SECTOR)
        directory.append(0)
        if any(table):
            out += struct.pack("<QII", 4, 0, 1).ljust(SECTOR, b"\0")
            directory[-1] = len(out) // SECTOR
            out += struct.pack("<512I", *table, *[0] * (512 - len(table)))
    listed = struct.pack(f"<{len(directory)}I", *directory)
    out += struct.pack("<QII", -(-len(listed) // SECTOR), 0, 2).ljust(SECTOR, b"\0")
    place = len(out) // SECTOR
    out += listed + bytes(-len(listed) % SECTOR)
    out += struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0") + header(place) + bytes(SECTOR)
    return bytes(out)
