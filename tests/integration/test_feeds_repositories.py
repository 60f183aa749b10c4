"""Errata from a repository on a server: its index first, then the file that it names, where that is new."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from erratadata import ORACLE, Rpm, erratum, updateinfo
from feedfixtures import NOW
from feedserver import FeedServer, Resource, serving

from undercroft.adapters.download import SpoolingDownloader
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.feedresult import FeedResult, Outcome
from undercroft.usecases.feeds import update
from undercroft.usecases.journal import Journal
from undercroft.usecases.publishers import PUBLISHERS, Publisher

NAME = "updateinfo:oracle:9:ol9_appstream"
INDEX = "/OL9/appstream/repodata/repomd.xml"
ERRATA = "/OL9/appstream/repodata/a-updateinfo.xml.gz"
NEWER = erratum("ELSA-2025-9", [Rpm("a", "1-1.el9")], issued="2025-02-10", release="Oracle Linux 9")


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with serving() as running:
        offer(running, updateinfo(ORACLE), '"1"')
        yield running


def offer(server: FeedServer, content: bytes, etag: str, digest: str = "") -> None:
    data = gzip.compress(content, mtime=0)
    digest = digest or hashlib.sha256(data).hexdigest()
    index = (
        f'<repomd><data type="updateinfo"><checksum type="sha256">{digest}</checksum>'
        '<location href="repodata/a-updateinfo.xml.gz"/></data></repomd>'
    )
    server.files = {INDEX: Resource(index.encode(), etag=etag), ERRATA: Resource(data)}
    server.requests.clear()


def taken(server: FeedServer, folder: Path, name: str = NAME) -> FeedResult:
    publisher = Publisher(name, server.url + INDEX, 1 << 20)
    with (
        AdvisoryDatabase(folder / "db", writable=True) as database,
        SpoolingDownloader(folder / "spool") as downloader,
    ):
        (found,) = update(database, downloader, [publisher], Journal(folder / "journal.json"), now=NOW)
    return found


def asked(server: FeedServer) -> list[str]:
    return [path for path, _ in server.requests]


def test_a_repositorys_errata_are_fetched_by_its_index(server: FeedServer, tmp_path: Path) -> None:
    result = taken(server, tmp_path)
    assert (result.name, result.outcome, result.records) == (NAME, Outcome.IMPORTED, 6)
    assert asked(server) == [INDEX, ERRATA]
    assert [path for path in (tmp_path / "spool").iterdir() if not path.name.endswith(".json")] == []


def test_errata_that_are_there_are_not_fetched_again(server: FeedServer, tmp_path: Path) -> None:
    taken(server, tmp_path)
    server.requests.clear()
    assert taken(server, tmp_path).outcome is Outcome.UNCHANGED
    assert asked(server) == [INDEX]
    offer(server, updateinfo(ORACLE), '"2"')  # packages were added, and no erratum
    assert taken(server, tmp_path).outcome is Outcome.UNCHANGED
    assert asked(server) == [INDEX]
    offer(server, updateinfo(ORACLE, NEWER), '"3"')
    assert taken(server, tmp_path).outcome is Outcome.IMPORTED


def test_a_file_that_is_not_the_one_of_the_index_is_refused(server: FeedServer, tmp_path: Path) -> None:
    taken(server, tmp_path)
    offer(server, updateinfo(NEWER), '"2"', digest="0" * 64)
    assert taken(server, tmp_path).outcome is Outcome.REFUSED
    offer(server, updateinfo(ORACLE, NEWER), '"3"')
    server.files[ERRATA] = Resource(statuses=[404])
    assert "names its own copy with --from" in taken(server, tmp_path).detail


def test_another_releases_errata_are_refused(server: FeedServer, tmp_path: Path) -> None:
    result = taken(server, tmp_path, "updateinfo:oracle:8:ol8_appstream")
    assert result.outcome is Outcome.REFUSED
    assert "is for oracle:9, and not for oracle:8" in result.detail


def test_every_repository_that_is_known_is_named_for_what_its_errata_turn_out_to_be() -> None:
    known = [one for one in PUBLISHERS if one.name.startswith("updateinfo:")]
    assert {one.name.split(":")[1] for one in known} == {"oracle", "fedora", "epel"}
    assert all(one.optional and one.url.endswith("/x86_64/repodata/repomd.xml") for one in known)
    assert len({one.url for one in known}) == len(known)
