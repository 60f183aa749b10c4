"""Alpine machines against secdb, compared with a computation written for this test.

The computation shares nothing with the product: it reads the YAML line by line and compares versions number
by number. It runs over a real machine and real documents where a checkout has them, and over made ones.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cmp_to_key
from pathlib import Path

import pytest
from advisorydata import inventory

from undercroft.advisories.feeds.feed import FeedInput
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.match import assess
from undercroft.model.finding import Assessment, FixState
from undercroft.model.inventory import Inventory, OsRelease, Package
from undercroft.store.database import AdvisoryDatabase

NOW = datetime(2021, 10, 1, tzinfo=UTC)
"""A day on which v3.11, the release of the real documents, was supported."""
RELEASE = "alpine:3.11"
OS = OsRelease("alpine", "3.11.13", "", "Alpine Linux v3.11", "/etc/os-release")
_SUFFIXES = ("alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p")

Fixes = dict[str, dict[str, list[str]]]


def apk(name: str, version: str, source: str = "") -> Package:
    return Package("apk", name, version, "x86_64", source or name, version)


def read(paths: list[Path]) -> Fixes:
    """Return {source: {version: [ids]}} of secdb's YAML, by its indentation."""
    fixes: Fixes = {}
    source = version = ""
    for line in "\n".join(path.read_text() for path in paths).splitlines():
        if match := re.match(r" +name: (\S+)$", line):
            source = match[1]
        elif match := re.match(r" {8}'?\"?([^\s'\"]+)'?\"?:$", line):
            version = match[1]
        elif match := re.match(r" {8,}- (.*)$", line):
            ids = re.findall(r"CVE-[0-9]{4}-[0-9]+", match[1].replace("CVE_", "CVE-")) or re.findall(
                r"XSA-[0-9]+", match[1]
            )
            fixes.setdefault(source, {}).setdefault(version, []).extend(ids or [f"secdb:{source}:{version}"])
    return fixes


def compared(a: str, b: str) -> int:
    """Compare versions of the forms that secdb has: numbers, a letter, suffixes, a revision."""
    for left, right in zip(_numbers(a), _numbers(b), strict=True):
        if left != right:
            return -1 if left < right else 1
    return 0


_FORM = re.compile(r"([0-9.]+)([a-z]?)((?:_[a-z]+[0-9]*)*)(?:-r?([0-9]+))?")


def _numbers(version: str) -> tuple[object, ...]:
    match = _FORM.fullmatch(version)
    assert match, version
    numbers = [int(part) for part in match[1].strip(".").split(".")]  # one real version ends in a dot
    found = re.findall(r"_([a-z]+)([0-9]*)", match[3])
    suffixes = [(_SUFFIXES.index(name), int(number or -1)) for name, number in found]
    return (*[numbers, match[2]], [*suffixes, (_SUFFIXES.index(""), 0)], int(match[4] or -1))


def expected(fixes: Fixes, packages: list[Package]) -> set[tuple[str, str]]:
    wanted = set()
    for package in packages:
        for version, ids in fixes.get(package.source, {}).items():
            if version != "0" and compared(package.version, version) < 0:
                wanted.update((package.name, ident) for ident in ids)
    return wanted


def found(answer: Assessment) -> set[tuple[str, str]]:
    return {(name, finding.vulnerability) for finding in answer.findings for name in finding.packages}


def imported(paths: list[Path], database: Path) -> AdvisoryDatabase:
    with AdvisoryDatabase(database, writable=True) as writable:
        for path in paths:
            with path.open("rb") as file:
                feed = parse_any(FeedInput(path.name, file, NOW))
                writable.replace_feed(feed.header, feed.records, NOW)
    return AdvisoryDatabase(database)


def assessed(database: AdvisoryDatabase, machine: Inventory) -> Assessment:
    return assess(machine, database.knowledge(RELEASE, machine), now=NOW)


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> list[Path]:
    folder = shared_data / "advisories" / "alpine-secdb-v3.11"
    if not folder.is_dir():
        pytest.skip(f"needs {folder.name}, which only some checkouts have")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def database(documents: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdvisoryDatabase]:
    with imported(documents, tmp_path_factory.mktemp("alpine") / "advisories.db") as database:
        yield database


def real_packages(shared_data: Path) -> list[Package]:
    scanned = json.loads((shared_data / "machines" / "alpine_319.json").read_text())
    assert len(scanned["packages"]) == 18
    return [
        apk(name, source["version"], source["name"])
        for source in scanned["SrcPackages"].values()
        for name in source["binaryNames"]
    ]


def half_fixed(fixes: Fixes) -> list[Package]:
    """Return a machine with every package of secdb, each in the version that fixed the older half."""
    order = cmp_to_key(compared)
    machine = []
    for source, versions in fixes.items():
        if not all(map(_FORM.fullmatch, versions)):
            continue  # "4.10-1-r1" is no version, and has no place among the others
        ascending = sorted((version for version in versions if version != "0"), key=order)
        if ascending:
            machine.append(apk(f"{source}-libs", ascending[len(ascending) // 2 - 1], source))
    return machine


def test_a_real_machine_has_exactly_the_findings_of_secdb(
    shared_data: Path, documents: list[Path], database: AdvisoryDatabase
) -> None:
    packages = real_packages(shared_data)
    answer = assessed(database, inventory(*packages, os=OS))
    assert found(answer) == expected(read(documents), packages)
    assert answer.problems == ()


def test_the_same_machine_before_its_updates_lacks_what_secdb_lists(
    shared_data: Path, documents: list[Path], database: AdvisoryDatabase
) -> None:
    packages = [apk(package.name, "0.1-r0", package.source) for package in real_packages(shared_data)]
    answer = assessed(database, inventory(*packages, os=OS))
    assert found(answer) == expected(read(documents), packages)
    assert {"busybox", "musl", "zlib", "openssl"} & {finding.source for finding in answer.findings}


def test_a_machine_of_every_package_has_exactly_the_findings_of_the_newer_half(
    documents: list[Path], database: AdvisoryDatabase
) -> None:
    fixes = read(documents)
    packages = half_fixed(fixes)
    answer = assessed(database, inventory(*packages, os=OS))
    wanted = expected(fixes, packages)
    assert found(answer) == wanted
    assert len(packages) > 200
    assert len(wanted) > 500
    assert {finding.fix for finding in answer.findings} == {FixState.FIXABLE}


MADE = """distroversion: v3.11
reponame: {}
packages:
  - pkg:
      name: {}
      secfixes:
        0:
          - CVE-2020-0001
        1.9-r0:
          - CVE-2020-0002
        1.10_rc1-r0:
          - CVE-2020-0003
        1.10-r1:
          - CVE-2020-0004 XSA-1
          - XSA-2
"""


@pytest.fixture
def made(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "main.yaml", tmp_path / "community.yaml"]
    for path, source in zip(paths, ("a", "b"), strict=True):
        path.write_text(MADE.format(path.stem, source))
    return paths


@pytest.mark.parametrize("version", ["1.8-r9", "1.9-r0", "1.10_alpha-r0", "1.10-r0", "1.10-r1", "1.10a-r0"])
def test_a_made_machine_has_exactly_the_findings_of_made_documents(
    made: list[Path], tmp_path: Path, version: str
) -> None:
    packages = [apk("a", version), apk("a-doc", version, "a"), apk("b", "2-r0")]
    with imported(made, tmp_path / "a.db") as database:
        answer = assessed(database, inventory(*packages, os=OS))
    assert found(answer) == expected(read(made), packages)
    assert answer.problems == ()
    assert not {"CVE-2020-0001", "XSA-1"} & {finding.vulnerability for finding in answer.findings}


def test_a_repository_without_its_document_is_a_problem(made: list[Path], tmp_path: Path) -> None:
    with imported(made[:1], tmp_path / "a.db") as database:
        answer = assessed(database, inventory(apk("a", "2-r0"), os=OS))
    (problem,) = answer.problems
    assert "repository community are not imported" in problem


def test_another_release_is_not_answered_for(made: list[Path], tmp_path: Path) -> None:
    newer = OsRelease("alpine", "3.19.0", "", "Alpine Linux v3.19", "/etc/os-release")
    machine = inventory(apk("a", "1.0-r0"), os=newer)
    with imported(made, tmp_path / "a.db") as database:
        answer = assess(machine, database.knowledge("alpine:3.19", machine), now=NOW)
    assert answer.findings == ()
    assert answer.problems[0].startswith("no advisories for alpine:3.19")


def test_grouped_ids_are_those_of_the_documents(made: list[Path]) -> None:
    by_version: defaultdict[str, list[str]] = defaultdict(list)
    with made[0].open("rb") as file:
        for record in parse_any(FeedInput("main.yaml", file, NOW)).records:
            by_version[record.fixed_version].append(record.vulnerability)
    assert by_version["1.10-r1"] == read(made[:1])["a"]["1.10-r1"]
