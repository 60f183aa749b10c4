"""Group commit: what was decided in a turn becomes durable in one thread, while the loop goes on.

One group runs at a time: `submit` it, wait until `fileno` is readable, then `hear`. One that is anchored is
heard of twice: once it is durable, answers that wait for no anchor leave, while the TPM still writes.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable

from undercroft.ports.tpm import Tpm
from undercroft.ports.vaultlog import VaultLog
from undercroft.vault.work import Work


class Committer:
    """The thread that waits for disk and TPM."""

    def __init__(self, log: VaultLog, tpm: Tpm | None) -> None:
        """Start the thread. Both are its own while a group runs."""
        self._log, self._tpm = log, tpm
        self._waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._durable: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.runs = False
        """Whether a group runs."""
        self._thread = threading.Thread(target=self._work, name="commit", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when `hear` has something to tell."""
        return self._signal

    def submit(self, work: Work) -> None:
        """Run a group; the one before was taken."""
        self.runs = True
        self._waiting.put(work)

    def hear(self, durable: Callable[[Work], None], done: Callable[[Work], None]) -> None:
        """Tell of a group that is durable and waits for its anchor, and of one that is done."""
        with contextlib.suppress(BlockingIOError):  # it may be about what `take` waited for
            os.eventfd_read(self._signal)
        if not self._durable.empty():
            durable(self._durable.get())
        if not self._done.empty():
            done(self.take())

    def take(self) -> Work:
        """Return the group that is done; waits for it where it is not yet."""
        work = self._done.get()
        while not self._durable.empty():
            self._durable.get()
        self.runs = False
        return work

    def close(self) -> None:
        """End the thread; no group runs."""
        self._waiting.put(None)
        self._thread.join()
        os.close(self._signal)

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                work.write(self._log)
                if work.anchor and self._tpm is not None and not work.error:
                    self._durable.put(work)
                    os.eventfd_write(self._signal, 1)
                work.extend(self._tpm)
            except Exception as error:  # noqa: BLE001 - the loop must hear of it: nobody knows what is durable
                work.error = f"the vaults' log failed in an unexpected way ({type(error).__name__})"
            self._done.put(work)
            os.eventfd_write(self._signal, 1)
