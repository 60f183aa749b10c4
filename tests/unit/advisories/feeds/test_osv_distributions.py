"""OSV records of rpm's distributions and of Alpine: which packages, of which stream, in which versions."""

import json

import pytest
from feedfixtures import parsed, refusal, zipped

from undercroft.advisories.feeds.osv import MIN_LISTED_RECORDS, parse_archive, parse_record
from undercroft.advisories.feeds.osv_subjects import modules_in
from undercroft.advisories.feeds.releases import osv_release
from undercroft.model.finding import Severity


def affected(name: str, fixed: str, ecosystem: str = "AlmaLinux:9", **more: object) -> dict[str, object]:
    events = [{"introduced": "0"}, {"fixed": fixed}]
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges} | more


def record(*packages: dict[str, object], ident: str = "ALSA-2024:1", **more: object) -> bytes:
    document = {
        "id": ident,
        "summary": "Important: openssl security update",
        "affected": packages,
        "related": ["CVE-2024-0001"],
        "published": "2024-05-01T00:00:00Z",
        "modified": "2024-05-02T00:00:00Z",
    }
    return json.dumps(document | more).encode()


def said(data: bytes) -> set[tuple[str, str, str]]:
    return {(item.release, item.source, item.fixed_version) for item in parsed(parse_record, data)[1]}


@pytest.mark.parametrize(
    ("ecosystem", "release"),
    [
        ("AlmaLinux:9", ("alma:9", "")),
        ("Rocky Linux:8", ("rocky:8", "")),
        ("Red Hat:enterprise_linux:9::appstream", ("rhel:9", "")),
        ("openSUSE:Leap 15.6", ("opensuse-leap:15.6", "")),
        ("openSUSE:Tumbleweed", ("opensuse-tumbleweed", "")),
        ("SUSE:Linux Enterprise Server 15 SP5", ("sles:15.5", "")),
        ("SUSE:Linux Enterprise Module for Basesystem 15 SP5", ("sles:15.5", "")),
        ("SUSE:Linux Enterprise Server 15 SP4-LTSS", ("sles:15.4", "ltss")),
        ("SUSE:Linux Enterprise Module for Web and Scripting 12", ("sles:12.5", "")),
        ("SUSE:Linux Enterprise Server 12", ("sles:12", "")),
        ("SUSE:Linux Enterprise Server for SAP Applications 12 SP5", ("sles:12.5", "")),
        ("Alpine:v3.19", ("alpine:3.19", "")),
        ("Alpine:edge", ("alpine:edge", "")),
        ("Red Hat:rhel_eus:9.2::appstream", None),
        ("SUSE:Linux Enterprise Live Patching 15 SP5", None),
        ("AlmaLinux", None),
        ("Rocky Linux:9; x", None),
        ("Alpine:v3", None),
    ],
)
def test_an_ecosystem_is_a_release_or_passed_over(ecosystem: str, release: tuple[str, str] | None) -> None:
    assert osv_release(ecosystem) == release


def test_almalinux_names_binary_packages_and_rocky_both_kinds() -> None:
    assert said(record(affected("openssl-libs", "1:3.0.7-1.el9"))) == {
        ("alma:9", "binary:openssl-libs", "1:3.0.7-1.el9")
    }
    assert said(record(affected("openssl", "1:3.0.7-1.el9", "Rocky Linux:9"))) == {
        ("rocky:9", "binary:openssl", "1:3.0.7-1.el9"),
        ("rocky:9", "openssl", "1:3.0.7-1.el9"),
    }


def test_a_sigs_build_says_nothing_of_everybodys_package() -> None:
    cloud = affected("kernel", "0:4.18.0-425.10.1.el8_7.cloud", "Rocky Linux:8")
    purl = "pkg:rpm/rocky-linux/kernel?distro=rocky-linux-8-sig-cloud&epoch=0"
    cloud["package"] = {"ecosystem": "Rocky Linux:8", "name": "kernel", "purl": purl}
    plain = affected("kernel", "0:4.18.0-425.10.1.el8_7", "Rocky Linux:8")
    assert {fixed for _, _, fixed in said(record(cloud, plain))} == {"0:4.18.0-425.10.1.el8_7"}


def test_a_module_is_named_by_the_summary_and_else_any() -> None:
    modular = affected("npm", "1:8.19.2-1.18.12.1.1.module_el9.1.0+16+91bc168f")
    named = record(modular, affected("plain", "1.0-1.el9"), summary="Moderate: nodejs:18 security update")
    assert {source for _, source, _ in said(named)} == {"binary:npm@nodejs:18", "binary:plain"}
    assert {source for _, source, _ in said(record(modular))} == {"binary:npm@*"}


@pytest.mark.parametrize(
    ("summary", "modules"),
    [
        ("Moderate: nodejs:18 security, bug fix, and enhancement update", ("nodejs:18",)),
        ("Important: virt:rhel and virt-devel:rhel security update", ("virt:rhel", "virt-devel:rhel")),
        ("Important: container-tools:4.0 security update", ("container-tools:4.0",)),
        ("Important: kernel security update", ()),
        ("", ()),
    ],
)
def test_modules_are_read_from_a_summary(summary: str, modules: tuple[str, ...]) -> None:
    assert modules_in(summary) == modules


def test_suse_lists_binaries_with_versions_of_their_own() -> None:
    leap = affected(
        "perl",
        "5.26.1-1",
        "openSUSE:Leap 15.6",
        ecosystem_specific={"binaries": [{"perl": "5.26.1-1", "perl-base": "5.26.1-2"}]},
    )
    bare = affected("zlib", "1.3-1", "SUSE:Linux Enterprise Server 15 SP6")
    assert said(record(leap, bare, ident="SUSE-SU-2024:1-1")) == {
        ("opensuse-leap:15.6", "binary:perl", "5.26.1-1"),
        ("opensuse-leap:15.6", "binary:perl-base", "5.26.1-2"),
        ("opensuse-leap:15.6", "perl", "5.26.1-1"),
        ("sles:15.6", "zlib", "1.3-1"),
    }


def test_an_erratums_rating_is_its_severity_where_no_score_is_given() -> None:
    (advisory,) = parsed(parse_record, record(affected("openssl", "1-1")))[1]
    assert (advisory.severity, advisory.severity_source) == (Severity.HIGH, "alma:erratum")
    vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:N/A:N"
    scored = record(affected("openssl", "1-1"), severity=[{"type": "CVSS_V3", "score": vector}])
    assert parsed(parse_record, scored)[1][0].severity is Severity.MEDIUM
    unrated = record(affected("openssl", "1-1"), summary="openssl update")
    assert parsed(parse_record, unrated)[1][0].severity_source == ""


def archive(count: int, *more: bytes) -> bytes:
    documents = {f"{n}.json": record(affected("a", f"{n}-1"), ident=f"ALSA-2024:{n}") for n in range(count)}
    return zipped(documents | {f"more{n}.json": document for n, document in enumerate(more)})


def test_an_archive_lists_a_releases_fixes_and_a_few_records_do_not() -> None:
    header = parsed(parse_archive, archive(MIN_LISTED_RECORDS))[0].header
    assert (header.name, header.releases) == ("osv:AlmaLinux", ("alma:9",))
    assert (header.listed_for, header.complete_for) == (("alma:9",), ())
    assert parsed(parse_archive, archive(MIN_LISTED_RECORDS - 1))[0].header.listed_for == ()


def test_an_archive_speaks_for_the_ecosystem_that_all_of_its_records_share() -> None:
    both = record(
        affected("a", "1-1", "SUSE:Linux Enterprise Server 15 SP6"),
        affected("a", "1-1", "openSUSE:Leap 15.6"),
        ident="SUSE-SU-2024:1-1",
    )
    one = record(affected("b", "1-1", "SUSE:Linux Enterprise Server 15 SP5"), ident="SUSE-SU-2024:2-1")
    unread = record(
        affected("a", "1-1", "SUSE:Linux Enterprise Micro 5.5"),
        affected("a", "1-1", "openSUSE:Leap 15.6"),
        ident="SUSE-SU-2024:3-1",
    )
    feed, records = parsed(parse_archive, zipped({"a.json": both, "b.json": one, "c.json": unread}))
    assert feed.header.name == "osv:SUSE"
    assert {item.release for item in records} == set(feed.header.releases) == {"sles:15.5", "sles:15.6"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (record(affected("../etc", "1-1")), "is not a package name"),
        (record(affected("a", "1 1")), "is not a version"),
        (
            record(affected("a", "1-1", "openSUSE:Leap 15.6", ecosystem_specific={"binaries": ["a"]})),
            "expected an object",
        ),
        (record({"package": {"ecosystem": "AlmaLinux:9"}}), "is not a package name"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, message: str) -> None:
    assert message in refusal(parse_record, data)
