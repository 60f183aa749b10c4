"""One job as the host sees it; the test plays the server and the child."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from undercroft.errors import InputError, OperationError
from undercroft.sandbox import conversation, wire
from undercroft.sandbox.conversation import Conversation, ServerGoneError
from undercroft.sandbox.limits import Limits

LIMITS = Limits(wall_s=0.2, answer_bytes=1000)


@dataclass
class Job:
    """The host's conversation, and the ends that server and child hold."""

    host: Conversation
    answer: socket.socket
    status: socket.socket


def start(*, streaming: bool) -> Iterator[Job]:
    control, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with control, server, Conversation(control, "job", {}, [], LIMITS, streaming=streaming) as host:
        received = wire.receive_request(server)
        assert received is not None
        answer, status = (socket.socket(fileno=descriptor) for descriptor in received[1])
        with answer, status:
            yield Job(host, answer, status)


@pytest.fixture
def call() -> Iterator[Job]:
    yield from start(streaming=False)


@pytest.fixture
def stream() -> Iterator[Job]:
    yield from start(streaming=True)


def test_a_frame_in_single_bytes_is_put_together(stream: Job) -> None:
    for byte in struct.pack(">cI", b"D", 3) + b"abc" + struct.pack(">cI", b"Z", 0):
        stream.answer.send(bytes([byte]))
    assert stream.host.frame() == (wire.DATA, b"abc")
    assert stream.host.frame() == (wire.END, b"")


def test_a_death_is_told_by_the_status(call: Job) -> None:
    call.answer.close()
    call.status.send(wire.STATUS.pack(-11))
    with pytest.raises(InputError, match="died by SIGSEGV"):
        call.host.frame()


def test_a_server_that_ends_with_its_child_is_no_error_of_the_input(call: Job) -> None:
    call.answer.close()
    call.status.close()
    with pytest.raises(ServerGoneError) as caught:
        call.host.frame()
    assert isinstance(caught.value, OperationError)


def test_a_child_that_hangs_up_and_lives_on_is_an_error_of_the_input(
    call: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "STATUS_WAIT_S", 0.05)
    call.answer.close()
    with pytest.raises(InputError, match="hung up in the middle"):
        call.host.frame()


def test_silence_ends_the_hosts_patience(stream: Job) -> None:
    with pytest.raises(InputError, match=r"needs more than 0\.2 s"):
        stream.host.frame()


def test_leaving_a_job_is_seen_by_child_and_server(call: Job) -> None:
    call.host.close()
    assert call.answer.recv(1) == b""
    assert call.status.recv(1) == b""


def test_a_request_to_a_server_that_is_gone_fails_the_operation() -> None:
    control, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.close()
    with control, pytest.raises(ServerGoneError):
        Conversation(control, "job", {}, [], LIMITS, streaming=False)
