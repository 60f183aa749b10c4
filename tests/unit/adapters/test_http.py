import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from feedserver import FeedServer, Resource, serving

from undercroft.adapters import http
from undercroft.adapters.download import SpoolingDownloader
from undercroft.adapters.http import HttpDownloader
from undercroft.adapters.spool import SpooledFile, prune
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError
from undercroft.ports.downloader import Download, Wanted

DATA = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(DATA).hexdigest()
LIMIT = 1 << 24


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with serving() as running:
        yield running


class Fetching:
    """A downloader whose waits take no time."""

    def __init__(self, spool: Path) -> None:
        self.waits: list[float] = []
        self.seen: list[tuple[int, int | None]] = []
        self.spool = spool

    def __call__(self, url: str, **options: object) -> Download | None:
        wanted = Wanted(**({"url": url, "limit_bytes": LIMIT} | options))
        with HttpDownloader(self.spool, sleep=self.waits.append) as downloader:
            return downloader.download(wanted, lambda done, total: self.seen.append((done, total)))


@pytest.fixture
def fetch(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path / "spool")


def test_a_file_arrives_with_its_digest_and_validators(server, fetch):
    server.files["/a"] = Resource(DATA, etag='"1"', last_modified="Thu, 13 Feb 2025 06:30:00 GMT")
    download = fetch(f"{server.url}/a")
    assert download.path.read_bytes() == DATA
    assert (download.sha256, download.etag) == (SHA256, '"1"')
    assert download.modified_at == datetime(2025, 2, 13, 6, 30, tzinfo=UTC)
    assert fetch.seen[-1] == (len(DATA), len(DATA))
    assert fetch.spool.stat().st_mode & 0o777 == 0o700


def test_a_cut_connection_is_taken_up_where_it_broke(server, fetch):
    server.files["/a"] = Resource(DATA, etag='"1"', cut_after=[300_000, 300_000])
    assert fetch(f"{server.url}/a").path.read_bytes() == DATA
    assert server.ranges() == ["", "bytes=300000-", "bytes=600000-"]
    assert all(headers.get("if-range") == '"1"' for _, headers in server.requests[1:])
    assert fetch.waits == [1.0, 2.0]


def test_the_next_run_resumes_what_this_one_could_not_finish(server, fetch):
    server.files["/a"] = Resource(DATA, etag='"1"', cut_after=[100_000] * http.ATTEMPTS)
    with pytest.raises(OperationError, match="what has arrived is kept for the next run"):
        fetch(f"{server.url}/a")
    assert fetch(f"{server.url}/a").sha256 == SHA256
    assert server.ranges()[-1] == f"bytes={100_000 * http.ATTEMPTS}-"


def test_two_editions_are_never_joined(server, fetch):
    other = DATA[::-1]
    server.files["/a"] = Resource(DATA, etag='"1"', cut_after=[100_000])
    change_at_second_request(server, "/a", Resource(other, etag='"2"'))
    assert fetch(f"{server.url}/a").path.read_bytes() == other
    assert server.ranges() == ["", "bytes=100000-"]


def change_at_second_request(server: FeedServer, path: str, resource: Resource) -> None:
    first = server.files[path]

    class Changing(dict):
        def get(self, key, default=None):
            return resource if not first.cut_after and key == path else first

    server.files = Changing()


def test_without_if_range_the_halves_would_have_been_joined(server, fetch, monkeypatch):
    monkeypatch.setattr(
        http, "_request_headers", lambda _, have, *__: {"Range": f"bytes={have}-"} if have else {}
    )
    other = DATA[::-1]
    server.files["/a"] = Resource(DATA, etag='"1"', cut_after=[100_000])
    change_at_second_request(server, "/a", Resource(other, etag='"2"'))
    assert fetch(f"{server.url}/a").path.read_bytes() == DATA[:100_000] + other[100_000:]


@pytest.mark.parametrize("validators", [{"etag": 'W/"1"'}, {}])
def test_without_a_strong_validator_it_starts_again(server, fetch, validators):
    server.files["/a"] = Resource(DATA, cut_after=[100_000], **validators)
    assert fetch(f"{server.url}/a").sha256 == SHA256
    assert server.ranges() == ["", ""]


def test_a_wanted_digest_lets_it_resume_without_a_validator(server, fetch):
    server.files["/a"] = Resource(DATA, cut_after=[100_000])
    assert fetch(f"{server.url}/a", sha256=SHA256).sha256 == SHA256
    assert server.ranges() == ["", "bytes=100000-"]


def test_a_server_that_ignores_ranges_starts_again(server, fetch):
    server.files["/a"] = Resource(DATA, etag='"1"', cut_after=[100_000], ranges=False)
    assert fetch(f"{server.url}/a").sha256 == SHA256


def test_a_part_longer_than_the_file_is_dropped(server, fetch):
    server.files["/a"] = Resource(DATA, etag='"1"', cut_after=[200_000] * http.ATTEMPTS)
    with pytest.raises(OperationError):
        fetch(f"{server.url}/a")
    server.files["/a"] = Resource(DATA[:1000], etag='"1"')
    assert fetch(f"{server.url}/a").size_bytes == 1000


def test_another_digest_than_the_wanted_one_is_refused_and_forgotten(server, fetch):
    server.files["/a"] = Resource(DATA[:-1] + b"x", etag='"1"')
    with pytest.raises(InputError, match=f"the signed index says {SHA256}"):
        fetch(f"{server.url}/a", sha256=SHA256)
    server.files["/a"] = Resource(DATA, etag='"1"')
    assert fetch(f"{server.url}/a", sha256=SHA256).sha256 == SHA256


def test_a_file_that_is_here_with_the_wanted_digest_is_not_fetched_again(server, fetch):
    server.files["/a"] = Resource(DATA)
    fetch(f"{server.url}/a", sha256=SHA256)
    fetch(f"{server.url}/a", sha256=SHA256)
    assert len(server.requests) == 1


def test_a_file_in_the_spool_that_somebody_changed_is_fetched_again(server, fetch):
    server.files["/a"] = Resource(DATA)
    fetch(f"{server.url}/a", sha256=SHA256).path.write_bytes(b"changed")
    assert fetch(f"{server.url}/a", sha256=SHA256).path.read_bytes() == DATA


def test_an_unchanged_edition_is_not_sent_again(server, fetch):
    server.files["/a"] = Resource(DATA, etag='"1"')
    assert fetch(f"{server.url}/a", etag='"1"') is None
    assert fetch(f"{server.url}/a", etag='"0"').sha256 == SHA256


def test_a_whole_file_that_an_earlier_run_did_not_use_is_not_sent_again(server, fetch):
    server.files["/a"] = Resource(DATA, etag='"1"')
    fetch(f"{server.url}/a")
    again = fetch(f"{server.url}/a")
    assert (again.sha256, again.etag) == (SHA256, '"1"')
    assert server.requests[-1][1]["if-none-match"] == '"1"'
    server.files["/a"] = Resource(DATA[::-1], etag='"2"', cut_after=[100_000])
    assert fetch(f"{server.url}/a").path.read_bytes() == DATA[::-1]


def test_a_server_that_says_unchanged_although_nothing_was_asked_is_refused(server, fetch):
    server.files["/a"] = Resource(statuses=[304])
    with pytest.raises(OperationError, match="304"):
        fetch(f"{server.url}/a")


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_is_refused_with_and_without_a_length(server, fetch, chunked):
    server.files["/a"] = Resource(DATA, chunked=chunked)
    with pytest.raises(InputError, match="too large: the limit is 1000 bytes"):
        fetch(f"{server.url}/a", limit_bytes=1000)
    assert [path for path in fetch.spool.iterdir() if path.stat().st_size > 1000] == []


def test_a_server_in_trouble_is_asked_again_a_few_times(server, fetch):
    server.files["/a"] = Resource(DATA, statuses=[503, 500, 429])
    assert fetch(f"{server.url}/a").sha256 == SHA256
    server.files["/b"] = Resource(DATA, statuses=[503] * 10)
    with pytest.raises(OperationError, match=r"the server answers 503 .*\(5 attempts\)$"):
        fetch(f"{server.url}/b")


def test_missing_and_forbidden_files_are_told_apart_and_not_asked_for_again(server, fetch):
    with pytest.raises(NotFoundError, match="no such file"):
        fetch(f"{server.url}/missing")
    server.files["/a"] = Resource(statuses=[403])
    with pytest.raises(OperationError, match="403"):
        fetch(f"{server.url}/a")
    assert fetch.waits == []


def test_redirects_are_followed_a_few_times(server, fetch):
    server.files["/a"] = Resource(location="/b")
    server.files["/b"] = Resource(location=f"{server.url}/c")
    server.files["/c"] = Resource(DATA)
    assert fetch(f"{server.url}/a").sha256 == SHA256
    server.files["/loop"] = Resource(location="/loop")
    with pytest.raises(OperationError, match="redirects"):
        fetch(f"{server.url}/loop")


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/a", "http://mirror.example.org/a"]
)
def test_a_redirect_to_another_scheme_is_refused(server, fetch, target):
    server.files["/a"] = Resource(location=target)
    with pytest.raises(DeniedError, match="only https is followed"):
        fetch(f"{server.url}/a")


@pytest.mark.parametrize("url", ["http://mirror.example.org/a", "file:///etc/passwd", "ftp://example.org/a"])
def test_an_address_that_is_not_https_is_refused(fetch, url):
    with pytest.raises(DeniedError, match="only https is followed"):
        fetch(url)


def test_https_never_leads_to_plain_http_even_where_that_would_do():
    with pytest.raises(DeniedError):
        http._check_scheme(http.httpx.URL("http://mirror.example.org/a"), plain_http=False)
    http._check_scheme(http.httpx.URL("http://mirror.example.org/a"), plain_http=True)


def test_an_encoding_that_was_not_asked_for_is_refused(server, fetch):
    server.files["/a"] = Resource(DATA, headers={"Content-Encoding": "gzip"})
    with pytest.raises(OperationError, match="encodes it"):
        fetch(f"{server.url}/a")


def test_nobody_listening_is_one_clear_line(fetch):
    with pytest.raises(OperationError, match=r"/a: cannot be downloaded: .*\(2 attempts\)$"):
        fetch("http://127.0.0.1:9/a")


def test_a_malformed_address_is_refused(fetch):
    with pytest.raises((DeniedError, OperationError)):
        fetch("https://exa mple.org:port/a")


def test_two_processes_do_not_write_into_one_part(server, fetch):
    server.files["/a"] = Resource(DATA)
    fetch.spool.mkdir()
    wanted = Wanted(f"{server.url}/a", LIMIT)
    with (
        SpooledFile(fetch.spool, wanted).growing(),
        pytest.raises(OperationError, match="another process downloads it"),
    ):
        fetch(f"{server.url}/a")


def test_what_nobody_asked_for_in_two_weeks_is_removed(server, fetch):
    server.files["/a"] = Resource(DATA)
    path = fetch(f"{server.url}/a").path
    now = path.stat().st_mtime
    prune(fetch.spool, now + 13 * 86_400)
    assert path.exists()
    prune(fetch.spool, now + 15 * 86_400)
    assert not path.exists()


@pytest.mark.parametrize("place", ["spool", "spool/inner"])
def test_a_spool_that_is_a_file_is_named(tmp_path, place):
    (tmp_path / "spool").write_text("")
    with pytest.raises(OperationError, match="cannot be the folder for downloads") as refused:
        SpoolingDownloader(tmp_path / place)
    assert str(refused.value).startswith(f"{tmp_path / place}: ")
