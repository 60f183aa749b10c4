"""exFAT: old content that is not shown, damage that is told, and no work that the image asks for."""

import struct

import exfatimages
import pytest
from diskimages import MIB
from exfatimages import changed, set_of

from undercroft.disks.exfat import open_filesystem
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UnsupportedError

pytestmark = pytest.mark.skipif(bool(exfatimages.missing()), reason=exfatimages.missing() or "-")
CONTENT = bytes(range(256)) * 128
FILL = """
mkdir folder many
cat > long
cp long folder/copy
for i in $(seq 40); do : > "many/a file with a name of five entries, $i"; done
touch -d '2024-02-29 12:34:56 UTC' long
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("exfat")
    (folder / "long").write_bytes(CONTENT)
    path = exfatimages.make(folder / "image", "-c", "4K", "-L", "Daten", size_bytes=4 * MIB)
    exfatimages.fill(path, FILL.replace("cat > long", f"cat '{folder / 'long'}' > long"))
    return path.read_bytes()


def node(image: bytes, *names: bytes) -> int:
    filesystem = open_filesystem(BytesSource(image))
    found: int | None = filesystem.root
    for name in names:
        assert found is not None
        found = filesystem.lookup(found, name)
    assert found is not None
    return found


def boot_field(image: bytes, layout: str, offset: int) -> int:
    return int(struct.unpack_from(f"<{layout}", image, offset)[0])


def with_boot(image: bytes, offset: int, layout: str, value: int) -> bytes:
    """Return an image with another boot sector in both regions, and with their checksums."""
    new = bytearray(image)
    for start in (0, 12 * 512):
        struct.pack_into(f"<{layout}", new, start + offset, value)
        total = 0
        for index, byte in enumerate(new[start : start + 11 * 512]):
            if index not in (106, 107, 112):
                total = ((total >> 1 | total << 31) + byte) & 0xFFFFFFFF
        new[start + 11 * 512 : start + 12 * 512] = struct.pack("<I", total) * 128
    return bytes(new)


def fat_place(image: bytes, cluster: int) -> int:
    return boot_field(image, "I", 80) * 512 + 4 * cluster


def test_files_are_read_whole_and_from_the_middle_whatever_the_case_of_their_name(image: bytes) -> None:
    filesystem = open_filesystem(BytesSource(image))
    found = node(image, b"Folder", b"COPY")
    assert filesystem.read(found, MIB) == CONTENT
    assert b"".join(filesystem.chunks(found, 12_345)) == CONTENT[12_345:]
    assert filesystem.stat(node(image, b"long")).modified_at_s == 1_709_210_096
    assert filesystem.stat(found).kind is FileKind.REGULAR
    assert filesystem.label == "Daten"
    assert filesystem.lookup(filesystem.root, b"missing") is None
    assert filesystem.lookup(filesystem.root, b"\xff no text") is None
    with pytest.raises(InputError, match="32768 bytes, the limit is 100"):
        filesystem.read(found, 100)
    with pytest.raises(InputError, match="it is no file"):
        list(filesystem.chunks(filesystem.root))
    with pytest.raises(UnsupportedError, match="there are no links"):
        filesystem.readlink(found)


def test_what_was_never_written_to_a_file_reads_as_zeros_and_not_as_what_its_clusters_held(
    image: bytes,
) -> None:
    cut = changed(image, "long", 40, "Q", 10_000)
    filesystem = open_filesystem(BytesSource(cut))
    expected = CONTENT[:10_000] + bytes(len(CONTENT) - 10_000)
    found = node(cut, b"long")
    assert filesystem.read(found, MIB) == expected
    for start in (1, 9_999, 10_000, 10_001, 20_000):
        assert b"".join(filesystem.chunks(found, start)) == expected[start:]
    with pytest.raises(InputError, match="40000 bytes were written of 32768"):
        node(changed(image, "long", 40, "Q", 40_000), b"long")


def test_a_set_of_entries_with_a_wrong_checksum_is_refused(image: bytes) -> None:
    place, _ = set_of(image, "long")
    broken = image[: place + 56] + b"\1" + image[place + 57 :]
    with pytest.raises(InputError, match=r"^exfat entry at .*its checksum is"):
        open_filesystem(BytesSource(broken)).lookup(0, b"long")


def test_sets_that_go_on_in_another_cluster_are_found_again(image: bytes) -> None:
    filesystem = open_filesystem(BytesSource(image))
    listed = list(filesystem.entries(node(image, b"many")))
    assert len(listed) == 40, "they take two clusters"
    for _, found, _ in listed:
        filesystem._entries.drop(found)
        assert filesystem.stat(found).size_bytes == 0
    fresh = open_filesystem(BytesSource(image))
    split = [found for _, found, _ in listed if found in filesystem._split]
    assert split, "one of them crosses the border"
    with pytest.raises(InputError, match="it is no file's"):
        fresh.stat(split[0])


def test_a_damaged_boot_region_is_read_from_its_copy_and_that_is_noted(image: bytes) -> None:
    broken = image[:100] + b"\xff" + image[101:]
    filesystem = open_filesystem(BytesSource(broken))
    assert filesystem.read(node(broken, b"long"), MIB) == CONTENT
    assert "exfat boot region: its checksum is" in filesystem.notes[0]
    assert filesystem.notes[0].endswith(": its copy was used")
    both = broken[: 12 * 512 + 100] + b"\xff" + broken[12 * 512 + 101 :]
    with pytest.raises(InputError, match=r"^exfat boot region: its checksum is"):
        open_filesystem(BytesSource(both))


def test_a_volume_that_was_not_unmounted_says_so(image: bytes) -> None:
    dirty = image[:106] + b"\2" + image[107:]
    assert open_filesystem(BytesSource(image)).problems == ()
    assert open_filesystem(BytesSource(dirty)).problems == (
        "exfat the volume is marked dirty: it is read as it stands",
    )


@pytest.mark.parametrize(
    ("offset", "layout", "value", "reason"),
    [
        (3, "B", 0, "it is none"),
        (108, "B", 8, "sectors of 2"),
        (109, "B", 20, "clusters of 2"),
        (92, "I", 0, "0 clusters"),
        (92, "I", 0xFFFFFFF5, "FATs of"),
        (84, "I", 1, "FATs of 1 sectors"),
        (80, "I", 3, "sectors at 3"),
        (72, "Q", 1 << 40, "sectors in a volume of 4194304 bytes"),
        (96, "I", 1 << 30, "cluster 1073741824: there is none"),
        (104, "H", 0x200, "revision 2.0"),
    ],
)
def test_a_boot_region_that_contradicts_itself_is_refused(
    image: bytes, offset: int, layout: str, value: int, reason: str
) -> None:
    with pytest.raises(InputError, match=f"^exfat .*{reason}"):
        open_filesystem(BytesSource(with_boot(image, offset, layout, value)))


def test_a_chain_that_ends_early_leaves_the_volume_or_goes_in_a_circle_is_refused(image: bytes) -> None:
    # The file has its clusters side by side without a chain until something says otherwise.
    first = boot_field(image, "I", set_of(image, "long")[0] + 52)
    chained = changed(image, "long", 33, "B", 1)
    for value, reason in (
        (0xFFFFFFFF, "fewer than 8 clusters"),
        (0xFFFFFFF7, "there is none"),
        (0, "is none"),
    ):
        place = fat_place(image, first)
        broken = chained[:place] + struct.pack("<I", value) + chained[place + 4 :]
        with pytest.raises(InputError, match=reason):
            open_filesystem(BytesSource(broken)).read(node(chained, b"long"), MIB)
    root = boot_field(image, "I", 96)
    place = fat_place(image, root)
    start = boot_field(image, "I", 88) * 512 + (root - 2) * 4096
    full = bytearray(image)
    for at in range(start, start + 4096, 32):
        full[at] = full[at] or 0x05
    full[place : place + 4] = struct.pack("<I", root)
    with pytest.raises(InputError, match="or a circle"):
        open_filesystem(BytesSource(bytes(full)))


def test_a_file_larger_than_the_volume_is_refused(image: bytes) -> None:
    broken = changed(changed(image, "long", 56, "Q", 1 << 50), "long", 40, "Q", 1 << 50)
    filesystem = open_filesystem(BytesSource(broken))
    with pytest.raises(InputError, match="clusters of"):
        next(filesystem.chunks(node(broken, b"long")))


def test_a_table_of_upper_case_with_a_wrong_checksum_is_refused(image: bytes) -> None:
    table = image.find(b"\x82\0\0\0")
    broken = image[: table + 4] + b"\0\0\0\0" + image[table + 8 :]
    with pytest.raises(InputError, match=r"^exfat table of upper case: its checksum is 0x0"):
        open_filesystem(BytesSource(broken))


def test_a_name_that_leads_elsewhere_is_refused(image: bytes) -> None:
    place, _ = set_of(image, "long")
    for name in ("a/b ", "..\0\0"):
        broken = changed(
            image[: place + 66] + name.encode("utf-16-le") + image[place + 74 :],
            name,
            4,
            "H",
            0x20,
        )
        with pytest.raises(InputError, match="an impossible name"):
            list(open_filesystem(BytesSource(broken)).entries(0))
