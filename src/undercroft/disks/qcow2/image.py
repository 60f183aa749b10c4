"""A qcow2 image as a block source: the virtual disk of one of its states, read-only.

Guarantees that a read returns what the guest would read, or raises: clusters that belong to a backing file
or a data file which nobody gave are never taken for zeros. Backing and data files are sources that the
caller opened; the names in the header are not followed.
"""

from undercroft.disks.keys import NO_KEYS, Keys
from undercroft.disks.qcow2.compressed import CompressedClusters
from undercroft.disks.qcow2.encryption import encryption_ident, open_data
from undercroft.disks.qcow2.header import CURE, Header, check_l1, read_header
from undercroft.disks.qcow2.mapping import Kind, Mapping
from undercroft.disks.qcow2.snapshots import SnapshotEntry, read_snapshots
from undercroft.disks.source import MAX_READ_BYTES, BlockSource, check_range
from undercroft.errors import InputError, NotFoundError
from undercroft.model.disk import DiskFormat, ImageInfo


def inspect(source: BlockSource, *, name: str = "image") -> ImageInfo:
    """Return an image's own account of itself, from its header and snapshot table alone.

    Args:
        source: the image file, untrusted.
        name: of the image, for messages.

    Raises:
        InputError: header or snapshot table are malformed or over a limit, or the image is marked corrupt.
        UnsupportedError: another version, or a feature that is not known here. Encryption is told, not
            refused.
    """
    header = read_header(source, name)
    return ImageInfo(
        format=DiskFormat.QCOW2,
        size_bytes=header.size_bytes,
        cluster_bytes=header.cluster_bytes,
        version=header.version,
        snapshots=tuple(entry.snapshot for entry in read_snapshots(source, header, name)),
        backing_name=header.backing_name,
        backing_format=header.backing_format,
        data_file_name=header.data_file_name,
        has_data_file=header.has_data_file,
        encryption=header.encryption,
        features=header.features,
        ident=encryption_ident(source, header, name),
    )


def open_image(
    source: BlockSource,
    *,
    snapshot: str | None = None,
    backing: BlockSource | None = None,
    data_file: BlockSource | None = None,
    name: str = "image",
    keys: Keys = NO_KEYS,
    disk: str = "",
) -> "Qcow2Source":
    """Open the virtual disk of an image's current state, or of one of its snapshots.

    Args:
        source: the image file, untrusted.
        snapshot: ID of an internal snapshot, None for the current state.
        backing: the virtual disk below this one, None when there is none or it is not at hand.
        data_file: the external data file, None when there is none or it is not at hand.
        name: of the image, for messages.
        keys: for an encrypted image.
        disk: the disk's name in the machine, by which a key for it is chosen.

    Raises:
        InputError: the image is malformed, over a limit or marked corrupt; a backing or data file was given
            that it does not have; no key opens it.
        UnsupportedError: it is encrypted and there is no key for it, it is of another version, or has a
            feature that is not known here.
        NotFoundError: it has no snapshot with that ID.
    """
    header = read_header(source, name)
    if backing is not None and not header.backing_name:
        raise InputError(f"{name}: a backing file was given, but its header names none")
    if data_file is not None and not header.has_data_file:
        raise InputError(f"{name}: a data file was given, but its clusters lie in the image itself")
    size_bytes, l1_offset, l1_entries = header.size_bytes, header.l1_offset, header.l1_entries
    if snapshot is not None:
        entry = _find(source, header, snapshot, name)
        size_bytes, l1_offset, l1_entries = entry.snapshot.size_bytes, entry.l1_offset, entry.l1_entries
        # An entry without a size borrows the active disk's, which may have grown since.
        check_l1(
            header, l1_offset, l1_entries, size_bytes if entry.sized else 0, f"{name}@{snapshot}: L1 table"
        )
    if l1_offset + l1_entries * 8 > source.size_bytes:
        raise InputError(f"{name}: the L1 table at {l1_offset} lies beyond the end of the file; {CURE}")
    data: BlockSource | None = data_file if header.has_data_file else source
    if header.encryption and data is not None:
        data = open_data(source, header, data, (disk or name,), keys, name)
    return Qcow2Source(
        header,
        mapping=Mapping(source, header, l1_offset, l1_entries, name),
        size_bytes=size_bytes,
        compressed=CompressedClusters(source, header, name),
        data=data,
        backing=backing,
        name=name,
    )


def _find(source: BlockSource, header: Header, ident: str, name: str) -> SnapshotEntry:
    for entry in read_snapshots(source, header, name):
        if entry.snapshot.ident == ident:
            return entry
    raise NotFoundError(f"{name}: has no snapshot with the ID {ident!r}")


class Qcow2Source:
    """One state's virtual disk; made by `open_image`."""

    __slots__ = (
        "_backing",
        "_cluster_bytes",
        "_compressed",
        "_data",
        "_header",
        "_mapping",
        "name",
        "size_bytes",
    )

    def __init__(
        self,
        header: Header,
        *,
        mapping: Mapping,
        size_bytes: int,
        compressed: CompressedClusters,
        data: BlockSource | None,
        backing: BlockSource | None,
        name: str,
    ) -> None:
        self._header = header
        self._cluster_bytes = header.cluster_bytes
        self._mapping = mapping
        self._compressed = compressed
        self._data = data
        self._backing = backing
        self.size_bytes = size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset` as the guest would read them.

        Raises:
            InputError: beyond the end; a malformed table; data beyond the file; data in a backing or data
                file that nobody gave.
        """
        # The check of check_range, here too because a call would cost as much as the rest.
        if offset < 0 or not 0 <= length <= MAX_READ_BYTES or offset + length > self.size_bytes:
            check_range(offset, length, self.size_bytes, self.name)
        place = self._mapping.data_offset(offset, length)
        if place >= 0:
            return self._read_data(place, length)
        pieces = []
        for kind, run_place, run_length in self._mapping.runs(offset, length):
            if kind is Kind.DATA:
                pieces.append(self._read_data(run_place, run_length))
            elif kind is Kind.COMPRESSED:
                if self._header.encryption:
                    raise InputError(f"{self.name}: is encrypted, and has compressed clusters; {CURE}")
                within = offset & (self._cluster_bytes - 1)
                pieces.append(self._compressed.cluster(run_place)[within : within + run_length])
            elif kind is Kind.UNALLOCATED:
                pieces.append(self._read_backing(offset, run_length))
            else:
                pieces.append(bytes(run_length))
            offset += run_length
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_data(self, place: int, length: int) -> bytes:
        data = self._data
        if data is None:
            raise InputError(
                f"{self.name}: its data lies in the external data file {self._header.data_file_name!r};"
                " name it with `--data-file FILE`"
            )
        end = data.size_bytes
        if place + length <= end:
            return data.read(place, length)
        # The file may end within its last cluster: QEMU writes no padding and reads zeros there.
        if (place + length - 1) & ~(self._cluster_bytes - 1) >= end:
            raise InputError(
                f"{self.name}: data at {place} lies beyond the end of its file at {end} (truncated?); {CURE}"
            )
        kept = max(0, end - place)
        return (data.read(place, kept) if kept else b"") + bytes(length - kept)

    def _read_backing(self, offset: int, length: int) -> bytes:
        backing = self._backing
        if backing is None:
            if not self._header.backing_name:
                return bytes(length)
            raise InputError(
                f"{self.name}: {length} bytes at {offset} lie in its backing file, which its header calls"
                f" {self._header.backing_name!r}; if that is to be trusted, name it with `--backing FILE`"
            )
        kept = max(0, min(length, backing.size_bytes - offset))
        data = backing.read(offset, kept) if kept else b""
        return data if kept == length else data + bytes(length - kept)
