"""Only what lies in the named folders is listed, each file once, and what is left out is told."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from undercroft.errors import DeniedError, InputError, NotFoundError
from undercroft.usecases.images import walking
from undercroft.usecases.images.walking import Found, walk


def names(found: Found, folder: Path) -> list[str]:
    return [os.path.relpath(file.path, folder) for file in found.files]


def reasons(found: Found, folder: Path) -> dict[str, tuple[str, bool]]:
    return {os.path.relpath(one.path, folder): (one.why, one.unread) for one in found.left_out}


def test_files_of_all_folders_below_come_by_path(tmp_path: Path) -> None:
    for name in ("b.qcow2", "a/deep/c.img", "a/d.raw"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(walk([str(tmp_path)]), tmp_path) == ["a/d.raw", "a/deep/c.img", "b.qcow2"]


def test_a_link_to_outside_is_told_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.img").write_bytes(b"x")
    pool = tmp_path / "pool"
    pool.mkdir()
    (pool / "link.img").symlink_to(outside / "secret.img")
    (pool / "folder").symlink_to(outside)
    (pool / "gone.img").symlink_to(tmp_path / "nowhere")
    found = walk([str(pool)])
    assert found.files == []
    told = reasons(found, pool)
    assert told["link.img"] == (
        f"a link to {outside}/secret.img, outside what was named; name that too",
        True,
    )
    assert told["folder"][1]
    assert told["gone.img"] == ("a link that leads nowhere", False)


def test_a_link_to_what_was_named_too_is_another_name_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x")
    (tmp_path / "z.img").symlink_to("a.img")
    os.link(tmp_path / "a.img", tmp_path / "b.img")
    found = walk([str(tmp_path)])
    assert names(found, tmp_path) == ["a.img"]
    assert found.aliases == {
        f"{tmp_path}/b.img": f"{tmp_path}/a.img",
        f"{tmp_path}/z.img": f"{tmp_path}/a.img",
    }
    assert found.left_out == []


def test_a_link_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to(tmp_path)
    assert walk([str(tmp_path)]).files == []


def test_sockets_and_pipes_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "monitor.sock"))
    assert reasons(walk([str(tmp_path)]), tmp_path) == {
        "monitor.sock": ("a socket", False),
        "pipe": ("a pipe", False),
    }


def test_what_was_named_twice_comes_once(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x")
    found = walk([f"{tmp_path}/a.img", str(tmp_path), str(tmp_path)])
    assert [(file.path, file.named) for file in found.files] == [(f"{tmp_path}/a.img", True)]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        walk([f"{tmp_path}/none"])


@pytest.mark.parametrize(
    "make", [lambda path: path.write_bytes(b"x"), os.mkfifo, os.mkdir, lambda path: path.symlink_to("gone")]
)
def test_more_entries_than_the_limit_are_refused_whatever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    """Each is told, so each takes memory; what would not be told might be an image."""
    monkeypatch.setattr(walking, "MAX_ENTRIES", 2)
    for name in "abc":
        make(tmp_path / name)
    with pytest.raises(InputError, match="more than 2 files, links and folders; name fewer folders"):
        walk([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert reasons(walk([str(tmp_path)]), tmp_path)["closed"][1]
    with pytest.raises(DeniedError, match="no permission to list it"):
        walk([f"{tmp_path}/closed"])
