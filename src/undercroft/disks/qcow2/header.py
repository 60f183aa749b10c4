"""The qcow2 header and its extensions, checked.

Guarantees that a `Header` is consistent in itself and within the limits of `layout`: callers may use its
numbers without looking again, except that nothing is said of what lies at the offsets. Follows sections
"Header" and "Header extensions" of the specification. Names in it are values; nothing opens them.
"""

from dataclasses import dataclass

from undercroft.disks.qcow2 import layout
from undercroft.disks.qcow2.layout import Extension
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

CURE = "`qemu-img check` tells more"

_READ_EXTENSIONS = frozenset(
    {
        Extension.BACKING_FORMAT,
        Extension.FEATURE_NAMES,
        Extension.DATA_FILE_NAME,
        Extension.ENCRYPTION_HEADER,
    }
)


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says, within limits.

    Attributes:
        version: 2 or 3.
        cluster_bits: logarithm of the cluster's size.
        size_bytes: the virtual disk's size.
        encryption: "", "aes" or "luks".
        l1_offset: where the active L1 table lies, a multiple of the cluster's size.
        l1_entries: how many entries it has; enough for `size_bytes`.
        snapshot_count: entries of the snapshot table.
        snapshots_offset: where that table lies.
        incompatible: feature bits; all known, the corrupt bit unset.
        zstd: compressed clusters are zstd, else deflate.
        backing_name: as stored, "" for none; undecodable bytes are surrogates.
        backing_format: as stored, "" for none.
        data_file_name: as stored, "" for none.
        encryption_header: offset and length of the LUKS header in the file, (0, 0) for none.
    """

    version: int
    cluster_bits: int
    size_bytes: int
    encryption: str
    l1_offset: int
    l1_entries: int
    snapshot_count: int
    snapshots_offset: int
    incompatible: int
    zstd: bool
    backing_name: str
    backing_format: str
    data_file_name: str
    encryption_header: tuple[int, int] = (0, 0)

    @property
    def cluster_bytes(self) -> int:
        """Size of a cluster."""
        return 1 << self.cluster_bits

    @property
    def extended_l2(self) -> bool:
        """Whether L2 entries have 16 bytes and map 32 subclusters each."""
        return bool(self.incompatible & layout.INCOMPATIBLE_EXTENDED_L2)

    @property
    def has_data_file(self) -> bool:
        """Whether guest clusters lie in an external data file."""
        return bool(self.incompatible & layout.INCOMPATIBLE_DATA_FILE)

    @property
    def l2_entry_bytes(self) -> int:
        """Size of an L2 entry."""
        return 16 if self.extended_l2 else 8

    @property
    def bytes_per_l1_entry(self) -> int:
        """How much of the virtual disk one L2 table maps."""
        return self.cluster_bytes // self.l2_entry_bytes << self.cluster_bits

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the incompatible features in use."""
        names = {
            "dirty": bool(self.incompatible & layout.INCOMPATIBLE_DIRTY),
            "data-file": self.has_data_file,
            "zstd": self.zstd,
            "extended-l2": self.extended_l2,
        }
        return tuple(name for name, used in names.items() if used)


def read_header(source: BlockSource, name: str) -> Header:
    """Read and check the header of a qcow2 image.

    Args:
        source: the image file, untrusted.
        name: of the image, for messages.

    Raises:
        InputError: it is no qcow2 image, it contradicts itself or a limit, or it is marked corrupt.
        UnsupportedError: another version, or an incompatible feature that is not known here.
    """
    untrusted = source.read(0, min(source.size_bytes, layout.MAX_HEADER_BYTES))
    if len(untrusted) < layout.HEADER_V2.size or untrusted[:4] != layout.MAGIC:
        raise InputError(f"{name}: is no qcow2 image, its magic number is {untrusted[:4]!r}")
    fields = layout.HEADER_V2.unpack_from(untrusted)
    _, version, backing_offset, backing_size, cluster_bits, size_bytes, encryption = fields[:7]
    l1_entries, l1_offset, _, _, snapshot_count, snapshots_offset = fields[7:]
    if version not in (2, 3):
        raise UnsupportedError(f"{name}: qcow2 version {version} is not supported, only 2 and 3 are")
    if not layout.MIN_CLUSTER_BITS <= cluster_bits <= layout.MAX_CLUSTER_BITS:
        raise InputError(f"{name}: clusters of 2^{cluster_bits} bytes are out of range; {CURE}")
    if encryption >= len(layout.ENCRYPTIONS):
        raise UnsupportedError(f"{name}: encryption method {encryption} is not known")

    area = untrusted[: 1 << cluster_bits]
    incompatible, header_bytes, zstd = 0, layout.HEADER_V2.size, False
    if version == 3:
        incompatible, header_bytes, zstd = _read_version_3(area, name)
    extensions_end = backing_offset if header_bytes <= backing_offset < len(area) else len(area)
    extensions = _read_extensions(area[:extensions_end], header_bytes, name)
    _check_features(incompatible, extensions.get(Extension.FEATURE_NAMES, b""), cluster_bits, name)

    header = Header(
        version=version,
        cluster_bits=cluster_bits,
        size_bytes=size_bytes,
        encryption=layout.ENCRYPTIONS[encryption],
        l1_offset=l1_offset,
        l1_entries=l1_entries,
        snapshot_count=snapshot_count,
        snapshots_offset=snapshots_offset,
        incompatible=incompatible,
        zstd=zstd,
        backing_name=_read_backing_name(source, backing_offset, backing_size, 1 << cluster_bits, name),
        backing_format=_text(extensions.get(Extension.BACKING_FORMAT, b"")),
        data_file_name=_text(extensions.get(Extension.DATA_FILE_NAME, b"")),
        encryption_header=_pointer(extensions.get(Extension.ENCRYPTION_HEADER, b"")),
    )
    check_l1(header, l1_offset, l1_entries, size_bytes, f"{name}: L1 table")
    return header


def check_l1(header: Header, l1_offset: int, l1_entries: int, size_bytes: int, what: str) -> None:
    """Raise InputError unless an L1 table's place and size are sound and it maps `size_bytes`."""
    if l1_entries * 8 > layout.MAX_L1_BYTES:
        raise InputError(f"{what}: {l1_entries} entries are over the limit of {layout.MAX_L1_BYTES // 8}")
    if l1_offset % header.cluster_bytes:
        raise InputError(f"{what}: its offset {l1_offset} is not at a cluster's start; {CURE}")
    if l1_entries * header.bytes_per_l1_entry < size_bytes:
        raise InputError(f"{what}: {l1_entries} entries are too few for a disk of {size_bytes} bytes; {CURE}")


def _read_version_3(area: bytes, name: str) -> tuple[int, int, bool]:
    """Return incompatible features, header length and whether compressed clusters are zstd."""
    if len(area) < layout.HEADER_V3_BYTES:
        raise InputError(f"{name}: ends within the header; {CURE}")
    incompatible, _, _, _, header_bytes = layout.HEADER_V3.unpack_from(area, layout.HEADER_V2.size)
    if not layout.HEADER_V3_BYTES <= header_bytes <= len(area):
        raise InputError(f"{name}: a header of {header_bytes} bytes is out of range; {CURE}")
    compression = layout.COMPRESSION_ZLIB
    if header_bytes > layout.COMPRESSION_TYPE_OFFSET:
        compression = area[layout.COMPRESSION_TYPE_OFFSET]
    if compression > layout.COMPRESSION_ZSTD:
        raise UnsupportedError(f"{name}: compression type {compression} is not supported")
    marked = bool(incompatible & layout.INCOMPATIBLE_COMPRESSION)
    if marked != (compression != layout.COMPRESSION_ZLIB):
        raise InputError(f"{name}: compression type {compression} contradicts its feature bit; {CURE}")
    return incompatible, header_bytes, compression == layout.COMPRESSION_ZSTD


def _read_extensions(area: bytes, start: int, name: str) -> dict[int, bytes]:
    """Return the known extensions by type; unknown ones are skipped, as the specification asks."""
    found: dict[int, bytes] = {}
    position = start
    while position + layout.EXTENSION.size <= len(area):
        kind, length = layout.EXTENSION.unpack_from(area, position)
        position += layout.EXTENSION.size
        if kind == Extension.END:
            break
        if length > len(area) - position:
            raise InputError(
                f"{name}: header extension {kind:#x} of {length} bytes passes the header; {CURE}"
            )
        if kind in _READ_EXTENSIONS:
            found[kind] = area[position : position + length]
        position += -(-length // 8) * 8
    return found


def _check_features(incompatible: int, names: bytes, cluster_bits: int, name: str) -> None:
    unknown = incompatible & ~layout.INCOMPATIBLE_KNOWN
    if unknown:
        bits = [bit for bit in range(64) if unknown >> bit & 1]
        told = ", ".join(_feature_name(names, bit) for bit in bits)
        raise UnsupportedError(f"{name}: uses qcow2 features that are not known here: {told}")
    if incompatible & layout.INCOMPATIBLE_CORRUPT:
        raise InputError(f"{name}: is marked corrupt; run `qemu-img check -r all` on a copy of it")
    if incompatible & layout.INCOMPATIBLE_EXTENDED_L2 and cluster_bits < layout.MIN_EXTENDED_CLUSTER_BITS:
        raise InputError(f"{name}: extended L2 entries need clusters of 16 KiB or more; {CURE}")


def _feature_name(table: bytes, bit: int) -> str:
    """Return the name that the image itself gives an incompatible feature, for messages only."""
    for start in range(0, len(table) - layout.FEATURE_NAME_BYTES + 1, layout.FEATURE_NAME_BYTES):
        if table[start] == 0 and table[start + 1] == bit:
            untrusted_name = table[start + 2 : start + layout.FEATURE_NAME_BYTES].rstrip(b"\0")
            return f"bit {bit} ({_text(untrusted_name)!r})"
    return f"bit {bit}"


def _read_backing_name(source: BlockSource, offset: int, length: int, cluster_bytes: int, name: str) -> str:
    if offset == 0 or length == 0:
        return ""
    if length > layout.MAX_BACKING_NAME_BYTES or offset + length > cluster_bytes:
        raise InputError(f"{name}: a backing name of {length} bytes at {offset} is out of range; {CURE}")
    return _text(source.read(offset, length))


def _pointer(untrusted: bytes) -> tuple[int, int]:
    """Return offset and length that the extension names; one that is too short names nothing."""
    if len(untrusted) < layout.ENCRYPTION_POINTER.size:
        return 0, 0
    offset, length = layout.ENCRYPTION_POINTER.unpack_from(untrusted)
    return offset, length


def _text(untrusted: bytes) -> str:
    return untrusted.decode("utf-8", "surrogateescape")
