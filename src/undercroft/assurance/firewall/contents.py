"""What sets and maps hold, for a proof: left open, or a few elements that are known.

`OpenSets` knows nothing of a set but that it answers equal keys equally: what is proven over it holds for any
contents; the contents themselves are compared apart. `KnownSets` holds elements: with it a difference is
looked for among packets that these elements make possible.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Protocol

import z3

from undercroft.assurance.firewall.terms import (
    FALSE,
    Bits,
    Bytes,
    Truth,
    both,
    either,
    joined,
    negated,
    number,
    same,
    split,
)
from undercroft.errors import UnsupportedError
from undercroft.firewall.kernel import Verdict

MARK_BYTES = 4
_VERDICT_BITS = 16

Elements = Mapping[bytes, bytes | Verdict | None]


class Sets(Protocol):
    """What lookups ask of sets and maps."""

    def holds(self, name: str, key: Bytes) -> Truth:
        """Return whether a set has the key."""
        ...

    def data(self, name: str, key: Bytes) -> Bytes:
        """Return a map's data, 4 bytes; of meaning only where it has the key."""
        ...

    def gives(self, name: str, key: Bytes, verdict: Verdict) -> Truth:
        """Return whether a map of verdicts gives this one, where it has the key."""
        ...

    def verdicts(self, name: str) -> Sequence[Verdict]:
        """Return all verdicts that a map may give."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an open set or map answers for one key."""

    key: Bytes
    has: Truth
    data: Bytes
    verdict: Bits


@dataclass(slots=True)
class OpenSets:
    """Sets of any contents; maps of verdicts give only what `targets` lists.

    Each key that is asked for gets an answer of its own; `congruent` says that equal keys get equal ones.
    That is all there is to know, so it is no weaker than a function, and much less work for the solver.

    Attributes:
        targets: map of verdicts -> the verdicts that are in it; a map of none has no keys.
        fixed: sets whose few elements no policy changes.
        padded: set or map -> where in its keys there are zeros, from and to. As with `following`.
        following: map -> the map whose data it has, for the first bytes of each of its keys, and how many. It
            has to be so of the contents that the sets are compared with.
    """

    targets: Mapping[str, Sequence[Verdict]]
    fixed: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    following: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    padded: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    _answers: dict[str, dict[tuple[int, ...], _Answer]] = field(default_factory=dict)
    _places: dict[str, dict[Verdict, int]] = field(default_factory=dict)

    def holds(self, name: str, key: Bytes) -> Truth:
        """See `Sets`."""
        if name in self.targets and not self.targets[name]:
            return FALSE
        if name in self.fixed:
            self._check(name, key)
            whole = joined(key)
            return either([same(whole, number(held)) for held in self.fixed[name]])
        return self._answer(name, key).has

    def data(self, name: str, key: Bytes) -> Bytes:
        """See `Sets`."""
        return self._answer(name, key).data

    def gives(self, name: str, key: Bytes, verdict: Verdict) -> Truth:
        """See `Sets`. The last of the verdicts is what the map gives where it gives no other."""
        if name not in self._places:
            self._places[name] = {one: place for place, one in enumerate(self.verdicts(name))}
        place = self._places[name].get(verdict)
        if place is None:
            return FALSE
        given = self._answer(name, key).verdict
        if place == len(self._places[name]) - 1:
            return z3.UGE(given, place)
        return same(given, z3.BitVecVal(place, _VERDICT_BITS))

    def verdicts(self, name: str) -> Sequence[Verdict]:
        """See `Sets`."""
        return self.targets.get(name, ())

    def congruent(self) -> Truth:
        """Return that equal keys have equal answers, and what is known of answers, for all keys so far."""
        known: dict[tuple[int, ...], Truth] = {}
        followed = [*self._followed(), *self._filled_up()]
        return both(
            *followed,
            *(
                either([negated(_alike(one.key, other.key, known)), _agree(one, other)])
                for answers in self._answers.values()
                for one, other in combinations(answers.values(), 2)
                if len(one.key) == len(other.key)
            ),
        )

    def _followed(self) -> Iterator[Truth]:
        for name, (other, length) in self.following.items():
            for answer in self._answers.get(name, {}).values():
                first = self._answer(other, answer.key[:length])
                equal_data = same(joined(answer.data), joined(first.data))
                yield either([negated(answer.has), both(first.has, equal_data)])

    def _filled_up(self) -> Iterator[Truth]:
        for name, (start, end) in self.padded.items():
            for answer in self._answers.get(name, {}).values():
                zeros = joined(answer.key[start:end])
                yield either([negated(answer.has), same(zeros, number(bytes(end - start)))])

    def asked(self, names: Collection[str]) -> Iterator[tuple[str, Bytes, Truth]]:
        """Yield every key that was asked for in these sets, and whether the set has it."""
        for name in names:
            for answer in self._answers.get(name, {}).values():
                yield name, answer.key, answer.has

    def _check(self, name: str, key: Bytes) -> None:
        """Check that a set has the keys of which something is known. Raises UnsupportedError."""
        fixed = {len(held) for held in self.fixed.get(name, ())} - {len(key)}
        least = max(self.following.get(name, ("", 0))[1], self.padded.get(name, (0, 0))[1])
        if fixed or len(key) < least:
            raise UnsupportedError(f"set {name}: its keys have {len(key)} bytes: apply the policy again")

    def _answer(self, name: str, key: Bytes) -> _Answer:
        answers = self._answers.setdefault(name, {})
        place = tuple(map(id, key))  # the answer keeps the key's bytes alive
        if place not in answers:
            self._check(name, key)
            label = f"{name} {len(answers)}"
            answers[place] = _Answer(
                key,
                z3.Bool(f"has {label}"),
                tuple(z3.BitVec(f"data {label} {byte}", 8) for byte in range(MARK_BYTES)),
                z3.BitVec(f"verdict {label}", _VERDICT_BITS),
            )
        return answers[place]


def _alike(one: Bytes, other: Bytes, known: dict[tuple[int, ...], Truth]) -> Truth:
    """Return whether two keys are equal; bytes that are the same terms need no comparing."""
    pairs = [(left, right) for left, right in zip(one, other, strict=True) if left is not right]
    place = tuple(map(id, (byte for pair in pairs for byte in pair)))
    if place not in known:
        known[place] = both(*(same(left, right) for left, right in pairs))
    return known[place]


def _agree(one: _Answer, other: _Answer) -> Truth:
    return both(
        same(one.has, other.has),
        *(same(left, right) for left, right in zip(one.data, other.data, strict=True)),
        same(one.verdict, other.verdict),
    )


@dataclass(slots=True)
class KnownSets:
    """Sets with these elements and no others, but for dynamic ones, which stay open.

    Attributes:
        elements: set -> its elements, few enough to be written out.
        open_sets: answers for what `elements` does not name.
    """

    elements: Mapping[str, Elements]
    open_sets: OpenSets

    def holds(self, name: str, key: Bytes) -> Truth:
        """See `Sets`."""
        if name not in self.elements:
            return self.open_sets.holds(name, key)
        return either([found for found, _ in self._found(name, key)])

    def data(self, name: str, key: Bytes) -> Bytes:
        """See `Sets`."""
        if name not in self.elements:
            return self.open_sets.data(name, key)
        answer: Bits = z3.BitVecVal(0, 8 * MARK_BYTES)
        for found, data in self._found(name, key):
            if isinstance(data, bytes):
                answer = z3.If(found, number(data), answer)
        return split(answer, MARK_BYTES)

    def gives(self, name: str, key: Bytes, verdict: Verdict) -> Truth:
        """See `Sets`."""
        if name not in self.elements:
            return self.open_sets.gives(name, key, verdict)
        return either([found for found, data in self._found(name, key) if data == verdict])

    def verdicts(self, name: str) -> Sequence[Verdict]:
        """See `Sets`."""
        if name not in self.elements:
            return self.open_sets.verdicts(name)
        found = [data for data in self.elements[name].values() if isinstance(data, Verdict)]
        return tuple(dict.fromkeys(found))

    def _found(self, name: str, key: Bytes) -> list[tuple[Truth, bytes | Verdict | None]]:
        whole = joined(key)
        return [
            (same(whole, number(held)), data)
            for held, data in self.elements[name].items()
            if len(held) == len(key)
        ]
