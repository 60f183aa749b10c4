"""Which labels the class numbers in the kernel stand for, and what a number means for a packet on its way.

The kernel's table knows classes by number only, and marks packets with them. A number that came to mean other
labels while a packet bears it would let that packet pass by the rights of others. So:

- A number belongs to its labels for as long as they are in use, and for some time after: longer than a packet
  is on its way (the host's own stack keeps some for seconds, as while it looks for a neighbour).
- A target's class and the class's chain are two look-ups, between which a transaction may come. The chain is
  that of the same labels, as the number still is theirs; where it has gone, the packet is denied.
- Before the kernel is changed, the memory (a file, see `memory`) has the old numbering and the new one.
  Whoever is killed between file and kernel leaves a file that fits to either.
- The table itself says by which numbering and policy it is made: `Numbering.note` is the comment of a rule in
  a chain that nothing goes to, which changes in the transaction that changes the rest. So nobody guesses.
- Where no numbering of the file is the table's (the file is gone, or from a backup; the table is another
  program's), none of the numbers that the table uses is given to anybody: each class gets a new one. A packet
  that is on its way with an old number then finds no set that has it, and is denied: it is lost, and is never
  taken for somebody else's. Packets that answer it bear new numbers, and pass.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from undercroft.firewall import marks
from undercroft.firewall.classes import Classes, Labels, assigned
from undercroft.firewall.kernel import Chain, Counter, Rule, Ruleset, Table

RETIRED_FOR = timedelta(minutes=10)
"""A free number is given to nobody for so long."""

KEPT_RETIRED = 256
"""So many free numbers wait for longer, whatever the clock says."""

NOTE_CHAIN = "numbering"
_NOBODY = "\0"
"""Starts the label that no machine has, for a number of which nobody knows whose it was."""

_MARK_BYTES = 4
_NUMBER_DIGITS = len(str(marks.MAX_CLASS))

Retired = dict[Labels, tuple[int, datetime]]


@dataclass(frozen=True, slots=True)
class Numbering:
    """By what a table is made: the policy's digest, and the numbers of its classes."""

    policy: str
    classes: Classes

    @property
    def note(self) -> str:
        """What the table says of it, 65 characters."""
        text = json.dumps([[number, sorted(labels)] for number, labels in ordered(self.classes)])
        return f"{self.policy[:32]} {hashlib.sha256(text.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of numbers.

    Attributes:
        numberings: one of them is the kernel's; at most two, the last is the one that was wanted last.
        retired: labels that are in none of them -> their number, and since when it is free.
    """

    numberings: tuple[Numbering, ...] = ()
    retired: Mapping[Labels, tuple[int, datetime]] = field(default_factory=dict)

    def numbers(self) -> dict[Labels, int]:
        """Return every number that is not to be given to others."""
        found = {labels: number for labels, (number, _) in self.retired.items()}
        for numbering in self.numberings:
            found |= numbering.classes.numbers
        return found


def ordered(classes: Classes) -> list[tuple[int, Labels]]:
    """Return numbers and labels, by number."""
    return sorted(((number, labels) for labels, number in classes.numbers.items()), key=lambda item: item[0])


def noted(table: Table, numbering: Numbering) -> Table:
    """Return the table with a chain that says by what it is made, and that nothing goes to."""
    note = Chain(NOTE_CHAIN, (Rule((Counter(),), numbering.note),))
    return replace(table, chains=(note, *table.chains))


def matched(memory: Memory, held: Table, now: datetime) -> Memory | None:
    """Return the memory with the kernel's numbering alone; None where none of it is the kernel's.

    Args:
        memory: any.
        held: the kernel's table, untrusted.
        now: since when the numbers of the other numbering are free.
    """
    notes = [rule.comment for chain in held.chains if chain.name == NOTE_CHAIN for rule in chain.rules]
    for numbering in memory.numberings:
        if notes == [numbering.note]:
            return settled(memory, numbering, now)
    return None


def settled(memory: Memory, numbering: Numbering, now: datetime) -> Memory:
    """Return the memory once it is known that the kernel has this numbering; others' numbers are free."""
    return Memory((numbering,), _free(memory, numbering.classes.numbers, now))


def without_table(memory: Memory, now: datetime) -> Memory:
    """Return the memory where the kernel has no table; labels that come back get their number again."""
    return Memory((), _free(memory, {}, now))


def distrusted(memory: Memory, held: Ruleset, now: datetime) -> Memory:
    """Return the memory where none of it is the kernel's table, untrusted: what that uses is nobody's."""
    used = set(_numbers_in(held))
    kept = {labels: (number, now) for labels, number in memory.numbers().items() if number not in used}
    nobody = {frozenset({f"{_NOBODY}{number}"}): (number, now) for number in used}
    return Memory((), {**kept, **nobody})


def numbered(memory: Memory, policy: str, label_sets: Iterable[Labels], now: datetime) -> Memory:
    """Return the memory to be kept before the kernel is changed: its last numbering is the wanted one.

    Args:
        memory: with at most one numbering, the kernel's.
        policy: digest of the wanted policy.
        label_sets: of all machines.
        now: for numbers that become free.

    Raises:
        StateError: there are more sets of labels than numbers.
    """
    wanted = Numbering(policy, assigned(Classes(memory.numbers()), label_sets))
    present = tuple(numbering for numbering in memory.numberings[:1] if numbering != wanted)
    both = Memory((*present, wanted))
    return replace(both, retired=_waiting(_free(memory, both.numbers(), now), now))


def _free(memory: Memory, used: Mapping[Labels, int], now: datetime) -> Retired:
    found = dict(memory.retired)
    for numbering in memory.numberings:
        for labels, number in numbering.classes.numbers.items():
            found[labels] = (number, now)
    return {labels: item for labels, item in found.items() if labels not in used}


def _waiting(free: Retired, now: datetime) -> Retired:
    youngest = sorted(free.items(), key=lambda item: item[1][1], reverse=True)
    return {
        labels: (number, since)
        for place, (labels, (number, since)) in enumerate(youngest)
        if place < KEPT_RETIRED or now - since < RETIRED_FOR
    }


def _numbers_in(held: Ruleset) -> Iterator[int]:
    """Yield every class number that a table, untrusted, names in elements, chains or sets."""
    for elements in held.elements.values():
        for key, data in elements.items():
            yield from _of_mark(key[:_MARK_BYTES])
            if isinstance(data, bytes):
                yield from _of_mark(data)
    for name in (*(chain.name for chain in held.table.chains), *(item.name for item in held.table.sets)):
        number = name.rpartition("-")[2]
        if number.isascii() and number.isdigit() and len(number) <= _NUMBER_DIGITS:
            yield from _in_range(int(number))


def _of_mark(untrusted_data: bytes) -> Iterator[int]:
    if len(untrusted_data) == _MARK_BYTES:
        mark = int.from_bytes(untrusted_data, sys.byteorder)
        if mark & marks.KIND_MASK == marks.PREFIX | marks.MACHINE:
            yield from _in_range(mark & marks.MAX_CLASS)


def _in_range(number: int) -> Iterator[int]:
    if 1 <= number <= marks.MAX_CLASS:
        yield number
