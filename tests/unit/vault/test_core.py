"""The vault's core against a model that is told in lists, and what each refusal is."""

import copy
import hashlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from undercroft.vault import answers
from undercroft.vault.answers import (
    APPEND,
    CONFLICT,
    DONE,
    EPOCH_LIMIT,
    EXHAUSTED,
    FENCED,
    FORGOTTEN,
    HELD,
    INCREMENT,
    LOST,
    MALFORMED,
    MOVED,
    PAST,
    RESERVE_LIMIT,
    REVOKE,
    REVOKED,
    SPAN,
    SPEND,
    SPENT,
    STORE,
    UNBEGUN,
    UNKNOWN,
    WINDOW,
)
from undercroft.vault.chain import link
from undercroft.vault.core import Core, Window, fresh
from undercroft.vault.holdings import Blobs, Counters, Ledgers, Names
from undercroft.vault.refusals import REASONS

OPERATIONS = (INCREMENT, SPEND, APPEND, STORE, REVOKE)
names = st.integers(0, 3)


def serving(epoch: int = 1, execution: int = 1) -> Core:
    """A core whose epoch has begun and whose fence is held."""
    core = fresh()
    assert core.begin(epoch) == DONE
    assert core.take(execution, forked=False) == DONE
    return core


def put_back(core: Core) -> Core:
    """The same vault from its plain data, as a snapshot in the log holds it."""
    window, ledgers, blobs = core.window, core.ledgers, core.blobs
    return Core(
        core.epoch,
        core.fence,
        core.lives,
        core.changes,
        Window(window.last, list(window.numbers), list(window.digests), list(window.answers)),
        Counters(dict(core.counters.values)),
        Names(set(core.spent.names)),
        Ledgers(dict(ledgers.heights), dict(ledgers.heads)),
        Blobs(Counters(dict(blobs.versions.values)), dict(blobs.contents)),
        Names(set(core.revoked.names)),
    )


@dataclass
class Model:
    """A vault as one would tell it: everything that was ever granted, in lists."""

    epoch: int = 0
    fence: int = 0
    lives: bool = False
    last: int = 0
    answered: dict[int, tuple[int, int]] = field(default_factory=dict)
    values: dict[int, list[int]] = field(default_factory=dict)
    spent: set[int] = field(default_factory=set)
    entries: dict[int, list[int]] = field(default_factory=dict)
    blobs: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)

    def _head(self, name: int) -> int:
        head = 0
        for entry in self.entries.get(name, []):
            head = link(head, entry)
        return head

    def _perform(self, operation: int, name: int, first: int, second: int, third: int) -> int:
        if operation == INCREMENT:
            if not 1 <= first <= RESERVE_LIMIT:
                return MALFORMED
            start = max([self.epoch * SPAN, *self.values.get(name, [])]) + 1
            self.values.setdefault(name, []).extend(range(start, start + first))
            return start
        if operation == SPEND:
            late = name in self.spent
            self.spent.add(name)
            return SPENT if late else DONE
        if operation == APPEND:
            ledger = self.entries.setdefault(name, [])
            if (first, second) != (len(ledger), self._head(name)):
                return MOVED
            ledger.append(third)
            return len(ledger)
        if operation == STORE:
            stored = self.blobs.setdefault(name, [])
            if first != max([0, *(version for version, _ in stored)]):
                return MOVED
            stored.append((max(self.epoch * SPAN, first) + 1, second))
            return stored[-1][0]
        if operation == REVOKE:
            self.revoked.add(name)
            return DONE
        return UNKNOWN

    def request(self, execution: int, number: int, digest: int, operation: int, *arguments: int) -> int:
        if not self.lives or execution != self.fence:
            return FENCED
        if number <= self.last:
            # Kept are the last WINDOW numbers, and before them whatever nothing took the slot of since.
            slot = [one for one in self.answered if one % WINDOW == number % WINDOW]
            if number not in self.answered or max(slot) != number:
                return FORGOTTEN
            known, answer = self.answered[number]
            return answer if digest == known else CONFLICT
        self.last = number
        answer = self._perform(operation, *arguments)
        self.answered[number] = (digest, answer)
        return answer


class VaultMachine(RuleBasedStateMachine):
    """Any calls in any order, executions that come and go, forks, epochs, and the host's disk put back."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.model = fresh(), Model()
        self.epochs = 0
        self.executions = 0
        self.granted: dict[tuple[str, int], set[int]] = {}
        self.kept: list[tuple[Core, Model]] = []

    @initialize()
    def start(self) -> None:
        self.begin()
        self.take(forked=False)

    @rule()
    def begin(self) -> None:
        """A start: the TPM's counter gives an epoch that there never was, whatever disk was put back."""
        self.epochs += 1
        assert self.core.begin(self.epochs) == DONE
        self.model.epoch = self.epochs

    @rule(late=st.integers(0, 2))
    def begin_again(self, late: int) -> None:
        assert self.core.begin(self.core.era() - late) == PAST
        assert self.core.begin(EPOCH_LIMIT + late) == PAST

    @rule(forked=st.booleans())
    def take(self, forked: bool) -> None:
        self.executions += 1
        expected = HELD if forked and self.model.lives else DONE
        assert self.core.take(self.executions, forked) == expected
        if expected == DONE:
            self.model.fence, self.model.lives, self.model.last = self.executions, True, 0
            self.model.answered = {}

    @rule(back=st.integers(0, 3), forked=st.booleans())
    def take_again(self, back: int, forked: bool) -> None:
        execution = self.model.fence - back
        holds = self.model.lives and back == 0
        assert self.core.take(execution, forked) == (DONE if holds else LOST)

    @rule(back=st.integers(-1, 2))
    def end(self, back: int) -> None:
        holds = self.model.lives and back == 0
        assert self.core.end(self.model.fence - back) == (DONE if holds else LOST)
        self.model.lives = self.model.lives and not holds

    @rule(
        late=st.sampled_from([0, 0, 0, 0, 1, 2]),
        step=st.sampled_from([1, 1, 1, 1, 2, WINDOW, 0, -1, -2, -WINDOW]),
        digest=st.integers(0, 1),
        operation=st.sampled_from([*OPERATIONS, 0, 99]),
        name=names,
        first=st.sampled_from([1, 1, 2, 5, 0, -1]),
        expects=st.booleans(),
        third=st.integers(-1, 1 << 257),
    )
    def request(
        self,
        late: int,
        step: int,
        digest: int,
        operation: int,
        name: int,
        first: int,
        expects: bool,
        third: int,
    ) -> None:
        second = third
        if operation == APPEND and expects:
            first, second = self.core.height(name), self.core.head(name)
        elif operation == STORE and expects:
            first = self.core.version(name)
        call = (
            self.core.fence - late,
            self.core.newest() + step,
            digest,
            operation,
            name,
            first,
            second,
            third,
        )
        records, number = self.core.records(), self.core.newest()
        answer = self.core.request(*call)
        assert answer == self.model.request(*call)
        ran = self.core.newest() != number
        assert self.core.records() == records + ran
        assert self.core.request(*call) == answer
        assert answer >= 0 or answer in REASONS
        if ran and answer >= 0 and operation in {INCREMENT, STORE}:
            count = first if operation == INCREMENT else 1
            given = self.granted.setdefault(("counter" if operation == INCREMENT else "blob", name), set())
            assert given.isdisjoint(range(answer, answer + count)), "a value came twice"
            given.update(range(answer, answer + count))

    @rule()
    def keep_the_disk(self) -> None:
        self.kept.append((put_back(self.core), copy.deepcopy(self.model)))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def put_the_disk_back(self, data: st.DataObject) -> None:
        """An administrator adopted the loss: an earlier state, with an epoch and executions of its own."""
        core, model = data.draw(st.sampled_from(self.kept))
        self.core, self.model = put_back(core), copy.deepcopy(model)
        self.begin()
        self.take(forked=False)

    @invariant()
    def both_say_the_same(self) -> None:
        core, model = self.core, self.model
        assert (core.era(), core.owner(), core.living(), core.newest()) == (
            model.epoch,
            model.fence,
            model.lives,
            model.last,
        )
        for name in range(4):
            assert core.counter(name) == max([0, *model.values.get(name, [])])
            assert core.is_spent(name) == (name in model.spent)
            assert core.height(name) == len(model.entries.get(name, []))
            assert core.head(name) == model._head(name)
            last = model.blobs.get(name) or [(0, 0)]
            assert (core.version(name), core.content(name)) == last[-1]
            assert core.is_revoked(name) == (name in model.revoked)
            allowed = (
                DONE if model.lives and name not in model.revoked else REVOKED if model.lives else FENCED
            )
            assert core.permit(model.fence, name) == allowed
            assert core.permit(model.fence + 1, name) == FENCED


TestVaultMachine = VaultMachine.TestCase


@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), names, st.integers(-2, 3)), max_size=40))
def test_the_same_calls_give_the_same_vault(calls: list[tuple[int, int, int]]) -> None:
    """So that a log of commands, replayed, is the state."""
    one, other = serving(), serving()
    for number, (operation, name, first) in enumerate(calls, start=1):
        call = (1, number, 0, operation, name, first, 0, number)
        assert one.request(*call) == put_back(other).request(*call) == other.request(*call)
    assert vars(one.counters) == vars(other.counters)
    assert vars(one.ledgers) == vars(other.ledgers)
    assert vars(one.window) == vars(other.window)


def test_a_disk_put_back_repeats_values_only_without_a_new_epoch() -> None:
    core = serving()
    before = put_back(core)
    first = [core.request(1, number, 0, INCREMENT, 7, 1, 0, 0) for number in range(1, 8)]
    without = put_back(before)
    assert [without.request(1, number, 0, INCREMENT, 7, 1, 0, 0) for number in range(1, 8)] == first
    assert before.begin(2) == DONE
    again = [before.request(1, number, 0, INCREMENT, 7, 1, 0, 0) for number in range(1, 8)]
    assert not set(first) & set(again)
    assert min(again) > max(first)


def test_of_many_forks_one_spends_a_token() -> None:
    core = serving()
    granted = []
    for execution in range(2, 12):
        core.take(execution, forked=False)
        granted.append(core.request(execution, 1, 0, SPEND, 5, 0, 0, 0))
    assert granted == [DONE] + [SPENT] * 9


def test_whoever_lost_the_fence_is_told_and_changes_nothing() -> None:
    core = serving()
    assert core.take(2, forked=False) == DONE
    records = core.records()
    for operation in OPERATIONS:
        assert core.request(1, 1, 0, operation, 1, 1, 0, 0) == FENCED
    assert core.take(1, forked=False) == LOST
    assert core.records() == records
    assert core.permit(1, 1) == FENCED


def test_a_fork_waits_until_nobody_lives_who_has_the_fence() -> None:
    core = serving()
    assert core.take(2, forked=True) == HELD
    assert core.end(1) == DONE
    assert core.take(1, forked=False) == LOST
    assert core.take(2, forked=True) == DONE


def test_no_execution_takes_the_fence_before_an_epoch_began() -> None:
    assert fresh().take(1, forked=False) == UNBEGUN


def test_a_repeat_gets_the_same_answer_until_its_slot_is_another_s() -> None:
    core = serving()
    first = core.request(1, 1, 9, INCREMENT, 1, 1, 0, 0)
    for number in range(2, WINDOW + 1):
        core.request(1, number, 9, INCREMENT, 1, 1, 0, 0)
        assert core.request(1, 1, 9, INCREMENT, 1, 1, 0, 0) == first
    assert core.request(1, 1, 8, SPEND, 1, 0, 0, 0) == CONFLICT
    core.request(1, WINDOW + 1, 9, INCREMENT, 1, 1, 0, 0)
    assert core.request(1, 1, 9, INCREMENT, 1, 1, 0, 0) == FORGOTTEN
    assert core.counter(1) == SPAN + WINDOW + 1


def test_a_number_that_was_left_out_never_runs() -> None:
    core = serving()
    core.request(1, 5, 0, SPEND, 1, 0, 0, 0)
    assert core.request(1, 4, 0, SPEND, 2, 0, 0, 0) == FORGOTTEN
    assert not core.is_spent(2)


def test_an_epoch_that_is_used_up_refuses_and_the_next_goes_on() -> None:
    core = serving()
    core.counters.values[1] = 2 * SPAN - 2
    assert core.request(1, 1, 0, INCREMENT, 1, 2, 0, 0) == EXHAUSTED
    assert core.request(1, 2, 0, INCREMENT, 1, 1, 0, 0) == 2 * SPAN - 1
    assert core.request(1, 3, 0, INCREMENT, 1, 1, 0, 0) == EXHAUSTED
    core.begin(2)
    assert core.request(1, 4, 0, INCREMENT, 1, 1, 0, 0) == 2 * SPAN + 1


def test_the_largest_value_has_63_bits() -> None:
    core = serving(epoch=EPOCH_LIMIT - 1)
    core.counters.values[1] = EPOCH_LIMIT * SPAN - 2
    value = core.request(1, 1, 0, INCREMENT, 1, 1, 0, 0)
    assert value == (1 << 63) - 1


def test_each_refusal_has_its_reason_and_each_reason_its_refusal() -> None:
    refusals = {value for name, value in vars(answers).items() if name.isupper() and value < 0}
    assert set(REASONS) == refusals
    assert len(set(REASONS.values())) == len(refusals)


@pytest.mark.parametrize(
    ("name", "value"), [("SPAN", 2**40), ("EPOCH_LIMIT", 2**23), ("RESERVE_LIMIT", 2**20)]
)
def test_limits_are_the_powers_that_they_are_said_to_be(name: str, value: int) -> None:
    assert vars(answers)[name] == value


def test_a_head_is_sha256_over_the_head_before_and_the_entry() -> None:
    hashed = hashlib.sha256(b"undercroft ledger 1\0" + bytes(32) + (5).to_bytes(32, "big"))
    assert link(0, 5) == int.from_bytes(hashed.digest(), "big")


@given(st.tuples(*[st.integers()] * 2), st.tuples(*[st.integers()] * 2))
def test_heads_of_different_entries_differ_and_every_integer_has_one(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    assert (link(*one) == link(*other)) == (one == other)
    assert 0 <= link(*one) < 1 << 256
