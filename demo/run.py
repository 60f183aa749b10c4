"""`make demo`: a real Debian guest on a real libvirt host, refused until it is patched, and kept so.

Builds the guest from packages of the main suite as published, and starts a libvirt host of its own with
Undercroft on it. There the machine is refused, takes a snapshot, is upgraded from the security suite, starts,
and is not let back. A second, small machine is resumed twice from one snapshot: without what runs beneath it,
and with it. Packages come from the mirror that this machine itself uses, and are kept in .cache/demo.
"""

import fcntl
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import firewall_story
import fleet_story
import own_host
import resume_story
import small_guest
from debian_guest import (
    DiskLayout,
    build_tree,
    create_disk,
    replace_disk,
    require_tools,
    upgrade_tree,
)
from fleet_story import MACHINE, PICTURE, SNAPSHOT
from host_mirror import HostMirror, host_mirror
from telling import PROGRAM, Shell, say, step

from undercroft.errors import StateError, UndercroftError

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "demo"
DATABASE = CACHE / "advisories.sqlite"
TREE, IMAGE, LAYOUT = CACHE / "tree", CACHE / f"{MACHINE}.qcow2", DiskLayout()
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
        own_host.require_host_tools()
        small_guest.require_guest_tools()
        with _alone():
            _show(host_mirror())
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


def _show(mirror: HostMirror) -> None:
    """Show the whole story. Raises UndercroftError."""
    _build(mirror)
    outside = Shell(CACHE, environment={"UNDERCROFT_DATABASE": str(DATABASE)})
    outside("undercroft", "feeds", "update", "--mirror", "auto", "--for", IMAGE.name, codes=(0, INCOMPLETE))
    with own_host.running(CACHE / "host", CACHE, DATABASE) as host:
        fleet_story.first_day(host, CACHE)
        fleet_story.policy(host, CACHE)
        say("\nIts administrator installs the updates:")
        _upgrade(mirror)
        outside("undercroft", "scan", IMAGE.name, codes=(0, INCOMPLETE))
        outside("undercroft", "diff", f"{IMAGE.name}@{SNAPSHOT}", IMAGE.name, codes=(0, INCOMPLETE))
        fleet_story.patched(host)
        fleet_story.looking_back(host)
        resume_story.begin(host, CACHE)
        firewall_story.filtered(host, CACHE)
        resume_story.resumed(host, CACHE)
    say(
        f"\nThe host is gone; the guest stays, and the picture of its life, {CACHE / PICTURE}.\n"
        f"  cd {CACHE}\n  UNDERCROFT_DATABASE={DATABASE.name} {PROGRAM} scan -v {IMAGE.name}"
    )


def _build(mirror: HostMirror) -> None:
    """Make the guest's disk anew, with the packages in the cache."""
    say(
        f"A Debian {mirror.codename} guest is built from the mirror that apt uses here "
        f"(about 100 MB of packages, kept in {CACHE}):"
    )
    shutil.rmtree(TREE, ignore_errors=True)
    step(
        f"install a Debian {mirror.codename} web server into a folder, as published",
        lambda: build_tree(TREE, mirror, PACKAGES, CACHE, hostname=MACHINE),
    )
    step(f"write it to a disk image, {IMAGE.name}: GPT, ext4, swap", lambda: create_disk(TREE, IMAGE, LAYOUT))


def _upgrade(mirror: HostMirror) -> None:
    """Install the security updates into the current state of the disk; the snapshot stays."""
    changed = step("install the security updates", lambda: upgrade_tree(TREE, mirror, CACHE))
    step(f"write the {changed} new versions to the disk", lambda: replace_disk(TREE, IMAGE, LAYOUT))
    shutil.rmtree(TREE)


if __name__ == "__main__":
    sys.exit(main())
