"""Paths are followed as the guest's kernel would follow them, and never out of the guest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import Broken, Link, MemoryFileSystem, tree_of

from undercroft.disks.filesystem import FileKind
from undercroft.disks.namespace import MAX_MOUNTS
from undercroft.disks.tree import GuestTree, WalkLimits
from undercroft.errors import InputError, NotFoundError


def test_a_relative_link_with_dots_leads_where_it_leads_in_the_guest() -> None:
    tree = tree_of({"etc/os-release": Link(b"../usr/lib/os-release"), "usr/lib/os-release": b"ID=debian\n"})
    assert tree.read(b"/etc/os-release", 100) == b"ID=debian\n"
    assert tree.realpath(b"/etc/os-release") == b"/usr/lib/os-release"


def test_an_absolute_link_starts_at_the_guests_root_not_at_the_hosts() -> None:
    tree = tree_of({"etc/passwd": b"guest", "srv/link": Link(b"/etc/passwd")})
    assert tree.read(b"/srv/link", 100) == b"guest"


def test_dots_above_the_root_stay_at_the_root() -> None:
    tree = tree_of({"etc/passwd": b"guest", "a/link": Link(b"../../../../etc/passwd")})
    assert tree.read(b"/a/link", 100) == b"guest"
    assert tree.read(b"/../../etc/passwd", 100) == b"guest"
    assert tree.realpath(b"/..") == b"/"


def test_dots_after_a_link_to_a_folder_lead_to_the_targets_parent() -> None:
    tree = tree_of({"usr/lib/x": b"1", "usr/y": b"right", "lib": Link(b"usr/lib"), "y": b"wrong"})
    assert tree.read(b"/lib/../y", 100) == b"right"


def test_merged_usr_links_lead_into_usr() -> None:
    tree = tree_of({"usr/lib/modules/6.1/x": b"1", "lib": Link(b"usr/lib"), "bin": Link(b"usr/bin")})
    assert [entry.name for entry in tree.entries(b"/lib/modules")] == [b"6.1"]
    assert not tree.exists(b"/bin")


def test_a_link_that_names_itself_is_not_found() -> None:
    tree = tree_of({"loop": Link(b"loop"), "a": Link(b"b"), "b": Link(b"/a")})
    for path in (b"/loop", b"/a", b"/a/b"):
        with pytest.raises(NotFoundError, match="more than 40 links"):
            tree.read(path, 100)


def test_forty_links_are_followed_and_one_more_is_not() -> None:
    files = {f"l{number}": Link(f"l{number - 1}".encode()) for number in range(1, 42)}
    tree = tree_of({**files, "l0": b"end"})
    assert tree.read(b"/l40", 100) == b"end"
    with pytest.raises(NotFoundError, match="more than 40 links"):
        tree.read(b"/l41", 100)


def test_a_bomb_of_links_ends_after_few_lookups() -> None:
    bomb = Link(b"/".join([b"bomb"] * 800))
    filesystem = MemoryFileSystem({"bomb": bomb})
    with pytest.raises(NotFoundError):
        GuestTree(filesystem).read(b"/bomb", 100)
    assert filesystem.lookups < 100


def test_what_is_missing_or_no_folder_is_not_found() -> None:
    tree = tree_of({"file": b"1", "folder/": b""})
    for path in (b"/none", b"/none/x", b"/file/x", b"/file/.", b"/folder/none"):
        assert not tree.exists(path)
        with pytest.raises(NotFoundError):
            tree.stat(path)
    with pytest.raises(NotFoundError, match="not a directory"):
        tree.entries(b"/file")


def test_a_folder_is_no_file_to_read() -> None:
    tree = tree_of({"folder/": b""})
    with pytest.raises(InputError, match="/folder is not a regular file"):
        tree.read(b"/folder", 100)
    with pytest.raises(InputError, match="not a regular file"):
        tree.chunks(b"/folder")


def test_a_limit_that_is_passed_names_the_path() -> None:
    tree = tree_of({"etc/big": b"x" * 101})
    assert len(tree.read(b"/etc/big", 101)) == 101
    with pytest.raises(InputError, match="/etc/big: 101 bytes, the limit is 100"):
        tree.read(b"/etc/big", 100)


def test_a_link_itself_can_be_looked_at() -> None:
    tree = tree_of({"file": b"1", "link": Link(b"file")})
    assert tree.stat(b"/link", follow=False).kind is FileKind.SYMLINK
    assert tree.stat(b"/link").kind is FileKind.REGULAR
    assert tree.readlink(b"/link") == b"file"
    with pytest.raises(InputError, match="/file is not a symlink"):
        tree.readlink(b"/file")


def test_names_that_are_no_utf_8_are_names() -> None:
    tree = tree_of({b"bad\xff\xfe/\x80": b"1"})
    assert tree.read(b"/bad\xff\xfe/\x80", 10) == b"1"
    assert [path for path, _ in tree.walk(b"/")] == [b"/bad\xff\xfe", b"/bad\xff\xfe/\x80"]


class TestMounts:
    def tree(self) -> GuestTree:
        tree = tree_of({"etc/x": b"root", "var/hidden": b"below", "mnt/": b"", "up": Link(b"var/lib/back")})
        tree.mount(b"/var", MemoryFileSystem({"lib/data": b"var", "lib/back": Link(b"../../etc/x")}))
        return tree

    def test_a_mount_covers_what_lies_below_it(self) -> None:
        tree = self.tree()
        assert tree.read(b"/var/lib/data", 10) == b"var"
        assert not tree.exists(b"/var/hidden")
        assert [entry.name for entry in tree.entries(b"/var")] == [b"lib"]

    def test_dots_lead_out_of_a_mount_to_the_folder_that_it_lies_in(self) -> None:
        tree = self.tree()
        assert tree.read(b"/var/../etc/x", 10) == b"root"
        assert tree.read(b"/var/lib/back", 10) == b"root"
        assert tree.read(b"/up", 10) == b"root"
        assert tree.realpath(b"/up") == b"/etc/x"

    def test_mounts_nest(self) -> None:
        tree = self.tree()
        tree.mount(b"/var/lib", MemoryFileSystem({"dpkg/status": b"deep"}))
        assert tree.read(b"/var/lib/dpkg/status", 10) == b"deep"
        assert tree.realpath(b"/var/lib/dpkg/../../..") == b"/"

    def test_a_mount_point_may_be_a_link(self) -> None:
        tree = tree_of({"real/": b"", "link": Link(b"real")})
        tree.mount(b"/link", MemoryFileSystem({"x": b"1"}))
        assert tree.read(b"/real/x", 10) == b"1"

    def test_a_missing_mount_point_is_made_up_where_its_parent_exists(self) -> None:
        tree = tree_of({"etc/": b""})
        tree.mount(b"/data", MemoryFileSystem({"x": b"1"}))
        assert tree.read(b"/data/x", 10) == b"1"
        assert sorted(entry.name for entry in tree.entries(b"/")) == [b"data", b"etc"]
        with pytest.raises(NotFoundError):
            tree.mount(b"/none/deeper", MemoryFileSystem({}))

    def test_a_bind_shows_a_folder_again_without_the_mounts_below_it(self) -> None:
        tree = self.tree()
        tree.bind(b"/mnt", b"/")
        assert tree.read(b"/mnt/etc/x", 10) == b"root"
        assert tree.read(b"/mnt/var/hidden", 10) == b"below"
        assert tree.realpath(b"/mnt/..") == b"/"
        with pytest.raises(InputError, match="not a directory"):
            tree.bind(b"/mnt", b"/etc/x")

    def test_the_root_cannot_be_covered_and_mounts_are_bounded(self) -> None:
        tree = self.tree()
        with pytest.raises(InputError, match="over the root"):
            tree.mount(b"/", MemoryFileSystem({}))
        for _ in range(MAX_MOUNTS - 2):
            tree.mount(b"/mnt", MemoryFileSystem({}))
        with pytest.raises(InputError, match=f"more than {MAX_MOUNTS} mounts"):
            tree.mount(b"/mnt", MemoryFileSystem({}))


class TestWalk:
    def test_a_walk_crosses_mounts_and_does_not_follow_links(self) -> None:
        tree = tree_of({"opt/a/x": b"1", "opt/link": Link(b"/"), "opt/b/": b""})
        tree.mount(b"/opt/b", MemoryFileSystem({"y": b"2"}))
        found = [path for path, _ in tree.walk(b"/opt")]
        assert sorted(found) == [b"/opt/a", b"/opt/a/x", b"/opt/b", b"/opt/b/y", b"/opt/link"]

    @pytest.mark.parametrize("typed", [True, False])
    def test_a_loop_of_folders_is_entered_once(self, typed: bool) -> None:
        filesystem = MemoryFileSystem({"a/b/file": b"1"}, typed_entries=typed)
        top = filesystem.lookup(filesystem.root, b"a")
        assert top is not None
        filesystem.hard_link("a/b", b"again", top)
        filesystem.hard_link("a/b", b"root", filesystem.root)
        found = [path for path, _ in GuestTree(filesystem).walk(b"/")]
        assert found == [b"/a", b"/a/b", b"/a/b/file", b"/a/b/again", b"/a/b/root"]

    def test_a_limit_is_an_error_not_an_end(self) -> None:
        tree = tree_of({f"many/{number}": b"" for number in range(20)})
        with pytest.raises(InputError, match="more than 10 files"):
            list(tree.walk(b"/", WalkLimits(entries=10)))
        deep = tree_of({"/".join("d" * 30) + "/x": b""})
        with pytest.raises(InputError, match="deeper than 20"):
            list(deep.walk(b"/", WalkLimits(depth=20)))

    def test_a_broken_file_is_yielded_and_raises_when_it_is_read(self) -> None:
        tree = tree_of({"opt/bad": Broken()})
        ((path, entry),) = tree.walk(b"/opt")
        assert path == b"/opt/bad"
        with pytest.raises(InputError, match="checksum"):
            tree.stat_entry(entry)


NAMES = st.sampled_from([b"a", b"b", b"link", b"..", b".", b"", b"file", b"loop", b"up", b"mnt"])


@given(st.lists(NAMES, max_size=12))
def test_any_path_leads_somewhere_in_the_guest_or_is_not_found(names: list[bytes]) -> None:
    tree = tree_of(
        {
            "a/b/file": b"1",
            "a/link": Link(b"../b/.."),
            "b/link": Link(b"/a/./b/"),
            "loop": Link(b"/loop/a"),
            "b/up": Link(b"../../.."),
            "mnt/": b"",
        }
    )
    tree.mount(b"/mnt", MemoryFileSystem({"a/b/": b"", "link": Link(b"../a")}))
    path = b"/" + b"/".join(names)
    try:
        real = tree.realpath(path)
    except NotFoundError:
        return
    assert b".." not in real.split(b"/")
    assert tree.realpath(real) == real
