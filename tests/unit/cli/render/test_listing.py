"""Lists of packages, files and feeds."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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
    assert [line.split() for line in text.splitlines()[4:]] == [
        ["openssl", "3.0-1", "amd64", "installed"],
        ["libssl3", "3.0-1", "amd64", "openssl", "installed"],
    ]


def test_the_manager_is_named_where_a_list_mixes_several() -> None:
    own, other = package("six", "1.16-4"), replace(package("six", "1.16"), manager="pypi", architecture="")
    rows = [line.split() for line in render_packages(inventory(own, other), PIPE).splitlines()[3:]]
    assert rows == [
        ["PACKAGE", "VERSION", "ARCH", "MANAGER", "SOURCE", "STATUS"],
        ["six", "1.16-4", "amd64", "dpkg", "installed"],
        ["six", "1.16", "pypi", "installed"],
    ]
    assert "MANAGER" not in render_packages(inventory(own), PIPE)


def test_packages_stand_below_the_state_its_system_and_its_kernels() -> None:
    text = render_packages(inventory(package("bash", "5.2-1")), PIPE, "web01.qcow2@before\n")
    assert text.splitlines()[:3] == [
        "web01.qcow2@before\\u000A",
        "web01: Debian GNU/Linux 12 (bookworm), 1 package",
        "1 kernel on the disk: 6.1.0-28-amd64; 6.1.0-28-amd64 starts next; 6.1.0-25-amd64 ran last",
    ]


def test_narrow_terminals_lose_the_status_that_all_have_but_no_name_and_no_version() -> None:
    long = package("a-package-with-a-very-long-name-indeed", "1:2.3.4~rc1+dfsg-5+deb12u6~bpo11+1", "source")
    text = render_packages(inventory(package("bash", "5.2-1"), long), Terminal(60))
    assert long.name in text
    assert long.version in text
    assert "STATUS" not in text
    unpacked = replace(long, status="unpacked")
    assert "unpacked" in render_packages(inventory(package("bash", "5.2-1"), unpacked), Terminal(60))


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
    assert [line.split("  ")[0] for line in text.splitlines()] == ["SOURCE", "debian-tracker", "kev", "epss"]
    assert re.search(r"debian-tracker +41,233 +3 h +0 min ", text)
    assert "(too old)" in text.splitlines()[3]
    assert "not signed" in text


def test_a_feed_without_a_date_has_none_and_one_that_never_ages_no_end() -> None:
    changelogs = replace(
        reports.MIRROR[0], name="changelogs:debian:12", valid_until=reports.NOW + timedelta(days=3650)
    )
    row = render_feeds((changelogs,), PIPE, reports.NOW + timedelta(hours=2)).splitlines()[1]
    assert row.split() == ["changelogs:debian:12", "3,016", "-", "2", "h", "20250601", "-", "not", "signed"]


def test_in_a_narrow_terminal_dates_stay_and_serials_go() -> None:
    lines = render_feeds((*reports.FEEDS, *reports.MIRROR), Terminal(92), reports.NOW).splitlines()
    assert all(len(line) <= 92 for line in lines)
    assert "VALID UNTIL" in lines[0]
    assert "SIGNED BY" not in lines[0], "none is signed"


def test_without_feeds_the_way_to_get_some_is_told() -> None:
    assert "undercroft feeds update" in render_feeds((), PIPE, reports.NOW)
