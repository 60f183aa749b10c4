"""An identity proves only what the kernel's clock and nobody's `touch` say."""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from diskimages import run

from undercroft.model.disk import DiskFormat, ImageInfo, Snapshot
from undercroft.model.fleet import FileIdentity
from undercroft.usecases import identity
from undercroft.usecases.identity import RACY_NS, Inspections, identify, same_file
from undercroft.usecases.opening import OpenFile, open_file
from undercroft.usecases.target import NamedFile

LATER_NS = 10 * RACY_NS
NFS = 0x6969


@contextmanager
def opened_file(path: Path) -> Iterator[OpenFile]:
    file = open_file(NamedFile(str(path)))
    try:
        yield file
    finally:
        os.close(file.descriptor)


def identity_of(path: Path, begun_at_ns: int | None = None, *, live: bool = False) -> FileIdentity:
    with opened_file(path) as file:
        return identify(file, begun_at_ns or time.time_ns() + LATER_NS, live=live)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(4096))
    return path


def test_a_file_that_nobody_wrote_is_the_same(image: Path) -> None:
    assert same_file(identity_of(image), identity_of(image))


def test_a_write_whose_time_was_set_back_is_seen(image: Path, tmp_path: Path) -> None:
    before = identity_of(image)
    reference = tmp_path / "reference"
    run("touch", "-r", image, reference)
    time.sleep(0.02)  # beyond the tick of the clock that stamps files; longer changes nothing
    with image.open("r+b") as file:
        file.write(b"\1")
    run("touch", "-r", reference, image)
    after = identity_of(image)
    # Control: what a look at size and modification time would compare is equal.
    assert (after.size_bytes, after.modified_ns) == (before.size_bytes, before.modified_ns)
    assert not same_file(before, after)


def test_a_file_written_within_the_second_before_the_read_proves_nothing(image: Path) -> None:
    changed_ns = image.stat().st_ctime_ns
    assert not identity_of(image, changed_ns + RACY_NS - 1).proves
    assert identity_of(image, changed_ns + RACY_NS).proves
    racy = identity_of(image, changed_ns)
    # Control: all that can be compared is equal, and only the rule keeps it from counting.
    assert racy.changed_ns == identity_of(image).changed_ns
    assert not same_file(racy, identity_of(image))


def test_a_running_machines_file_and_one_of_an_unknown_filesystem_prove_nothing(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert identity_of(image).proves
    assert not identity_of(image, live=True).proves
    monkeypatch.setattr(identity, "LOCAL_FILESYSTEMS", frozenset({NFS}))
    assert not identity_of(image).proves


@pytest.mark.parametrize("folder", ["/dev/shm", "/proc", "/sys", "/"])
def test_the_type_of_a_filesystem_is_what_stat_says(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        found = identity._filesystem(descriptor)
    finally:
        os.close(descriptor)
    assert f"{found:x}" == run("stat", "-f", "-c", "%t", folder).strip()


def test_a_file_that_qemu_has_open_for_writing_proves_nothing(image: Path) -> None:
    assert identity_of(image).proves
    with image.open("r+b") as writer:
        write_permission = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 101, 1, 0)
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, write_permission)
        assert not identity_of(image).proves


def test_another_file_in_the_same_place_is_not_the_same(image: Path) -> None:
    before = identity_of(image)
    copy = image.with_suffix(".copy")
    run("cp", "--preserve=all", image, copy)
    copy.rename(image)
    assert not same_file(before, identity_of(image))


def test_what_images_said_is_kept_only_where_the_file_is_proven(image: Path) -> None:
    known = Inspections()
    info = ImageInfo(DiskFormat.RAW, 4096)
    proven, racy = identity_of(image), identity_of(image, 1)
    known.keep(racy, None, info)
    assert known.find(proven, None) is None
    known.keep(proven, None, info)
    assert known.find(proven, None) == info
    assert known.find(proven, DiskFormat.QCOW2) is None


def test_an_image_that_says_too_much_of_itself_is_not_held(image: Path) -> None:
    """Eight thousand of them, of a megabyte each, would be all of the host's memory."""
    proven = identity_of(image)
    known = Inspections()
    small = ImageInfo(DiskFormat.QCOW2, 4096)
    for info in (
        replace(small, extents=tuple(f"{number:0200}" for number in range(400))),
        replace(small, snapshots=(Snapshot("1", "x" * 40_000, 0, 0, 0),)),
        replace(small, backing_name="x" * 40_000),
    ):
        known.keep(proven, None, info)
        assert known.find(proven, None) is None
    known.keep(proven, None, small)
    assert known.find(proven, None) == small


def test_inspections_are_bounded(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_INSPECTIONS", 2)
    known = Inspections()
    proven = identity_of(image)
    for image_format in (None, DiskFormat.RAW, DiskFormat.QCOW2):
        known.keep(proven, image_format, ImageInfo(DiskFormat.RAW, 4096))
    assert known.find(proven, None) is None
    assert known.find(proven, DiskFormat.QCOW2) is not None
