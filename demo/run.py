"""`make demo`: a real Debian guest, upgraded after a snapshot, and what going back to it would bring back.

Builds the guest from packages of the main suite as published, takes an internal snapshot, upgrades the
current state from the security suite, and scans both states from outside. Nothing is booted or mounted.
Packages come from the mirror that this machine itself uses, and are kept in .cache/demo.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from debian_guest import (
    DiskLayout,
    build_tree,
    create_disk,
    replace_disk,
    require_tools,
    take_snapshot,
    upgrade_tree,
)
from host_mirror import host_mirror

from undercroft.errors import OperationError, StateError, UndercroftError

Result = TypeVar("Result")

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "demo"
DATABASE = CACHE / "advisories.sqlite"
PROGRAM = Path(sys.executable).with_name("undercroft")
SNAPSHOT = "before-upgrade"
PACKAGES = (
    "bind9-host",
    "ca-certificates",
    "curl",
    "expat",
    "nginx-light",
    "openssh-server",
    "openssl",
    "postgresql-client",
    "python3-minimal",
    "redis-server",
    "rsync",
    "sudo",
    "systemd-sysv",
    "tzdata",
    "xz-utils",
)
"""A small web server, of packages that have had security updates since the last point release."""

INCOMPLETE = 4
"""Exit code of a scan that could not answer everything; the demo shows it, and goes on."""


def main() -> int:
    """Run the demo; return its exit code."""
    try:
        require_tools()
        with _alone():
            image = _build()
            _show(image)
    except UndercroftError as error:
        sys.stderr.write(f"\nThe demo stopped: {error}\n")
        return error.exit_code
    return 0


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the cache folder for this run. Raises StateError while another run has it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{CACHE}: another run of the demo is at work; wait for it to end") from None
        yield


def _build() -> Path:
    """Return the guest's disk, built anew with the packages in the cache."""
    mirror = host_mirror()
    _say(
        f"A Debian {mirror.codename} guest is built from the mirror that apt uses here "
        f"(about 100 MB of packages, kept in {CACHE}):"
    )
    tree, image, layout = CACHE / "tree", CACHE / "web01.qcow2", DiskLayout()
    shutil.rmtree(tree, ignore_errors=True)
    _step(
        f"install a Debian {mirror.codename} web server into a folder, as published",
        lambda: build_tree(tree, mirror, PACKAGES, CACHE, hostname="web01"),
    )
    _step(
        f"write it to a disk image, {image.name}: GPT, ext4, swap", lambda: create_disk(tree, image, layout)
    )
    _step(f"take the snapshot {SNAPSHOT}", lambda: take_snapshot(image, SNAPSHOT))
    changed = _step("install the security updates", lambda: upgrade_tree(tree, mirror, CACHE))
    _step(
        f"write the {changed} new versions to the image; the snapshot stays",
        lambda: replace_disk(tree, image, layout),
    )
    shutil.rmtree(tree)
    return image


def _show(image: Path) -> None:
    """Get the advisories that the mirror has, then run what a user would run."""
    _undercroft("feeds", "update", "--mirror", "auto", "--for", image.name)
    _undercroft("scan", image.name)
    _undercroft("diff", f"{image.name}@{SNAPSHOT}", image.name)
    _say(
        f"\nThe guest stays. Look at it yourself:\n  cd {CACHE}\n"
        f"  UNDERCROFT_DATABASE={DATABASE.name} {PROGRAM} scan -v {image.name}"
    )


def _step(what: str, work: Callable[[], Result]) -> Result:
    """Do one step, and say what it does and how long it took."""
    _say(f"  {what} ... ", end="")
    started_at_s = time.monotonic()
    result = work()
    _say(f"{time.monotonic() - started_at_s:.1f} s")
    return result


def _say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _undercroft(*arguments: str) -> None:
    """Show and run one command of Undercroft, with a database of the demo's own."""
    _say(f"\n$ undercroft {' '.join(arguments)}")
    environment = {**os.environ, "UNDERCROFT_DATABASE": str(DATABASE)}
    started_at_s = time.monotonic()
    done = subprocess.run([PROGRAM, *arguments], cwd=CACHE, env=environment, check=False)
    _say(f"({time.monotonic() - started_at_s:.2f} s)")
    if done.returncode not in (0, INCOMPLETE):
        raise OperationError(f"undercroft {arguments[0]} ended with {done.returncode}; its message is above")


if __name__ == "__main__":
    sys.exit(main())
