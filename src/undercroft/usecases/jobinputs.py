"""Opened disks as a job takes them: descriptors, and which of them make up which disk in which state."""

from collections.abc import Sequence
from contextlib import ExitStack

from undercroft.model.disk import DiskFormat
from undercroft.model.job import DiskInput, ExtentInput, LayerInput, Transport
from undercroft.model.schema import Json, encode
from undercroft.usecases.disklayers import Layer, OpenDisk
from undercroft.usecases.states import State
from undercroft.usecases.target import LiveExport


def disk_inputs(disks: Sequence[OpenDisk], state: State, sockets: ExitStack) -> tuple[Json, list[int]]:
    """Return the disks of a state as the reader takes them, and the descriptors that they refer to.

    A live disk is spoken to over a socket of this job's own, which `sockets` closes.
    """
    inputs: list[Json] = []
    descriptors: list[int] = []
    for disk in disks:
        live = disk.target.live
        if state.is_current and live:
            descriptors.append(sockets.enter_context(live.connect()).fileno())
            inputs.append(encode(_live_input(disk.target.name, live, len(descriptors) - 1)))
        else:
            inputs.append(encode(file_input(disk, state, descriptors)))
    return inputs, descriptors


def file_input(disk: OpenDisk, state: State, descriptors: list[int]) -> DiskInput:
    """Return one disk that is read from its files; their descriptors are added to `descriptors`."""
    name = disk.target.name
    if not disk.layers:
        return DiskInput(name, (), unread=disk.unread)
    if state.external:
        above = state.above.get(name)
        if above is None:
            return DiskInput(name, (), unread=_not_in(state))
        return DiskInput(name, tuple(_layer_input(layer, descriptors) for layer in disk.layers[above:]))
    if not state.is_current and name not in state.snapshots:
        return DiskInput(name, (), unread=f"it has no snapshot {state.name!r}")
    layers = tuple(_layer_input(layer, descriptors) for layer in disk.layers)
    data_file = None
    if disk.data_file:
        file = disk.data_file
        descriptors.append(file.descriptor)
        data_file = LayerInput(file.path, len(descriptors) - 1, file.size_bytes, DiskFormat.RAW)
    return DiskInput(name, layers, data_file, state.snapshots.get(name))


def _not_in(state: State) -> str:
    return (
        f"the external snapshot {state.name!r} left it out, or it does not lie on that snapshot's image any"
        " more, as far as libvirt or the images say"
    )


def _layer_input(layer: Layer, descriptors: list[int]) -> LayerInput:
    first = len(descriptors)
    descriptors.extend(file.descriptor for file in layer.files)
    start_bytes, size_bytes = layer.part or (0, layer.file.size_bytes)
    return LayerInput(
        layer.name or layer.file.path,
        first,
        size_bytes,
        layer.info.format,
        zstd="zstd" in layer.info.features,
        start_bytes=start_bytes,
        extents=tuple(
            ExtentInput(file.path, first + number, file.size_bytes)
            for number, file in enumerate(layer.extents, start=1)
        ),
    )


def _live_input(name: str, live: LiveExport, descriptor: int) -> DiskInput:
    layer = LayerInput(name, descriptor, 0, DiskFormat.RAW, Transport.NBD, live.export)
    return DiskInput(name, (layer,))
