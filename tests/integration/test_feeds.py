"""Feeds into the real database: from publishers, from files, with bad ones among them."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from feedfixtures import DATA, NOW, document, zipped
from feedserver import FeedServer, Resource, serving

from undercroft.adapters.download import SpoolingDownloader
from undercroft.errors import NotFoundError
from undercroft.model.finding import FeedStatus
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.feedresult import FeedProgress, FeedResult, Outcome
from undercroft.usecases.feeds import import_paths, update
from undercroft.usecases.journal import Journal
from undercroft.usecases.publishers import PUBLISHERS, Publisher, select

TRACKER = document("debian-tracker.json")
KEV = document("kev.json")
EPSS = document("epss.csv")


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with serving() as running:
        running.files = {
            "/tracker": Resource(TRACKER, etag='"t1"', last_modified="Thu, 13 Feb 2025 06:30:00 GMT"),
            "/kev": Resource(KEV, etag='"k1"'),
            "/epss": Resource(EPSS),
        }
        yield running


class Site:
    """A machine that keeps a database, a spool and a journal."""

    def __init__(self, folder: Path, server: FeedServer | None = None) -> None:
        self.folder = folder
        self.now = NOW
        self.seen: list[FeedProgress] = []
        self.publishers = (
            [
                Publisher(name, f"{server.url}/{path}", 1 << 20)
                for name, path in (("debian-tracker", "tracker"), ("kev", "kev"), ("epss", "epss"))
            ]
            if server
            else []
        )

    def update(self) -> dict[str, FeedResult]:
        with self._database() as database, SpoolingDownloader(self.folder / "spool") as downloader:
            found = update(
                database,
                downloader,
                self.publishers,
                self._journal(),
                now=self.now,
                progress=self.seen.append,
            )
        return {result.name: result for result in found}

    def take(self, *paths: Path) -> list[FeedResult]:
        with self._database() as database:
            return list(import_paths(database, paths, self._journal(), now=self.now))

    def feeds(self) -> dict[str, FeedStatus]:
        with AdvisoryDatabase(self.folder / "db") as database:
            return {found.name: found for found in database.feeds(self.now)}

    def _database(self) -> AdvisoryDatabase:
        return AdvisoryDatabase(self.folder / "db", writable=True)

    def _journal(self) -> Journal:
        return Journal(self.folder / "journal.json")


@pytest.fixture
def site(tmp_path: Path, server: FeedServer) -> Site:
    return Site(tmp_path, server)


def outcomes(results: dict[str, FeedResult]) -> dict[str, Outcome]:
    return {name: result.outcome for name, result in results.items()}


def test_an_update_brings_every_feed_and_tells_how_far_it_is(site):
    results = site.update()
    assert {name: (r.outcome, r.records) for name, r in results.items()} == {
        "debian-tracker": (Outcome.IMPORTED, 8),
        "kev": (Outcome.IMPORTED, 2),
        "epss": (Outcome.IMPORTED, 3),
    }
    assert {(step.name, step.stage) for step in site.seen} >= {("kev", "download"), ("kev", "import")}
    feeds = site.feeds()
    assert feeds["debian-tracker"].records == 8
    assert not any(found.stale for found in feeds.values())
    assert [path for path in (site.folder / "spool").iterdir() if not path.name.endswith(".json")] == []


def test_reading_a_large_file_is_told_too(site, server):
    lines = b"".join(b"CVE-2098-%06d,0.5,0.5\n" % number for number in range(60_000))
    site.publishers = [replace(publisher, limit_bytes=1 << 24) for publisher in site.publishers]
    server.files["/epss"] = Resource(EPSS + lines)
    assert site.update()["epss"].records == 60_003
    read = [(step.done, step.total) for step in site.seen if (step.name, step.stage) == ("epss", "read")]
    assert read == [(1 << 20, len(EPSS + lines))]


def test_a_second_update_fetches_only_what_changed(site, server):
    site.update()
    server.requests.clear()
    server.files["/kev"] = Resource(KEV.replace(b"02-13T15", b"02-14T10"), etag='"k2"')
    assert outcomes(site.update()) == {
        "debian-tracker": Outcome.UNCHANGED,
        "kev": Outcome.IMPORTED,
        "epss": Outcome.UNCHANGED,
    }
    asked = {path: headers.get("if-none-match") for path, headers in server.requests}
    assert asked == {"/tracker": '"t1"', "/kev": '"k1"', "/epss": None}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Resource(KEV[:-30]), "no valid JSON"),
        (Resource(b"<html>maintenance</html>"), "none of the formats that are read"),
        (Resource(EPSS), "holds epss, not kev"),
        (Resource(KEV.replace(b"2025-02-13T15", b"2025-02-12T15")), "is older than"),
        (Resource(KEV.replace(b"2025-02-13T15", b"2035-02-12T15")), "in the future"),
        (Resource(KEV.replace(b'"count": 2', b'"count": 3')), "cut off"),
        (Resource(KEV + b" " * (1 << 20)), "limit"),
        (Resource(statuses=[404]), "a site without internet names its own copy with --from kev=URL"),
    ],
)
def test_a_bad_feed_leaves_the_old_data_and_the_others_go_on(site, server, bad, message):
    site.update()
    before = site.feeds()["kev"]
    server.files["/kev"] = bad
    server.files["/epss"] = Resource(EPSS.replace(b"2025-02-13", b"2025-02-14"))
    results = site.update()
    assert results["kev"].outcome is Outcome.REFUSED
    assert message in results["kev"].detail
    assert results["epss"].outcome is Outcome.IMPORTED
    assert site.feeds()["kev"] == before


def test_a_feed_that_breaks_halfway_through_its_records_leaves_the_old_data(site, server):
    site.update()
    before = site.feeds()["epss"]
    server.files["/epss"] = Resource(EPSS.replace(b"2025-02-13", b"2025-02-14") + b"CVE-2024-0001,NaN,0\n")
    results = site.update()
    assert "no probability" in results["epss"].detail
    assert site.feeds()["epss"] == before


def test_a_frozen_tracker_grows_stale_although_it_is_fetched_every_day(site, server):
    server.files["/tracker"] = Resource(TRACKER)  # without a date of its own
    site.update()
    for _ in range(4):
        site.now += timedelta(days=1)
        assert site.update()["debian-tracker"].outcome is Outcome.UNCHANGED
    assert site.feeds()["debian-tracker"].stale
    server.files["/tracker"] = Resource(TRACKER + b"\n")
    assert site.update()["debian-tracker"].outcome is Outcome.IMPORTED
    assert not site.feeds()["debian-tracker"].stale


def test_an_update_that_was_interrupted_goes_on_where_it_stopped(site, server):
    class StopError(Exception):
        pass

    def stop(step: FeedProgress) -> None:
        if (step.name, step.stage) == ("epss", "import"):
            raise StopError

    with (
        site._database() as database,
        SpoolingDownloader(site.folder / "spool") as downloader,
        pytest.raises(StopError),
    ):
        update(database, downloader, site.publishers, site._journal(), now=NOW, progress=stop)
    assert set(site.feeds()) == {"debian-tracker", "kev"}
    assert outcomes(site.update()) == {
        "debian-tracker": Outcome.UNCHANGED,
        "kev": Outcome.UNCHANGED,
        "epss": Outcome.IMPORTED,
    }


def test_a_database_that_was_deleted_is_filled_again_whatever_the_journal_says(site):
    site.update()
    (site.folder / "db").unlink()
    assert set(outcomes(site.update()).values()) == {Outcome.IMPORTED}


def test_a_journal_that_is_damaged_costs_a_download_and_nothing_else(site):
    site.update()
    (site.folder / "journal.json").write_text('{"kev": [1')
    assert site.update()["kev"].outcome is Outcome.UNCHANGED


def test_files_of_every_format_are_imported_by_what_they_hold(tmp_path):
    site = Site(tmp_path)
    folder = tmp_path / "in"
    shutil.copytree(DATA, folder, ignore=shutil.ignore_patterns("README.md", "cve.json"))
    (folder / "cves.bin").write_bytes(zipped({"x.json": document("cve.json")}))
    (folder / "osv.bin").write_bytes(zipped({"x.json": document("osv-debian.json")}))
    old = NOW.timestamp() - 3600
    for path in folder.iterdir():
        os.utime(path, (old, old))
    results = site.take(folder)
    assert {result.outcome for result in results} == {Outcome.IMPORTED}
    assert {result.name for result in results} == {
        "cve",
        "debian-dsa",
        "debian-tracker",
        "epss",
        "kev",
        "openvex:https://vex.example.org/2025/web01",
        "osv:DSA-5863-1",
        "osv:Debian",
        "osv:UBUNTU-CVE-2024-12133",
    }
    assert {result.outcome for result in site.take(folder)} == {Outcome.UNCHANGED}


def test_a_file_is_no_younger_than_its_last_change_and_a_copy_of_it_stays_as_old(tmp_path):
    site = Site(tmp_path)
    path = tmp_path / "tracker.json"
    path.write_bytes(TRACKER)
    old = (NOW - timedelta(days=4)).timestamp()
    os.utime(path, (old, old))
    site.take(path)
    assert site.feeds()["debian-tracker"].stale
    copy = tmp_path / "copy.json"
    copy.write_bytes(TRACKER)
    assert [result.outcome for result in site.take(copy)] == [Outcome.UNCHANGED]
    assert site.feeds()["debian-tracker"].stale


def test_a_folder_of_cve_records_is_one_feed(tmp_path):
    site = Site(tmp_path)
    folder = tmp_path / "cvelist" / "cves" / "2022"
    folder.mkdir(parents=True)
    (folder / "a.json").write_bytes(document("cve.json"))
    (folder / "b.json").write_bytes(document("cve.json").replace(b"CVE-2022-0847", b"CVE-2022-0848"))
    (result,) = site.take(tmp_path / "cvelist")
    assert (result.name, result.records) == ("cve", 2)
    (folder / "b.json").write_bytes(document("cve.json")[:-20])
    (result,) = site.take(tmp_path / "cvelist")
    assert result.outcome is Outcome.REFUSED
    assert "b.json" in result.detail


def test_every_file_beside_cve_records_has_its_own_line(tmp_path):
    site = Site(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):  # more than the first few are looked at
        (folder / f"0{number:02}.json").write_bytes(
            document("openvex.json").replace(b"web01", b"w%d" % number)
        )
    (folder / "delta.json").write_text("[]")
    (folder / "dsa").write_bytes(document("dsa.list"))
    (folder / "kev.json").write_bytes(KEV)
    (folder / "record.txt").write_bytes(document("cve.json"))
    (folder / "zz.json").write_text("{")
    results = site.take(folder)
    assert len(results) == 12 + 5
    told = {result.name: result.outcome for result in results}
    assert told["cve"] is told["debian-dsa"] is told["kev"] is Outcome.IMPORTED
    assert told[f"{folder}/delta.json"] is Outcome.SKIPPED
    assert told[f"{folder}/zz.json"] is Outcome.REFUSED
    assert {"cve", "debian-dsa", "kev"} < site.feeds().keys()


def test_many_small_feeds_are_one_copy_of_the_database(tmp_path):
    site = Site(tmp_path)
    site.take()
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(300):
        record = document("osv-debian.json").replace(b"DSA-5863-1", b"DSA-9%03d-1" % number)
        (folder / f"{number}.json").write_bytes(record)
    before = (tmp_path / "db").stat().st_ino
    seen = []

    def look(step: FeedProgress) -> None:
        if step.stage == "import":
            seen.append((tmp_path / "db").stat().st_ino)

    with site._database() as database:
        results = import_paths(database, [folder], site._journal(), now=NOW, progress=look)
    assert {result.outcome for result in results} == {Outcome.IMPORTED}
    assert len(seen) == 300
    assert set(seen) == {before}
    assert len(site.feeds()) == 300
    assert {result.outcome for result in site.take(folder)} == {Outcome.UNCHANGED}


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Somebody whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_path_that_cannot_be_read_keeps_no_other_back(ordinary_user):
    with tempfile.TemporaryDirectory() as name:
        site = Site(Path(name))
        folder = Path(name, "in")
        closed = folder / "closed"
        closed.mkdir(parents=True)
        (closed / "kev.json").write_bytes(KEV)
        (folder / "tracker.json").write_bytes(TRACKER)
        closed.chmod(0)
        try:
            results = site.take(closed / "kev.json", closed, folder, folder / "tracker.json" / "x")
        finally:
            closed.chmod(0o700)
    assert [(result.name, result.outcome) for result in results] == [
        (str(closed / "kev.json"), Outcome.REFUSED),
        (str(closed), Outcome.REFUSED),
        (str(closed), Outcome.REFUSED),
        ("debian-tracker", Outcome.IMPORTED),
        (str(folder / "tracker.json" / "x"), Outcome.REFUSED),
    ]
    for result in results:
        assert result.outcome is Outcome.IMPORTED or result.detail.startswith(f"{result.name}: ")


def test_a_journal_that_cannot_be_written_has_its_own_line(tmp_path):
    site = Site(tmp_path)
    (tmp_path / "journal.json").mkdir()
    (tmp_path / "kev.json").write_bytes(KEV)
    imported, journal = site.take(tmp_path / "kev.json")
    assert imported.outcome is Outcome.IMPORTED
    assert journal.outcome is Outcome.REFUSED
    assert journal.detail.startswith(f"{tmp_path}/journal.json: cannot be written")


def test_each_bad_path_has_its_own_line_and_the_good_ones_are_imported(tmp_path):
    site = Site(tmp_path)
    good = tmp_path / "kev.json"
    good.write_bytes(KEV)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    os.mkfifo(tmp_path / "pipe")
    paths = [tmp_path / name for name in ("missing", "empty", "nothing", "pipe")]
    results = site.take(*paths, good)
    assert [result.outcome for result in results] == [Outcome.REFUSED] * 4 + [Outcome.IMPORTED]
    expected = ("there is no such file", "is empty", "holds no file", "is no regular file")
    for result, path, message in zip(results, paths, expected, strict=False):
        assert result.detail.startswith(f"{path}: ")
        assert message in result.detail


def test_symlinks_in_a_folder_are_not_followed(tmp_path):
    site = Site(tmp_path)
    secret = tmp_path / "secret.json"
    secret.write_bytes(KEV)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.json").symlink_to(secret)
    (folder / "tracker.json").write_bytes(TRACKER)
    assert [result.name for result in site.take(folder)] == ["debian-tracker"]


def test_publishers_are_chosen_by_name_and_moved_by_option_or_environment():
    asked = {p.name for p in select((), {}, {})}
    assert asked == {"debian-tracker", "debian-dsa", "debian-dla", "osv:Debian", "osv:Ubuntu", "kev", "epss"}
    assert {"cve", "osv:AlmaLinux", "alpine-secdb:3.19:main", "arch"} <= {p.name for p in PUBLISHERS}
    environment = {"UNDERCROFT_FEED_OSV_DEBIAN": "https://b.example.org/all.zip"}
    moved = select(["osv:Debian", "kev"], {"kev": "https://a.example.org/kev.json"}, environment)
    assert [p.url for p in moved] == ["https://b.example.org/all.zip", "https://a.example.org/kev.json"]
    assert all(p.url.startswith("https://") for p in PUBLISHERS)
    with pytest.raises(NotFoundError, match="no feed is called 'kew'; known are debian-tracker"):
        select(["kew"], {}, {})


def test_the_real_feeds_are_imported_whole(tmp_path, shared_data):
    site = Site(tmp_path)
    folder = shared_data / "advisories"
    wanted = {"debian-DSA.list": 20_000, "debian-DLA.list": 15_000, "cisa-kev.json": 1404}
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, which only some checkouts have")
    site.now = NOW + timedelta(days=365)
    results = site.take(*[folder / name for name in wanted])
    assert [result.outcome for result in results] == [Outcome.IMPORTED] * 3
    assert all(result.records >= least for result, least in zip(results, wanted.values(), strict=True))
    assert json.loads((folder / "cisa-kev.json").read_bytes())["count"] == results[2].records
