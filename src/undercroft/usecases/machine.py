"""An opened machine: its files, its states, and what the reader finds in any of them.

with OpenMachine(target, reader) as machine:
    inventory = machine.inventory(machine.state("before-upgrade"))
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from undercroft.errors import InputError, NotFoundError
from undercroft.model.disk import Snapshot
from undercroft.model.fleet import FileIdentity
from undercroft.model.inventory import Inventory
from undercroft.model.job import (
    FileEntry,
    GuestSnapshot,
    ProvenCredentials,
    ProvenInventory,
    ProvenReads,
    Replayed,
)
from undercroft.model.looks import Compared
from undercroft.model.report import DiskReport
from undercroft.model.schema import decode, decode_list, encode
from undercroft.ports.reader import Reader
from undercroft.readers import readers_digest
from undercroft.usecases.checkpoints import checkpoints
from undercroft.usecases.copies import Copies, Mark, marks, settled
from undercroft.usecases.disklayers import OpenDisk
from undercroft.usecases.identity import Inspections
from undercroft.usecases.jobinputs import file_input
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.machinefiles import MachineFiles
from undercroft.usecases.machinejobs import MachineJobs
from undercroft.usecases.opendisk import DiskOpener
from undercroft.usecases.states import State, external_states, guest_state, in_order, select_state, states_of
from undercroft.usecases.target import MachineTarget
from undercroft.usecases.unlocking import Unlocking


class OpenMachine:
    """A machine whose files are open and whose states are known.

    Args:
        target: disks and the files that may be opened.
        reader: whoever parses what is in them.
        inspections, copies: as in `DiskOpener`.
        keys: for encrypted volumes; they stay the caller's. None where there are none.

    Attributes:
        begun_at_ns: a time before the first file was opened, nanoseconds since the epoch.

    Raises what `DiskOpener.open` raises.
    """

    def __init__(
        self,
        target: MachineTarget,
        reader: Reader,
        inspections: Inspections | None = None,
        copies: Copies | None = None,
        keys: KeyRing | None = None,
    ) -> None:
        self.name = target.name
        self.begun_at_ns = time.time_ns()
        self._copies = copies
        self._unlocking = Unlocking(keys) if keys else None
        self._opener = DiskOpener(target, reader, inspections, copies)
        try:
            disks = self._open(target)
        except BaseException:
            self.close()
            raise
        forget = self._unlocking.forget if self._unlocking else _nothing
        self._files = MachineFiles(disks, self._opener, self.begun_at_ns, target.problem, forget)
        self._jobs = MachineJobs(target.name, reader, self._unlocking, lambda: self._files.disks)
        read = [disk for disk in disks if disk.layers]
        external = checkpoints(read) if target.has_checkpoints else target.external
        self.states = in_order(
            states_of([(disk.target.name, disk.layers[0].info.snapshots) for disk in read]),
            external_states(external, [(disk.target.name, disk.paths) for disk in read]),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the machine's files and give up its volumes' keys; the reader stays as it is."""
        self._opener.close()
        if self._unlocking:
            self._unlocking.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of how the disks lie in their files, without loss."""
        return tuple(note for disk in self._files.disks for note in disk.notes)

    def state(self, wanted: str) -> State:
        """Return a state by "current", name or ID; the guest's own snapshots come after those of its disks.

        Raises as `states.select_state` does.
        """
        try:
            return select_state(self.states, wanted, self.name)
        except NotFoundError:
            own = self._guest_states_if_any()
            if not own:
                raise
        return select_state((*self.states, *own), wanted, self.name)

    def inventory(self, state: State) -> Inventory:
        """Return what is installed in `state`, its files' own problems among those of its coverage.

        Raises InputError where the reader's child died of it.
        """
        found = self._files.settled(
            state, lambda: decode(Inventory, self._jobs.call("inventory", state), "the reader's inventory")
        )
        problems = (*found.coverage.problems, *self._files.problems(state, self.name))
        notes = (*found.coverage.notes, *self.notes)
        return replace(found, coverage=replace(found.coverage, problems=problems, notes=notes))

    def guest_states(self, state: State) -> tuple[State, ...]:
        """Return the snapshots that the guest took of its root, as they lie on the disks of `state`.

        Raises InputError where the reader's child died of it.
        """
        answer = self._files.settled(state, lambda: self._jobs.call("guest_snapshots", state))
        snapshots = decode_list(GuestSnapshot, answer, "the guest's snapshots")
        return tuple(guest_state(snapshot) for snapshot in snapshots)

    def _guest_states_if_any(self) -> tuple[State, ...]:
        try:
            return self.guest_states(self.states[0])
        except InputError:
            return ()  # whoever asked is told that there is no such state

    def proven_inventory(self, state: State) -> ProvenInventory:
        """Return what the reader itself says of `state`, without the files' own problems (`problems`).

        Raises InputError where the reader's child died of it.
        """
        return self._files.settled(
            state,
            lambda: decode(ProvenInventory, self._jobs.call("reading", state), "the reader's inventory"),
        )

    def replay(self, state: State, sets: Sequence[ProvenReads]) -> Replayed:
        """Read recorded ranges of `state` again, one set after the other until one is as it was.

        Raises InputError where the reader's child died of it, or the sets are too many for one request.
        """
        return self._files.settled(state, lambda: self._copied_or_replayed(state, sets))

    def compare(self, state: State, sets: Sequence[ProvenReads], packages: str) -> Compared:
        """Do what `replay` does, in one child with a look at what the machine's one image says of itself.

        Where no set proves its inventory, that child reads it; packages whose digest is `packages` are left
        away. Raises InputError where the child died of it, or the sets are too many for one request.
        """
        answer = self._files.settled(
            state, lambda: self._jobs.call("compare", state, sets=encode(list(sets)), packages=packages)
        )
        untrusted = decode(Compared, answer, "compared reads")
        if len(untrusted.digests) > len(sets):
            raise InputError(f"{self.name}: the reader answered for more sets of reads than it was given")
        return untrusted

    def proven_credentials(self, state: State) -> ProvenCredentials:
        """Return who may get into `state`, without the files' own problems (`problems`).

        Raises InputError where the reader's child died of it.
        """
        return self._files.settled(
            state,
            lambda: decode(
                ProvenCredentials, self._jobs.call("credentials", state), "the reader's credentials"
            ),
        )

    def problems(self, state: State) -> tuple[str, ...]:
        """Return why an answer about `state` may not be the machine's, whatever was read."""
        return tuple(self._files.problems(state, self.name))

    def identities(self, state: State) -> tuple[FileIdentity, ...]:
        """Return the files of all chains, top images first; the answers about `state` rest on them.

        A running machine's top image proves nothing of its current state, which is not read from there.
        """
        return self._files.identities(state)

    def inputs(self, state: State) -> str:
        """Return a digest of what the reader is given beside the files' bytes: names, formats, chains.

        "" for the current state of a running machine, which is read from elsewhere, and where there are
        keys: nobody who does not have them may be told what they open.
        """
        if self._unlocking or (state.is_current and any(disk.target.live for disk in self._files.disks)):
            return ""
        given = [encode(file_input(disk, state, [])) for disk in self._files.disks]
        return hashlib.sha256(json.dumps([readers_digest(), given]).encode("ascii")).hexdigest()

    def image_snapshots(self) -> tuple[tuple[str, tuple[Snapshot, ...]], ...]:
        """Return what each disk's top image lists as its snapshots: (disk, snapshots)."""
        return tuple(
            (disk.target.name, disk.layers[0].info.snapshots) for disk in self._files.disks if disk.layers
        )

    def entries(self, state: State, path: str) -> tuple[FileEntry, ...]:
        """Return the directory `path` of the guest, or the one file. Raises NotFoundError, InputError."""
        found = self._files.settled(
            state,
            lambda: decode_list(
                FileEntry, self._jobs.call("entries", state, path=path), "the reader's listing"
            ),
        )
        for problem in self._files.unstable_files(state):
            raise InputError(problem)
        return found

    def content(self, state: State, path: str) -> Iterator[bytes]:
        """Yield the bytes of a regular file of the guest.

        Raises NotFoundError, InputError; also at the end, where an image changed meanwhile.
        """
        yield from self._jobs.stream("content", state, path=path)
        self._files.check_live(state)
        for file in self._files.changed(state):
            raise InputError(f"{file.path}: changed during the read, so the content may mix two moments")

    def disk_reports(self) -> tuple[DiskReport, ...]:
        """Return how each disk was read."""
        return tuple(disk.report(self._files.unstable) for disk in self._files.disks)

    def _open(self, target: MachineTarget) -> list[OpenDisk]:
        """Open all disks; those of an archive take the names that the guest's order gives them."""
        disks = [opened for disk in target.disks for opened in self._opener.open_all(disk)]
        if len(disks) == len(target.disks):
            return disks
        return [
            replace(disk, target=replace(disk.target, name=f"disk{index}"))
            for index, disk in enumerate(disks)
        ]

    def _replay(self, state: State, sets: Sequence[ProvenReads]) -> Replayed:
        answer = self._jobs.call("replay", state, sets=encode(list(sets)))
        untrusted = decode(Replayed, answer, "replayed reads")
        if len(untrusted.digests) > len(sets):
            raise InputError(f"{self.name}: the reader answered for more sets of reads than it was given")
        return untrusted

    def _copied_or_replayed(self, state: State, sets: Sequence[ProvenReads]) -> Replayed:
        """Return what was replayed of a copy of this machine's files, else of these."""
        place = self._place(state, sets)
        if self._copies is None or place is None:
            return self._replay(state, sets)
        known = self._copies.replayed.find(place)
        if known is None:
            known = self._replay(state, sets)
            if settled(self.identities(state), self._files.of(state)):
                self._copies.replayed.keep(place, known)
        return known

    def _place(self, state: State, sets: Sequence[ProvenReads]) -> Mark | None:
        """Return all that a replay follows from; the files' names stand in error messages only."""
        if self._copies is None or (state.is_current and any(disk.target.live for disk in self._files.disks)):
            return None
        found = marks([file for disk in self._files.disks for file in disk.files], self.begun_at_ns)
        inputs = [file_input(disk, state, []) for disk in self._files.disks]
        nameless = tuple(
            replace(given, layers=tuple(replace(layer, name="") for layer in given.layers), data_file=None)
            for given in inputs
        )
        has_data_file = any(given.data_file for given in inputs)
        return None if found is None or has_data_file else (found, nameless, tuple(sets))


def _nothing() -> None:
    """Forget nothing: there are no keys."""
