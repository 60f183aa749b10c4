"""AlmaLinux machines against errata, compared with a computation written for this test.

The computation shares nothing with the product: it reads the archive by itself, knows a module by the
summary's second word, and leaves every comparison of versions to rpm. It runs over a real machine and the
real errata where a checkout has them, and over a small machine with errata made here.
"""

import io
import json
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from advisorydata import inventory
from rpmoracle import Pairs, older

from undercroft.advisories.feeds.feed import FeedInput
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.match import assess
from undercroft.model.finding import Assessment, FixState
from undercroft.model.inventory import Inventory, OsRelease, Package
from undercroft.store.database import AdvisoryDatabase

pytestmark = pytest.mark.skipif(not shutil.which("rpm"), reason="needs rpm as the oracle")

NOW = datetime(2026, 8, 22, tzinfo=UTC)
"""The day after the newest of the real errata."""
ALMA = "alma:9"
OS = OsRelease("almalinux", "9.0", "", "AlmaLinux 9.0 (Emerald Puma)", "/etc/os-release")

Records = list[dict[str, Any]]


def rpm(name: str, version: str, source: str = "", source_version: str = "", module: str = "") -> Package:
    return Package("rpm", name, version, "x86_64", source or name, source_version or version, module=module)


def real_packages(shared_data: Path, version: Callable[[dict[str, str]], str]) -> list[Package]:
    scanned = json.loads((shared_data / "machines" / "alma_9.json").read_text())
    sources = {
        binary: source["name"]
        for source in scanned["SrcPackages"].values()
        for binary in source["binaryNames"]
    }
    packages = scanned["packages"].values()
    assert len(packages) == 590
    return [rpm(item["name"], version(item), sources.get(item["name"], "")) for item in packages]


def as_scanned(item: dict[str, str]) -> str:
    return f"{item['version']}-{item['release']}"


def as_updated(item: dict[str, str]) -> str:
    return f"{item['newVersion']}-{item['newRelease']}"


def stream_of(record: dict[str, Any]) -> str:
    word = record["summary"].split(" ")[1]
    return word if ":" in word else ""


def expected(records: Records, packages: list[Package], folder: Path) -> Pairs:
    """Return (binary package, vulnerability) of what the machine lacks."""
    by_name = {package.name: package for package in packages}
    claims: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    compared: Pairs = set()
    for record in records:
        listed: defaultdict[str, set[str]] = defaultdict(set)
        for item in record["affected"]:
            package = by_name.get(item["package"]["name"])
            if package is None or item["package"]["ecosystem"] != "AlmaLinux:9":
                continue
            fixed = item["ranges"][0]["events"][1]["fixed"]
            if package.module == (stream_of(record) if "module" in fixed else ""):
                listed[package.name].add(fixed)
        for name, versions in listed.items():
            installed = by_name[name].version
            if installed in versions:
                continue
            for fixed in versions:
                compared.add((installed, fixed))
                for vulnerability in record["related"] or [record["id"]]:
                    claims[name, vulnerability].append((installed, fixed))
    lacking = older(compared, folder)
    return {name for name, versions in claims.items() if lacking.intersection(versions)}


def database_of(archive: bytes, path: Path) -> AdvisoryDatabase:
    with AdvisoryDatabase(path, writable=True) as writable:
        feed = parse_any(FeedInput("errata.zip", io.BytesIO(archive), NOW))
        writable.replace_feed(feed.header, feed.records, NOW)
    return AdvisoryDatabase(path)


def assessed(database: AdvisoryDatabase, machine: Inventory) -> Assessment:
    return assess(machine, database.knowledge(ALMA, machine), now=NOW)


def found(answer: Assessment) -> Pairs:
    return {(name, finding.vulnerability) for finding in answer.findings for name in finding.packages}


@pytest.fixture(scope="module")
def real(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Records, AdvisoryDatabase]]:
    path = shared_data / "advisories" / "osv-AlmaLinux-9.zip"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, which only some checkouts have")
    with zipfile.ZipFile(path) as archive:
        records = [json.loads(archive.read(name)) for name in archive.namelist()]
    with database_of(path.read_bytes(), tmp_path_factory.mktemp("alma") / "advisories.db") as database:
        yield records, database


NODE = [
    rpm("nodejs", "1:18.14.2-3.module_el9.2.0+30+e3312493", module="nodejs:18"),
    rpm("npm", "1:9.5.0-1.18.14.2.3.module_el9.2.0+30+e3312493", "nodejs", module="nodejs:18"),
    rpm("ruby", "3.1.2-141.module_el9.1.0+8+503f6fbd", module="ruby:3.1"),
]


@pytest.mark.parametrize("version", [as_scanned, as_updated])
def test_a_real_machine_has_exactly_the_findings_of_the_real_errata(
    shared_data: Path,
    real: tuple[Records, AdvisoryDatabase],
    version: Callable[[dict[str, str]], str],
    tmp_path: Path,
) -> None:
    records, database = real
    packages = real_packages(shared_data, version) + NODE
    answer = assessed(database, inventory(*packages, os=OS))
    wanted = expected(records, packages, tmp_path)
    assert found(answer) == wanted
    assert len(wanted) > (2000 if version is as_scanned else 100)
    assert {finding.fix for finding in answer.findings} == {FixState.FIXABLE}
    names = [(finding.source, finding.vulnerability) for finding in answer.findings]
    assert len(set(names)) == len(names)
    assert answer.problems == ()


def test_the_real_machines_openssl_is_one_finding_with_the_version_that_fixes_it(
    shared_data: Path, real: tuple[Records, AdvisoryDatabase]
) -> None:
    answer = assessed(real[1], inventory(*real_packages(shared_data, as_scanned), os=OS))
    finding = next(item for item in answer.findings if item.vulnerability == "CVE-2023-0286")
    assert (finding.source, finding.packages) == ("openssl", ("openssl", "openssl-devel", "openssl-libs"))
    assert finding.installed_version == "1:3.0.1-23.el9_0"
    assert finding.fixed_version == "1:3.0.1-47.el9_1"
    assert finding.advisories == ("ALSA-2023:0946",)


def erratum(
    number: int, summary: str, *fixes: tuple[str, str], ecosystem: str = "AlmaLinux:9"
) -> dict[str, Any]:
    return {
        "id": f"ALSA-2026:{number}",
        "summary": summary,
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
            }
            for name, fixed in fixes
        ],
        "related": [f"CVE-2026-{number:04}"],
        "published": "2026-08-01T00:00:00Z",
        "modified": "2026-08-21T00:00:00Z",
    }


MADE = [
    erratum(1, "Important: a security update", ("a", "1.0-2.el9"), ("a-libs", "1.0-2.el9")),
    erratum(2, "Important: a security update", ("a", "1:0.5-1.el9")),
    erratum(3, "Moderate: b security update", ("b", "2.0~rc2-1.el9")),
    erratum(4, "Moderate: b security update", ("b", "2.0-1.el9")),
    erratum(5, "Moderate: m:1 security update", ("m", "1.5-1.module_el9.1.0+1+aaaa")),
    erratum(6, "Moderate: m:2 security update", ("m", "2.5-1.module_el9.1.0+1+aaaa")),
    erratum(7, "Low: m security update", ("m", "9.0-1.el9")),
    erratum(8, "Low: c security update", ("c", "9.0-1.el8"), ecosystem="AlmaLinux:8"),
    erratum(9, "Low: d security update", ("d", "1.0-1.el9_1"), ("d", "1.0-1.el9_2")),
    erratum(10, "Low: e security update", ("e", "1.0^git2-1.el9")),
]
INSTALLED = [
    rpm("a", "1.0-1.el9"),
    rpm("a-libs", "1.0-2.el9", "a"),
    rpm("b", "2.0~rc2-1.el9"),
    rpm("m", "2.0-1.module_el9.0.0+1+bbbb", module="m:2"),
    rpm("c", "1.0-1.el9"),
    rpm("d", "1.0-1.el9_1"),
    rpm("e", "1.0^git1-1.el9"),
]
FILLING = [erratum(number, "Low: z security update", ("z", "1-1.el9")) for number in range(100, 150)]


def zipped(records: Records) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    return file.getvalue()


def test_a_made_machine_has_exactly_the_findings_of_made_errata(tmp_path: Path) -> None:
    records = [*MADE, *FILLING]
    with database_of(zipped(records), tmp_path / "a.db") as database:
        answer = assessed(database, inventory(*INSTALLED, os=OS))
    assert found(answer) == expected(records, INSTALLED, tmp_path)
    assert found(answer) == {
        ("a", "CVE-2026-0001"),
        ("a", "CVE-2026-0002"),
        ("b", "CVE-2026-0004"),
        ("m", "CVE-2026-0006"),
        ("e", "CVE-2026-0010"),
    }
    assert answer.problems == ()


def test_an_excerpt_of_the_errata_covers_nothing(tmp_path: Path) -> None:
    with database_of(zipped(MADE), tmp_path / "a.db") as database:
        answer = assessed(database, inventory(rpm("z", "1-1.el9"), os=OS))
    assert answer.findings == ()
    assert "no advisories for alma:9: undercroft feeds update osv:AlmaLinux" in answer.problems
