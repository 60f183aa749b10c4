"""The superblock of UFS: where it lies, what it says, and which of that is believed."""

from dataclasses import dataclass
from struct import unpack_from

# Its compiled part by name: the package itself falls back to Python, 400 times slower, without a word.
from google_crc32c._crc32c import extend

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

PLACES = (65536, 8192)
"""Where FreeBSD's kernel looks first (SBLOCKSEARCH): UFS2's place, UFS1's place."""
SUPERBLOCK_BYTES = 1376
MAX_SUPERBLOCK_BYTES = 8192
MAGIC_OFFSET = 1372
MAGICS = {0x00011954: 1, 0x19540119: 2}

BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)
FRAGMENT_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
MAX_FRAGMENTS_PER_BLOCK = 8
MAX_INODES = 1 << 32
POINTERS_IN_INODE = 15
INODE_BYTES = {1: 128, 2: 256}
POINTER_BYTES = {1: 4, 2: 8}
FORMAT_44BSD = 2

FLAG_NEEDS_CHECK = 0x04
FLAG_JOURNAL = 0x08
FLAG_GEOM_JOURNAL = 0x40
FLAG_FLAGS_MOVED = 0x80
FLAG_HASHES = 0x200
HASH_SUPERBLOCK, HASH_INODE = 0x1, 0x4
_HASH_OFFSET, _HASHED_OFFSET = 1304, 1308
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Superblock:
    """What of a superblock is used, checked.

    Attributes:
        version: 1 or 2.
        block_bytes, fragment_bytes: of a block, and of what it is made of.
        size_bytes: of the filesystem.
        groups, fragments_per_group, inodes_per_group: cylinder groups and what is in each.
        inodes_at: where in a group its inodes begin, in fragments.
        skew, skew_mask: of UFS1, how far a group's structures lie from its start.
        inline_link_bytes: a shorter link lies in its inode; 0 where `blocks` tells it.
        label, uuid: as libblkid prints them; "" for none.
        is_clean: whether it was unmounted.
        flags: of fs_flags.
        hashes: which structures bear check hashes.
    """

    version: int
    block_bytes: int
    fragment_bytes: int
    size_bytes: int
    groups: int
    fragments_per_group: int
    inodes_per_group: int
    inodes_at: int
    skew: int
    skew_mask: int
    inline_link_bytes: int
    label: str
    uuid: str
    is_clean: bool
    flags: int
    hashes: int

    @property
    def inode_bytes(self) -> int:
        """Length of an inode on the disk."""
        return INODE_BYTES[self.version]

    @property
    def pointers_per_block(self) -> int:
        """Block numbers in an indirect block."""
        return self.block_bytes // POINTER_BYTES[self.version]

    def inode_offset(self, node: int) -> int:
        """Return where an inode lies. Raises InputError where there is no such."""
        if not 2 <= node < self.groups * self.inodes_per_group:
            raise InputError(f"ufs inode {node}: there is none")
        group, index = divmod(node, self.inodes_per_group)
        start = group * self.fragments_per_group + self.skew * (group & ~self.skew_mask)
        offset = (start + self.inodes_at) * self.fragment_bytes + index * self.inode_bytes
        if not 0 <= offset <= self.size_bytes - self.inode_bytes:
            raise InputError(f"ufs inode {node}: it lies at {offset}, outside of the filesystem")
        return offset

    def problems(self) -> tuple[str, ...]:
        """Return why what is read may not be what the guest wrote."""
        if self.is_clean and not self.flags & FLAG_NEEDS_CHECK:
            return ()
        if self.flags & FLAG_JOURNAL:
            journal = "the soft-updates journal is not replayed"
        elif self.flags & FLAG_GEOM_JOURNAL:
            journal = "the journal of gjournal is not replayed"
        else:
            journal = "no check has run since"
        return (f"ufs the volume was not unmounted and {journal}: it is read as it stands",)


def check_hash(data: bytes, offset: int) -> int:
    """Return FreeBSD's check hash of a structure, whose own hash lies at `offset`: CRC-32C, not inverted."""
    value: int = extend(extend(extend(0, data[:offset]), bytes(4)), data[offset + 4 :])
    return value ^ _MASK


def read_superblock(source: BlockSource) -> Superblock:
    """Return the superblock of the UFS in `source`.

    Raises:
        InputError: there is none, or it is malformed.
        UnsupportedError: of another byte order or age.
    """
    for place in PLACES:
        if place + MAX_SUPERBLOCK_BYTES > source.size_bytes:
            continue
        data = source.read(place, MAX_SUPERBLOCK_BYTES)
        (magic,) = unpack_from("<I", data, MAGIC_OFFSET)
        if int.from_bytes(magic.to_bytes(4, "little"), "big") in MAGICS:
            raise UnsupportedError("ufs of a big-endian machine is not supported yet")
        version = MAGICS.get(magic, 0)
        if version == 1 and place == PLACES[1]:
            return _parse(data, 1, source.size_bytes)
        # A copy of a group may lie at the other place: UFS2's superblock names its own.
        if version == 2 and unpack_from("<q", data, 1000)[0] == place:
            return _parse(data, 2, source.size_bytes)
    raise InputError("ufs superblock: there is none")


def _parse(data: bytes, version: int, volume_bytes: int) -> Superblock:
    old_size, _, groups, block, fragment, per_block = unpack_from("<2iI3i", data, 36)
    (inodes_at,) = unpack_from("<i", data, 16)
    skew, skew_mask = unpack_from("<2i", data, 24) if version == 1 else (0, -1)
    inodes, fragments = unpack_from("<Ii", data, 184)
    (length,) = unpack_from("<i", data, 104)
    flags, _, link_bytes, inode_format = unpack_from("<4i", data, 1312)
    if version == 1 and not data[211] & FLAG_FLAGS_MOVED:
        flags = data[211]
    hashes = unpack_from("<I", data, _HASHED_OFFSET)[0] if version == 2 and flags & FLAG_HASHES else 0
    if not SUPERBLOCK_BYTES <= length <= MAX_SUPERBLOCK_BYTES:
        raise InputError(f"ufs superblock: it has {length} bytes")
    if hashes & HASH_SUPERBLOCK:
        _check(data[:length])
    if block not in BLOCK_SIZES or fragment not in FRAGMENT_SIZES or per_block != block // fragment:
        raise InputError(f"ufs superblock: blocks of {block} bytes in {per_block} fragments of {fragment}")
    if not 1 <= per_block <= MAX_FRAGMENTS_PER_BLOCK:
        raise InputError(f"ufs superblock: {per_block} fragments in a block")
    if version == 1 and inode_format != FORMAT_44BSD:
        raise UnsupportedError("ufs from before 4.4BSD is not supported yet")
    size = (old_size if version == 1 else unpack_from("<q", data, 1080)[0]) * fragment
    if not 0 < size <= volume_bytes:
        raise InputError(f"ufs superblock: it says {size} bytes, the volume has {volume_bytes}")
    if groups < 1 or fragments < 1 or inodes < 1 or groups * inodes > MAX_INODES:
        raise InputError(f"ufs superblock: {groups} groups of {fragments} fragments and {inodes} inodes")
    table = inodes * INODE_BYTES[version]
    if inodes_at < 1 or inodes_at * fragment + table > fragments * fragment or skew < 0:
        raise InputError(f"ufs superblock: {table} bytes of inodes at fragment {inodes_at} of {fragments}")
    first, second = unpack_from("<2I", data, 144)
    return Superblock(
        version=version,
        block_bytes=block,
        fragment_bytes=fragment,
        size_bytes=size,
        groups=groups,
        fragments_per_group=fragments,
        inodes_per_group=inodes,
        inodes_at=inodes_at,
        skew=skew,
        skew_mask=skew_mask,
        inline_link_bytes=min(max(link_bytes, 0), POINTERS_IN_INODE * POINTER_BYTES[version]),
        label=data[680:712].split(b"\0", 1)[0].decode("utf-8", "surrogateescape"),
        uuid=f"{first:08x}{second:08x}" if first or second else "",
        is_clean=data[209] == 1,
        flags=flags,
        hashes=hashes,
    )


def _check(data: bytes) -> None:
    (found,) = unpack_from("<I", data, _HASH_OFFSET)
    expected = check_hash(data, _HASH_OFFSET)
    if found != expected:
        raise InputError(f"ufs superblock: its check hash is {found:#x}, its bytes give {expected:#x}")
