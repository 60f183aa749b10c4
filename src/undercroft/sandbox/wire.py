"""The bytes between host, server and child. Nothing here is ever unpickled.

- Request, host to server: one datagram of at most `MAX_REQUEST_BYTES` of JSON, with the descriptors as
  SCM_RIGHTS: answer socket, status socket, then the job's own.
- Frame, child to host, over the answer socket: kind (1 byte), length (32 bits, big-endian), body. A call
  answers with one ANSWER; a stream with any number of DATA and one END; either may end in FAILURE.
- Status, server to host, over the status socket: how the child ended, one datagram. Closing the status
  socket from the host's side ends the child.
"""

import array
import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from undercroft.errors import InputError
from undercroft.model.schema import Json
from undercroft.sandbox.limits import Limits

READY = b"ready"
ANSWER, DATA, END, FAILURE = b"A", b"D", b"Z", b"F"
HEADER = struct.Struct(">cI")
STATUS = struct.Struct("=i")

MAX_REQUEST_BYTES = 128 << 10
"""Room for the largest set of reads that is replayed; below what a socket takes at once by default."""

MAX_DESCRIPTORS = 250
"""With the two of the job itself below what the kernel sends at once, SCM_MAX_FD, 253."""

MAX_DATA_BYTES = 1 << 20
MAX_FAILURE_BYTES = 4 << 10
MAX_FAILURE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One job, from the trusted host. `streaming` chooses between the module's JOBS and STREAMS."""

    job: str
    streaming: bool
    arguments: dict[str, Json]
    limits: Limits


def send_request(control: socket.socket, request: Request, descriptors: Sequence[int]) -> None:
    """Send a job to the server.

    Raises:
        InputError: the arguments or the descriptors pass the limits.
        OSError: the server is gone.
    """
    body = json.dumps(asdict(request)).encode("ascii")
    if len(body) > MAX_REQUEST_BYTES:
        raise InputError(f"{request.job}: arguments of {len(body)} bytes, the limit is {MAX_REQUEST_BYTES}")
    if len(descriptors) > MAX_DESCRIPTORS + 2:
        raise InputError(f"{request.job}: more than {MAX_DESCRIPTORS} files at once")
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    control.sendmsg([body], [rights])


def receive_request(control: socket.socket) -> tuple[Request, list[int]] | None:
    """Return the next job and its descriptors, None when the host is gone."""
    body, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, MAX_DESCRIPTORS + 2)
    if not body:
        return None
    fields = json.loads(body)
    fields["limits"] = Limits(**fields["limits"])
    return Request(**fields), descriptors


def send_frame(descriptor: int, kind: bytes, body: bytes = b"") -> None:
    """Write one frame whole. Raises OSError when the host is gone."""
    for piece in (HEADER.pack(kind, len(body)), body):
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]


def encode_failure(name: str, message: str) -> bytes:
    """Return a FAILURE's body: the error's class name, a line feed, the text cut to its limit."""
    text = message[:MAX_FAILURE_CHARS]
    return name.encode("ascii") + b"\n" + text.encode("utf-8", "surrogatepass")[: MAX_FAILURE_BYTES - 64]


def decode_failure(untrusted_body: bytes) -> tuple[str, str]:
    """Return class name and text of a FAILURE, neither of them checked. Raises ValueError."""
    name, _, text = untrusted_body.partition(b"\n")
    return name.decode("ascii"), text.decode("utf-8", "surrogatepass")


def body_limits(limits: Limits, *, streaming: bool) -> dict[bytes, int]:
    """Return the kinds of frame that a job may send, each with its largest body in bytes."""
    if streaming:
        return {DATA: MAX_DATA_BYTES, END: 0, FAILURE: MAX_FAILURE_BYTES}
    return {ANSWER: limits.answer_bytes, FAILURE: MAX_FAILURE_BYTES}


def encode_answer(value: Json) -> bytes:
    """Return an answer as ASCII JSON; undecodable bytes (PEP 383 surrogates) survive as escapes."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def decode_answer(untrusted_body: bytes) -> Json:
    """Return an answer's JSON value, of any shape. Raises InputError."""
    try:
        value: Json = json.loads(untrusted_body.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise InputError("the reader's answer is no JSON") from error
    return value
