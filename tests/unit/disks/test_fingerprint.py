"""Equal disks have equal fingerprints, changed ones others; a copy keeps its lineage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from diskimages import MIB, make_qcow2, make_raw, opened, run, wrap_gpt, wrap_mbr
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks import qcow2
from undercroft.disks.fingerprint import fingerprint
from undercroft.disks.source import BytesSource
from undercroft.disks.volumes import UnreadDisk
from undercroft.model.execution import Fingerprint


@contextmanager
def changed(path: Path, offset: int, data: bytes) -> Iterator[None]:
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(len(data))
        file.seek(offset)
        file.write(data)
    yield
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(before)


def of(*paths: Path) -> Fingerprint:
    found = []
    for path in paths:
        with opened(path) as source:
            disk = qcow2.open_image(source) if path.suffix == ".qcow2" else source
            found.append((path.name, disk.read(0, disk.size_bytes)))
    made = fingerprint([(name, BytesSource(data)) for name, data in found])
    assert made is not None
    return made


def filesystem(path: Path) -> Path:
    run("mke2fs", "-q", "-F", "-t", "ext4", make_raw(path, 8 * MIB))
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return wrap_gpt(tmp_path / "disk.raw", [filesystem(tmp_path / "a.fs"), filesystem(tmp_path / "b.fs")])


@pytest.mark.parametrize("padding", [0, 100])
def test_a_copy_in_another_container_is_equal(disk: Path, tmp_path: Path, padding: int) -> None:
    with disk.open("ab") as file:
        file.write(bytes(padding))
    copy = make_qcow2(disk, tmp_path / "copy.qcow2")
    assert of(copy) == of(disk)


def test_what_a_mount_writes_changes_the_digest_and_not_the_lineage(tmp_path: Path) -> None:
    image = filesystem(tmp_path / "a.raw")
    before = of(image)
    run("tune2fs", "-C", "17", image)
    after = of(image)
    assert after.digest != before.digest
    assert after.lineage == before.lineage


def test_a_filesystem_made_anew_has_another_lineage(tmp_path: Path) -> None:
    image = filesystem(tmp_path / "a.raw")
    before = of(image)
    assert before.lineage
    assert of(filesystem(image)).lineage != before.lineage


def test_every_partition_counts_by_its_table_and_its_head(disk: Path) -> None:
    before = of(disk)
    second = 1 * MIB + 8 * MIB + 1024 + 52  # mount count of the second partition's superblock
    for offset in (0x1BE - 10, 512 + 56, second):
        with changed(disk, offset, b"\xa5\x5a"):
            assert of(disk).digest != before.digest, offset
    assert of(disk) == before


def test_bytes_within_a_filesystem_do_not_count(disk: Path) -> None:
    """The digest marks states, it proves none: what a superblock does not count is not seen."""
    before = of(disk)
    with changed(disk, 6 * MIB, b"data"):
        assert of(disk) == before


def test_the_order_of_disks_counts_and_their_names_do_not(tmp_path: Path) -> None:
    first = wrap_mbr(tmp_path / "first.raw", [filesystem(tmp_path / "a.fs")])
    second = filesystem(tmp_path / "second.raw")
    assert of(first, second).digest != of(second, first).digest
    assert of(first, second).lineage == of(second, first).lineage
    renamed = first.rename(tmp_path / "other.raw")
    assert of(renamed, second).digest == of(renamed, second).digest


def test_disks_without_any_identity_have_no_lineage() -> None:
    found = fingerprint([("vda", BytesSource(bytes(MIB)))])
    assert found is not None
    assert found.lineage == ""


def test_unread_disks_count_as_such_and_alone_they_give_nothing() -> None:
    disk = ("vda", BytesSource(bytes(MIB)))
    assert fingerprint([("vda", UnreadDisk("network disk"))]) is None
    assert fingerprint([]) is None
    assert fingerprint([disk, ("vdb", UnreadDisk("network disk"))]) != fingerprint([disk])


@given(st.binary(max_size=4096), st.sampled_from([0, 446, 510, 512, 1024, 1080, 4086]), st.integers(0, 300))
def test_any_bytes_have_a_fingerprint(data: bytes, offset: int, size_kib: int) -> None:
    disk = bytearray(size_kib << 10)
    disk[offset : offset + len(data)] = data
    disk[510:512] = b"\x55\xaa"
    first = fingerprint([("vda", BytesSource(bytes(disk)))])
    assert first is not None
    assert first == fingerprint([("vdb", BytesSource(bytes(disk)))])
