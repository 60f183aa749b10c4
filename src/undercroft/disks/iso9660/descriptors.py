"""Volume descriptors: where the trees of a disc begin."""

from dataclasses import dataclass

from undercroft.disks.iso9660 import layout
from undercroft.disks.iso9660.naming import is_joliet, names
from undercroft.disks.iso9660.records import both, parse
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


@dataclass(frozen=True, slots=True)
class Disc:
    """What the descriptors say.

    Attributes:
        block_bytes: of a logical block, the unit of extents.
        blocks: of the volume.
        primary: where the primary tree's root begins, in bytes.
        joliet: where Joliet's does, None where there is none.
        label: as libblkid prints it.
        uuid: likewise.
    """

    block_bytes: int
    blocks: int
    primary: int
    joliet: int | None
    label: str
    uuid: str


def read_disc(source: BlockSource) -> Disc:
    """Return what the descriptors say of a disc. Raises InputError where there is no sound primary one."""
    primary: bytes | None = None
    joliet: bytes | None = None
    sectors = []
    for number in range(layout.FIRST_DESCRIPTOR, layout.FIRST_DESCRIPTOR + layout.MAX_DESCRIPTORS):
        start = number * layout.SECTOR_BYTES
        if start + layout.SECTOR_BYTES > source.size_bytes:
            break
        sector = source.read(start, layout.SECTOR_BYTES)
        if sector[1:6] != layout.IDENTIFIER or sector[0] == layout.TERMINATOR:
            break
        sectors.append(sector)
        if sector[0] == layout.PRIMARY:
            primary = primary or sector
        elif sector[0] == layout.SUPPLEMENTARY and is_joliet(sector):
            joliet = sector  # Linux takes the last one
    if primary is None:
        raise InputError("iso9660: there is no primary volume descriptor")
    size = both(primary, layout.BLOCK_BYTES_OFFSET, 2, "iso9660 descriptor")
    if size not in layout.BLOCK_SIZES:
        raise InputError(f"iso9660 descriptor: blocks of {size} bytes")
    blocks = both(primary, layout.VOLUME_BLOCKS_OFFSET, 4, "iso9660 descriptor")
    head = bytes(layout.FIRST_DESCRIPTOR * layout.SECTOR_BYTES) + b"".join(sectors)
    label, uuid = names(head) or ("", "")
    return Disc(size, blocks, _root(primary, size), _root(joliet, size) if joliet else None, label, uuid)


def _root(descriptor: bytes, block_bytes: int) -> int:
    record = parse(descriptor[layout.ROOT_RECORD_OFFSET :], "iso9660 descriptor")
    if not record.flags & layout.FLAG_DIRECTORY:
        raise InputError("iso9660 descriptor: its root is no directory")
    return record.block * block_bytes
