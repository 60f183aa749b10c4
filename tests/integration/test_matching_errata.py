"""Machines against the errata of their repositories, compared with a computation written for this test.

The computation shares nothing with the product: it reads the documents as a tree, takes an erratum's words
for what they are, and leaves every comparison of versions to rpm.
"""

import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
import zipfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from advisorydata import inventory
from erratadata import EPEL, Rpm, erratum, filling, updateinfo
from rpmoracle import Pairs, older

from undercroft.advisories.feeds.feed import FeedInput
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.match import assess
from undercroft.model.finding import Assessment
from undercroft.model.inventory import OsRelease, Package
from undercroft.store.database import AdvisoryDatabase

pytestmark = pytest.mark.skipif(not shutil.which("rpm"), reason="needs rpm as the oracle")

NOW = datetime(2025, 2, 14, 12, tzinfo=UTC)
ORACLE = "oracle:9", OsRelease("ol", "9.4", "", "Oracle Linux Server 9.4", "/etc/os-release")
FEDORA = "fedora:41", OsRelease("fedora", "41", "", "Fedora Linux 41 (Server Edition)", "/etc/os-release")
AMAZON = "amazon:2023", OsRelease("amzn", "2023", "", "Amazon Linux 2023", "/etc/os-release")
AMAZON_2 = "amazon:2", OsRelease("amzn", "2", "", "Amazon Linux 2", "/etc/os-release")
ALMA = "alma:9", OsRelease("almalinux", "9.0", "", "AlmaLinux 9.0 (Emerald Puma)", "/etc/os-release")

Documents = dict[str, bytes]
Machine = tuple[str, OsRelease]


def rpm(name: str, version: str, source: str = "", module: str = "") -> Package:
    bare = version.rpartition(":")[2]
    return Package("rpm", name, version, "x86_64", source or name, bare, module=module)


def answer(documents: Documents, machine: Machine, packages: list[Package], folder: Path) -> Assessment:
    with AdvisoryDatabase(folder / "advisories.db", writable=True) as database:
        for name, content in documents.items():
            feed = parse_any(FeedInput(f"{name}.xml", io.BytesIO(content), NOW, repository=name))
            database.replace_feed(feed.header, feed.records, NOW)
        state = inventory(*packages, os=machine[1])
        return assess(state, database.knowledge(machine[0], state), now=NOW)


def found(assessment: Assessment) -> Pairs:
    return {(name, finding.vulnerability) for finding in assessment.findings for name in finding.packages}


def line(version: str) -> str:
    """Return what must agree for two builds of a kernel of many lines to be compared."""
    return ".".join(version.rpartition(":")[2].split(".")[:2])


def kind(version: str) -> str:
    return "ksplice" if "ksplice" in version else "plain"


def expected(documents: Documents, packages: list[Package], folder: Path, lines: str = "kernel-uek") -> Pairs:
    """Return (binary package, vulnerability) of what the machine lacks."""
    claims: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for content in documents.values():
        for update in ET.fromstring(content).iter("update"):
            if update.get("type") != "security":
                continue
            texts = [f"{one.get('id')} {one.get('title')}" for one in update.iter("reference")]
            cves = re.findall(r"CVE-\d{4}-\d+", " ".join(texts)) or [update.findtext("id")]
            for collection in update.iter("collection"):
                module = collection.find("module")
                stream = "" if module is None else f"{module.get('name')}:{module.get('stream')}"
                for item in collection.iter("package"):
                    fixed = f"{item.get('epoch')}:{item.get('version')}-{item.get('release')}"
                    for package in packages:
                        name = package.source if item.get("arch") == "src" else package.name
                        same_line = not name.startswith(lines) or line(fixed) == line(package.version)
                        if (
                            name == item.get("name")
                            and package.module == stream
                            and same_line
                            and kind(fixed) == kind(package.version)
                        ):
                            for cve in cves:
                                claims[package.name, cve].append((package.version, fixed))
    lacking = older({pair for pairs in claims.values() for pair in pairs}, folder)
    return {name for name, pairs in claims.items() if lacking.intersection(pairs)}


BASE = [
    erratum("ELSA-2024-1", [Rpm("a", "1.0-2.el9"), Rpm("a-libs", "1.0-2.el9"), Rpm("a", "1.0-2.el9", "src")]),
    erratum("ELSA-2024-2", [Rpm("a", "1:0.5-1.el9")], cves=("CVE-2024-0002", "CVE-2024-0003")),
    erratum("ELSA-2024-3", [Rpm("b", "2.0~rc2-1.el9_4")], cves=("CVE-2024-0004",)),
    erratum("ELSA-2024-4", [Rpm("b", "2.0-1.0.1.el9_4")], cves=("CVE-2024-0004",)),
    erratum("ELSA-2024-5", [Rpm("c", "1.0^git2-1.el9")], cves=()),
    erratum("ELSA-2024-6", [Rpm("glibc", "2:2.34-60.0.2.ksplice1.el9")], cves=("CVE-2024-0006",)),
    erratum("ELSA-2024-7", [Rpm("glibc", "2.34-60.0.2.el9")], cves=("CVE-2024-0007",)),
    erratum("ELBA-2024-8", [Rpm("c", "9-1.el9")], cves=(), kind="bugfix"),
]
APPS = [
    erratum("ELSA-2024-20", [Rpm("m", "1.5-1.module+el9+1+a")], cves=("CVE-2024-0020",), module="m:1"),
    erratum("ELSA-2024-21", [Rpm("m", "2.5-1.module+el9+1+a")], cves=("CVE-2024-0021",), module="m:2"),
    erratum("ELSA-2024-22", [Rpm("m", "9.0-1.el9")], cves=("CVE-2024-0022",)),
]
UEK = [
    erratum("ELSA-2024-30", [Rpm("kernel-uek", "5.15.0-200.1.el9uek")], cves=("CVE-2024-0030",)),
    erratum("ELSA-2024-31", [Rpm("kernel-uek-core", "6.12.0-1.el9uek")], cves=("CVE-2024-0031",)),
    erratum("ELSA-2024-32", [Rpm("kernel-uek-core", "5.15.0-300.1.el9uek")], cves=("CVE-2024-0032",)),
]
ORACLE_LISTS = {
    "ol9_baseos_latest": updateinfo(*BASE, *filling("ELSA-2020-", ".el9", ["sudo"])),
    "ol9_appstream": updateinfo(*APPS, *filling("ELSA-2021-", ".el9", ["httpd"])),
    "ol9_UEKR7": updateinfo(*UEK),
}
ORACLE_PACKAGES = [
    rpm("a", "1.0-1.el9"),
    rpm("a-libs", "1.0-2.el9", "a"),
    rpm("a-extra", "1.0-1.el9", "a"),
    rpm("b", "2.0~rc2-1.el9_4"),
    rpm("c", "1.0^git1-1.el9"),
    rpm("glibc", "2.34-60.0.1.el9"),
    rpm("m", "2.0-1.module+el9+1+b", module="m:2"),
    rpm("kernel-uek", "5.15.0-100.1.el9uek"),
    rpm("kernel-uek-core", "5.15.0-100.1.el9uek", "kernel-uek"),
    rpm("kernel-uek-doc", "5.15.0-400.1.el9uek", "kernel-uek"),
]


def test_an_oracle_machine_has_exactly_the_findings_of_its_repositories(tmp_path: Path) -> None:
    got = answer(ORACLE_LISTS, ORACLE, ORACLE_PACKAGES, tmp_path)
    assert found(got) == expected(ORACLE_LISTS, ORACLE_PACKAGES, tmp_path)
    assert found(got) == {
        ("a", "CVE-2024-0001"),
        ("a-extra", "CVE-2024-0001"),
        ("a", "CVE-2024-0002"),
        ("a", "CVE-2024-0003"),
        ("b", "CVE-2024-0004"),
        ("c", "ELSA-2024-5"),
        ("glibc", "CVE-2024-0007"),
        ("m", "CVE-2024-0021"),
        ("kernel-uek", "CVE-2024-0030"),
        ("kernel-uek-core", "CVE-2024-0032"),
    }
    assert got.problems == ()
    assert any("errata of ol9_UEKR7, ol9_appstream, ol9_baseos_latest" in note for note in got.notes)
    assert any("only fixed vulnerabilities are known" in note for note in got.notes)


def test_enabled_repositories_without_a_list_are_named(tmp_path: Path) -> None:
    names = ["ol9_baseos_latest", "ol9_UEKR7", "ol9_codeready_builder", "docker-ce-stable"]
    enabled = [Package("repository", name, "enabled", "", name, "enabled") for name in names]
    got = answer(ORACLE_LISTS, ORACLE, [*ORACLE_PACKAGES, *enabled], tmp_path)
    wanted = "whose errata are not imported: docker-ce-stable, ol9_codeready_builder"
    assert any(note.endswith(wanted) for note in got.notes)
    assert got.problems == ()


def test_a_fully_updated_kernel_of_a_line_is_clean(tmp_path: Path) -> None:
    got = answer(ORACLE_LISTS, ORACLE, [rpm("kernel-uek", "5.15.0-999.1.el9uek")], tmp_path)
    assert (got.findings, got.problems) == ((), ())


def test_a_ksplice_build_is_judged_by_ksplices_own_errata(tmp_path: Path) -> None:
    packages = [rpm("glibc", "2:2.34-60.0.1.ksplice1.el9")]
    got = answer(ORACLE_LISTS, ORACLE, packages, tmp_path)
    assert found(got) == expected(ORACLE_LISTS, packages, tmp_path) == {("glibc", "CVE-2024-0006")}


@pytest.mark.parametrize(
    "package",
    [
        rpm("kernel-uek", "5.4.17-2136.el9uek"),
        rpm("kernel-uek", "99.9.9-1.el9uek"),
        rpm("kernel-uek", "kernel-1.el9uek"),
        rpm("openssl", "9:3.0.7-1.ksplice1.el9"),
    ],
)
def test_a_line_of_builds_that_no_list_speaks_of_is_a_problem_and_not_clean(
    package: Package, tmp_path: Path
) -> None:
    got = answer(ORACLE_LISTS, ORACLE, [package], tmp_path)
    assert got.findings == ()
    assert any("whether they are affected is unknown" in problem for problem in got.problems)


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        (
            ("ol9_UEKR7",),
            "no advisories for oracle:9: undercroft feeds update updateinfo:oracle:9:ol9_baseos_latest ",
        ),
        (("ol9_baseos_latest",), "the errata of oracle:9 for its repository appstream are not imported"),
        (("ol9_appstream",), "the errata of oracle:9 for its repository base are not imported"),
    ],
)
def test_a_repository_alone_is_not_the_release(lists: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    got = answer({name: ORACLE_LISTS[name] for name in lists}, ORACLE, [rpm("zz", "1-1.el9")], tmp_path)
    assert any(problem in one for one in got.problems)


def test_a_fedora_machine_has_exactly_the_findings_of_its_updates(tmp_path: Path) -> None:
    bug = '<reference id="1" type="bugzilla" title="CVE-2025-0100 a: a fault [fedora-41]"/>'
    documents = {
        "updates": updateinfo(
            erratum("FEDORA-2025-aa", [Rpm("a", "2.0-1.fc41")], cves=(), references=bug, name="Fedora 41"),
            erratum("FEDORA-2025-ab", [Rpm("b", "2.0-1.fc41")], cves=(), name="Fedora 41"),
            *filling("FEDORA-2020-", ".fc41", ["systemd"], name="Fedora 41"),
        )
    }
    packages = [rpm("a", "1.9-1.fc41"), rpm("b", "2.0-1.fc40")]
    got = answer(documents, FEDORA, packages, tmp_path)
    wanted = {("a", "CVE-2025-0100"), ("b", "FEDORA-2025-ab")}
    assert found(got) == expected(documents, packages, tmp_path) == wanted
    assert got.problems == ()


def test_an_amazon_machine_has_exactly_the_findings_of_its_core(tmp_path: Path) -> None:
    documents = {
        "core": updateinfo(
            erratum("ALAS2023-2024-500", [Rpm("openssl-libs", "1:3.0.8-1.amzn2023.0.10")]),
            *filling("ALAS2023-2020-", ".amzn2023", ["curl"]),
        )
    }
    packages = [rpm("openssl-libs", "1:3.0.8-1.amzn2023.0.9", "openssl")]
    got = answer(documents, AMAZON, packages, tmp_path)
    assert found(got) == expected(documents, packages, tmp_path) == {("openssl-libs", "CVE-2024-0001")}
    assert got.problems == ()


def test_amazons_kernels_of_the_extras_are_judged_by_their_own_errata(tmp_path: Path) -> None:
    core = erratum("ALAS2-2024-1", [Rpm("kernel", "4.14.336-1.amzn2")], cves=("CVE-2024-0001",))
    extra = erratum("ALAS2KERNEL-5.10-2024-1", [Rpm("kernel", "5.10.200-1.amzn2")], cves=("CVE-2024-0002",))
    documents = {
        "core": updateinfo(core, *filling("ALAS2-2020-", ".amzn2", ["curl"])),
        "kernel510": updateinfo(extra),
    }
    for number, (version, cve) in enumerate(
        (("4.14.300-1", "CVE-2024-0001"), ("5.10.100-1", "CVE-2024-0002"))
    ):
        packages = [rpm("kernel", f"{version}.amzn2")]
        (folder := tmp_path / str(number)).mkdir()
        got = answer(documents, AMAZON_2, packages, folder)
        assert found(got) == expected(documents, packages, folder, lines="kernel") == {("kernel", cve)}
    (tmp_path / "alone").mkdir()
    alone = answer({"core": documents["core"]}, AMAZON_2, packages, tmp_path / "alone")
    assert any("builds of the line 5.10 of kernel" in problem for problem in alone.problems)


def test_epels_errata_find_its_packages_on_another_distribution_and_cover_nothing_there(
    tmp_path: Path,
) -> None:
    got = answer({"epel": updateinfo(EPEL)}, ALMA, [rpm("ansible", "1:9.1.0-1.el9")], tmp_path)
    assert found(got) == {("ansible", "CVE-2024-0001")}
    assert any("no advisories for alma:9" in problem for problem in got.problems)


@pytest.mark.soak
def test_real_errata_in_this_shape_give_a_real_machine_the_findings_that_rpm_says(
    shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / "advisories" / "osv-AlmaLinux-9.zip"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, which only some checkouts have")
    with zipfile.ZipFile(path) as archive:
        records = [json.loads(archive.read(name)) for name in archive.namelist()]
    errata = []
    for record in records:
        words = record["summary"].split(" ")
        fixes = {
            (item["package"]["name"], item["ranges"][0]["events"][1]["fixed"]) for item in record["affected"]
        }
        for module in (False, True):
            packages = [Rpm(name, fixed) for name, fixed in sorted(fixes) if ("module" in fixed) is module]
            stream = words[1] if module and ":" in words[1] else ""
            if packages:
                cves = record.get("related", ())
                errata.append(
                    erratum(record["id"], packages, cves=cves, module=stream, name="AlmaLinux 9", title="a")
                )
    documents = {"all": updateinfo(*errata)}
    scanned = json.loads((shared_data / "machines" / "alma_9.json").read_text())["packages"].values()
    installed = [rpm(item["name"], f"{item['version']}-{item['release']}") for item in scanned]
    got = answer(documents, ALMA, installed, tmp_path)
    wanted = expected(documents, installed, tmp_path)
    assert found(got) == wanted
    assert len(wanted) > 2000
    assert got.problems == ()
