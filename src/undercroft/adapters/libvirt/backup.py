"""A running machine held at one moment: libvirt's pull-mode backup, read over NBD.

Guarantees: all served disks show the same moment; the machine goes on; the backup job is ended and its files
are removed however the `with` block ends; only a job that this module's marker names as ours is ever ended.
After `kill -9` the guard process ends it, and where that died too, the next scan of the machine.

libvirt runs one job at a time for each machine. A scan yields: when another program's backup, migration or
save is running it refuses. While it holds a machine, other programs' jobs wait, and fail after 30 s: hold a
machine no longer than it takes to read it.

Asks for nothing newer than libvirt 9.0 and QEMU 7.2.
"""

import contextlib
import shutil
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from undercroft.adapters.libvirt import domain_xml, jobs, scratch
from undercroft.adapters.libvirt.bindings import Domain, Libvirt, message
from undercroft.adapters.libvirt.endpoint import Endpoint
from undercroft.adapters.libvirt.guard import Guard
from undercroft.adapters.libvirt.termination import OrderlyTermination
from undercroft.errors import BusyError, NotFoundError, OperationError
from undercroft.model.domain import DomainDisk
from undercroft.ports.hypervisor import MachineDisks

SOCKET_NAME = "undercroft.sock"
MAX_SOCKET_PATH_BYTES = 107


class Backup:
    """`ports.hypervisor.PointInTime` as a context manager; begins on entry, ends on exit.

    Args:
        libvirt: the loaded binding.
        uri: where the guard finds the domain.
        domain: from a connection that may write.
        machine: the same domain's disks.
        limits: room for what the guest overwrites meanwhile.
        state_directory: the system instance's folder of domains. The socket goes into the domain's own
            folder there: libvirt's AppArmor profile lets QEMU make sockets nowhere else.
            None for a session instance, whose QEMU runs as our own user: the scratch folder is used.
    """

    def __init__(
        self,
        libvirt: Libvirt,
        uri: str,
        domain: Domain,
        machine: MachineDisks,
        *,
        limits: scratch.ScratchLimits,
        state_directory: Path | None,
    ) -> None:
        self._libvirt = libvirt
        self._uri = uri
        self._domain = domain
        self._machine = machine
        self._limits = limits
        self._state_directory = state_directory
        self.unavailable: Mapping[str, str] = _unavailable(machine.disks)
        skipped = {disk.target for disk in machine.disks if disk.removable} | set(self.unavailable)
        self._left_out = tuple(disk.target for disk in machine.disks if disk.target in skipped)
        self.targets = tuple(disk.target for disk in machine.disks if disk.target not in skipped)
        self._termination = OrderlyTermination()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="scratch limit", daemon=True)
        self._given_up = ""

    def __enter__(self) -> "Backup":
        self._refuse_when_busy()
        with contextlib.suppress(self._libvirt.libvirtError):  # not all storage tells how large it is
            self._limits = self._limits.bounded_by(
                [self._domain.blockInfo(target)[0] for target in self.targets]
            )
        self._folder = scratch.ScratchFolder(self._limits, self._machine.uuid)
        with contextlib.ExitStack() as undo:
            undo.callback(self._folder.remove)
            self._endpoint = Endpoint(self._socket_path())
            undo.enter_context(self._termination)
            self._termination.critical = True
            self._guard = Guard(self._uri, self._machine.uuid, self._folder.path, self._endpoint.path)
            undo.callback(self._guard.dismiss)
            self._begin()
            self._watcher.start()
            undo.pop_all()
        try:
            self._termination.release()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._leave()
        if self._given_up and (error is None or isinstance(error, Exception)):
            raise OperationError(self._given_up) from error

    def connect(self, target: str) -> socket.socket:
        """Return a connected socket for the export `target`. See `PointInTime.connect`."""
        if target not in self.targets:
            reason = self.unavailable.get(target, "it is none of the machine's disks")
            raise NotFoundError(f"disk {target} of {self._machine.name}: not served, {reason}")
        self.check()
        return self._endpoint.connect()

    def check(self) -> None:
        """Raise OperationError when the point in time was given up."""
        if self._given_up:
            raise OperationError(self._given_up)

    def _refuse_when_busy(self) -> None:
        name = self._machine.name
        if not self.targets:
            reasons = "; ".join(f"{target} is {reason}" for target, reason in self.unavailable.items())
            raise OperationError(f"machine {name}: it has no disk that can be held. {reasons}")
        try:
            if not self._domain.isActive():
                raise OperationError(f"machine {name}: not running any more; scan it again")
            files = jobs.scratch_files(self._libvirt, self._domain)
            if files is not None:
                self._take_over(files)
            elif self._domain.jobInfo()[0] != self._libvirt.VIR_DOMAIN_JOB_NONE:
                raise OperationError(self._busy("a job (migration, save or snapshot)"))
        except self._libvirt.libvirtError as error:
            raise OperationError(f"machine {name}: {message(error)}") from error
        scratch.remove_abandoned(self._limits, self._machine.uuid)

    def _take_over(self, files: tuple[str, ...]) -> None:
        """End a backup job that a killed scan of ours left; refuse when it is anybody else's."""
        folder = scratch.marked_folder(files)
        if folder is None:
            raise OperationError(self._busy("another program's backup"))
        if scratch.owner_is_alive(folder):
            raise BusyError(self._busy("another scan"))
        jobs.end(self._libvirt, self._domain, folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _busy(self, what: str) -> str:
        name = self._machine.name
        return (
            f"machine {name}: {what} is running on it, and libvirt runs one at a time; wait until it ends"
            f" (virsh domjobinfo {name}), or scan the image files, which is no single point in time"
        )

    def _socket_path(self) -> Path:
        folder = self._folder.path
        if self._state_directory is not None:
            found = list(self._state_directory.glob(f"domain-{self._domain.ID()}-*"))
            if len(found) != 1:
                raise OperationError(
                    f"machine {self._machine.name}: libvirt's folder of it is not in {self._state_directory}"
                )
            folder = found[0]
        path = folder / SOCKET_NAME
        if len(str(path).encode()) > MAX_SOCKET_PATH_BYTES:
            raise OperationError(f"{path}: too long for a socket, {MAX_SOCKET_PATH_BYTES} bytes are possible")
        return path

    def _begin(self) -> None:
        files = {target: self._folder.file(target) for target in self.targets}
        try:
            self._domain.backupBegin(
                domain_xml.backup_xml(str(self._endpoint.path), files, self._left_out), None
            )
        except self._libvirt.libvirtError as error:
            raise OperationError(
                f"machine {self._machine.name}: libvirt could not begin a backup: {message(error)}"
            ) from error

    def _leave(self) -> None:
        self._termination.critical = True
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._termination.__exit__, None, None, None)
            cleanup.callback(self._folder.remove)
            cleanup.callback(self._endpoint.remove)
            cleanup.callback(self._guard.dismiss)
            self._ended.set()
            self._watcher.join()
            self._endpoint.hang_up()
            try:
                jobs.end(self._libvirt, self._domain, self._folder.path)
            except self._libvirt.libvirtError as error:
                name = self._machine.name
                raise OperationError(
                    f"machine {name}: its backup job could not be ended ({message(error)}); the next scan"
                    f" ends it, or: virsh domjobabort {name}"
                ) from error
        self._termination.release()

    def _watch(self) -> None:
        """Give the point in time up before its files take more room than they may."""
        while not self._ended.wait(self._limits.poll_s):
            used = self._folder.used_bytes()
            free = shutil.disk_usage(self._folder.path).free
            if used <= self._limits.max_bytes and free >= self._limits.reserve_bytes // 2:
                continue
            self._given_up = (
                f"machine {self._machine.name}: it overwrote so much during the scan that"
                f" {self._limits.directory} holds {used >> 20} MiB for it and has {free >> 20} MiB left; scan"
                " it in a quieter hour, or give more room for scratch files"
            )
            self._endpoint.hang_up()
            with contextlib.suppress(self._libvirt.libvirtError):  # leaving the block tries again, and tells
                jobs.end(self._libvirt, self._domain, self._folder.path)
            return


def _unavailable(disks: tuple[DomainDisk, ...]) -> dict[str, str]:
    """Return the disks that must not take part: target -> reason."""
    reasons = {}
    for disk in disks:
        if disk.removable:
            continue
        if disk.encrypted:
            reasons[disk.target] = "encrypted: its scratch file would hold plain text on the host"
    return reasons
