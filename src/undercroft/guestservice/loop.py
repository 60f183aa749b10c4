"""One thread's turns: what is ready is handled once each, then the turn ends, then what is due is done."""

import heapq
import itertools
import os
import select
import time
from collections.abc import Callable

Handler = Callable[[int], None]
READ, WRITE, LOST = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
_MOST_EVENTS = 1_024


class Loop:
    """Descriptors with who handles them, and moments with what is due then.

    Attributes:
        now: the monotonic time, in seconds, at which this turn began.
    """

    def __init__(self, end_of_turn: Callable[[], None]) -> None:
        """Take what is done at the end of each turn."""
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._end_of_turn = end_of_turn
        self._stopped = False
        self.now = time.monotonic()

    def watch(self, descriptor: int, mask: int, handler: Handler) -> None:
        """Call a handler with what is ready of a descriptor, in each turn in which something is."""
        self._epoll.register(descriptor, mask)
        self._handlers[descriptor] = handler

    def change(self, descriptor: int, mask: int) -> None:
        """Watch a descriptor for something else. Its loss is always told."""
        self._epoll.modify(descriptor, mask)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor, before it is closed. An unknown one is no error."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Call once, when the monotonic time has come."""
        heapq.heappush(self._due, (moment, next(self._count), call))

    def stop(self) -> None:
        """End `run` after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopped:
            self.turn()

    def turn(self, most_s: float = 60.0) -> None:
        """Wait for what comes first, and handle it."""
        wait = most_s
        if self._due:
            wait = max(0.0, min(most_s, self._due[0][0] - time.monotonic()))
        ready = self._epoll.poll(wait, _MOST_EVENTS)
        self.now = time.monotonic()
        for descriptor, mask in ready:
            handler = self._handlers.get(descriptor)
            if handler is not None:  # else it was let go by an earlier one of this turn
                handler(mask)
        while self._due and self._due[0][0] <= self.now:
            heapq.heappop(self._due)[2]()
        self._end_of_turn()

    def forget_all(self) -> None:
        """Close every descriptor that is watched: for a copy of the process, which needs none of them."""
        self._epoll.close()
        for descriptor in self._handlers:
            os.close(descriptor)
        self._handlers.clear()
