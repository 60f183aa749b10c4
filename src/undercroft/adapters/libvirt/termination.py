"""Ending in order when the process is asked to end."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

Handler = Callable[[int, FrameType | None], object] | int | None

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OrderlyTermination:
    """While entered, SIGINT, SIGTERM and SIGHUP raise in the main thread, so that `finally` blocks run.

    SIGINT raises KeyboardInterrupt, the others SystemExit with 128 plus the signal's number. While
    `critical` is True a signal waits: whoever sets it calls `release` when the critical part is over.
    Signals that already have a handler of the program's own keep it, as they do outside the main thread.
    """

    def __init__(self) -> None:
        self.critical = False
        self._pending: int | None = None
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> "OrderlyTermination":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def release(self) -> None:
        """End the critical part; raise for a signal that came meanwhile."""
        self.critical = False
        if self._pending is not None:
            number, self._pending = self._pending, None
            _raise_for(number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.critical:
            self._pending = number
        else:
            _raise_for(number)


def _raise_for(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
