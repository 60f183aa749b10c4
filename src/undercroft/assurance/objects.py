"""What a vault does with one name, as a table: the state after a call with the answer that it got.

`told(state, call)` is the state after a call with that answer, None where a vault in that state gives no such
answer. `maybe(state, call, epochs)` are the states after a call whose answer is not known. Epochs are those
that the run served in: a value is one above the one before, or the first of a later epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

from undercroft.assurance.tracecalls import Call
from undercroft.channel.requests import Operation, Outcome
from undercroft.vault.answers import SPAN
from undercroft.vault.chain import link
from undercroft.vault.commands import entry_digest

State: TypeAlias = tuple[int | bytes | bool, ...]


@dataclass(frozen=True, slots=True)
class Object:
    """One kind of thing that a name may be.

    Attributes:
        word: what it is.
        operations: that are about it.
        initial: its state before the first call.
        told: as above.
        maybe: as above.
    """

    word: str
    operations: frozenset[Operation]
    initial: State
    told: Callable[[State, Call], State | None]
    maybe: Callable[[State, Call, tuple[int, ...]], list[State]]


def _next(last: int, value: int) -> bool:
    """Whether a value may follow the last one of a name."""
    return value == last + 1 or (value % SPAN == 1 and value // SPAN > last // SPAN)


def _lasts(last: int, epochs: tuple[int, ...]) -> list[int]:
    """Return what the next value is counted from: the last one, or a later epoch's beginning."""
    return [last, *(epoch * SPAN for epoch in epochs if epoch * SPAN > last)]


def _counter(state: State, call: Call) -> State | None:
    last = int(state[0])
    if not call.granted:
        return state
    value = call.value(0)
    if call.asked.operation is Operation.COUNTER:
        return state if value == last else None
    return (value + int(call.asked.arguments[1]) - 1,) if _next(last, value) else None


def _counter_maybe(state: State, call: Call, epochs: tuple[int, ...]) -> list[State]:
    count = int(call.asked.arguments[1])
    return [(last + count,) for last in _lasts(int(state[0]), epochs)]


def _token(state: State, call: Call) -> State | None:
    return ((True,) if not state[0] else None) if call.granted else (state if state[0] else None)


def _token_maybe(state: State, _call: Call, _epochs: tuple[int, ...]) -> list[State]:
    return [(True,)] if not state[0] else []


def _grown(state: State, call: Call) -> State | None:
    """Return a ledger with the entry that a call appends, None where it expects another place."""
    _, height, head, entry = cast("tuple[bytes, int, bytes, bytes]", call.asked.arguments)
    if (height, head) != state[:2]:
        return None
    linked = link(int.from_bytes(head, "big"), entry_digest(entry))
    return height + 1, linked.to_bytes(32, "big"), entry


def _ledger(state: State, call: Call) -> State | None:
    answer = call.answered.values if call.answered is not None else ()
    if call.asked.operation is Operation.LATEST:
        return state if not call.granted or answer[:3] == state else None
    grown = _grown(state, call)
    if not call.granted:
        return state if grown is None else None
    return grown if grown is not None and answer[:2] == grown[:2] else None


def _ledger_maybe(state: State, call: Call, _epochs: tuple[int, ...]) -> list[State]:
    grown = _grown(state, call)
    return [] if grown is None else [grown]


def _blob(state: State, call: Call) -> State | None:
    version = int(state[0])
    asked = int(call.asked.arguments[1])
    if call.asked.operation is Operation.SEAL:
        if not call.granted:
            return state if asked != version else None
        value = call.value(0)
        content = cast("bytes", call.asked.arguments[2])
        return (value, content) if asked == version and _next(version, value) else None
    if call.granted:
        answer = call.answered.values if call.answered is not None else ()
        return state if asked in (0, version) and answer == state else None
    if call.answered is not None and call.answered.outcome is Outcome.UNKNOWN:
        return state if version == 0 else None
    return state if version and asked not in (0, version) else None


def _blob_maybe(state: State, call: Call, epochs: tuple[int, ...]) -> list[State]:
    if call.asked.arguments[1] != state[0]:
        return []
    content = cast("bytes", call.asked.arguments[2])
    return [(last + 1, content) for last in _lasts(int(state[0]), epochs)]


def _revocation(state: State, call: Call) -> State | None:
    if call.asked.operation is Operation.REVOKE:
        return (True,) if call.granted else state
    if call.asked.operation is Operation.SIGN:  # refused where it was revoked, unknown where there is no key
        return None if call.granted and state[0] else state
    answer = call.answered.values if call.answered is not None else ()
    return state if not call.granted or answer == (not state[0],) else None


def _revocation_maybe(_state: State, _call: Call, _epochs: tuple[int, ...]) -> list[State]:
    return [(True,)]


def _kind(
    word: str,
    operations: tuple[Operation, ...],
    initial: State,
    told: Callable[[State, Call], State | None],
    maybe: Callable[[State, Call, tuple[int, ...]], list[State]],
) -> Object:
    return Object(word, frozenset(operations), initial, told, maybe)


OBJECTS = (
    _kind("counter", (Operation.INCREMENT, Operation.COUNTER), (0,), _counter, _counter_maybe),
    _kind("one-time value", (Operation.SPEND,), (False,), _token, _token_maybe),
    _kind("ledger", (Operation.APPEND, Operation.LATEST), (0, bytes(32), b""), _ledger, _ledger_maybe),
    _kind("sealed blob", (Operation.SEAL, Operation.UNSEAL), (0, b""), _blob, _blob_maybe),
    _kind(
        "revocation",
        (Operation.REVOKE, Operation.GUARD, Operation.SIGN),
        (False,),
        _revocation,
        _revocation_maybe,
    ),
)
