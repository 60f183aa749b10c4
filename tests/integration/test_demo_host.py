"""The demo's libvirt host: whole for who is on it, and nothing of it outside or afterwards."""

import os
import sys
from pathlib import Path

import libvirtd
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "demo"))

import own_host  # noqa: E402 - lies in demo/, which is no package
from telling import Shell  # noqa: E402 - the same

from undercroft.errors import OperationError  # noqa: E402 - after the path

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing()),
]


def listing(*folders: str) -> dict[str, tuple[int, int]]:
    """Return what lies in the folders of the machine's own libvirt, with inode and time of change."""
    return {
        entry.path: (entry.inode(), entry.stat(follow_symlinks=False).st_ctime_ns)
        for folder in folders
        if Path(folder).is_dir()
        for entry in os.scandir(folder)
    }


def test_its_commands_reach_its_own_libvirt_and_the_machine_s_own_stays_as_it_is(tmp_path: Path) -> None:
    images = tmp_path / "images folder"
    images.mkdir()
    (images / "note").write_text("from outside\n")
    folders = ("/etc/libvirt", "/var/lib/libvirt", "/run/libvirt")
    before = listing(*folders)
    with own_host.running(tmp_path / "it's", images, tmp_path / "advisories.db") as host:
        assert host.shell.ask("virsh", "-c", "qemu:///system", "list", "--name") == (0, "\n")
        assert host.shell.ask("cat", str(own_host.IMAGES / "note")) == (0, "from outside\n")
        assert host.shell.ask("hostname") == (0, "kvm01\n")
        (process,) = (pid for pid in host.shell.ask("cat", "/run/libvirtd.pid")[1].split())
        assert host.shell.ask("cat", f"/proc/{process}/comm") == (0, "libvirtd\n")
    assert listing(*folders) == before
    assert host.shell.ask("true")[0] != 0, "its namespaces are gone"


def test_a_command_that_fails_ends_the_story(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell("false", codes=(1,))
    with pytest.raises(OperationError, match="false ended with 1; its message is above"):
        shell("false")
