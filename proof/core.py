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

from nagini_contracts.contracts import (
    Acc,
    Ensures,
    Fold,
    Forall,
    Forall2,
    Implies,
    Old,
    Predicate,
    Pure,
    Rd,
    Requires,
    Result,
    ResultT,
    Unfold,
    Unfolding,
    list_pred,
)

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
        Requires(list_pred(numbers) and list_pred(digests) and list_pred(answers))
        Requires(len(numbers) == WINDOW and len(digests) == WINDOW and len(answers) == WINDOW and last >= 0)
        Ensures(self.state())
        Ensures(self.newest() == last)
        Ensures(Forall2(int, int, lambda n, d: (
            self.repeated(n, d) == (
                FORGOTTEN if n < 1 or Old(numbers[n % WINDOW]) != n
                else Old(answers[n % WINDOW]) if Old(digests[n % WINDOW]) == d else CONFLICT),
            [[self.repeated(n, d)]])))
        self.last: int = last
        self.numbers: list[int] = numbers
        self.digests: list[int] = digests
        self.answers: list[int] = answers
        Fold(self.state())

    @Predicate
    def state(self) -> bool:
        return (Acc(self.last) and self.last >= 0
                and Acc(self.numbers) and list_pred(self.numbers) and len(self.numbers) == WINDOW
                and Acc(self.digests) and list_pred(self.digests) and len(self.digests) == WINDOW
                and Acc(self.answers) and list_pred(self.answers) and len(self.answers) == WINDOW)

    @Pure
    def newest(self) -> int:
        """The number of the last request that ran; 0 before the first."""
        Requires(Rd(self.state()))
        Ensures(Result() >= 0)
        return Unfolding(Rd(self.state()), self.last)

    @Pure
    def repeated(self, number: int, digest: int) -> int:
        """The answer to a request that comes again."""
        Requires(Rd(self.state()))
        if number < 1 or Unfolding(Rd(self.state()), self.numbers[number % WINDOW]) != number:
            return FORGOTTEN
        if Unfolding(Rd(self.state()), self.digests[number % WINDOW]) != digest:
            return CONFLICT
        return Unfolding(Rd(self.state()), self.answers[number % WINDOW])

    def keep(self, number: int, digest: int, answer: int) -> None:
        """Keeps the answer to a new request, in the place of the one WINDOW before."""
        Requires(self.state() and number > self.newest())
        Ensures(self.state())
        Ensures(self.newest() == number and self.repeated(number, digest) == answer)
        Ensures(Forall2(int, int, lambda n, d: (
            Implies(n < 1 or n % WINDOW != number % WINDOW, self.repeated(n, d) == Old(self.repeated(n, d))),
            [[self.repeated(n, d)]])))
        Ensures(Forall2(int, int, lambda n, d: (
            Implies(n >= 1 and n % WINDOW == number % WINDOW,
                    self.repeated(n, d) == (FORGOTTEN if n != number else answer if d == digest else CONFLICT)),
            [[self.repeated(n, d)]])))
        Unfold(self.state())
        slot = number % WINDOW
        self.last = number
        self.numbers[slot] = number
        self.digests[slot] = digest
        self.answers[slot] = answer
        Fold(self.state())

    def clear(self) -> None:
        """Keeps nothing: another execution begins to count."""
        Requires(self.state())
        Ensures(self.state())
        Ensures(self.newest() == 0)
        Ensures(Forall2(int, int, lambda n, d: (self.repeated(n, d) == FORGOTTEN, [[self.repeated(n, d)]])))
        Unfold(self.state())
        self.last = 0
        self.numbers = [0] * WINDOW
        Fold(self.state())


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
        Requires(0 <= epoch and epoch < EPOCH_LIMIT and fence >= 0 and window.state())
        Requires(counters.state() and spent.state() and ledgers.state() and blobs.state() and revoked.state())
        Ensures(self.authority() and self.holdings())
        Ensures(self.era() == epoch and self.owner() == fence and self.living() == lives)
        Ensures(self.records() == changes and self.newest() == Old(window.newest()))
        Ensures(Forall2(int, int, lambda n, d: (
            self.repeated(n, d) == Old(window.repeated(n, d)), [[self.repeated(n, d)]])))
        Ensures(Forall(int, lambda n: (self.counter(n) == Old(counters.value(n)), [[self.counter(n)]])))
        Ensures(Forall(int, lambda n: (self.is_spent(n) == Old(spent.has(n)), [[self.is_spent(n)]])))
        Ensures(Forall(int, lambda n: (self.height(n) == Old(ledgers.height(n)), [[self.height(n)]])))
        Ensures(Forall(int, lambda n: (self.head(n) == Old(ledgers.head(n)), [[self.head(n)]])))
        Ensures(Forall(int, lambda n: (self.version(n) == Old(blobs.version(n)), [[self.version(n)]])))
        Ensures(Forall(int, lambda n: (self.content(n) == Old(blobs.content(n)), [[self.content(n)]])))
        Ensures(Forall(int, lambda n: (self.is_revoked(n) == Old(revoked.has(n)), [[self.is_revoked(n)]])))
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
        Fold(self.authority())
        Fold(self.holdings())

    @Predicate
    def authority(self) -> bool:
        return (Acc(self.epoch) and 0 <= self.epoch and self.epoch < EPOCH_LIMIT and Acc(self.fence)
                and self.fence >= 0 and Acc(self.lives) and Acc(self.changes)
                and Acc(self.window) and self.window.state())

    @Predicate
    def holdings(self) -> bool:
        return (Acc(self.counters) and self.counters.state() and Acc(self.spent) and self.spent.state()
                and Acc(self.ledgers) and self.ledgers.state() and Acc(self.blobs) and self.blobs.state()
                and Acc(self.revoked) and self.revoked.state())

    @Pure
    def era(self) -> int:
        """The epoch."""
        Requires(Rd(self.authority()))
        Ensures(0 <= Result() and Result() < EPOCH_LIMIT)
        return Unfolding(Rd(self.authority()), self.epoch)

    @Pure
    def owner(self) -> int:
        """The execution that took the fence last; 0 before the first."""
        Requires(Rd(self.authority()))
        Ensures(Result() >= 0)
        return Unfolding(Rd(self.authority()), self.fence)

    @Pure
    def living(self) -> bool:
        """Whether that execution still lives."""
        Requires(Rd(self.authority()))
        return Unfolding(Rd(self.authority()), self.lives)

    @Pure
    def records(self) -> int:
        """How many calls changed anything: one record of the log each."""
        Requires(Rd(self.authority()))
        return Unfolding(Rd(self.authority()), self.changes)

    @Pure
    def newest(self) -> int:
        """The number of the last request that ran; 0 before the first of this execution."""
        Requires(Rd(self.authority()))
        Ensures(Result() >= 0)
        return Unfolding(Rd(self.authority()), self.window.newest())

    @Pure
    def repeated(self, number: int, digest: int) -> int:
        """The answer to a request of the execution that holds the fence, if it comes again."""
        Requires(Rd(self.authority()))
        return Unfolding(Rd(self.authority()), self.window.repeated(number, digest))

    @Pure
    def runs(self, execution: int, number: int) -> bool:
        """Whether a request would run: its execution holds the fence, and its number is new."""
        Requires(Rd(self.authority()))
        return self.living() and execution == self.owner() and number > self.newest()

    @Pure
    def counter(self, name: int) -> int:
        """The counter's last value; 0 where there is none."""
        Requires(Rd(self.holdings()))
        return Unfolding(Rd(self.holdings()), self.counters.value(name))

    @Pure
    def is_spent(self, name: int) -> bool:
        """Whether the one-time value was spent."""
        Requires(Rd(self.holdings()))
        return Unfolding(Rd(self.holdings()), self.spent.has(name))

    @Pure
    def height(self, name: int) -> int:
        """How many entries the ledger has."""
        Requires(Rd(self.holdings()))
        return Unfolding(Rd(self.holdings()), self.ledgers.height(name))

    @Pure
    def head(self, name: int) -> int:
        """The head over all entries of the ledger."""
        Requires(Rd(self.holdings()))
        return Unfolding(Rd(self.holdings()), self.ledgers.head(name))

    @Pure
    def version(self, name: int) -> int:
        """The sealed blob's version; 0 where there is none."""
        Requires(Rd(self.holdings()))
        return Unfolding(Rd(self.holdings()), self.blobs.version(name))

    @Pure
    def content(self, name: int) -> int:
        """The digest of what that version holds."""
        Requires(Rd(self.holdings()))
        return Unfolding(Rd(self.holdings()), self.blobs.content(name))

    @Pure
    def is_revoked(self, name: int) -> bool:
        """Whether the name was revoked."""
        Requires(Rd(self.holdings()))
        return Unfolding(Rd(self.holdings()), self.revoked.has(name))

    @Pure
    def permit(self, execution: int, name: int) -> int:
        """Whether an execution may use a key, an account or a token now: DONE, FENCED or REVOKED."""
        Requires(Rd(self.authority()) and Rd(self.holdings()))
        Ensures((Result() == DONE) == (self.living() and execution == self.owner() and not self.is_revoked(name)))
        if not self.living() or execution != self.owner():
            return FENCED
        return REVOKED if self.is_revoked(name) else DONE

    def begin(self, epoch: int) -> int:
        """Begins an epoch: a later one than each before."""
        Requires(self.authority())
        Ensures(self.authority())
        Ensures(self.owner() == Old(self.owner()) and self.living() == Old(self.living()))
        Ensures(self.newest() == Old(self.newest()))
        Ensures(Forall2(int, int, lambda n, d: (
            self.repeated(n, d) == Old(self.repeated(n, d)), [[self.repeated(n, d)]])))
        Ensures((Result() == DONE) == (epoch > Old(self.era()) and epoch < EPOCH_LIMIT))
        Ensures(Result() == DONE or Result() == PAST)
        Ensures(self.era() == (epoch if Result() == DONE else Old(self.era())))
        Ensures(self.records() == Old(self.records()) + (1 if Result() == DONE else 0))
        if epoch <= self.era() or epoch >= EPOCH_LIMIT:
            return PAST
        Unfold(self.authority())
        self.epoch = epoch
        self.changes = self.changes + 1
        Fold(self.authority())
        return DONE

    def take(self, execution: int, forked: bool) -> int:
        """Gives the fence to a later execution; to a fork only when whoever had it is dead."""
        Requires(self.authority())
        Ensures(self.authority())
        Ensures(self.era() == Old(self.era()))
        Ensures((Result() == DONE) == (
            Old(self.era()) >= 1 and (Old(self.living() and self.owner() == execution)
                                      or (execution > Old(self.owner()) and not (forked and Old(self.living()))))))
        Ensures(Implies(Result() == DONE, self.owner() == execution and self.living()))
        Ensures(Implies(self.records() == Old(self.records()),
                        self.owner() == Old(self.owner()) and self.living() == Old(self.living())
                        and self.newest() == Old(self.newest())))
        Ensures(Implies(self.records() == Old(self.records()), Forall2(int, int, lambda n, d: (
            self.repeated(n, d) == Old(self.repeated(n, d)), [[self.repeated(n, d)]]))))
        Ensures(Implies(self.records() != Old(self.records()),
                        self.records() == Old(self.records()) + 1 and Result() == DONE
                        and execution > Old(self.owner()) and self.newest() == 0))
        Ensures(Implies(self.records() != Old(self.records()), Forall2(int, int, lambda n, d: (
            self.repeated(n, d) == FORGOTTEN, [[self.repeated(n, d)]]))))
        if self.era() < 1:
            return UNBEGUN
        if self.living() and execution == self.owner():
            return DONE
        if execution <= self.owner():
            return LOST
        if forked and self.living():
            return HELD
        Unfold(self.authority())
        self.fence = execution
        self.lives = True
        self.changes = self.changes + 1
        self.window.clear()
        Fold(self.authority())
        return DONE

    def end(self, execution: int) -> int:
        """Takes the fence from an execution that ended: it never gets it back."""
        Requires(self.authority())
        Ensures(self.authority())
        Ensures(self.era() == Old(self.era()) and self.owner() == Old(self.owner()))
        Ensures(self.newest() == Old(self.newest()))
        Ensures(Forall2(int, int, lambda n, d: (
            self.repeated(n, d) == Old(self.repeated(n, d)), [[self.repeated(n, d)]])))
        Ensures((Result() == DONE) == Old(self.living() and self.owner() == execution))
        Ensures(Result() == DONE or Result() == LOST)
        Ensures(self.living() == (Old(self.living()) and Result() != DONE))
        Ensures(self.records() == Old(self.records()) + (1 if Result() == DONE else 0))
        if not self.living() or execution != self.owner():
            return LOST
        Unfold(self.authority())
        self.lives = False
        self.changes = self.changes + 1
        Fold(self.authority())
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
        Requires(self.authority() and self.holdings())
        Ensures(self.authority() and self.holdings())
        # Who asks: only the execution that holds the fence changes anything; the others are told.
        Ensures(self.era() == Old(self.era()) and self.owner() == Old(self.owner()))
        Ensures(self.living() == Old(self.living()))
        Ensures(Implies(not (Old(self.living()) and execution == Old(self.owner())), Result() == FENCED))
        # The same number gets the same answer.
        Ensures(Implies(Old(self.living()) and execution == Old(self.owner()) and number <= Old(self.newest()),
                        Result() == Old(self.repeated(number, digest))))
        # What does not run changes nothing.
        Ensures(Implies(not Old(self.runs(execution, number)), (
            self.records() == Old(self.records()) and self.newest() == Old(self.newest())
            and Forall2(int, int, lambda n, d: (
                self.repeated(n, d) == Old(self.repeated(n, d)), [[self.repeated(n, d)]]))
            and Forall(int, lambda n: (self.counter(n) == Old(self.counter(n)), [[self.counter(n)]]))
            and Forall(int, lambda n: (self.is_spent(n) == Old(self.is_spent(n)), [[self.is_spent(n)]]))
            and Forall(int, lambda n: (self.height(n) == Old(self.height(n)), [[self.height(n)]]))
            and Forall(int, lambda n: (self.head(n) == Old(self.head(n)), [[self.head(n)]]))
            and Forall(int, lambda n: (self.version(n) == Old(self.version(n)), [[self.version(n)]]))
            and Forall(int, lambda n: (self.content(n) == Old(self.content(n)), [[self.content(n)]]))
            and Forall(int, lambda n: (self.is_revoked(n) == Old(self.is_revoked(n)), [[self.is_revoked(n)]])))))
        # What runs is recorded, its answer kept; and nothing changes but what it is about.
        Ensures(Implies(Old(self.runs(execution, number)), (
            self.records() == Old(self.records()) + 1 and self.newest() == number
            and self.repeated(number, digest) == Result()
            and Forall2(int, int, lambda n, d: (
                self.repeated(n, d) == (
                    Old(self.repeated(n, d)) if n < 1 or n % WINDOW != number % WINDOW
                    else FORGOTTEN if n != number else Result() if d == digest else CONFLICT),
                [[self.repeated(n, d)]]))
            and Forall(int, lambda n: (
                Implies(not (operation == INCREMENT and Result() >= 0 and n is name),
                        self.counter(n) == Old(self.counter(n))), [[self.counter(n)]]))
            and Forall(int, lambda n: (
                Implies(not (operation == SPEND and n is name),
                        self.is_spent(n) == Old(self.is_spent(n))), [[self.is_spent(n)]]))
            and Forall(int, lambda n: (
                Implies(not (operation == APPEND and Result() >= 0 and n is name),
                        self.height(n) == Old(self.height(n))), [[self.height(n)]]))
            and Forall(int, lambda n: (
                Implies(not (operation == APPEND and Result() >= 0 and n is name),
                        self.head(n) == Old(self.head(n))), [[self.head(n)]]))
            and Forall(int, lambda n: (
                Implies(not (operation == STORE and Result() >= 0 and n is name),
                        self.version(n) == Old(self.version(n))), [[self.version(n)]]))
            and Forall(int, lambda n: (
                Implies(not (operation == STORE and Result() >= 0 and n is name),
                        self.content(n) == Old(self.content(n))), [[self.content(n)]]))
            and Forall(int, lambda n: (
                Implies(not (operation == REVOKE and n is name),
                        self.is_revoked(n) == Old(self.is_revoked(n))), [[self.is_revoked(n)]])))))
        # Counters: above each earlier value, and within the epoch.
        Ensures(Implies(Old(self.runs(execution, number)) and operation == INCREMENT, (
            (Result() >= 0) == (1 <= first and first <= RESERVE_LIMIT
                                and Old(self.counter(name)) + first < (self.era() + 1) * SPAN)
            and Implies(Result() >= 0, (
                Result() > Old(self.counter(name)) and Result() > self.era() * SPAN
                and self.counter(name) == Result() + first - 1
                and self.counter(name) < (self.era() + 1) * SPAN)))))
        # One-time values: granted once, spent for ever.
        Ensures(Implies(Old(self.runs(execution, number)) and operation == SPEND,
                        self.is_spent(name) and Result() == (SPENT if Old(self.is_spent(name)) else DONE)))
        # Ledgers: an entry at the height and over the head that the caller expects.
        Ensures(Implies(Old(self.runs(execution, number)) and operation == APPEND, (
            (Result() >= 0) == (first >= 0 and first == Old(self.height(name)) and second == Old(self.head(name)))
            and Implies(Result() >= 0, (
                Result() == first + 1 and self.height(name) == first + 1
                and self.head(name) == link(Old(self.head(name)), third))))))
        # Sealed blobs: a version above each earlier one, over the one that the caller expects.
        Ensures(Implies(Old(self.runs(execution, number)) and operation == STORE, (
            (Result() >= 0) == (first == Old(self.version(name)) and first + 1 < (self.era() + 1) * SPAN)
            and Implies(Result() >= 0, (
                Result() > first and Result() > self.era() * SPAN and Result() < (self.era() + 1) * SPAN
                and self.version(name) == Result() and self.content(name) == second)))))
        # Revocations: for ever.
        Ensures(Implies(Old(self.runs(execution, number)) and operation == REVOKE,
                        self.is_revoked(name) and Result() == DONE))
        Ensures(Implies(Old(self.runs(execution, number)) and (operation < INCREMENT or operation > REVOKE),
                        Result() == UNKNOWN))
        if not self.living() or execution != self.owner():
            return FENCED
        if number <= self.newest():
            return self.repeated(number, digest)
        Unfold(self.authority())
        Unfold(self.holdings())
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
        Fold(self.holdings())
        Fold(self.authority())
        return answer


def fresh() -> Core:
    """A vault that holds nothing; its first epoch has to begin before an execution takes its fence."""
    Ensures(ResultT(Core).authority() and ResultT(Core).holdings())
    Ensures(ResultT(Core).era() == 0 and ResultT(Core).owner() == 0 and not ResultT(Core).living())
    Ensures(ResultT(Core).records() == 0 and ResultT(Core).newest() == 0)
    Ensures(Forall(int, lambda n: (ResultT(Core).counter(n) == 0, [[ResultT(Core).counter(n)]])))
    Ensures(Forall(int, lambda n: (not ResultT(Core).is_spent(n), [[ResultT(Core).is_spent(n)]])))
    Ensures(Forall(int, lambda n: (ResultT(Core).height(n) == 0, [[ResultT(Core).height(n)]])))
    Ensures(Forall(int, lambda n: (ResultT(Core).version(n) == 0, [[ResultT(Core).version(n)]])))
    Ensures(Forall(int, lambda n: (not ResultT(Core).is_revoked(n), [[ResultT(Core).is_revoked(n)]])))
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
