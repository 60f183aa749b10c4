"""updateinfo.xml: what each publisher writes, what is refused, and what a hostile document costs."""

import bz2
import gzip
import lzma
import tracemalloc
from datetime import date

import pytest
import zstandard
from erratadata import AMAZON, EPEL, FEDORA, ORACLE, ROCKY, SUSE, Rpm, erratum, filling, updateinfo
from feedfixtures import feed_input, parsed, refusal

from undercroft.advisories.feeds import updateinfo_xml
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.feeds.updateinfo import parse, repository_of
from undercroft.advisories.records import Advisory, Status
from undercroft.errors import InputError
from undercroft.model.finding import Severity


def read(*errata: str, **options: object):
    return parsed(parse_any, updateinfo(*errata), repository="repo", **options)


def refused(*errata: str, **options: object) -> str:
    return refusal(parse_any, updateinfo(*errata), **{"repository": "repo"} | options)


def test_an_erratum_of_oracles_speaks_of_each_package_and_vulnerability_once() -> None:
    feed, records = read(ORACLE)
    assert feed.header.name == "updateinfo:oracle:9:repo"
    assert feed.header.releases == ("oracle:9",)
    assert {(one.source, one.vulnerability) for one in records} == {
        (name, cve)
        for name in ("binary:libtiff", "binary:libtiff-devel", "libtiff")
        for cve in ("CVE-2022-2056", "CVE-2022-2057")
    }
    assert len(records) == 6
    assert records[0] == Advisory(
        feed="updateinfo:oracle:9:repo",
        release="oracle:9",
        source="binary:libtiff",
        vulnerability="CVE-2022-2056",
        advisory="ELSA-2023-0302",
        status=Status.FIXED,
        fixed_version="4.4.0-5.el9_1",
        published_on=date(2023, 1, 23),
        severity=Severity.MEDIUM,
        severity_source="oracle:erratum",
        title="ELSA-2023-0302: libtiff security update (MODERATE)",
    )


def test_fedora_names_vulnerabilities_in_the_titles_of_bugs() -> None:
    _, (record,) = read(FEDORA)
    assert (record.release, record.vulnerability) == ("fedora:43", "CVE-2025-26794")


def test_an_erratum_without_a_number_speaks_for_its_own_id() -> None:
    _, (record,) = read(erratum("FEDORA-2025-00aa", [Rpm("a", "1-1.fc43")], cves=()))
    assert (record.release, record.vulnerability) == ("fedora:43", "FEDORA-2025-00aa")


def test_epel_speaks_of_every_distribution_of_its_major_version_and_is_the_whole_list_of_none() -> None:
    errata = filling("FEDORA-EPEL-2020-", ".el9", ["sudo"])
    feed, records = read(EPEL, *errata)
    assert feed.header.name == "updateinfo:epel:9:repo"
    assert feed.header.releases == (
        *("alma:9", "centos-stream:9", "centos:9", "oracle:9", "rhel:9", "rocky:9"),
    )
    assert feed.header.listed_for == ()
    ansible = [one for one in records if one.source == "binary:ansible"]
    assert sorted(one.release for one in ansible) == list(feed.header.releases)
    assert {one.fixed_version for one in ansible} == {"1:9.2.0-1.el9"}


def test_amazon_and_suse_are_read_as_they_write() -> None:
    _, (record,) = read(AMAZON)
    assert (record.release, record.vulnerability) == ("amazon:2023", "CVE-2022-24903")
    _, (record,) = read(SUSE)
    assert (record.release, record.severity) == ("sles:15.4", Severity.HIGH)
    assert record.published_on == date(2022, 11, 8)
    _, (record,) = read(SUSE.replace("Module-Basesystem-15-SP4", "Product-SLES-15-SP3-LTSS"))
    assert (record.release, record.stream) == ("sles:15.3", "ltss")


def test_a_modules_packages_are_of_its_stream() -> None:
    _, records = read(ROCKY)
    assert {one.source for one in records} == {"binary:nodejs@nodejs:20", "binary:npm@nodejs:20"}
    _, records = read(ROCKY.replace('<module name="nodejs" stream="20"', '<x name="nodejs"'))
    assert {one.source for one in records} == {"binary:nodejs@*", "binary:npm@*"}


def test_lines_of_kernels_and_ksplices_builds_are_kept_apart() -> None:
    uek = Rpm("kernel-uek", "5.15.0-8.91.4.1.el9uek")
    _, records = read(erratum("ELSA-2023-1", [uek, Rpm("glibc", "2:2.34-60.0.2.ksplice1.el9")]))
    assert {one.source for one in records} == {"binary:kernel-uek@5.15", "binary:glibc@ksplice"}
    _, records = read(erratum("ALAS2KERNEL-5.10-2022-013", [Rpm("perf", "5.10.109-104.500.amzn2")]))
    assert {(one.release, one.source) for one in records} == {("amazon:2", "binary:perf@5.10")}


@pytest.mark.parametrize(
    ("ident", "fields", "scope"),
    [
        ("ELSA-2024-1", {"short": "ol8_baseos_latest"}, "oracle:8"),
        ("ELSA-2024-1", {}, "oracle:7"),
        ("ALSA-2024:1", {"name": "almalinux-9-for-x86_64-baseos-rpms"}, "alma:9"),
        ("RLSA-2024:1", {"name": "Rocky Linux 8 x86_64 BaseOS"}, "rocky:8"),
        ("FEDORA-2024-1a", {"name": "Fedora 41", "title": "f37-backgrounds-37.0-1.fc41"}, "fedora:41"),
        ("FEDORA-EPEL-2024-1a", {"release": "Fedora EPEL 10.1"}, "epel:10"),
        ("ALAS2-2018-951", {"name": "Amazon Linux"}, "amazon:2"),
        ("ALAS2DOCKER-2022-020", {"name": "Amazon Linux 2 - docker"}, "amazon:2"),
        ("openSUSE-SLE-15.4-2022-4047", {}, "opensuse-leap:15.4"),
        ("openSUSE-2022-12", {"release": "openSUSE Tumbleweed"}, "opensuse-tumbleweed"),
        ("SUSE-SLE-SERVER-12-SP5-2022-4047", {}, "sles:12.5"),
        ("SUSE-SLE-Product-SLES-15-2022-1", {}, "sles:15"),
    ],
)
def test_an_erratum_tells_its_release(ident: str, fields: dict[str, str], scope: str) -> None:
    feed, _ = read(erratum(ident, [Rpm("a", "1-1.0.1.el7_9")], **fields))
    assert feed.header.name == f"updateinfo:{scope}:repo"


@pytest.mark.parametrize(
    ("packages", "ident"),
    [
        ([Rpm("a", "1-1")], "ELSA-2024-1"),
        ([Rpm("a", "1-1.el8"), Rpm("b", "1-1.el9")], "ELSA-2024-1"),
        ([Rpm("a", "1-1.el8")], "VENDOR-1"),
        ([Rpm("a", "1-1.amzn1")], "ALAS-2018-951"),
    ],
)
def test_an_erratum_that_tells_no_release_or_two_is_refused_with_the_cure(
    packages: list[Rpm], ident: str
) -> None:
    assert "name it, as --release oracle:9" in refused(erratum(ident, packages))
    feed, records = read(erratum(ident, packages), release="oracle:9")
    assert feed.header.releases == ("oracle:9",)
    assert {one.release for one in records} == {"oracle:9"}


def test_a_release_that_is_named_against_the_files_own_word_is_refused() -> None:
    assert "is for oracle:9, and not for oracle:8" in refused(ORACLE, release="oracle:8")
    assert "is no release of a distribution with rpm" in refused(ORACLE, release="debian:12")
    assert "is no release of a distribution with rpm" in refused(ORACLE, release="oracle:9.4")


def test_red_hats_errata_are_refused_with_what_says_more() -> None:
    message = refused(erratum("RHSA-2024:1", [Rpm("a", "1-1.el9")], name="Red Hat Enterprise Linux 9"))
    assert "its VEX documents say more" in message
    assert "is of a kind" in refused(erratum("FEDORA-EPEL-NEXT-2024-1", [Rpm("a", "1-1.el9")]))


def test_a_repository_that_is_not_told_is_refused_with_the_cure() -> None:
    assert "name it, as --repository ol9_appstream" in refusal(parse, updateinfo(ORACLE))
    assert "name it, as --repository" in refusal(parse, updateinfo(ORACLE), repository="../a b")
    path = "/srv/mirror/ol9_baseos/repodata/0123-updateinfo.xml.gz"
    feed, _ = parsed(parse, updateinfo(ORACLE), name=path)
    assert feed.header.name == "updateinfo:oracle:9:ol9_baseos"


def test_a_repository_is_told_by_the_folder_above_its_metadata() -> None:
    cache = "/var/cache/dnf/ol9_baseos_latest-0123456789abcdef/repodata/12ab-updateinfo.xml.gz"
    assert repository_of(cache) == "ol9_baseos_latest"
    assert repository_of("/home/a/updateinfo.xml") == ""
    assert repository_of("repodata/updateinfo.xml") == ""


COMPRESSIONS = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress, "bz2": bz2.compress}


@pytest.mark.parametrize("name", ["plain", *COMPRESSIONS])
def test_a_document_is_read_plain_and_compressed(name: str) -> None:
    content = COMPRESSIONS.get(name, bytes)(updateinfo(ORACLE))
    feed, records = parsed(parse_any, content, repository="repo")
    assert (feed.header.serial, len(records)) == ("2023-01-23T00:00:00Z", 6)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_compressed_document_that_is_cut_off_is_refused(name: str) -> None:
    content = COMPRESSIONS[name](updateinfo(*filling("ELSA-2020-", ".el9", ["zzz"])))
    assert refusal(parse, content[: len(content) * 3 // 4], repository="repo")


def test_a_list_of_the_base_and_one_of_its_appstream_are_told_apart_from_an_excerpt() -> None:
    base = filling("ELSA-2020-", ".el9", ["sudo"])
    assert read(*base)[0].header.listed_for == ("oracle:9/base",)
    assert read(*base[:20])[0].header.listed_for == ()
    apps = filling("ELSA-2020-", ".el9", ["httpd"])
    assert read(*apps)[0].header.listed_for == ("oracle:9/appstream",)
    assert read(*filling("ELSA-2020-", ".el9uek", ["kernel-uek"]))[0].header.listed_for == ()


def test_the_newest_date_that_is_not_ahead_of_the_clock_dates_the_list() -> None:
    ahead = erratum("ELSA-2025-9", [Rpm("a", "1-1.el9")], issued="2031-01-01")
    assert read(ORACLE, ahead)[0].header.serial == "2023-01-23T00:00:00Z"


def test_a_date_in_another_form_is_none() -> None:
    feed, records = read(ORACLE, erratum("ELSA-2025-9", [Rpm("a", "1-1.el9")], issued="Mon Feb 3 2025"))
    assert feed.header.serial == "2023-01-23T00:00:00Z"
    assert [one.published_on for one in records if one.advisory == "ELSA-2025-9"] == [None]


def test_a_bugfix_without_a_vulnerability_says_nothing_and_need_not_tell_its_release() -> None:
    bugfix = erratum("X-1", [Rpm("a", "1-1")], kind="bugfix", cves=())
    _, records = read(ORACLE, bugfix)
    assert {one.advisory for one in records} == {"ELSA-2023-0302"}
    assert "names no dated erratum that fixes a vulnerability" in refused(bugfix)


def test_oval_is_refused_with_where_the_same_errata_stand() -> None:
    oval = b'<?xml version="1.0"?>\n<oval_definitions xmlns="http://oval.mitre.org/XMLSchema/oval-definitions-5">'
    assert "OVAL is not read: the same errata stand in updateinfo.xml" in refusal(parse_any, oval)
    assert "OVAL is not read" in refusal(parse_any, bz2.compress(oval))


MALFORMED = {
    "cut off": updateinfo(ORACLE)[:-200],
    "another root": b"<metadata/>",
    "no root": b"<?xml version='1.0'?>",
    "two roots": updateinfo(ORACLE) + b"<updates/>",
    "no errata": b"<updates></updates>",
    "a package without a name": updateinfo(ORACLE).replace(b'package name="libtiff"', b"package"),
    "a package without a version": updateinfo(ORACLE).replace(b'version="4.4.0"', b""),
    "a version that is none": updateinfo(ORACLE).replace(b'version="4.4.0"', b'version="4 4"'),
    "a version with an epoch inside": updateinfo(ORACLE).replace(b'version="4.4.0"', b'version="9:4"'),
    "a version with a dash": updateinfo(ORACLE).replace(b'version="4.4.0"', b'version="4-4"'),
    "an epoch that is none": updateinfo(ORACLE).replace(b'epoch="0"', b'epoch="-1"'),
    "an epoch that rpm cannot hold": updateinfo(ORACLE).replace(b'epoch="0"', b'epoch="9999999999"'),
    "a date that is none": updateinfo(ORACLE).replace(b"2023-01-23 00:00:00", b"yesterday"),
    "no date": updateinfo(ORACLE).replace(b"<issued", b"<x"),
    "an id that is none": updateinfo(ORACLE).replace(b"<id>ELSA-2023-0302", b"<id>ELSA-\n../"),
    "a module without a stream": updateinfo(ROCKY).replace(b'stream="20"', b""),
    "a module's name with a colon": updateinfo(ROCKY).replace(b'module name="nodejs"', b'module name="a:b"'),
    "no UTF-8": updateinfo(ORACLE).replace(b"libtiff", b"lib\xfftiff"),
    "a document type": updateinfo(ORACLE).replace(b"<updates>", b"<!DOCTYPE updates><updates>"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_document_is_refused_and_never_empty(name: str) -> None:
    message = refusal(parse, MALFORMED[name], repository="repo")
    assert message.startswith("feed: ")
    assert message.isprintable()


def test_no_entity_is_unfolded_and_none_is_fetched() -> None:
    bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "x" * 1000}">' for n in range(9))
    for inside in (bomb, '<!ENTITY a8 SYSTEM "file:///etc/hostname">'):
        content = updateinfo(ORACLE).replace(b"<updates>", f"<!DOCTYPE updates [{inside}]><updates>".encode())
        content = content.replace(b"libtiff security", b"&a8;")
        assert "has a document type" in refusal(parse, content, repository="repo")


HOSTILE = {
    "one tag": (b"<updates><update a='" + b"x" * (64 << 20), "a tag or comment of over"),
    "one comment": (b"<updates><!--" + b"x" * (64 << 20), "a tag or comment of over"),
    "depth": (b"<updates>" + b"<a>" * 100_000, "nested deeper than 16"),
    "a bomb": (gzip.compress(b" " * (64 << 20)), "a tag or comment of over"),
}


def peak_bytes_of(content: bytes, wanted: str) -> int:
    """Return what reading `content` takes of memory at once, and check that it is refused with `wanted`."""
    source = feed_input(content, repository="repo")
    tracemalloc.start()
    try:
        if wanted:
            with pytest.raises(InputError, match=wanted):
                parse(source)
        else:
            assert list(parse(source).records)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_takes_little_memory(name: str) -> None:
    assert peak_bytes_of(*HOSTILE[name]) < 32 << 20


def test_a_text_without_end_is_cut_off_as_it_comes() -> None:
    long_title = updateinfo(ORACLE.replace("libtiff security", "x" * (16 << 20)))
    assert peak_bytes_of(long_title, "") < 2 << 20


MANY = updateinfo_xml.MAX_PACKAGES + 1


@pytest.mark.parametrize(
    ("place", "element", "wanted"),
    [
        ("</collection>", '<package name="a" version="1" release="1"/>', "more than 10000 packages"),
        ("</pkglist>", "<collection/>", "more than 10000 packages"),
        ("</references>", "<reference/>", "more than 10000 references"),
    ],
)
def test_an_erratum_without_end_is_refused(place: str, element: str, wanted: str) -> None:
    assert wanted in refused(ORACLE.replace(place, element * MANY + place))


def test_an_erratum_that_multiplies_what_it_says_is_refused() -> None:
    packages = [Rpm(f"a{number}", "1-1.el9") for number in range(800)]
    cves = [f"CVE-2024-{number}" for number in range(1000, 1800)]
    assert "makes more than 500000 statements" in refused(erratum("ELSA-2023-1", packages, cves=cves))


def test_a_documents_own_word_for_its_encoding_loads_no_codec() -> None:
    _, records = parsed(parse, updateinfo(ORACLE).replace(b"UTF-8", b"idna"), repository="repo")
    assert len(records) == 6
