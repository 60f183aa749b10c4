"""An image of many opened with its chain: each file the one that was listed, and none through a link."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.ports.reader import Reader
from undercroft.usecases.identity import Inspections
from undercroft.usecases.images.chains import Link, NamedFiles, part_names
from undercroft.usecases.images.survey import Seen
from undercroft.usecases.images.walking import FoundFile
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.target import DiskTarget, MachineTarget, NamedFile

DISK = "disk0"
"""As a scan of one image calls it: the same bytes under another name would be another answer."""


class ImageOpener:
    """Opens images; for several threads.

    Args:
        reader: the sandbox.
        files: what headers pick from.
        seen, links: by path, what each image said at a first look, and where it stands.
        found: by path, each file as the walk found it.
    """

    def __init__(
        self,
        reader: Reader,
        files: NamedFiles,
        seen: Mapping[str, Seen],
        links: Mapping[str, Link],
        found: Mapping[str, FoundFile],
    ) -> None:
        self._reader = reader
        self._files = files
        self._seen = seen
        self._links = links
        self._found = found

    @contextmanager
    def opened(
        self, path: str, inspections: Inspections, keys: KeyRing | None = None
    ) -> Iterator[OpenMachine]:
        """Open an image with its chain.

        Args:
            path: of the image.
            inspections: what its files are known to say of themselves.
            keys: for its encrypted volumes; they stay the caller's.

        Raises:
            UndercroftError: as `OpenMachine` does; InputError where a file is not the one that was listed.
        """
        with OpenMachine(self._target(path), self._reader, inspections, keys=keys) as machine:
            for file in machine.identities(machine.states[0]):
                found = self._found.get(file.path)
                if found and (found.device, found.inode) != (file.device, file.inode):
                    raise InputError(f"{file.path}: another file since the folder was listed; scan it again")
            yield machine

    def below(self, path: str) -> str:
        """Return what an image rests on, "" for nothing that was found."""
        return self._links[path].below

    def infos(self, path: str) -> dict[str, ImageInfo]:
        """Return what the files of an image's chain said of themselves at a first look, by path."""
        chain = (path, *self._links[path].chain)
        return {seen.path: seen.info for one in chain if (seen := self._seen.get(one)) and seen.info}

    def _target(self, path: str) -> MachineTarget:
        parts = {
            self._named(found.path, DiskFormat.RAW): None
            for one, info in self.infos(path).items()
            for name in part_names(info)
            for found in self._files.matching(name, one)
        }
        return MachineTarget(
            os.path.basename(path),
            (DiskTarget(DISK, self._named(path)),),
            backing_files=tuple(map(self._named, (*self._links[path].chain, *self._files.extra))),
            data_files=tuple(parts),
            find_backing=lambda name, above: self._named(self._files.find(name, above).path),
        )

    def _named(self, path: str, image_format: DiskFormat | None = None) -> NamedFile:
        """Return a file of the folders as it may be opened: it was no link when it was listed."""
        found = self._found.get(path)
        return NamedFile(path, image_format, no_link=found is not None and not found.named)
