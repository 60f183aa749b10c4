"""What the user named, as disks: which files may be opened for each, and who said so.

A name in an image's header never becomes a path here. The caller lists the files that may serve as
backing or data files (`--backing`, `--data-file`), libvirt lists a domain's; a header only picks among
them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket

from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat
from undercroft.model.report import CURRENT


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that may be opened, and its format where somebody other than the file says so.

    `no_link` is set for one that an image picked from a folder: whoever may write there could lead out of it.
    """

    path: str
    format: DiskFormat | None = None
    no_link: bool = False


@dataclass(frozen=True, slots=True)
class LiveExport:
    """A running machine's disk at one point in time, as an NBD export.

    Attributes:
        export: its name.
        connect: returns a fresh connected socket; each job speaks to its own.
        check: raises OperationError when the point in time was given up, which voids what was read.
    """

    export: str
    connect: Callable[[], socket]
    check: Callable[[], None]


@dataclass(frozen=True, slots=True)
class DiskTarget:
    """One disk.

    Attributes:
        name: "vda" from libvirt, "disk0", "disk1", ... otherwise.
        image: the top file; None when the disk has none that could be opened.
        chain: files that libvirt names below it, in order; None when nobody names a chain.
        data_file: the external data file that libvirt names.
        format_source: "libvirt", "given" or "probed".
        live: set for the disk of a running machine.
        unread: why the disk cannot be read at all ("network disk"), "" when it can.
    """

    name: str
    image: NamedFile | None
    chain: tuple[NamedFile, ...] | None = None
    data_file: NamedFile | None = None
    format_source: str = "probed"
    live: LiveExport | None = None
    unread: str = ""


@dataclass(frozen=True, slots=True)
class ExternalSnapshot:
    """An external snapshot: the state of the images below those that it put on top.

    Attributes:
        name: unique among a machine's snapshots.
        created_at_s: seconds since the epoch.
        overlays: disk -> path of the image that the machine has written to from then on.
    """

    name: str
    created_at_s: int
    overlays: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MachineTarget:
    """One machine: its disks in the guest's order, and the files that its chains may draw on.

    `external` are the external snapshots that libvirt knows, and `problem` says which it could not tell.
    Where nobody manages the files, `has_checkpoints` has the images below other hypervisors' differences be
    states (`checkpoints`).

    `find_backing` and `find_data` stand in place of `backing_files` and `data_files` where they are too many
    to be listed: they get the name in a header, which they compare and never open, and the image's path, and
    raise `chain.UnreadError`.
    """

    name: str
    disks: tuple[DiskTarget, ...]
    backing_files: tuple[NamedFile, ...] = ()
    data_files: tuple[NamedFile, ...] = ()
    find_backing: Callable[[str, str], NamedFile] | None = None
    find_data: Callable[[str, str], NamedFile] | None = None
    external: tuple[ExternalSnapshot, ...] = ()
    problem: str = ""
    has_checkpoints: bool = False


def from_images(
    images: Sequence[str],
    *,
    image_format: DiskFormat | None = None,
    backing_files: Sequence[str] = (),
    data_files: Sequence[str] = (),
) -> MachineTarget:
    """Return the machine that consists of `images`, in the order in which the guest sees its disks.

    Args:
        images: paths of image files or block devices; at least one.
        image_format: their format; None to tell it from the bytes.
        backing_files: the only files that may be opened as backing files.
        data_files: the only files that may be opened as external data files.

    Raises:
        InputError: no image was named, or one was named twice.
    """
    if not images:
        raise InputError("no disk was named: give an image, -a IMAGE for each disk, or -d DOMAIN")
    repeated = {path for path in images if images.count(path) > 1}
    if repeated:
        raise InputError(f"{repeated.pop()}: named twice; each disk is given once")
    source = "given" if image_format else "probed"
    disks = tuple(
        DiskTarget(f"disk{index}", NamedFile(path, image_format), format_source=source)
        for index, path in enumerate(images)
    )
    return MachineTarget(
        name=os.path.basename(images[0]),
        disks=disks,
        backing_files=tuple(NamedFile(path) for path in backing_files),
        data_files=tuple(NamedFile(path, DiskFormat.RAW) for path in data_files),
        has_checkpoints=True,
    )


def split_state(reference: str) -> tuple[str, str | None]:
    """Return (image, state) of "IMAGE@STATE"; the state is None where none is named.

    A file whose own name holds an "@" wins over the reading as a reference, and so does the longest name of a
    file over a state whose name holds one.
    """
    if os.path.lexists(reference) or "@" not in reference:
        return reference, None
    parts = reference.split("@")
    tries = ["@".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
    image = next((name for name in tries if os.path.lexists(name)), tries[0])
    return image, reference[len(image) + 1 :] or CURRENT
