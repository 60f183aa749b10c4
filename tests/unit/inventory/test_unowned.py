"""Executables that no package owns are counted, and nothing that hides them goes unsaid."""

from memorymachines import Broken, File, Link, tree_of

from undercroft.disks.tree import GuestTree, WalkLimits
from undercroft.inventory.owners import find_owners
from undercroft.inventory.unowned import MAX_EXAMPLES, UnownedExecutables, find_unowned

EXECUTABLE = File(b"", 0o755)


def unowned_in(tree: GuestTree) -> UnownedExecutables:
    """Ask dpkg's lists."""
    return find_unowned(tree, find_owners=lambda wanted: find_owners(tree, wanted))


def test_executables_without_an_owner_are_counted_and_owned_ones_links_and_data_are_not() -> None:
    tree = tree_of(
        {
            "usr/local/bin/tool": EXECUTABLE,
            "usr/local/bin/editor": Link(b"/etc/alternatives/editor"),
            "usr/local/lib/data.json": b"",
            "opt/vendor/bin/app": EXECUTABLE,
            "opt/vendor/bin/helper": EXECUTABLE,
            b"opt/\xff\xfe": EXECUTABLE,
            "usr/bin/ls": EXECUTABLE,
            "var/lib/dpkg/info/vendor.list": b"/.\n/opt\n/opt/vendor\n/opt/vendor/bin\n/opt/vendor/bin/app\n",
        }
    )
    assert unowned_in(tree) == UnownedExecutables(
        3, ("/opt/vendor/bin/helper", "/opt/\udcff\udcfe", "/usr/local/bin/tool")
    )


def test_examples_are_few_and_the_count_is_whole() -> None:
    found = find_unowned(tree_of({f"opt/{number:03}": EXECUTABLE for number in range(50)}))
    assert found.count == 50
    assert found.examples == tuple(f"/opt/{number:03}" for number in range(MAX_EXAMPLES))


def test_lists_are_read_only_where_there_are_executables() -> None:
    files = {"var/lib/dpkg/info/bad.list": Broken(), "opt/data": b""}
    assert unowned_in(tree_of(files)) == UnownedExecutables()
    problems = unowned_in(tree_of({**files, "opt/run": EXECUTABLE})).problems
    assert problems[0].startswith("/var/lib/dpkg/info/bad.list could not be read: ")


def test_a_limit_that_is_passed_is_a_problem() -> None:
    tree = tree_of({**{f"opt/{number}": EXECUTABLE for number in range(9)}, "usr/local/x": EXECUTABLE})
    found = find_unowned(tree, WalkLimits(entries=5))
    assert found.count == 6
    assert found.problems == (
        "executables below /opt are not all counted: /opt: more than 5 files, the walk's limit",
    )


def test_a_broken_file_is_a_problem() -> None:
    found = find_unowned(tree_of({"opt/bad": Broken(), "usr/local/x": EXECUTABLE}))
    assert found.count == 1
    assert "checksum" in found.problems[0]


def test_a_folder_that_is_a_link_to_nothing_is_a_problem_and_a_missing_one_is_none() -> None:
    assert find_unowned(tree_of({"etc/x": b""})) == UnownedExecutables()
    found = find_unowned(tree_of({"opt": Link(b"srv/apps"), "srv/": b""}))
    assert found.problems == ("executables below /opt are not counted: /opt: no such file, apps is missing",)
