"""One group of batches: what becomes durable together, and the answers that wait for that.

`Work.run` is the part that waits for disk and TPM. It may run in another thread, while the engine takes
batches for the next group.
"""

import contextlib
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
        anew: whether the log began anew.
        batches: whose answers wait.
        anchor: whether the TPM's index is extended with the head.
        before: what the index held last, as far as it is known.
        doubt: a head of which nobody knows whether the index was extended with it; b"" for none.
        head: of the group, once it ran.
        held: what the index holds then; None where it was not extended.
        anchored: the head that it was extended with: the group's, or that of the doubt.
        error: why it is not durable, "" where it is.
        anchor_error: why the index was not extended with the group's head.
    """

    def __init__(
        self,
        records: Sequence[bytes],
        snapshot: Sequence[bytes] | None,
        batches: list[Batch],
        *,
        anchor: bool,
        before: bytes,
        doubt: bytes = b"",
    ) -> None:
        """Take what waits."""
        self.records = records
        self.snapshot = snapshot
        self.anew = False
        self.batches = batches
        self.anchor = anchor
        self.before = before
        self.doubt = doubt
        self.head = self.anchored = b""
        self.held: bytes | None = None
        self.error = ""
        self.anchor_error = ""

    @property
    def waits_for_nothing(self) -> bool:
        """Whether neither log nor TPM is written for it: it only reads what is durable."""
        return not self.records and self.snapshot is None and not self.anchor

    def run(self, log: VaultLog, tpm: Tpm | None) -> None:
        """Make the group durable, then extend the TPM's index with its head. Raises nothing of the two."""
        self.write(log)
        self.extend(tpm)

    def write(self, log: VaultLog) -> None:
        """Make the group durable. Without an `error`, answers that wait for no anchor may leave then."""
        try:
            if self.snapshot is None or not self._begin_anew(log):
                if self.records:
                    log.append(self.records)
                log.sync()
            self.head = log.head
        except OperationError as error:
            self.error = str(error)

    def extend(self, tpm: Tpm | None) -> None:
        """Extend the TPM's index with the head of a group that was written, where it is to be anchored."""
        if self.anchor and tpm is not None and not self.error:
            self._extend(tpm)

    def _extend(self, tpm: Tpm) -> None:
        """Extend the index, once what became of the extension before is known and can be noted.

        A TPM may have done what it did not answer. The next start takes an index that is one head ahead of
        the log, and no more.
        """
        try:
            if self.doubt and self._moved(tpm):
                if self.anchored != self.head:
                    self.anchor_error = "the TPM's answer to the anchor before came late: ask again"
                return
            self.doubt = self.head
            self.held, self.anchored, self.doubt = tpm.extend(self.head), self.head, b""
        except OperationError as error:
            self.anchor_error = str(error)
            with contextlib.suppress(OperationError):
                if self._moved(tpm) and self.anchored == self.head:
                    self.anchor_error = ""

    def _moved(self, tpm: Tpm) -> bool:
        """Read whether the extension in doubt took place: there is no doubt then."""
        found = tpm.extended()
        if found != self.before:
            self.held, self.anchored = found, self.doubt
        self.doubt = b""
        return self.held is not None

    def _begin_anew(self, log: VaultLog) -> bool:
        try:
            log.snapshot(self.snapshot or ())
        except OperationError:  # the disk is full: the log goes on as it was, if it can
            return False
        self.anew = True
        return True
