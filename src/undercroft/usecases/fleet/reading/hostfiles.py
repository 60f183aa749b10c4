"""Which files of a host may lie below a machine's image, where libvirt does not say.

libvirt knows the chain of a running machine, and of a stopped one whose images lie in a pool. For others only
the image's header names what is below, and the header is the guest's to write (a raw disk's wholly, a qcow2
file's where a flaw in the monitor lets it). Guarantees: a header picks among the volumes of pools, the
backing images of other machines and the files that the administrator named, and never gets the disk that a
machine writes: not another's, nor a second one of its own. It means exactly the path that QEMU would open;
a file of the same name elsewhere is not it. A template's disk may be a base: it is never started. The pieces
that an image's disk lies in are found beside it by their names (`pieces`), for a machine whose disk libvirt
calls by that format, and for nobody else; those of a machine's vmdk are its disk as the descriptor is.

    files = HostFiles(survey, extra=("/srv/bases/*.qcow2",))
    reading = layers.read(files.target_for(domain), "current")
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from undercroft.model.disk import DiskFormat
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.ports.hypervisor import PointInTime
from undercroft.usecases.chain import UnreadError
from undercroft.usecases.domaintarget import domain_target
from undercroft.usecases.fleet.reading.pieces import is_piece, is_plain_file, vmdk_pieces
from undercroft.usecases.target import DiskTarget, MachineTarget, NamedFile

MAX_EXTRA_FILES = 100_000


class HostFiles:
    """The files of one survey, looked up by the path that a header resolves to.

    Args:
        survey: all machines and volumes of this host.
        extra: glob patterns of further files that may be bases, from the administrator's settings.
    """

    def __init__(self, survey: Survey, extra: Sequence[str] = ()) -> None:
        self._allowed: dict[str, NamedFile] = {}
        self._written: dict[str | tuple[int, int], _Writer] = {}
        self._real: dict[str, str] = {}
        """Every name by which the host itself knows a file -> the file's real path."""
        for domain in survey.domains:
            for path in _kept_by(domain):
                self._forbid(path, _Writer(domain.name, keeper=domain.uuid))
        for domain in survey.domains:
            for path in _written_by(domain):
                self._forbid(path, _Writer(domain.name, former=domain.uuid))
        self._forbid_pieces(survey)
        paths = [volume.path for volume in survey.volumes]
        paths += [path for domain in survey.domains for path in _below(domain)]
        paths += [
            disk.path for domain in survey.domains if domain.ownership.template for disk in domain.disks
        ]
        for path in filter(None, (*paths, *_matching(extra))):
            self._allowed.setdefault(self._known(path), NamedFile(path))

    def target_for(self, domain: Domain, still: PointInTime | None = None) -> MachineTarget:
        """Return a machine as it may be read; `still` holds a running one at a point in time."""
        find = partial(self.find, machine=domain.uuid, now_written=_names(_written_by(domain)))
        piece = partial(self.find_piece, machine=domain.uuid)
        return domain_target(domain.name, domain.disks, still, find_backing=find, find_data=piece)

    def target_for_image(self, volume: PoolVolume) -> MachineTarget:
        """Return an image of no machine; its format is told from its bytes, as nobody else says it."""
        disk = DiskTarget("disk0", NamedFile(volume.path))
        return MachineTarget(volume.name, (disk,), find_backing=self.find)

    def find(
        self,
        untrusted_name: str,
        image_path: str,
        machine: str = "",
        now_written: frozenset[str | tuple[int, int]] = frozenset(),
    ) -> NamedFile:
        """Return the file that an image's header means.

        Args:
            untrusted_name: the header's text; compared, never opened.
            image_path: the image whose header it is.
            machine: UUID of the machine whose image it is; "" for none.
            now_written: paths and inodes of what it writes now: since the survey a snapshot may have put an
                image on top of what it wrote then.

        Raises:
            UnreadError: it may not be read for this machine, or is not among the host's images.
        """
        path = self._real.get(_meant(untrusted_name, image_path))
        if path is None:
            raise UnreadError(
                f"its header names {untrusted_name!r}, which is in no storage pool and below no other"
                " machine; make a pool of its folder, or say the chain with <backingStore> in the XML"
            )
        writer = self._writer(path)
        left = writer and writer.former == machine and now_written and not now_written & {path, _inode(path)}
        if writer and (not machine or not (machine == writer.keeper or left)):
            raise UnreadError(
                f"its header names {untrusted_name!r}, which is the disk that machine {writer.name} writes,"
                " and is not read for another; make that machine a template if it is one"
            )
        return NamedFile(path) if writer else self._allowed[path]

    def find_piece(self, untrusted_name: str, image_path: str, machine: str) -> NamedFile:
        """Return the file that an image's header means as a piece of its own disk.

        Args:
            untrusted_name: the header's text; compared, never opened.
            image_path: the image whose header it is, of a format that libvirt or the image above it says.
            machine: UUID of the machine that it belongs to.

        Raises:
            UnreadError: it is not called as a piece of that image, not there, or another machine's disk.
        """
        name = untrusted_name.removeprefix("file:").split("\0")[0]
        folder = os.path.dirname(image_path)
        path = os.path.join(os.path.realpath(folder), os.path.basename(name))
        beside = _meant(untrusted_name, image_path) in {path, os.path.join(folder, os.path.basename(name))}
        if not beside or not is_piece(os.path.basename(name), os.path.basename(image_path)):
            raise UnreadError(
                f"its header names {untrusted_name!r}, which is not beside it under a name made of its own; "
                "rename it (`NAME-flat.vmdk`, `NAME-data.raw`), or say <dataStore> in the XML"
            )
        if not is_plain_file(path):
            raise UnreadError(f"its header names {untrusted_name!r}, which is no regular file beside it")
        writer = self._writer(path) or self._other_claims(path, image_path)
        if writer and writer.former != machine:
            raise UnreadError(
                f"its header names {untrusted_name!r}, which is the disk that machine {writer.name} writes,"
                " and is not read for another"
            )
        return NamedFile(path, DiskFormat.RAW, no_link=True)

    def _other_claims(self, piece: str, image_path: str) -> "_Writer | None":
        """Return who writes another image that a piece is called after too ("web01.img", "web01.qcow2")."""
        folder, name = os.path.split(piece)
        own = os.path.join(folder, os.path.basename(image_path))
        for path, writer in self._written.items():
            if not isinstance(path, str) or path == own or os.path.dirname(path) != folder:
                continue
            if is_piece(name, os.path.basename(path)):
                return _Writer(writer.name, shared=True)
        return None

    def _forbid_pieces(self, survey: Survey) -> None:
        """Take the pieces of the vmdk images that machines write for what these write."""
        writers = {
            path: domain
            for domain in survey.domains
            for disk in domain.disks
            if disk.format == DiskFormat.VMDK
            for path in _written_by(domain)
            if path == disk.path
        }
        for image, piece in vmdk_pieces(writers):
            self._forbid(piece, _Writer(writers[image].name, former=writers[image].uuid))

    def _known(self, path: str) -> str:
        """Take the host's own name for a file, and return the file's real path."""
        real = os.path.realpath(path)
        self._real[os.path.normpath(path)] = self._real[real] = real
        return real

    def _forbid(self, path: str, writer: "_Writer") -> None:
        for name in (self._known(path), _inode(path)):
            if name is not None:
                before = self._written.get(name)
                shared = before is not None and (before.shared or before.former not in {"", writer.former})
                self._written[name] = _Writer(writer.name, shared=True) if shared else writer

    def _writer(self, path: str) -> "_Writer | None":
        """Return who writes the file, by this or another name (a hard link), None for nobody."""
        inode = _inode(path)
        by_path = self._written.get(path)
        by_inode = self._written.get(inode) if inode else None
        if by_path and by_inode and by_path != by_inode:
            return _Writer(by_inode.name, shared=True)  # one's by its name, another's by a hard link
        return by_path or by_inode


def _meant(untrusted_name: str, image_path: str) -> str:
    """Return the path that an image's header means, worked out from the text alone.

    No file of that name is looked at: below an automounter a look would mount whatever the name says.

    Raises:
        UnreadError: it goes up again after going down, so that only the disk could tell where it leads.
    """
    name = untrusted_name.removeprefix("file:").split("\0")[0]
    parts = [] if name.startswith("/") else os.path.realpath(os.path.dirname(image_path)).split("/")[1:]
    fixed = len(parts)
    for part in name.split("/"):
        if part in {"", "."}:
            continue
        if part != "..":
            parts.append(part)
            continue
        if len(parts) > fixed:
            raise UnreadError(
                f"its header names {untrusted_name!r}, whose '..' after a folder is not followed"
            )
        parts = parts[:-1]
        fixed = len(parts)
    return "/" + "/".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class _Writer:
    """A machine that writes a file, or, as its `keeper`, wrote it until a snapshot and may again.

    `former` wrote it when it was surveyed. One that is `shared` is nobody's to give away.
    """

    name: str
    keeper: str = ""
    former: str = ""
    shared: bool = False


def _names(paths: Iterable[str]) -> frozenset[str | tuple[int, int]]:
    """Return by what a file is known: its real path and its inode."""
    real = {os.path.realpath(path) for path in paths}
    return frozenset(real | {inode for path in real if (inode := _inode(path))})


def _written_by(domain: Domain) -> Iterator[str]:
    """Yield the files that a machine writes now: its top images and their data."""
    for disk in domain.disks:
        if not disk.readonly and not disk.removable and not domain.ownership.template:
            yield from filter(None, (disk.path, disk.data_file))


def _kept_by(domain: Domain) -> Iterator[str]:
    """Yield the files of a machine's snapshots and saves, but for those that lie below its disks anyway."""
    below = set(_below(domain))
    paths = [disk.path for snapshot in domain.snapshots for disk in snapshot.disks]
    paths += [snapshot.memory_path for snapshot in domain.snapshots]
    yield from (path for path in (*paths, domain.managed_save) if path and path not in below)


def _below(domain: Domain) -> Iterator[str]:
    for disk in domain.disks:
        for entry in disk.chain or ():
            yield entry.path


def _matching(patterns: Iterable[str]) -> list[str]:
    found = [path for pattern in patterns for path in glob.iglob(pattern)]
    return sorted(path for path in found[:MAX_EXTRA_FILES] if os.path.isfile(path))


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
