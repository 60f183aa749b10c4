"""The bytes between host, server and child."""

import contextlib
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.errors import InputError
from undercroft.model.schema import Json
from undercroft.sandbox import wire
from undercroft.sandbox.limits import Limits
from undercroft.sandbox.wire import Request

texts = st.text(st.characters(exclude_categories=())).filter(
    lambda text: text == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
)
numbers = st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(value=values)
def test_an_answer_survives_the_way(value: Json) -> None:
    assert wire.decode_answer(wire.encode_answer(value)) == value


@given(untrusted=st.binary() | st.text('[]{}",:0123456789eE+-.\\u').map(str.encode))
def test_an_answer_of_any_bytes_is_decoded_or_refused(untrusted: bytes) -> None:
    with contextlib.suppress(InputError):
        wire.decode_answer(untrusted)


@given(message=st.text(st.characters(exclude_categories=()), max_size=3000))
def test_a_failure_fits_its_frame_and_keeps_its_beginning(message: str) -> None:
    body = wire.encode_failure("InputError", message)
    assert len(body) <= wire.MAX_FAILURE_BYTES
    assert wire.decode_failure(body) == ("InputError", message[: wire.MAX_FAILURE_CHARS])


@given(untrusted=st.binary())
def test_a_failure_of_any_bytes_is_decoded_or_a_value_error(untrusted: bytes) -> None:
    with contextlib.suppress(ValueError):
        wire.decode_failure(untrusted)


@pytest.fixture
def control() -> tuple[socket.socket, socket.socket]:
    host, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with host, server:
        yield host, server


def test_a_request_arrives_with_its_descriptors(control: tuple[socket.socket, socket.socket]) -> None:
    host, server = control
    request = Request("inspect", streaming=False, arguments={"a": ["\udc80", 1]}, limits=Limits(cpu_s=3))
    with open(os.devnull, "rb") as null:
        wire.send_request(host, request, [null.fileno()] * wire.MAX_DESCRIPTORS)
    received = wire.receive_request(server)
    assert received is not None
    assert received[0] == request
    assert len(received[1]) == wire.MAX_DESCRIPTORS
    for descriptor in received[1]:
        assert os.fstat(descriptor).st_rdev == os.stat(os.devnull).st_rdev
        os.close(descriptor)


def test_the_end_of_the_host_is_no_request(control: tuple[socket.socket, socket.socket]) -> None:
    host, server = control
    host.close()
    assert wire.receive_request(server) is None


def test_too_many_descriptors_are_refused(control: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(InputError, match="more than 250 files"):
        wire.send_request(
            control[0], Request("inspect", streaming=False, arguments={}, limits=Limits()), [0] * 253
        )
