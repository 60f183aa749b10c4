"""What follows from the contracts of `core.py`, over every history: proven with it, never run.

A history is any number of steps, each of which is any call with any arguments: `anything` may be every integer.
"""

from nagini_contracts.contracts import (
    Assert,
    ContractOnly,
    Ensures,
    Forall,
    Forall2,
    Implies,
    Invariant,
    Old,
    Requires,
    Result,
)

from undercroft.vault.answers import (
    APPEND,
    DONE,
    FENCED,
    FORGOTTEN,
    INCREMENT,
    REVOKE,
    SPAN,
    SPEND,
    SPENT,
    STORE,
    WINDOW,
)
from undercroft.vault.core import Core, fresh
from undercroft.vault.holdings import link


@ContractOnly
def anything() -> int:
    """Every integer: the verifier knows nothing of it."""


def step(core: Core, kind: int) -> None:
    """Whatever is called: nothing falls, nothing is unspent, no revocation ends, no lost fence comes back."""
    Requires(core.authority() and core.holdings())
    Ensures(core.authority() and core.holdings())
    Ensures(core.era() >= Old(core.era()) and core.owner() >= Old(core.owner()))
    Ensures(Implies(core.owner() == Old(core.owner()) and not Old(core.living()), not core.living()))
    Ensures(Forall(int, lambda n: (core.counter(n) >= Old(core.counter(n)), [[core.counter(n)]])))
    Ensures(Forall(int, lambda n: (Implies(Old(core.is_spent(n)), core.is_spent(n)), [[core.is_spent(n)]])))
    Ensures(Forall(int, lambda n: (core.height(n) >= Old(core.height(n)), [[core.height(n)]])))
    Ensures(Forall(int, lambda n: (core.version(n) >= Old(core.version(n)), [[core.version(n)]])))
    Ensures(Forall(int, lambda n: (Implies(Old(core.is_revoked(n)), core.is_revoked(n)), [[core.is_revoked(n)]])))
    if kind == 1:
        core.begin(anything())
    elif kind == 2:
        core.take(anything(), anything() > 0)
    elif kind == 3:
        core.end(anything())
    else:
        core.request(anything(), anything(), anything(), anything(), anything(), anything(), anything(), anything())


def values(core: Core, name: int, count: int) -> int:
    """Asks for values of a counter with any number, for any execution: FENCED where that is no new request."""
    Requires(core.authority() and core.holdings())
    Ensures(core.authority() and core.holdings())
    Ensures(core.era() == Old(core.era()))
    Ensures(Implies(Result() >= 0, count >= 1 and Result() > Old(core.counter(name))
                    and Result() > core.era() * SPAN
                    and core.counter(name) == Result() + count - 1 and core.counter(name) < (core.era() + 1) * SPAN))
    execution, number = anything(), anything()
    if not core.runs(execution, number):
        return FENCED
    return core.request(execution, number, anything(), INCREMENT, name, count, 0, 0)


def version(core: Core, name: int) -> int:
    """The same for the next version of a sealed blob."""
    Requires(core.authority() and core.holdings())
    Ensures(core.authority() and core.holdings())
    Ensures(core.era() == Old(core.era()))
    Ensures(Implies(Result() >= 0, Result() > Old(core.version(name)) and Result() > core.era() * SPAN
                    and core.version(name) == Result() and core.version(name) < (core.era() + 1) * SPAN))
    execution, number = anything(), anything()
    if not core.runs(execution, number):
        return FENCED
    return core.request(execution, number, anything(), STORE, name, anything(), anything(), 0)


def spend(core: Core, name: int) -> int:
    """The same for a one-time value."""
    Requires(core.authority() and core.holdings())
    Ensures(core.authority() and core.holdings())
    Ensures(Implies(Old(core.is_spent(name)), core.is_spent(name)))
    Ensures(Implies(Result() != FENCED, core.is_spent(name)
                    and Result() == (SPENT if Old(core.is_spent(name)) else DONE)))
    execution, number = anything(), anything()
    if not core.runs(execution, number):
        return FENCED
    return core.request(execution, number, anything(), SPEND, name, 0, 0, 0)


def entry_height(core: Core, name: int, entry: int) -> int:
    """The same for a ledger's next entry, at any height and over any head."""
    Requires(core.authority() and core.holdings())
    Ensures(core.authority() and core.holdings())
    Ensures(Implies(Result() >= 0, Result() == Old(core.height(name)) + 1 and core.height(name) == Result()
                    and core.head(name) == link(Old(core.head(name)), entry)))
    execution, number = anything(), anything()
    if not core.runs(execution, number):
        return FENCED
    return core.request(execution, number, anything(), APPEND, name, anything(), anything(), entry)


def ask(core: Core, execution: int, number: int, digest: int) -> int:
    """Asks for anything, by anyone, and says what that does to the record of answers."""
    Requires(core.authority() and core.holdings())
    Ensures(core.authority() and core.holdings())
    Ensures(core.owner() == Old(core.owner()) and core.living() == Old(core.living()))
    Ensures(Implies(not (Old(core.living()) and execution == Old(core.owner())), Result() == FENCED))
    Ensures(core.records() == Old(core.records()) + (1 if Old(core.runs(execution, number)) else 0))
    Ensures(core.newest() == (number if Old(core.runs(execution, number)) else Old(core.newest())))
    Ensures(Implies(Old(core.living()) and execution == Old(core.owner()) and number <= Old(core.newest()),
                    Result() == Old(core.repeated(number, digest))))
    Ensures(Implies(Old(core.runs(execution, number)), core.repeated(number, digest) == Result()))
    Ensures(Forall2(int, int, lambda n, d: (Implies(
        not Old(core.runs(execution, number)) or n < 1 or n % WINDOW != number % WINDOW,
        core.repeated(n, d) == Old(core.repeated(n, d))), [[core.repeated(n, d)]])))
    Ensures(Forall2(int, int, lambda n, d: (Implies(
        Old(core.runs(execution, number)) and n >= 1 and n % WINDOW == number % WINDOW and n != number,
        core.repeated(n, d) == FORGOTTEN), [[core.repeated(n, d)]])))
    return core.request(execution, number, digest, anything(), anything(), anything(), anything(), anything())


def a_counter_gives_no_value_twice(core: Core, name: int, count: int) -> None:
    """Two grants of one name, with any history between them: the later values are above all earlier ones."""
    Requires(core.authority() and core.holdings())
    Requires(count >= 1)
    first = values(core, name, count)
    if first >= 0:
        more = anything()
        while more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.counter(name) >= first + count - 1)
            step(core, anything())
            more = anything()
        later = values(core, name, anything())
        Assert(later < 0 or later > first + count - 1)


def values_of_two_epochs_differ(one: Core, other: Core, name: int, count: int) -> None:
    """Two states of a vault that know nothing of each other, as after a rollback of the host's disk."""
    Requires(one.authority() and one.holdings() and other.authority() and other.holdings())
    Requires(one.era() < other.era())
    value = values(one, name, count)
    later = values(other, name, anything())
    Assert(value < 0 or later < 0 or later > value + count - 1)
    Assert(later < 9223372036854775808)


def versions_of_two_epochs_differ(one: Core, other: Core, name: int) -> None:
    """The same for the versions of a sealed blob."""
    Requires(one.authority() and one.holdings() and other.authority() and other.holdings())
    Requires(one.era() < other.era())
    before = version(one, name)
    later = version(other, name)
    Assert(before < 0 or later < 0 or later > before)


def a_version_comes_once(core: Core, name: int) -> None:
    """Two versions of one blob, with any history between them."""
    Requires(core.authority() and core.holdings())
    first = version(core, name)
    if first >= 0:
        more = anything()
        while more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.version(name) >= first)
            step(core, anything())
            more = anything()
        later = version(core, name)
        Assert(later < 0 or later > first)


def a_one_time_value_is_granted_at_most_once(core: Core, name: int) -> None:
    """Whoever asks after it was granted, however much later, is refused."""
    Requires(core.authority() and core.holdings())
    first = spend(core, name)
    if first != FENCED:
        more = anything()
        while more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.is_spent(name))
            step(core, anything())
            more = anything()
        second = spend(core, name)
        Assert(second == SPENT or second == FENCED)


def a_revocation_has_no_end(core: Core, name: int) -> None:
    """What was revoked is never permitted again."""
    Requires(core.authority() and core.holdings())
    execution, number = anything(), anything()
    if core.runs(execution, number):
        core.request(execution, number, anything(), REVOKE, name, 0, 0, 0)
        more = anything()
        while more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.is_revoked(name))
            step(core, anything())
            more = anything()
        Assert(core.permit(anything(), name) != DONE)


def a_ledger_forgets_no_entry(core: Core, name: int, entry: int) -> None:
    """Each entry is over the head before it; its height is never given to another."""
    Requires(core.authority() and core.holdings())
    before = core.head(name)
    height = entry_height(core, name, entry)
    if height >= 0:
        Assert(core.head(name) == link(before, entry))
        more = anything()
        while more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.height(name) >= height)
            step(core, anything())
            more = anything()
        later = entry_height(core, name, anything())
        Assert(later < 0 or later > height)


def who_lost_the_fence_changes_nothing_ever_after(core: Core, execution: int) -> None:
    """Also when it asks for the fence again."""
    Requires(core.authority() and core.holdings())
    Requires(core.owner() > execution or (core.owner() == execution and not core.living()))
    more = anything()
    while more > 0:
        Invariant(core.authority() and core.holdings())
        Invariant(core.owner() > execution or (core.owner() == execution and not core.living()))
        step(core, anything())
        more = anything()
    records = core.records()
    taken = core.take(execution, anything() > 0)
    answer = ask(core, execution, anything(), anything())
    Assert(taken != DONE and answer == FENCED and core.records() == records)


def a_repeat_gets_the_same_answer_and_does_nothing(core: Core, execution: int, number: int, digest: int) -> None:
    """While its answer is kept: until WINDOW numbers later, or until another execution has the fence."""
    Requires(core.authority() and core.holdings())
    Requires(number >= 1)
    if core.runs(execution, number):
        answer = ask(core, execution, number, digest)
        more = anything()
        while core.newest() < number + WINDOW - 1 and more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.owner() == execution and core.living())
            Invariant(core.newest() >= number and core.newest() < number + WINDOW)
            Invariant(core.repeated(number, digest) == answer)
            core.begin(anything())
            following = anything()
            if following < number + WINDOW:
                ask(core, anything(), following, anything())
            more = anything()
        records = core.records()
        again = ask(core, execution, number, digest)
        Assert(again == answer and core.records() == records)


def an_answer_that_is_no_longer_kept_is_refused(core: Core, execution: int, number: int) -> None:
    """A number that was overtaken in its slot never runs again."""
    Requires(core.authority() and core.holdings())
    Requires(number >= 1)
    later = number + WINDOW
    if core.runs(execution, later):
        ask(core, execution, later, anything())
        records = core.records()
        again = ask(core, execution, number, anything())
        Assert(again == FORGOTTEN and core.records() == records)


def nothing_is_answered_before_an_epoch_begins() -> None:
    """A fresh vault gives its fence to nobody, and then works: the contracts are not empty."""
    core = fresh()
    early = core.take(1, False)
    refused = core.request(1, 1, 0, INCREMENT, 1, 1, 0, 0)
    Assert(early != DONE and refused == FENCED)
    core.begin(1)
    taken = core.take(1, False)
    Assert(taken == DONE and core.runs(1, 1))
    value = core.request(1, 1, 0, REVOKE, 7, 0, 0, 0)
    Assert(value == DONE and core.permit(1, 7) != DONE)
