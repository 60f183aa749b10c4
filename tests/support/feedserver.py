"""A small HTTP server on the loopback interface that misbehaves as told."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Resource:
    """One file of the server.

    Attributes:
        data: its content.
        etag: "" to send none.
        last_modified: "" to send none.
        cut_after: close the connection after so many bytes of the body, once for each entry.
        statuses: answer with these codes first.
        location: redirect there.
        ranges: whether Range is honoured.
        headers: more headers.
        chunked: send no Content-Length.
    """

    data: bytes = b""
    etag: str = ""
    last_modified: str = ""
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False


@dataclass
class FeedServer:
    """Serves `files` by path and notes the requests' headers in `requests`."""

    url: str
    files: dict[str, Resource] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def ranges(self) -> list[str]:
        """Return the Range headers of all requests, "" where there was none."""
        return [headers.get("range", "") for _, headers in self.requests]


@contextmanager
def serving() -> Iterator[FeedServer]:
    """Run a server in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.requests.append((self.path, headers))
            _answer(self, server.files.get(self.path), headers)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that has seen enough hangs up

    httpd = Server(("127.0.0.1", 0), Handler)
    server = FeedServer(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def _answer(handler: BaseHTTPRequestHandler, found: Resource | None, asked: dict[str, str]) -> None:
    if found is None or found.statuses:
        _empty(handler, 404 if found is None else found.statuses.pop(0))
        return
    if found.location:
        _empty(handler, 302, {"Location": found.location})
        return
    if found.etag and asked.get("if-none-match") == found.etag:
        _empty(handler, 304)
        return
    start, code = _range(found, asked), 200
    headers = dict(found.headers)
    if start is not None:
        if start >= len(found.data):
            _empty(handler, 416)
            return
        code = 206
        headers["Content-Range"] = f"bytes {start}-{len(found.data) - 1}/{len(found.data)}"
    body = found.data[start or 0 :]
    if not found.chunked:
        headers["Content-Length"] = str(len(body))
    headers |= {"ETag": found.etag} if found.etag else {}
    headers |= {"Last-Modified": found.last_modified} if found.last_modified else {}
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    if found.cut_after:
        body = body[: found.cut_after.pop(0)]
    handler.wfile.write(body)
    handler.close_connection = True


def _range(found: Resource, asked: dict[str, str]) -> int | None:
    match = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
    validator = asked.get("if-range")
    if match is None or not found.ranges or validator not in {None, found.etag, found.last_modified}:
        return None
    return int(match[1])


def _empty(handler: BaseHTTPRequestHandler, code: int, headers: dict[str, str] | None = None) -> None:
    handler.send_response(code)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
