"""What guests ask, decided in batches and made durable in groups; answers leave once their group is.

groups.ask(guest, first, requests)     in a turn, any number of times
groups.submit()                        at its end: what waits goes to the log, if the group before is done
...                                    the loop hears of its end, and gives the answers to their guests
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from undercroft.channel.requests import Request
from undercroft.guestservice.group import Committer
from undercroft.guestservice.guest import Guest
from undercroft.guestservice.loop import READ, Loop
from undercroft.guestservice.vaults import Vaults
from undercroft.vault.engine import Engine
from undercroft.vault.work import Batch, Work

ANCHOR_EVERY_S = 10.0
"""How often the engine is asked whether an anchor is due that no request brings along."""

_Result = TypeVar("_Result")


class Groups:
    """The engine at work.

    Attributes:
        failed: why the process has to end, "" while it need not.
        anchors: how many were made since the start.
    """

    def __init__(self, loop: Loop, vaults: Vaults, answered: Callable[[Guest], None]) -> None:
        """Take the turns, the vaults, and who hears of each guest that has been answered."""
        self._loop, self._vaults, self._answered = loop, vaults, answered
        self.failed = ""
        self.anchors = 0
        self._committer: Committer | None = None
        self._looks = False
        self._asked: list[tuple[Guest, int, int, Batch]] = []
        self._running: list[tuple[Guest, int, int, Batch]] = []
        self._between: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Begin to commit to the log that is open; nothing where there is none."""
        log = self._vaults.log
        if log is None:
            return
        self._committer = Committer(log, self._vaults.tpm)
        self._loop.watch(self._committer.fileno(), READ, self._hear)
        if not self._looks:
            self._looks = True
            self._loop.at(self._loop.now + ANCHOR_EVERY_S, self._look_for_anchor)

    def decide(self, call: Callable[[Engine], _Result]) -> _Result:
        """Return what a call of the engine gives.

        Raises StateError where no vault is served. An error that the engine does not know ends the process:
        what it has in memory may be ahead of what will be logged.
        """
        engine = self._vaults.serving
        try:
            return call(engine)
        except Exception as error:
            self.failed = f"the vaults' engine failed in an unexpected way ({type(error).__name__}: {error})"
            raise

    def ask(self, guest: Guest, first: int, requests: Sequence[Request]) -> None:
        """Decide a batch; the guest is answered once it is durable."""
        who = guest.who
        if who.elsewhere:
            batch = self.decide(lambda engine: engine.away(who.elsewhere, requests))
        else:
            batch = self.decide(lambda engine: engine.batch(who.machine, who.execution, first, requests))
        self._asked.append((guest, guest.session_number(), first, batch))

    def submit(self) -> None:
        """Let what waits become durable, if no group runs."""
        committer = self._committer
        if committer is not None and not committer.runs and not self.failed and self._vaults.serving.waits:
            self._submit(committer)

    def between(self, call: Callable[[], None]) -> None:
        """Call once no group runs: now, or when the one that runs is done."""
        if self._committer is not None and self._committer.runs:
            self._between.append(call)
        else:
            call()

    def finish(self) -> None:
        """Make all that was decided durable, answer it, and end the thread."""
        committer = self._committer
        if committer is None:
            return
        if committer.runs:
            self._release(committer.take())
        while not self.failed and self._vaults.serving.waits:
            self._submit(committer)
            if committer.runs:
                self._release(committer.take())
        self._loop.unwatch(committer.fileno())
        committer.close()
        self._committer = None

    def _submit(self, committer: Committer) -> None:
        """Close the group. One with nothing for disk or TPM needs no thread: reads are answered at once."""
        work = self._vaults.serving.close_group()
        self._running, self._asked = self._asked, []
        log = self._vaults.log
        if work.waits_for_nothing and log is not None:
            work.run(log, None)
            self._release(work)
        else:
            committer.submit(work)

    def _hear(self, _mask: int) -> None:
        if self._committer is not None:
            self._committer.hear(self._durable, self._release)

    def _durable(self, _work: Work) -> None:
        """Give out the answers that wait for no anchor: nothing of the group can be lost any more."""
        running, self._running = self._running, []
        for waiting in running:
            if waiting[3].finals:
                self._running.append(waiting)
            else:
                self._answer(*waiting)

    def _release(self, work: Work) -> None:
        """Take a group that is done, and give its answers out."""
        engine = self._vaults.serving
        engine.release(work)
        self.anchors += work.held is not None
        running, self._running = self._running, []
        for waiting in running:
            self._answer(*waiting)
        self.failed = self.failed or engine.failed
        between, self._between = self._between, []
        for call in between:
            call()

    def _answer(self, guest: Guest, number: int, first: int, batch: Batch) -> None:
        guest.answer(number, first, batch.answers)
        self._answered(guest)

    def _look_for_anchor(self) -> None:
        self._loop.at(self._loop.now + ANCHOR_EVERY_S, self._look_for_anchor)
        committer = self._committer
        if committer is not None and not committer.runs and not self.failed:
            self._submit(committer)
