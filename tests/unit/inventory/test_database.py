"""What all readers of package databases share: limits on what a hostile list costs."""

import tracemalloc

import pytest
from memorymachines import tree_of

from undercroft.inventory import apk, database
from undercroft.inventory.database import MAX_CHARS, Owned, flaw_of
from undercroft.model.inventory import Package


@pytest.mark.parametrize("folder_bytes", [4000, 1 << 20])
def test_many_short_names_in_a_long_folder_stay_within_memory(folder_bytes: int) -> None:
    folder = b"opt/" + b"x" * folder_bytes
    files = b"".join(b"R:%d\n" % number for number in range(40_000))
    installed = b"P:a\nV:1\nF:%s\n%s\n" % (folder, files)
    tracemalloc.start()
    try:
        found = apk.read_database(tree_of({"lib/apk/db/installed": installed}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [package.name for package in found.packages] == ["a"]
    assert peak < 120 << 20, "each of the files would take as much as the folder"


def test_a_table_of_owners_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_OWNED", 2)
    owned = Owned("rpm")
    for path in (b"/opt/a", b"/opt/b", b"/opt/a"):
        owned.note(path, "p")
    assert owned.find({b"/opt/a", b"/opt/c"}).packages == {b"/opt/a": "p"}
    assert owned.find(set()).problems == []
    owned.note(b"/opt/c", "p")
    assert owned.find({b"/opt/c"}).packages == {}
    assert owned.find(set()).problems == ["rpm: more files have owners than the limit allows"]


@pytest.mark.parametrize(
    ("name", "version", "has_flaw"),
    [
        ("a", "1", False),
        ("a b", "1", True),
        ("a", "1\n", True),
        ("a\u00e9", "1", True),
        ("a", "1" * (MAX_CHARS - 1), False),
        ("a", "1" * MAX_CHARS, True),
    ],
)
def test_what_no_name_may_hold_is_a_flaw(name: str, version: str, *, has_flaw: bool) -> None:
    assert bool(flaw_of(Package("apk", name, version, "x86_64", name, version))) is has_flaw
