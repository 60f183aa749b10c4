import io
import struct
import zipfile

import pytest
from feedfixtures import zipped

from undercroft.advisories.feeds import archives
from undercroft.advisories.feeds.archives import json_documents
from undercroft.errors import InputError, UnsupportedError

ARCHIVE = zipped({"a.json": b"{}", "folder/b.json": b"[]", "readme.txt": b"no"})


def contents(data: bytes) -> list[bytes]:
    return [content for _, content in json_documents(io.BytesIO(data), "feed.zip")]


def refusal(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        contents(data)
    return str(caught.value)


def test_the_json_members_come_in_the_archives_order():
    assert contents(ARCHIVE) == [b"{}", b"[]"]


def test_a_members_name_is_a_value_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = zipped({"../../outside.json": b"{}", "/absolute.json": b"{}", "a\x1b[2J\n.json": b"{}"})
    places = [place for place, _ in json_documents(io.BytesIO(hostile), "feed.zip")]
    assert places[2] == r"feed.zip: member 'a\x1b[2J\n.json'"
    assert len(places) == 3
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent.parent / "outside.json").exists()


def test_every_truncation_is_refused_or_answers_with_the_same_content():
    for length in range(len(ARCHIVE)):
        assert refusal(ARCHIVE[:length])


def test_flipped_bits_are_refused_or_change_nothing_but_names():
    refused = 0
    for position in range(len(ARCHIVE)):
        flipped = bytearray(ARCHIVE)
        flipped[position] ^= 0x10
        try:
            found = contents(bytes(flipped))
        except InputError:
            refused += 1
        else:
            assert set(found) <= {b"{}", b"[]", b"no"}
    assert refused > len(ARCHIVE) / 4


def test_a_member_that_unfolds_beyond_the_limit_is_refused_whatever_its_header_says(monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 20)
    bomb = bytearray(zipped({"a.json": b" " * (8 << 20)}))
    assert len(bomb) < 1 << 14
    assert "larger than the limit of 1048576 bytes" in refusal(bytes(bomb))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", bomb, bomb.find(signature) + offset, 10)
    assert refusal(bytes(bomb))


def test_without_the_limit_the_bomb_would_have_unfolded():
    assert [len(content) for content in contents(zipped({"a.json": b" " * (8 << 20)}))] == [8 << 20]


def test_the_sum_of_all_members_is_bounded(monkeypatch):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1000)
    assert "more than 1000 bytes" in refusal(zipped({f"{n}.json": b" " * 300 for n in range(4)}))


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "MAX_DIRECTORY_BYTES"])
def test_the_directory_is_bounded_before_it_is_read(monkeypatch, limit):
    monkeypatch.setattr(archives, limit, 2)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "a zip directory of 3 members" in refusal(ARCHIVE)


def test_zip64_directories_are_bounded_too():
    end = ARCHIVE.rfind(b"PK\x05\x06")
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 50, 0)
    locator = struct.pack("<IIQI", 0x07064B50, 0, end, 1)
    forged = ARCHIVE[:end] + record + locator + ARCHIVE[end:]
    assert f"a zip directory of {1 << 40} members" in refusal(forged)


def test_encrypted_members_and_other_compressions_are_unsupported():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.json", b"{}")
    with pytest.raises(UnsupportedError, match="compressed with something else"):
        contents(file.getvalue())
    encrypted = bytearray(zipped({"a.json": b"{}"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.find(signature) + offset] |= 1
    with pytest.raises(UnsupportedError, match="encrypted"):
        contents(bytes(encrypted))
