"""Partition tables read as sfdisk and sgdisk made them, and fail the way that is promised."""

import json
import struct
import zlib
from pathlib import Path
from random import Random
from uuid import UUID

import diskimages
import pytest
from diskimages import MIB, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from undercroft.disks.partitions import PartitionTable, read_table
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError

DISK_BYTES = 64 * MIB

ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"

GPT_SCRIPT = f"""label: gpt
start=2048, size=4096, type=21686148-6449-6E6F-744E-656564454649, name="bios boot"
start=8192, size=20480, type={ESP}, name="EFI \N{SNOWMAN}", attrs="LegacyBIOSBootable"
7 : start=40960, size=32768, type={diskimages.LINUX_GPT_TYPE}
"""

MBR_SCRIPT = """label: dos
label-id: 0x0badcafe
1 : start=2048, size=8192, type=83, bootable
2 : start=16384, size=81920, type=f
4 : start=102400, size=4096, type=82
5 : start=18432, size=8192, type=83
6 : start=30720, size=2048, type=83
7 : start=40960, size=57344, type=8e
"""


def partitioned(path: Path, script: str) -> Path:
    return diskimages.partition(diskimages.make_raw(path, DISK_BYTES), script)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def gpt(folder: Path) -> Path:
    return partitioned(folder / "gpt", GPT_SCRIPT)


@pytest.fixture(scope="module")
def mbr(folder: Path) -> Path:
    return partitioned(folder / "mbr", MBR_SCRIPT)


def table_of(path: Path) -> PartitionTable:
    with opened(path) as source:
        return read_table(source)


def patched(path: Path, changes: dict[int, bytes], length: int = DISK_BYTES) -> BytesSource:
    data = bytearray(path.read_bytes().ljust(length, b"\0")[:length])
    for offset, change in changes.items():
        data[offset : offset + len(change)] = change
    return BytesSource(bytes(data))


def slot(kind: int, start: int, sectors: int) -> bytes:
    return bytes((0, 0, 0, 0, kind, 0, 0, 0)) + start.to_bytes(4, "little") + sectors.to_bytes(4, "little")


def places(table: PartitionTable) -> list[tuple[int, int, int]]:
    return [(each.number, each.start_bytes, each.size_bytes) for each in table.partitions]


def sfdisk_partitions(path: Path) -> list[dict[str, object]]:
    table = json.loads(diskimages.run("sfdisk", "-J", path))["partitiontable"]
    return [
        {**each, "number": int(each["node"].removeprefix(str(path)))}
        for each in table["partitions"]
        if each["type"] not in ("5", "f")
    ]


@pytest.mark.parametrize("kind", ["gpt", "mbr"])
def test_a_table_reads_as_sfdisk_prints_it(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(kind)
    table = table_of(path)
    assert (table.kind, table.notes) == (kind, ())
    expected = sfdisk_partitions(path)
    assert places(table) == [
        (each["number"], int(str(each["start"])) * 512, int(str(each["size"])) * 512) for each in expected
    ]
    for found, told in zip(table.partitions, expected, strict=True):
        assert found.type_id == str(told["type"]).lower()
        assert found.name == told.get("name", "")
        assert found.part_uuid == str(told.get("uuid", f"0badcafe-{found.number:02x}")).lower()
        assert found.problem == ""
    assert [each.number for each in table.partitions if each.bootable] == [2 if kind == "gpt" else 1]


def test_logical_partitions_count_from_5_and_have_the_uuids_that_linux_gives_them(mbr: Path) -> None:
    assert [(each.number, each.part_uuid) for each in table_of(mbr).partitions] == [
        (1, "0badcafe-01"),
        (4, "0badcafe-04"),
        (5, "0badcafe-05"),
        (6, "0badcafe-06"),
        (7, "0badcafe-07"),
    ]


def gpt_of_4096_byte_sectors(path: Path) -> Path:
    """Two partitions, laid out after the UEFI specification: fdisk would end with sync(2) on all disks."""
    sectors = DISK_BYTES // 4096
    kind = UUID(diskimages.LINUX_GPT_TYPE).bytes_le
    spans = [(512, 4095), (4096, 8191)]
    entries = b"".join(
        struct.pack("<16s16sQQQ72s", kind, UUID(int=first).bytes_le, first, last, 0, b"")
        for first, last in spans
    ).ljust(128 * 128, b"\0")

    def header(own: int, other: int, entries_at: int) -> bytes:
        fields = ("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92)
        rest = (own, other, 6, sectors - 6, bytes(range(16)), entries_at, 128, 128, zlib.crc32(entries))
        unsealed = struct.pack(*fields, 0, 0, *rest)
        return struct.pack(*fields, zlib.crc32(unsealed), 0, *rest)

    protective = slot(0xEE, 1, sectors - 1).ljust(64, b"\0") + b"\x55\xaa"
    pieces = {446: protective, 4096: header(1, sectors - 1, 2), 8192: entries}
    pieces |= {(sectors - 1) * 4096: header(sectors - 1, 1, sectors - 5), (sectors - 5) * 4096: entries}
    return diskimages.make_raw(path, DISK_BYTES, pieces)


def test_a_gpt_with_sectors_of_4096_bytes_is_read_as_fdisk_reads_it(folder: Path) -> None:
    path = gpt_of_4096_byte_sectors(folder / "4k")
    lines = diskimages.run("fdisk", "-b", "4096", "-l", "-o", "Device,Start,Sectors", path).splitlines()
    rows = [line.removeprefix(str(path)).split() for line in lines if line.startswith(str(path))]
    expected = [(int(row[0]), int(row[1]) * 4096, int(row[2]) * 4096) for row in rows]
    table = table_of(path)
    assert (table.kind, table.sector_bytes, table.notes) == ("gpt", 4096, ())
    assert places(table) == expected == [(1, 512 << 12, 3584 << 12), (2, 4096 << 12, 4096 << 12)]
    damaged = read_table(patched(path, {4096: bytes(4096)}))
    assert places(damaged) == expected
    assert "the backup GPT at sector 16383 was used" in damaged.notes[-1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({512: bytes(512)}, "was used"),
        ({512 + 16: b"\0\0\0\0"}, "has a header whose checksum does not match"),
        ({1024 + 40: b"\x01"}, "has entries whose checksum does not match"),
        ({512 + 12: b"\xff\xff\xff\xff"}, "has a header of 4294967295 bytes"),
        ({512: Random(1).randbytes(16_896)}, "was used"),
    ],
)
def test_a_damaged_primary_gpt_gives_way_to_the_backup_with_a_note(
    changes: dict[int, bytes], reason: str, gpt: Path
) -> None:
    table = read_table(patched(gpt, changes))
    assert places(table) == places(table_of(gpt))
    assert any(reason in note for note in table.notes)
    assert table.notes[-1] == "the backup GPT at sector 131071 was used, as the primary is not sound"


def test_the_backup_that_the_primary_names_is_found_on_a_disk_that_has_grown(gpt: Path) -> None:
    table = read_table(patched(gpt, {1024 + 40: b"\x01"}, DISK_BYTES + 8 * MIB))
    assert places(table) == places(table_of(gpt))
    assert "the backup GPT at sector 131071 was used" in table.notes[-1]


def test_a_gpt_without_a_sound_copy_raises_and_is_never_an_empty_disk(gpt: Path) -> None:
    with pytest.raises(
        InputError, match=r"announces a GPT, but the primary GPT .*; the backup GPT .*`gdisk`"
    ):
        read_table(patched(gpt, {512 + 24: b"\x07", DISK_BYTES - 500: b"\xff"}))
    with pytest.raises(InputError, match="no GPT header was found"):
        read_table(patched(gpt, {512: bytes(512), DISK_BYTES - 512: bytes(512)}))


def resealed(path: Path, changes: dict[int, bytes]) -> BytesSource:
    """Change a primary GPT and make its checksums right again, as an attacker would."""
    source = patched(path, changes)
    data = bytearray(source.read(0, source.size_bytes))
    header = data[512 : 512 + 92]
    count, entry_bytes = (int.from_bytes(header[at : at + 4], "little") for at in (80, 84))
    if count * entry_bytes <= MIB:
        header[88:92] = zlib.crc32(data[1024 : 1024 + count * entry_bytes]).to_bytes(4, "little")
    header[16:20] = bytes(4)
    header[16:20] = zlib.crc32(header).to_bytes(4, "little")
    data[512 : 512 + 92] = header
    data[-512:] = bytes(512)
    return BytesSource(bytes(data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({512 + 80: b"\xff\xff\xff\xff"}, "has 4294967295 entries of 128 bytes, over the limit"),
        ({512 + 84: b"\x00\x00\x00\x00"}, "has entries of 0 bytes"),
        ({512 + 84: b"\x81\x00\x00\x00"}, "has entries of 129 bytes"),
        ({512 + 72: b"\xff" * 8}, "beyond the disk's end"),
        ({512 + 24: b"\x02"}, "lies at sector 1 but says 2"),
    ],
)
def test_a_hostile_gpt_with_right_checksums_is_refused(
    changes: dict[int, bytes], message: str, gpt: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read_table(resealed(gpt, changes))


def test_single_bad_entries_are_given_back_with_their_problem_and_within_the_disk(gpt: Path) -> None:
    entry = 1024
    far = (1 << 63).to_bytes(8, "little")
    changes = {entry + 32: far, entry + 128 + 40: far, entry + 6 * 128 + 40: (39_000).to_bytes(8, "little")}
    table = read_table(resealed(gpt, changes))
    problems = {each.number: each.problem for each in table.partitions}
    assert "an end before its start" in problems[1]
    assert f"ends at byte {((1 << 63) + 1) * 512}, beyond the disk's end" in problems[2]
    assert "no sectors or an end before its start" in problems[7]
    for each in table.partitions:
        assert 0 <= each.start_bytes <= each.start_bytes + each.size_bytes <= DISK_BYTES


def test_a_disk_that_was_cut_keeps_its_sound_partitions(gpt: Path, mbr: Path) -> None:
    for path, sound in ((gpt, [1, 2]), (mbr, [1, 5, 6])):
        table = read_table(patched(path, {}, 34 * MIB))
        assert [each.number for each in table.partitions if not each.problem] == sound
        assert all("beyond the disk's end" in each.problem for each in table.partitions if each.problem)


def test_overlapping_partitions_are_noted_and_stay_readable(gpt: Path) -> None:
    table = read_table(resealed(gpt, {1024 + 128 + 32: (3000).to_bytes(8, "little")}))
    assert table.notes == ("partitions 1 and 2 overlap",)
    assert not any(each.problem for each in table.partitions)


def test_a_hybrid_mbr_is_noted_and_the_gpt_counts(gpt: Path, folder: Path) -> None:
    path = folder / "hybrid"
    hybrid = slot(0xEE, 1, 8191) + slot(0x83, 8192, 20_480)
    path.write_bytes(patched(gpt, {446: hybrid}).read(0, DISK_BYTES))
    assert "MBR: hybrid" in diskimages.run("gdisk", "-l", path)
    table = table_of(path)
    assert (table.kind, places(table)) == ("gpt", places(table_of(gpt)))
    assert "hybrid" in table.notes[0]


def test_a_gpt_that_the_mbr_does_not_announce_is_a_noted_leftover(gpt: Path, mbr: Path) -> None:
    leftover = read_table(patched(gpt, {0: mbr.read_bytes()[:512]}))
    assert (leftover.kind, leftover.partitions[0].part_uuid) == ("mbr", "0badcafe-01")
    assert "a GPT that the MBR does not announce was ignored" in leftover.notes[-1]
    unannounced = read_table(patched(gpt, {0: bytes(512)}))
    assert (unannounced.kind, unannounced.partitions) == ("none", ())
    assert "does not announce" in unannounced.notes[0]


@pytest.mark.parametrize("size_bytes", [0, 511, 512, 4096, MIB])
def test_a_disk_without_a_table_has_none(size_bytes: int) -> None:
    assert read_table(BytesSource(bytes(size_bytes))) == PartitionTable("none")


@pytest.mark.parametrize(
    "maker", [("mke2fs", "-q", "-F"), ("mkfs.vfat",), ("mkswap", "-q")], ids=lambda it: it[0]
)
def test_a_filesystem_on_the_whole_disk_is_no_table(maker: tuple[str, ...], tmp_path: Path) -> None:
    path = diskimages.make_raw(tmp_path / "disk", 40 * MIB)
    diskimages.run(*maker, path)
    assert table_of(path).kind == "none"


def test_an_mbr_without_partitions_is_no_table_so_that_the_whole_disk_is_looked_at(folder: Path) -> None:
    assert table_of(partitioned(folder / "empty", "label: dos\n")).kind == "none"


def test_an_extended_partition_without_logical_ones_is_sound(folder: Path) -> None:
    table = table_of(partitioned(folder / "hollow", "label: dos\n2048,8192,83\n16384,81920,5\n"))
    assert [(each.number, each.problem) for each in table.partitions] == [(1, "")]


EXTENDED = 16_384 * 512
LINK = EXTENDED + 446 + 16


@pytest.mark.parametrize(
    ("changes", "numbers", "problem"),
    [
        ({LINK: slot(5, 0, 81_920)}, [1, 4, 5, 6], "returns to sector 16384"),
        ({LINK: slot(5, 0xFFFFFFFF, 5)}, [1, 4, 5, 6], "leads to sector 4294983679, beyond the disk's end"),
        ({LINK: slot(5, 9, 5)}, [1, 4, 5, 6], "logical partition 6 at sector 16393 has no signature"),
        ({EXTENDED + 510: b"\0\0"}, [1, 4, 5], "logical partition 5 at sector 16384 has no signature"),
    ],
)
def test_a_chain_of_logical_partitions_that_breaks_off_leaves_an_entry_with_the_problem(
    changes: dict[int, bytes], numbers: list[int], problem: str, mbr: Path
) -> None:
    table = read_table(patched(mbr, changes))
    assert [each.number for each in table.partitions] == numbers
    assert problem in table.partitions[-1].problem
    assert not any(each.problem for each in table.partitions[:-1])


def test_a_chain_of_logical_partitions_without_end_is_cut_at_the_limit(mbr: Path) -> None:
    record = 16_384
    changes = {}
    for index in range(1000):
        data = slot(0x83, 1, 1) + slot(5, index + 1, 1)
        changes[(record + index) * 512 + 446] = data.ljust(64, b"\0") + b"\x55\xaa"
    table = read_table(patched(mbr, changes))
    assert len(table.partitions) == 2 + 256 + 1
    assert "over the limit of 256" in table.partitions[-1].problem


def test_two_extended_partitions_share_one_count_as_in_linux(mbr: Path) -> None:
    second = MIB // 512 * 60
    changes = {
        446 + 32: slot(5, second, 4096),
        second * 512 + 446: slot(0x83, 1, 9).ljust(64, b"\0") + b"\x55\xaa",
    }
    numbers = [(each.number, each.start_bytes) for each in read_table(patched(mbr, changes)).partitions]
    assert numbers[:2] == [(1, MIB), (4, 50 * MIB)]
    assert [number for number, _ in numbers[2:]] == [5, 6, 7, 8]
    assert numbers[-1] == (8, (second + 1) * 512)


def test_garbage_in_the_last_slots_of_a_logical_record_is_no_partition(mbr: Path) -> None:
    garbage = slot(0x83, 1 << 30, 1 << 30)
    table = read_table(patched(mbr, {EXTENDED + 446 + 32: garbage + garbage}))
    assert places(table) == places(table_of(mbr))


def test_a_boot_sector_with_text_where_slots_would_be_is_no_table() -> None:
    sector = (
        b"\xebR\x90NTFS".ljust(440, b"\0")
        + b"Press Ctrl+Alt+Del to restart\r\n".ljust(70, b"\0")
        + b"\x55\xaa"
    )
    assert read_table(BytesSource(sector.ljust(MIB, b"\0"))).kind == "none"


@settings(max_examples=300, deadline=5_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["gpt", "mbr"]), seed=st.integers(0, 1 << 32))
def test_a_mutated_table_reads_within_the_disk_or_raises(
    kind: str, seed: int, request: pytest.FixtureRequest, heads: dict[str, bytes]
) -> None:
    random, data = Random(seed), bytearray(heads[kind])
    areas = {"gpt": (446, 512, 1024), "mbr": (446, 446, 4096 + 446)}[kind]
    for _ in range(random.randint(1, 6)):
        data[random.choice(areas) + random.randrange(92)] = random.choice((0, 1, 5, 0x7F, 0x80, 0xFF))
    try:
        table = read_table(BytesSource(bytes(data)))
    except InputError:
        return
    for each in table.partitions:
        assert 0 <= each.start_bytes <= each.start_bytes + each.size_bytes <= len(data)
        assert each.size_bytes or each.problem


@pytest.fixture(scope="module")
def heads(folder: Path) -> dict[str, bytes]:
    """Small disks, so that a mutant costs no more than a copy of 256 KiB."""
    made = {}
    for kind, script in (
        ("gpt", "label: gpt\nstart=64, size=64\nstart=128, size=64\n"),
        (
            "mbr",
            "label: dos\nstart=1, size=4, type=83\nstart=8, size=400, type=5\nstart=9, size=20, type=83\n",
        ),
    ):
        path = diskimages.make_raw(folder / f"small-{kind}", 256 << 10)
        diskimages.partition(path, f"first-lba: 1\n{script}" if kind == "mbr" else script, "--force")
        made[kind] = path.read_bytes()
    return made
