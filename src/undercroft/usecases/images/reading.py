"""One image of many, read with as little reading as proves its answer.

1. Nothing of its chain was written since an earlier call: the kept answer stands (`fleet.reading.layers`).
2. It rests on an image whose answer is known. One child looks at this image and reads the ranges that the
   base's answer rests on through this image's chain: where all bytes are the same, so is the answer
   (`disks.readset`); else it reads the inventory. The host opened the chain by a hint; what the child says
   counts only where it says of the image what the hint said.
3. It is read.
4. Where it shows an encrypted volume that the caller has a key for, it is read once more with that key, and
   with nothing but that key (`keyed`). What comes of that is kept nowhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from undercroft.errors import InputError
from undercroft.model.inventory import Inventory
from undercroft.model.report import DiskReport
from undercroft.ports.imagecache import ImageCache
from undercroft.usecases.fleet.reading.credentials import CredentialsMemory
from undercroft.usecases.fleet.reading.layers import How, LayeredMachine, kept_reads
from undercroft.usecases.images.answers import Answers
from undercroft.usecases.images.inspecting import Hinted, KeptInspections
from undercroft.usecases.images.keyed import ImageKeys, KeyedAnswer, KeyedAnswers, encrypted_names
from undercroft.usecases.images.opening import DISK, ImageOpener
from undercroft.usecases.images.survey import Seen
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.report import MAX_STATES
from undercroft.usecases.states import State


@dataclass(frozen=True, slots=True)
class StateRead:
    """One state as it was read; `inventory` is None where it could not be.

    `problems` are the files' own and the inventory's; `how` is None where it could not be read.
    """

    state: State
    inventory: Inventory | None
    problems: tuple[str, ...]
    how: How | None
    read_ms: float


@dataclass(frozen=True, slots=True)
class ImageRead:
    """One image as it was read.

    Attributes:
        disks: its one disk.
        states: the current one first.
        left_out: snapshots beyond the limit.
        shared: path of the image below whose answer was proven to be that of the current state, "" for none.
    """

    disks: tuple[DiskReport, ...]
    states: tuple[StateRead, ...]
    left_out: int = 0
    shared: str = ""


class ImageReader:
    """Reads images; for several threads.

    Args:
        opener: opens them.
        cache: what is kept of earlier calls.
        keys: for encrypted volumes.
    """

    def __init__(self, opener: ImageOpener, cache: ImageCache, keys: ImageKeys) -> None:
        self._opener = opener
        self._inspections = KeptInspections(cache)
        self._memory = CredentialsMemory()
        self._answers = Answers(cache)
        self._keys = keys
        self._keyed = KeyedAnswers()

    def read(self, image: Seen) -> ImageRead:
        """Return what the states of an image hold.

        Raises:
            UndercroftError: as `OpenMachine` does, where not even the image itself can be opened.
        """
        read = self._without_keys(image)
        tried: frozenset[str] = frozenset()
        while not (wanted := self._keys.meant_for(image.path, self._encrypted(image, read))) <= tried:
            tried |= wanted  # what a key opens may hold a volume that another key opens
            read = self._with_keys(image, self._encrypted(image, read), tried)
        return read

    def forget(self, path: str) -> None:
        """Forget what was known of a base: nothing more will be compared with it."""
        self._answers.forget(path)
        self._keyed.forget(path)

    def _without_keys(self, image: Seen) -> ImageRead:
        below = self._opener.below(image.path)
        compared = self._compared(image, below)
        if compared:
            return compared
        known = self._answers.known(below)
        with self._opener.opened(image.path, self._inspections) as machine:
            read = self._states(image, machine)
        first = read.states[0]
        same = known is not None and first.how is How.PROVEN and first.inventory is known.inventory
        return replace(read, shared=below) if same else read

    def _with_keys(self, image: Seen, encrypted: frozenset[str], names: frozenset[str]) -> ImageRead:
        """Read an image with some of the keys. What they open is for this call's eyes alone."""
        with (
            self._keys.ring(image.path, encrypted, names) as keys,
            self._opener.opened(image.path, self._inspections, keys) as machine,
        ):
            try:
                current = self._current_with_keys(image, machine, names)
            except InputError as error:
                current = StateRead(machine.states[0], None, (str(error),), None, 0.0)
            return self._with_snapshots(machine, current, lambda state: _fresh(machine, state))

    def _current_with_keys(self, image: Seen, machine: OpenMachine, names: frozenset[str]) -> StateRead:
        """Return the current state as what lies below showed it with these keys, where that is proven.

        Raises InputError where the reader's child died of it.
        """
        started, state = time.perf_counter(), machine.states[0]
        known = self._keyed.find(self._opener.below(image.path), names)
        if known and machine.replay(state, [known.reads]).digests == (known.reads.digest,):
            self._keyed.keep(image.path, known)
            problems = machine.problems(state)
            return _state_read(machine, state, How.PROVEN, known.inventory, problems, started)
        found = machine.proven_inventory(state)
        problems = machine.problems(state)
        if found.reads and found.reads.numbers and not problems:
            self._keyed.keep(image.path, KeyedAnswer(names, found.inventory, found.reads))
        return _state_read(machine, state, How.READ, found.inventory, problems, started)

    def _encrypted(self, image: Seen, read: ImageRead) -> frozenset[str]:
        infos = list(self._opener.infos(image.path).values())
        return encrypted_names([state.inventory for state in read.states if state.inventory], infos, DISK)

    def _compared(self, image: Seen, below: str) -> ImageRead | None:
        """Return the answer of what lies below, proven to be this image's; None where it has to be read."""
        known = self._answers.known(below)
        if known is None or image.info is None or image.hint is None:
            return None
        started = time.perf_counter()
        hinted = Hinted(self._inspections, image.hint, image.info)
        with self._opener.opened(image.path, hinted) as machine:
            state = machine.states[0]
            if not hinted.used:
                return None
            try:
                compared = machine.compare(state, [known.travelling], known.packages)
            except InputError:
                return None
            if compared.info != image.info:
                return None  # the hint was wrong: another image's child may have made it up
            self._inspections.keep(image.hint, None, image.info)
            problems = machine.problems(state)
            if compared.digests == (known.reads.digest,):
                read = _state_read(machine, state, How.PROVEN, known.inventory, problems, started)
                self._answers.keep_digest(image.path, machine, state, known.digest)
                self._answers.share(image.path, known)
                return replace(self._with_kept_snapshots(image.path, machine, read), shared=below)
            if compared.found is None:
                return None
            found = compared.found.inventory
            inventory = replace(found, packages=known.inventory.packages) if compared.same_packages else found
            reads = kept_reads(compared.found.reads) if compared.found.reads else None
            self._answers.keep(image.path, machine, state, inventory, reads, problems)
            read = _state_read(machine, state, How.READ, inventory, problems, started)
            return self._with_kept_snapshots(image.path, machine, read)

    def _states(self, image: Seen, machine: OpenMachine) -> ImageRead:
        layered = LayeredMachine(machine, self._memory)
        current = self._state(image.path, machine, layered, machine.states[0])
        return self._with_kept_snapshots(image.path, machine, current)

    def _with_kept_snapshots(self, path: str, machine: OpenMachine, current: StateRead) -> ImageRead:
        layered = LayeredMachine(machine, self._memory)
        return self._with_snapshots(
            machine, current, lambda state: self._state(path, machine, layered, state)
        )

    def _with_snapshots(
        self, machine: OpenMachine, current: StateRead, read: Callable[[State], StateRead]
    ) -> ImageRead:
        """Return an image whose current state was read, with its snapshots and those that its guest took."""
        snapshots = list(machine.states[1:])
        if _may_have_own_snapshots(current.inventory):
            try:
                own = machine.guest_states(current.state)
                snapshots = sorted((*snapshots, *own), key=lambda state: state.created_at_s)
            except InputError as error:
                told = f"the guest's own snapshots could not be listed: {error}"
                current = replace(current, problems=(*current.problems, told))
        wanted = snapshots[-(MAX_STATES - 1) :]
        states = (current, *(read(state) for state in wanted))
        return ImageRead(machine.disk_reports(), states, len(snapshots) - len(wanted))

    def _state(self, path: str, machine: OpenMachine, layered: LayeredMachine, state: State) -> StateRead:
        started = time.perf_counter()
        if state.subvolume is not None:
            return _fresh(machine, state)  # which one it is no set of reads proves, so nothing is kept
        cached = self._answers.cached(path, state)
        try:
            reading = layered.read_state(state, cached, self._answers.candidates)
            inventory = reading.inventory or self._answers.inventory(reading.inventory_digest)
            if inventory is None:  # the kept one is lost
                reading = layered.read_state(state)
                inventory = reading.inventory
        except InputError as error:
            return StateRead(state, None, (str(error),), None, _since(started))
        assert inventory is not None  # without a kept answer it was read
        if reading.inventory is None:
            digest = reading.inventory_digest
            if reading.how is not How.UNCHANGED:
                self._answers.keep_digest(path, machine, state, digest)
            self._answers.found_again(path, state, inventory, digest, cached, reading.problems)
        else:
            self._answers.keep(path, machine, state, inventory, reading.reads, reading.problems)
        return _state_read(machine, state, reading.how, inventory, reading.problems, started)


def _state_read(
    machine: OpenMachine,
    state: State,
    how: How,
    inventory: Inventory,
    problems: tuple[str, ...],
    started: float,
) -> StateRead:
    told = (*inventory.coverage.problems, *problems)
    if machine.notes:  # of these files, and no part of an inventory that others may share
        notes = (*inventory.coverage.notes, *machine.notes)
        inventory = replace(inventory, coverage=replace(inventory.coverage, notes=notes))
    return StateRead(state, inventory, told, how, _since(started))


def _fresh(machine: OpenMachine, state: State) -> StateRead:
    """Read a state whole, whatever is known of it."""
    started = time.perf_counter()
    try:
        inventory = machine.inventory(state)
    except InputError as error:
        return StateRead(state, None, (str(error),), None, _since(started))
    return StateRead(state, inventory, inventory.coverage.problems, How.READ, _since(started))


def _may_have_own_snapshots(inventory: Inventory | None) -> bool:
    volumes = inventory.coverage.volumes if inventory else ()
    return any(volume.content == "btrfs" and "/" in volume.mounts for volume in volumes)


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
