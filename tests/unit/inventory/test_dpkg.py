"""Packages are those that dpkg-query lists, and what a corrupt database hides is never hidden silently."""

# ruff: noqa: E501 - short stanzas stand on one line

import random
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from diskimages import run
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import Broken, tree_of

from undercroft.inventory.database import Database
from undercroft.inventory.dpkg import read_database
from undercroft.inventory.dpkgstatus import MAX_PROBLEMS
from undercroft.model.inventory import Package

FORMAT = "${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\t${Status}\n"
OWN_DATABASE = Path("/var/lib/dpkg")

STATUS = b"""Package: plain
Status: install ok installed
Priority: optional
Maintainer: Nobody <nobody@example.org>
Architecture: amd64
Version: 1.0-1
Description: one
 Package: not-a-package
 .
 Version: 9

Package: binnmu
Status: install ok installed
Architecture: amd64
Maintainer: x <x@example.org>
Source: source-of-binnmu (2:3.4-5)
Version: 2:3.4-5+b1
Description: two

Package: samename
Status: hold ok installed
Architecture: all
Maintainer: x <x@example.org>
Source: othersource
Version: 5~rc1
Description: three

Package: multi
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Maintainer: x <x@example.org>
Version: 7
Description: four

Package: multi
Status: install ok installed
Architecture: i386
Multi-Arch: same
Maintainer: x <x@example.org>
Version: 7
Description: four

Package: crossgraded
Status: install ok installed
Architecture: amd64
Maintainer: x <x@example.org>
Version: 1
Description: five

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Maintainer: x <x@example.org>
Version: 1
Config-Version: 1
Description: six

Package: broken
Status: install reinstreq half-installed
Architecture: amd64
Maintainer: x <x@example.org>
Version: 1.2
Description: seven

Package: upgraded
Status: install ok installed
Architecture: amd64
Maintainer: x <x@example.org>
Version: 1
Description: eight

Package: trigger
Status: install ok triggers-awaited
Architecture: amd64
Maintainer: x <x@example.org>
Version: 1
Triggers-Awaited: plain
Description: nine

"""
UPDATES = {
    "0000": b"Package: upgraded\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 2\nDescription: x\n",
    "0001": b"Package: upgraded\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 3\nDescription: x\n",
    "0002": b"Package: crossgraded\nStatus: install ok installed\nArchitecture: all\nVersion: 2\nDescription: x\n",
    "0003": b"Package: fresh\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1\nDescription: x\n",
    "tmp.i": b"Package: never\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n",
}


def asked_of_dpkg(admin: Path) -> list[tuple[str, ...]]:
    """What dpkg-query says is present, in the fields of `fields`."""
    lines = run("dpkg-query", f"--admindir={admin}", "-W", "-f", FORMAT).splitlines()
    rows = [line.split("\t") for line in lines]
    return sorted(
        (*row[:5], row[5].split()[-1])
        for row in rows
        if row[5].split()[-1] not in ("config-files", "not-installed")
    )


def fields(database: Database) -> list[tuple[str, ...]]:
    return sorted(
        (
            package.name,
            package.version,
            package.architecture,
            package.source,
            package.source_version,
            package.status,
        )
        for package in database.packages
    )


def admin_folder(folder: Path, status: bytes, updates: Mapping[str, bytes]) -> Path:
    for name in ("updates", "info", "triggers"):
        (folder / name).mkdir(parents=True)
    (folder / "status").write_bytes(status)
    for name, text in updates.items():
        (folder / "updates" / name).write_bytes(text)
    return folder


def read_folder(folder: Path) -> Database:
    """Read a dpkg folder of this machine as if it lay in a guest."""
    files = {
        f"var/lib/dpkg/{path.relative_to(folder)}": path.read_bytes()
        for path in (folder / "status", *(folder / "updates").iterdir())
    }
    return read_database(tree_of(files))


def test_this_machines_own_packages_are_those_that_dpkg_query_lists() -> None:
    if not (OWN_DATABASE / "status").exists():
        pytest.skip("needs a machine with dpkg")
    database = read_folder(OWN_DATABASE)
    assert fields(database) == asked_of_dpkg(OWN_DATABASE)
    assert not database.problems


def test_every_corner_of_a_status_file_is_read_as_dpkg_query_reads_it(tmp_path: Path) -> None:
    admin = admin_folder(tmp_path / "dpkg", STATUS, {})
    database = read_folder(admin)
    assert fields(database) == asked_of_dpkg(admin)
    assert len(database.packages) == 9
    assert not database.problems


def test_the_journal_of_a_dpkg_that_was_killed_is_applied_as_dpkg_query_applies_it(tmp_path: Path) -> None:
    admin = admin_folder(tmp_path / "dpkg", STATUS, UPDATES)
    ours = read_folder(admin)
    assert fields(ours) == asked_of_dpkg(admin)
    by_name = {package.name: package for package in ours.packages}
    assert (by_name["upgraded"].version, by_name["upgraded"].status) == ("3", "unpacked")
    assert by_name["crossgraded"].architecture == "all"
    assert "fresh" in by_name
    assert "never" not in by_name


def test_a_real_removal_and_purge_leave_what_dpkg_query_says(tmp_path: Path) -> None:
    root = tmp_path / "root"
    admin_folder(root / "var/lib/dpkg", b"", {})
    (root / "var/lib/dpkg/status").write_bytes(b"")
    for name in ("kept", "removed"):
        build = tmp_path / name
        (build / "DEBIAN").mkdir(parents=True)
        (build / "etc").mkdir()
        (build / "etc" / name).write_text("x")
        (build / "DEBIAN/conffiles").write_text(f"/etc/{name}\n")
        (build / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1-1\nArchitecture: all\nMaintainer: x <x@example.org>\n"
            f"Source: src-{name} (1-0)\nDescription: x\n"
        )
        run("dpkg-deb", "--root-owner-group", "-b", build, tmp_path / f"{name}.deb")
        run(
            "dpkg",
            "--force-not-root",
            "--force-script-chrootless",
            f"--root={root}",
            "-i",
            tmp_path / f"{name}.deb",
        )
    run("dpkg", "--force-not-root", f"--root={root}", "-r", "removed")
    database = read_folder(root / "var/lib/dpkg")
    assert fields(database) == asked_of_dpkg(root / "var/lib/dpkg")
    assert [package.name for package in database.packages] == ["kept"]
    assert not database.problems


def test_distroless_packages_are_read_from_status_d() -> None:
    tree = tree_of(
        {
            "var/lib/dpkg/status.d/base": b"Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
            "var/lib/dpkg/status.d/base.md5sums": b"0123  x\n",
            "var/lib/dpkg/status.d/libc6": b"Package: libc6\nVersion: 2.36-9\nArchitecture: amd64\nSource: glibc\n",
        }
    )
    database = read_database(tree)
    assert [(package.name, package.source, package.status) for package in database.packages] == [
        ("base-files", "base-files", "installed"),
        ("libc6", "glibc", "installed"),
    ]
    assert not database.problems


def test_no_database_is_not_an_empty_one() -> None:
    assert not read_database(tree_of({"var/lib/dpkg/info/x.list": b""})).found
    empty = read_database(tree_of({"var/lib/dpkg/status": b""}))
    assert empty.found
    assert empty.problems == ("/var/lib/dpkg/status is empty (0 bytes): the packages are unknown",)


def database_of(status: bytes) -> Database:
    """Return the database that consists of this status file."""
    return read_database(tree_of({"var/lib/dpkg/status": status}))


class TestCorrupt:
    def test_a_file_of_zeros_after_a_crash_is_a_problem(self) -> None:
        database = database_of(bytes(4096))
        assert database.problems == ("/var/lib/dpkg/status is empty (4096 bytes): the packages are unknown",)

    def test_every_truncation_but_one_between_two_packages_is_told(self) -> None:
        for length in range(len(STATUS) - 1):
            cut = STATUS[:length]
            assert database_of(cut).problems or cut.endswith(b"\n\n"), f"cut at {length}"

    def test_a_cut_file_still_gives_what_lies_before_the_cut(self) -> None:
        database = database_of(STATUS[: STATUS.index(b"Package: multi")])
        cut = database_of(STATUS[: STATUS.index(b"Package: multi") + 18])
        assert [package.name for package in cut.packages] == [package.name for package in database.packages]
        assert (
            cut.problems[0]
            == "/var/lib/dpkg/status line 29: the end lacks dpkg's blank line, the file may be cut off"
        )

    def test_missing_fields_are_told_with_their_line(self) -> None:
        text = (
            STATUS
            + b"Status: install ok installed\nVersion: 1\n\nPackage: x\nVersion: 1\n\nPackage: y\nStatus: install ok installed\n\n"
        )
        database = database_of(text)
        line = STATUS.count(b"\n") + 1
        assert database.problems == (
            f"/var/lib/dpkg/status line {line}: a package without the field Package was left out",
            f"/var/lib/dpkg/status line {line + 3}: a package without the field Status was left out",
            f"/var/lib/dpkg/status line {line + 6}: y: no version is recorded",
        )
        assert "y" in [package.name for package in database.packages]

    def test_a_package_recorded_twice_where_dpkg_refuses_is_told_and_the_later_one_counts(self) -> None:
        again = STATUS + b"Package: plain\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\n\n"
        database = database_of(again)
        line = STATUS.count(b"\n") + 1
        assert [package.version for package in database.packages if package.name == "plain"] == ["2"]
        assert database.problems == (f"/var/lib/dpkg/status line {line}: plain is recorded twice",)

    def test_nul_bytes_and_odd_characters_are_told_and_kept(self) -> None:
        text = b"Package: a\0b\nStatus: install ok installed\nVersion: 1\n\nPackage: c\nStatus: install ok installed\nVersion: 1\xff2\n\n"
        database = database_of(text)
        assert [(package.name, package.version) for package in database.packages] == [
            ("a\0b", "1"),
            ("c", "1\udcff2"),
        ]
        assert len(database.problems) == 2

    def test_an_unknown_state_counts_as_present_and_is_told(self) -> None:
        database = database_of(b"Package: a\nStatus: install ok flying\nVersion: 1\n\n")
        assert [package.status for package in database.packages] == ["flying"]
        assert "unknown state 'flying'" in database.problems[0]

    def test_problems_are_bounded_and_counted(self) -> None:
        database = database_of(b"Package: a\n\n" * 1000)
        assert len(database.problems) == MAX_PROBLEMS + 1
        assert database.problems[-1] == f"dpkg: {1000 - MAX_PROBLEMS} more problems of this kind"

    def test_a_status_file_that_cannot_be_read_is_a_problem_and_the_journal_still_counts(self) -> None:
        tree = tree_of({"var/lib/dpkg/status": Broken(), "var/lib/dpkg/updates/0000": UPDATES["0003"]})
        database = read_database(tree)
        assert [package.name for package in database.packages] == ["fresh"]
        assert database.problems[0].startswith("/var/lib/dpkg/status could not be read: ")

    def test_a_field_without_end_is_cut(self) -> None:
        database = database_of(b"Package: a\nStatus: install ok installed\nVersion: " + b"1" * 9999 + b"\n\n")
        assert len(database.packages[0].version) == 1024
        assert "a version of 9999 bytes was cut" in database.problems[0]


def test_a_flipped_byte_never_loses_a_package_silently() -> None:
    whole = database_of(STATUS)
    names = {(package.name, package.architecture) for package in whole.packages}
    rolls = random.Random(7)
    silent = 0
    for _ in range(2000):
        position = rolls.randrange(len(STATUS))
        flipped = bytearray(STATUS)
        flipped[position] ^= 1 << rolls.randrange(8)
        database = database_of(bytes(flipped))
        left = {(package.name, package.architecture) for package in database.packages}
        silent += len(left) < len(names) and not database.problems
    assert silent < 20  # a state or a separator that became another valid one cannot be told


def test_a_big_database_is_read_in_milliseconds() -> None:
    stanza = STATUS.split(b"\n\n")[1] + b"\n Some words of a description that nobody reads." * 100
    text = b"".join(stanza.replace(b"binnmu", b"p%d" % number) + b"\n\n" for number in range(500))
    assert len(text) > 2_400_000
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert len(database_of(text).packages) == 500
        times.append(time.perf_counter() - start)
    assert min(times) < 0.060  # 6 ms on an idle machine


LINES = st.sampled_from(
    [
        b"Package: a", b"Package:b", b"Status: install ok installed", b"Status: deinstall ok config-files",
        b"Version: 1:2-3", b"Source: s (1)", b"Source: (", b"Architecture: all", b"", b" x", b"\0", b"Status:", b"\xff:",
    ]
)  # fmt: skip


@given(st.binary(max_size=300) | st.lists(LINES, max_size=30).map(b"\n".join))
def test_any_bytes_give_packages_and_problems(untrusted: bytes) -> None:
    database = database_of(untrusted)
    assert all(isinstance(package, Package) and package.name for package in database.packages)
    assert database.packages or database.problems or b"config-files" in untrusted


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_journal_gives_an_answer(status: bytes, update: bytes) -> None:
    read_database(tree_of({"var/lib/dpkg/status": status, "var/lib/dpkg/updates/0001": update}))
