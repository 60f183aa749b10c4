"""The metrics' address: answers, and gives nobody on the host the agent's threads."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from memoryrecords import MemoryRecords

from undercroft.agent import metrics
from undercroft.errors import InputError, OperationError


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(metrics._Handler, "timeout", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    end = metrics.serve(MemoryRecords(), f"127.0.0.1:{number}")
    yield number
    end()


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return answer.read().decode()


def test_it_answers_with_the_fleets_numbers(port: int) -> None:
    assert "undercroft_live_executions 0.0" in scraped(port)


def test_idle_connections_take_no_more_threads_than_the_limit_and_give_them_back(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics._Handler, "timeout", 60.0)
    before = threading.active_count()
    with ExitStack() as opened:
        idle = [
            opened.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20)))
            for _ in range(4 * metrics.MAX_CONNECTIONS)
        ]
        assert [one.recv(1) for one in idle[metrics.MAX_CONNECTIONS :]] == [b""] * 3 * metrics.MAX_CONNECTIONS
        assert threading.active_count() <= before + metrics.MAX_CONNECTIONS
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(20)
    assert "undercroft_live_executions" in scraped(port)


def test_who_sends_nothing_is_sent_away(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as idle:
        assert idle.recv(1) == b""


@pytest.mark.parametrize("address", ["", "9477", ":9477", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT expected"):
        metrics.serve(MemoryRecords(), address)


def test_an_address_in_use_is_told(port: int) -> None:
    with pytest.raises(OperationError, match=f"metrics at 127.0.0.1:{port}"):
        metrics.serve(MemoryRecords(), f"127.0.0.1:{port}")
