"""Logs whose items are well formed and whose numbers are at the format's ends: replayed or refused."""

from contextlib import suppress

from btrfstrees import FOLDER, SECTOR, Entry, inode_item, replayed
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.btrfs import directory, layout
from undercroft.disks.btrfs.checksum import name_hash
from undercroft.errors import InputError

LEAF_BYTES = 3800
NODES = st.sampled_from([layout.FIRST_FREE, 300, 301])
NAMES = st.sampled_from([b"x", b"y", b"zz"])
INDEXES = st.sampled_from([1, 2, (1 << 64) - 1])
LAST_SECTOR = (1 << 64) - SECTOR
NUMBERS = st.sampled_from([0, 1, 256, SECTOR, 1 << 31, (1 << 63) - 1, 1 << 63, LAST_SECTOR, (1 << 64) - 1])
PLACES = st.sampled_from([0, SECTOR, 8 * SECTOR, 1 << 50, 1 << 63, LAST_SECTOR])


@st.composite
def inodes(draw: st.DrawFn) -> Entry:
    mode = draw(st.sampled_from([0o100644, 0o040755, 0o120777]))
    return (draw(NODES), layout.INODE_ITEM, 0), inode_item(mode, draw(NUMBERS))


@st.composite
def references(draw: st.DrawFn) -> Entry:
    name, index = draw(NAMES), draw(INDEXES)
    if draw(st.booleans()):
        key = draw(NODES), layout.INODE_REF, draw(NODES)
        return key, layout.REF.pack(index, len(name)) + name
    return (draw(NODES), layout.INODE_EXTREF, draw(NUMBERS)), layout.EXTREF.pack(
        draw(NODES), index, len(name)
    ) + name


@st.composite
def names(draw: st.DrawFn) -> Entry:
    name, location = draw(NAMES), draw(st.sampled_from([layout.INODE_ITEM, layout.ROOT_ITEM]))
    entry = layout.DIRECTORY_ENTRY.pack(draw(NODES), location, 0, 7, 0, len(name), 1) + name
    by_index = draw(st.booleans())
    place = (layout.DIR_INDEX, draw(INDEXES)) if by_index else (layout.DIR_ITEM, name_hash(name))
    return (draw(NODES), *place), entry


@st.composite
def extents(draw: st.DrawFn) -> Entry:
    compression = draw(st.sampled_from([0, 0, 1, 3]))
    head = layout.EXTENT.pack(7, draw(NUMBERS), compression, 0, 0, draw(st.sampled_from([1, 2])))
    address = draw(st.sampled_from([0, SECTOR]))
    stored, skip, length = draw(PLACES), draw(PLACES), draw(PLACES)
    key = draw(NODES), layout.EXTENT_DATA, draw(PLACES)
    return key, head + layout.EXTENT_PLACE.pack(address, stored, skip, length)


@st.composite
def ranges(draw: st.DrawFn) -> Entry:
    return (draw(NODES), layout.DIR_LOG_INDEX, draw(NUMBERS)), draw(NUMBERS).to_bytes(8, "little")


ITEMS = st.lists(st.one_of(inodes(), references(), names(), extents(), ranges()), max_size=15)


def ascending(entries: list[Entry]) -> list[Entry]:
    """Return as many of the items as fit a leaf, the last of each key."""
    return sorted(dict(entries).items())[: LEAF_BYTES // 200]


@given(ITEMS, ITEMS, NUMBERS)
def test_log_with_numbers_at_the_formats_ends_is_replayed_or_refused(
    base: list[Entry], log: list[Entry], size: int
) -> None:
    committed = ascending([*base, (FOLDER, inode_item(0o040755, size))])
    found = replayed({256: committed}, {256: ascending(log)}, 1000)
    for tree in found.trees.values():
        with suppress(InputError):
            list(directory.names(tree, layout.FIRST_FREE))
            list(tree.extents(300, SECTOR))
    assert bool(found.trees) != bool(found.problems)
