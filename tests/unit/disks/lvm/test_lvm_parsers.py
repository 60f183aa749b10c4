"""LVM's label, areas and text: any bytes give values within limits or an InputError that says lvm."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volumechanges import areas_of, edited, lvm_checksum, text_of, with_text
from volumeimages import kept

from undercroft.disks.lvm import label, metadata, text
from undercroft.disks.lvm.label import read_label, read_text
from undercroft.disks.lvm.metadata import parse_group
from undercroft.disks.lvm.text import parse
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError


@pytest.fixture(scope="module")
def disk() -> bytes:
    return kept("lvm").disks["sdb"]


class TestText:
    def test_sections_numbers_strings_and_arrays_are_read(self) -> None:
        found = parse(
            b'vg { # a comment\n id = "x\\"y" n = -3 f = 1.5\n list = ["pv0", 0,\n] empty = [] }\nv = 1'
        )
        assert found == {
            "vg": {"id": 'x"y', "n": -3, "f": 1, "list": ["pv0", 0], "empty": []},
            "v": 1,
        }

    @pytest.mark.parametrize(
        "untrusted",
        [
            b"vg {",
            b"}",
            b"vg",
            b"a = ",
            b"a = [1 2]",
            b"a = [1",
            b"a = [[1]]",
            b"a = 1 a = 2",
            b'a = "open',
            b"= 1",
            b"a = {",
            b"\x01",
            b"a = 12345678901234567890",
        ],
    )
    def test_what_is_malformed_is_refused(self, untrusted: bytes) -> None:
        with pytest.raises(InputError, match=r"^lvm metadata: "):
            parse(untrusted)

    def test_depth_and_words_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert parse(b"a{" * (text.MAX_DEPTH - 1) + b"}" * (text.MAX_DEPTH - 1))
        with pytest.raises(InputError, match="deeper"):
            parse(b"a{" * 100_000)
        monkeypatch.setattr(text, "MAX_TOKENS", 100)
        with pytest.raises(InputError, match="more than 100 words"):
            parse(b"a = [" + b"1," * 100 + b"]")

    @given(st.binary(max_size=300) | st.text('ab{}[]=,"\\ \n#1-', max_size=300).map(str.encode))
    def test_any_bytes_give_a_section_or_an_input_error(self, untrusted: bytes) -> None:
        with contextlib.suppress(InputError):
            assert isinstance(parse(untrusted), dict)


class TestLabel:
    def test_a_label_is_found_in_each_of_the_first_sectors_that_it_names_itself(self, disk: bytes) -> None:
        sector = bytearray(disk[512:1024])
        for number in range(label.LABEL_SECTORS):
            struct.pack_into("<Q", sector, 8, number)
            struct.pack_into("<I", sector, 16, lvm_checksum(bytes(sector[20:])))
            source = BytesSource(bytes(512 * number) + bytes(sector) + bytes(4096))
            assert len(read_label(source).uuid) == 32
        with pytest.raises(InputError, match="lvm label: there is none"):
            read_label(BytesSource(bytes(512 * label.LABEL_SECTORS) + bytes(sector)))

    def test_each_byte_of_it_is_under_its_checksum(self, disk: bytes) -> None:
        for place in (8, 16, 20, 40, 100, 511):
            changed = bytearray(disk[:4096])
            changed[512 + place] ^= 1
            with pytest.raises(InputError, match="lvm label: its checksum"):
                read_label(BytesSource(bytes(changed)))

    def test_lists_of_areas_that_do_not_end_are_refused(self, disk: bytes) -> None:
        changed = bytearray(disk[:4096])
        changed[512 + 72 : 1024] = b"\x01" * (512 - 72)
        struct.pack_into("<I", changed, 512 + 16, lvm_checksum(bytes(changed[512 + 20 : 1024])))
        with pytest.raises(InputError, match="do not end"):
            read_label(BytesSource(bytes(changed)))


class TestAreas:
    def test_a_text_that_wraps_around_the_ring_is_read(self, disk: bytes) -> None:
        (area,) = areas_of(disk)
        size = struct.unpack_from("<Q", disk, area + 32)[0]
        wrapped = with_text(disk, text_of(disk), size - 1000)
        assert read_text(BytesSource(wrapped), (area, size)).decode() == text_of(disk)

    def test_each_checksum_is_checked(self, disk: bytes) -> None:
        (area,) = areas_of(disk)
        offset = struct.unpack_from("<Q", disk, area + 40)[0]
        for place, what in ((30, "its checksum"), (offset + 10, "its text's checksum")):
            changed = bytearray(disk)
            changed[area + place] ^= 1
            with pytest.raises(InputError, match=what):
                read_text(BytesSource(bytes(changed)), (area, 1 << 20))

    def test_an_area_beyond_the_volume_is_refused(self, disk: bytes) -> None:
        for area in ((len(disk), 4096), (1 << 62, 4096)):
            with pytest.raises(InputError, match="beyond the volume's end"):
                read_text(BytesSource(disk), area)

    def test_a_text_that_does_not_fit_is_refused(self, disk: bytes) -> None:
        (area,) = areas_of(disk)
        for place, length in ((512, 1 << 40), (1 << 40, 100), (0x10, 100)):
            changed = bytearray(disk)
            struct.pack_into("<QQ", changed, area + 40, place, length)
            checksum = lvm_checksum(bytes(changed[area + 4 : area + 512]))
            struct.pack_into("<I", changed, area, checksum)
            with pytest.raises(InputError, match="does not fit"):
                read_text(BytesSource(bytes(changed)), (area, 1 << 20))


class TestGroup:
    def test_a_group_is_read_with_its_volumes(self, disk: bytes) -> None:
        group = parse_group(text_of(disk).encode())
        assert (group.name, group.extent_bytes, len(group.physical)) == ("vgone", 64 << 10, 4)
        assert group.logical["multi"].extents == 16
        assert [segment.count for segment in group.logical["multi"].segments] == [8, 8]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("extent_size = 128", "extent_size = 0", "extents of 0 bytes"),
            ("extent_size = 128", "extent_size = 4294967296", "extent_size is no number"),
            ('contents = "Text', 'contents = "Other', "no description"),
            ("version = 1", "version = 2", "no description"),
            ("vgone {", "../etc {", "is no name"),
            ("lin-a {", "-lin {", "is no name"),
            ("start_extent = 0", "start_extent = 1", "does not follow"),
            ("segment_count = 2", "segment_count = 3", "segment 3 is missing"),
            ("segment_count = 2", "segment_count = 999999", "segment_count is no number"),
            ("extent_count = 8", "extent_count = 0", "does not follow"),
            ('status = ["RESIZEABLE", "READ", "WRITE"]', "status = [1]", "no list of texts"),
            ("physical_volumes {", 'physical_volumes { x = "y"', "no sections"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, disk: bytes, old: str, new: str, message: str) -> None:
        changed = edited({"sdb": disk}, lambda text: text.replace(old, new, 1))["sdb"]
        with pytest.raises(InputError, match=f"^lvm .*{message}"):
            parse_group(text_of(changed).encode())

    def test_counts_are_bounded(self, disk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = text_of(disk).encode()
        for name, limit in (("MAX_PHYSICAL", 3), ("MAX_LOGICAL", 5), ("MAX_SEGMENTS", 20)):
            with monkeypatch.context() as patch:
                patch.setattr(metadata, name, limit)
                with pytest.raises(InputError, match=r"^lvm "):
                    parse_group(raw)
