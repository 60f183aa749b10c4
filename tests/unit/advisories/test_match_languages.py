"""Packages of languages beside a system's own: matched by ecosystem, in its order, never as the system's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from advisorydata import BOOKWORM, NOW, TRACKER, VEX, edition, header, inventory, package, statement
from feedfixtures import parsed, zipped

from undercroft.advisories.families import language_subject
from undercroft.advisories.feeds.osv import parse_archive, parse_record
from undercroft.advisories.knowledge import gather
from undercroft.advisories.match import assess
from undercroft.advisories.orders.table import GEM, PEP440, SEMVER
from undercroft.advisories.records import Advisory, VexStatement, VexStatus
from undercroft.model.finding import Assessment
from undercroft.model.inventory import Inventory, Package
from undercroft.store.database import AdvisoryDatabase

EXCERPT = header("osv:GHSA-a", ("pypi",))
PYPI = replace(EXCERPT, name="osv:PyPI", listed_for=("pypi",))
DEB = package("zlib", "1.0-1")


def of(manager: str, name: str, version: str) -> Package:
    return Package(manager, name, version, "", name, version)


def pip_says(name: str, fixed: str, **fields: object) -> Advisory:
    return statement(PYPI, language_subject("pypi", name), "CVE-2026-0001", fixed, **fields)


def answered(state: Inventory, *feeds: tuple[object, list[Advisory]]) -> Assessment:
    kept = [(edition(TRACKER), [statement(TRACKER, "unrelated", "CVE-0", "1")])]
    kept += [(edition(feed), records) for feed, records in feeds]
    return assess(state, gather(BOOKWORM, kept), now=NOW)


@pytest.mark.parametrize(
    ("version", "is_affected"), [("2.0rc1", True), ("1.9", True), ("2.0", False), ("2.0.post1", False)]
)
def test_a_python_package_is_judged_in_pips_order(version: str, *, is_affected: bool) -> None:
    state = inventory(DEB, of("pypi", "Py_YAML", version))
    answer = answered(state, (PYPI, [pip_says("py-yaml", "2.0")]))
    assert [finding.source for finding in answer.findings] == (["pypi:py-yaml"] if is_affected else [])
    assert answer.complete
    assert "osv:PyPI" in {feed.name for feed in answer.feeds}
    assert not any("are listed" in note for note in answer.notes)


def test_a_pip_package_is_never_taken_for_debians_of_that_name() -> None:
    state = inventory(DEB, of("pypi", "requests", "1.0"))
    tracker = [statement(TRACKER, "requests", "CVE-2026-0001", "2.0-1")]
    answer = assess(state, gather(BOOKWORM, [(edition(TRACKER), tracker)]), now=NOW)
    assert answer.findings == ()
    assert "1 packages of pypi are listed, no advisories are matched with them" in answer.notes


def test_a_single_record_is_no_list_of_what_a_language_fixed() -> None:
    record = statement(EXCERPT, language_subject("pypi", "b"), "CVE-2026-0001", "2")
    answer = answered(inventory(DEB, of("pypi", "a", "1")), (EXCERPT, [record]))
    assert "1 packages of pypi are listed, no advisories are matched with them" in answer.notes


def test_a_stale_feed_of_a_language_is_a_problem() -> None:
    old = header("osv:PyPI", ("pypi",), published_at=NOW.replace(year=2025))
    answer = answered(inventory(DEB, of("pypi", "a", "1")), (old, [pip_says("a", "2")]))
    assert len(answer.findings) == 1
    assert any(problem.startswith("osv:PyPI is") for problem in answer.problems)


@pytest.mark.parametrize(
    ("product", "is_meant"),
    [
        ("a", True),
        ("pkg:pypi/A@1.0", True),
        ("pkg:pypi/a", True),
        ("pkg:pypi/a@2", False),
        ("pkg:npm/a", False),
        ("pkg:deb/debian/a", False),
    ],
)
def test_the_users_own_word_takes_a_languages_finding_away(product: str, *, is_meant: bool) -> None:
    own = VexStatement("ours", "CVE-2026-0001", (product,), VexStatus.NOT_AFFECTED, "unreachable", NOW)
    answer = answered(inventory(DEB, of("pypi", "a", "1")), (PYPI, [pip_says("a", "2")]), (VEX, [own]))
    assert (len(answer.findings), len(answer.suppressed)) == ((0, 1) if is_meant else (1, 0))


def test_the_database_gives_what_the_languages_need(tmp_path: Path) -> None:
    state = inventory(DEB, of("pypi", "a", "1"), of("npm", "b", "1"))
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(TRACKER, [statement(TRACKER, "zlib", "CVE-2026-0002", "2.0-1")], NOW)
        database.replace_feed(PYPI, [pip_says("a", "2")], NOW)
        answer = assess(state, database.knowledge(BOOKWORM, state), now=NOW)
    assert {finding.source for finding in answer.findings} == {"pypi:a", "zlib"}
    assert "1 packages of npm are listed, no advisories are matched with them" in answer.notes


def record(ecosystem: str, name: str, fixed: str, ident: str = "GHSA-aaaa-bbbb-cccc") -> bytes:
    events = [{"introduced": "0"}, {"fixed": fixed}]
    affected = {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": [{"type": "SEMVER", "events": events}],
    }
    document = {
        "id": ident,
        "aliases": ["CVE-2026-0001"],
        "affected": [affected],
        "modified": "2025-01-01T00:00:00Z",
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("ecosystem", "name", "release", "subject"),
    [
        ("PyPI", "Py_YAML", "pypi", "pypi:py-yaml"),
        ("npm", "@scope/pack", "npm", "npm:@scope/pack"),
        ("Go", "example.org/mod/v2", "go", "go:example.org/mod/v2"),
        ("RubyGems", "rack", "gem", "gem:rack"),
        ("crates.io", "tokio", "cargo", "cargo:tokio"),
    ],
)
def test_each_ecosystem_is_read(ecosystem: str, name: str, release: str, subject: str) -> None:
    (advisory,) = parsed(parse_record, record(ecosystem, name, "1.2.3"))[1]
    assert (advisory.release, advisory.source, advisory.vulnerability) == (release, subject, "CVE-2026-0001")
    header_ = parsed(parse_archive, zipped({"a.json": record(ecosystem, name, "1")}))[0].header
    assert header_.name == f"osv:{ecosystem}"


ASCENDING = {
    SEMVER: "0.9 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta.2 1.0.0-beta.11 v1.0.0 1.0.1 1.10.0",
    PEP440: "0.9 1.0.dev1 1.0a1.dev1 1.0a1 1.0b2 1.0rc1 1.0 1.0+local.1 1.0.post1.dev1 1.0-1 1.0.1 1!0.1",
    GEM: "0.9 1.0.a.2 1.0.b1 1.0.pre.rc 1.0 1.0.1 1.10",
}


@pytest.mark.parametrize("order", ASCENDING, ids=lambda order: order.name)
def test_versions_of_languages_ascend_as_their_manuals_say(order) -> None:
    versions = ASCENDING[order].split()
    for place, version in enumerate(versions):
        order.check(version)
        for later in versions[place + 1 :]:
            assert order.compare(version, later) == -1, (version, later)


def test_a_version_that_is_none_counts_as_affected() -> None:
    for order in (SEMVER, PEP440):
        assert order.compare("no version", "0.0.1") == -1


def test_pythons_own_library_gives_the_same_order_for_thousands_of_pairs() -> None:
    library = pytest.importorskip("packaging.version")
    import random  # noqa: PLC0415 - one test

    source = random.Random(20261129)

    def made() -> str:
        release = ".".join(source.choice("0012") for _ in range(source.randint(1, 4)))
        pre = source.choice(["", "", "a1", "b", "rc2", "-beta.2", ".alpha1", "c1", "pre3"])
        post = source.choice(["", "", ".post1", "-1", ".r2", "post"])
        tail = source.choice(["", "", ".dev1", "dev"]) + source.choice(["", "", "+a.1", "+1"])
        return source.choice(["", "1!", "v"]) + release + pre + post + tail

    for _ in range(3000):
        a, b = made(), made()
        left, right = library.Version(a), library.Version(b)
        assert PEP440.compare(a, b) == (left > right) - (left < right), (a, b)
