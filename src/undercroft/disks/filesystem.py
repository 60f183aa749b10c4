"""What every filesystem reader offers; one folder or file per format implements it.

A node is the filesystem's own number for a file (the inode number); all methods that take one raise
`InputError` when it is out of range or its metadata is malformed (checksums included), and
`UnsupportedError` when it uses a feature that the reader lacks.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from undercroft.errors import InputError


class FileKind(Enum):
    """Type of a file, by the mode bits of POSIX."""

    REGULAR = 0x8
    DIRECTORY = 0x4
    SYMLINK = 0xA
    CHARACTER = 0x2
    BLOCK = 0x6
    FIFO = 0x1
    SOCKET = 0xC
    UNKNOWN = 0


class FileStat(NamedTuple):
    """A file's metadata. `mode` is the POSIX st_mode with the type bits; times in seconds.

    A tuple, since a walk makes one for every file and a frozen dataclass takes four times as long.
    """

    node: int
    kind: FileKind
    mode: int
    size_bytes: int
    uid: int
    gid: int
    links: int
    modified_at_s: int


def wrong_kind(stat: FileStat, kind: FileKind, what: str) -> InputError:
    """Return the error, which begins with `what`, of a file that is not of the kind that is asked for."""
    found = stat.kind.name.lower()
    return InputError(f"{what}: a {kind.name.lower()} is asked for, it is a {found}")


def check_size(stat: FileStat, limit: int, what: str) -> None:
    """Raise InputError, which begins with `what`, where a file is larger than `limit` bytes."""
    if stat.size_bytes > limit:
        raise InputError(f"{what}: {stat.size_bytes} bytes, the limit is {limit}")


class FileSystem(Protocol):
    """One mounted-in-memory filesystem, read-only.

    Attributes:
        content: the format ("ext4").
        label: the volume label, decoded with surrogateescape.
        uuid: lower-case, with hyphens; "" for none.
        notes: what the reader did on the way ("journal replayed: 12 blocks").
        root: the root directory's node.
    """

    content: str
    label: str
    uuid: str
    notes: tuple[str, ...]
    root: int

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`."""
        ...

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, None when it is not there."""
        ...

    def entries(self, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        """Yield (name, node, kind) without "." and "..", in disk order; kind may be UNKNOWN."""
        ...

    def readlink(self, node: int) -> bytes:
        """Return the target of a symlink, at most 4,095 bytes."""
        ...

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on in pieces of at most 1 MiB; holes as zeros."""
        ...

    def read(self, node: int, limit: int) -> bytes:
        """Return a regular file's whole content. Raises InputError when it is larger than `limit`."""
        ...


class Subvolume(NamedTuple):
    """A part of a filesystem that is mounted as one of its own.

    Attributes:
        number: its id.
        path: from the top of the filesystem, without a slash before it; b"" for the top itself.
        generation: of its last change.
        created_at_s: 0 where the format does not say.
        is_read_only: whether the guest can write to it.
        uuid, parent_uuid: with hyphens; "" for none. One with a parent is a snapshot.
    """

    number: int
    path: bytes
    generation: int
    created_at_s: int
    is_read_only: bool
    uuid: str
    parent_uuid: str


@runtime_checkable
class WithSubvolumes(FileSystem, Protocol):
    """What a filesystem with subvolumes offers besides (btrfs).

    Attributes:
        number: the id of the subvolume that this one shows.
        default: the id of the one that is mounted where no option names one.
    """

    number: int

    @property
    def default(self) -> int:
        """See above. Raises InputError."""
        ...

    def subvolume(
        self, which: bytes | int, *, notes: Sequence[str] = (), problems: Sequence[str] = ()
    ) -> "WithSubvolumes":
        """Return another subvolume, by its path from the top or its id.

        Args:
            which: the path or id.
            notes: to be told with it.
            problems: likewise.

        Raises:
            NotFoundError: there is none.
            InputError: it is malformed.
        """
        ...

    def subvolumes(self) -> list[Subvolume]:
        """Return all subvolumes that hang somewhere, the top first. Raises InputError."""
        ...


@runtime_checkable
class WithAttributes(FileSystem, Protocol):
    """What a filesystem offers besides that says which extended attributes and device numbers files have.

    One that does not offer it cannot tell: what depends on them is then unknown, not absent.
    """

    def xattr(self, node: int, name: bytes) -> bytes | None:
        """Return the value of an attribute such as b"trusted.overlay.opaque", None where there is none.

        Raises:
            UnsupportedError: whether there is one cannot be told.
            InputError: the attributes are malformed.
        """
        ...

    def device(self, node: int) -> int:
        """Return the number of a character or block device in the format's own encoding; 0 is 0:0.

        Raises:
            InputError: it is no such device.
        """
        ...
