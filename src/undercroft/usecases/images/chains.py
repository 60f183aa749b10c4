"""Which of many files lies below which, by their own headers.

A header's name is compared with the files that were named, as `chain.pick` does it, and never opened: first
as the path that it means, then by its last component. The second counts only where nothing lies at that path:
a file elsewhere that happens to be called the same is not what QEMU would open.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from undercroft.model.disk import ImageInfo
from undercroft.usecases.chain import MAX_CHAIN_LENGTH, UnreadError, pick
from undercroft.usecases.quietpaths import QuietPaths
from undercroft.usecases.target import NamedFile


class NamedFiles:
    """The files that a header may pick from, found by name in the time of one.

    Args:
        paths: the files of the folders.
        aliases: further names of them, each with a path of `paths` or one that it leads to.
        extra: files that may be picked and are no images of their own (`--backing`, `--data-file`).

    Attributes:
        extra: as given.
    """

    def __init__(
        self, paths: Iterable[str], aliases: Mapping[str, str] | None = None, extra: Iterable[str] = ()
    ) -> None:
        self.extra = tuple(extra)
        self._by_real: dict[str, NamedFile] = {}
        self._by_name: dict[str, list[NamedFile]] = {}
        self._real_folders: dict[str, str | None] = {}
        self._paths = QuietPaths()
        for path in (*paths, *self.extra):
            self._add(path, NamedFile(path))
        for alias, path in (aliases or {}).items():
            known = self._by_real.get(self._real(path) or path) or NamedFile(path)
            self._by_real.setdefault(self._real(alias) or alias, known)

    def matching(self, untrusted_name: str, image_path: str) -> Sequence[NamedFile]:
        """Return the files that a header's name may mean: the one at its path, and those called the same."""
        at_path = self.exactly(untrusted_name, image_path)
        alike = self._alike(untrusted_name)
        return [at_path, *(file for file in alike if file != at_path)] if at_path else alike

    def exactly(self, untrusted_name: str, image_path: str) -> NamedFile | None:
        """Return the file at the path that a header's name means, None where none of them lies there."""
        meant = self._meant(untrusted_name, image_path)
        return self._by_real.get(meant) if meant else None

    def find(self, untrusted_name: str, image_path: str) -> NamedFile:
        """Return the file that an image's header means, for `MachineTarget.find_backing`.

        Raises:
            UnreadError: it is not among the files, or only others are called the same.
        """
        at_path = self.exactly(untrusted_name, image_path)
        if at_path:
            return at_path
        alike = self._alike(untrusted_name)
        meant = self._meant(untrusted_name, image_path)
        if not alike or meant is None or os.path.lexists(meant):
            raise UnreadError(
                f"its header names {untrusted_name!r}, which is in none of the folders that were named;"
                " name its folder too, or the file with --backing FILE"
            )
        return pick(untrusted_name, image_path, alike, "--backing")

    def moved(self, untrusted_name: str, image_path: str, taken: str) -> bool:
        """Tell whether `taken` was found by its last component alone: the chain was copied or moved."""
        at_path = self.exactly(untrusted_name, image_path)
        return at_path is None or at_path.path != taken

    def _add(self, path: str, file: NamedFile) -> None:
        if self._by_real.setdefault(self._real(path) or path, file) is file:
            self._by_name.setdefault(os.path.basename(path), []).append(file)

    def _real(self, path: str) -> str | None:
        """Return the path without links in its folders; its last component is none, or an alias itself.

        None where only a mount would tell where its folder is (`quietpaths`).
        """
        folder, name = os.path.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = self._paths.resolved(folder or ".")
        known = self._real_folders[folder]
        return None if known is None else os.path.join(known, name)

    def _alike(self, untrusted_name: str) -> Sequence[NamedFile]:
        return self._by_name.get(os.path.basename(_plain(untrusted_name)), ())

    def _meant(self, untrusted_name: str, image_path: str) -> str | None:
        return self._real(os.path.join(os.path.dirname(image_path), _plain(untrusted_name)))


@dataclass(frozen=True, slots=True)
class Link:
    """Where an image stands.

    Attributes:
        chain: paths of what it rests on, from above; as far as they were found.
        is_base: another one rests on it, or lies in it in part.
        is_part: another one's disk lies in it in part.
    """

    chain: tuple[str, ...]
    is_base: bool
    is_part: bool = False

    @property
    def below(self) -> str:
        """The path that it rests on, "" for none or one that was not found."""
        return self.chain[0] if self.chain else ""


def link(infos: Mapping[str, ImageInfo | None], files: NamedFiles) -> dict[str, Link]:
    """Return where each image stands.

    Args:
        infos: path -> its own account, untrusted; None for a file that has none.
        files: what headers pick from.
    """
    idents = _idents(infos)
    below = {path: _below(path, info, files, idents) for path, info in infos.items()}
    parts = {part for path, info in infos.items() if info for part in _parts(path, info, files)}
    bases = {*below.values(), *parts}
    return {path: Link(_chain(path, below), path in bases, path in parts) for path in infos}


def _idents(infos: Mapping[str, ImageInfo | None]) -> dict[str, str]:
    """Return ident -> path, "" for one that several images bear: one may be a forgery of the other."""
    found: dict[str, str] = {}
    for path, info in infos.items():
        if info and info.ident:
            found[info.ident] = "" if info.ident in found else path
    return found


def part_names(info: ImageInfo) -> tuple[str, ...]:
    """Return the names of the further files that an image's disk lies in; untrusted."""
    inner = tuple(disk.name for disk in info.disks if disk.offset_bytes < 0)
    return (*((info.data_file_name,) if info.data_file_name else ()), *info.extents, *inner)


def _parts(path: str, info: ImageInfo, files: NamedFiles) -> Iterator[str]:
    for name in part_names(info):
        found = files.exactly(name, path)
        if found and found.path != path:
            yield found.path


def _below(path: str, info: ImageInfo | None, files: NamedFiles, idents: Mapping[str, str]) -> str:
    if info is None or not (info.backing_name or info.parent_ident):
        return ""
    if not info.backing_name:
        return idents.get(info.parent_ident, "")
    try:
        return files.find(info.backing_name, path).path
    except UnreadError:
        return ""  # whoever opens it says why


def _chain(path: str, below: Mapping[str, str]) -> tuple[str, ...]:
    """Return what lies below; a loop, and a chain that is too long, ends at its limit."""
    chain: list[str] = []
    while (path := below.get(path, "")) and len(chain) < MAX_CHAIN_LENGTH:
        chain.append(path)
    return tuple(chain)


def _plain(name: str) -> str:
    """Return a header's name without QEMU's protocol prefix; NUL ends it, as it would end a path.

    Hyper-V and VMware separate folders as Windows does.
    """
    return name.removeprefix("file:").split("\0")[0].replace("\\", "/")
