"""Block sources: exactly what was asked for, or InputError."""

import os
from pathlib import Path

import pytest
from diskimages import opened
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.source import MAX_READ_BYTES, BytesSource, DescriptorSource, SliceSource
from undercroft.errors import InputError

CONTENT = bytes(range(256)) * 64


@given(offset=st.integers(-2, len(CONTENT) + 2), length=st.integers(-2, len(CONTENT) + 2))
def test_a_read_returns_all_bytes_of_its_range_or_raises(offset: int, length: int) -> None:
    source = SliceSource(BytesSource(b"before" + CONTENT + b"behind"), 6, len(CONTENT))
    if min(offset, length) >= 0 and offset + length <= len(CONTENT):
        assert source.read(offset, length) == CONTENT[offset : offset + length]
    else:
        with pytest.raises(InputError):
            source.read(offset, length)


def test_a_descriptor_is_read_without_moving_its_position(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, 7, os.SEEK_SET)
        source = DescriptorSource(descriptor, len(CONTENT), "disk")
        assert source.read(100, 300) == CONTENT[100:400]
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 7
    finally:
        os.close(descriptor)


def test_a_read_over_the_limit_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 40)
    with opened(path) as source:
        assert source.read(1 << 39, 16) == bytes(16)
        with pytest.raises(InputError, match="over the limit"):
            source.read(0, MAX_READ_BYTES + 1)


def test_a_file_that_shrinks_during_the_read_is_told_and_never_padded(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    with opened(path) as source:
        os.truncate(path, 1000)
        assert source.read(0, 1000) == CONTENT[:1000]
        with pytest.raises(InputError, match="disk: shrank during the read to 1000 bytes"):
            source.read(900, 200)


def test_an_error_of_the_disk_below_is_an_input_error_that_names_the_place(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)  # pread of a directory fails as a bad sector would
    try:
        with pytest.raises(InputError, match=r"vda: reading 512 bytes at 1024 failed: Is a directory"):
            DescriptorSource(descriptor, 4096, "vda").read(1024, 512)
    finally:
        os.close(descriptor)


def test_a_slice_that_passes_its_source_is_refused() -> None:
    with pytest.raises(InputError, match="partition 3"):
        SliceSource(BytesSource(CONTENT), len(CONTENT) - 1, 2, "partition 3")
