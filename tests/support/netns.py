"""A network namespace for one test: a thread of its own, which enters a new one and ends with it.

Sockets that the thread opens and programs that it starts are in the namespace; nothing else is.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

P = ParamSpec("P")
T = TypeVar("T")

_NEW_NETWORK = 0x40000000


def in_own_network(function: Callable[P, T]) -> Callable[P, T]:
    """Run a test, or any function, in a new network namespace; skip it without root."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        return call_in_own_network(lambda: function(*args, **kwargs))

    return wrapped


def call_in_own_network(function: Callable[[], T]) -> T:
    """Call a function in a new network namespace and return what it returns, or raise what it raises."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "no network namespace")
            results.append(function())
        except BaseException as error:  # pytest's skips and failures, too.
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
