"""One group of batches: what becomes durable together, and the answers that wait for that.

`Work.run` is the part that waits for disk and TPM. It may run in another thread, while the engine takes
batches for the next group.
"""

from collections.abc import Sequence
from typing import TypeAlias

from undercroft.channel.requests import Outcome, Rests
from undercroft.errors import OperationError
from undercroft.ports.tpm import Tpm
from undercroft.ports.vaultlog import VaultLog

AnswerLine: TypeAlias = tuple[int | bytes | bool | str, ...]
"""An answer as it goes on the line (`channel.requests.write_answer`): outcome, what it rests on, values."""

OK, SYNCED, ANCHORED = int(Outcome.OK), int(Rests.SYNCED), int(Rests.ANCHORED)


class Batch:
    """The answers to a batch. They may leave the host once `Engine.release` has returned the batch.

    Attributes:
        answers: one for each request, in order.
        finals: which of them wait for the anchor.
    """

    __slots__ = ("answers", "finals")

    def __init__(self, answers: list[AnswerLine]) -> None:
        """Take the answers."""
        self.answers = answers
        self.finals: list[int] = []

    def fail(self, reason: str) -> None:
        """Let all answers be that the host failed: nobody knows what of them took place."""
        self.answers = [(int(Outcome.FAILED), 0, reason)] * len(self.answers)

    def anchored(self, failure: str) -> None:
        """Let the answers that wait for the anchor say that it is there, or why it is not."""
        for at in self.finals:
            if failure:
                self.answers[at] = (int(Outcome.FAILED), 0, failure)
            else:
                self.answers[at] = (OK, ANCHORED, *self.answers[at][2:])


class Work:
    """A group.

    Attributes:
        records: of the log; may be none.
        snapshot: all state with these records in it, where the log is to begin anew with it, else None.
        batches: whose answers wait.
        anchor: whether the TPM's index is extended with the head.
        head: of the group, once it ran.
        held: what the index holds then; None where it was not extended.
        error: why it is not durable, "" where it is.
        anchor_error: why the index was not extended.
    """

    def __init__(
        self,
        records: Sequence[bytes],
        snapshot: Sequence[bytes] | None,
        batches: list[Batch],
        *,
        anchor: bool,
    ) -> None:
        """Take what waits."""
        self.records = records
        self.snapshot = snapshot
        self.batches = batches
        self.anchor = anchor
        self.head = b""
        self.held: bytes | None = None
        self.error = ""
        self.anchor_error = ""

    def run(self, log: VaultLog, tpm: Tpm | None) -> None:
        """Make the group durable, then extend the TPM's index with its head. Raises nothing of the two."""
        try:
            if self.snapshot is None or not self._begin_anew(log):
                if self.records:
                    log.append(self.records)
                log.sync()
            self.head = log.head
        except OperationError as error:
            self.error = str(error)
            return
        if self.anchor and tpm is not None:
            try:
                self.held = tpm.extend(self.head)
            except OperationError as error:
                self.anchor_error = str(error)

    def _begin_anew(self, log: VaultLog) -> bool:
        try:
            log.snapshot(self.snapshot or ())
        except OperationError:  # the disk is full: the log goes on as it was, if it can
            return False
        return True
