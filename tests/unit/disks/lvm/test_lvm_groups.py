"""Groups whose metadata somebody changed: refused with a reason, never a loop, never something else."""

import re
import struct
from collections.abc import Callable

import pytest
from volumechanges import areas_of, edited, seal_area, seal_thin, text_of, with_text
from volumeimages import VolumeImages, digest, kept

from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BytesSource
from undercroft.disks.volumes import DiskSet, OpenVolume

EXTENT = 64 << 10
STARTS = {"pv0": ("sda", 2 << 20), "pv1": ("sdb", 1 << 20), "pv2": ("sdc", 1 << 20), "pv3": ("sdd", 1 << 20)}


@pytest.fixture(scope="module")
def images() -> VolumeImages:
    return kept("lvm")


def open_disks(disks: dict[str, bytes]) -> DiskSet:
    return open_volumes([(name, BytesSource(data, name)) for name, data in disks.items()])


def open_edited(images: VolumeImages, *edits: tuple[str, str]) -> DiskSet:
    """Open the disks with their text edited by pattern and replacement, at the first match."""

    def edit(text: str) -> str:
        for pattern, replacement in edits:
            text = re.sub(pattern, replacement, text, count=1, flags=re.DOTALL)
        return text

    return open_disks(edited(images.disks, edit))


def device(found: DiskSet, name: str) -> OpenVolume:
    return next(volume for volume in found.volumes if volume.name == f"vgone/{name}")


def place_of(images: VolumeImages, hidden: str) -> tuple[str, int]:
    """Return (disk, offset) of a hidden linear volume."""
    match = re.search(
        rf"^{hidden} \{{.*?stripes = \[\n\"(pv\d)\", (\d+)",
        text_of(images.disks["sda"]),
        re.DOTALL | re.MULTILINE,
    )
    assert match
    disk, start = STARTS[match[1]]
    return disk, start + int(match[2]) * EXTENT


def changed(images: VolumeImages, hidden: str, change: Callable[[bytearray, int], None]) -> DiskSet:
    """Open the disks after a change to the bytes of a hidden volume."""
    disk, place = place_of(images, hidden)
    data = bytearray(images.disks[disk])
    change(data, place)
    return open_disks({**images.disks, disk: bytes(data)})


class TestGroups:
    def test_names_double_their_hyphens_in_the_mapper(self, images: VolumeImages) -> None:
        volumes = images.open().volumes
        for name in (
            b"/dev/mapper/vgone-lin--a",
            b"/dev/vgone/lin-a",
            b"/dev/disk/by-id/dm-name-vgone-lin--a",
        ):
            assert [each.name for each in find_volumes(parse_device(name), volumes)] == ["vgone/lin-a"]
        assert find_volumes(parse_device(b"/dev/mapper/vgone-lin-a"), volumes) == []

    def test_two_groups_of_one_name_are_refused(self, images: VolumeImages) -> None:
        (area,) = areas_of(images.disks["sdd"])
        other = text_of(images.disks["sdd"])
        ident = re.search(r'id = "([^"]+)"', other)
        assert ident
        other = other.replace(ident[1], ident[1][::-1], 1)
        found = open_disks({**images.disks, "sdd": with_text(images.disks["sdd"], other)})
        assert not [volume for volume in found.volumes if volume.device]
        assert all("two volume groups are called vgone" in volume.reason for volume in found.volumes)
        assert area == 4096

    def test_two_texts_of_one_number_are_refused(self, images: VolumeImages) -> None:
        other = text_of(images.disks["sdb"]).replace('flags = ["ACTIVATION_SKIP"]', "flags = []", 1)
        found = open_disks({**images.disks, "sdb": with_text(images.disks["sdb"], other)})
        assert not [volume for volume in found.volumes if volume.device]
        assert "two different descriptions of number" in found.volumes[0].reason

    def test_a_volume_that_the_newest_text_no_longer_lists_is_refused(self, images: VolumeImages) -> None:
        newest = text_of(images.disks["sda"])
        number = int(re.search(r"seqno = (\d+)", newest)[1])  # type: ignore[index] # always there
        later = newest.replace(f"seqno = {number}", f"seqno = {number + 1}", 1)
        later = re.sub(r"pv3 \{.*?\n\}\n", "", later, count=1, flags=re.DOTALL)
        found = open_disks({**images.disks, "sda": with_text(images.disks["sda"], later)})
        assert found.volumes[3].reason == "lvm: the volume group vgone no longer lists this physical volume"
        assert digest(device(found, "lin-a").device.source)  # type: ignore[union-attr,arg-type] # it has one

    def test_a_volume_that_came_back_stale_is_not_read(self, images: VolumeImages) -> None:
        found = open_edited(images, (r"(pv1 \{.*?)flags = \[\]", r'\1flags = ["MISSING"]'))
        assert "goes on without this volume, which is stale" in found.volumes[1].reason
        assert "not among the given disks" in device(found, "multi").reason
        assert "volume group vgone: physical volume" in found.problems[-1]

    def test_volumes_in_a_circle_end(self, images: VolumeImages) -> None:
        found = open_edited(
            images,
            (r'(lin-a \{.*?stripes = \[\n)"pv0", 0', r'\1"multi", 0'),
            (r'(multi \{.*?stripes = \[\n)"pv0", \d+', r'\1"lin-a", 0'),
        )
        assert "volumes that lie in each other" in device(found, "lin-a").reason
        assert device(found, "origin").reason.startswith("no known")

    def test_volumes_nested_too_deep_end(self, images: VolumeImages) -> None:
        text = text_of(images.disks["sda"])
        template = re.search(r"^lin-a \{.*?\n\}\n\}\n", text, re.DOTALL | re.MULTILINE)
        assert template
        chain = ""
        for number in range(40):
            volume = template[0].replace("lin-a {", f"deep{number} {{")
            chain += volume.replace('"pv0", 0', f'"deep{number + 1}", 0' if number < 39 else '"pv0", 0')
        found = open_edited(images, (r"logical_volumes \{\n", "logical_volumes {\n" + chain))
        assert "or too deep" in device(found, "deep0").reason
        assert device(found, "deep38").device.source is not None  # type: ignore[union-attr] # it is a device

    @pytest.mark.parametrize(
        ("pattern", "replacement", "reason"),
        [
            (r'(lin-a \{.*?stripes = \[\n)"pv0", 0', r'\1"pv0", 4000000', "extents, not"),
            (r'(lin-a \{.*?stripes = \[\n)"pv0", 0', r'\1"gone", 0', "has no such volume"),
            (r"(lin-a \{.*?)stripe_count = 1", r"\1stripe_count = 2", "1 stripes, and 2 are announced"),
            (r"(lin-a \{.*?)stripe_count = 1", r"\1stripe_count = 0", "1 stripes, and 0 are announced"),
            (r'(lin-a \{.*?)type = "striped"', r'\1type = "vdo"', "vdo is not supported yet"),
            (r'(lin-a \{.*?)type = "striped"', r'\1type = "striped+X"', "is not supported yet"),
            (r'(lin-a \{.*?)type = "striped"', r'\1type = "error"', "maps them to errors"),
            (r"(lin-a \{.*?extent_count = )16", r"\g<1>9999999", "extents, not"),
            (r"(lin-a \{.*?extent_count = )16", r"\g<1>4294967295", "extents, not"),
        ],
    )
    def test_a_malformed_volume_is_refused_by_itself(
        self, images: VolumeImages, pattern: str, replacement: str, reason: str
    ) -> None:
        found = open_edited(images, (pattern, replacement))
        assert reason in device(found, "lin-a").reason
        origin = device(found, "origin").device
        assert origin
        assert origin.source
        assert digest(origin.source) == images.digests["vgone/origin"]

    def test_a_volume_longer_than_any_device_is_refused(self, images: VolumeImages) -> None:
        endless = (r'(lin-a \{.*?extent_count = )16(.*?)type = "striped"', r'\g<1>4294967295\2type = "zero"')
        found = open_edited(images, endless, (r"extent_size = \d+", "extent_size = 2147483648"))
        assert all(volume.size_bytes < 1 << 63 for volume in found.volumes)
        assert "lin-a: a volume of" in found.volumes[1].reason

    def test_zeros_are_zeros(self, images: VolumeImages) -> None:
        found = open_edited(images, (r'(lin-a \{.*?)type = "striped"', r'\1type = "zero"'))
        lin = device(found, "lin-a").device
        assert lin
        assert lin.source
        assert lin.source.read(0, 1 << 20) == bytes(1 << 20)

    def test_a_disk_that_was_cut_makes_its_volumes_unread(self, images: VolumeImages) -> None:
        found = images.open(sdb=images.disks["sdb"][: 1100 << 10])
        assert "lie beyond its end" in device(found, "str").reason
        lin = device(found, "lin-a").device
        assert lin
        assert lin.source


class TestLegs:
    def test_a_leg_that_fell_behind_or_was_failed_is_not_read(self, images: VolumeImages) -> None:
        def spoil(data: bytearray, place: int) -> None:
            struct.pack_into("<Q", data, place + 16, 0)

        def fail(data: bytearray, place: int) -> None:
            struct.pack_into("<Q", data, place + 24, 1)

        def empty(data: bytearray, place: int) -> None:
            struct.pack_into("<Q", data, place + 32, 0)

        disk, image_place = place_of(images, "raid1_rimage_0")
        for hidden, change in (("raid1_rmeta_0", spoil), ("raid1_rmeta_1", fail), ("raid1_rmeta_0", empty)):
            meta_disk, place = place_of(images, hidden)
            disks = {name: bytearray(data) for name, data in images.disks.items()}
            change(disks[meta_disk], place)
            # Control: what the leg holds is other data now, so reading it would show.
            disks[disk][image_place : image_place + 16] = b"stale data here!"
            found = open_disks({name: bytes(data) for name, data in disks.items()})
            leg = device(found, "raid1").device
            assert leg
            assert leg.source
            assert digest(leg.source) == images.digests["vgone/raid1"]

    @pytest.mark.parametrize("name", ["raid1", "raid5_ls", "raid10"])
    def test_a_leg_that_the_group_gave_up_is_left_out_and_no_second_one(
        self, images: VolumeImages, name: str
    ) -> None:
        lost = [
            (rf'({name}_r{part}_0 \{{.*?)type = "striped"', r'\1type = "error"') for part in ("image", "meta")
        ]
        found = open_edited(images, *lost)
        leg = device(found, name).device
        assert leg
        assert leg.source
        assert digest(leg.source) == images.digests[f"vgone/{name}"]
        assert not any(name in problem for problem in found.problems)
        more = [(pattern.replace("_0", "_1"), replacement) for pattern, replacement in lost]
        assert not device(open_edited(images, *lost, *more), name).device.source  # type: ignore[union-attr] # it has one

    @pytest.mark.parametrize("name", ["raid1", "raid5_ls", "raid10"])
    def test_legs_that_all_say_that_all_failed_are_refused(self, images: VolumeImages, name: str) -> None:
        disks = {disk: bytearray(data) for disk, data in images.disks.items()}
        count = len(re.findall(rf"\b{name}_rmeta_\d \{{", text_of(images.disks["sdb"])))
        assert count > 1
        for number in range(count):
            disk, place = place_of(images, f"{name}_rmeta_{number}")
            struct.pack_into("<Q", disks[disk], place + 24, 0xFF)
        found = device(open_disks({disk: bytes(data) for disk, data in disks.items()}), name)
        assert "none of its legs is whole" in found.reason or "are not enough" in found.reason

    def test_a_reshape_is_named(self, images: VolumeImages) -> None:
        def reshape(data: bytearray, place: int) -> None:
            struct.pack_into("<I", data, place + 60, 1)

        found = changed(images, "raid5_ls_rmeta_0", reshape)
        assert "is or was reshaped" in device(found, "raid5_ls").reason


class TestThin:
    def test_a_damaged_tree_is_an_error_of_its_volumes(self, images: VolumeImages) -> None:
        disk, start = place_of(images, "pool_tmeta")
        blocks = [start + block * 4096 for block in range(1, 512)]
        used = [place for place in blocks if any(images.disks[disk][place : place + 4096])]
        for place in used[-6:]:
            data = bytearray(images.disks[disk])
            data[place + 100] ^= 1
            found = open_disks({**images.disks, disk: bytes(data)})
            for name in ("thin", "thinsnap"):
                made = device(found, name).device
                assert made
                if made.source is None:
                    assert "checksum of tree block" in made.reason

    def test_a_tree_that_leads_back_to_itself_ends(self, images: VolumeImages) -> None:
        disk, start = place_of(images, "pool_tmeta")
        data = bytearray(images.disks[disk])
        (root,) = struct.unpack_from("<Q", data, start + 320)
        node = start + root * 4096
        capacity = struct.unpack_from("<I", data, node + 20)[0]
        struct.pack_into("<I", data, node + 4, 1)  # an inner node now, all of whose children are itself
        for entry in range(capacity):
            struct.pack_into("<Q", data, node + 32 + 8 * capacity + 8 * entry, root)
        seal_thin(data, start, 2 << 20)
        found = open_disks({**images.disks, disk: bytes(data)})
        assert "is deeper than" in device(found, "thin").reason

    @pytest.mark.parametrize(
        ("offset", "layout", "value", "reason"),
        [
            (32, "Q", 1, "of another kind"),
            (40, "I", 9, "version 9"),
            (336, "I", 0, "blocks of 0 sectors"),
            (336, "I", 1024, "lvm says otherwise"),
            (320, "Q", 1 << 40, "lies beyond its metadata"),
            (360, "I", 4, "features 0x4"),
        ],
    )
    def test_a_superblock_that_says_something_else_is_refused(
        self, images: VolumeImages, offset: int, layout: str, value: int, reason: str
    ) -> None:
        disk, start = place_of(images, "pool_tmeta")
        data = bytearray(images.disks[disk])
        struct.pack_into(f"<{layout}", data, start + offset, value)
        seal_thin(data, start, 4096, superblock=True)
        found = open_disks({**images.disks, disk: bytes(data)})
        assert reason in device(found, "thin").reason

    def test_a_pool_that_needs_a_check_is_a_problem(self, images: VolumeImages) -> None:
        disk, start = place_of(images, "pool_tmeta")
        data = bytearray(images.disks[disk])
        struct.pack_into("<I", data, start + 4, 1)
        seal_thin(data, start, 4096)
        found = open_disks({**images.disks, disk: bytes(data)})
        assert "vgone/thin: its pool is marked as damaged (needs check)" in found.problems

    def test_tables_of_another_transaction_than_lvms_are_a_problem(self, images: VolumeImages) -> None:
        found = open_edited(images, (r"(type = \"thin-pool\".*?transaction_id = )\d+", r"\g<1>77"))
        assert any("lvm's are of 77" in problem for problem in found.problems)
        assert images.open().problems == ()

    def test_a_snapshot_of_a_thin_volume_stands_behind_it(self, images: VolumeImages) -> None:
        found = images.open()
        assert [device(found, name).rank for name in ("thin", "thinsnap", "snap", "origin")] == [0, 1, 1, 0]


class TestSnapshots:
    def test_a_snapshot_that_ran_full_is_said(self, images: VolumeImages) -> None:
        found = changed(images, "snap", lambda data, place: struct.pack_into("<I", data, place + 4, 0))
        assert "its store ran full" in device(found, "snap").reason
        assert device(found, "origin").device

    def test_a_table_beyond_its_store_is_refused(self, images: VolumeImages) -> None:
        found = changed(
            images, "snap", lambda data, place: struct.pack_into("<QQ", data, place + 4096, 3, 1 << 50)
        )
        assert "speaks of chunk" in device(found, "snap").reason

    @pytest.mark.parametrize("sectors", [0, 1, 7, 12, 1 << 20, (1 << 32) - 1])
    def test_chunks_of_odd_sizes_are_refused(self, images: VolumeImages, sectors: int) -> None:
        found = changed(images, "snap", lambda data, place: struct.pack_into("<I", data, place + 12, sectors))
        assert f"chunks of {sectors} sectors" in device(found, "snap").reason


def test_an_area_that_is_not_in_use_is_passed_over(images: VolumeImages) -> None:
    data = bytearray(images.disks["sdb"])
    struct.pack_into("<I", data, 4096 + 40 + 20, 1)
    seal_area(data, 4096)
    assert digest(device(images.open(sdb=bytes(data)), "lin-a").device.source)  # type: ignore[union-attr,arg-type] # it has one
