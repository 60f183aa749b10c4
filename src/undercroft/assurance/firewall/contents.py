"""What sets and maps hold, for a proof: left open, or a few elements that are known.

`OpenSets` knows nothing of a set but that it answers equal keys equally: what is proven over it holds for any
contents; the contents themselves are compared apart. `KnownSets` holds elements: with it a difference is
looked for among packets that these elements make possible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import z3

from undercroft.assurance.firewall.terms import (
    FALSE,
    Bits,
    Bytes,
    Truth,
    applied,
    either,
    joined,
    number,
    same,
    split,
)
from undercroft.firewall.kernel import FIELD_BYTES, REGISTER_BYTES, SetDefinition, Verdict

MARK_BYTES = 4
_VERDICT_BITS = 16

Elements = Mapping[bytes, bytes | Verdict | None]


def key_bytes(definition: SetDefinition) -> int:
    """Return how many bytes of registers are a set's key: padded where it has several fields."""
    lengths = [FIELD_BYTES[name] for name in definition.key]
    if len(lengths) == 1:
        return lengths[0]
    return sum(length + -length % REGISTER_BYTES for length in lengths)


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


@dataclass(slots=True)
class OpenSets:
    """Sets of any contents; maps of verdicts give only what `targets` lists.

    Attributes:
        targets: map of verdicts -> the verdicts that are in it.
    """

    targets: Mapping[str, Sequence[Verdict]]
    _functions: dict[tuple[str, str, int], z3.FuncDeclRef] = field(default_factory=dict)

    def holds(self, name: str, key: Bytes) -> Truth:
        """See `Sets`."""
        return self._function("has", name, len(key), z3.BoolSort(), joined(key))

    def data(self, name: str, key: Bytes) -> Bytes:
        """See `Sets`."""
        sort = z3.BitVecSort(8 * MARK_BYTES)
        return split(self._function("data", name, len(key), sort, joined(key)), MARK_BYTES)

    def gives(self, name: str, key: Bytes, verdict: Verdict) -> Truth:
        """See `Sets`. The last of the verdicts is what the map gives where it gives no other."""
        known = self.verdicts(name)
        if verdict not in known:
            return FALSE
        given: Bits = self._function("verdict", name, len(key), z3.BitVecSort(_VERDICT_BITS), joined(key))
        place = known.index(verdict)
        return (
            z3.UGE(given, place)
            if place == len(known) - 1
            else same(given, z3.BitVecVal(place, _VERDICT_BITS))
        )

    def verdicts(self, name: str) -> Sequence[Verdict]:
        """See `Sets`."""
        return self.targets.get(name, ())

    def _function(self, kind: str, name: str, length: int, result: z3.SortRef, key: Bits) -> z3.ExprRef:
        known = (kind, name, length)
        if known not in self._functions:
            self._functions[known] = z3.Function(f"{kind} {name} {length}", z3.BitVecSort(8 * length), result)
        return applied(self._functions[known], key)


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
