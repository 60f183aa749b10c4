"""An update from a mirror for machines: which changelogs it fetches, and what it says where it has none."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from advisorydata import inventory, package
from feedfixtures import Deb, Mirror, Signer, build_deb

from undercroft.advisories.feeds.sources_list import AptSource
from undercroft.model.inventory import Inventory, OsRelease
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.assess import knowledge_for
from undercroft.usecases.feedresult import FeedResult, Outcome
from undercroft.usecases.feedsession import FeedSession

OWN, CANDIDATE = "1.0-1+deb12u2", "2.0-0+deb12u1"
COMMON = ("1.0-1", "2022-01-05", "Tidy up")
HISTORIES = {
    OWN: [(OWN, "2025-01-08", "Fix CVE-2025-11111"), COMMON],
    CANDIDATE: [
        (CANDIDATE, "2025-06-04", "Fix CVE-2025-22222"),
        ("2.0-1", "2025-01-15", "Fix CVE-2025-11111"),
    ],
}
CHANGELOGS = "changelogs:debian:12"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    signer = Signer.make(tmp_path_factory.mktemp("archive"), "archive")
    yield signer
    signer.stop()


def changelog(entries: list[tuple[str, str, str]]) -> bytes:
    texts = [
        f"example ({version}) unstable; urgency=medium\n\n  * {line}\n\n"
        f" -- A <a@example.org>  {datetime.fromisoformat(day):%a, %d %b %Y} 09:00:00 +0000\n"
        for version, day, line in entries
    ]
    return gzip.compress("\n".join(texts).encode(), mtime=0)


@pytest.fixture
def mirror(tmp_path: Path, archive: Signer) -> Mirror:
    """A suite that lists the installed version and a candidate from another branch."""
    mirror = Mirror(tmp_path / "mirror", archive)
    mirror.dated_at = datetime.now(UTC) - timedelta(hours=1)
    mirror.valid_until = datetime.now(UTC) + timedelta(days=7)
    path = "usr/share/doc/example/changelog.Debian.gz"
    mirror.debs = [
        Deb(
            "example",
            version,
            content=build_deb(
                tmp_path,
                "example",
                {path: changelog(entries if version == OWN else [*entries, COMMON])},
            ),
        )
        for version, entries in HISTORIES.items()
    ]
    mirror.write()
    return mirror


def updated(folder: Path, mirror: Mirror, *machines: Inventory) -> dict[str, list[FeedResult]]:
    """Return the results by name."""
    found: dict[str, list[FeedResult]] = {}
    with FeedSession(str(folder / "db")) as session:
        source = AptSource(mirror.url, mirror.suite, ("main",))
        for result in session.update_from_mirrors(
            [source], keyrings=[mirror.signer.keyring], inventories=iter(machines)
        ):
            found.setdefault(result.name, []).append(result)
    return found


def test_the_installed_versions_changelog_is_fetched_where_the_candidates_is_of_another_branch(
    tmp_path: Path, mirror: Mirror
) -> None:
    machine = inventory(package("example", OWN))
    results = updated(tmp_path, mirror, machine)
    assert [(result.outcome, result.records) for result in results[CHANGELOGS]] == [
        (Outcome.IMPORTED, 3),
        (Outcome.IMPORTED, 2),
    ]
    with AdvisoryDatabase(tmp_path / "db") as database:
        assert database.changelog_versions(CHANGELOGS) == {("example", CANDIDATE), ("example", OWN)}
        known = knowledge_for(database, machine)
    assert {entry.branch for entry in known.changelogs["example"]} == {OWN, CANDIDATE}
    assert CHANGELOGS not in updated(tmp_path, mirror, machine), "nothing is fetched twice"


@pytest.mark.parametrize(
    ("os", "reason"),
    [
        (None, "no operating system could be read in it"),
        (
            OsRelease("debian", "11", "bullseye", "Debian 11", "/etc/os-release"),
            "it runs debian:11, and the mirror",
        ),
        (
            OsRelease("kali", "2025.1", "", "Kali", "/etc/os-release"),
            "a derivative's packages are not theirs",
        ),
    ],
)
def test_a_machine_that_the_mirror_has_nothing_for_is_named_and_the_others_are_served(
    tmp_path: Path, mirror: Mirror, os: OsRelease | None, reason: str
) -> None:
    served = inventory(package("example", OWN))
    results = updated(tmp_path, mirror, inventory(package("example", OWN), os=os), served)
    (refused,) = results["web01"]
    assert refused.outcome is Outcome.REFUSED
    assert reason in refused.detail
    assert results[CHANGELOGS][0].outcome is Outcome.IMPORTED
    assert "web01" not in updated(tmp_path, mirror, served)
