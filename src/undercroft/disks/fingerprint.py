"""What tells one state of a machine's disks from another: partition tables and superblocks, from outside.

Guarantees: equal disks have equal fingerprints, in whatever container they lie, also where one copy is
padded to whole sectors. Every mount, and every write that a superblock counts, changes it. Reads at most
`HEAD_BYTES` of each volume and the tables. A guest can write whatever it likes to its own disks, and so
forge their fingerprint: what is concluded from one is evidence, not proof.

    >>> fingerprint([("vda", source)])
    Fingerprint(digest='5a1e...', lineage='90bd...')
"""

import hashlib
import json
from collections.abc import Sequence

from undercroft.disks import partitions
from undercroft.disks.magics import HEAD_BYTES, PROBES, Content, Head
from undercroft.disks.partitions.gpt import HEADER
from undercroft.disks.partitions.table import PartitionTable
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.disks.volumes import UnreadDisk
from undercroft.errors import InputError
from undercroft.model.execution import Fingerprint

SECTOR_BYTES = 512
"""QEMU's unit: it rounds the size of a raw image up to it, and a copy as qcow2 has that size."""

EXT_SUPERBLOCK = slice(1024, 2048)
DISK_UUID_FIELD = 9

NO_SIGNATURE = "00000000-"
"""An MBR whose disk was never given a signature: it tells no disk from another."""

MAX_VOLUMES = 1024
"""Of all disks together; a table may name 8,192 partitions. The rest counts by its table entries alone."""


def fingerprint(disks: Sequence[tuple[str, BlockSource | UnreadDisk]]) -> Fingerprint | None:
    """Return the fingerprint of `disks` in the machine's order; their names do not count.

    An unread disk counts as such. None where all are unread, or where one cannot be read on the way.
    """
    if all(isinstance(disk, UnreadDisk) for _name, disk in disks):
        return None
    marks = _Marks()
    try:
        for _name, disk in disks:
            if isinstance(disk, UnreadDisk):
                marks.add("unread", b"")
            else:
                marks.add_disk(disk)
    except InputError:
        return None
    return marks.finish()


class _Marks:
    """The digest as it grows, and the UUIDs on the way."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._uuids: set[str] = set()
        self._volumes = 0

    def add(self, kind: str, data: bytes) -> None:
        """Take over one piece; its kind and length keep it apart from the next."""
        self._digest.update(f"{kind} {len(data)}\n".encode("ascii"))
        self._digest.update(data)

    def add_disk(self, disk: BlockSource) -> None:
        """Take over a disk's size, its table, and the head of each of its volumes. Raises InputError."""
        self.add(f"disk {-(-disk.size_bytes // SECTOR_BYTES)}", b"")
        try:
            table = partitions.read_table(disk)
        except InputError:
            table = PartitionTable("none")  # a broken table is part of the disk's first bytes
        self.add("table", _table_bytes(disk, table))
        if table.kind == "gpt":
            self._add_disk_uuid(disk, table.sector_bytes)
        for part in table.partitions:
            if part.part_uuid and not part.part_uuid.startswith(NO_SIGNATURE):
                self._uuids.add(f"partition {part.part_uuid}")
            if part.size_bytes and not part.problem and self._volumes < MAX_VOLUMES:
                self._add_volume(SliceSource(disk, part.start_bytes, part.size_bytes))
        if not table.partitions:
            self._add_volume(disk)

    def _add_disk_uuid(self, disk: BlockSource, sector_bytes: int) -> None:
        """Take the disk's own UUID from the primary GPT header, sound or not."""
        header = disk.read(sector_bytes, HEADER.size)
        self.add("gpt", header)
        ident = HEADER.unpack(header)[DISK_UUID_FIELD]
        if any(ident):
            self._uuids.add(f"disk {ident.hex()}")

    def _add_volume(self, volume: BlockSource) -> None:
        self._volumes += 1
        data = volume.read(0, min(HEAD_BYTES, volume.size_bytes))
        content = _content(data)
        if content and content.uuid:
            self._uuids.add(f"{content.kind} {content.uuid}")
        if content and content.kind == "ext":
            self.add("ext", data[EXT_SUPERBLOCK])
        else:
            self.add("head", data)

    def finish(self) -> Fingerprint:
        """Return what came together."""
        listed = "\n".join(sorted(self._uuids)).encode("utf-8", "surrogateescape")
        return Fingerprint(self._digest.hexdigest(), hashlib.sha256(listed).hexdigest() if listed else "")


def _table_bytes(disk: BlockSource, table: PartitionTable) -> bytes:
    """Return the first sector, with boot code and the MBR, and what the table says of each partition."""
    first = disk.read(0, min(SECTOR_BYTES, disk.size_bytes))
    entries = [
        [
            part.number,
            part.start_bytes,
            part.size_bytes,
            part.type_id,
            part.part_uuid,
            part.name,
            part.bootable,
        ]
        for part in table.partitions
    ]
    return first + json.dumps([table.kind, entries]).encode("ascii")


def _content(data: bytes) -> Content | None:
    """Return what the volume's magic numbers say, in the order in which `detect` asks."""
    head = Head(data)
    return next((content for probe in PROBES if (content := probe(head))), None)
