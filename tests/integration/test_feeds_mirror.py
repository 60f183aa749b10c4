"""A distribution's mirror into the real database: signatures, freshness, digests, changelogs."""

import lzma
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from feedfixtures import NOW, Deb, Mirror, Signer, build_deb, deb_with_changelog
from feedserver import Resource, serving

from undercroft.adapters.download import SpoolingDownloader
from undercroft.adapters.gpgv import CLEARSIGNED, SignatureVerifier
from undercroft.advisories.feeds.sources_list import AptSource
from undercroft.model.finding import FeedStatus
from undercroft.ports.signatures import Signed
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.changelogs import import_changelogs
from undercroft.usecases.feedresult import FeedResult, Outcome
from undercroft.usecases.mirror import Mirrors, Suite, VerifierFor, import_mirrors

FEED = "mirror:debian:12:bookworm-security"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    signer = Signer.make(tmp_path_factory.mktemp("archive"), "archive")
    yield signer
    signer.stop()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    signer = Signer.make(tmp_path_factory.mktemp("stranger"), "stranger")
    yield signer
    signer.stop()


@pytest.fixture
def mirror(tmp_path: Path, archive: Signer) -> Mirror:
    mirror = Mirror(tmp_path / "mirror", archive)
    mirror.debs = [Deb("openssl", "3.0.15-1~deb12u1"), Deb("libssl3", "3.0.15-1~deb12u1", source="openssl")]
    mirror.write()
    return mirror


class Site:
    """A machine that trusts the key of `signer` and imports one suite of `mirror`."""

    def __init__(self, folder: Path, mirror: Mirror, verifier_for: VerifierFor | None = None) -> None:
        self.folder = folder
        self.source = AptSource(mirror.url, mirror.suite, ("main",))
        self.now = NOW
        self.verifier_for = verifier_for or (lambda _: SignatureVerifier([mirror.signer.keyring]))

    def take(self, *sources: AptSource) -> tuple[FeedResult, ...]:
        with self._database() as database, SpoolingDownloader(self.folder / "spool") as downloader:
            return import_mirrors(database, self._mirrors(downloader), sources or (self.source,))[0]

    def changelogs(self, missing: set[tuple[str, str]]) -> tuple[FeedResult, ...]:
        with self._database() as database, SpoolingDownloader(self.folder / "spool") as downloader:
            mirrors = self._mirrors(downloader)
            suites: tuple[Suite, ...] = import_mirrors(database, mirrors, [self.source])[1]
            return import_changelogs(database, mirrors, suites, missing)

    def feeds(self) -> dict[str, FeedStatus]:
        with AdvisoryDatabase(self.folder / "db") as database:
            return {found.name: found for found in database.feeds(self.now)}

    def versions(self) -> frozenset[tuple[str, str]]:
        with AdvisoryDatabase(self.folder / "db") as database:
            return database.changelog_versions("changelogs:debian:12")

    def _database(self) -> AdvisoryDatabase:
        return AdvisoryDatabase(self.folder / "db", writable=True)

    def _mirrors(self, downloader: SpoolingDownloader) -> Mirrors:
        return Mirrors(downloader, self.verifier_for, "amd64", self.now)


@pytest.fixture
def site(tmp_path: Path, mirror: Mirror) -> Site:
    return Site(tmp_path, mirror)


def refused(site: Site) -> str:
    (result,) = site.take()
    assert result.outcome is Outcome.REFUSED
    return result.detail


@pytest.mark.parametrize("inline", [True, False], ids=["InRelease", "Release.gpg"])
@pytest.mark.parametrize("by_hash", [True, False], ids=["by-hash", "by-name"])
def test_a_signed_suite_becomes_a_feed_that_names_its_key(site, mirror, archive, inline, by_hash):
    mirror.inline, mirror.by_hash = inline, by_hash
    shutil.rmtree(mirror.dists)
    mirror.write()
    (result,) = site.take()
    assert (result.name, result.outcome, result.records) == (FEED, Outcome.IMPORTED, 2)
    stored = site.feeds()[FEED]
    assert stored.signed_by == archive.fingerprint
    assert stored.valid_until == NOW + timedelta(days=7)
    assert stored.published_at == mirror.dated_at


def test_an_index_that_was_tampered_with_is_refused_and_the_old_data_stays(site, mirror):
    site.take()
    before = site.feeds()
    forged = lzma.compress(mirror.index().replace(b"3.0.15", b"1.0.00"))[:200]
    for name in ("Packages", "Packages.xz", "Packages.gz"):
        (mirror.dists / "main/binary-amd64" / name).write_bytes(forged)
    shutil.rmtree(mirror.dists / "main/binary-amd64/by-hash")
    shutil.rmtree(site.folder / "spool")
    assert "the signed index says" in refused(site)
    assert site.feeds() == before


def tamper(mirror: Mirror) -> None:
    """Put a forged index into the mirror and list it in the Release, as an attacker without the key can."""
    mirror.debs[0] = Deb("openssl", "1.0.0-1")
    signer, mirror.signer = mirror.signer, _Forger()
    mirror.write()
    mirror.signer = signer


class _Forger:
    """Leaves the signature of another text in place."""

    def clearsign(self, text: bytes) -> bytes:
        return CLEARSIGNED + b"\nHash: SHA512\n\n" + text + b"-----BEGIN PGP SIGNATURE-----\n"

    def detach(self, _: bytes) -> bytes:
        return b""


class _Believer:
    """What there would be without verification."""

    def clearsigned(self, data: bytes, _: str) -> Signed:
        return Signed(data.split(b"\n\n", 1)[1].split(b"-----BEGIN PGP SIGNATURE")[0], "")


def test_a_release_that_was_tampered_with_is_refused(site, mirror):
    tamper(mirror)
    assert "InRelease" in refused(site)
    assert site.feeds() == {}


def test_without_verification_the_tampered_release_would_have_been_accepted(tmp_path, mirror):
    tamper(mirror)
    site = Site(tmp_path, mirror, verifier_for=lambda _: _Believer())
    assert site.take()[0].outcome is Outcome.IMPORTED


def test_a_release_with_a_changed_word_is_refused(site, mirror):
    path = mirror.dists / "InRelease"
    path.write_bytes(path.read_bytes().replace(b"Version: 12", b"Version: 13"))
    assert "changed after it was signed" in refused(site)


def test_the_right_signature_of_the_wrong_key_is_refused(site, mirror, stranger):
    trusted = mirror.signer
    mirror.signer = stranger
    mirror.write()
    site.verifier_for = lambda _: SignatureVerifier([trusted.keyring])
    assert "a key that no keyring holds" in refused(site)


@pytest.mark.parametrize("name", ["InRelease", "Release"])
def test_an_unsigned_release_is_refused(site, mirror, name):
    release = mirror.release_text({})
    for present in ("InRelease", "Release", "Release.gpg"):
        (mirror.dists / present).unlink(missing_ok=True)
    (mirror.dists / name).write_bytes(release)
    assert refused(site)


def test_an_expired_release_is_refused_and_says_so(site, mirror):
    mirror.valid_until = NOW - timedelta(minutes=1)
    mirror.write()
    assert "expired at" in refused(site)


def test_a_release_of_the_future_is_refused(site, mirror):
    mirror.dated_at = NOW + timedelta(days=3)
    mirror.write()
    assert "in the future" in refused(site)


def test_a_date_that_goes_back_is_refused_however_well_it_is_signed(site, mirror):
    site.take()
    mirror.dated_at -= timedelta(days=1)
    mirror.debs.pop()
    mirror.write()
    assert "is older than" in refused(site)
    assert site.feeds()[FEED].records == 2


def test_another_suite_in_the_place_of_the_one_asked_for_is_refused(site, mirror):
    mirror.fields |= {"Suite": "oldstable-security", "Codename": "bullseye-security", "Version": "11"}
    mirror.write()
    assert "asked for bookworm-security, found 'oldstable-security' ('bullseye-security')" in refused(site)


def test_a_rightly_signed_archive_of_somebody_else_is_skipped(site, mirror):
    mirror.fields["Origin"] = "Docker"
    mirror.write()
    (result,) = site.take()
    assert result.outcome is Outcome.SKIPPED
    assert "'Docker'" in result.detail


def test_a_suite_without_valid_until_is_confirmed_by_each_import_and_goes_stale_without(site, mirror):
    mirror.valid_until = None
    mirror.write()
    site.take()
    site.now += timedelta(days=9)
    assert not site.feeds()[FEED].stale
    (result,) = site.take()
    assert (result.outcome, result.serial) == (Outcome.UNCHANGED, "2025-02-14T06:00:00Z")
    site.now += timedelta(days=9)
    assert not site.feeds()[FEED].stale
    site.now += timedelta(days=2)
    assert site.feeds()[FEED].stale


def test_a_suite_with_valid_until_is_not_renewed_by_importing_it_again(site):
    site.take()
    site.now += timedelta(days=6)
    assert site.take()[0].outcome is Outcome.UNCHANGED
    site.now += timedelta(days=2)
    assert site.feeds()[FEED].stale


def test_an_index_that_unfolds_beyond_its_limit_is_refused(site, monkeypatch):
    monkeypatch.setattr("undercroft.advisories.feeds.packages_index.MAX_INDEX_BYTES", 100)
    assert "more than the limit of 100 bytes" in refused(site)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "trixie"}, "no such file"),
        ({"components": ("contrib",)}, "has no contrib/binary-amd64/Packages"),
        ({"architectures": ("riscv64",)}, "has no main/binary-riscv64/Packages"),
        ({"components": ()}, "name at least one component"),
        ({"base": "ftp://example.org"}, "over https, http and file only"),
        ({"base": "file://elsewhere/srv"}, "mount it and give its path"),
    ],
)
def test_what_a_mirror_does_not_have_is_one_clear_line(site, change, message):
    (result,) = site.take(replace(site.source, **change))
    assert result.outcome is Outcome.REFUSED
    assert message in result.detail


def test_a_suite_that_is_named_twice_is_one_feed(site):
    results = site.take(site.source, replace(site.source, components=("main", "main")))
    assert [(result.name, result.records) for result in results] == [(FEED, 2)]


def test_one_bad_suite_does_not_keep_the_others_back(site):
    results = site.take(replace(site.source, suite="missing"), site.source)
    assert [result.outcome for result in results] == [Outcome.REFUSED, Outcome.IMPORTED]


def test_a_mirror_over_http_resumes_and_keeps_its_index(site, mirror):
    with serving() as server:
        for path in mirror.folder.rglob("*"):
            if path.is_file():
                server.files["/" + str(path.relative_to(mirror.folder))] = Resource(path.read_bytes())
        index = server.files["/dists/bookworm-security/main/binary-amd64/Packages.xz"].data
        (by_hash,) = (
            path for path, found in server.files.items() if "by-hash" in path and found.data == index
        )
        server.files[by_hash].cut_after = [10]
        site.source = replace(site.source, base=server.url)
        assert site.take()[0].outcome is Outcome.IMPORTED
        ranges = [headers.get("range") for path, headers in server.requests if path == by_hash]
        assert ranges == [None, "bytes=10-"]
        server.requests.clear()
        assert site.take()[0].outcome is Outcome.UNCHANGED
        assert [path for path, _ in server.requests] == ["/dists/bookworm-security/InRelease"]


@pytest.fixture
def packed(tmp_path: Path, mirror: Mirror, site: Site) -> Site:
    """The site, with a mirror whose packages are real ones."""
    linked = build_deb(
        tmp_path, "libexample1", {"usr/lib/a": b"a"}, [("usr/share/doc/libexample1", "example-common")]
    )
    carrying = deb_with_changelog(tmp_path, "example-common", "example", "1.0-2")
    mirror.debs = [
        Deb("libexample1", "1.0-2", source="example", content=linked),
        Deb("example-common", "1.0-2", source="example", content=carrying),
        Deb("other", "2.0-1", content=deb_with_changelog(tmp_path, "other", "other", "2.0-1", "zstd")),
    ]
    mirror.write()
    return site


def test_the_changelog_of_an_outdated_package_comes_from_a_package_that_has_it(packed):
    (result,) = packed.changelogs({("example", "1.0-2")})
    assert (result.name, result.outcome, result.records) == ("changelogs:debian:12", Outcome.IMPORTED, 2)
    assert packed.versions() == {("example", "1.0-2")}


def test_a_linked_documentation_folder_names_the_package_to_take_next(packed, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr("undercroft.usecases.changelogs.MAX_TRIED", 2)
    without = build_deb(tmp_path, "libexample2", {"usr/lib/b": b"b"})
    mirror.debs.append(Deb("libexample2", "1.0-2", source="example", content=without))
    by_size = ("libexample1", "libexample2", "example-common")
    mirror.debs = [
        replace(deb, content=deb.content.ljust(4000 + by_size.index(deb.package), b"\0"))
        for deb in mirror.debs
        if deb.package in by_size
    ]
    mirror.write()
    packed.changelogs({("example", "1.0-2")})
    assert ("example", "1.0-2") in packed.versions()


def test_changelogs_are_added_to_those_that_are_there_and_not_fetched_twice(packed, mirror, tmp_path):
    packed.changelogs({("example", "1.0-2")})
    packed.changelogs({("other", "2.0-1")})
    assert {source for source, _ in packed.versions()} == {"example", "other"}
    shutil.rmtree(mirror.folder / "pool")
    assert packed.changelogs({("example", "1.0-2"), ("other", "2.0-1")}) == ()
    mirror.debs[2] = Deb("other", "2.0-2", content=deb_with_changelog(tmp_path, "other", "other", "2.0-2"))
    mirror.dated_at += timedelta(hours=1)
    mirror.write()
    (result,) = packed.changelogs({("other", "2.0-2")})
    assert result.records == 2  # a changelog is kept whole, beside the one that it continues
    assert packed.feeds()["changelogs:debian:12"].records == 6


def test_a_package_that_was_tampered_with_is_refused_by_name(packed, mirror):
    path = mirror.folder / mirror.debs[2].path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    results = packed.changelogs({("other", "2.0-1"), ("example", "1.0-2")})
    assert [(r.name, r.outcome) for r in results] == [
        ("changelogs:debian:12:other", Outcome.REFUSED),
        ("changelogs:debian:12", Outcome.IMPORTED),
    ]
    assert "the signed index says" in results[0].detail


def test_a_changelog_that_does_not_reach_the_packages_version_is_refused(packed, mirror, tmp_path):
    mirror.debs[2] = Deb("other", "2.0-9", content=deb_with_changelog(tmp_path, "other", "other", "2.0-1"))
    mirror.write()
    (result,) = packed.changelogs({("other", "2.0-9")})
    assert "does not reach up to 2.0-9" in result.detail


def test_a_signed_kernels_history_is_that_of_the_kernel_that_it_signs(packed, mirror, tmp_path):
    mirror.debs += [
        Deb("linux-image-amd64", "6.1.128-1", source="linux-signed-amd64 (6.1.128+1)", content=b"never read"),
        Deb(
            "linux-libc-dev",
            "6.1.128-1",
            source="linux",
            content=deb_with_changelog(tmp_path, "linux-libc-dev", "linux", "6.1.128-1"),
        ),
    ]
    mirror.write()
    packed.changelogs({("linux", "6.1.128-1")})
    assert ("linux", "6.1.128-1") in packed.versions()


def test_what_is_not_in_the_index_is_not_fetched(packed):
    assert packed.changelogs({("other", "9.9-9"), ("unknown", "1")}) == ()
