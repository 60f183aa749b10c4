"""A call that never comes back keeps no other waiting, and no process from ending."""

import subprocess
import sys
import threading

import pytest

from undercroft.agent import waiting
from undercroft.agent.waiting import WaitingPool


def test_calls_give_results_and_errors_and_run_side_by_side() -> None:
    pool = WaitingPool(3, "test")
    together = threading.Barrier(3)
    futures = [pool.submit(together.wait, 10) for _ in range(3)]
    assert sorted(one.result(10) for one in futures) == [0, 1, 2]
    assert pool.submit(pow, 2, 5).result(10) == 32
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(10)
    pool.shutdown()


def test_no_more_run_at_once_than_there_are_workers() -> None:
    pool = WaitingPool(2, "test")
    release, begun = threading.Event(), threading.Semaphore(0)

    def call() -> bool:
        begun.release()
        return release.wait(30)

    futures = [pool.submit(call) for _ in range(4)]
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    assert not begun.acquire(timeout=0.2)
    release.set()
    assert all(one.result(10) for one in futures)
    pool.shutdown()


def test_a_call_that_is_stuck_counts_for_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WaitingPool(1, "test")
    begun, release = threading.Event(), threading.Event()

    def stuck() -> bool:
        begun.set()
        return release.wait(30)

    waits = pool.submit(stuck)
    assert begun.wait(10)
    # Control: as long as it may come back, others wait for it.
    behind = pool.submit(pow, 2, 3)
    with pytest.raises(TimeoutError):
        behind.result(0.2)
    monkeypatch.setattr(waiting, "STUCK_S", 0.0)
    assert pool.submit(pow, 2, 4).result(10) == 16
    assert behind.result(10) == 8
    release.set()
    assert waits.result(10)
    pool.shutdown()


def test_what_is_closed_takes_no_call_and_drops_those_that_wait() -> None:
    pool = WaitingPool(1, "test")
    begun, release = threading.Event(), threading.Event()

    def call() -> bool:
        begun.set()
        return release.wait(30)

    first = pool.submit(call)
    assert begun.wait(10)
    dropped = pool.submit(pow, 2, 3)
    pool.shutdown(cancel_futures=True)
    release.set()
    assert first.result(10)
    assert dropped.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(pow, 1, 1)


ENDS = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from undercroft.agent.waiting import WaitingPool
pool = {"ours": WaitingPool(1, "w"), "theirs": ThreadPoolExecutor(1)}[sys.argv[1]]
pool.submit(time.sleep, 3600)
pool.shutdown(wait=False)
"""


def test_a_process_ends_though_a_call_never_does() -> None:
    subprocess.run([sys.executable, "-c", ENDS, "ours"], check=True, timeout=30)
    with pytest.raises(subprocess.TimeoutExpired):  # control: with the library's own it does not
        subprocess.run([sys.executable, "-c", ENDS, "theirs"], check=True, timeout=5)
