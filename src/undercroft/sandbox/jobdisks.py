"""The disks of a job: descriptors and what the host says of them, stacked to what the guest sees."""

from collections.abc import Sequence

from undercroft.disks import images, nbd
from undercroft.disks.firstlook import content_of
from undercroft.disks.keys import NO_KEYS, Keys
from undercroft.disks.machine import UnreadDisk
from undercroft.disks.probe import probe_format
from undercroft.disks.source import BlockSource, DescriptorSource, SliceSource
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.job import DiskInput, ExtentInput, LayerInput, Transport
from undercroft.model.looks import Looked
from undercroft.model.schema import decode_list
from undercroft.sandbox.context import JobContext


def inspected(layer: LayerInput, descriptors: Sequence[int]) -> ImageInfo:
    """Return an image's account of itself, its format probed where the host gives none. Raises InputError."""
    source = _layer_source(layer, descriptors)
    return images.inspect(layer.format or probe_format(source), source)


def looked(layer: LayerInput, descriptors: Sequence[int]) -> Looked:
    """Return a first look at an image; what is wrong with it is said in it."""
    try:
        source = _layer_source(layer, descriptors)
        info = images.glance(layer.format or probe_format(source), source)
        return Looked(info, content_of(source) if info.format is DiskFormat.RAW else "")
    except InputError as error:
        return Looked(None, problem=str(error))


def disks_of(context: JobContext, keys: Keys = NO_KEYS) -> list[tuple[str, BlockSource | UnreadDisk]]:
    """Return the disks of a job by name, each with the reason where it cannot be read. Raises InputError."""
    disks = decode_list(DiskInput, context.arguments.get("disks"), "disks")
    return [(disk.name, _open_disk(disk, context.descriptors, keys)) for disk in disks]


def _open_disk(disk: DiskInput, descriptors: Sequence[int], keys: Keys) -> BlockSource | UnreadDisk:
    """Stack the layers of a disk, base first. What is malformed or unsupported makes the disk unread."""
    if disk.unread:
        return UnreadDisk(disk.unread)
    try:
        data_file = _layer_source(disk.data_file, descriptors) if disk.data_file else None
        opened: BlockSource | None = None
        for depth, layer in reversed(list(enumerate(disk.layers))):
            beside = images.Beside(
                snapshot=disk.snapshot if depth == 0 else None,
                backing=opened,
                data_file=data_file if depth == 0 else None,
                extents=[_file_source(extent, descriptors) for extent in layer.extents],
                keys=keys,
                disk=disk.name,
            )
            source = _layer_source(layer, descriptors)
            opened = images.open_image(layer.format or DiskFormat.RAW, source, beside)
    except InputError as error:
        return UnreadDisk(str(error))
    return opened or UnreadDisk("no image was given for this disk")


def _layer_source(layer: LayerInput, descriptors: Sequence[int]) -> BlockSource:
    if layer.transport is Transport.NBD:
        return nbd.NbdSource(_descriptor(layer, descriptors), layer.export)
    if layer.start_bytes:
        whole = DescriptorSource(
            _descriptor(layer, descriptors), layer.start_bytes + layer.size_bytes, layer.name
        )
        return SliceSource(whole, layer.start_bytes, layer.size_bytes, layer.name)
    return _file_source(layer, descriptors)


def _file_source(file: LayerInput | ExtentInput, descriptors: Sequence[int]) -> BlockSource:
    return DescriptorSource(_descriptor(file, descriptors), file.size_bytes, file.name)


def _descriptor(file: LayerInput | ExtentInput, descriptors: Sequence[int]) -> int:
    if not 0 <= file.descriptor < len(descriptors):
        raise InputError(f"{file.name}: the job came without its descriptor {file.descriptor}")
    return descriptors[file.descriptor]
