"""A header's name picks among the files that were named: by its path, or a copied chain by its last part."""

from pathlib import Path

import pytest

from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.usecases.chain import UnreadError
from undercroft.usecases.images.chains import NamedFiles, link


def info(backing: str = "") -> ImageInfo:
    return ImageInfo(
        DiskFormat.QCOW2, 1 << 20, backing_name=backing, backing_format="qcow2" if backing else ""
    )


def test_a_name_means_the_file_at_its_path_first(tmp_path: Path) -> None:
    files = NamedFiles([f"{tmp_path}/a/base.qcow2", f"{tmp_path}/b/base.qcow2"])
    for name in (
        "base.qcow2",
        "./base.qcow2",
        f"{tmp_path}/b/base.qcow2",
        "../b/base.qcow2",
        "file:base.qcow2",
    ):
        assert files.find(name, f"{tmp_path}/b/top.qcow2").path == f"{tmp_path}/b/base.qcow2"
        assert not files.moved(name, f"{tmp_path}/b/top.qcow2", f"{tmp_path}/b/base.qcow2")


def test_a_copied_chain_is_found_by_the_last_part_of_its_name(tmp_path: Path) -> None:
    files = NamedFiles([f"{tmp_path}/a/base.qcow2"])
    assert files.find("/gone/base.qcow2", f"{tmp_path}/a/top.qcow2").path == f"{tmp_path}/a/base.qcow2"
    assert files.moved("/gone/base.qcow2", f"{tmp_path}/a/top.qcow2", f"{tmp_path}/a/base.qcow2")


def test_two_files_of_that_name_fit_neither(tmp_path: Path) -> None:
    files = NamedFiles([f"{tmp_path}/a/base.qcow2", f"{tmp_path}/b/base.qcow2"])
    with pytest.raises(UnreadError, match="name one of them"):
        files.find("/gone/base.qcow2", f"{tmp_path}/top.qcow2")


def test_a_file_elsewhere_is_not_replaced_by_one_that_is_called_the_same(tmp_path: Path) -> None:
    """QEMU would open the one outside: what lies here under that name is another disk."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/base.qcow2").write_bytes(b"the real one")
    files = NamedFiles([f"{tmp_path}/pool/base.qcow2"])
    with pytest.raises(UnreadError, match="in none of the folders that were named; name its folder too"):
        files.find("../outside/base.qcow2", f"{tmp_path}/pool/top.qcow2")


def test_a_name_may_be_another_name_of_a_file(tmp_path: Path) -> None:
    files = NamedFiles([f"{tmp_path}/a.qcow2"], {f"{tmp_path}/b.qcow2": f"{tmp_path}/a.qcow2"})
    assert files.find("b.qcow2", f"{tmp_path}/top.qcow2").path == f"{tmp_path}/a.qcow2"


def test_chains_are_linked_and_counted(tmp_path: Path) -> None:
    infos = {
        f"{tmp_path}/base": info(),
        f"{tmp_path}/middle": info("base"),
        f"{tmp_path}/top": info("middle"),
        f"{tmp_path}/lost": info("elsewhere"),
        f"{tmp_path}/broken": None,
    }
    links = link(infos, NamedFiles(infos))
    found = {Path(path).name: (Path(at.below).name, len(at.chain), at.is_base) for path, at in links.items()}
    assert found == {
        "base": ("", 0, True),
        "middle": ("base", 1, True),
        "top": ("middle", 2, False),
        "lost": ("", 0, False),
        "broken": ("", 0, False),
    }


def test_a_circle_of_images_ends(tmp_path: Path) -> None:
    infos = {f"{tmp_path}/a": info("b"), f"{tmp_path}/b": info("a")}
    assert all(at.is_base for at in link(infos, NamedFiles(infos)).values())


def test_a_thousand_clones_of_a_base_are_linked_without_a_thousand_looks_at_each(tmp_path: Path) -> None:
    infos = {
        f"{tmp_path}/base": info(),
        **{f"{tmp_path}/c{number}": info("base") for number in range(20_000)},
    }
    assert sum(len(at.chain) for at in link(infos, NamedFiles(infos)).values()) == 20_000
