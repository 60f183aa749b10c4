"""An opened machine: its files, its states, and what the reader finds in any of them.

with OpenMachine(target, reader) as machine:
    inventory = machine.inventory(machine.state("before-upgrade"))
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar, cast

from undercroft.errors import InputError, UndercroftError
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.inventory import Inventory
from undercroft.model.job import DiskInput, FileEntry, LayerInput, Transport
from undercroft.model.report import DiskReport
from undercroft.model.schema import Json, decode, decode_list, encode
from undercroft.ports.reader import Reader
from undercroft.scan.chain import MAX_CHAIN_LENGTH, UnreadError, pick
from undercroft.scan.opening import OpenFile, open_file
from undercroft.scan.states import State, select_state, states_of
from undercroft.scan.target import DiskTarget, LiveExport, MachineTarget, NamedFile

Answer = TypeVar("Answer")


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


class OpenMachine:
    """A machine whose files are open and whose states are known.

    Args:
        target: disks and the files that may be opened.
        reader: whoever parses what is in them.

    Raises (from the constructor):
        NotFoundError, DeniedError, InputError, OperationError: a file that the caller named can't be
            opened. A disk that libvirt named and that can't be opened is unread instead, as is every
            image that is malformed, unsupported or lacks a part of its chain.
    """

    def __init__(self, target: MachineTarget, reader: Reader) -> None:
        self.name = target.name
        self._target = target
        self._reader = reader
        self._descriptors: list[int] = []
        self._unstable: set[str] = set()
        try:
            self._disks = [self._open_disk(disk) for disk in target.disks]
        except BaseException:
            self.close()
            raise
        self.states = states_of(
            [(disk.target.name, disk.layers[0].info.snapshots) for disk in self._disks if disk.layers]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the machine's files; the reader stays as it is."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def state(self, wanted: str) -> State:
        """Return a state by "current", name or ID. Raises as `states.select_state` does."""
        return select_state(self.states, wanted, self.name)

    def inventory(self, state: State) -> Inventory:
        """Return what is installed in `state`. Raises InputError where the reader's child died of it."""
        return self._settled(
            state, lambda: decode(Inventory, self._call("inventory", state), "the reader's inventory")
        )

    def entries(self, state: State, path: str) -> tuple[FileEntry, ...]:
        """Return the directory `path` of the guest, or the one file. Raises NotFoundError, InputError."""
        return self._settled(
            state,
            lambda: decode_list(FileEntry, self._call("entries", state, path=path), "the reader's listing"),
        )

    def content(self, state: State, path: str) -> Iterator[bytes]:
        """Yield the bytes of a regular file of the guest. Raises NotFoundError, InputError."""
        disks, descriptors = self._inputs(state)
        yield from self._reader.stream("content", {"disks": disks, "path": path}, descriptors)

    def unstable(self, state: State) -> tuple[str, ...]:
        """Return the files that changed under both reads of `state`."""
        changed = {file.path for file in self._files(state)} & self._unstable
        return tuple(sorted(changed))

    def disk_reports(self) -> tuple[DiskReport, ...]:
        """Return how each disk was read."""
        return tuple(self._disk_report(disk) for disk in self._disks)

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know of the files: a bare image that a running machine writes to."""
        return tuple(
            f"{file.path}: a running machine has it open; scan it with -d NAME for one point in time"
            for disk in self._disks
            if not disk.target.live
            for file in disk.files[:1]
            if file.in_use
        )

    # Opening: the host opens, the reader looks, the host decides what to open next.

    def _open_disk(self, disk: DiskTarget) -> OpenDisk:
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
            return disk.chain[len(layers) - 1]
        below = self._pick(top, top.info.backing_name, self._target.backing_files, "--backing")
        if below.format or not top.info.backing_format:
            return below
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

    def _pick(self, layer: Layer, name: str, allowed: Sequence[NamedFile], option: str) -> NamedFile:
        try:
            return pick(name, layer.file.path, allowed, option)
        except UnreadError as error:
            raise UnreadError(f"{layer.file.path}: {error}") from None

    def _open_layer(self, disk: DiskTarget, named: NamedFile) -> Layer:
        file = self._open(disk, named)
        try:
            return Layer(file, self._inspect(file, named.format))
        except InputError as error:
            raise UnreadError(_about(file.path, error)) from error

    def _inspect(self, file: OpenFile, image_format: DiskFormat | None) -> ImageInfo:
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

    # Reading

    def _call(self, job: str, state: State, **arguments: Json) -> Json:
        disks, descriptors = self._inputs(state)
        return self._reader.call(job, {"disks": disks, **arguments}, descriptors)

    def _inputs(self, state: State) -> tuple[Json, list[int]]:
        """Return the disks of a state as the reader takes them, and the descriptors that they refer to."""
        descriptors: list[int] = []
        return [encode(self._disk_input(disk, state, descriptors)) for disk in self._disks], descriptors

    def _disk_input(self, disk: OpenDisk, state: State, descriptors: list[int]) -> DiskInput:
        name = disk.target.name
        live = disk.target.live
        if state.is_current and live:
            descriptors.append(live.descriptor)
            return DiskInput(name, (_live_input(live, len(descriptors) - 1, name),))
        if not disk.layers:
            return DiskInput(name, (), unread=disk.unread)
        if not state.is_current and name not in state.snapshots:
            return DiskInput(name, (), unread=f"it has no snapshot {state.name!r}")
        first = len(descriptors)
        descriptors.extend(file.descriptor for file in disk.files)
        layers = tuple(
            LayerInput(layer.file.path, first + depth, layer.file.size_bytes, layer.info.format)
            for depth, layer in enumerate(disk.layers)
        )
        data_file = None
        if disk.data_file:
            file = disk.data_file
            data_file = LayerInput(file.path, len(descriptors) - 1, file.size_bytes, DiskFormat.RAW)
        return DiskInput(name, layers, data_file, state.snapshots.get(name))

    # Files that change under the read

    def _settled(self, state: State, read: Callable[[], Answer]) -> Answer:
        """Return what `read` gives; read once more where a file changed meanwhile, then remember it."""
        answer: Answer | None = None
        failure: InputError | None = None
        for _attempt in range(2):
            try:
                answer, failure = read(), None
            except InputError as error:
                failure = error
            changed = self._changed_files(state)
            if not changed:
                break
            self._refresh()
        else:
            self._unstable.update(file.path for file in changed)
        if failure:
            raise failure
        return cast("Answer", answer)

    def _files(self, state: State) -> list[OpenFile]:
        """Return the files that an answer about `state` rests on."""
        return [
            file for disk in self._disks if not (state.is_current and disk.target.live) for file in disk.files
        ]

    def _changed_files(self, state: State) -> list[OpenFile]:
        """Return the files that were written since they were opened.

        A running machine writes to its file all the time, but never to the clusters of a snapshot: there
        the snapshot table tells whether what was read still stands.
        """
        changed: list[OpenFile] = []
        for disk in self._disks:
            if not disk.target.live:
                changed.extend(file for file in disk.files if file.changed())
            elif not state.is_current and disk.layers:
                top = disk.layers[0]
                if self._inspect(top.file, top.info.format).snapshots != top.info.snapshots:
                    changed.append(top.file)
        return changed

    def _refresh(self) -> None:
        """Take the files' sizes and signatures anew; their tables are read anew by every job."""
        self._disks = [
            replace(
                disk,
                layers=tuple(replace(layer, file=layer.file.refreshed()) for layer in disk.layers),
                data_file=disk.data_file.refreshed() if disk.data_file else None,
            )
            for disk in self._disks
        ]

    def _disk_report(self, disk: OpenDisk) -> DiskReport:
        top = disk.layers[0] if disk.layers else None
        return DiskReport(
            name=disk.target.name,
            path=disk.target.image.path if disk.target.image else "",
            format=top.info.format.value if top else "unread",
            format_source=disk.target.format_source,
            chain=tuple(layer.file.path for layer in disk.layers[1:]),
            size_bytes=top.info.size_bytes if top else 0,
            unstable=any(file.path in self._unstable for file in disk.files),
        )


def _live_input(live: LiveExport, index: int, name: str) -> LayerInput:
    return LayerInput(name, index, 0, DiskFormat.RAW, Transport.NBD, live.export)


def _about(path: str, error: Exception) -> str:
    text = str(error)
    return text if text.startswith(path) else f"{path}: {text}"
