"""What follows from the contracts of `core.py`, over every history: proven with it, never run.

A history is any number of steps, each of which is any call with any arguments: `anything` may be every integer.
"""

from nagini_contracts.contracts import (
    Assert,
    ContractOnly,
    Ensures,
    Forall,
    Implies,
    Invariant,
    Old,
    Requires,
)

from undercroft.vault.answers import (
    APPEND,
    DONE,
    FENCED,
    FORGOTTEN,
    INCREMENT,
    REVOKE,
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


def a_counter_gives_no_value_twice(core: Core, name: int, count: int) -> None:
    """Two grants of one name, with any history between them: the later values are above all earlier ones."""
    Requires(core.authority() and core.holdings())
    Requires(count >= 1)
    execution, number = anything(), anything()
    if core.runs(execution, number):
        first = core.request(execution, number, anything(), INCREMENT, name, count, 0, 0)
        if first >= 0:
            more = anything()
            while more > 0:
                Invariant(core.authority() and core.holdings())
                Invariant(core.counter(name) >= first + count - 1)
                step(core, anything())
                more = anything()
            execution, number = anything(), anything()
            if core.runs(execution, number):
                later = core.request(execution, number, anything(), INCREMENT, name, anything(), 0, 0)
                Assert(later < 0 or later > first + count - 1)


def values_of_two_epochs_differ(one: Core, other: Core, name: int) -> None:
    """Two states of a vault that know nothing of each other, as after a rollback of the host's disk."""
    Requires(one.authority() and one.holdings() and other.authority() and other.holdings())
    Requires(one.era() < other.era())
    execution, number, count = anything(), anything(), anything()
    if one.runs(execution, number):
        value = one.request(execution, number, anything(), INCREMENT, name, count, 0, 0)
        if value >= 0 and other.runs(execution, number):
            later = other.request(execution, number, anything(), INCREMENT, name, anything(), 0, 0)
            Assert(later < 0 or later > value + count - 1)
            Assert(later < 9223372036854775808)


def versions_of_two_epochs_differ(one: Core, other: Core, name: int) -> None:
    """The same for the versions of a sealed blob."""
    Requires(one.authority() and one.holdings() and other.authority() and other.holdings())
    Requires(one.era() < other.era())
    execution, number = anything(), anything()
    if one.runs(execution, number):
        version = one.request(execution, number, anything(), STORE, name, anything(), anything(), 0)
        if version >= 0 and other.runs(execution, number):
            later = other.request(execution, number, anything(), STORE, name, anything(), anything(), 0)
            Assert(later < 0 or later > version)


def a_one_time_value_is_granted_at_most_once(core: Core, name: int) -> None:
    """Whoever asks after it was granted, however much later, is refused."""
    Requires(core.authority() and core.holdings())
    execution, number = anything(), anything()
    if core.runs(execution, number):
        core.request(execution, number, anything(), SPEND, name, 0, 0, 0)
        more = anything()
        while more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.is_spent(name))
            step(core, anything())
            more = anything()
        execution, number = anything(), anything()
        if core.runs(execution, number):
            second = core.request(execution, number, anything(), SPEND, name, 0, 0, 0)
            Assert(second == SPENT)


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


def a_ledger_forgets_no_entry(core: Core, name: int) -> None:
    """Each entry is over the head before it; its height is never given to another."""
    Requires(core.authority() and core.holdings())
    execution, number, entry = anything(), anything(), anything()
    if core.runs(execution, number):
        before = core.head(name)
        height = core.request(execution, number, anything(), APPEND, name, core.height(name), before, entry)
        if height >= 0:
            Assert(core.head(name) == link(before, entry))
            more = anything()
            while more > 0:
                Invariant(core.authority() and core.holdings())
                Invariant(core.height(name) >= height)
                step(core, anything())
                more = anything()
            execution, number = anything(), anything()
            if core.runs(execution, number):
                later = core.request(execution, number, anything(), APPEND, name, anything(), anything(), anything())
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
    answer = core.request(execution, anything(), anything(), anything(), anything(), anything(), anything(),
                          anything())
    Assert(taken != DONE and answer == FENCED and core.records() == records)


def a_repeat_gets_the_same_answer_and_does_nothing(core: Core, execution: int, number: int, digest: int) -> None:
    """While its answer is kept: until WINDOW numbers later, or until another execution has the fence."""
    Requires(core.authority() and core.holdings())
    Requires(number >= 1)
    if core.runs(execution, number):
        answer = core.request(execution, number, digest, anything(), anything(), anything(), anything(), anything())
        more = anything()
        while core.newest() < number + WINDOW - 1 and more > 0:
            Invariant(core.authority() and core.holdings())
            Invariant(core.owner() == execution and core.living())
            Invariant(core.newest() >= number and core.newest() < number + WINDOW)
            Invariant(core.repeated(number, digest) == answer)
            core.begin(anything())
            following = anything()
            if following < number + WINDOW:
                core.request(anything(), following, anything(), anything(), anything(), anything(), anything(),
                             anything())
            more = anything()
        records = core.records()
        again = core.request(execution, number, digest, anything(), anything(), anything(), anything(), anything())
        Assert(again == answer and core.records() == records)


def an_answer_that_is_no_longer_kept_is_refused(core: Core, execution: int, number: int) -> None:
    """A number that was overtaken in its slot never runs again."""
    Requires(core.authority() and core.holdings())
    Requires(number >= 1)
    later = number + WINDOW
    if core.runs(execution, later):
        core.request(execution, later, anything(), anything(), anything(), anything(), anything(), anything())
        records = core.records()
        again = core.request(execution, number, anything(), anything(), anything(), anything(), anything(),
                             anything())
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
