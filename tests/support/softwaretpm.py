"""A software TPM (swtpm) in a folder of the test's: started, killed, put back to an earlier state."""

import shutil
import socket
import subprocess
import time
from pathlib import Path


class SoftwareTpm:
    """A process of swtpm; `tcti` is how it is reached."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "tpm"
        self.tcti = f"swtpm:path={self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, startup: bool = True) -> None:
        for name in (self.socket, self.folder / "tpm.ctrl"):
            name.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={self.state}",
                "--server",
                f"type=unixio,path={self.socket}",
                "--ctrl",
                f"type=unixio,path={self.socket}.ctrl",
                "--flags",
                "not-need-init,startup-clear" if startup else "not-need-init",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2_000):
            if _listens(f"{self.socket}.ctrl") and _listens(str(self.socket)):
                return
            time.sleep(0.01)
        raise RuntimeError("swtpm did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def copy_state(self, name: str) -> Path:
        kept = self.folder / name
        shutil.copytree(self.state, kept)
        return kept

    def put_back(self, kept: Path) -> None:
        shutil.rmtree(self.state)
        shutil.copytree(kept, self.state)


def _listens(path: str) -> bool:
    """Whether somebody listens there: a socket that is bound may not be listened on yet."""
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(path) == 0
