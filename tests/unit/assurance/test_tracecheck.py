"""Traces of the real vaults pass; each kind of thing that must not happen is found in them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.memorytpm import MemoryTpm
from tests.support.tracedplay import UUID, Play

from undercroft.assurance import trace, tracelines
from undercroft.assurance.linearizable import unordered
from undercroft.assurance.models import INVARIANTS
from undercroft.assurance.tracecheck import check
from undercroft.channel.requests import Operation, Outcome, Rests
from undercroft.errors import InputError
from undercroft.model.execution import Origin

Events = list[trace.Event]
PLAIN = ["ask"] * 6 + ["again", "group", "group", "kill", "stop", "revert"]
ACTS = st.tuples(st.sampled_from(PLAIN), st.integers(0, 40), st.integers(0, 1))
ROLLED = st.tuples(st.sampled_from([*PLAIN, "put back"]), st.integers(0, 40), st.integers(0, 1))


def play(acts: list[tuple[str, int, int]], tpm: MemoryTpm | None = None) -> Events:
    played = Play(tpm or MemoryTpm())
    for act, one, other in acts:
        played.act(act, one, other)
    played.group()
    return tracelines.read(map(tracelines.line, played.events))


def long() -> Events:
    """A run in which all that matters happens: each operation twice, a kill, a revert, a request again."""
    acts = [("ask", 0, 0), ("again", 0, 0)]
    for _ in range(2):
        for what in range(10):
            acts += [("ask", what, 0), ("group", 0, 0)]
        acts += [("kill", 0, 0), ("ask", 0, 1), ("ask", 0, 1), ("group", 0, 0), ("revert", 0, 0)]
    return play([*acts, *[("ask", what, 0) for what in range(10)], ("group", 0, 0)])


@given(st.lists(ACTS, max_size=40))
def test_a_run_of_the_real_vaults_breaks_nothing_and_has_an_order(acts: list[tuple[str, int, int]]) -> None:
    events = play(acts)
    assert check(events) == []
    assert unordered(events) == []


@given(st.lists(ROLLED, max_size=40))
def test_a_run_whose_disk_is_put_back_breaks_nothing_with_a_tpm(acts: list[tuple[str, int, int]]) -> None:
    assert check(play(acts)) == []


def test_without_a_tpm_a_disk_that_was_put_back_is_found_in_the_trace() -> None:
    """The control: the same checker, the same attack."""
    found = []
    for tpm in (MemoryTpm(), None):
        played = Play(tpm)
        played.act("ask", 0, 0)
        played.group()
        played.die(False, 1)
        played.act("ask", 0, 0)
        played.group()
        played.die(False, 1)
        played.act("ask", 0, 0)
        played.group()
        found.append({each.invariant for each in check(played.events)})
    assert found[0] == set()
    assert "NoSilentRollback" in found[1]


def _answers(events: Events, operation: Operation, outcome: Outcome = Outcome.OK) -> list[int]:
    """Where the answers of an operation to requests of the name a are."""
    asked = {
        (each.client, each.call): each
        for each in events
        if isinstance(each, trace.Asked) and each.operation is operation and each.arguments[0] == b"a"
    }
    return [
        at
        for at, each in enumerate(events)
        if isinstance(each, trace.Answered) and (each.client, each.call) in asked and each.outcome is outcome
    ]


def _changed(events: Events, at: int, **changes: object) -> Events:
    return [*events[:at], replace(events[at], **changes), *events[at + 1 :]]  # type: ignore[type-var,arg-type]


def _values(events: Events, at: int) -> tuple[trace.Value, ...]:
    event = events[at]
    assert isinstance(event, trace.Answered)
    return event.values


def _first(events: Events, kind: type[trace.Event], which: int = 0) -> int:
    return [at for at, event in enumerate(events) if isinstance(event, kind)][which]


def repeat_a_value(events: Events) -> Events:
    *_, one, last = _answers(events, Operation.INCREMENT)
    return _changed(events, last, values=_values(events, one))


def repeat_a_version(events: Events) -> Events:
    one, *_, last = _answers(events, Operation.SEAL)
    return _changed(events, last, values=_values(events, one))


def let_a_value_fall(events: Events) -> Events:
    *_, last = _answers(events, Operation.INCREMENT)
    return _changed(events, last, values=(1,))


def let_a_ledger_stand(events: Events) -> Events:
    one, *_, last = _answers(events, Operation.APPEND)
    return _changed(events, last, values=_values(events, one))


def read_an_earlier_height(events: Events) -> Events:
    *_, last = _answers(events, Operation.LATEST)
    return _changed(events, last, values=(0, bytes(32), b"", b"n" * 16))


def read_another_head(events: Events) -> Events:
    *_, last = _answers(events, Operation.LATEST)
    height, _, *rest = _values(events, last)
    return _changed(events, last, values=(height, b"x" * 32, *rest))


def read_an_earlier_count(events: Events) -> Events:
    *_, last = _answers(events, Operation.COUNTER)
    return _changed(events, last, values=(0,))


def miss_what_was_sealed(events: Events) -> Events:
    *_, last = _answers(events, Operation.UNSEAL)
    return _changed(events, last, outcome=Outcome.UNKNOWN, rests=Rests.NOTHING, values=("no",))


def spend_twice(events: Events) -> Events:
    *_, last = _answers(events, Operation.SPEND, Outcome.REFUSED)
    return _changed(events, last, outcome=Outcome.OK, rests=Rests.SYNCED, values=())


def let_a_revoked_name_hold(events: Events) -> Events:
    *_, last = _answers(events, Operation.GUARD)
    return _changed(events, last, values=(True,))


def begin_twice(events: Events) -> Events:
    at = _first(events, trace.Began)
    return [*events, replace(events[at], at_ns=events[-1].at_ns + 1)]


def begin_before_the_parent(events: Events) -> Events:
    at = _first(events, trace.Began, 1)
    return _changed(events, at, parent="f" * 32)


def begin_from_nothing(events: Events) -> Events:
    return [*events, trace.Began(events[-1].at_ns + 1, UUID, "e" * 32, "", Origin.START)]


def begin_from_a_state_of_another(events: Events) -> Events:
    late = events[-1].at_ns
    last = events[_first(events, trace.Began, -1)]
    assert isinstance(last, trace.Began)
    began = trace.Began(late + 2, UUID, "e" * 32, last.eid, Origin.REVERT, "s", True)
    return [*events, began]


def act_before_it_began(events: Events) -> Events:
    at = _first(events, trace.Began, -1)
    return [*events[:at], *events[at + 1 :], replace(events[at], at_ns=events[-1].at_ns + 1)]


def open_unconfirmed(events: Events) -> Events:
    at = _first(events, trace.Confirmed)
    begun = events[_first(events, trace.Began)]
    assert isinstance(begun, trace.Began)
    return (
        [each for each in events if not (isinstance(each, trace.Confirmed) and each.eid == begun.eid)]
        if at
        else events
    )


def confirm_the_seed_of_another(events: Events) -> Events:
    last, first = _first(events, trace.Confirmed, -1), events[_first(events, trace.Confirmed)]
    assert isinstance(first, trace.Confirmed)
    return _changed(events, last, generation=first.generation)


def record_what_nobody_confirmed(events: Events) -> Events:
    last = events[_first(events, trace.Confirmed, -1)]
    assert isinstance(last, trace.Confirmed)
    return [*events, trace.Recorded(events[-1].at_ns + 1, last.eid, last.generation + 1)]


def release_another(events: Events) -> Events:
    begun = events[_first(events, trace.Began)]
    assert isinstance(begun, trace.Began)
    released = trace.Released(begun.at_ns, begun.eid)
    after = replace(begun, at_ns=events[-1].at_ns + 1, eid="e" * 32, parent="")
    return [*events, released, after, trace.Opened(after.at_ns + 1, after.eid, True)]


def move_what_never_confirmed(events: Events) -> Events:
    late = events[-1].at_ns
    began = trace.Began(late + 1, UUID, "d" * 32, "", Origin.RESTORE)
    moved = trace.Began(late + 2, UUID, "e" * 32, began.eid, Origin.MIGRATE)
    return [*events, began, moved, trace.Opened(late + 3, moved.eid, True)]


def give_a_seed_twice(events: Events) -> Events:
    last, first = _first(events, trace.Seeded, -1), events[_first(events, trace.Seeded)]
    assert isinstance(first, trace.Seeded)
    return _changed(events, last, generation=first.generation)


def serve_an_epoch_twice(events: Events) -> Events:
    last, first = _first(events, trace.Served, -1), events[_first(events, trace.Served)]
    assert isinstance(first, trace.Served)
    return _changed(events, last, epoch=first.epoch)


def grant_while_dead(events: Events) -> Events:
    at = _first(events, trace.Died)
    began = events[_first(events, trace.Began)]
    assert isinstance(began, trace.Began)
    moment = events[at].at_ns
    asked = trace.Asked(moment + 1, "x", 1, began.eid, 0, Operation.COUNTER, (b"z",))
    told = trace.Answered(moment + 2, "x", 1, Outcome.OK, Rests.SYNCED, (0,))
    return [*events[: at + 1], asked, told, *events[at + 1 :]]


def seed_while_refused(events: Events) -> Events:
    at = _first(events, trace.Died)
    began = events[_first(events, trace.Began)]
    assert isinstance(began, trace.Began)
    return [*events[: at + 1], trace.Seeded(events[at].at_ns + 1, began.eid, 1), *events[at + 1 :]]


def open_after_the_end(events: Events) -> Events:
    ended = events[_first(events, trace.Ended)]
    assert isinstance(ended, trace.Ended)
    return [*events, trace.Opened(events[-1].at_ns + 1, ended.eid, False)]


def tell_more_than_a_reason(events: Events) -> Events:
    at = _answers(events, Operation.SPEND, Outcome.REFUSED)[0]
    return _changed(events, at, values=(7,))


def answer_a_number_twice(events: Events) -> Events:
    """Another answer to the request that was asked again, one that no other request has."""
    _, second = _answers(events, Operation.INCREMENT)[:2]
    return _changed(events, second, values=(int(_values(events, second)[0]) + 1_000,))


def grant_two_requests_under_one_number(events: Events) -> Events:
    asked = events[_first(events, trace.Asked)]
    assert isinstance(asked, trace.Asked)
    other = replace(
        asked, at_ns=events[-1].at_ns + 1, call=999, operation=Operation.REVOKE, arguments=(b"other",)
    )
    told = trace.Answered(other.at_ns + 1, other.client, 999, Outcome.OK, Rests.SYNCED, ())
    return [*events, other, told]


MISTAKES: list[tuple[Callable[[Events], Events], str]] = [
    (repeat_a_value, "NoRepeat"),
    (repeat_a_version, "NoRepeat"),
    (let_a_value_fall, "MonotonePerName"),
    (let_a_ledger_stand, "MonotonePerName"),
    (read_an_earlier_height, "FreshLatest"),
    (read_another_head, "FreshLatest"),
    (read_an_earlier_count, "FreshLatest"),
    (miss_what_was_sealed, "FreshLatest"),
    (spend_twice, "SingleSpend"),
    (let_a_revoked_name_hold, "RevokedStays"),
    (begin_twice, "Tree"),
    (begin_before_the_parent, "Tree"),
    (begin_from_nothing, "Tree"),
    (begin_from_a_state_of_another, "Tree"),
    (act_before_it_began, "Tree"),
    (open_unconfirmed, "NoOutputBeforeReseed"),
    (confirm_the_seed_of_another, "NoOutputBeforeReseed"),
    (record_what_nobody_confirmed, "NoOutputBeforeReseed"),
    (release_another, "NoOutputBeforeReseed"),
    (move_what_never_confirmed, "NoOutputBeforeReseed"),
    (give_a_seed_twice, "NoOutputBeforeReseed"),
    (serve_an_epoch_twice, "NoSilentRollback"),
    (grant_while_dead, "FailClosed"),
    (seed_while_refused, "FailClosed"),
    (open_after_the_end, "FailClosed"),
    (tell_more_than_a_reason, "FailClosed"),
    (answer_a_number_twice, "AtMostOnce"),
    (grant_two_requests_under_one_number, "AtMostOnce"),
]


@pytest.mark.parametrize(
    ("mistake", "invariant"), MISTAKES, ids=lambda value: getattr(value, "__name__", value)
)
def test_what_must_not_happen_is_found(mistake: Callable[[Events], Events], invariant: str) -> None:
    events = long()
    assert check(events) == []
    assert invariant in {each.invariant for each in check(mistake(events))}


def test_each_invariant_has_a_mistake() -> None:
    assert {invariant for _, invariant in MISTAKES} == set(INVARIANTS)


@pytest.mark.parametrize(
    "mistake",
    [
        repeat_a_value,
        repeat_a_version,
        let_a_value_fall,
        let_a_ledger_stand,
        read_an_earlier_height,
        read_another_head,
        read_an_earlier_count,
        miss_what_was_sealed,
        spend_twice,
        let_a_revoked_name_hold,
    ],
    ids=lambda value: value.__name__,
)
def test_answers_that_no_order_gives_are_found(mistake: Callable[[Events], Events]) -> None:
    events = long()
    assert unordered(events) == []
    assert unordered(mistake(events))


def test_what_confirmed_before_a_migration_was_released_or_is_on_record_as_it_was_breaks_nothing() -> None:
    events = long()
    late, last = events[-1].at_ns, events[_first(events, trace.Confirmed, -1)]
    assert isinstance(last, trace.Confirmed)
    eids = ("c" * 32, "d" * 32, "e" * 32)
    more = [
        trace.Recorded(late + 1, last.eid, last.generation),
        trace.Began(late + 2, UUID, eids[0], last.eid, Origin.MIGRATE),
        trace.Began(late + 3, UUID, eids[1], eids[0], Origin.MIGRATE),
        trace.Opened(late + 4, eids[1], True),
        trace.Began(late + 5, UUID, eids[2], "", Origin.RESTORE),
        trace.Released(late + 6, eids[2]),
        trace.Opened(late + 7, eids[2], True),
    ]
    assert check([*events, *more]) == []


def test_a_trace_that_contradicts_itself_is_not_judged() -> None:
    events = long()
    asked = events[_first(events, trace.Asked)]
    told = events[_first(events, trace.Answered)]
    later = events[-1].at_ns + 1
    assert isinstance(asked, trace.Asked)
    for extra in (
        replace(asked, at_ns=later),
        replace(told, at_ns=later),
        replace(asked, at_ns=later, call=998, eid="f" * 32),
        trace.Seeded(later, "f" * 32, 1),
        trace.Answered(later, "nobody", 1, Outcome.OK, Rests.SYNCED, ()),
    ):
        with pytest.raises(InputError):
            check([*events, extra])
    with pytest.raises(InputError, match="put back"):
        unordered([*events, trace.PutBack(later)])


def asked_at_once(events: Events, count: int) -> Events:
    """Clients that never get an answer: each may have taken place."""
    began = events[0]
    assert isinstance(began, trace.Began)
    return [
        *events,
        *(
            trace.Asked(events[-1].at_ns + at, f"n{at}", 1, began.eid, 0, Operation.INCREMENT, (b"q", 1))
            for at in range(count)
        ),
    ]


def test_what_was_not_answered_may_have_taken_place_or_not() -> None:
    events = asked_at_once(long()[:3], 3)
    epoch = next(each.epoch for each in events if isinstance(each, trace.Served))
    began = events[0]
    assert isinstance(began, trace.Began)
    late = events[-1].at_ns + 10
    for value, fits in ((0, True), (1, True), (3, True), (4, False)):
        read = trace.Asked(late, "r", 1, began.eid, 0, Operation.COUNTER, (b"q",))
        count = (epoch << 40) + value if value else 0
        told = trace.Answered(late + 1, "r", 1, Outcome.OK, Rests.SYNCED, (count,))
        assert (unordered([*events, read, told]) == []) is fits, value
