"""A real Debian 12 machine against Debian's real lists, compared with a computation written for this test.

The computation shares nothing with the product: it reads the lists by itself, line by line, and leaves
every comparison of versions to dpkg.
"""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from advisorydata import BOOKWORM, inventory, package

from undercroft.advisories.feeds import debian_dsa, kev
from undercroft.advisories.feeds.feed import FeedInput
from undercroft.advisories.match import assess
from undercroft.model.finding import Assessment, FixState
from undercroft.model.inventory import Inventory
from undercroft.store.database import AdvisoryDatabase

NOW = datetime(2025, 2, 14, tzinfo=UTC)
"""The day after the lists' newest advisory."""

pytestmark = pytest.mark.skipif(not shutil.which("dpkg"), reason="needs dpkg as the oracle")


class Statement(NamedTuple):
    """One line of a list: a version of a source package of bookworm that fixes a vulnerability."""

    day: date
    source: str
    vulnerability: str
    fixed_version: str


class Source(NamedTuple):
    """A source package of the machine."""

    name: str
    version: str
    binaries: tuple[str, ...]


def as_scanned(version: str) -> str:
    return version


def before_updates(version: str) -> str:
    """Return what was installed when bookworm was released, as near as a version tells."""
    if version.startswith("6.1.123"):
        return version.replace("6.1.123", "6.1.27")
    return re.sub(r"[+~]deb12u[0-9]+$", "", version)


STATES = pytest.mark.parametrize("installed", [as_scanned, before_updates])
Installed = Callable[[str], str]


def sources(shared_data: Path, installed: Installed) -> list[Source]:
    scanned = json.loads((shared_data / "machines" / "debian_12.json").read_text())
    assert len(scanned["packages"]) == 437
    return [
        Source(source["name"], installed(source["version"]), tuple(source["binaryNames"]))
        for source in scanned["SrcPackages"].values()
    ]


def machine(shared_data: Path, installed: Installed) -> Inventory:
    """Return the inventory; a binary's version does not matter, except that of a signed kernel's source."""
    return inventory(
        *(
            package(name, source.version, source.name)
            for source in sources(shared_data, installed)
            for name in source.binaries
        )
    )


def lists(shared_data: Path) -> tuple[Path, Path]:
    folder = shared_data / "advisories"
    return folder / "debian-DSA.list", folder / "debian-DLA.list"


@pytest.fixture(scope="module")
def database(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdvisoryDatabase]:
    """The real lists and the real KEV catalog, through the product's own parsers."""
    path = tmp_path_factory.mktemp("real") / "advisories.db"
    with AdvisoryDatabase(path, writable=True) as writable:
        for name in lists(shared_data):
            with name.open("rb") as file:
                feed = debian_dsa.parse(FeedInput(name.name, file, NOW))
                writable.replace_feed(feed.header, feed.records, NOW)
        later = datetime(2026, 12, 1, tzinfo=UTC)  # the catalog is younger than the lists
        with (shared_data / "advisories" / "cisa-kev.json").open("rb") as file:
            feed = kev.parse(FeedInput("cisa-kev.json", file, later))
            writable.replace_feed(feed.header, feed.records, later)
    with AdvisoryDatabase(path) as readable:
        yield readable


def statements(paths: Iterable[Path]) -> Iterator[Statement]:
    for path in paths:
        day, advisory, vulnerabilities = date.min, "", []
        for line in path.read_text().splitlines():
            if line.startswith("["):
                text, advisory = re.match(r"\[(.*?)\] (\S+)", line).groups()
                day = datetime.strptime(text, "%d %b %Y").replace(tzinfo=UTC).date()
                vulnerabilities = []
            elif line.startswith("\t{"):
                vulnerabilities = line.strip("\t{} ").split()
            elif line.startswith("\t[bookworm] - "):
                source, version = line.split(" - ")[1].split()[:2]
                assert not version.startswith("<"), "the lists name no other state of bookworm"
                for vulnerability in vulnerabilities or [advisory]:
                    yield Statement(day, source, vulnerability, version)


def older(pairs: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those of `pairs` whose first version dpkg calls older than the second."""
    loop = 'while IFS="|" read -r a b; do dpkg --compare-versions "$a" lt "$b" && echo "$a|$b"; done; true'
    lines = "".join(f"{a}|{b}\n" for a, b in pairs)
    answer = subprocess.run(["sh", "-c", loop], input=lines, capture_output=True, text=True, check=True)
    return {(a, b) for a, _, b in (line.partition("|") for line in answer.stdout.splitlines())}


def expected(shared_data: Path, installed: Installed, as_of: date) -> dict[tuple[str, str], set[str]]:
    """Return the fixed versions that are missing, by source package and vulnerability."""
    versions = {source.name: source.version for source in sources(shared_data, installed)}
    versions["linux"] = versions.pop("linux-signed-amd64").replace("+", "-")
    known = [item for item in statements(lists(shared_data)) if item.source in versions and item.day <= as_of]
    missing = older(list({(versions[item.source], item.fixed_version) for item in known}))
    answer: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for item in known:
        if (versions[item.source], item.fixed_version) in missing:
            answer[item.source, item.vulnerability].add(item.fixed_version)
    return answer


def assessed(database: AdvisoryDatabase, state: Inventory, as_of: date | None = None) -> Assessment:
    return assess(state, database.knowledge(BOOKWORM, state), now=NOW, as_of=as_of)


@STATES
@pytest.mark.parametrize("as_of", [None, date(2025, 2, 10), date(2024, 6, 30)])
def test_a_real_machine_has_exactly_the_findings_of_the_real_lists(
    shared_data: Path, database: AdvisoryDatabase, installed: Installed, as_of: date | None
) -> None:
    answer = assessed(database, machine(shared_data, installed), as_of)
    wanted = expected(shared_data, installed, as_of or NOW.date())
    found = {(finding.source, finding.vulnerability): finding.fixed_version for finding in answer.findings}
    assert found.keys() == wanted.keys()
    assert len(found) == len(answer.findings)
    for name, fixed_version in found.items():
        assert fixed_version in wanted[name]
        assert not older([(fixed_version, other) for other in wanted[name] - {fixed_version}])
    assert {finding.fix for finding in answer.findings} <= {FixState.FIXABLE}
    assert answer.complete


def test_the_real_machine_is_not_clean_and_its_signed_kernel_is_seen(
    shared_data: Path, database: AdvisoryDatabase
) -> None:
    findings = assessed(database, machine(shared_data, as_scanned)).findings
    assert {finding.source for finding in findings} == {"bind9", "libtasn1-6", "linux"}
    kernel = next(finding for finding in findings if finding.source == "linux")
    assert kernel.packages == ("linux-image-6.1.0-29-amd64", "linux-image-amd64")
    before = assessed(database, machine(shared_data, before_updates)).findings
    assert len({finding.source for finding in before}) > 20
    assert len(before) > 500


def test_findings_that_are_known_to_be_exploited_carry_the_catalogs_day(
    shared_data: Path, database: AdvisoryDatabase
) -> None:
    catalog = json.loads((shared_data / "advisories" / "cisa-kev.json").read_text())
    added = {item["cveID"]: item["dateAdded"] for item in catalog["vulnerabilities"]}
    findings = assessed(database, machine(shared_data, before_updates)).findings
    assert any(finding.vulnerability in added for finding in findings)
    for finding in findings:
        assert str(finding.known_exploited_on or "") == added.get(finding.vulnerability, "")
    flags = [finding.known_exploited_on is None for finding in findings]
    assert flags == sorted(flags), "known-exploited ones come first"
