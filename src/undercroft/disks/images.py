"""The image files that are read, one line each; `probe` tells which one a file is, this opens it.

A reader is a module with `inspect(source) -> ImageInfo` and `open_image(source, ...) -> BlockSource`. To add
one: write it, add its line, a member to `model.disk.DiskFormat` and a case to `open_image`, give it tests,
mutants and an oracle (docs/FORMATS.md, "Adding a format"). README's table is made from here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from undercroft.disks import ova, qcow2, vdi, vhd, vhdx, vmdk
from undercroft.disks.formats import Level
from undercroft.disks.keys import NO_KEYS, Keys
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """One format of image files.

    Attributes:
        kind: what `qemu-img convert -f` calls it.
        title: as an administrator calls it.
        level: how much is read.
        reads: what is read and what is not, in one sentence.
        magics: (offset, bytes) of what it begins with, any of them; () for what has none.
        format: what a caller says, None where there is no reader.
    """

    kind: str
    title: str
    level: Level
    reads: str
    magics: tuple[tuple[int, bytes], ...] = ()
    format: DiskFormat | None = None


IMAGES = (
    ImageFormat(
        "raw",
        "raw",
        Level.WHOLE,
        "files and block devices",
        format=DiskFormat.RAW,
    ),
    ImageFormat(
        "qcow2",
        "qcow2",
        Level.WHOLE,
        "versions 2 and 3, zlib and zstd, extended L2, backing chains, internal snapshots, external data"
        " files, LUKS with a key",
        ((0, b"QFI\xfb"),),
        DiskFormat.QCOW2,
    ),
    ImageFormat(
        "vmdk",
        "VMware vmdk",
        Level.PARTLY,
        "monolithic and split, sparse and flat, stream-optimized, links to a parent; not COWD, seSparse,"
        " raw device mappings and extents that QEMU leaves out",
        ((0, b"KDMV"), (0, b"# Disk DescriptorFile")),
        DiskFormat.VMDK,
    ),
    ImageFormat(
        "vpc",
        "Microsoft vhd",
        Level.WHOLE,
        "fixed (where it is said to be one), dynamic and differencing",
        ((0, b"conectix"),),
        DiskFormat.VHD,
    ),
    ImageFormat(
        "vhdx",
        "Hyper-V vhdx",
        Level.WHOLE,
        "fixed, dynamic and differencing; the log is replayed in memory",
        ((0, b"vhdxfile"),),
        DiskFormat.VHDX,
    ),
    ImageFormat(
        "vdi",
        "VirtualBox vdi",
        Level.WHOLE,
        "dynamic, fixed and differencing; the parent is told by its UUIDs",
        ((64, b"\x7f\x10\xda\xbe"),),
        DiskFormat.VDI,
    ),
    ImageFormat(
        "ova",
        "OVA archive, OVF folder",
        Level.PARTLY,
        "the disks of one machine, read in place, digests of the manifest checked up to 1 GiB; not packages"
        " of several machines, nor disks that are compressed or in pieces",
        format=DiskFormat.OVA,
    ),
    ImageFormat("qcow", "qcow version 1", Level.NAMED, "not read"),
    ImageFormat("vmdk", "vmdk of ESX (COWD)", Level.NAMED, "not read", ((0, b"COWD"),)),
    ImageFormat(
        "vmdk", "vmdk of ESX (seSparse)", Level.NAMED, "not read", ((0, b"\xbe\xba\xfe\xca\0\0\0\0"),)
    ),
    ImageFormat("qed", "QED", Level.NAMED, "not read", ((0, b"QED\0"),)),
    ImageFormat(
        "parallels",
        "Parallels",
        Level.NAMED,
        "not read",
        ((0, b"WithoutFreeSpace"), (0, b"WithouFreSpacExt")),
    ),
    ImageFormat("dmg", "Apple dmg", Level.NAMED, "not read"),
)

_INSPECT: dict[DiskFormat, Callable[[BlockSource], ImageInfo]] = {
    DiskFormat.RAW: lambda source: ImageInfo(DiskFormat.RAW, source.size_bytes),
    DiskFormat.QCOW2: qcow2.inspect,
    DiskFormat.VMDK: vmdk.inspect,
    DiskFormat.VHD: vhd.inspect,
    DiskFormat.VHDX: vhdx.inspect,
    DiskFormat.VDI: vdi.inspect,
    DiskFormat.OVA: ova.inspect,
}


def inspect(kind: DiskFormat, source: BlockSource) -> ImageInfo:
    """Return an image's own account of itself, read as that format.

    Raises:
        InputError: it is malformed or over a limit.
        UnsupportedError: a version or a feature that is not known here.
    """
    return _INSPECT[kind](source)


def glance(kind: DiskFormat, source: BlockSource) -> ImageInfo:
    """Do what `inspect` does, but for what takes seconds: digests of an archive. Raises as it does."""
    return ova.inspect(source, check=False) if kind is DiskFormat.OVA else inspect(kind, source)


@dataclass(frozen=True, slots=True)
class Beside:
    """What an image is opened with beside its own file.

    Attributes:
        snapshot: ID of an internal snapshot, None for the current state.
        backing: the disk below, None when there is none or it is not at hand.
        data_file: qcow2's external data file.
        extents: the files that `ImageInfo.extents` names, in that order.
        keys: for encrypted images.
        disk: the disk's name, by which a key may name it.
    """

    snapshot: str | None = None
    backing: BlockSource | None = None
    data_file: BlockSource | None = None
    extents: Sequence[BlockSource] = ()
    keys: Keys = NO_KEYS
    disk: str = ""


def open_image(kind: DiskFormat, source: BlockSource, beside: Beside) -> BlockSource:
    """Return the virtual disk of an image.

    Raises:
        InputError: it is malformed or over a limit, or something is given that the format does not have.
        UnsupportedError: a version or a feature that is not known here.
        NotFoundError: it has no such snapshot.
    """
    if kind is DiskFormat.QCOW2:
        return qcow2.open_image(
            source,
            snapshot=beside.snapshot,
            backing=beside.backing,
            data_file=beside.data_file,
            keys=beside.keys,
            disk=beside.disk,
        )
    if beside.snapshot is not None:
        raise InputError(f"{kind.value} images have no internal snapshots")
    match kind:
        case DiskFormat.VMDK:
            return vmdk.open_image(source, extents=beside.extents, backing=beside.backing)
        case DiskFormat.VHD:
            return vhd.open_image(source, backing=beside.backing)
        case DiskFormat.VHDX:
            return vhdx.open_image(source, backing=beside.backing)
        case DiskFormat.VDI:
            return vdi.open_image(source, backing=beside.backing)
        case DiskFormat.OVA:
            raise InputError("an archive is no disk; its disks are")
        case _:
            return source
