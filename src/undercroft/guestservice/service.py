"""Guests and vaults together: turns, group commit, who holds which fence, and what is told.

The order at the end of each turn is what the guarantees hang on:

1. what was seen of each guest that spoke is kept;
2. what was decided goes to the log, if the group before is done;
3. what waits for guests is sent. Answers are in it only once their group is durable.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from undercroft.channel.requests import Request
from undercroft.entropy.seed import generation
from undercroft.errors import NotFoundError, OperationError, StateError
from undercroft.guestservice import naming
from undercroft.guestservice.groups import Groups
from undercroft.guestservice.guest import TICK_S, Guest
from undercroft.guestservice.keep import Confirmation, Keep, Kept
from undercroft.guestservice.lines import Lines
from undercroft.guestservice.link import Link
from undercroft.guestservice.loop import Loop
from undercroft.guestservice.naming import Who
from undercroft.guestservice.tracing import Trace
from undercroft.guestservice.vaults import Vaults, kernel_random
from undercroft.vault import answers
from undercroft.vault.answers import EPOCH_LIMIT
from undercroft.vault.start import ADOPTED_EPOCHS

MAX_GUESTS = 4_096
RETRY_S = 10.0
"""How long a start that failed waits, where another may succeed: the TPM was not there yet, or is spared."""

Watcher = Callable[[str, dict[str, object]], None]


class Service:
    """All guests of this host. Implements what a guest needs (`surroundings`).

    Attributes:
        loop: the turns.
        vaults: of all machines.
        guests: by machine and execution.
        watchers: called with each event.
        groups: what becomes durable; why the process has to end, if it has to.
    """

    def __init__(self, vaults: Vaults, keep: Keep, trace: Trace, report: Callable[[str], None]) -> None:
        """Take the opened parts, and who takes lines for the log; `serve` begins with the vaults' engine."""
        self.loop = Loop(self._end_of_turn)
        self.vaults, self.keep_file, self.trace = vaults, keep, trace
        self.guests: dict[tuple[bytes, bytes], Guest] = {}
        self.watchers: list[Watcher] = []
        self._changed: set[Guest] = set()
        self._lines = Lines(self.loop, self._gone, report)
        self.groups = Groups(self.loop, vaults, self._lines.send)
        self._seeds = 0
        self._report = report

    def serve(self) -> None:
        """Begin to serve the vaults that are open; tells nothing where their start was refused."""
        engine = self.vaults.engine
        if engine is None:
            self.trace.refused(self.vaults.problem)
            if self.vaults.may_pass:
                self.loop.at(self.loop.now + RETRY_S, self._start_again)
            return
        self.trace.served(engine.history.epoch, engine.history.counted)
        self.groups.begin()

    def _start_again(self) -> None:
        """Try a start again that failed for what may pass, unless it was adopted meanwhile."""
        if self.vaults.engine is None:
            before = self.vaults.problem
            self.vaults.open()
            if self.vaults.problem != before:
                self._report(self.vaults.problem or "the vaults are served now")
            self.serve()

    def stop(self) -> None:
        """End: what was decided becomes durable and the epoch ends as it should, unless it failed."""
        self.groups.finish()
        for guest in list(self.guests.values()):
            guest.link.flush()
        for guest in list(self.guests.values()):
            self._let_go(guest)
        self.vaults.stop()

    # What the agent orders

    def attach(self, who: Who, link: Link) -> bool:
        """Take a guest's link; return whether its execution holds the fence.

        Raises:
            StateError: no vault is served.
            OperationError: there are too many guests.
        """
        try:
            self.vaults.serving  # noqa: B018 - raises where no vault is served
            if len(self.guests) >= MAX_GUESTS and who.key not in self.guests:
                raise StateError(f"{MAX_GUESTS} guests are attached, the most that may be")
            kept = self._kept(who)
        except Exception:
            link.close()
            raise
        for guest in self._displaced(who):
            self._let_go(guest)
        self._forget_others(who)
        return self._add(Guest(who, link, kept, self, self.loop.now))

    def renew(self, who: Who, before: bytes | None) -> bool:
        """Let a guest's link go on in another execution; return whether that holds the fence.

        In the same execution it only asks for the fence again.

        Args:
            who: the machine and its new execution.
            before: the execution that the link is of; None where the machine has but one.

        Raises:
            NotFoundError: no such guest is attached.
            StateError: several are, and none was named; no vault is served.
        """
        self.vaults.serving  # noqa: B018 - raises where no vault is served
        guest = self._one(who.machine, before if who.key not in self.guests else who.execution)
        if guest.who.execution == who.execution:
            guest.who = replace(guest.who, elsewhere=who.elsewhere)
            return self._take_fence(guest)
        kept = self._kept(who)
        link, told = guest.link, replace(who, name=guest.who.name)
        self._drop(guest)
        self.keep_file.forget(*guest.who.key)
        for each in self._displaced(told):
            self._let_go(each)
        return self._add(Guest(told, link, kept, self, self.loop.now))

    def detach(self, machine: bytes, execution: bytes, *, ended: bool) -> bool:
        """Close a guest's link; with `ended` let its fence go. Return whether it held that.

        Raises NotFoundError: it is not attached, and has not ended.
        """
        guest = self.guests.get((machine, execution))
        if guest is not None:
            self._let_go(guest)
        elif not ended:
            raise NotFoundError(f"{naming.machine_text(machine)} is not attached in this execution")
        if not ended:
            return False
        self.keep_file.forget(machine, execution)
        if machine not in self.vaults.serving.history.vaults:
            return False
        return self.groups.decide(lambda engine: engine.end(machine, execution)) == answers.DONE

    def quiesce(self, machine: bytes, execution: bytes) -> int:
        """Ask a guest to freeze all but its helper; return the number. Raises NotFoundError, StateError."""
        guest = self.guest(machine, execution)
        self._lines.send(guest)
        return guest.quiesce(self.loop.now)

    def again(self, machine: bytes, execution: bytes) -> bool:
        """Begin another session with a seed; return whether it was quiesced until now.

        Raises NotFoundError, StateError.
        """
        guest = self.guest(machine, execution)
        self._lines.send(guest)
        return guest.again()

    def lift(self, above: int) -> int:
        """Serve in an epoch above another host's: begin one where it is not yet; return which it is.

        All guests are let go then, as by a restart, and have to be attached again: what they are given from
        then on is of an epoch that nobody knows yet.

        Raises:
            StateError: no vault is served, or there is no such epoch.
            OperationError: disk or TPM failed.
        """
        history = self.vaults.serving.history
        if history.epoch > above:
            return history.epoch
        if history.epoch + above + 3 * ADOPTED_EPOCHS >= EPOCH_LIMIT:
            raise StateError(f"no epoch can be begun above {above}: they end below {EPOCH_LIMIT}")
        for guest in list(self.guests.values()):
            self._gone(guest)
        self.groups.finish()
        if self.groups.failed:
            raise OperationError(self.groups.failed)
        self.vaults.stop()
        self.vaults.open(above=above)
        self.serve()
        return self.vaults.serving.history.epoch

    def guest(self, machine: bytes, execution: bytes) -> Guest:
        """Return a guest. Raises NotFoundError."""
        found = self.guests.get((machine, execution))
        if found is None:
            raise NotFoundError(f"{naming.machine_text(machine)} is not attached in this execution")
        return found

    # What a guest needs: see `surroundings`

    def random(self, size_bytes: int) -> bytes:
        """Return bytes of the host's kernel."""
        return kernel_random(size_bytes)

    def microseconds(self) -> int:
        """Return the time since 1970."""
        return time.time_ns() // 1000

    def next_generation(self) -> int:
        """Return a generation that no seed had."""
        self._seeds += 1
        return generation(self.vaults.serving.history.epoch, self._seeds)

    def next_request(self, guest: Guest) -> int:
        """Return the number from which on this guest's requests are new."""
        return 1 if guest.fenced else self.vaults.serving.next_request(guest.who.machine)

    def ask(self, guest: Guest, first: int, requests: Sequence[Request]) -> None:
        """Take a batch for the vault."""
        self.groups.ask(guest, first, requests)

    def keep(self, guest: Guest) -> None:
        """Take note that what was seen of this guest has changed."""
        self._changed.add(guest)

    def confirm(self, guest: Guest, confirmed: Confirmation | None) -> None:
        """Keep what was confirmed."""
        self.keep_file.confirm(guest.kept, confirmed)
        if confirmed is not None and confirmed.credited:
            self.trace.confirmed(guest.who.execution, confirmed.generation)

    def seeded(self, guest: Guest, number: int) -> None:
        """Take note that a seed is about to be given."""
        self.trace.seeded(guest.who.execution, number)

    def tell(self, guest: Guest, event: str, fields: dict[str, object]) -> None:
        """Tell whoever watches."""
        body = guest.who.fields() | fields
        for watcher in list(self.watchers):
            watcher(event, body)

    # Guests that come and go

    def _add(self, guest: Guest) -> bool:
        self.guests[guest.who.key] = guest
        self._lines.add(guest)
        self.loop.at(self.loop.now + TICK_S, lambda: self._tick(guest))
        held = self._take_fence(guest)
        guest.start()
        self._lines.send(guest)
        return held

    def _take_fence(self, guest: Guest) -> bool:
        """Ask for the fence, unless the vault is another host's; tell all who do not have it (any more)."""
        who = guest.who
        held = not who.elsewhere
        if held:
            answer = self.groups.decide(lambda each: each.take(who.machine, who.execution, forked=who.forked))
            held = answer == answers.DONE
        lost = [each for each in self._of(who.machine) if each is not guest] if held else [guest]
        for each in lost:
            if not each.fenced:
                each.fenced = True
                each.told["fenced"] = {}
                self.tell(each, "fenced", {})
        if held:
            guest.fenced = False
            guest.told.pop("fenced", None)
        return held

    def _of(self, machine: bytes) -> list[Guest]:
        return [guest for (each, _), guest in self.guests.items() if each == machine]

    def _one(self, machine: bytes, execution: bytes | None) -> Guest:
        """Return the guest of a machine that has but one, or the one of that execution."""
        if execution is not None:
            return self.guest(machine, execution)
        found = self._of(machine)
        if not found:
            raise NotFoundError(f"{naming.machine_text(machine)} is not attached")
        if len(found) > 1:
            raise StateError(
                f"{naming.machine_text(machine)} is attached in several executions: name `before`"
            )
        return found[0]

    def _displaced(self, who: Who) -> list[Guest]:
        """Return whose place a guest takes: of the same execution; of all others unless it is a fork."""
        return [each for each in self._of(who.machine) if not who.forked or each.who.key == who.key]

    def _kept(self, who: Who) -> Kept:
        """Return what is kept of an execution; where too many are kept, those that are not attached go."""
        if self.keep_file.is_full:
            self.keep_file.forget_all_but(self.guests)
        return self.keep_file.find(who.machine, who.execution)

    def _forget_others(self, who: Who) -> None:
        """Keep nothing more of executions that this one has followed."""
        if who.forked:
            return
        for execution in self.keep_file.of(who.machine):
            if execution != who.execution:
                self.keep_file.forget(who.machine, execution)

    def _drop(self, guest: Guest) -> None:
        """Forget a guest; its link stays open."""
        if self.guests.get(guest.who.key) is guest:
            del self.guests[guest.who.key]
        guest.end()
        self._lines.drop(guest)
        self._changed.discard(guest)
        self.keep_file.note(guest.kept, guest.seen)

    def _let_go(self, guest: Guest) -> None:
        self._drop(guest)
        guest.link.close()

    def _gone(self, guest: Guest) -> None:
        self._let_go(guest)
        self.tell(guest, "gone", {})

    # Turns

    def _tick(self, guest: Guest) -> None:
        if self.guests.get(guest.who.key) is not guest:
            return
        guest.tick(self.loop.now)
        self._lines.send(guest)
        self.loop.at(self.loop.now + TICK_S, lambda: self._tick(guest))

    def _end_of_turn(self) -> None:
        for guest in self._changed:
            self.keep_file.note(guest.kept, guest.seen)
        self._changed.clear()
        self.groups.submit()
        self._lines.flush()
        if self.groups.failed:
            self.loop.stop()
