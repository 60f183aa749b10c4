"""Threads for calls that may wait for ever.

libvirt answers some calls never: one that begins a backup as its machine dies was seen to wait for minutes.
Guarantees: such a call keeps no other waiting, because a thread that has been in one call for `STUCK_S`
counts no more and another takes its place; and it keeps no process from ending, as threads of
`concurrent.futures` would.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

STUCK_S = 60.0
MAX_THREADS = 64
"""With those that are stuck; beyond it calls wait."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


class WaitingPool(Executor):
    """A pool of daemon threads.

    Args:
        workers: how many calls run at once, beside those that are stuck.
        name: of its threads.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._workers = workers
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Callable[[], bool]]] = queue.SimpleQueue()
        self._busy_since: dict[int, float | None] = {}
        self._lock = threading.Lock()
        self._closed = False

    def submit(
        self, fn: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Result]:
        """Return the call's future. Raises RuntimeError after `shutdown`."""
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
                future.set_exception(error)

        with self._lock:
            if self._closed:
                raise RuntimeError(f"the pool {self._name} is closed")
            self._calls.put((run, future.cancel))
            self._start_thread_if_needed()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Never waits for those that run: one may be stuck."""
        del wait
        with self._lock:
            self._closed = True
            while cancel_futures and not self._calls.empty():
                try:
                    _, cancel = self._calls.get_nowait()
                except queue.Empty:
                    break
                cancel()
            for _ in self._busy_since:
                self._calls.put((_end, bool))

    def _start_thread_if_needed(self) -> None:
        long_ago = time.monotonic() - STUCK_S
        since = self._busy_since.values()
        idle = sum(one is None for one in since)
        stuck = sum(one is not None and one < long_ago for one in since)
        if idle < self._calls.qsize() and len(since) - stuck < self._workers and len(since) < MAX_THREADS:
            number = len(since)
            self._busy_since[number] = None
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"{self._name}_{number}", daemon=True
            )
            thread.start()

    def _work(self, number: int) -> None:
        while True:
            call, _ = self._calls.get()
            if call is _end:
                return
            self._busy_since[number] = time.monotonic()
            call()
            self._busy_since[number] = None


def _end() -> None:
    """Stands in the queue for the end of a thread."""
