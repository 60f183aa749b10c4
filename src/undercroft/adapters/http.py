"""Downloads over HTTPS, with httpx: resumed, bounded and verified.

Guarantees: a redirect never leaves the scheme for a weaker one; plain http only where the caller verifies
the file otherwise, or on the loopback interface; at most `limit_bytes` reach the disk; a cut connection is
taken up again where it broke (Range with If-Range, RFC 9110 section 14), and two halves are joined only
when the server says by a strong validator that they are of one edition, or a wanted digest will tell.
Proxies and certificates come from the environment, as httpx reads them.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import httpx

from undercroft.adapters import spool
from undercroft.adapters.spool import SpooledFile, Validators
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError
from undercroft.ports.downloader import BytesProgress, Download, Wanted

ATTEMPTS = 5
UNREACHABLE_ATTEMPTS = 2
MAX_REDIRECTS = 5
TIMEOUT_S = 30.0
"""For connecting, and for each pause between two pieces."""
MAX_TRANSFER_S = 3600.0
"""For one attempt: a server that drips bytes for ever gets no further."""

HEADERS = {"Accept-Encoding": "identity", "User-Agent": "undercroft"}
_CONDITIONS = {"If-None-Match", "If-Modified-Since"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")


class _TransientError(Exception):
    """What may be gone at the next attempt."""


class HttpDownloader:
    """Fetches files over HTTP into a spool folder. A context manager, which closes its connections.

    Args:
        folder: the spool; made if need be, for this user alone.
        sleep: waits between attempts, in seconds.

    Raises:
        OperationError: the spool cannot be made.
    """

    def __init__(self, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        spool.make(folder)
        self._folder = folder
        self._sleep = sleep
        self._client = httpx.Client(timeout=TIMEOUT_S, headers=HEADERS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def download(self, wanted: Wanted, progress: BytesProgress) -> Download | None:
        """See `Downloader.download`."""
        spooled = SpooledFile(self._folder, wanted)
        attempts = 0
        while True:
            attempts += 1
            try:
                return spooled.existing() or self._attempt(wanted, spooled, progress)
            except (_TransientError, httpx.TransportError) as error:
                # No name, no route, nobody listening: that rarely changes within seconds.
                if attempts >= (UNREACHABLE_ATTEMPTS if isinstance(error, httpx.ConnectError) else ATTEMPTS):
                    kept = "; what has arrived is kept for the next run" if spooled.part_bytes() else ""
                    raise OperationError(
                        f"{wanted.url}: cannot be downloaded: {str(error) or type(error).__name__} "
                        f"({attempts} attempts){kept}"
                    ) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise OperationError(f"{wanted.url}: cannot be downloaded: {error}") from error
            except InputError:
                spooled.forget_part()
                raise
            except OSError as error:
                raise OperationError(f"{wanted.url}: cannot be stored in {self._folder}: {error}") from error
            self._sleep(2.0 ** (attempts - 1))

    def discard(self, download: Download) -> None:
        """See `Downloader.discard`."""
        spool.discard(download)

    def _attempt(self, wanted: Wanted, spooled: SpooledFile, progress: BytesProgress) -> Download | None:
        whole = spooled.unused() if not (wanted.etag or wanted.last_modified) else None
        with spooled.growing() as part:
            headers = _request_headers(wanted, part.tell(), spooled.validators(), whole)
            with self._open(wanted, headers) as response:
                if response.status_code == httpx.codes.NOT_MODIFIED and headers.keys() & _CONDITIONS:
                    spooled.drop_part()
                    return whole
                _check_status(response, wanted, spooled)
                if response.status_code == httpx.codes.OK:
                    part.truncate(0)
                    spooled.start(_validators(response))
                _receive(response, part, wanted, progress)
            part.flush()
            return spooled.finish()

    @contextmanager
    def _open(self, wanted: Wanted, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Yield the response at the end of the redirects."""
        url = httpx.URL(wanted.url)
        _check_scheme(url, wanted.plain_http)
        for _ in range(MAX_REDIRECTS + 1):
            with self._client.stream("GET", url, headers=headers) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                target = response.url.join(response.headers["location"])
            _check_scheme(target, wanted.plain_http and url.scheme == "http")
            url = target
        raise OperationError(f"{wanted.url}: more than {MAX_REDIRECTS} redirects")


def _check_scheme(url: httpx.URL, plain_http: bool) -> None:
    if url.scheme == "https" or (url.scheme == "http" and (plain_http or url.host in _LOOPBACK)):
        return
    raise DeniedError(f"{url}: only https is followed here; give an https address or a downloaded file")


def _request_headers(
    wanted: Wanted, have_bytes: int, validators: Validators, whole: Download | None
) -> dict[str, str]:
    """Return the headers that ask for what is missing of a part, or for an edition other than one known."""
    if have_bytes and validators.if_range:
        return {"Range": f"bytes={have_bytes}-", "If-Range": validators.if_range}
    if have_bytes and wanted.sha256:
        return {"Range": f"bytes={have_bytes}-"}
    known = whole or wanted
    headers = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in headers.items() if value}


def _check_status(response: httpx.Response, wanted: Wanted, spooled: SpooledFile) -> None:
    code = response.status_code
    if code in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise OperationError(f"{wanted.url}: the server encodes it although it was asked not to")
        return
    if code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        spooled.forget_part()
        raise _TransientError("the part that was kept is of another edition")
    if code >= 500 or code in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT}:
        raise _TransientError(f"the server answers {code} {response.reason_phrase}")
    if code in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise NotFoundError(f"{wanted.url}: the server has no such file ({code})")
    raise OperationError(f"{wanted.url}: the server answers {code} {response.reason_phrase}")


def _validators(response: httpx.Response) -> Validators:
    return Validators(response.headers.get("etag", ""), response.headers.get("last-modified", ""))


def _receive(response: httpx.Response, part: BinaryIO, wanted: Wanted, progress: BytesProgress) -> None:
    """Append the body to `part`, at most up to the limit, and check that it came whole."""
    size_bytes = part.seek(0, 2)
    total = _total_bytes(response, size_bytes, wanted)
    if total is not None and total > wanted.limit_bytes:
        raise spool.too_large(wanted)
    deadline = time.monotonic() + MAX_TRANSFER_S
    for (
        chunk
    ) in response.iter_raw():  # as they come: a buffer would lose what it holds when the connection breaks
        size_bytes += len(chunk)
        if size_bytes > wanted.limit_bytes:
            raise spool.too_large(wanted)
        if time.monotonic() > deadline:
            raise _TransientError(f"slower than {MAX_TRANSFER_S:.0f} s")
        part.write(chunk)
        progress(size_bytes, total)
    if total is not None and size_bytes != total:
        raise _TransientError(f"cut off: {size_bytes} bytes of {total}")


def _total_bytes(response: httpx.Response, have_bytes: int, wanted: Wanted) -> int | None:
    """Return the whole file's length, None where the server does not say."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        length = response.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None or int(found[1]) != have_bytes:
        raise OperationError(f"{wanted.url}: the server resumes at another byte than {have_bytes}")
    return None if found[3] == "*" else int(found[3])
