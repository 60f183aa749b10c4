"""For which packets two passages differ: in what passes, in marks, in what is written, and where it leads."""

from collections.abc import Iterable, Iterator, Sequence

import z3

from undercroft.assurance.firewall.running import Arrival, Passage, Written
from undercroft.assurance.firewall.terms import FALSE, Bits, Truth, both, either, joined
from undercroft.firewall.kernel import Hook


class AnotherShapeError(Exception):
    """The rules are not built of the expected parts; they may be right all the same."""


def different(found: Passage, wanted: Passage) -> Truth:
    """Return for which packets two passages differ: in what passes, what is written, and in the mark.

    A mark counts at every hook: the host keeps it while it routes, and the last hook believes it.
    """
    parts = [found.accepted != wanted.accepted]
    if any(mine is not theirs for mine, theirs in zip(found.mark, wanted.mark, strict=True)):
        parts.append(both(found.accepted, joined(found.mark) != joined(wanted.mark)))
    return either([*parts, *_different_writes(found.written, wanted.written)])


def different_ways(found: Passage, wanted: Passage, hook: Hook) -> Truth:
    """The same, where packets may also leave for a target; they have to bear the same mark there."""
    if any(arrival.after_writing for arrival in found.arrivals):
        raise AnotherShapeError("a packet writes before its target is known")
    mine, theirs = _ways(found.arrivals), _ways(wanted.arrivals)
    if mine.keys() != theirs.keys():
        raise AnotherShapeError(f"at {hook}, other ways lead to targets")
    parts = [mine[way] != theirs[way] for way in mine]
    moved = both(either(list(mine.values())), joined(found.mark) != joined(wanted.mark)) if mine else FALSE
    return either([different(found, wanted), *parts, moved])


def _ways(arrivals: Sequence[Arrival]) -> dict[tuple[str, tuple[int, ...]], Truth]:
    """Return by name and key for which packets it is the way; a key's bytes live as long as the packet."""
    ways: dict[tuple[str, tuple[int, ...]], list[Truth]] = {}
    for arrival in arrivals:
        if arrival.condition is not FALSE:
            key = tuple(byte.get_id() for byte in arrival.key)
            ways.setdefault((arrival.name, key), []).append(arrival.condition)
    return {way: either(conditions) for way, conditions in ways.items()}


def _different_writes(found: Sequence[Written], wanted: Sequence[Written]) -> Iterator[Truth]:
    """Yield for each dynamic set and timeout, for which packets some key is written by one side only."""
    for name, timeout_ms in sorted({(write.set_name, write.timeout_ms) for write in (*found, *wanted)}):
        mine, theirs = (
            _by_key(write for write in side if (write.set_name, write.timeout_ms) == (name, timeout_ms))
            for side in (found, wanted)
        )
        if mine.keys() == theirs.keys():
            yield from (mine[place][1] != theirs[place][1] for place in mine)
        else:
            some = next(iter((mine or theirs).values()))[0]
            any_key = z3.BitVec(f"any key of {name} {timeout_ms}", some.size())
            one, other = (
                either([both(condition, key == any_key) for key, condition in side.values()])
                for side in (mine, theirs)
            )
            yield one != other


def _by_key(writes: Iterable[Written]) -> dict[int, tuple[Bits, Truth]]:
    keys: dict[int, Bits] = {}
    conditions: dict[int, list[Truth]] = {}
    for write in writes:
        if write.condition is not FALSE:
            key = joined(write.key)
            keys[key.get_id()] = key
            conditions.setdefault(key.get_id(), []).append(write.condition)
    return {place: (key, either(conditions[place])) for place, key in keys.items()}
