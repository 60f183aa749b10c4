"""Ways in which a vulnerable package could come out clean: each of these tests once found one that did."""

import json

import pytest
from advisorydata import NOW, edition, header, inventory, statement
from feedfixtures import parsed

from undercroft.advisories.families import language_subject
from undercroft.advisories.feeds import alpine_secdb, arch
from undercroft.advisories.feeds.csaf_products import release_of
from undercroft.advisories.feeds.osv import parse_record
from undercroft.advisories.knowledge import gather
from undercroft.advisories.match import assess
from undercroft.advisories.orders.table import APK, PEP440
from undercroft.advisories.records import Advisory, Status, subject_name
from undercroft.advisories.verdict import claim
from undercroft.model.finding import Assessment, FixState
from undercroft.model.inventory import OsRelease, Package

RHEL = header("redhat-vex", ("rhel:7",), complete=True)
OS = OsRelease("rhel", "7.9", "", "Red Hat Enterprise Linux Server 7.9 (Maipo)", "/etc/os-release")


def rpm(name: str, version: str, source: str = "", source_version: str = "") -> Package:
    return Package("rpm", name, version, "x86_64", source or name, source_version or version)


def said(name: str, fixed: str = "", *, binary: bool = True, **fields: object) -> Advisory:
    return statement(RHEL, subject_name(name, binary=binary), "CVE-2026-0001", fixed, **fields)


def answer(packages: list[Package], *statements: Advisory, os: OsRelease = OS) -> Assessment:
    known = gather("rhel:7", [(edition(RHEL, 5), list(statements))])
    return assess(inventory(*packages, os=os), known, now=NOW)


def fixes(packages: list[Package], *statements: Advisory) -> list[tuple[FixState, str]]:
    return [(found.fix, found.fixed_version) for found in answer(packages, *statements).findings]


def test_another_minor_releases_fix_does_not_clear_a_kernel_that_names_no_minor_release() -> None:
    aus = said("kernel", "3.10.0-957.70.1.el7", stream="aus")
    everybody = said("kernel", "3.10.0-1160.15.2.el7")
    found = fixes([rpm("kernel", "3.10.0-1160.10.1.el7")], everybody, aus)
    assert found == [(FixState.FIXABLE, "3.10.0-1160.15.2.el7")]
    assert fixes([rpm("kernel", "3.10.0-1160.15.2.el7")], everybody, aus) == []


def test_a_fix_for_subscribers_alone_leaves_older_builds_affected() -> None:
    els = said("openssl", "1.0.2k-27.el7_9", stream="els")
    found = fixes([rpm("openssl", "1.0.2k-16.el7")], els)
    assert found == [(FixState.NEEDS_SUBSCRIPTION, "1.0.2k-27.el7_9")]


def test_a_fix_for_subscribers_does_not_go_before_what_is_open_in_the_source() -> None:
    installed = rpm("openssl-libs", "1.0.2k-4.el7_8", "openssl", "1.0.2k-4.el7_8")
    eus = said("openssl-libs", "1.0.2k-2.el7_6", stream="eus")
    assert fixes([installed], eus, said("openssl", binary=False)) == [(FixState.UNFIXED, "")]
    cleared = said("openssl", binary=False, status=Status.NOT_AFFECTED)
    assert fixes([installed], eus, cleared) == []


def test_a_second_fix_of_one_minor_release_counts_beside_its_streams_first() -> None:
    statements = [said("a", "1.0-3.el7_6", stream="eus"), said("a", "1.0-5.el7_6")]
    assert fixes([rpm("a", "1.0-3.el7_6")], *statements) == [(FixState.FIXABLE, "1.0-5.el7_6")]


def test_a_stream_is_fixable_although_everybody_is_not_affected() -> None:
    statements = [said("a", "1.0-3.el7_6", stream="eus"), said("a", status=Status.NOT_AFFECTED)]
    found = fixes([rpm("a", "1.0-2.el7_6")], *statements)
    assert found == [(FixState.NEEDS_SUBSCRIPTION, "1.0-3.el7_6")]


def test_versions_of_one_name_from_two_sources_are_judged_each_by_its_own() -> None:
    installed = [rpm("lib", "1-1.el7", "old"), rpm("lib", "2-1.el7", "new")]
    statements = [said("old", "1-1.el7", binary=False), said("new", "2-2.el7", binary=False)]
    assert fixes(installed, *statements) == [(FixState.FIXABLE, "2-2.el7")]


def test_one_packages_epoch_does_not_lift_the_others_of_its_source_above_their_fix() -> None:
    installed = [rpm("a-x", "1:1.0-1.el7", "a", "1.0-1.el7"), rpm("a-y", "1.0-1.el7", "a", "1.0-1.el7")]
    for order in (installed, installed[::-1]):
        (found,) = answer(order, said("a", "1.0-2.el7", binary=False)).findings
        assert "a-y" in found.packages


def test_packages_of_another_kind_of_system_than_the_guest_says_it_is_are_a_problem() -> None:
    deb = Package("dpkg", "openssl", "3.0.0-1", "amd64", "openssl", "3.0.0-1")
    problems = answer([rpm("a", "1-1.el7"), deb], said("a", "1-1.el7")).problems
    assert any("1 packages of dpkg are not what rhel:7 is made of" in problem for problem in problems)
    assert not answer([rpm("a", "1-1.el7")], said("a", "1-1.el7")).problems


def pip(*ranges: tuple[str, str]) -> list[Advisory]:
    events = [
        {"type": "ECOSYSTEM", "events": [{"introduced": first}, {"fixed": fixed}]} for first, fixed in ranges
    ]
    document = {
        "id": "GHSA-aaaa-bbbb-cccc",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "a"}, "ranges": events}],
        "modified": "2025-01-01T00:00:00Z",
    }
    return list(parsed(parse_record, json.dumps(document).encode())[1])


def pip_claim(version: str, *ranges: tuple[str, str]) -> str | None:
    found = claim("osv:PyPI", pip(*ranges), version, PEP440)
    return None if found is None else found.fixed_version


def test_a_second_range_that_begins_where_the_first_ends_is_a_fault_of_its_own() -> None:
    assert pip_claim("1.5", ("0", "1.5"), ("1.5", "1.6")) == "1.6"
    assert pip_claim("1.6", ("0", "1.5"), ("1.5", "1.6")) is None


def test_an_installed_version_that_is_none_is_not_below_the_first_that_is_affected() -> None:
    assert pip_claim("1.0-vendor_build", ("0.5", "2.0")) == "2.0"
    assert pip_claim("0.4", ("0.5", "2.0")) is None


def test_a_fix_that_is_no_version_fixes_none() -> None:
    (one,) = pip(("0", "2.x-branch"))
    assert (one.source, one.status) == (language_subject("pypi", "a"), Status.UNDETERMINED)
    assert pip_claim("1.0", ("0", "2.x-branch")) == ""


def test_many_vulnerabilities_in_one_text_of_secdb_are_all_read() -> None:
    names = [f"CVE-2024-{number}" for number in range(10_000, 10_060)]
    packages = [{"pkg": {"name": "a", "secfixes": {"1-r0": [" ".join(names)]}}}]
    document = {"distroversion": "v3.19", "reponame": "main", "packages": packages}
    _, records = parsed(alpine_secdb.parse, json.dumps(document).encode())
    assert [record.vulnerability for record in records] == names


def test_slips_of_the_pen_in_secdb_hide_nothing() -> None:
    secfixes = {"4.10-1-r1": ["CVE-2018-8897 XSA-260"], "8-r0": ["CVE-2019-1000 CVE_2019-2426"]}
    packages = [{"pkg": {"name": "a", "secfixes": secfixes}}]
    document = {"distroversion": "v3.19", "reponame": "main", "packages": packages}
    _, records = parsed(alpine_secdb.parse, json.dumps(document).encode())
    assert [(record.vulnerability, record.status) for record in records] == [
        ("CVE-2018-8897", Status.UNDETERMINED),
        ("CVE-2019-1000", Status.FIXED),
        ("CVE-2019-2426", Status.FIXED),
    ]
    assert claim("alpine-secdb", records[:1], "4.10.0-r0", APK) is not None


def test_a_group_of_arch_speaks_for_the_packages_of_its_build_that_it_does_not_name() -> None:
    group = {
        "name": "AVG-1",
        "packages": ["systemd"],
        "status": "Vulnerable",
        "severity": "High",
        "issues": ["CVE-2026-0001"],
    }
    _, records = parsed(arch.parse, json.dumps([group]).encode())
    known = gather("arch", [(edition(header("arch", ("arch",), complete=True)), records)])
    libs = Package("pacman", "systemd-libs", "257-1", "x86_64", "systemd", "257-1")
    state = inventory(libs, os=OsRelease("arch", "", "", "Arch Linux", ""))
    (found,) = assess(state, known, now=NOW).findings
    assert found.packages == ("systemd-libs",)


@pytest.mark.parametrize("name", ["rhel_eus", "enterprise_linux_eus"])
def test_a_stream_is_known_by_its_old_and_its_new_cpe(name: str) -> None:
    assert release_of(f"cpe:/o:redhat:{name}:10.0") == ("rhel:10", "eus")
