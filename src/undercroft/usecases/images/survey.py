"""A first look at many files: which are images, and what each says that it rests on.

Guarantees: a child looks at several files at once, so what it says is a hint. A hint orders the work and
saves a child where that image's own child says the same; it hides nothing: before a file is left out as no
image, a child that looks at this file alone has said so, or it is a small text. A child that dies takes only
the looks of its group with it, and they are had one by one then.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from undercroft.errors import DeniedError, InputError, NotFoundError, UndercroftError
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.fleet import FileIdentity
from undercroft.model.images import LeftOut
from undercroft.model.job import LayerInput
from undercroft.model.looks import Looked
from undercroft.model.schema import decode_list, encode
from undercroft.ports.imagecache import ImageCache
from undercroft.ports.reader import Reader
from undercroft.usecases.identity import identify, is_small
from undercroft.usecases.images.walking import FoundFile
from undercroft.usecases.opening import OpenFile, open_file
from undercroft.usecases.target import NamedFile

FILES_AT_ONCE = 32
"""Of one child; half of the descriptors that a job may have."""

IMAGE_SUFFIXES = frozenset(
    {".img", ".image", ".raw", ".qcow", ".qcow2", ".qed", ".vmdk", ".vdi", ".vhd", ".vhdx", ".ova", ".hdd"}
)
"""What is called so is an image, whatever it begins with: it may be encrypted, or broken."""

ISO_SUFFIX = ".iso"
ISO_CONTENT = "iso9660"
PIECE = "a piece of a split disk, read with the image whose descriptor names it"
NO_DESCRIPTOR = "the parts of a split image have none"
"""What the reader says of a file that begins as a vmdk and is a piece of one (`disks.vmdk`)."""

MAX_TEXT_BYTES = 64 << 10
NO_IMAGE = "no disk image: no container, partition table or filesystem is recognized"


@dataclass(frozen=True, slots=True)
class Seen:
    """One image of the folders.

    Attributes:
        path: of the file.
        info: its account of itself without its snapshots, None where it has none; untrusted.
        hint: the identity for which `info` may be taken on trust until the image's own child has said the
            same; None where it may not, or where it is known already.
    """

    path: str
    info: ImageInfo | None
    hint: FileIdentity | None = None


Progress = Callable[[int], None]
"""Called with the number of files that were looked at meanwhile."""


def survey(
    files: Sequence[FoundFile], reader: Reader, cache: ImageCache, pool: Executor, progress: Progress
) -> Iterator[Seen | LeftOut]:
    """Yield what each file is, in order.

    Raises:
        DeniedError, OperationError: there is no sandbox, or it failed.
    """
    groups = [files[start : start + FILES_AT_ONCE] for start in range(0, len(files), FILES_AT_ONCE)]
    for looked in pool.map(lambda group: _look(group, reader, cache), groups):
        yield from looked
        progress(len(looked))


def is_piece(path: str, reader: Reader) -> bool:
    """Tell whether a file is a piece of a split disk that has no meaning of its own, by its own child's word.

    A file that is gone, or says something else, is none. Raises DeniedError, OperationError as `survey`.
    """
    try:
        opened = open_file(NamedFile(path, no_link=True))
    except UndercroftError:
        return False
    try:
        (look,) = _looks([(FoundFile(path, 0, 0, 0), opened)], reader)
    finally:
        os.close(opened.descriptor)
    return look.info is None and NO_DESCRIPTOR in look.problem


def _look(group: Sequence[FoundFile], reader: Reader, cache: ImageCache) -> list[Seen | LeftOut]:
    begun_at_ns = time.time_ns()
    known: dict[str, Seen | LeftOut] = {}
    unknown: list[tuple[FoundFile, OpenFile]] = []
    with ExitStack() as descriptors:
        for file in group:
            opened = _opened(file)
            if isinstance(opened, Seen | LeftOut):
                known[file.path] = opened
                continue
            descriptors.callback(os.close, opened.descriptor)
            info = cache.info(identify(opened, begun_at_ns), None)
            if info is not None:
                known[file.path] = Seen(file.path, _bounded(info))
            else:
                unknown.append((file, opened))
        for (file, opened), looked in zip(unknown, _looks(unknown, reader), strict=True):
            known[file.path] = _sorted_out(file, opened, looked, reader, begun_at_ns)
    return [known[file.path] for file in group]


def _opened(file: FoundFile) -> OpenFile | Seen | LeftOut:
    try:
        opened = open_file(NamedFile(file.path, no_link=not file.named))
    except NotFoundError:
        return LeftOut(file.path, "gone since the folder was listed")
    except DeniedError as error:
        return LeftOut(file.path, _without(file.path, error), unread=True)
    except UndercroftError as error:
        if file.named:
            return Seen(file.path, None)
        return LeftOut(file.path, _without(file.path, error), unread=_suffix(file.path) in IMAGE_SUFFIXES)
    status = os.fstat(opened.descriptor)
    if (status.st_dev, status.st_ino) != (file.device, file.inode):
        os.close(opened.descriptor)
        return LeftOut(file.path, "another file since the folder was listed; scan it again", unread=True)
    if not file.named and _suffix(file.path) not in IMAGE_SUFFIXES and _is_text(opened):
        os.close(opened.descriptor)
        return LeftOut(file.path, NO_IMAGE)
    return opened


def _is_text(opened: OpenFile) -> bool:
    """Tell whether a file is a text, and no descriptor or envelope: no child is needed to say so.

    No container and no filesystem does without a zero byte. The bytes are compared, and nothing is parsed.
    """
    if opened.size_bytes > MAX_TEXT_BYTES:
        return False
    try:
        data = os.pread(opened.descriptor, opened.size_bytes, 0)
    except OSError:
        return False
    described = data.lstrip().startswith((b"<", b"\xef\xbb\xbf")) or b"DescriptorFile" in data[:64]
    return len(data) == opened.size_bytes and b"\0" not in data and not described


def _looks(files: Sequence[tuple[FoundFile, OpenFile]], reader: Reader) -> Sequence[Looked]:
    """Return a look at each file, all by one child, or one by one where that child died of them."""
    if not files:
        return ()
    images = [
        encode(LayerInput(file.path, number, opened.size_bytes, None))
        for number, (file, opened) in enumerate(files)
    ]
    try:
        answer = reader.call("survey", {"images": images}, [opened.descriptor for _file, opened in files])
        looks = decode_list(Looked, answer, "a look at images")
        if len(looks) != len(files):
            raise InputError("the reader looked at other images than it was given")
    except UndercroftError as error:
        if not isinstance(error, InputError):
            reader.call("survey", {"images": []}, [])  # raises where it was the sandbox, and not the child
        if len(files) == 1:
            return (Looked(None, problem=str(error)),)
        return [look for file in files for look in _looks([file], reader)]
    return looks


def _sorted_out(
    file: FoundFile, opened: OpenFile, look: Looked, reader: Reader, begun_at_ns: int
) -> Seen | LeftOut:
    if not file.named and _why_none(file.path, look):
        (look,) = _looks([(file, opened)], reader)  # on its own word, not on another image's
        if why := _why_none(file.path, look):
            return LeftOut(file.path, why)
    info = look.info
    if info is None:
        return Seen(file.path, None)
    identity = identify(opened, begun_at_ns)
    bounded = _bounded(info)
    hint = identity if identity.proves and bounded == info and not opened.changed() else None
    return Seen(file.path, bounded, hint)


def _bounded(info: ImageInfo) -> ImageInfo:
    """Return what is held of an image's account until it is read: no snapshots, and names up to a limit."""
    without = replace(info, snapshots=())
    if is_small(without):
        return without
    return replace(without, backing_name="", data_file_name="", extents=(), disks=(), notes=())


def _why_none(path: str, look: Looked) -> str:
    """Return why a file is no image of a machine's disk, "" where it may be one."""
    if look.info is None or look.info.format is not DiskFormat.RAW:
        return ""
    if look.content == ISO_CONTENT:
        return "an ISO image" if _suffix(path) == ISO_SUFFIX else ""
    return "" if look.content or _suffix(path) in IMAGE_SUFFIXES else NO_IMAGE


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _without(path: str, error: Exception) -> str:
    return str(error).removeprefix(f"{path}: ")
