"""CSAF and VEX documents: statuses and what they mean, modules, streams, archives, and what is refused."""

import copy
import io
import json
import tarfile
from collections.abc import Callable

import pytest
import zstandard
from csafdata import APPSTREAM8, EUS92, LTSS, OTHER, RHEL9, SLE, UNFIXED9, Document, named, rpm
from feedfixtures import parsed, refusal, zipped

from undercroft.advisories.feeds import csaf
from undercroft.advisories.feeds.csaf_products import release_of
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.records import Advisory, Status
from undercroft.model.finding import Severity

ERRATUM = "https://access.redhat.com/errata/RHSA-2025:1234"


def said(document: Document) -> set[tuple[str, str, str, str]]:
    records = parsed(parse_any, document.encoded())[1]
    return {(item.release, item.source, item.status.value, item.fixed_version) for item in records}


@pytest.mark.parametrize(
    ("cpe", "release"),
    [
        ("cpe:/o:redhat:enterprise_linux:9::baseos", ("rhel:9", "")),
        ("cpe:/a:redhat:enterprise_linux:8::crb", ("rhel:8", "")),
        ("cpe:/o:redhat:enterprise_linux:7", ("rhel:7", "")),
        ("cpe:/o:redhat:enterprise_linux:10.0", ("rhel:10", "")),
        ("cpe:/a:redhat:rhel_eus:9.2::appstream", ("rhel:9", "eus")),
        ("cpe:/o:redhat:rhel_els:7", ("rhel:7", "els")),
        ("cpe:/o:suse:sles:15:sp5", ("sles:15.5", "")),
        ("cpe:/o:suse:sle-module-basesystem:15:sp6", ("sles:15.6", "")),
        ("cpe:/o:suse:sles-ltss:12:sp5", ("sles:12.5", "ltss")),
        ("cpe:/o:suse:sle-module-containers:12", ("sles:12.5", "")),
        ("cpe:/o:opensuse:leap:15.6", ("opensuse-leap:15.6", "")),
        ("cpe:/a:redhat:openshift:4", None),
        ("cpe:/o:redhat:enterprise_linux:9::base os", None),
        ("", None),
    ],
)
def test_a_cpe_is_a_release_with_its_stream_or_not_read(cpe: str, release: tuple[str, str] | None) -> None:
    assert release_of(cpe) == release


def test_a_fix_is_told_once_for_all_architectures_with_its_erratum() -> None:
    document = Document()
    builds = [
        document.relate(RHEL9, rpm("openssl-libs", "3.0.7-27.el9", arch, epoch=1))
        for arch in ("x86_64", "aarch64")
    ]
    builds.append(document.relate(RHEL9, rpm("openssl", "3.0.7-27.el9", "src", epoch=1)))
    document.say("fixed", *builds).remedy("vendor_fix", "", builds, ERRATUM)
    records = parsed(parse_any, document.encoded())[1]
    assert [(item.source, item.fixed_version) for item in records] == [
        ("binary:openssl-libs", "1:3.0.7-27.el9"),
        ("openssl", "1:3.0.7-27.el9"),
    ]
    first = records[0]
    assert isinstance(first, Advisory)
    assert (first.advisory, str(first.published_on)) == ("RHSA-2025:1234", "2025-01-15")
    assert (first.severity, first.severity_source) == (Severity.HIGH, "redhat:impact")


@pytest.mark.parametrize(
    ("category", "details", "status"),
    [
        ("no_fix_planned", "Will not fix", Status.WILL_NOT_FIX),
        ("no_fix_planned", "Out of support scope", Status.OUT_OF_SUPPORT),
        ("none_available", "Affected", Status.UNFIXED),
        ("none_available", "Fix deferred", Status.UNFIXED),
        ("workaround", "Do not use it", Status.UNFIXED),
    ],
)
def test_a_remediation_says_why_there_is_no_fix(category: str, details: str, status: Status) -> None:
    document = Document()
    ident = document.relate(UNFIXED9, rpm("openssl", arch="src"))
    document.say("known_affected", ident).remedy(category, details, [ident])
    assert said(document) == {("rhel:9", "openssl", status.value, "")}


def test_what_is_looked_into_and_what_is_not_affected_are_told_apart() -> None:
    document = Document()
    document.say("under_investigation", document.relate(UNFIXED9, rpm("a", arch="src")))
    document.say("known_not_affected", document.relate(UNFIXED9, rpm("b", arch="src")))
    assert said(document) == {
        ("rhel:9", "a", "under-investigation", ""),
        ("rhel:9", "b", "not-affected", ""),
    }


def in_a_second_step(document: Document) -> str:
    return document.relate_module(APPSTREAM8, "nodejs:18", rpm("npm", "1:9-1.module+el8.9.0+1+a"))


def in_a_qualifier(document: Document) -> str:
    return document.relate(APPSTREAM8, rpm("npm", "1:9-1.module+el8.9.0+1+a", module="nodejs:18"))


def in_the_path(document: Document) -> str:
    return document.relate(APPSTREAM8, ("nodejs:18/npm", "pkg:rpmmod/redhat/nodejs:18/npm"))


def in_a_first_step(document: Document) -> str:
    return document.relate_package_of_module(APPSTREAM8, "nodejs:18", rpm("npm", "1:9-1.module+el8.9.0+1+a"))


@pytest.mark.parametrize("relate", [in_a_second_step, in_a_first_step, in_a_qualifier, in_the_path])
def test_a_module_is_read_in_each_way_that_red_hat_writes_it(relate: Callable[[Document], str]) -> None:
    document = Document()
    document.say("known_affected", relate(document))
    assert ("rhel:8", "binary:npm@nodejs:18", "unfixed", "") in said(document)


def test_streams_bear_their_fixes_and_nothing_else() -> None:
    document = Document()
    document.say("fixed", document.relate(EUS92, rpm("a", "1-2.el9_2")))
    document.say("known_affected", document.relate(EUS92, rpm("b", arch="src")))
    (record,) = parsed(parse_any, document.encoded())[1]
    assert (record.release, record.stream, record.fixed_version) == ("rhel:9", "eus", "1-2.el9_2")


def test_suse_recommends_fixes_by_name_and_architecture() -> None:
    document = Document("SUSE-SU-2025:0123-1", "suse")
    document.impact = "moderate"
    document.say("recommended", document.relate(SLE, named("libz1-1.2.13-150500.4.3.1.x86_64")))
    document.say("recommended", document.relate(LTSS, named("libz1-1.2.11-150400.3.9.1.x86_64")))
    feed, records = parsed(parse_any, document.encoded())
    assert feed.header.name == "suse-csaf:SUSE-SU-2025:0123-1"
    assert {(item.release, item.stream, item.source, item.fixed_version) for item in records} == {
        ("sles:15.6", "", "binary:libz1", "1.2.13-150500.4.3.1"),
        ("sles:15.4", "ltss", "binary:libz1", "1.2.11-150400.3.9.1"),
    }
    assert {(item.advisory, item.severity) for item in records} == {("SUSE-SU-2025:0123-1", Severity.MEDIUM)}


def affecting(number: int) -> bytes:
    document = Document(f"CVE-2024-{number:04}")
    document.say("known_affected", document.relate(UNFIXED9, rpm("openssl", arch="src")))
    document.say("known_not_affected", document.relate(APPSTREAM8, rpm("openssl", arch="src")))
    return document.encoded()


def tarred(documents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in documents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    "pack",
    [zipped, tarred, lambda documents: zstandard.compress(tarred(documents))],
    ids=["zip", "tar", "zst"],
)
def test_an_archive_is_one_feed_however_it_is_packed(pack: Callable[[dict[str, bytes]], bytes]) -> None:
    names = [*(f"2024/cve-2024-{number:04}.json" for number in range(3)), f"{'long' * 40}.json"]
    documents = {name: affecting(number) for number, name in enumerate(names)}
    feed, records = parsed(parse_any, pack(documents))
    assert feed.header.name == "redhat-vex"
    assert feed.header.releases == ("rhel:8", "rhel:9")
    assert feed.header.complete_for == ()
    assert {item.release for item in records} == {"rhel:9"}, "nothing affects 8"
    assert len(records) == 4


def test_an_archive_of_enough_documents_speaks_for_its_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped({f"{number}.json": affecting(number) for number in range(3)})
    monkeypatch.setattr(csaf, "MIN_COMPLETE_DOCUMENTS", 3)
    assert parsed(parse_any, archive)[0].header.complete_for == ("rhel:8", "rhel:9")


def changed(path: str, value: object) -> bytes:
    document = Document()
    document.say("fixed", document.relate(RHEL9, rpm("a", "1-1.el9")))
    content = copy.deepcopy(document.content())
    *parents, last = path.split(".")
    node = content
    for parent in parents:
        node = node[int(parent)] if parent.isdigit() else node[parent]
    node[last] = value
    return json.dumps(content).encode()


def deep(levels: int) -> list[object]:
    branches: list[object] = []
    for _ in range(levels):
        branches = [{"branches": branches}]
    return branches


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed("document.csaf_version", "3.0"), "no CSAF 2 advisory"),
        (changed("document.category", "csaf_base"), "no CSAF 2 advisory"),
        (changed("document.publisher.namespace", "https://www.redhat.com.example"), "is another's"),
        (changed("document.tracking.current_release_date", "2099-01-01T00:00:00Z"), "in the future"),
        (changed("document.tracking.id", "a b"), "is not an id"),
        (changed("product_tree.branches", deep(60)), "too deep"),
        (changed("product_tree.relationships", {}), "expected a list"),
        (changed("vulnerabilities.0.cve", "CVE-1"), "is not a CVE number"),
        (changed("vulnerabilities.0.product_status", [1]), "expected an object"),
        (changed("product_tree.branches", []), "is of a release that is read"),
    ],
)
def test_what_is_malformed_or_anothers_is_refused(data: bytes, message: str) -> None:
    assert message in refusal(csaf.parse, data)


def test_other_products_and_types_are_passed_over() -> None:
    document = Document()
    document.say("fixed", document.relate(OTHER, rpm("a", "1-1.el9")), "no-such-product")
    document.say("fixed", document.relate(RHEL9, ("image", "pkg:oci/ubi9@sha256%3Aab")))
    document.say("tomorrows_status", document.relate(RHEL9, rpm("b", "1-1.el9")))
    assert said(document) == set()


def test_products_that_contain_each_other_end() -> None:
    document = Document()
    first = document.relate(("x", ""), rpm("a", "1-1.el9"))
    content = document.say("fixed", first).content()
    content["product_tree"]["relationships"] += [
        {
            "full_product_name": {"product_id": one},
            "product_reference": "y",
            "relates_to_product_reference": two,
        }
        for one, two in (("x", "y"), ("y", "x"))
    ]
    document.relate(RHEL9, rpm("b", "1-1.el9"))
    assert refusal(csaf.parse, json.dumps(content)) != ""
