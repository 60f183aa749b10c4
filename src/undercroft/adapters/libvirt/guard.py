"""Ends a machine's backup job when the scan that began it dies, be it by SIGKILL.

Without it the job would go on keeping what the guest overwrites, until the disk is full and the guest's
writes fail. The guard is a process of its own, in a session of its own. It waits for the end of its standard
input, which the kernel closes when the scan's process is gone; a scan that ends in order kills its guard.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from undercroft.adapters.libvirt import jobs
from undercroft.adapters.libvirt.bindings import load
from undercroft.errors import OperationError

PATIENCE_S = 3.0
"""How long the guard looks for the job: libvirt may still be beginning it when the scan is killed."""
_POLL_S = 0.1


class Guard:
    """The guard as the scan sees it: it watches from the start on until it is dismissed."""

    def __init__(self, uri: str, machine_uuid: str, folder: Path, socket_path: Path) -> None:
        """Start the process. Raises OperationError when it cannot be started."""
        arguments = [uri, machine_uuid, str(folder), str(socket_path)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", __name__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise OperationError(f"the guard of the backup job cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """The guard's process."""
        return self._process.pid

    def dismiss(self) -> None:
        """End the guard; the job has been ended."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def end_when_orphaned(uri: str, machine_uuid: str, folder: Path, socket_path: Path) -> None:
    """Wait until standard input ends, then end the job of `folder` and remove its files."""
    sys.stdin.buffer.read()
    libvirt = load()
    connection = libvirt.open(uri)
    domain = connection.lookupByUUIDString(machine_uuid)
    deadline = time.monotonic() + PATIENCE_S
    while not jobs.end(libvirt, domain, folder) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    socket_path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    end_when_orphaned(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
