"""What paths lead to: one image has one identity, whatever it is called."""

import os
import stat
import threading
from pathlib import Path

import pytest

from undercroft.adapters.libvirt.imagefiles import ImageFiles, image_identity


def test_all_names_of_a_file_have_its_identity(tmp_path: Path) -> None:
    image, other = tmp_path / "a", tmp_path / "other"
    image.touch()
    other.touch()
    (tmp_path / "hard").hardlink_to(image)
    (tmp_path / "soft").symlink_to(image)
    (tmp_path / "folder").symlink_to(tmp_path)
    names = (image, tmp_path / "hard", tmp_path / "soft", tmp_path / "folder" / "a", tmp_path / "x/../a")
    (tmp_path / "x").mkdir()
    assert {image_identity(str(name)) for name in names} == {image_identity(str(image))} != {""}
    assert image_identity(str(other)) != image_identity(str(image))


def test_two_nodes_of_one_block_device_are_one_device(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 1), ("c", 2)):
        try:
            os.mknod(tmp_path / name, stat.S_IFBLK | 0o600, os.makedev(240, number))
        except PermissionError:
            pytest.skip("needs root to make device nodes")
    found = [image_identity(str(tmp_path / name)) for name in "abc"]
    assert found == ["block 240:1", "block 240:1", "block 240:2"]


def test_what_cannot_be_told_has_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    long = "/" + "x" * 5000
    odd = ("", "a", "./a", "/\0", "/\ud800", long, f"{tmp_path}/none", f"{tmp_path}/loop", f"{tmp_path}/pipe")
    assert [image_identity(path) for path in (*odd, str(tmp_path))] == [""] * (len(odd) + 1)


def test_a_mount_that_hangs_is_waited_for_once_and_nothing_else_hangs_behind_it(tmp_path: Path) -> None:
    """A stat on a mount whose server is gone sleeps in the kernel; here it sleeps on an event."""
    image = tmp_path / "image"
    image.touch()
    back, asked = threading.Event(), list[str]()

    def ask(path: str) -> str:
        asked.append(path)
        if path.startswith("/dead"):
            assert back.wait(60)
        return image_identity(path)

    files = ImageFiles(ask, patience_s=0.05)
    assert [files.identity(path) for path in ("/dead/a", "/dead/b", str(image))] == ["", "", ""]
    assert asked == ["/dead/a"]
    back.set()
    patient = ImageFiles(ask)
    assert patient.identity(str(image)) == image_identity(str(image)) != ""
    while not (found := files.identity(str(image))):
        assert asked.count(str(image)) < 1000
    assert found == image_identity(str(image))
