"""md arrays whose superblocks or members somebody changed: read right, or refused with a reason."""

import struct

import pytest
from volumechanges import md_places, seal_md, with_md
from volumeimages import VolumeImages, digest, kept

from undercroft.disks.detect import detect, raid_at_end
from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BytesSource
from undercroft.disks.volumes import DiskSet, OpenVolume

MIB = 1 << 20
EVENTS, FEATURES, LEVEL, LAYOUT, CHUNK, MEMBERS = 200, 8, 72, 76, 88, 92


@pytest.fixture(scope="module")
def images() -> VolumeImages:
    return kept("md")


def member(images: VolumeImages, number: int) -> bytes:
    """Return the bytes of one of the set's partitions, numbered from 1."""
    volumes = images.open().volumes
    part = next(volume.partition for volume in volumes if volume.disk == "sda" and volume.number == number)
    assert part
    return images.disks["sda"][part.start_bytes : part.start_bytes + part.size_bytes]


@pytest.fixture(scope="module")
def members(images: VolumeImages) -> dict[int, bytes]:
    disk = images.disks["sda"]
    parts = [volume.partition for volume in images.open().volumes if volume.disk == "sda"]
    return {
        part.number: disk[part.start_bytes : part.start_bytes + part.size_bytes] for part in parts if part
    }


def open_members(*members: bytes) -> DiskSet:
    disks = [(f"vd{'abcdefgh'[number]}", BytesSource(data)) for number, data in enumerate(members)]
    return open_volumes(disks)


def array(found: DiskSet) -> OpenVolume:
    return next(volume for volume in found.volumes if volume.device)


def content(found: DiskSet) -> str:
    device = array(found).device
    assert device
    assert device.source
    return digest(device.source)


def place(data: bytes) -> int:
    return md_places(data)[0]


MIRROR_090, MIRROR_10, RAID5, RAID5_090 = (1, 2), (3, 4), (5, 6, 7), (47, 48, 49)


class TestMissing:
    @pytest.mark.parametrize("numbers", [RAID5, (8, 9, 10), (11, 12, 13), (14, 15, 16, 17), RAID5_090])
    def test_raid_5_is_read_from_any_members_but_one(
        self, members: dict[int, bytes], images: VolumeImages, numbers: tuple[int, ...]
    ) -> None:
        whole = open_members(*(members[number] for number in numbers))
        assert content(whole) in images.digests.values()
        assert whole.problems == ()
        for missing in numbers:
            found = open_members(*(members[number] for number in numbers if number != missing))
            assert content(found) == content(whole)
            assert "may be newer; give its disk too" in found.problems[0]
            assert "degraded" in array(found).note

    @pytest.mark.parametrize(
        "numbers", [(43, 44, 45, 46), (28, 29, 30, 31), (35, 36), (37, 38, 39), (40, 41, 42)]
    )
    def test_raid_4_6_and_10_are_read_without_a_member(
        self, members: dict[int, bytes], numbers: tuple[int, ...]
    ) -> None:
        whole = content(open_members(*(members[number] for number in numbers)))
        for missing in numbers:
            assert content(open_members(*(members[each] for each in numbers if each != missing))) == whole

    def test_without_too_many_members_an_array_is_unread_and_says_so(self, members: dict[int, bytes]) -> None:
        for numbers in (RAID5[:1], (18,), (20, 21), (26,), (28, 31), (43, 44)):
            found = open_members(*(members[number] for number in numbers))
            device = array(found).device
            assert device
            if numbers == (28, 31):
                assert device.source  # one of each pair is there
            else:
                assert device.source is None
                assert device.reason in found.problems[0]

    def test_a_mirror_alone_is_read_and_may_be_old(self, members: dict[int, bytes]) -> None:
        for number in (*MIRROR_090, *MIRROR_10):
            assert "may be newer" in open_members(members[number]).problems[0]

    def test_a_dirty_raid_5_without_a_member_is_refused_as_linux_refuses_it(
        self, members: dict[int, bytes]
    ) -> None:
        dirty = [with_md(members[number], place(members[number]), resync=(208, "Q", 0)) for number in RAID5]
        assert content(open_members(*dirty))
        assert "was not in sync" in array(open_members(*dirty[:2])).reason


class TestStale:
    def test_a_member_that_fell_behind_is_refused(self, members: dict[int, bytes]) -> None:
        for numbers in ((50, 51), (52, 53, 54)):
            found = open_members(*(members[number] for number in numbers))
            assert "this member is stale" in found.volumes[len(numbers) - 1].reason

    def test_a_stale_member_alone_is_a_problem(self, members: dict[int, bytes]) -> None:
        found = open_members(members[51])
        assert "number 0) were not given or not usable, and may be newer" in found.problems[0]

    def test_a_member_that_is_being_filled_or_a_spare_is_refused(self, members: dict[int, bytes]) -> None:
        first, second = members[3], members[4]
        filling = with_md(second, place(second), on=(FEATURES, "I", 2), upto=(152, "Q", 100))
        assert "still being filled" in open_members(first, filling).volumes[1].reason
        at = place(second)
        number = struct.unpack_from("<I", second, at + 160)[0]
        for role in (0xFFFF, 0xFFFE):
            pair = [
                with_md(data, place(data), role=(256 + 2 * number, "H", role)) for data in (first, second)
            ]
            assert "is a spare, was failed or removed" in open_members(*pair).volumes[1].reason

    def test_one_event_behind_is_not_stale(self, members: dict[int, bytes]) -> None:
        first, second = members[3], members[4]
        events = struct.unpack_from("<Q", first, place(first) + EVENTS)[0]
        later = with_md(first, place(first), events=(EVENTS, "Q", events + 1))
        assert open_members(later, second).problems == ()
        later = with_md(first, place(first), events=(EVENTS, "Q", events + 2))
        assert "stale" in open_members(later, second).volumes[1].reason

    def test_halves_of_a_mirror_that_went_on_apart_are_a_problem(self, members: dict[int, bytes]) -> None:
        pair = [members[number] for number in MIRROR_10]
        numbers = [struct.unpack_from("<I", data, place(data) + 160)[0] for data in pair]
        apart = [
            with_md(data, place(data), other=(256 + 2 * other, "H", 0xFFFE))
            for data, other in zip(pair, reversed(numbers), strict=True)
        ]
        for halves in (apart, apart[::-1]):
            found = open_members(*halves)
            assert "went on apart" in found.problems[0]
            assert "vda was read" in found.problems[0]
        newer = with_md(apart[1], place(apart[1]), events=(EVENTS, "Q", 1 << 20))
        assert open_members(apart[0], newer).problems == ()
        assert "stale" in open_members(apart[0], newer).volumes[0].reason


class TestRefused:
    def test_a_member_that_is_given_twice_is_refused(self, members: dict[int, bytes]) -> None:
        found = open_members(members[5], members[5], members[6])
        assert all("given twice" in volume.reason for volume in found.volumes)

    @pytest.mark.parametrize("number", [5, 8])
    def test_each_byte_of_a_superblock_is_under_its_checksum(
        self, members: dict[int, bytes], number: int
    ) -> None:
        for offset in (16, 72, 128, 200, 256):
            changed = bytearray(members[number])
            changed[place(members[number]) + offset] ^= 1
            reason = open_members(bytes(changed)).volumes[0].reason
            assert "its checksum is" in reason

    @pytest.mark.parametrize(
        ("field", "reason"),
        [
            ((FEATURES, "I", 4), "a reshape of the array is in progress"),
            ((FEATURES, "I", 64), "a reshape of the array is in progress"),
            ((FEATURES, "I", 512), "a journal device"),
            ((FEATURES, "I", 1 << 20), "features 0x100000"),
            ((LEVEL, "i", -4), "RAID level -4 is not supported"),
            ((LEVEL, "i", 77), "RAID level 77 is not supported"),
            ((LAYOUT, "I", 6), "layout 6"),
            ((LAYOUT, "I", 0xFFFFFFFF), "layout"),
            ((CHUNK, "I", 0), "chunks of 0 bytes"),
            ((MEMBERS, "I", 0), "is not in its table"),
            ((MEMBERS, "I", 1 << 30), "is not in its table"),
            ((128, "Q", 1 << 60), "beyond the volume's end"),
            ((136, "Q", 1 << 60), "beyond the volume's end"),
            ((80, "Q", 1 << 40), "its members hold"),
            ((160, "I", 1000), "is not in its table"),
        ],
    )
    def test_what_is_not_supported_or_malformed_is_named(
        self, members: dict[int, bytes], field: tuple[int, str, int], reason: str
    ) -> None:
        changed = [with_md(members[number], place(members[number]), field=field) for number in RAID5]
        found = open_members(*changed)
        assert any(reason in volume.reason for volume in found.volumes)
        assert not any(volume.device and volume.device.source for volume in found.volumes)

    def test_another_array_under_the_same_uuid_is_refused(self, members: dict[int, bytes]) -> None:
        other = with_md(members[6], place(members[6]), layout=(LAYOUT, "I", 0), events=(EVENTS, "Q", 1))
        found = open_members(members[5], other, members[7])
        assert "describes another array" in found.volumes[1].reason

    def test_raid_0_of_different_lengths_needs_its_layout(self, members: dict[int, bytes]) -> None:
        changed = []
        for number in (20, 21, 22):
            features = struct.unpack_from("<I", members[number], place(members[number]) + FEATURES)[0]
            field = (FEATURES, "I", features & ~4096)
            changed.append(with_md(members[number], place(members[number]), field=field))
        assert "without a recorded layout" in array(open_members(*changed)).reason


class TestPlaces:
    def test_a_mirrors_member_is_no_filesystem_although_it_begins_as_one(
        self, members: dict[int, bytes]
    ) -> None:
        for number in (1, 3):
            data = bytearray(members[number])
            data[1080:1082] = b"\x53\xef"
            content = detect(BytesSource(bytes(data)))
            assert (content.kind, content.also) == ("md-raid", ("ext",))

    def test_a_whole_disk_is_a_member_although_the_mirrored_disk_has_partitions(
        self, members: dict[int, bytes]
    ) -> None:
        data = bytearray(members[3])
        data[446:462] = struct.pack("<BBBBBBBBII", 0, 0, 0, 0, 0x83, 0, 0, 0, 64, 2000)
        data[462:512] = bytes(48) + b"\x55\xaa"
        found = open_members(bytes(data))
        assert [volume.name for volume in found.volumes] == ["vda", "md/r1v10p1"]
        assert found.volumes[1].paths[1] == "/dev/md/r1v10p1"

    def test_a_damaged_superblock_at_the_end_makes_no_member_of_a_filesystem(
        self, members: dict[int, bytes]
    ) -> None:
        data = bytearray(members[3])
        data[1080:1082] = b"\x53\xef"
        at = md_places(members[3])[-1]
        data[at + 30] ^= 1
        assert raid_at_end(BytesSource(bytes(data))) is None
        assert detect(BytesSource(bytes(data))).kind == "ext"
        seal_md(data, at)
        assert raid_at_end(BytesSource(bytes(data))) is not None

    @pytest.mark.parametrize(
        "name", [b"/dev/md/r1v10", b"/dev/md/lab:r1v10", b"/dev/disk/by-id/md-name-lab:r1v10"]
    )
    def test_an_array_goes_by_its_names(self, images: VolumeImages, name: bytes) -> None:
        assert [each.name for each in find_volumes(parse_device(name), images.open().volumes)] == ["md/r1v10"]

    def test_a_numbered_array_goes_by_its_number(
        self, images: VolumeImages, members: dict[int, bytes]
    ) -> None:
        volumes = images.open().volumes
        assert [each.name for each in find_volumes(parse_device(b"/dev/md11"), volumes)] == ["md11"]
        numbered = members[4]
        data = bytearray(numbered)
        at = place(numbered)
        data[at + 32 : at + 64] = b"host:7".ljust(32, b"\0")
        seal_md(data, at)
        assert [
            each.name for each in find_volumes(parse_device(b"/dev/md7"), open_members(bytes(data)).volumes)
        ]
