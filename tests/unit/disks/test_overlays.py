"""A root that cannot be written is not called whole where a layer over it lies on another volume."""

import pytest
from memorymachines import MemoryFileSystem, machine_of, uuid_of

ROOT = {"etc/os-release": b"ID=openwrt\n", "etc/fstab": b"", "overlay/": b""}


@pytest.mark.parametrize("pair", [("upper", "work"), ("upperdir", "workdir")])
def test_a_layer_on_another_volume_is_a_problem(pair: tuple[str, str]) -> None:
    root = MemoryFileSystem(ROOT, uuid=uuid_of(1), content="squashfs")
    layer = MemoryFileSystem({f"{name}/": b"" for name in pair}, uuid=uuid_of(2))
    problems = machine_of(vda=root, vdb=layer).coverage.problems
    assert "vdb: holds the layer that the guest writes over its root on vda" in problems[-1]


def test_without_one_the_root_is_whole_and_a_note_tells_what_memory_may_hold() -> None:
    root = MemoryFileSystem(ROOT, uuid=uuid_of(1), content="squashfs")
    coverage = machine_of(vda=root, vdb=MemoryFileSystem({"data": b""}, uuid=uuid_of(2))).coverage
    assert coverage.problems == ()
    assert any("vda: the root is squashfs" in note for note in coverage.notes)


def test_a_root_that_can_be_written_says_nothing_of_layers() -> None:
    root = MemoryFileSystem(ROOT, uuid=uuid_of(1))
    layer = MemoryFileSystem({"upper/": b"", "work/": b""}, uuid=uuid_of(2))
    coverage = machine_of(vda=root, vdb=layer).coverage
    assert not any("layer" in each or "squashfs" in each for each in (*coverage.problems, *coverage.notes))
