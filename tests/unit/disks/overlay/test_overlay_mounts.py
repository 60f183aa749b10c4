"""An overlay of the guest's fstab is applied where it can be, and a problem where it cannot."""

import pytest
from memorymachines import MemoryFileSystem, machine_of, uuid_of

from undercroft.disks.machine import Machine
from undercroft.disks.overlay import Layer, Overlay
from undercroft.errors import InputError, UnsupportedError

ROOT, DATA = uuid_of(1), uuid_of(2)


class Attributed(MemoryFileSystem):
    """A filesystem whose files named "gone" are whiteouts, and whose folders named "opaque" are opaque."""

    def xattr(self, node: int, name: bytes) -> bytes | None:
        is_opaque = any(
            folder.children and folder.children.get(b"opaque") == node for folder in self._nodes.values()
        )
        return b"y" if is_opaque and name == b"trusted.overlay.opaque" else None

    def device(self, node: int) -> int:
        raise InputError(f"inode {node}: no device")


def machine(options: str, kind: type[MemoryFileSystem] = Attributed, **files: bytes) -> Machine:
    fstab = f"UUID={ROOT} / ext4\nUUID={DATA} /srv ext4\noverlay /opt overlay {options} 0 0\n"
    base = {"etc/os-release": b"ID=debian\n", "etc/fstab": fstab.encode(), "opt/": b"", "srv/": b""}
    low = {"low/a/version": b"1", "low/a/old": b"", "low/opaque/hidden": b"", "low/plain/shown": b""}
    root = kind({**base, **low, **files}, uuid=ROOT)
    data = kind({"up/a/version": b"2", "up/opaque/own": b""}, uuid=DATA)
    return machine_of(vda=root, vdb=data)


def test_the_upper_folder_stands_over_the_lower_ones() -> None:
    found = machine("lowerdir=/low,upperdir=/srv/up,workdir=/srv/work")
    assert found.coverage.complete, found.coverage
    tree = found.tree
    assert tree is not None
    assert tree.read(b"/opt/a/version", 10) == b"2"
    assert tree.exists(b"/opt/a/old")
    assert tree.exists(b"/opt/plain/shown")
    assert {entry.name for entry in tree.entries(b"/opt/opaque")} == {b"own"}
    assert not tree.exists(b"/opt/opaque/hidden")
    assert len(list(tree.walk(b"/opt"))) == 7


def test_an_upper_layer_whose_attributes_nobody_reads_is_a_problem_and_shows_nothing() -> None:
    found = machine("lowerdir=/low,upperdir=/srv/up,workdir=/srv/work", MemoryFileSystem)
    assert len(found.coverage.problems) == 1
    assert "/opt is an overlay that could not be made: overlay: attributes of" in found.coverage.problems[0]
    assert found.unread == (b"/opt",)
    assert found.tree is not None
    assert list(found.tree.entries(b"/opt")) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("lowerdir=/none,upperdir=/srv/up", "none is missing"),
        ("upperdir=/srv/up", "0 lower layers"),
        ("lowerdir=/etc/fstab", "not a directory"),
    ],
)
def test_an_overlay_of_what_is_not_there_is_a_problem(options: str, reason: str) -> None:
    [problem] = machine(options).coverage.problems
    assert reason in problem


def test_an_overlay_of_a_volume_that_was_not_read_is_a_problem() -> None:
    fstab = f"UUID={ROOT} / ext4\nUUID={DATA} /srv ext4\noverlay /opt overlay lowerdir=/srv/low:/low 0 0\n"
    files = {"etc/os-release": b"ID=debian\n", "etc/fstab": fstab.encode(), "srv/low/": b"", "low/a": b""}
    coverage = machine_of(vda=Attributed(files, uuid=ROOT)).coverage
    assert any(
        "/opt shows /srv/low, which lies on /srv, which was not read" in each for each in coverage.problems
    )


def test_a_layer_of_layers_is_bounded() -> None:
    layer = MemoryFileSystem({"a": b""})
    with pytest.raises(InputError, match="0 layers"):
        Overlay([])
    with pytest.raises(InputError, match="65 layers"):
        Overlay([Layer(Attributed({}), 2)] * 65)
    with pytest.raises(UnsupportedError, match="what its layer hides is unknown"):
        Overlay([Layer(layer, 2), Layer(layer, 2)])
    with pytest.raises(InputError, match="there is no file"):
        Overlay([Layer(layer, 2)]).stat(8)


def test_overlays_in_overlays_end_where_they_do_in_linux() -> None:
    lower = [Layer(Attributed({"a": b""}), 2)]
    first = Overlay(lower)
    second = Overlay([Layer(first, first.root), *lower])
    assert second.lookup(second.root, b"a") is not None
    with pytest.raises(InputError, match="more than 2 deep"):
        Overlay([Layer(second, second.root), *lower])


def test_folders_in_several_layers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undercroft.disks.overlay.filesystem.MAX_PLACES", 20)
    files: dict[str | bytes, bytes] = {f"folder{number}/": b"" for number in range(20)}
    overlay = Overlay([Layer(Attributed(files), 2), Layer(Attributed(files), 2)])
    with pytest.raises(InputError, match="more than 20 folders"):
        list(overlay.entries(overlay.root))
