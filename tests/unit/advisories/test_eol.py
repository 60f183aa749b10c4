"""End of life against the distributions' own table, and at the edges of each day."""

import csv
from datetime import date, timedelta
from pathlib import Path

import pytest

from undercroft.advisories.eol import end_of_life
from undercroft.model.inventory import OsRelease

TABLES = Path("/usr/share/distro-info")
DAY = date(2026, 3, 7)


def system(ident: str, version: str, codename: str = "") -> OsRelease:
    return OsRelease(ident, version, codename, f"{ident} {version}", "/etc/os-release")


@pytest.mark.parametrize(
    ("on", "state"),
    [
        (date(2026, 7, 11), "supported"),
        (date(2026, 7, 12), "extended"),
        (date(2028, 6, 30), "extended"),
        (date(2028, 7, 1), "ended"),
    ],
)
def test_debian_12_goes_from_supported_to_extended_to_ended(on: date, state: str) -> None:
    assert end_of_life(system("debian", "12", "bookworm"), on).state == state


def test_an_interim_release_has_no_extended_support() -> None:
    lifetime = end_of_life(system("ubuntu", "23.10"), DAY)
    assert (lifetime.ends_on, lifetime.extended_ends_on, lifetime.state) == (date(2024, 7, 11), None, "ended")


@pytest.mark.parametrize(
    ("ident", "version", "last", "state"),
    [
        ("almalinux", "8.10", date(2029, 5, 31), "ended"),
        ("rocky", "10.1", date(2035, 5, 31), "ended"),
        ("rhel", "7.9", date(2024, 6, 30), "extended"),
        ("rhel", "7.9", date(2029, 5, 31), "ended"),
        ("centos", "7", date(2024, 6, 30), "ended"),
        ("opensuse-leap", "15.6", date(2026, 4, 30), "ended"),
        ("sles", "15.6", date(2025, 12, 31), "extended"),
        ("sles", "15.6", date(2028, 12, 31), "ended"),
        ("sles", "15.7", date(2031, 7, 31), "ended"),
        ("ol", "9.4", date(2032, 6, 30), "ended"),
        ("fedora", "42", date(2026, 5, 13), "ended"),
        ("amzn", "2023", date(2029, 6, 30), "ended"),
        ("alpine", "3.23.3", date(2027, 11, 1), "ended"),
    ],
)
def test_others_end_with_the_days_that_their_publishers_say(
    ident: str, version: str, last: date, state: str
) -> None:
    os = system(ident, version)
    assert end_of_life(os, last).state != state
    assert end_of_life(os, last + timedelta(days=1)).state == state


@pytest.mark.parametrize(
    "os",
    [
        None,
        system("debian", "99"),
        system("debian", "", "forky"),
        system("ubuntu", "30.04"),
        system("arch", ""),
        system("opensuse-tumbleweed", "20260101"),
        system("alpine", "3.24.0_alpha20260101"),
        system("almalinux", "11.0"),
        system("raspbian", "12", "bookworm"),
        system("", ""),
    ],
)
def test_a_release_that_the_table_does_not_hold_is_unknown(os: OsRelease | None) -> None:
    lifetime = end_of_life(os, DAY)
    assert (lifetime.ends_on, lifetime.extended_ends_on, lifetime.state) == (None, None, "unknown")


@pytest.mark.skipif(not TABLES.is_dir(), reason="needs the tables of the package distro-info-data")
@pytest.mark.parametrize(
    ("distribution", "extended", "oldest"), [("debian", "eol-lts", 8.0), ("ubuntu", "eol-esm", 14.04)]
)
def test_every_date_is_that_of_the_distributions_own_table(
    distribution: str, extended: str, oldest: float
) -> None:
    with (TABLES / f"{distribution}.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["version"] and row.get("eol")]
    compared = 0
    for row in rows:
        version = row["version"].removesuffix(" LTS")
        if float(version) < oldest or date.fromisoformat(row["release"]) > DAY:
            continue
        lifetime = end_of_life(system(distribution, version), DAY)
        assert str(lifetime.ends_on) == row["eol"], version
        assert str(lifetime.extended_ends_on or "") == (row.get(extended) or ""), version
        compared += 1
    assert compared >= 6
