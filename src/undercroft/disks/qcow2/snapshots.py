"""The table of internal snapshots of a qcow2 image.

Yields entries one by one, in the table's order, within `MAX_SNAPSHOTS` entries and
`MAX_SNAPSHOT_TABLE_BYTES` bytes. Follows section "Snapshots" of the specification.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from undercroft.disks.qcow2 import layout
from undercroft.disks.qcow2.header import CURE, Header
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError
from undercroft.model.disk import Snapshot

_MAX_ENTRY_BYTES: Final = 160 << 10
"""More than the largest entry: 40 bytes, 1,024 of extra data, twice 65,535 of ID and name."""

_WINDOW_BYTES: Final = 4 * _MAX_ENTRY_BYTES
"""How much of the table is read at once."""


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """One entry: what users see of it, and where its L1 table lies (not yet checked).

    `sized` tells whether the entry states the virtual disk's size; old version 2 images do not, and the
    active size stands in.
    """

    snapshot: Snapshot
    l1_offset: int
    l1_entries: int
    sized: bool


def read_snapshots(source: BlockSource, header: Header, name: str) -> Iterator[SnapshotEntry]:
    """Yield the entries of the snapshot table.

    Args:
        source: the image file, untrusted.
        header: its checked header.
        name: of the image, for messages.

    Raises:
        InputError: the table passes the file or a limit, or an entry is malformed.
    """
    if header.snapshot_count > layout.MAX_SNAPSHOTS:
        raise InputError(
            f"{name}: {header.snapshot_count} snapshots are over the limit of {layout.MAX_SNAPSHOTS}"
        )
    if header.snapshot_count and header.snapshots_offset % header.cluster_bytes:
        raise InputError(
            f"{name}: the snapshot table at {header.snapshots_offset} does not start with a cluster; {CURE}"
        )
    idents: set[str] = set()
    window, window_start, window_end = b"", header.snapshots_offset, header.snapshots_offset
    position = header.snapshots_offset
    for index in range(header.snapshot_count):
        if position - header.snapshots_offset > layout.MAX_SNAPSHOT_TABLE_BYTES:
            raise InputError(
                f"{name}: the snapshot table is over the limit of {layout.MAX_SNAPSHOT_TABLE_BYTES} bytes"
            )
        if window_end < min(position + _MAX_ENTRY_BYTES, source.size_bytes):
            window_start, window_end = position, min(position + _WINDOW_BYTES, source.size_bytes)
            window = source.read(window_start, window_end - window_start)
        entry, length = _parse(window, position - window_start, header, f"{name}: snapshot entry {index}")
        # An ID that stands for two snapshots would show one under the other's name.
        if not entry.snapshot.ident or entry.snapshot.ident in idents:
            ident = entry.snapshot.ident
            raise InputError(f"{name}: snapshot entry {index}: the ID {ident!r} is not its own; {CURE}")
        idents.add(entry.snapshot.ident)
        yield entry
        position += length


def _parse(window: bytes, start: int, header: Header, what: str) -> tuple[SnapshotEntry, int]:
    """Return the entry at `start` of `window` and its length in the table."""
    if start + layout.SNAPSHOT.size > len(window):
        raise InputError(f"{what} lies beyond the end of the file; {CURE}")
    fields = layout.SNAPSHOT.unpack_from(window, start)
    l1_offset, l1_entries, ident_bytes, name_bytes, created_at_s, _, _, vm_state_bytes, extra_bytes = fields
    if extra_bytes > layout.MAX_SNAPSHOT_EXTRA_BYTES:
        raise InputError(
            f"{what}: {extra_bytes} bytes of extra data are over the limit of"
            f" {layout.MAX_SNAPSHOT_EXTRA_BYTES}"
        )
    extra = start + layout.SNAPSHOT.size
    ident = extra + extra_bytes
    end = ident + ident_bytes + name_bytes
    if end > len(window):
        raise InputError(f"{what} lies beyond the end of the file; {CURE}")
    size_bytes, sized = header.size_bytes, False
    if extra_bytes >= layout.SNAPSHOT_EXTRA_STATE.size:
        (vm_state_bytes,) = layout.SNAPSHOT_EXTRA_STATE.unpack_from(window, extra)
    if extra_bytes >= layout.SNAPSHOT_EXTRA_SIZE.size:
        _, size_bytes = layout.SNAPSHOT_EXTRA_SIZE.unpack_from(window, extra)
        sized = True
    snapshot = Snapshot(
        ident=window[ident : ident + ident_bytes].decode("utf-8", "surrogateescape"),
        name=window[ident + ident_bytes : end].decode("utf-8", "surrogateescape"),
        created_at_s=created_at_s,
        vm_state_bytes=vm_state_bytes,
        size_bytes=size_bytes,
    )
    return SnapshotEntry(snapshot, l1_offset, l1_entries, sized), -(-(end - start) // 8) * 8
