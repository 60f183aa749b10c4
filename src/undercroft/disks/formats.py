"""The filesystems that are read, one line each; `detect` names a volume's kind, this opens it.

A reader is a module with `open_filesystem(source) -> FileSystem` (`disks.filesystem`). To add one: write it,
add its line, give it tests, mutants and an oracle (docs/FORMATS.md, "Adding a format"). README's table is
made from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import cast

from undercroft.disks.filesystem import FileSystem
from undercroft.disks.magics import Content
from undercroft.disks.source import BlockSource
from undercroft.errors import UnsupportedError

UNKNOWN = "unknown"


class Level(StrEnum):
    """How much of a format is read."""

    WHOLE = "whole"
    PARTLY = "in part"
    NAMED = "recognized only"


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        kind: as `Content.kind` has it.
        title: as an administrator calls it.
        level: how much is read.
        reads: what is read and what is not, in one sentence.
        module: of its reader, "" where there is none.
    """

    kind: str
    title: str
    level: Level
    reads: str
    module: str = ""


FILESYSTEMS = (
    Format(
        "ext",
        "ext2, ext3, ext4",
        Level.WHOLE,
        "the journal (fast commits too) is replayed in memory; encrypted folders are reported as unread",
        "undercroft.disks.ext4",
    ),
    Format(
        "xfs",
        "XFS",
        Level.WHOLE,
        "versions 4 and 5, the log replayed in memory; files on a realtime device and a log on a device of "
        "its own are reported as unread",
        "undercroft.disks.xfs",
    ),
    Format(
        "btrfs",
        "btrfs",
        Level.WHOLE,
        "all subvolumes and snapshots, zlib, lzo and zstd, several devices, the log replayed in memory; "
        "not: zoned devices, the RAID stripe tree, extent tree v2, and what only parity would give back",
        "undercroft.disks.btrfs",
    ),
    Format(
        "squashfs",
        "squashfs",
        Level.PARTLY,
        "version 4.0 with gzip, xz or zstd; lzma, lzo and lz4 are reported as unread",
        "undercroft.disks.squashfs",
    ),
    Format(
        "iso9660",
        "ISO 9660",
        Level.PARTLY,
        "Rock Ridge with deep directories, else Joliet, else plain names; files in several extents; "
        "not: files that zisofs compresses, interleaved ones",
        "undercroft.disks.iso9660",
    ),
    Format(
        "ntfs",
        "NTFS",
        Level.PARTLY,
        "through pytsk3 (extra `windows`); a log that is not clean and hibernation are told, not replayed; "
        "not: files that Windows compresses as a whole, reparse points",
        "undercroft.disks.tsk",
    ),
    Format(
        "vfat",
        "FAT12, FAT16, FAT32",
        Level.WHOLE,
        "long names; a FAT that differs from its copy is told where it is followed",
        "undercroft.disks.fat",
    ),
    Format(
        "exfat",
        "exFAT",
        Level.WHOLE,
        "the backup boot region where the first one is damaged; a volume that was not unmounted says so",
        "undercroft.disks.exfat",
    ),
    Format(
        "ufs",
        "UFS1, UFS2 (FreeBSD)",
        Level.PARTLY,
        "a volume that was not unmounted says so, its soft-updates journal is not replayed; not: snapshots "
        "in it, big-endian volumes",
        "undercroft.disks.ufs",
    ),
)
_BY_KIND = {each.kind: each for each in FILESYSTEMS}

Opener = Callable[[BlockSource], FileSystem]


def open_filesystem(content: Content, source: BlockSource) -> FileSystem:
    """Return a reader for the volume's filesystem.

    Raises:
        UnsupportedError: no reader for this content exists in this version.
        InputError: the filesystem is malformed.
    """
    found = _BY_KIND.get(content.kind)
    if found is None or not found.module:
        if content.kind == UNKNOWN:
            raise UnsupportedError("no known filesystem or container was recognized")
        raise UnsupportedError(f"{content.kind} is not supported yet")
    return _opener(found)(source)


def load() -> None:
    """Import every reader: a filtered child can import nothing any more."""
    for each in FILESYSTEMS:
        if each.module:
            _opener(each)


def _opener(form: Format) -> Opener:
    return cast("Opener", import_module(form.module).open_filesystem)
