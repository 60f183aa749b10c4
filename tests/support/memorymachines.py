"""Machines in memory for tests of what lies above filesystems: fake filesystems on disks that bear a magic.

`fakes/memoryfs.py` holds the files; the disk is 64 KiB with an ext superblock's magic, UUID and label, so
that detection and fstab matching run as they do on real disks.
"""

import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from undercroft.disks.detect import Content, open_filesystem
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.machine import Machine, UnreadDisk, open_machine
from undercroft.disks.source import BlockSource, BytesSource
from undercroft.disks.tree import GuestTree

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from memoryfs import Broken, File, Link, MemoryFileSystem

__all__ = ["Broken", "File", "Link", "MemoryFileSystem", "disk_of", "machine_of", "tree_of", "uuid_of"]

Files = Mapping[str | bytes, bytes | File | Link | Broken]


def uuid_of(number: int) -> str:
    """Return a UUID that tells its number: 00000001-0000-..."""
    return str(uuid.UUID(int=number << 96))


def disk_of(filesystem: MemoryFileSystem, size_bytes: int = 64 << 10) -> BytesSource:
    """Return a disk that bears the magic, UUID and label of `filesystem`."""
    data = bytearray(size_bytes)
    data[1024 + 56 : 1024 + 58] = b"\x53\xef"
    data[1024 + 104 : 1024 + 120] = uuid.UUID(filesystem.uuid).bytes
    label = filesystem.label.encode()
    data[1024 + 120 : 1024 + 120 + len(label)] = label
    return BytesSource(bytes(data))


def machine_of(**disks: MemoryFileSystem | UnreadDisk | BlockSource) -> Machine:
    """Return the machine of these disks, in order; each filesystem needs a UUID of its own."""
    filesystems = {disk.uuid: disk for disk in disks.values() if isinstance(disk, MemoryFileSystem)}

    def opener(content: Content, source: BlockSource) -> FileSystem:
        return filesystems.get(content.uuid) or open_filesystem(content, source)

    sources = {
        name: disk_of(disk) if isinstance(disk, MemoryFileSystem) else disk for name, disk in disks.items()
    }
    return open_machine(list(sources.items()), opener)


def tree_of(files: Files) -> GuestTree:
    """Return the tree of one filesystem with these files."""
    return GuestTree(MemoryFileSystem(files))
