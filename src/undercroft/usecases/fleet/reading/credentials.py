"""Credentials of states, proven by what was read lately where the same bytes lie there still.

Guarantees: as `usecases.fleet.reading`: an earlier answer is given again only where every byte that it rests
on was read again and is the same. The answers are kept in memory, the state's own last one and the last one
of the same base, so that a thousand clones that were never started cost one reading of files.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from undercroft.errors import InputError
from undercroft.model.credentials import Credentials
from undercroft.model.job import ProvenReads
from undercroft.usecases.identity import identity_key
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.states import State

MAX_ANSWERS = 512
MAX_ITEMS = 200_000
"""Keys, accounts, ... of all kept answers together, and numbers of their sets of reads."""

Place = tuple[object, ...]
"""What an answer is looked up by."""


@dataclass(frozen=True, slots=True)
class _Answer:
    credentials: Credentials
    reads: ProvenReads

    @property
    def items(self) -> int:
        found = self.credentials
        lists = (found.accounts, found.keys, found.certificates, found.secrets, self.reads.numbers)
        return sum(map(len, lists))


class CredentialsMemory:
    """What was read lately; for any number of threads."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Place, _Answer] = OrderedDict()
        self._items = 0
        self._lock = threading.Lock()

    def read(self, machine: OpenMachine, state: State) -> Credentials:
        """Return who may get into a state of an opened machine, its files' own problems among its problems.

        Raises:
            InputError: the reader's child died of what it read.
            OperationError: the sandbox failed, or a point in time was given up.
        """
        places = list(_places(machine, state))
        answer = self._proven(machine, state, places)
        if answer is None:
            found = machine.proven_credentials(state)
            answer = _Answer(found.credentials, found.reads) if found.reads else None
            credentials = found.credentials
        else:
            credentials = answer.credentials
        if answer is not None:
            self._keep(places, answer)
        return replace(credentials, problems=(*credentials.problems, *machine.problems(state)))

    def _proven(self, machine: OpenMachine, state: State, places: list[Place]) -> _Answer | None:
        with self._lock:
            known = [answer for place in places if (answer := self._answers.get(place))]
        known = list({answer.reads.digest: answer for answer in known}.values())
        if not known:
            return None
        try:
            replayed = machine.replay(state, [answer.reads for answer in known])
        except InputError:
            return None  # the whole read says what is wrong
        tried = zip(known, replayed.digests, strict=False)
        return next((answer for answer, digest in tried if digest == answer.reads.digest), None)

    def _keep(self, places: list[Place], answer: _Answer) -> None:
        with self._lock:
            for place in places:
                if replaced := self._answers.pop(place, None):
                    self._items -= replaced.items
                self._answers[place] = answer
                self._items += answer.items
            while self._answers and (len(self._answers) > MAX_ANSWERS or self._items > MAX_ITEMS):
                self._items -= self._answers.popitem(last=False)[1].items


def _places(machine: OpenMachine, state: State) -> Iterator[Place]:
    """Yield what the state's own answer and its base's are looked up by."""
    files = machine.identities(state)
    tops = len(machine.image_snapshots())
    yield ("state", state.ident, *(file.path for file in files[:tops]))
    if len(files) > tops:
        yield ("base", *(identity_key(file) for file in files[tops:]))
