"""One disk opened: its chain of files, each looked at by the reader before the next one is chosen.

The host opens, the reader looks, the host decides what to open next; see `chain` for how a header's name
picks among the named files.
"""

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from undercroft.errors import InputError, UndercroftError
from undercroft.model.disk import DiskFormat, ImageInfo, InnerDisk
from undercroft.model.job import LayerInput
from undercroft.model.schema import decode, encode
from undercroft.ports.reader import Reader
from undercroft.usecases.chain import MAX_CHAIN_LENGTH, UnreadError, pick
from undercroft.usecases.copies import Copies, mark, settled
from undercroft.usecases.disklayers import Layer, OpenDisk, check_parent
from undercroft.usecases.identity import Inspections, identify
from undercroft.usecases.opening import OpenFile, open_file
from undercroft.usecases.target import DiskTarget, MachineTarget, NamedFile

MAX_EXTENT_FILES = 200
"""Of one image: a split disk of 400 GB. Descriptors of a job are limited."""


class DiskOpener:
    """Opens the disks of one target and owns their descriptors.

    Args:
        target: the disks, and the files that their chains may draw on.
        reader: whoever looks into the files.
        inspections: what unwritten files are known to say of themselves; None to look into all.
        copies: what copies of files are known to say; None to look into all.
    """

    def __init__(
        self,
        target: MachineTarget,
        reader: Reader,
        inspections: Inspections | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._target = target
        self._reader = reader
        self._inspections = inspections
        self._copies = copies
        self._begun_at_ns = time.time_ns()
        self._descriptors: list[int] = []

    def close(self) -> None:
        """Close every file that was opened."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def open(self, disk: DiskTarget) -> OpenDisk:
        """Open one disk with its chain.

        Raises:
            NotFoundError, DeniedError, InputError, OperationError: a file that the caller named can't be
                opened. What libvirt named and is missing, and what is malformed, unsupported or
                incomplete, makes the disk unread instead.
        """
        if disk.image is None:
            return OpenDisk(disk, unread=disk.unread or "no image is known for it")
        try:
            return self._with_chain(disk, self._open_layer(disk, disk.image))
        except UnreadError as error:
            return OpenDisk(disk, unread=str(error))

    def open_all(self, disk: DiskTarget) -> tuple[OpenDisk, ...]:
        """Open one disk, or all disks that an archive in its place holds; raises as `open` does."""
        opened = self.open(disk)
        top = opened.layers[0] if opened.layers else None
        if top is None or top.info.format is not DiskFormat.OVA:
            return (opened,)
        if not top.info.disks:
            return (OpenDisk(disk, unread=f"{top.file.path}: describes a machine without disks"),)
        found = [self._open_inner(disk, top, inner) for inner in top.info.disks]
        notes = tuple(f"{top.file.path}: {note}" for note in top.info.notes)
        return (replace(found[0], notes=notes), *found[1:])

    def _open_inner(self, disk: DiskTarget, archive: Layer, inner: InnerDisk) -> OpenDisk:
        """Open a disk of an archive in its place, of an envelope by its name among the named files."""
        name = f"{archive.file.path}: {inner.name}"
        try:
            if inner.problem:
                raise UnreadError(f"{name}: {inner.problem}")
            if inner.offset_bytes >= 0:
                return self._with_chain(disk, self._open_part(archive.file, inner, name))
            named = self._pick_data(archive, inner.name)
            return self._with_chain(disk, self._open_layer(disk, replace(named, format=inner.format)))
        except UnreadError as error:
            return OpenDisk(disk, unread=str(error))

    def _open_part(self, file: OpenFile, inner: InnerDisk, name: str) -> Layer:
        part = inner.offset_bytes, inner.size_bytes
        try:
            return Layer(file, self._inspect_part(file, inner.format, part), part=part, name=name)
        except InputError as error:
            raise UnreadError(f"{name}: {error}") from error

    def _with_chain(self, disk: DiskTarget, top: Layer) -> OpenDisk:
        layers = [top]
        if top.info.format is DiskFormat.OVA and top.part:
            raise UnreadError(f"{top.name}: an archive in an archive is unsupported")
        while layers[-1].info.backing_name or layers[-1].info.parent_ident:
            if disk.format_source == "libvirt" and layers[-1].info.format is DiskFormat.VHD:
                raise UnreadError(
                    f"{layers[-1].file.path}: a vhd difference, which QEMU runs without its parent: what"
                    " the machine sees is something else; merge the two where they were made"
                )
            below = self._below(disk, layers)
            layers.append(self._open_layer(disk, below))
            check_parent(*layers[-2:])
            if len({layer.file.identity for layer in layers}) < len(layers):
                raise UnreadError(f"{below.path}: its chain of backing files is a loop")
            if len(layers) > MAX_CHAIN_LENGTH:
                raise UnreadError(f"{top.file.path}: its chain has over {MAX_CHAIN_LENGTH} files")
        layers = [self._with_extents(disk, layer) for layer in layers]
        for layer in layers[1:]:
            if layer.info.has_data_file:
                raise UnreadError(
                    f"{layer.file.path}: a backing file with an external data file is unsupported"
                )
        data_file = self._open_data_file(disk, layers[0]) if layers[0].info.has_data_file else None
        if data_file and data_file.identity in {file.identity for layer in layers for file in layer.files}:
            raise UnreadError(f"{data_file.path}: is an image of the chain and cannot be its data file too")
        return OpenDisk(disk, tuple(layers), data_file, notes=tuple(_notes(layers)))

    def _below(self, disk: DiskTarget, layers: Sequence[Layer]) -> NamedFile:
        """Return the file under the last layer, by libvirt's word or the caller's."""
        top = layers[-1]
        if disk.chain is not None:
            if len(layers) > len(disk.chain):
                raise UnreadError(
                    f"{top.file.path}: its header names a backing file that libvirt does not know"
                )
            below = disk.chain[len(layers) - 1]
        else:
            below = self._pick_backing(top)
        if below.format:
            return below
        if not top.info.backing_format:
            # A guest of a raw base can write any header onto it: its bytes must not say what it is.
            raise UnreadError(
                f"{top.file.path}: its header names no format for its backing file; say it once with "
                f"`qemu-img rebase -u -F FORMAT -b {shlex.quote(below.path)}`"
            )
        try:
            return replace(below, format=DiskFormat(top.info.backing_format))
        except ValueError:
            raise UnreadError(
                f"{below.path}: a backing file of format {top.info.backing_format!r} is unsupported"
            ) from None

    def _open_data_file(self, disk: DiskTarget, top: Layer) -> OpenFile:
        if disk.data_file:
            return self._open(disk, disk.data_file)
        return self._open(disk, self._pick_data(top, top.info.data_file_name))

    def _with_extents(self, disk: DiskTarget, layer: Layer) -> Layer:
        """Return a layer with the files open that its descriptor names among those that were named."""
        names = layer.info.extents
        if len(names) > MAX_EXTENT_FILES:
            raise UnreadError(
                f"{layer.file.path}: its disk lies in {len(names)} files, the limit is {MAX_EXTENT_FILES}"
            )
        picked = [self._pick_data(layer, name) for name in names]
        extents = tuple(self._open(disk, replace(file, format=DiskFormat.RAW)) for file in picked)
        if len({file.identity for file in (layer.file, *extents)}) <= len(names):
            raise UnreadError(f"{layer.file.path}: its descriptor names one file under several names")
        return replace(layer, extents=extents)

    def _pick_parent(self, layer: Layer) -> NamedFile:
        """Return the file that bears what an image calls its parent, where it does not name a file."""
        wanted, image_format = layer.info.parent_ident, layer.info.format
        for named in self._target.backing_files[:MAX_CHAIN_LENGTH]:
            file = open_file(named)
            self._descriptors.append(file.descriptor)
            try:
                if self.inspect(file, image_format).ident == wanted:
                    return NamedFile(named.path, image_format)
            except InputError:
                continue  # another format: not the parent
        raise UnreadError(
            f"{layer.file.path}: its parent is the image {wanted}, which is opened only if you name its file,"
            " or where one file alone bears that number: --backing FILE"
        )

    def _pick_backing(self, layer: Layer) -> NamedFile:
        if not layer.info.backing_name:
            return self._pick_parent(layer)
        find = self._target.find_backing or partial(
            pick, allowed=self._target.backing_files, option="--backing"
        )
        return self._found(layer, layer.info.backing_name, find)

    def _pick_data(self, layer: Layer, name: str) -> NamedFile:
        find = self._target.find_data or partial(pick, allowed=self._target.data_files, option="--data-file")
        return self._found(layer, name, find)

    def _found(self, layer: Layer, name: str, find: Callable[[str, str], NamedFile]) -> NamedFile:
        try:
            return find(name, layer.file.path)
        except UnreadError as error:
            raise UnreadError(f"{layer.file.path}: {error}") from None

    def _open_layer(self, disk: DiskTarget, named: NamedFile) -> Layer:
        file = self._open(disk, named)
        try:
            return Layer(file, self._known_or_inspected(file, named.format))
        except InputError as error:
            raise UnreadError(_about(file.path, error)) from error

    def _known_or_inspected(self, file: OpenFile, image_format: DiskFormat | None) -> ImageInfo:
        if self._inspections is None:
            return self.inspect(file, image_format)
        identity = identify(file, self._begun_at_ns)
        known = self._inspections.find(identity, image_format)
        if known is None:
            known = self._copied_or_inspected(file, image_format)
            if not file.changed():
                self._inspections.keep(identity, image_format, known)
        return known

    def _copied_or_inspected(self, file: OpenFile, image_format: DiskFormat | None) -> ImageInfo:
        found = mark(file, self._begun_at_ns) if self._copies else None
        if self._copies is None or found is None:
            return self.inspect(file, image_format)
        known = self._copies.inspected.find((image_format, found))
        if known is None:
            known = self.inspect(file, image_format)
            if settled([identify(file, self._begun_at_ns)], [file]):
                self._copies.inspected.keep((image_format, found), known)
        return known

    def inspect(self, file: OpenFile, image_format: DiskFormat | None) -> ImageInfo:
        """Return a file's account of itself. Raises InputError."""
        return self._inspect_part(file, image_format, (0, file.size_bytes))

    def inspect_anew(self, layer: Layer) -> ImageInfo:
        """Return what an image says of itself now. Raises InputError."""
        return self._inspect_part(layer.file, layer.info.format, layer.part or (0, layer.file.size_bytes))

    def _inspect_part(
        self, file: OpenFile, image_format: DiskFormat | None, part: tuple[int, int]
    ) -> ImageInfo:
        start, size_bytes = part
        image = encode(LayerInput(file.path, 0, size_bytes, image_format, start_bytes=start))
        return decode(ImageInfo, self._reader.call("inspect", {"image": image}, [file.descriptor]), file.path)

    def _open(self, disk: DiskTarget, named: NamedFile) -> OpenFile:
        """Open a file; the caller's own must open, one that libvirt names may be missing."""
        try:
            file = open_file(named)
        except UndercroftError as error:
            if disk.format_source == "libvirt":
                raise UnreadError(str(error)) from error
            raise
        self._descriptors.append(file.descriptor)
        return file


def _notes(layers: Sequence[Layer]) -> Iterator[str]:
    for layer in layers:
        if layer.info.format is DiskFormat.VHD and layer.info.parent_ident:
            yield (
                f"{layer.file.path}: a difference, read with its parent as Hyper-V does; QEMU would run it"
                " without"
            )


def _about(path: str, error: Exception) -> str:
    text = str(error)
    return text if text.startswith(path) else f"{path}: {text}"
