"""UFS: what its superblock says of its state, damage that is told, and no work that the image asks for."""

import itertools
import struct
from pathlib import Path

import pytest
import ufsimages
from diskimages import MIB
from ufsimages import PLACE, inode_offset, marked, patched

from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BytesSource
from undercroft.disks.ufs import open_filesystem
from undercroft.errors import InputError, UnsupportedError

pytestmark = pytest.mark.skipif(bool(ufsimages.missing()), reason=ufsimages.missing() or "-")
ROOT = 2
LONG = bytes(range(256)) * 800


@pytest.fixture(scope="module", params=["version=1", "version=2"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("ufs"), request.param)


@pytest.fixture(scope="module")
def ufs2(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("ufs2"), "version=2")


def made(folder: Path, options: str) -> bytes:
    (folder / "tree/folder").mkdir(parents=True)
    (folder / "tree/long").write_bytes(LONG)
    (folder / "tree/folder/short").write_bytes(b"short")
    (folder / "tree/link").symlink_to("folder/short")
    return ufsimages.make(folder / "tree", folder / "image", options, 4 * MIB).read_bytes()


def node(image: bytes, name: bytes) -> int:
    filesystem = open_filesystem(BytesSource(image))
    found = filesystem.lookup(ROOT, name)
    assert found is not None
    return found


def pointers(image: bytes, name: bytes) -> tuple[int, str]:
    """Return where a file's block numbers lie, and their form."""
    is_second = open_filesystem(BytesSource(image)).content == "ufs2"
    return inode_offset(image, node(image, name)) + (112 if is_second else 40), "q" if is_second else "i"


@pytest.mark.parametrize(
    ("clean", "flags", "told"),
    [
        (1, 0, None),
        (1, 0x08, None),
        (0, 0, "was not unmounted and no check has run since"),
        (0, 0x02, "was not unmounted and no check has run since"),
        (0, 0x0A, "was not unmounted and the soft-updates journal is not replayed"),
        (0, 0x40, "was not unmounted and the journal of gjournal is not replayed"),
        (1, 0x04, "was not unmounted and no check has run since"),
    ],
)
def test_a_volume_that_was_not_unmounted_says_so(
    ufs2: bytes, clean: int, flags: int, told: str | None
) -> None:
    problems = open_filesystem(BytesSource(marked(ufs2, clean=clean, flags=flags))).problems
    assert len(problems) == (told is not None)
    assert (told or "") in "".join(problems)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "reason"),
    [
        (1372, "I", 0, "there is none"),
        (48, "i", 3000, "blocks of 3000 bytes"),
        (52, "i", 8192, "in 8 fragments of 8192"),
        (56, "i", 16, "in 16 fragments"),
        (104, "i", 100, "it has 100 bytes"),
        (44, "I", 0, "0 groups"),
        (188, "i", -1, "-1 fragments"),
        (184, "I", 1 << 31, "bytes of inodes"),
        (16, "i", -5, "at fragment -5"),
    ],
)
def test_a_superblock_that_contradicts_itself_is_refused(
    image: bytes, offset: int, layout: str, value: int, reason: str
) -> None:
    with pytest.raises(InputError, match=f"^ufs superblock.*{reason}"):
        open_filesystem(BytesSource(patched(image, PLACE + offset, layout, value)))


def test_a_volume_that_was_cut_off_is_refused(image: bytes) -> None:
    with pytest.raises(InputError, match="it says 4194304 bytes, the volume has 3145728"):
        open_filesystem(BytesSource(image[: 3 * MIB]))


def test_what_other_machines_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    image = ufsimages.make(tmp_path / "tree", tmp_path / "image", "version=2", 4 * MIB, "-B", "be")
    with pytest.raises(UnsupportedError, match="big-endian machine is not supported"):
        open_filesystem(BytesSource(image.read_bytes()))


def test_a_superblock_with_a_wrong_check_hash_is_refused_and_one_without_is_believed(ufs2: bytes) -> None:
    image = ufsimages.hashed(ufs2)
    assert open_filesystem(BytesSource(image)).read(node(ufs2, b"long"), MIB) == LONG
    with pytest.raises(InputError, match=r"^ufs superblock: its check hash is"):
        open_filesystem(BytesSource(patched(image, PLACE + 680, "B", 7)))
    assert open_filesystem(BytesSource(patched(ufs2, PLACE + 680, "B", 65))).label == "A"


def test_an_inode_with_a_wrong_check_hash_is_refused_where_the_volume_has_them(ufs2: bytes) -> None:
    found = node(ufs2, b"long")
    for base, is_told in ((ufs2, False), (ufsimages.hashed(ufs2), True)):
        filesystem = open_filesystem(BytesSource(patched(base, inode_offset(base, found) + 4, "I", 1000)))
        if is_told:
            with pytest.raises(InputError, match=f"^ufs inode {found}: its check hash is"):
                filesystem.stat(found)
        else:
            assert filesystem.stat(found).uid == 1000


@pytest.mark.parametrize("pointer", [-1, 1 << 30])
def test_a_block_outside_of_the_volume_is_refused(image: bytes, pointer: int) -> None:
    place, layout = pointers(image, b"long")
    filesystem = open_filesystem(BytesSource(patched(image, place, layout, pointer)))
    with pytest.raises(InputError, match=f"fragments at {pointer} of"):
        filesystem.read(node(image, b"long"), MIB)


def test_holes_read_as_zeros_and_a_folder_with_one_is_refused(image: bytes) -> None:
    place, layout = pointers(image, b"long")
    filesystem = open_filesystem(BytesSource(patched(image, place + struct.calcsize(layout), layout, 0)))
    expected = LONG[:8192] + bytes(8192) + LONG[16384:]
    assert filesystem.read(node(image, b"long"), MIB) == expected
    place, layout = pointers(image, b"folder")
    broken = open_filesystem(BytesSource(patched(image, place, layout, 0)))
    with pytest.raises(InputError, match="the directory has a hole"):
        broken.lookup(node(image, b"folder"), b"short")


def test_a_file_that_is_one_hole_behind_blocks_full_of_zeros_comes_piece_by_piece(ufs2: bytes) -> None:
    # All blocks of numbers name one block each, and the last depth is zeros: merged into one run that is a
    # billion steps before the first byte.
    place, _ = pointers(ufs2, b"long")
    (own, empty) = struct.unpack_from("<2q", ufs2, place)
    fragment = ufsimages.field(ufs2, PLACE, "i", 52)
    image = bytearray(ufs2)
    image[own * fragment : own * fragment + 8192] = struct.pack("<q", empty) * 1024
    image[empty * fragment : empty * fragment + 8192] = bytes(8192)
    third = int.from_bytes(image[place + 16 : place + 24], "little")
    image[third * fragment : third * fragment + 8192] = struct.pack("<q", own) * 1024
    struct.pack_into("<q", image, place + 14 * 8, third)
    struct.pack_into("<Q", image, inode_offset(ufs2, node(ufs2, b"long")) + 16, 1 << 42)
    filesystem = open_filesystem(BytesSource(bytes(image)))
    pieces = filesystem.chunks(node(ufs2, b"long"), (12 + 1024 + 1024**2) * 8192)
    assert [piece.count(0) for piece in itertools.islice(pieces, 3)] == [MIB] * 3


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (struct.pack("<IHBB4s", 5, 8, 8, 4, b"name"), "an entry of 8 bytes"),
        (struct.pack("<IHBB4s", 5, 0, 8, 4, b"name"), "an entry of 0 bytes"),
        (struct.pack("<IHBB4s", 5, 1024, 8, 4, b"name"), "an entry of 1024 bytes"),
        (struct.pack("<IHBB4s", 5, 508, 8, 4, b"name"), "the end of a block"),
        (struct.pack("<IHBB4s", 5, 512, 8, 4, b"na/e"), "an impossible name"),
        (struct.pack("<IHBB4s", 5, 512, 8, 4, b"na\0e"), "an impossible name"),
        (struct.pack("<IHBB4s", 5, 512, 8, 0, b""), "an impossible name"),
    ],
)
def test_a_malformed_folder_is_refused(image: bytes, entry: bytes, reason: str) -> None:
    place, layout = pointers(image, b"folder")
    (pointer,) = struct.unpack_from(f"<{layout}", image, place)
    start = pointer * ufsimages.field(image, PLACE, "i", 52)
    broken = image[:start] + entry + image[start + len(entry) :]
    filesystem = open_filesystem(BytesSource(broken))
    with pytest.raises(InputError, match=f"^ufs inode .*{reason}"):
        list(filesystem.entries(node(image, b"folder")))


def test_inodes_that_are_none_and_snapshots_are_refused(image: bytes) -> None:
    filesystem = open_filesystem(BytesSource(image))
    for number in (0, 1, 1 << 40, -3):
        with pytest.raises(InputError, match="there is none"):
            filesystem.stat(number)
    with pytest.raises(InputError, match="it is not in use"):
        filesystem.stat(20)
    found = node(image, b"long")
    flags = 88 if filesystem.content == "ufs2" else 100
    broken = open_filesystem(BytesSource(patched(image, inode_offset(image, found) + flags, "I", 0x00200000)))
    assert broken.stat(found).kind is FileKind.REGULAR
    with pytest.raises(UnsupportedError, match="a snapshot of the filesystem is not read"):
        broken.read(found, MIB)


def test_links_of_impossible_lengths_are_refused(image: bytes) -> None:
    found = node(image, b"link")
    size = inode_offset(image, found) + (16 if open_filesystem(BytesSource(image)).content == "ufs2" else 8)
    assert open_filesystem(BytesSource(image)).readlink(found) == b"folder/short"
    for length in (0, 1024, 1 << 33):
        with pytest.raises(InputError, match=f"a symlink of {length} bytes"):
            open_filesystem(BytesSource(patched(image, size, "Q", length))).readlink(found)
    with pytest.raises(InputError, match="that holds other ones"):
        open_filesystem(BytesSource(patched(image, size, "Q", 40))).readlink(found)
