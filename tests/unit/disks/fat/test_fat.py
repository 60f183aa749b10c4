"""FAT: long names whole, damage that is told, and no work that the image asks for."""

import struct
from pathlib import Path

import pytest
from diskimages import MIB, make_raw, run

from undercroft.disks.fat import open_filesystem
from undercroft.disks.fat.entries import checksum_of
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UnsupportedError

CONTENT = bytes(range(256)) * 128
LONG_NAME = b"n" * 200
LABEL_LIKE = b"bin (Volume Label Entry)"
"""What a guest may call a file."""


@pytest.fixture(scope="module", params=["12", "16", "32"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("fat"), request.param)


@pytest.fixture(scope="module")
def fat16(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("fat16"), "16")


def made(folder: Path, bits: str) -> bytes:
    path = make_raw(folder / "image", {"12": 2, "16": 4, "32": 36}[bits] * MIB)
    run("mkfs.vfat", "-F", bits, "-s", "1", "-n", "DATA", path)
    (folder / "long").write_bytes(CONTENT)
    run("mmd", "-i", path, "::/Folder")
    run("mcopy", "-i", path, folder / "long", "::/LONG.BIN")
    run("mcopy", "-i", path, folder / "long", "::/Folder/A long name.bin")
    run("mcopy", "-i", path, folder / "long", f"::/{LONG_NAME.decode()}")
    run("mcopy", "-i", path, folder / "long", f"::/{LABEL_LIKE.decode()}")
    return path.read_bytes()


def node(image: bytes, *names: bytes) -> int:
    filesystem = open_filesystem(BytesSource(image))
    found: int | None = filesystem.root
    for name in names:
        assert found is not None
        found = filesystem.lookup(found, name)
    assert found is not None
    return found


def patched(image: bytes, offset: int, layout: str, value: int) -> bytes:
    changed = bytearray(image)
    struct.pack_into(f"<{layout}", changed, offset, value)
    return bytes(changed)


def fat_entry(image: bytes, cluster: int, value: int, *, copy: bool = True) -> bytes:
    """Return a FAT16 with another entry in its FAT, and in the copy of it."""
    reserved, length = struct.unpack_from("<H", image, 14)[0], struct.unpack_from("<H", image, 22)[0]
    changed = patched(image, reserved * 512 + 2 * cluster, "H", value)
    return patched(changed, (reserved + length) * 512 + 2 * cluster, "H", value) if copy else changed


def first_cluster(image: bytes, short: bytes) -> int:
    return int(struct.unpack_from("<H", image, image.index(short) + 26)[0])


def test_files_are_read_whole_by_long_and_short_names_whatever_their_case(image: bytes) -> None:
    filesystem = open_filesystem(BytesSource(image))
    names = {name for name, _, _ in filesystem.entries(filesystem.root)}
    assert names == {b"Folder", b"LONG.BIN", LONG_NAME, LABEL_LIKE}, "the label is no file"
    assert filesystem.label == "DATA"
    for path in ((b"long.bin",), (b"FOLDER", b"a long NAME.bin"), (b"folder", b"alongn~1.bin"), (LONG_NAME,)):
        assert filesystem.read(node(image, *path), MIB) == CONTENT
    found = node(image, b"long.bin")
    assert b"".join(filesystem.chunks(found, 12_345)) == CONTENT[12_345:]
    assert filesystem.lookup(filesystem.root, b"missing") is None
    assert filesystem.lookup(filesystem.root, b"\xff no text") is None
    with pytest.raises(InputError, match="32768 bytes, the limit is 100"):
        filesystem.read(found, 100)
    with pytest.raises(InputError, match="it is no file"):
        list(filesystem.chunks(filesystem.root))
    with pytest.raises(UnsupportedError, match="there are no links"):
        filesystem.readlink(found)


def test_an_entry_is_found_again_when_it_was_forgotten_and_nothing_else_is_an_entry(image: bytes) -> None:
    found = node(image, b"folder", b"a long name.bin")
    fresh = open_filesystem(BytesSource(image))
    assert fresh.read(found, MIB) == CONTENT
    for number in (1, 1 << 40, -5):
        with pytest.raises(InputError, match="it lies outside of all folders"):
            fresh.stat(number)
    with pytest.raises(InputError, match="it is no file's"):
        fresh.stat(found + 10)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (-32, 0x44, "part 0 of a long name, which does not follow"),
        (-32, 0x02, "part 2 of a long name, which does not follow"),
        (-32 + 13, 0x77, "part 1 of a long name, which does not follow|is not its own"),
        (-32, 0xE5, "a long name before it, which is nobody's|is not its own"),
        (0, 0xE5, "a long name before it, which is nobody's"),
        (0, 0x00, "a long name before it, which is nobody's"),
        (1, ord("X"), "the long name before it is not its own"),
    ],
)
def test_a_long_name_in_parts_or_of_another_entry_is_told(
    fat16: bytes, place: int, value: int, reason: str
) -> None:
    # A kernel shows the short name, and nothing under the long one, which somebody looks for.
    short = fat16.index(b"ALONGN~1BIN")
    assert fat16[short - 32 + 13] == checksum_of(b"ALONGN~1BIN")
    filesystem = open_filesystem(BytesSource(patched(fat16, short + place, "B", value)))
    with pytest.raises(InputError, match=reason):
        filesystem.lookup(node(fat16, b"folder"), b"A long name.bin")


def test_an_impossible_name_is_refused(fat16: bytes) -> None:
    place = fat16.index(b"LONG    BIN")
    for value in (ord("/"), 1, ord("\n")):
        with pytest.raises(InputError, match=r"^vfat entry at .*an impossible name"):
            list(open_filesystem(BytesSource(patched(fat16, place + 1, "B", value))).entries(0))


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0xFFFF, "fewer than 64 clusters"), (0xFFF7, "there is none"), (0, "cluster 0: there is none")],
)
def test_a_chain_that_ends_early_or_leaves_the_volume_is_refused(
    fat16: bytes, value: int, reason: str
) -> None:
    broken = fat_entry(fat16, first_cluster(fat16, b"LONG    BIN"), value)
    with pytest.raises(InputError, match=rf"^vfat cluster .*{reason}|^vfat {reason}"):
        open_filesystem(BytesSource(broken)).read(node(fat16, b"long.bin"), MIB)


def test_a_folder_in_a_circle_is_refused(fat16: bytes) -> None:
    cluster = first_cluster(fat16, b"FOLDER     ")
    start = open_filesystem(BytesSource(fat16))._boot.offset(cluster)
    full = bytearray(fat_entry(fat16, cluster, cluster))
    for at in range(start, start + 512, 32):
        full[at] = full[at] or 0xE5
    with pytest.raises(InputError, match="or a circle"):
        list(open_filesystem(BytesSource(bytes(full))).entries(node(fat16, b"folder")))


def test_a_fat_that_differs_from_its_copy_is_told_where_it_is_followed(fat16: bytes) -> None:
    found, cluster = node(fat16, b"long.bin"), first_cluster(fat16, b"LONG    BIN")
    broken = open_filesystem(BytesSource(fat_entry(fat16, cluster + 3, cluster + 9, copy=False)))
    with pytest.raises(InputError, match=f"vfat cluster {cluster + 3}: the FAT and its copy say different"):
        broken.read(found, MIB)
    assert broken.read(node(fat16, LONG_NAME), MIB) == CONTENT
    free = open_filesystem(BytesSource(fat_entry(fat16, 7000, 5, copy=False)))
    assert free.read(found, MIB) == CONTENT, "a cluster that nobody follows"


def test_a_volume_that_was_not_unmounted_says_so(image: bytes) -> None:
    at = 65 if b"FAT32" in image[:90] else 37
    assert open_filesystem(BytesSource(image)).notes == ()
    dirty = open_filesystem(BytesSource(patched(image, at, "B", 1)))
    assert (dirty.notes, dirty.problems) == (("marked dirty: it was not unmounted",), ())


@pytest.mark.parametrize(
    ("offset", "layout", "value", "reason"),
    [
        (510, "H", 0, "it is none"),
        (11, "H", 100, "sectors of 100 bytes"),
        (13, "B", 3, "clusters of 3 sectors"),
        (14, "H", 0, "FATs behind 0"),
        (16, "B", 9, "9 FATs"),
        (17, "H", 0, "a root of 0 entries"),
        (22, "H", 1, "a FAT of 1 sectors"),
        (19, "H", 60_000, "60000 sectors of 4194304 bytes"),
        (19, "H", 20, "clusters, 20 sectors"),
    ],
)
def test_a_boot_sector_that_contradicts_itself_is_refused(
    fat16: bytes, offset: int, layout: str, value: int, reason: str
) -> None:
    with pytest.raises(InputError, match=rf"^vfat boot sector: .*{reason}"):
        open_filesystem(BytesSource(patched(fat16, offset, layout, value)))
