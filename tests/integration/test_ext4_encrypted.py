"""Folders that a guest encrypted file by file (fscrypt): unread, with their paths, and never empty."""

from pathlib import Path

import pytest
from diskimages import opened, run
from machineimages import debian_tree, make_filesystem, packages

from undercroft.disks.machine import open_machine
from undercroft.errors import UnsupportedError
from undercroft.inventory.collect import collect
from undercroft.model.inventory import Inventory

ENCRYPTED = "0x80800"
"""Inode flags: encrypted, and mapped by extents."""

FILES = {"opt/app/tool.py": b"1", "home/anna/notes": b"2", "var/lib/app/x": b"3"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tree = debian_tree(tmp_path / "tree", packages(3), FILES)
    return make_filesystem(tree, tmp_path / "fs", "-t", "ext4", "-O", "encrypt")


def encrypt(image: Path, *folders: str) -> None:
    for folder in folders:
        run("debugfs", "-w", "-R", f"sif {folder} flags {ENCRYPTED}", image)


def inventory_of(image: Path) -> Inventory:
    with opened(image) as disk:
        return collect(open_machine([("vda", disk)]))


def test_without_encrypted_folders_nothing_is_missing(image: Path) -> None:
    """The control: the feature alone hides nothing."""
    assert not inventory_of(image).coverage.problems


def test_an_encrypted_home_hides_no_software(image: Path) -> None:
    encrypt(image, "/home/anna")
    assert not inventory_of(image).coverage.problems


def test_a_folder_that_may_hold_software_is_unread_with_its_path(image: Path) -> None:
    encrypt(image, "/opt/app")
    found = inventory_of(image)
    assert len(found.packages) == 3
    (problem,) = found.coverage.problems
    assert "encrypted by the guest (fscrypt)" in problem
    assert "/opt/app" in problem
    assert "e2fsck" not in problem


def test_an_encrypted_package_database_is_unknown_and_not_empty(image: Path) -> None:
    encrypt(image, "/var/lib/dpkg")
    found = inventory_of(image)
    assert not found.packages
    assert any("/var/lib/dpkg/status" in problem for problem in found.coverage.problems)


def test_its_files_are_refused_with_the_path(image: Path) -> None:
    encrypt(image, "/opt/app")
    with opened(image) as disk:
        tree = open_machine([("vda", disk)]).tree
        assert tree is not None
        for attempt in (
            lambda: list(tree.entries(b"/opt/app")),
            lambda: tree.read(b"/opt/app/tool.py", 100),
            lambda: list(tree.walk(b"/opt")),
            lambda: tree.exists(b"/opt/app/tool.py"),
        ):
            with pytest.raises(UnsupportedError, match="encrypted by the guest"):
                attempt()
        with pytest.raises(UnsupportedError, match=r"^/opt/app: ext inode"):
            list(tree.walk(b"/opt"))
