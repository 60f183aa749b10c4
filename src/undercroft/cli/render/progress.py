"""A progress bar on stderr, for work that takes longer than a second.

Nothing is drawn, and rich is not imported, when the work ends before its patience does, when stderr is
no terminal, or when the user wants quiet. A timer opens the bar, since a single step may be the long one.

    with Progress(sys.stderr, enabled=not quiet) as progress:
        scan_machine(machine, assess, progress=progress.update)
"""

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from undercroft.cli.render.escape import harmless

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PATIENCE_S = 1.0


class Progress:
    """What use cases report their progress to.

    Args:
        stream: the terminal to draw on.
        enabled: False for -q.
        patience_s: seconds from the first report on until the bar appears.
    """

    def __init__(self, stream: TextIO, *, enabled: bool = True, patience_s: float = PATIENCE_S) -> None:
        self._stream = stream
        self._enabled = enabled and stream.isatty()
        self._patience_s = patience_s
        self._lock = threading.Lock()  # over everything below: the timer's thread and the caller's
        self._timer: threading.Timer | None = None
        self._bar: tuple[Bar, TaskID] | None = None
        self._latest = (0, 0, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` steps are done and what comes next; `total` is 0 when unknown."""
        if not self._enabled:
            return
        with self._lock:
            self._latest = (done, total, harmless(text))
            if self._timer is None:
                self._timer = threading.Timer(self._patience_s, self._open)
                self._timer.daemon = True
                self._timer.start()
            self._draw()

    def close(self) -> None:
        """Remove the bar; what was drawn leaves no trace, and nothing is drawn after this."""
        with self._lock:
            self._enabled = False
            if self._timer is not None:
                self._timer.cancel()
            if self._bar is not None:
                self._bar[0].stop()
                self._bar = None

    def _draw(self) -> None:
        if self._bar is not None:
            bar, task = self._bar
            done, total, text = self._latest
            bar.update(task, completed=done, total=total or None, description=text)

    def _open(self) -> None:
        with self._lock:
            if self._enabled:
                self._bar = _bar(self._stream)
                self._draw()


def _bar(stream: TextIO) -> "tuple[Bar, TaskID]":
    from rich.console import Console  # noqa: PLC0415 - costs 30 ms, needed only after a second
    from rich.progress import (  # noqa: PLC0415 - the same
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(file=stream, markup=False, highlight=False),
        transient=True,
    )
    task = bar.add_task("", total=None)
    bar.start()
    return bar, task
