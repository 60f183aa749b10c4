"""Which files of a medium make up a live system, and what is told where that is in doubt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import Broken, MemoryFileSystem, machine_of, tree_of, uuid_of

from undercroft.disks.live.bootwords import boot_words, values
from undercroft.disks.live.filesource import CACHED_PIECES, PIECE_BYTES, FileSource
from undercroft.disks.live.kinds import MAX_LAYERS, plan_for
from undercroft.disks.live.persistence import find_persistence
from undercroft.disks.machine import UnreadDisk
from undercroft.disks.magics import Content
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError


def layers(files: dict[str | bytes, bytes]) -> list[bytes] | None:
    plan = plan_for(tree_of(dict(files)))
    return plan.layers if plan else None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"live/filesystem.squashfs": b""}, [b"/live/filesystem.squashfs"]),
        (
            {"live/b.squashfs": b"", "live/a.ext4": b"", "live/vmlinuz": b"", "live/c.dir/": b""},
            [b"/live/c.dir", b"/live/b.squashfs", b"/live/a.ext4"],
        ),
        (
            {"live/z.squashfs": b"", "live/filesystem.module": b"a.squashfs b.squashfs"},
            [b"/live/b.squashfs", b"/live/a.squashfs"],
        ),
        (
            {"casper/filesystem.squashfs": b"", "casper/installer.squashfs": b""},
            [b"/casper/installer.squashfs", b"/casper/filesystem.squashfs"],
        ),
        (
            {"casper/m.live.squashfs": b"", "casper/m.squashfs": b""},
            [b"/casper/m.live.squashfs", b"/casper/m.squashfs"],
        ),
        ({"LiveOS/squashfs.img": b""}, [b"/LiveOS/squashfs.img"]),
        ({"arch/x86_64/airootfs.sfs": b""}, [b"/arch/x86_64/airootfs.sfs"]),
        ({"live/vmlinuz": b"", "casper/vmlinuz": b"", "LiveOS/": b""}, None),
        ({"live": b"a file"}, None),
    ],
)
def test_the_uppermost_layer_comes_first(
    files: dict[str | bytes, bytes], expected: list[bytes] | None
) -> None:
    assert layers(files) == expected


@pytest.mark.parametrize(
    "files",
    [
        {f"live/{number}.squashfs": b"" for number in range(MAX_LAYERS + 1)},
        {"live/filesystem.module": b"../../etc/x.squashfs"},
        {"casper/a.b.live.squashfs": b"", "casper/a.squashfs": b""},
        {f"live/{number}": b"" for number in range(5000)},
    ],
)
def test_what_makes_no_sense_is_an_error(files: dict[str | bytes, bytes]) -> None:
    with pytest.raises(InputError):
        layers(files)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("linux /live/vmlinuz boot=live live-media-path=/other", "live-media-path=/other, and live was read"),
        ("  append boot=live module=Gnome", "module=Gnome, and filesystem was read"),
        ("linux /live/vmlinuz boot=live live-media-path=/live", ""),
    ],
)
def test_a_boot_line_that_names_other_files_is_a_doubt(line: str, told: str) -> None:
    plan = plan_for(tree_of({"live/filesystem.squashfs": b"", "isolinux/live.cfg": line.encode()}))
    assert plan is not None
    assert [told in problem for problem in plan.problems] == ([True] if told else [])


@given(st.binary(max_size=300))
def test_any_menu_gives_words(menu: bytes) -> None:
    problems: list[str] = []
    files = {"boot/grub/grub.cfg": b"linux a=b\n" + menu, "isolinux/x.cfg": Broken()}
    words = boot_words(tree_of(files), problems)
    assert values(words, "a")[:1] == ["b"] or b"a=" in menu
    assert [problem.split(":")[0] for problem in problems] == ["/isolinux"]


@pytest.mark.parametrize("image", ["live/filesystem.squashfs", "casper/m.squashfs", "LiveOS/squashfs.img"])
def test_a_menu_that_cannot_be_read_may_name_another_root(image: str) -> None:
    plan = plan_for(tree_of({image: b"", "isolinux/isolinux.cfg": Broken()}))
    assert plan is not None
    assert any("/isolinux: what its boot menus say" in problem for problem in plan.problems)


def test_a_file_is_read_as_a_device_in_pieces_that_are_bounded() -> None:
    content = bytes(range(256)) * ((CACHED_PIECES + 4) * PIECE_BYTES // 256) + b"end"
    filesystem = MemoryFileSystem({"image": content})
    node = filesystem.lookup(filesystem.root, b"image")
    assert node is not None
    source = FileSource(filesystem, node, "image")
    assert source.size_bytes == len(content)
    for offset, length in ((0, 0), (5, 10), (PIECE_BYTES - 1, 2), (len(content) - 3, 3), (0, len(content))):
        assert source.read(offset, length) == content[offset : offset + length]
    with pytest.raises(InputError, match="beyond its end"):
        source.read(len(content), 1)


def test_a_file_that_ends_early_is_an_error() -> None:
    class Short(MemoryFileSystem):
        def chunks(self, node: int, start: int = 0):  # type: ignore[no-untyped-def] # as its base
            yield from (chunk[:-1] for chunk in super().chunks(node, start) if len(chunk) > 1)

    filesystem = Short({"image": b"x" * 100})
    node = filesystem.lookup(filesystem.root, b"image")
    assert node is not None
    with pytest.raises(InputError, match="image: its file ends at 99 bytes"):
        FileSource(filesystem, node, "image").read(0, 100)


def test_a_disk_that_was_not_opened_may_hold_the_system_that_starts() -> None:
    medium = MemoryFileSystem({"live/filesystem.squashfs": b"hsqs"}, uuid=uuid_of(1))
    machine = machine_of(vda=medium, vdb=UnreadDisk("encrypted with LUKS"))
    assert machine.tree is None
    assert machine.coverage.problems[0] == "vdb: encrypted with LUKS"
    assert any("left alone: vdb was not read" in note for note in machine.coverage.notes)


def test_a_live_image_that_cannot_be_opened_is_told_with_its_reason() -> None:
    medium = MemoryFileSystem({"live/filesystem.squashfs": b"hsqs" + bytes(200)}, uuid=uuid_of(1))
    machine = machine_of(vda=medium)
    assert machine.tree is None
    assert any(
        "its live system cannot be read: vda/live/filesystem.squashfs" in each
        for each in machine.coverage.problems
    )


def test_a_file_of_kept_changes_that_cannot_be_looked_at_is_unknown() -> None:
    def told(content: bytes | Broken | None) -> list[str]:
        files = {} if content is None else {"casper-rw": content}
        volume = OpenVolume("vda", 0, None, 1 << 20, Content("ext"), MemoryFileSystem(files))
        return find_persistence("casper", frozenset(), [volume]).problems

    assert told(None) == []
    assert "was not applied" in told(b"changes")[0]
    assert "casper-rw keeps changes of the live system is unknown" in told(Broken())[0]
