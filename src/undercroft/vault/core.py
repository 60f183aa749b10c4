"""The decisions of one machine's vault, without I/O: integers in, integers out.

One door changes what the vault holds: `Core.request`. It runs a request of the execution that holds the
fence, once; a request that comes again gets the answer that it got. An answer of 0 and above is granted, one
below 0 is a refusal and changes nothing but the record of answers. Methods take whatever integers they get.

Names, executions, digests and heads are integers that the caller gives out; integers means `int` and none of
its subclasses, as `True` would be a second 1. Executions are numbered in the order in which they began.

`proof/core.py` and `proof/holdings.py` have the contracts, which `make prove` proves for all inputs. Modules
of the same names in `undercroft.vault` are their text without contracts, by `tools/strip_contracts.py`: edit
those in `proof/`. docs/VAULT.md says what is proven and what is assumed.
"""

from undercroft.vault.answers import (
    APPEND,
    CONFLICT,
    DONE,
    EPOCH_LIMIT,
    FENCED,
    FORGOTTEN,
    HELD,
    INCREMENT,
    LOST,
    PAST,
    REVOKE,
    REVOKED,
    SPEND,
    SPENT,
    STORE,
    UNBEGUN,
    UNKNOWN,
    WINDOW,
)
from undercroft.vault.holdings import Blobs, Counters, Ledgers, Names


class Window:
    """The answers to the last requests of whoever holds the fence: number n in slot n % WINDOW."""

    def __init__(self, last: int, numbers: list[int], digests: list[int], answers: list[int]) -> None:
        """Takes the answers over; each list has WINDOW places."""
        self.last: int = last
        self.numbers: list[int] = numbers
        self.digests: list[int] = digests
        self.answers: list[int] = answers

    def newest(self) -> int:
        """The number of the last request that ran; 0 before the first."""
        return self.last

    def repeated(self, number: int, digest: int) -> int:
        """The answer to a request that comes again."""
        if number < 1 or self.numbers[number % WINDOW] != number:
            return FORGOTTEN
        if self.digests[number % WINDOW] != digest:
            return CONFLICT
        return self.answers[number % WINDOW]

    def keep(self, number: int, digest: int, answer: int) -> None:
        """Keeps the answer to a new request, in the place of the one WINDOW before."""
        slot = number % WINDOW
        self.last = number
        self.numbers[slot] = number
        self.digests[slot] = digest
        self.answers[slot] = answer

    def clear(self) -> None:
        """Keeps nothing: another execution begins to count."""
        self.last = 0
        self.numbers = [0] * WINDOW


class Core:
    """One machine's vault: who may change it (`authority`), and what it holds (`holdings`)."""

    def __init__(
        self,
        epoch: int,
        fence: int,
        lives: bool,
        changes: int,
        window: Window,
        counters: Counters,
        spent: Names,
        ledgers: Ledgers,
        blobs: Blobs,
        revoked: Names,
    ) -> None:
        """What an earlier `Core` held, or nothing: 0 <= epoch < EPOCH_LIMIT, 0 <= fence."""
        self.epoch: int = epoch
        self.fence: int = fence
        self.lives: bool = lives
        self.changes: int = changes
        self.window: Window = window
        self.counters: Counters = counters
        self.spent: Names = spent
        self.ledgers: Ledgers = ledgers
        self.blobs: Blobs = blobs
        self.revoked: Names = revoked

    def era(self) -> int:
        """The epoch."""
        return self.epoch

    def owner(self) -> int:
        """The execution that took the fence last; 0 before the first."""
        return self.fence

    def living(self) -> bool:
        """Whether that execution still lives."""
        return self.lives

    def records(self) -> int:
        """How many calls changed anything: one record of the log each."""
        return self.changes

    def newest(self) -> int:
        """The number of the last request that ran; 0 before the first of this execution."""
        return self.window.newest()

    def repeated(self, number: int, digest: int) -> int:
        """The answer to a request of the execution that holds the fence, if it comes again."""
        return self.window.repeated(number, digest)

    def runs(self, execution: int, number: int) -> bool:
        """Whether a request would run: its execution holds the fence, and its number is new."""
        return self.living() and execution == self.owner() and number > self.newest()

    def counter(self, name: int) -> int:
        """The counter's last value; 0 where there is none."""
        return self.counters.value(name)

    def is_spent(self, name: int) -> bool:
        """Whether the one-time value was spent."""
        return self.spent.has(name)

    def height(self, name: int) -> int:
        """How many entries the ledger has."""
        return self.ledgers.height(name)

    def head(self, name: int) -> int:
        """The head over all entries of the ledger."""
        return self.ledgers.head(name)

    def version(self, name: int) -> int:
        """The sealed blob's version; 0 where there is none."""
        return self.blobs.version(name)

    def content(self, name: int) -> int:
        """The digest of what that version holds."""
        return self.blobs.content(name)

    def is_revoked(self, name: int) -> bool:
        """Whether the name was revoked."""
        return self.revoked.has(name)

    def permit(self, execution: int, name: int) -> int:
        """Whether an execution may use a key, an account or a token now: DONE, FENCED or REVOKED."""
        if not self.living() or execution != self.owner():
            return FENCED
        return REVOKED if self.is_revoked(name) else DONE

    def begin(self, epoch: int) -> int:
        """Begins an epoch: a later one than each before."""
        if epoch <= self.era() or epoch >= EPOCH_LIMIT:
            return PAST
        self.epoch = epoch
        self.changes = self.changes + 1
        return DONE

    def take(self, execution: int, forked: bool) -> int:
        """Gives the fence to a later execution; to a fork only when whoever had it is dead."""
        if self.era() < 1:
            return UNBEGUN
        if self.living() and execution == self.owner():
            return DONE
        if execution <= self.owner():
            return LOST
        if forked and self.living():
            return HELD
        self.fence = execution
        self.lives = True
        self.changes = self.changes + 1
        self.window.clear()
        return DONE

    def end(self, execution: int) -> int:
        """Takes the fence from an execution that ended: it never gets it back."""
        if not self.living() or execution != self.owner():
            return LOST
        self.lives = False
        self.changes = self.changes + 1
        return DONE

    def request(
        self,
        execution: int,
        number: int,
        digest: int,
        operation: int,
        name: int,
        first: int,
        second: int,
        third: int,
    ) -> int:
        """Runs a request once, or gives its kept answer; the digest tells it from another of that number."""
        if not self.living() or execution != self.owner():
            return FENCED
        if number <= self.newest():
            return self.repeated(number, digest)
        answer = UNKNOWN
        if operation == INCREMENT:
            answer = self.counters.advance(self.epoch, name, first)
        elif operation == SPEND:
            answer = DONE if self.spent.add(name) else SPENT
        elif operation == APPEND:
            answer = self.ledgers.append(name, first, second, third)
        elif operation == STORE:
            answer = self.blobs.store(self.epoch, name, first, second)
        elif operation == REVOKE:
            self.revoked.add(name)
            answer = DONE
        self.window.keep(number, digest, answer)
        self.changes = self.changes + 1
        return answer


def fresh() -> Core:
    """A vault that holds nothing; its first epoch has to begin before an execution takes its fence."""
    counts: dict[int, int] = {}
    spent: set[int] = set()
    heights: dict[int, int] = {}
    heads: dict[int, int] = {}
    versions: dict[int, int] = {}
    contents: dict[int, int] = {}
    revoked: set[int] = set()
    window = Window(0, [0] * WINDOW, [0] * WINDOW, [0] * WINDOW)
    blobs = Blobs(Counters(versions), contents)
    ledgers = Ledgers(heights, heads)
    return Core(0, 0, False, 0, window, Counters(counts), Names(spent), ledgers, blobs, Names(revoked))
