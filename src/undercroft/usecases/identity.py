"""Whether a file is the same as it was: its identity, and when that proves that nobody wrote to it.

Guarantees: an identity that `proves` and is equal later means equal bytes. It rests on ctime, which every
write sets and no call sets back, and therefore proves nothing for

- a file written within a second before the read began: the clock that stamps files is coarse;
- a file that a QEMU process has open for writing: what it has submitted may land after its stamp;
- block devices, whose times stand still, and files of network filesystems, whose times are cached;
- a file that somebody maps and writes through memory, which no virtual machine monitor does with a disk.
  There is no way to see this one.

Source: racy timestamps as in Git's index, Documentation/technical/racy-git.
"""

import ctypes
import os
import stat
import threading
from collections import OrderedDict

from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.fleet import FileIdentity
from undercroft.usecases.opening import OpenFile

RACY_NS = 1_000_000_000
"""How much older than the read's beginning the last write has to be."""

LOCAL_FILESYSTEMS = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0x2FC12FC1,  # zfs
        0xF2F52010,  # f2fs
        0x01021994,  # tmpfs
        0x794C7630,  # overlay
    }
)
"""Where ctime is the kernel's own, by the numbers of statfs(2). What is not named here proves nothing."""

_STATFS_BYTES = 256
"""More than struct statfs has anywhere; its first word is the type."""

MAX_INSPECTIONS = 8192

MAX_SAID_CHARS = 32 << 10
"""Of the names that are held of one image: a split disk of 400 GB has 4,000, and a forged one a million."""

_SIGNATURE_FIELDS = 3


def identify(file: OpenFile, begun_at_ns: int, *, live: bool = False) -> FileIdentity:
    """Return the identity of an open file as it was when it was opened or refreshed.

    Args:
        file: an open image.
        begun_at_ns: a time before it was opened, nanoseconds since the epoch.
        live: a running machine writes it, whatever its locks say.
    """
    status = os.fstat(file.descriptor)
    if not stat.S_ISREG(status.st_mode) or len(file.signature) != _SIGNATURE_FIELDS:
        return FileIdentity(file.path, status.st_dev, status.st_ino, file.size_bytes, 0, 0, proves=False)
    size_bytes, modified_ns, changed_ns = file.signature
    proves = (
        not live
        and not file.in_use
        and changed_ns <= begun_at_ns - RACY_NS
        and _filesystem(file.descriptor) in LOCAL_FILESYSTEMS
    )
    return FileIdentity(
        file.path, status.st_dev, status.st_ino, size_bytes, modified_ns, changed_ns, proves=proves
    )


def same_file(then: FileIdentity, now: FileIdentity) -> bool:
    """Return whether `now` is the file of that identity, unwritten since; False where nothing is proven."""
    return then.proves and identity_key(then) == identity_key(now)


class Inspections:
    """What images said of themselves, for as long as their files are proven to be the same.

    May be used by several threads.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], ImageInfo] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, identity: FileIdentity, image_format: DiskFormat | None) -> ImageInfo | None:
        """Return what the image said when it was last inspected as that format."""
        with self._lock:
            return self._known.get((identity_key(identity), image_format))

    def keep(self, identity: FileIdentity, image_format: DiskFormat | None, info: ImageInfo) -> None:
        """Keep what an image said; nothing where its identity proves nothing, or it said too much."""
        if not identity.proves or not is_small(info):
            return
        with self._lock:
            self._known[identity_key(identity), image_format] = info
            while len(self._known) > MAX_INSPECTIONS:
                self._known.popitem(last=False)


def is_small(info: ImageInfo) -> bool:
    """Tell whether what an image says of itself is little enough to be held of very many images."""
    inner = (disk.name + disk.problem for disk in info.disks)
    snapshots = (snapshot.ident + snapshot.name for snapshot in info.snapshots)
    names = (info.backing_name, info.data_file_name, *info.extents, *info.notes, *inner, *snapshots)
    return sum(map(len, names)) <= MAX_SAID_CHARS


def identity_key(identity: FileIdentity) -> tuple[object, ...]:
    """Return all of an identity that tells one file, at one time, from another."""
    return (
        identity.path,
        identity.device,
        identity.inode,
        identity.size_bytes,
        identity.modified_ns,
        identity.changed_ns,
    )


def _filesystem(descriptor: int) -> int:
    """Return the type of the filesystem that an open file lies in, 0 where the kernel does not say."""
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(ctypes.c_int(descriptor), found) != 0:
        return 0
    return ctypes.c_ulong.from_buffer(found).value


_LIBC = ctypes.CDLL(None)
