"""Which rpms are of the release that has them, by what their builds say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from advisorydata import assessed, header, inventory, statement

from undercroft.advisories.origins import foreign
from undercroft.advisories.records import subject_name
from undercroft.model.finding import Assessment
from undercroft.model.inventory import OsRelease, Package

ALMA = "alma:9"
OS = OsRelease("almalinux", "9.4", "", "AlmaLinux 9.4 (Seafoam Ocelot)", "/etc/os-release")
FIXED = "1:3.0.7-25.el9_3"
ERRATA = header("osv:AlmaLinux", (ALMA,))
FEED = (ERRATA, [statement(ERRATA, subject_name("openssl", binary=True), "CVE-2026-1", FIXED)])


def rpm(version: str, name: str = "openssl", vendor: str = "") -> Package:
    return Package("rpm", name, version, "x86_64", name, version, origin=vendor)


def answer(*packages: Package) -> Assessment:
    return assessed(inventory(*packages, os=OS), FEED, release=ALMA)


@pytest.mark.parametrize(
    "version",
    [
        "1:3.0.7-99.el8",
        "1:3.0.7-99.el10",
        "1:3.2.1-2.fc39",
        "1:3.0.7-99.el9.rocky.1",
        "1:3.0.7-99.module_el8.9.0+1+aa",
        "1:3.0.7-99",
        "999:1",
        "1:3.0.7-99.el8.el9",
    ],
)
def test_another_builds_version_above_the_fix_is_not_silently_fixed(version: str) -> None:
    found = answer(rpm(version))
    assert found.findings == (), "control: by its order alone it passes for fixed"
    assert [item.package for item in found.unassessed] == ["openssl"]


def test_another_builds_version_below_the_fix_stays_a_finding() -> None:
    found = answer(rpm("1:3.0.1-1.el8"))
    assert [item.vulnerability for item in found.findings] == ["CVE-2026-1"]
    assert len(found.unassessed) == 1


@pytest.mark.parametrize(
    "version", [FIXED, "1:3.0.7-25.el9_3.alma.1", "1:3.0.7-25.module_el9.1.0+16+91bc168f", "3.0-1.el9.1"]
)
def test_what_the_publisher_builds_is_assessed(version: str) -> None:
    assert answer(rpm(version, vendor="AlmaLinux")).unassessed == ()


def test_a_package_of_another_publisher_is_unassessed_and_not_unfixed() -> None:
    found = answer(
        rpm("2.0-1.el9", "nagios", "Fedora Project"), rpm("1:3.0.7-99.el9", vendor="Evil \x1b[2J" * 9)
    )
    assert found.findings == ()
    assert [(item.package, item.reason[:28]) for item in found.unassessed] == [
        ("nagios", "its vendor is Fedora Project"),
        ("openssl", "its vendor is Evil \x1b[2JEvil "),
    ]


@pytest.mark.parametrize(
    ("release", "version", "vendor", "reason"),
    [
        ("rhel:9", "1-1.el9_4", "Red Hat, Inc.", ""),
        ("rhel:9", "1-1.module+el9.4.0+1+aa", "Red Hat, Inc.", ""),
        ("rhel:9", "1-1.el9.alma.1", "", "built by alma, not by Red Hat Enterprise Linux"),
        ("rocky:8", "1-1.el8_10.rocky.0.1", "Rocky Enterprise Software Foundation", ""),
        ("rocky:8", "1-1.el8", "Red Hat, Inc.", "its vendor is Red Hat, Inc., not Rocky Linux's"),
        ("centos:7", "1-1.el7.centos.2", "CentOS", ""),
        ("centos-stream:9", "1-1.el9", "CentOS", ""),
        ("oracle:9", "1-1.0.1.el9", "Oracle America", ""),
        ("oracle:9", "1-1.el9uek", "Oracle America", ""),
        (
            "oracle:9",
            "8.0-1.el9",
            "Oracle and/or its affiliates",
            "its vendor is Oracle and/or its affiliates, not",
        ),
        ("amazon:2", "1-1.amzn2.0.1", "Amazon Linux", ""),
        ("amazon:2023", "1-1.amzn2", "Amazon Linux", "built for amzn2, not for amazon:2023"),
        ("amazon:2", "1-1.el7", "Fedora Project", "built for el7, not for amazon:2"),
        ("fedora:40", "1-1.fc39", "Fedora Project", ""),
        ("fedora:40", "1-1.fc41", "Fedora Project", "built for fc41, not for fedora:40"),
        ("opensuse-leap:15.6", "1-150600.3.1", "SUSE LLC <https://www.suse.com/>", ""),
        ("opensuse-leap:15.6", "1-lp156.2.1", "openSUSE", ""),
        ("sles:15.6", "1-1.el9", "", "built for el9, not for sles:15.6"),
        (
            "sles:15.6",
            "1-1",
            "http://packman.links2linux.de",
            "its vendor is http://packman.links2linux.de, not",
        ),
        ("debian:12", "1-1.el9", "", ""),
    ],
)
def test_each_family_knows_its_own_builds(release: str, version: str, vendor: str, reason: str) -> None:
    found = foreign(release, rpm(version, vendor=vendor))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_epels_packages_are_assessed_where_its_errata_are_imported() -> None:
    nagios = rpm("2.0-1.el9", "nagios", "Fedora Project")
    assert foreign(ALMA, nagios, ["osv:AlmaLinux"])
    assert foreign(ALMA, nagios, ["osv:AlmaLinux", "updateinfo:epel:9:epel"]) == ""
    assert foreign(ALMA, rpm("2.0-1.fc39", "nagios", "Fedora Project"), ["updateinfo:epel:9:epel"])


def test_a_machine_that_calls_itself_another_release_is_not_clean() -> None:
    older = header("osv:AlmaLinux:8", ("alma:8",), complete=True)
    feed = (older, [statement(older, subject_name("openssl", binary=True), "CVE-2026-1", "1:1.1.1k-12.el8")])
    packages = [rpm("1:3.0.1-1.el9"), rpm("5.1.8-6.el9", "bash"), rpm("2.0-1.el8", "tree")]

    def problems(version: str) -> list[str]:
        state = inventory(*packages, os=replace(OS, version=version))
        found = assessed(state, feed, release="alma:8")
        assert found.findings == (), "control: nothing of 8 is above a version of 9"
        return [problem for problem in found.problems if "not builds of" in problem]

    assert problems("8.10") == [
        "2 of 3 packages are not builds of alma:8, which the system calls itself: whether they are affected "
        "is unknown"
    ]
    packages += [rpm("1.0-1.el8", f"own{number}") for number in range(2)]
    assert problems("8.10") == []


def test_keys_in_rpms_database_are_no_packages() -> None:
    assert foreign(ALMA, rpm("b86b3716-61e69f29", "gpg-pubkey")) == ""
    assert foreign(ALMA, replace(rpm("1-1.el8"), manager="pypi")) == ""


def test_a_real_machine_has_nothing_of_another_build(shared_data: Path) -> None:
    scanned = json.loads((shared_data / "machines" / "alma_9.json").read_text())["packages"].values()
    versions = [(item["name"], f"{item['version']}-{item['release']}") for item in scanned]
    assert [name for name, version in versions if foreign(ALMA, rpm(version, name))] == []
