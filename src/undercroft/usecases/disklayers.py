"""An opened disk: its chain of image files, each with the further files that it lies in."""

from dataclasses import dataclass, replace
from typing import Self

from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.report import DiskReport
from undercroft.usecases.chain import UnreadError
from undercroft.usecases.opening import OpenFile
from undercroft.usecases.target import DiskTarget


@dataclass(frozen=True, slots=True)
class Layer:
    """An opened file of a chain and its own account of itself.

    Attributes:
        file: the image, or the archive that it lies in.
        info: what it says of itself.
        extents: the further files that its disk lies in, as `info.extents` names them.
        part: where in the file it begins and its length, None for the whole of it.
        name: for messages; the file's path where it is "".
    """

    file: OpenFile
    info: ImageInfo
    extents: tuple[OpenFile, ...] = ()
    part: tuple[int, int] | None = None
    name: str = ""

    @property
    def files(self) -> tuple[OpenFile, ...]:
        """All files that it lies in, its own first."""
        return (self.file, *self.extents)


@dataclass(frozen=True, slots=True)
class OpenDisk:
    """One disk: layers top first, an external data file, or the reason why it is unread."""

    target: DiskTarget
    layers: tuple[Layer, ...] = ()
    data_file: OpenFile | None = None
    unread: str = ""
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[OpenFile, ...]:
        """All files that a read of the disk rests on."""
        files = tuple(file for layer in self.layers for file in layer.files)
        return (*files, self.data_file) if self.data_file else files

    def files_from(self, above: int) -> tuple[OpenFile, ...]:
        """Return the files without those of the first `above` layers; all of them for 0."""
        return tuple(file for layer in self.layers[above:] for file in layer.files) if above else self.files

    @property
    def paths(self) -> tuple[str, ...]:
        """The images' paths as they were named, top first."""
        return tuple(layer.file.path for layer in self.layers)

    @property
    def in_use(self) -> bool:
        """Whether a QEMU process has the top image open for writing, or one of the files that it lies in."""
        return any(file.in_use for layer in self.layers[:1] for file in layer.files)

    def refreshed(self) -> Self:
        """Return the disk with its files' present sizes and signatures."""
        return replace(
            self,
            layers=tuple(
                replace(
                    layer,
                    file=layer.file.refreshed(),
                    extents=tuple(file.refreshed() for file in layer.extents),
                )
                for layer in self.layers
            ),
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


def check_parent(image: Layer, below: Layer) -> None:
    """Raise UnreadError unless a file is the image that another was made on, as it was then."""
    if below.info.format is DiskFormat.OVA:
        raise UnreadError(f"{below.file.path}: an archive is no backing file")
    if image.info.parent_ident and image.info.parent_ident != below.info.ident:
        raise UnreadError(
            f"{below.file.path}: is not the parent that {image.file.path} was made on, or was written since:"
            f" it is {below.info.ident or 'without a number'}, and {image.info.parent_ident} is asked for"
        )
