"""All vaults of a host at work: batches in, answers out once they are durable.

    batch = engine.batch(machine, execution, first, requests)    any number of these, of all machines
    work = engine.close_group()
    work.run(log, tpm)                                            one write, one fdatasync; in any thread
    for batch in engine.release(work): ...                        the answers may leave the host

One group runs at a time; batches that come meanwhile go to the next. What a batch is answered rests on all
that was decided before it, and leaves no earlier than that is durable, reads too.

A group that failed ends the engine: what is in memory may be ahead of the disk. The process starts anew.
"""

from collections.abc import Callable, Sequence

from undercroft.channel.requests import Request
from undercroft.errors import StateError
from undercroft.ports.tpm import extension
from undercroft.ports.vaultlog import MAX_GROUP_BYTES
from undercroft.vault import answers, commands
from undercroft.vault.desk import Desk
from undercroft.vault.history import History
from undercroft.vault.keeping import Keeping
from undercroft.vault.work import Batch, Work

SNAPSHOT_BYTES = 64 * 1024 * 1024
"""By how much the log grows at the least before it begins anew with the state, and by as much as that has."""

MARGIN_BYTES = 256 * 1024
"""Of the room on the disk: left to orders of the host and to anchors."""

ANCHOR_AFTER_S = 60
"""How long changes wait for an anchor that no final spend asks for, while half of the budget is saved."""

_GROUP_BYTES = MAX_GROUP_BYTES // 2


class Engine:
    """The vaults of a host in an epoch that began (`start.start` makes it). For one thread."""

    def __init__(
        self,
        history: History,
        keep: Keeping,
        *,
        reserve: Callable[[int], int],
        grown: Callable[[], int],
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        snapshot_bytes: int = SNAPSHOT_BYTES,
    ) -> None:
        """Take the state.

        Args:
            history: as it was replayed, with its epoch begun.
            keep: encrypts what is kept.
            reserve: `VaultLog.reserve`.
            grown: by how many bytes the log grew.
            clock: Unix time in seconds.
            random: so many random bytes.
            snapshot_bytes: by how much the log grows before it begins anew.
        """
        self.history = history
        self.failed = ""
        self._reserve, self._grown = reserve, grown
        self._clock = clock
        self._snapshot_bytes = self._snapshot_at = snapshot_bytes
        self._desk = Desk(history, keep, clock, random)
        self._desk.room = reserve(_GROUP_BYTES + MARGIN_BYTES) - MARGIN_BYTES
        self._running: Work | None = None
        self._running_finals: set[tuple[bytes, int]] = set()
        self._doubt, self._doubt_finals = b"", self._running_finals
        self._changed_at_s = 0

    def batch(self, machine: bytes, execution: bytes, first: int, requests: Sequence[Request]) -> Batch:
        """Decide consecutive requests of an execution.

        Args:
            machine: its UUID, as the agent says.
            execution: its id, as the agent says.
            first: the number of the first of them.
            requests: checked by `channel.requests.read_request`.
        """
        made = self._desk.batch(machine, execution, first, requests)
        if self.failed:
            made.fail(self.failed)
        return made

    def away(self, host: str, requests: Sequence[Request]) -> Batch:
        """Answer requests of a guest whose vault another host keeps, whatever this one has of it.

        Args:
            host: which one, at most 255 characters.
            requests: as in `batch`.
        """
        return self._desk.away(host, requests)

    def take(self, machine: bytes, execution: bytes, *, forked: bool) -> int:
        """Give the fence of a machine's vault to an execution; `answers.DONE` or why not.

        It has it once the group is durable.
        """
        vault = self.history.vault(machine)
        before = vault.core.records()
        answer = vault.take(execution, forked)
        if vault.core.records() != before:
            self._desk.order(commands.write(commands.TAKE, machine, execution, forked))
            self._desk.changed = True
        return answer

    def end(self, machine: bytes, execution: bytes) -> int:
        """Take the fence from an execution that ended; `answers.DONE` or why not."""
        answer = self.history.vault(machine).end(execution)
        if answer == answers.DONE:
            self._desk.order(commands.write(commands.END, machine, execution))
        return answer

    def next_request(self, machine: bytes) -> int:
        """Return the number from which on the requests of whoever holds the fence are new."""
        return self.history.vault(machine).core.newest() + 1

    def make_key(self, machine: bytes, name: bytes, kind: int) -> None:
        """Make a signing key, by an order of the host.

        Raises:
            InputError: there is no such kind, or the name is too long.
            StateError: there is a key of that name.
        """
        if not self._desk.make_key(self.history.vault(machine), name, kind):
            raise StateError(f"there is a key {name!r:.60} already: a key is never exchanged, make another")

    @property
    def doubtful(self) -> bool:
        """Whether nobody knows if the TPM's index was extended: the next anchor finds it out first."""
        return bool(self._doubt)

    @property
    def waits(self) -> bool:
        """Whether there is anything for a group."""
        desk = self._desk
        return bool(desk.records or desk.batches or desk.anchor)

    def close_group(self) -> Work:
        """Return all that waits as one group, to be run and then released.

        Raises:
            StateError: the group before was not released.
        """
        if self._running is not None:
            raise StateError("a group of the vaults is not released yet")
        desk = self._desk
        anchor = desk.anchor or self._anchor_is_due()
        large = self._grown() > self._snapshot_at and not self._doubt  # whose head has to stay in the log
        snapshot = list(self.history.dump()) if large else None
        before, doubt = self.history.held, self._doubt
        work = Work(desk.records, snapshot, desk.batches, anchor=anchor, before=before, doubt=doubt)
        self._running = work
        self._running_finals = set(desk.unanchored) if anchor else set()
        desk.begin_group()
        return work

    def release(self, work: Work) -> list[Batch]:
        """Take a group that ran, and return its batches: their answers are final now."""
        if work is not self._running:
            raise StateError("this group of the vaults does not run")
        self._running = None
        if work.error:
            self.failed = work.error
        if work.snapshot is not None:
            step = max(self._snapshot_bytes, sum(map(len, work.snapshot)))
            self._snapshot_at = step if work.anew else self._grown() + step
        self._note_anchor(work)
        for batch in work.batches:
            if work.error:
                batch.fail(f"{work.error}: whether this took place is not known")
            elif batch.finals:
                batch.anchored(work.anchor_error)
        if not self.failed:
            desk = self._desk
            desk.room = self._reserve(_GROUP_BYTES + MARGIN_BYTES) - MARGIN_BYTES
        return work.batches

    def _note_anchor(self, work: Work) -> None:
        """Note what the index holds now; that nobody else extended it, too."""
        if work.doubt != self._doubt:
            self._doubt_finals = self._running_finals if work.doubt else self._doubt_finals
            self._doubt = work.doubt
        if work.held is None:
            return
        history = self.history
        if work.held != extension(history.held, work.anchored):
            self.failed = work.anchor_error = (
                "another program extended the TPM's index of the vaults: the next start asks for"
                " `undercroft vault adopt`"
            )
            return
        history.anchor(work.held)
        budget = history.budget
        whole = work.anchored == work.head
        self._desk.unanchored -= self._running_finals if whole else self._doubt_finals
        record = commands.write(commands.ANCHOR, work.anchored, work.held, budget.saved_s, budget.at_s)
        self._desk.order(record)
        self._changed_at_s = 0

    def _anchor_is_due(self) -> bool:
        """Whether an anchor is made that no final spend asks for: from what is saved up beyond its half."""
        if not self._desk.counted:
            return False
        now = self._clock()
        if self._desk.changed and not self._changed_at_s:
            self._changed_at_s = now
        budget = self.history.budget
        budget.count(now)
        waited = self._changed_at_s and now - self._changed_at_s >= ANCHOR_AFTER_S
        return bool(waited) and budget.saved_s > budget.most_s // 2 and budget.take(now)
