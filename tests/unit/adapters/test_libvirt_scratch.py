"""Scratch folders: whose they are, and what becomes of those that a killed scan left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from undercroft.adapters.libvirt import scratch
from undercroft.errors import OperationError

UUID = "c08c3190-d01e-45b2-a350-6f30e14c6b6b"
OTHER = "11111111-d01e-45b2-a350-6f30e14c6b6b"
HOLDER = """
import sys, time
from pathlib import Path
from undercroft.adapters.libvirt import scratch
folder = scratch.ScratchFolder(scratch.ScratchLimits(Path(sys.argv[1]), 0, 0), sys.argv[2])
print(folder.path, flush=True)
time.sleep(60)
"""


def limits(directory: Path) -> scratch.ScratchLimits:
    return scratch.ScratchLimits(directory, max_bytes=1 << 20, reserve_bytes=1 << 20)


def test_no_more_room_is_asked_for_than_the_disks_and_their_tables_take(tmp_path: Path) -> None:
    small, large = 64 << 20, 1 << 50
    asked = scratch.ScratchLimits(tmp_path).bounded_by([small, small]).max_bytes
    assert 2 * small + 2 * 10 * (small >> 16) < asked < 2 * small + (10 << 20)
    assert scratch.ScratchLimits(tmp_path).bounded_by([small, large]) == scratch.ScratchLimits(tmp_path)


def test_a_folder_lets_others_through_but_not_look_or_write(tmp_path: Path) -> None:
    folder = scratch.ScratchFolder(limits(tmp_path), UUID)
    assert folder.path.stat().st_mode & 0o777 == 0o711
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_recognised_as_ours_and_another_programs_is_not(tmp_path: Path) -> None:
    folder = scratch.ScratchFolder(limits(tmp_path), UUID)
    assert scratch.marked_folder([folder.file("vda"), folder.file("vdb")]) == folder.path
    assert scratch.marked_folder([folder.file("vda"), "/var/tmp/backup.vdb"]) is None
    assert scratch.marked_folder(["/var/tmp/backup.vda"]) is None
    assert scratch.marked_folder([]) is None
    folder.remove()


def test_what_a_killed_scan_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with (
        subprocess.Popen([*arguments, UUID], stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen([*arguments, UUID], stdout=subprocess.PIPE, text=True) as living,
        subprocess.Popen([*arguments, OTHER], stdout=subprocess.PIPE, text=True) as other,
    ):
        paths = [
            Path(process.stdout.readline().strip()) for process in (killed, living, other) if process.stdout
        ]
        assert all(scratch.owner_is_alive(path) for path in paths)
        for process in (killed, other):
            process.send_signal(signal.SIGKILL)
            process.wait()
        precious = tmp_path / "precious"
        precious.mkdir()
        (tmp_path / f"{scratch.PREFIX}{UUID}-linklink").symlink_to(precious)
        assert [scratch.owner_is_alive(path) for path in paths] == [False, True, False]
        scratch.remove_abandoned(limits(tmp_path), UUID)
        assert [path.exists() for path in (*paths, precious)] == [False, True, True, True]
        living.kill()


def test_sparse_scratch_files_count_by_what_they_take(tmp_path: Path) -> None:
    folder = scratch.ScratchFolder(limits(tmp_path), UUID)
    with Path(folder.file("vda")).open("wb") as file:
        file.truncate(1 << 30)
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    assert 1 << 20 <= folder.used_bytes() < 2 << 20
    folder.remove()


def test_no_room_is_told_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match=r"MiB are free.*name another folder"):
        scratch.ScratchFolder(scratch.ScratchLimits(tmp_path, max_bytes=1 << 60), UUID)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="No such file"):
        scratch.ScratchFolder(limits(tmp_path / "none"), UUID)
