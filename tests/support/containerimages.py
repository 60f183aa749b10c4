"""Images of VMware, Hyper-V and VirtualBox for tests: made by qemu-img, or built here where it makes none."""

import hashlib
import io
import re
import struct
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

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


def crc32c(data: bytes) -> int:
    """Return a checksum, bit by bit: written apart from the code that it checks."""
    table = []
    for number in range(256):
        entry = number
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def seal_vhdx(image: bytearray, start: int, length: int) -> None:
    """Give a structure of a VHDX image the checksum of its bytes."""
    image[start + 4 : start + 8] = bytes(4)
    image[start + 4 : start + 8] = struct.pack("<I", crc32c(bytes(image[start : start + length])))


def make_log_needed(path: Path) -> int:
    """Turn a VHDX image that QEMU wrote back into one whose last writes lie in its log alone.

    The log that QEMU has written out stays in the file: its ID comes back into the header, and the pages
    that its newest entry changed are blanked. Returns how many pages that are.
    """
    image = bytearray(path.read_bytes())
    log, length = 1 << 20, 1 << 20
    entries = []
    for place in range(log, log + length, 4096):
        if image.startswith(b"loge", place):
            entries.append((struct.unpack_from("<Q", image, place + 16)[0], place))
    _, place = max(entries)
    for start in (1 << 16, 1 << 17):  # both are written when the log comes into use
        image[start + 48 : start + 64] = image[place + 32 : place + 48]
        seal_vhdx(image, start, 4096)
    count = struct.unpack_from("<I", image, place + 24)[0]
    for index in range(count):
        kind, _, _, offset, _ = struct.unpack_from("<4sIQQQ", image, place + 64 + 32 * index)
        assert kind == b"desc"
        image[offset : offset + 4096] = bytes(4096)
    path.write_bytes(image)
    return count


def set_vmdk_cid(image: Path, cid: bytes) -> None:
    """Give a sparse vmdk another content ID; qemu-img writes one that begins with zeros with fewer digits."""
    data = bytearray(image.read_bytes())
    text = bytes(data[SECTOR : data.index(0, SECTOR)])
    changed = re.sub(rb"(?m)^CID=[0-9a-f]+$", b"CID=" + cid, text)
    data[SECTOR : SECTOR + len(changed) + 1] = changed + b"\0"
    image.write_bytes(data)


def as_vdi_child(child: Path, parent: Path) -> None:
    """Make a VDI image a difference to another one: what it has no block for is the parent's."""
    image, above = bytearray(child.read_bytes()), parent.read_bytes()
    struct.pack_into("<I", image, 76, 4)
    image[424:456] = above[392:424]
    child.write_bytes(image)


def as_vhd_child(child: Path, parent: Path, name: str) -> None:
    """Make a dynamic VHD image a difference to another one; the bitmaps of its blocks begin to count."""
    image, above = bytearray(child.read_bytes()), parent.read_bytes()
    for start in (0, len(image) - SECTOR):
        struct.pack_into(">I", image, start + 60, 4)
        _seal_vhd(image, start, SECTOR, 64)
    image[SECTOR + 40 : SECTOR + 56] = above[68:84]
    written = name.encode("utf-16-be")
    image[SECTOR + 64 : SECTOR + 64 + len(written)] = written
    _seal_vhd(image, SECTOR, 1024, 36)
    child.write_bytes(image)


def _seal_vhd(image: bytearray, start: int, length: int, checksum: int) -> None:
    image[start + checksum : start + checksum + 4] = bytes(4)
    total = ~sum(image[start : start + length]) & 0xFFFFFFFF
    struct.pack_into(">I", image, start + checksum, total)


def clear_vhd_bits(child: Path, block: int, first_sector: int, count: int) -> None:
    """Say that sectors of a block of a VHD image lie in its parent."""
    image = bytearray(child.read_bytes())
    (table,) = struct.unpack_from(">Q", image, SECTOR + 16)
    place = struct.unpack_from(">I", image, table + 4 * block)[0] * SECTOR
    for sector in range(first_sector, first_sector + count):
        image[place + sector // 8] &= ~(0x80 >> sector % 8)
    child.write_bytes(image)


def as_vhdx_child(child: Path, parent: Path, name: str, here: dict[int, range]) -> None:
    """Make a VHDX image that QEMU wrote a difference to another one.

    Of the blocks in `here` only those sectors count, the rest of them is the parent's.
    """
    image, above = bytearray(child.read_bytes()), parent.read_bytes()
    regions = {}
    for index in range(2):
        ident, offset = struct.unpack_from("<16sQ", image, (192 << 10) + 16 + 32 * index)
        regions[ident[:4].hex()] = offset
    table, metadata = regions["6677c22d"], regions["06a27c8b"]
    count = struct.unpack_from("<H", image, metadata + 10)[0]
    block = 0
    for index in range(count):
        ident, offset = struct.unpack_from("<16sI", image, metadata + 32 + 32 * index)
        if ident[:4].hex() == "3767a1ca":
            block, flags = struct.unpack_from("<II", image, metadata + offset)
            struct.pack_into("<I", image, metadata + offset + 4, flags | 2)
    current = max((struct.unpack_from("<Q", above, at + 8)[0], at) for at in (1 << 16, 1 << 17))[1]
    linkage = str(UUID(bytes_le=above[current + 32 : current + 48])).upper()
    locator = _vhdx_locator({"parent_linkage": f"{{{linkage}}}", "relative_path": name})
    place = 512 << 10
    image[metadata + place : metadata + place + len(locator)] = locator
    item = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le
    struct.pack_into("<16sIIII", image, metadata + 32 + 32 * count, item, place, len(locator), 4, 0)
    struct.pack_into("<H", image, metadata + 10, count + 1)
    ratio = (512 << 23) // block
    bitmap = bytearray(1 << 20)
    for number, sectors in here.items():
        (entry,) = struct.unpack_from("<Q", image, table + 8 * number)
        struct.pack_into("<Q", image, table + 8 * number, entry & ~7 | 7)
        for sector in sectors:
            bit = number * (block // 512) + sector
            bitmap[bit // 8] |= 1 << bit % 8
    image += bytes(-len(image) % (1 << 20))
    struct.pack_into("<Q", image, table + 8 * ratio, len(image) | 6)
    child.write_bytes(bytes(image) + bitmap)


def _vhdx_locator(words: dict[str, str]) -> bytes:
    out = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913").bytes_le + struct.pack("<HH", 0, len(words))
    texts, at = b"", 20 + 12 * len(words)
    for key, value in words.items():
        one, other = key.encode("utf-16-le"), value.encode("utf-16-le")
        start = at + len(texts)
        out += struct.pack("<IIHH", start, start + len(one), len(one), len(other))
        texts += one + other
    return out + texts


def envelope(disks: Sequence[str], machines: int = 1, disk_format: str = "vmdk.html#streamOptimized") -> str:
    """Return an OVF envelope of machines with these disks."""
    address = f"http://www.vmware.com/interfaces/specifications/{disk_format}"
    files = "".join(f'<File ovf:id="f{n}" ovf:href="{name}"/>' for n, name in enumerate(disks))
    listed = "".join(
        f'<Disk ovf:diskId="d{n}" ovf:fileRef="f{n}" ovf:capacity="1" ovf:format="{address}"/>'
        for n in range(len(disks))
    )
    systems = "".join(f'<VirtualSystem ovf:id="vm{n}"/>' for n in range(machines))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"'
        ' xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">'
        f"<References>{files}</References><DiskSection>{listed}</DiskSection>{systems}</Envelope>\n"
    )


def make_ova(
    path: Path, disks: Sequence[Path], *, manifest: str | None = "sha256", machines: int = 1
) -> Path:
    """Make an OVA archive of disks, with a manifest by that digest or with none."""
    text = envelope([disk.name for disk in disks], machines).encode()
    members = [("machine.ovf", text)]
    if manifest:
        lines = [
            f"{manifest.upper()}({name})= {hashlib.new(manifest, data).hexdigest()}\n"
            for name, data in [("machine.ovf", text), *((disk.name, disk.read_bytes()) for disk in disks)]
        ]
        members.append(("machine.mf", "".join(lines).encode()))
    members += [(disk.name, disk.read_bytes()) for disk in disks]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
