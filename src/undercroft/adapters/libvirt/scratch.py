"""The private folder that a held machine's overwritten blocks go to.

QEMU copies a block there before the guest overwrites it. **When the scratch file cannot grow, QEMU fails the
guest's write**: "break-guest-write" is the fixed policy of backup jobs. Measured with QEMU 7.2 and libvirt
9.0: the guest is paused with an I/O error. So a scan starts only where there is room for all that it may
take, and gives up before it takes more.

A folder belongs to a living scan while that holds the lock file in it; the kernel drops the lock when the
process dies, however it dies.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from undercroft.errors import OperationError

PREFIX = "undercroft-scan-"
LOCK = "owner.lock"

_TABLES_PART = 1024
"""A scratch file is a qcow2 image: 10 bytes of tables for each cluster of 64 KiB, and less than this part."""
_EMPTY_BYTES = 4 << 20
"""More than its first clusters take."""
_MARKED = re.compile(re.escape(PREFIX) + r"[0-9a-f-]{36}-[a-z0-9_]{8}")


@dataclass(frozen=True, slots=True)
class ScratchLimits:
    """How much room a held machine may take, and where.

    Attributes:
        directory: where folders for scratch files are made; on a disk, not in RAM, and one that QEMU's
            user may pass through.
        max_bytes: when the scratch files hold more than this, the point in time is given up.
        reserve_bytes: room that must be free beyond `max_bytes`: what a fast guest may still overwrite
            until the limit is noticed, and what others need.
        poll_s: how often the scratch files are measured.
    """

    directory: Path = Path("/var/tmp")  # noqa: S108 - folders in it are made by mkdtemp
    max_bytes: int = 4 << 30
    reserve_bytes: int = 1 << 30
    poll_s: float = 0.05

    def bounded_by(self, disks_bytes: Iterable[int]) -> "ScratchLimits":
        """Return the limits for disks of these sizes: no block of them is copied twice."""
        most = sum(size + size // _TABLES_PART + _EMPTY_BYTES for size in disks_bytes)
        return replace(self, max_bytes=min(self.max_bytes, most))


class ScratchFolder:
    """A new folder for one scan of one machine, locked by this process.

    Args:
        limits: where, and how much room there must be.
        machine_uuid: becomes part of the name, so that the machine's next scan finds what a killed one left.

    Raises:
        OperationError: no room, or the folder cannot be made.
    """

    def __init__(self, limits: ScratchLimits, machine_uuid: str) -> None:
        needed = limits.max_bytes + limits.reserve_bytes
        try:
            free = shutil.disk_usage(limits.directory).free
            if free < needed:
                raise OperationError(
                    f"{limits.directory}: {free >> 20} MiB are free, and holding a running machine may take"
                    f" {needed >> 20} MiB; free some, or name another folder for scratch files"
                )
            self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{machine_uuid}-", dir=limits.directory))
            self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.chmod(self.path, 0o711)  # noqa: S103 - QEMU's user passes through; only we can list or write
        except OSError as error:
            raise OperationError(f"scratch folder in {limits.directory}: {error.strerror}") from error

    def file(self, target: str) -> str:
        """Return the path for a disk's scratch file; libvirt creates it and gives it to QEMU."""
        return str(self.path / f"{target}.scratch")

    def used_bytes(self) -> int:
        """Return how much room the scratch files take on their disk."""
        used = 0
        for entry in os.scandir(self.path):
            with contextlib.suppress(FileNotFoundError):  # libvirt removes the files when the job ends
                used += entry.stat(follow_symlinks=False).st_blocks * 512
        return used

    def remove(self) -> None:
        """Delete the folder and give the lock back."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def owner_is_alive(folder: Path) -> bool:
    """Tell whether a living scan holds this scratch folder."""
    try:
        lock = os.open(folder / LOCK, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def marked_folder(scratch_files: Iterable[str]) -> Path | None:
    """Return the scratch folder of ours that a backup job's files lie in, None for another program's job."""
    parents = {Path(path).parent for path in scratch_files}
    folder = parents.pop() if len(parents) == 1 else None
    return folder if folder is not None and _MARKED.fullmatch(folder.name) else None


def remove_abandoned(limits: ScratchLimits, machine_uuid: str) -> None:
    """Delete folders that killed scans of this machine left; call it when no job of ours runs there."""
    for folder in limits.directory.glob(f"{PREFIX}{machine_uuid}-*"):
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not owner_is_alive(folder):
            shutil.rmtree(folder, ignore_errors=True)
