"""Reading a state with as little reading as proves the answer: nothing, the same bytes again, or all.

Guarantees: an answer that is on record is given again only where it is what a fresh read would give.

1. `unchanged`: all files of all chains have the identity that they had, it proves that nobody wrote to them
   (`usecases.identity`), and they are given to the reader as they were. The sandbox is not asked.
2. `proven`: the ranges that a recorded answer rests on were read again, through whatever lies there now, and
   every byte is the same (`disks.readset`). Tried with the state's own last answer, then with the latest
   different answers that rest on the same base. What was replayed of a copy of the same files holds for
   these (`usecases.copies`): a clone that was never started asks the sandbox for nothing.
3. `read`: a new inventory, with the set of reads that proves it later.

What the files themselves make uncertain (a running machine writes them, they changed under the read) is in
`Reading.problems`, whichever way it was: it is no part of an inventory that others may share.

    layers = LayerReader(reader)
    with layers.open(target) as machine:
        reading = machine.read("current", cached, record.candidates)
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from undercroft.errors import InputError
from undercroft.model.credentials import Credentials
from undercroft.model.disk import Snapshot
from undercroft.model.execution import Fingerprint
from undercroft.model.fleet import DiskRead, FileIdentity, ReadSet
from undercroft.model.inventory import Inventory
from undercroft.model.job import ProvenReads
from undercroft.ports.reader import Reader
from undercroft.readers import readers_digest
from undercroft.usecases.copies import Copies
from undercroft.usecases.fleet.reading.credentials import CredentialsMemory
from undercroft.usecases.identity import Inspections, same_file
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.states import State
from undercroft.usecases.target import MachineTarget

MAX_CANDIDATES = 2
"""Recorded answers that are tried beside the state's own; each costs as much as it has bytes."""

MAX_READS_AT_ONCE = 4000
"""Of all sets in one request to the reader."""

Candidates = Callable[[FileIdentity, int], Sequence[tuple[str, ReadSet]]]
"""`Record.candidates`: (inventory digest, reads) of the latest answers that rest on a file."""


class How(StrEnum):
    """How an answer was come by."""

    UNCHANGED = "unchanged"
    PROVEN = "proven"
    READ = "read"


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """What is on record of a state's last reading, as the `Scan` and the inventory's read set have it."""

    inventory: str
    files: tuple[FileIdentity, ...]
    inputs: str = ""
    reads: ReadSet | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reading gave.

    Attributes:
        how: the way.
        inventory: the new one, None where the one on record stands.
        inventory_digest: of the one on record that stands, "" where it is new.
        reads: what proves the new inventory, None where nothing does and for those on record.
        fingerprint: of the state's disks; None where none could be read, and for UNCHANGED, whose
            fingerprint is the one on record.
        files: what the answer rests on, top images first (`Scan.files`).
        inputs: for `Scan.inputs`.
        snapshots: what each disk's top image lists as its snapshots: (disk, snapshots), untrusted.
        problems: what the files make uncertain; the inventory's own lie in its coverage.
    """

    how: How
    inventory: Inventory | None
    inventory_digest: str
    reads: ReadSet | None
    fingerprint: Fingerprint | None
    files: tuple[FileIdentity, ...]
    inputs: str
    snapshots: tuple[tuple[str, tuple[Snapshot, ...]], ...] = ()
    problems: tuple[str, ...] = ()


class LayerReader:
    """Reads states of machines; one for a whole agent, for any number of threads.

    Args:
        reader: the sandbox. It has to be started in a thread that lives as long as it is used.
    """

    def __init__(self, reader: Reader) -> None:
        readers_digest()  # now: an upgrade may replace the files under an agent that runs on
        self._reader = reader
        self._inspections = Inspections()
        self._copies = Copies()
        self._credentials = CredentialsMemory()

    @contextmanager
    def open(self, target: MachineTarget) -> Iterator["LayeredMachine"]:
        """Open a machine for the length of a `with` block; one thread uses it. Raises as `OpenMachine`."""
        with OpenMachine(target, self._reader, self._inspections, self._copies) as machine:
            yield LayeredMachine(machine, self._credentials)

    def read(
        self,
        target: MachineTarget,
        state: str,
        cached: CachedAnswer | None = None,
        candidates: Candidates | None = None,
    ) -> Reading:
        """Open a machine and read one of its states. Raises as `OpenMachine` and `LayeredMachine.read` do."""
        with self.open(target) as machine:
            return machine.read(state, cached, candidates)


class LayeredMachine:
    """An opened machine whose states can be read; made by `LayerReader.open`."""

    def __init__(self, machine: OpenMachine, memory: CredentialsMemory) -> None:
        self._machine = machine
        self._memory = memory
        self.states: tuple[State, ...] = machine.states

    def read(
        self, state: str, cached: CachedAnswer | None = None, candidates: Candidates | None = None
    ) -> Reading:
        """Return what a state holds, by the cheapest way that proves it.

        Args:
            state: "current", a snapshot's name or its ID.
            cached: the state's last answer.
            candidates: gives other answers that may be the state's too.

        Raises:
            NotFoundError: there is no such state.
            InputError: several bear the name; the reader's child died of what it read.
            OperationError: the sandbox failed, or a point in time was given up.
        """
        return self.read_state(self._machine.state(state), cached, candidates)

    def read_state(
        self, state: State, cached: CachedAnswer | None = None, candidates: Candidates | None = None
    ) -> Reading:
        """Do what `read` does for one of `states`; no name has to be looked up. Raises as it does."""
        return (
            self._unchanged(state, cached)
            or self._proven(state, cached, candidates)
            or self._read_anew(state)
        )

    def credentials(self, state: str) -> Credentials:
        """Return who may get into a state, proven by what was read lately or anew. Raises as `read` does."""
        return self._memory.read(self._machine, self._machine.state(state))

    def fingerprint(self, state: str) -> Fingerprint | None:
        """Return the fingerprint of a state's disks, None where none could be read. Raises as `read` does."""
        return self._machine.replay(self._machine.state(state), []).fingerprint

    def _unchanged(self, state: State, cached: CachedAnswer | None) -> Reading | None:
        if cached is None or not cached.inputs or cached.inputs != self._machine.inputs(state):
            return None
        now = self._machine.identities(state)
        if len(now) != len(cached.files):
            return None
        # Both ways: what was written since, and who may be about to write now.
        if not all(
            same_file(then, present) and present.proves
            for then, present in zip(cached.files, now, strict=True)
        ):
            return None
        return self._reading(How.UNCHANGED, state, cached.inventory)

    def _proven(
        self, state: State, cached: CachedAnswer | None, candidates: Candidates | None
    ) -> Reading | None:
        for group in _groups(self._known(state, cached, candidates)):
            try:
                replayed = self._machine.replay(state, [travelling(reads) for _digest, reads in group])
            except InputError:
                return None  # what cannot be replayed is read whole, and that read says what is wrong
            for (inventory, reads), digest in zip(group, replayed.digests, strict=False):
                if digest == reads.digest:
                    return self._reading(How.PROVEN, state, inventory, replayed.fingerprint)
        return None

    def _known(
        self, state: State, cached: CachedAnswer | None, candidates: Candidates | None
    ) -> Iterator[tuple[str, ReadSet]]:
        """Yield the recorded answers to try, each once: the state's own first."""
        tried = set()
        if cached is not None and cached.reads is not None:
            tried.add(cached.inventory)
            yield cached.inventory, cached.reads
        allowed = len(tried) + MAX_CANDIDATES
        for base in self._bases(state) if candidates else ():
            for inventory, reads in candidates(base, MAX_CANDIDATES) if candidates else ():
                if len(tried) >= allowed:
                    return
                # A set without a read proves nothing of a sibling: every clone fits it, whatever it holds.
                if inventory not in tried and reads.reads:
                    tried.add(inventory)
                    yield inventory, reads

    def _bases(self, state: State) -> Sequence[FileIdentity]:
        """Return the files whose answers may be this state's: those below the tops, then the tops."""
        files = self._machine.identities(state)
        tops = len(self._machine.image_snapshots())
        return (*files[tops:], *files[:tops])

    def _read_anew(self, state: State) -> Reading:
        found = self._machine.proven_inventory(state)
        reads = kept_reads(found.reads) if found.reads else None
        return self._reading(How.READ, state, "", found.fingerprint, found.inventory, reads)

    def _reading(
        self,
        how: How,
        state: State,
        digest: str,
        fingerprint: Fingerprint | None = None,
        inventory: Inventory | None = None,
        reads: ReadSet | None = None,
    ) -> Reading:
        """Return the answer with what the files say by now, after they were read."""
        return Reading(
            how=how,
            inventory=inventory,
            inventory_digest=digest,
            reads=reads,
            fingerprint=fingerprint,
            files=self._machine.identities(state),
            inputs=self._machine.inputs(state),
            snapshots=self._machine.image_snapshots(),
            problems=self._machine.problems(state),
        )


def _groups(known: Iterator[tuple[str, ReadSet]]) -> Iterator[list[tuple[str, ReadSet]]]:
    """Yield the sets in groups that fit into one request; as a rule there is one."""
    group: list[tuple[str, ReadSet]] = []
    count = 0
    for inventory, reads in known:
        if group and count + len(reads.reads) > MAX_READS_AT_ONCE:
            yield group
            group, count = [], 0
        group.append((inventory, reads))
        count += len(reads.reads)
    if group:
        yield group


def travelling(reads: ReadSet) -> ProvenReads:
    """Return a set as the reader takes it."""
    numbers = tuple(number for read in reads.reads for number in (read.disk, read.offset, read.length))
    return ProvenReads(numbers, reads.sizes, reads.digest)


def kept_reads(untrusted: ProvenReads) -> ReadSet:
    """Return a set as it goes on record; numbers that are left over would be of no complete read."""
    numbers = untrusted.numbers
    triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=False)
    return ReadSet(tuple(DiskRead(*triple) for triple in triples), untrusted.sizes, untrusted.digest)
