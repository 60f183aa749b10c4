"""A PostgreSQL cluster that the test starts itself: in a temporary folder, on a Unix socket, as its own user.

`fsync` is off, since no test takes the power away: what a process that was killed had written stays.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

USER = "postgres"
START_S = 60.0
SETTINGS = ("listen_addresses=", "fsync=off", "shared_buffers=16MB", "max_connections=40", "jit=off")


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs, None where there is none."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(folders, key=lambda folder: int(folder.parent.name), default=None)


class PostgresServer:
    """One cluster."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def new_database(self, template: str = "template1") -> str:
        """Make a database that is a copy of `template`, and return its name."""
        self._databases += 1
        name = f"record{self._databases}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def initialise(self) -> None:
        command = [self._binaries / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", USER, "-N"]
        command += ["-E", "UTF8", "--locale=C"]
        subprocess.run(command, check=True, capture_output=True, **self._credentials())

    def start(self) -> None:
        """Start the postmaster, also while backends of one that was killed are still ending."""
        ends = time.monotonic() + START_S
        command = [self._binaries / "postgres", "-D", self.folder / "data", "-k", self.folder]
        for setting in SETTINGS:
            command += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            while time.monotonic() < ends:
                if self._process is None or self._process.poll() is not None:
                    self._process = subprocess.Popen(
                        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._credentials()
                    )
                with suppress(psycopg.OperationalError):
                    self.execute("SELECT 1")
                    return
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text(errors="replace"))

    def kill(self) -> None:
        """Kill the postmaster; its backends end when they notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def _credentials(self) -> dict[str, object]:
        if os.geteuid():
            return {"cwd": self.folder}
        return {"cwd": self.folder, "user": USER, "group": USER, "extra_groups": []}


@contextmanager
def server() -> Iterator[PostgresServer]:
    """Start a cluster, and remove it with all that is in it."""
    binaries = programs()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="undercroft-pg-"))
    running = PostgresServer(folder, binaries)
    try:
        if not os.geteuid():
            shutil.chown(folder, USER, USER)
        running.initialise()
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)
