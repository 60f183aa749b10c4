"""Group commit: what was decided in a turn becomes durable in one thread, while the loop goes on.

committer.submit(engine.close_group())      one at a time
...                                         `fileno` becomes readable
engine.release(committer.take())            the answers may leave
"""

import os
import queue
import threading

from undercroft.ports.tpm import Tpm
from undercroft.ports.vaultlog import VaultLog
from undercroft.vault.work import Work


class Committer:
    """The thread that waits for disk and TPM."""

    def __init__(self, log: VaultLog, tpm: Tpm | None) -> None:
        """Start the thread. Both are its own while a group runs."""
        self._log, self._tpm = log, tpm
        self._waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.runs = False
        """Whether a group runs."""
        self._thread = threading.Thread(target=self._work, name="commit", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable when a group is done."""
        return self._signal

    def submit(self, work: Work) -> None:
        """Run a group; the one before was taken."""
        self.runs = True
        self._waiting.put(work)

    def take(self) -> Work:
        """Return the group that is done; waits for it where it is not yet."""
        work = self._done.get()
        os.eventfd_read(self._signal)
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
                work.run(self._log, self._tpm)
            except Exception as error:  # noqa: BLE001 - the loop must hear of it: nobody knows what is durable
                work.error = f"the vaults' log failed in an unexpected way ({type(error).__name__})"
            os.eventfd_write(self._signal, 1)  # first: who takes the group reads the signal after it
            self._done.put(work)
