"""Lists of packages, files and feeds."""

from datetime import UTC, datetime

import reports
from reports import inventory, package

from undercroft.cli.render.listing import render_feeds, render_files, render_packages
from undercroft.cli.render.terminal import Terminal
from undercroft.model.job import FileEntry

PIPE = Terminal()


def test_packages_name_their_source_where_it_differs() -> None:
    text = render_packages(
        inventory(package("openssl", "3.0-1"), package("libssl3", "3.0-1", "openssl")), PIPE
    )
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["openssl", "3.0-1", "amd64", "installed"],
        ["libssl3", "3.0-1", "amd64", "openssl", "installed"],
    ]


def test_an_incomplete_inventory_says_so_below_its_packages() -> None:
    text = render_packages(inventory(problems=("vda2 was not read: XFS is not supported",)), PIPE)
    assert "No package was found." in text
    assert "INCOMPLETE  packages may be missing" in text
    assert "XFS is not supported" in text


def test_files_look_like_those_of_ls() -> None:
    entries = [
        FileEntry("bin", "symlink", 0o120777, 7, 0, 0, 1_700_000_000, "usr/bin"),
        FileEntry("etc", "directory", 0o40755, 4096, 0, 0, 1_700_000_000),
        FileEntry(reports.EVIL, "regular", 0o104755, 12, 1000, 33, 1_700_000_000),
    ]
    assert (
        render_files(entries, PIPE).splitlines()
        == [
            "",
            "lrwxrwxrwx     0   0     7  2023-11-14 22:13  bin → usr/bin",
            "drwxr-xr-x     0   0  4096  2023-11-14 22:13  etc",
            "-rwsr-xr-x  1000  33    12  2023-11-14 22:13  evil\\u001B[31m\\u202E\\xFF[bold]\\\\\\u000A",
        ][1:]
    )


def test_a_time_beyond_the_calendar_is_no_error() -> None:
    entries = [FileEntry("x", "regular", 0o644, 1, 0, 0, 1 << 62), FileEntry("y", "fifo", 0o644, 1, 0, 0, -5)]
    assert render_files(entries, PIPE).count("?") == 2


def test_feeds_show_age_and_staleness() -> None:
    text = render_feeds(reports.FEEDS, PIPE, datetime(2025, 6, 1, 12, tzinfo=UTC))
    assert "debian-tracker   41,233     3 h" in text
    assert "(too old)" in text.splitlines()[3]
    assert "not signed" in text


def test_without_feeds_the_way_to_get_some_is_told() -> None:
    assert "undercroft feeds update" in render_feeds((), PIPE, reports.NOW)
