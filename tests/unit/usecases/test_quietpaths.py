"""A header's name is followed as the kernel would follow it, but for what lies below an automounter."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from undercroft.usecases import quietpaths
from undercroft.usecases.chain import UnreadError, pick
from undercroft.usecases.images.chains import NamedFiles
from undercroft.usecases.quietpaths import QuietPaths
from undercroft.usecases.target import NamedFile

ROOT = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"


def mounts(folder: Path, *lines: tuple[str, str]) -> str:
    """Write a list of mounts: (mount point, type)."""
    path = folder / "mountinfo"
    text = "".join(f"30 21 0:40 / {point} rw shared:2 - {kind} x rw\n" for point, kind in lines)
    path.write_text(ROOT + text)
    return str(path)


def test_links_folders_and_loops_lead_where_the_kernel_goes(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/up").symlink_to("../a/b/..")
    (tmp_path / "absolute").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to("loop")
    names = ("a/up/b/x", "absolute/b/../up/y", "./a//b", "gone/../a", "a/up/up/up", "../../../../../../..")
    for name in names:
        path = f"{tmp_path}/{name}"
        assert QuietPaths().resolved(path) == os.path.realpath(path)
    assert QuietPaths().resolved(f"{tmp_path}/loop/x")
    assert QuietPaths().resolved("x") == os.path.realpath("x")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def told(call: Callable[..., object]) -> Callable[..., object]:
        def look(path: object, *more: object, **named: object) -> object:
            seen.append(str(path))
            return call(path, *more, **named)

        return look

    for name in ("stat", "lstat", "readlink", "scandir", "listdir"):
        monkeypatch.setattr(os, name, told(getattr(os, name)))
    return seen


@pytest.mark.parametrize(
    "name", ["{net}/evil/share/base.qcow2", "link/evil/share/base.qcow2", "{net}/../net/evil/base.qcow2"]
)
def test_no_name_wakes_an_automounter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: list[str], name: str
) -> None:
    """An image names a file on a server of its maker's; the host must not mount it."""
    net = tmp_path / "net"
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/link").symlink_to(net)
    monkeypatch.setattr(quietpaths, "MOUNTS", mounts(tmp_path, (str(net), "autofs")))
    name, top = name.format(net=net), f"{tmp_path}/pool/top.qcow2"
    base = NamedFile(f"{tmp_path}/pool/base.qcow2")
    assert pick(name, top, [base], "--backing") == base, "a copied chain, by the last component"
    with pytest.raises(UnreadError):
        NamedFiles([base.path]).find(name, top)
    assert not [path for path in looked_at if "evil" in path]
    # The control: without the list of mounts the name is looked at on its way.
    monkeypatch.setattr(quietpaths, "MOUNTS", mounts(tmp_path))
    pick(name, top, [base], "--backing")
    assert [path for path in looked_at if "evil" in path]


def test_what_is_mounted_already_is_followed(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    escaped = str(home).replace(" ", "\\040")
    known = QuietPaths(
        mounts(tmp_path, (escaped, "autofs"), (f"{escaped}/eve", "nfs4"), (f"{tmp_path}/direct", "autofs"))
    )
    assert known.resolved(f"{home}/eve/vm/base.qcow2") == f"{home}/eve/vm/base.qcow2"
    assert known.resolved(f"{home}/bob/vm/base.qcow2") is None
    assert known.resolved(f"{tmp_path}/direct/x") is None
    mounted = QuietPaths(mounts(tmp_path, (f"{tmp_path}/direct", "autofs"), (f"{tmp_path}/direct", "ext4")))
    assert mounted.resolved(f"{tmp_path}/direct/x") == f"{tmp_path}/direct/x"


def test_without_a_list_of_mounts_nothing_is_looked_at(tmp_path: Path) -> None:
    assert QuietPaths(f"{tmp_path}/none").resolved("/etc") is None
