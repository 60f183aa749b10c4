"""One disk opened: its chain of files, each looked at by the reader before the next one is chosen.

The host opens, the reader looks, the host decides what to open next; see `chain` for how a header's name
picks among the named files.
"""

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from undercroft.errors import InputError, UndercroftError
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.job import LayerInput
from undercroft.model.report import DiskReport
from undercroft.model.schema import decode, encode
from undercroft.ports.reader import Reader
from undercroft.usecases.chain import MAX_CHAIN_LENGTH, UnreadError, pick
from undercroft.usecases.copies import Copies, mark, settled
from undercroft.usecases.identity import Inspections, identify
from undercroft.usecases.opening import OpenFile, open_file
from undercroft.usecases.target import DiskTarget, MachineTarget, NamedFile


@dataclass(frozen=True, slots=True)
class Layer:
    """An opened file of a chain and its own account of itself."""

    file: OpenFile
    info: ImageInfo


@dataclass(frozen=True, slots=True)
class OpenDisk:
    """One disk: layers top first, an external data file, or the reason why it is unread."""

    target: DiskTarget
    layers: tuple[Layer, ...] = ()
    data_file: OpenFile | None = None
    unread: str = ""

    @property
    def files(self) -> tuple[OpenFile, ...]:
        """All files that a read of the disk rests on."""
        files = tuple(layer.file for layer in self.layers)
        return (*files, self.data_file) if self.data_file else files

    def refreshed(self) -> Self:
        """Return the disk with its files' present sizes and signatures."""
        return replace(
            self,
            layers=tuple(replace(layer, file=layer.file.refreshed()) for layer in self.layers),
            data_file=self.data_file.refreshed() if self.data_file else None,
        )

    def report(self, unstable: set[str]) -> DiskReport:
        """Return how the disk was read; `unstable` holds the paths that changed under both reads."""
        top = self.layers[0] if self.layers else None
        return DiskReport(
            name=self.target.name,
            path=self.target.image.path if self.target.image else "",
            format=top.info.format.value if top else "unread",
            format_source=self.target.format_source,
            chain=tuple(layer.file.path for layer in self.layers[1:]),
            size_bytes=top.info.size_bytes if top else 0,
            unstable=any(file.path in unstable for file in self.files),
        )


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
            return self._open_chain(disk, disk.image)
        except UnreadError as error:
            return OpenDisk(disk, unread=str(error))

    def _open_chain(self, disk: DiskTarget, image: NamedFile) -> OpenDisk:
        layers = [self._open_layer(disk, image)]
        while layers[-1].info.backing_name:
            below = self._below(disk, layers)
            layers.append(self._open_layer(disk, below))
            if len({layer.file.identity for layer in layers}) < len(layers):
                raise UnreadError(f"{below.path}: its chain of backing files is a loop")
            if len(layers) > MAX_CHAIN_LENGTH:
                raise UnreadError(f"{image.path}: its chain has over {MAX_CHAIN_LENGTH} files")
        for layer in layers[1:]:
            if layer.info.has_data_file:
                raise UnreadError(
                    f"{layer.file.path}: a backing file with an external data file is unsupported"
                )
        data_file = self._open_data_file(disk, layers[0]) if layers[0].info.has_data_file else None
        return OpenDisk(disk, tuple(layers), data_file)

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
            return NamedFile(below.path, DiskFormat(top.info.backing_format))
        except ValueError:
            raise UnreadError(
                f"{below.path}: a backing file of format {top.info.backing_format!r} is unsupported"
            ) from None

    def _open_data_file(self, disk: DiskTarget, top: Layer) -> OpenFile:
        if disk.data_file:
            return self._open(disk, disk.data_file)
        return self._open(
            disk, self._pick(top, top.info.data_file_name, self._target.data_files, "--data-file")
        )

    def _pick_backing(self, layer: Layer) -> NamedFile:
        find = self._target.find_backing
        if find is None:
            return self._pick(layer, layer.info.backing_name, self._target.backing_files, "--backing")
        try:
            return find(layer.info.backing_name, layer.file.path)
        except UnreadError as error:
            raise UnreadError(f"{layer.file.path}: {error}") from None

    def _pick(self, layer: Layer, name: str, allowed: Sequence[NamedFile], option: str) -> NamedFile:
        try:
            return pick(name, layer.file.path, allowed, option)
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
        image = encode(LayerInput(file.path, 0, file.size_bytes, image_format))
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


def _about(path: str, error: Exception) -> str:
    text = str(error)
    return text if text.startswith(path) else f"{path}: {text}"
