"""An opened machine: its files, its states, and what the reader finds in any of them.

with OpenMachine(target, reader) as machine:
    inventory = machine.inventory(machine.state("before-upgrade"))
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar, cast

from undercroft.errors import InputError, NotFoundError, UnsupportedError
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
from undercroft.model.schema import Json, decode, decode_list, encode
from undercroft.ports.reader import Reader
from undercroft.usecases.copies import Copies, Mark, marks, settled
from undercroft.usecases.disklayers import OpenDisk
from undercroft.usecases.identity import Inspections, identify
from undercroft.usecases.jobinputs import disk_inputs, file_input
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.opendisk import DiskOpener
from undercroft.usecases.opening import OpenFile
from undercroft.usecases.states import State, external_states, guest_state, in_order, select_state, states_of
from undercroft.usecases.target import MachineTarget
from undercroft.usecases.unlocking import Unlocking
from undercroft.version import VERSION

Answer = TypeVar("Answer")

_JOBS_OF_SUBVOLUMES = frozenset({"inventory", "entries"})
"""What looks at a snapshot that the guest took of its root; no proof of it is kept."""


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
        self._reader = reader
        self._copies = copies
        self._unlocking = Unlocking(keys) if keys else None
        self._opener = DiskOpener(target, reader, inspections, copies)
        self._unstable: set[str] = set()
        try:
            self._disks = self._open(target)
        except BaseException:
            self.close()
            raise
        self._problem = target.problem
        read = [disk for disk in self._disks if disk.layers]
        self.states = in_order(
            states_of([(disk.target.name, disk.layers[0].info.snapshots) for disk in read]),
            external_states(target.external, [(disk.target.name, disk.paths) for disk in read]),
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
        found = self._settled(
            state, lambda: decode(Inventory, self._call("inventory", state), "the reader's inventory")
        )
        problems = (*found.coverage.problems, *self._problems(state))
        notes = (*found.coverage.notes, *(note for disk in self._disks for note in disk.notes))
        return replace(found, coverage=replace(found.coverage, problems=problems, notes=notes))

    def guest_states(self, state: State) -> tuple[State, ...]:
        """Return the snapshots that the guest took of its root, as they lie on the disks of `state`.

        Raises InputError where the reader's child died of it.
        """
        answer = self._settled(state, lambda: self._call("guest_snapshots", state))
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
        return self._settled(
            state, lambda: decode(ProvenInventory, self._call("reading", state), "the reader's inventory")
        )

    def replay(self, state: State, sets: Sequence[ProvenReads]) -> Replayed:
        """Read recorded ranges of `state` again, one set after the other until one is as it was.

        Raises InputError where the reader's child died of it, or the sets are too many for one request.
        """
        return self._settled(state, lambda: self._copied_or_replayed(state, sets))

    def compare(self, state: State, sets: Sequence[ProvenReads], packages: str) -> Compared:
        """Do what `replay` does, in one child with a look at what the machine's one image says of itself.

        Where no set proves its inventory, that child reads it; packages whose digest is `packages` are left
        away. Raises InputError where the child died of it, or the sets are too many for one request.
        """
        answer = self._settled(
            state, lambda: self._call("compare", state, sets=encode(list(sets)), packages=packages)
        )
        untrusted = decode(Compared, answer, "compared reads")
        if len(untrusted.digests) > len(sets):
            raise InputError(f"{self.name}: the reader answered for more sets of reads than it was given")
        return untrusted

    def proven_credentials(self, state: State) -> ProvenCredentials:
        """Return who may get into `state`, without the files' own problems (`problems`).

        Raises InputError where the reader's child died of it.
        """
        return self._settled(
            state,
            lambda: decode(ProvenCredentials, self._call("credentials", state), "the reader's credentials"),
        )

    def problems(self, state: State) -> tuple[str, ...]:
        """Return why an answer about `state` may not be the machine's, whatever was read."""
        return tuple(self._problems(state))

    def identities(self, state: State) -> tuple[FileIdentity, ...]:
        """Return the files of all chains, top images first; the answers about `state` rest on them.

        A running machine's top image proves nothing of its current state, which is not read from there.
        """
        tops: list[FileIdentity] = []
        below: list[FileIdentity] = []
        for disk in self._disks:
            is_live = state.is_current and disk.target.live is not None
            for depth, file in enumerate(disk.files):
                identity = identify(file, self.begun_at_ns, live=is_live and depth == 0)
                (below if depth else tops).append(identity)
        return (*tops, *below)

    def inputs(self, state: State) -> str:
        """Return a digest of what the reader is given beside the files' bytes: names, formats, chains.

        "" for the current state of a running machine, which is read from elsewhere, and where there are
        keys: nobody who does not have them may be told what they open.
        """
        if self._unlocking or (state.is_current and any(disk.target.live for disk in self._disks)):
            return ""
        given = [encode(file_input(disk, state, [])) for disk in self._disks]
        return hashlib.sha256(json.dumps([VERSION, given]).encode("ascii")).hexdigest()

    def image_snapshots(self) -> tuple[tuple[str, tuple[Snapshot, ...]], ...]:
        """Return what each disk's top image lists as its snapshots: (disk, snapshots)."""
        return tuple((disk.target.name, disk.layers[0].info.snapshots) for disk in self._disks if disk.layers)

    def entries(self, state: State, path: str) -> tuple[FileEntry, ...]:
        """Return the directory `path` of the guest, or the one file. Raises NotFoundError, InputError."""
        found = self._settled(
            state,
            lambda: decode_list(FileEntry, self._call("entries", state, path=path), "the reader's listing"),
        )
        for problem in self._unstable_files(state):
            raise InputError(problem)
        return found

    def content(self, state: State, path: str) -> Iterator[bytes]:
        """Yield the bytes of a regular file of the guest.

        Raises NotFoundError, InputError; also at the end, where an image changed meanwhile.
        """
        with ExitStack() as sockets:
            disks, descriptors = disk_inputs(self._disks, state, sockets)
            arguments = {"disks": disks, "path": path, **self._keys(state, descriptors)}
            if state.subvolume:
                arguments["subvolume"] = encode(state.subvolume)
            yield from self._reader.stream("content", arguments, descriptors)
        self._check_live(state)
        for file in self._changed_files(state):
            raise InputError(f"{file.path}: changed during the read, so the content may mix two moments")

    def disk_reports(self) -> tuple[DiskReport, ...]:
        """Return how each disk was read."""
        return tuple(disk.report(self._unstable) for disk in self._disks)

    def _open(self, target: MachineTarget) -> list[OpenDisk]:
        """Open all disks; those of an archive take the names that the guest's order gives them."""
        disks = [opened for disk in target.disks for opened in self._opener.open_all(disk)]
        if len(disks) == len(target.disks):
            return disks
        return [
            replace(disk, target=replace(disk.target, name=f"disk{index}"))
            for index, disk in enumerate(disks)
        ]

    # What the files themselves make uncertain

    def _problems(self, state: State) -> Iterator[str]:
        """Yield why an answer about `state` may not be the machine's, whatever was read."""
        yield from self._unstable_files(state)
        if state.is_current and self._problem:
            yield f"{self.name}: {self._problem}"
        for disk in self._disks if state.is_current else ():
            if disk.target.live and not disk.layers:
                yield f"{disk.target.name}: its snapshots could not be listed: {disk.unread}"
            elif not disk.target.live and disk.in_use:
                yield (
                    f"{disk.files[0].path}: a running machine has it open for writing and may hold back what"
                    " the file lacks; scan it with -d NAME"
                )

    def _unstable_files(self, state: State) -> Iterator[str]:
        for path in sorted({file.path for file in self._files(state)} & self._unstable):
            yield (
                f"{path}: changed during both reads, so the answer may mix two moments;"
                " use -d for a running machine"
            )

    # Reading

    def _call(self, job: str, state: State, **arguments: Json) -> Json:
        with ExitStack() as sockets:
            disks, descriptors = disk_inputs(self._disks, state, sockets)
            keys = self._keys(state, descriptors)
            if state.subvolume:
                if job not in _JOBS_OF_SUBVOLUMES:
                    raise UnsupportedError(
                        f"{self.name}: {job} is not done for a snapshot of the guest's own"
                    )
                arguments["subvolume"] = encode(state.subvolume)
            return self._reader.call(job, {"disks": disks, **keys, **arguments}, descriptors)

    def _keys(self, state: State, descriptors: list[int]) -> dict[str, Json]:
        """Return the argument that names a job's keys, none without any; adds to its descriptors."""
        if not self._unlocking:
            return {}

        def unlock(keys: Json, holding: list[int]) -> Json:
            with ExitStack() as sockets:  # a live disk's socket serves one job
                disks, own = disk_inputs(self._disks, state, sockets)
                return self._reader.call("unlock", {"disks": disks, "keys": keys}, [*own, *holding])

        place = f"{state.name}@{state.ident}"
        keys, holding = self._unlocking.keys(place, len(descriptors), unlock)
        descriptors += holding
        return {"keys": keys}

    def _replay(self, state: State, sets: Sequence[ProvenReads]) -> Replayed:
        answer = self._call("replay", state, sets=encode(list(sets)))
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
            if settled(self.identities(state), self._files(state)):
                self._copies.replayed.keep(place, known)
        return known

    def _place(self, state: State, sets: Sequence[ProvenReads]) -> Mark | None:
        """Return all that a replay follows from; the files' names stand in error messages only."""
        if self._copies is None or (state.is_current and any(disk.target.live for disk in self._disks)):
            return None
        found = marks([file for disk in self._disks for file in disk.files], self.begun_at_ns)
        inputs = [file_input(disk, state, []) for disk in self._disks]
        nameless = tuple(
            replace(given, layers=tuple(replace(layer, name="") for layer in given.layers), data_file=None)
            for given in inputs
        )
        has_data_file = any(given.data_file for given in inputs)
        return None if found is None or has_data_file else (found, nameless, tuple(sets))

    # Files that change under the read

    def _settled(self, state: State, read: Callable[[], Answer]) -> Answer:
        """Return what `read` gives; read once more where a file changed meanwhile, then remember it."""
        answer: Answer | None = None
        failure: InputError | None = None
        for _attempt in range(2):
            try:
                answer, failure = read(), None
            except InputError as error:
                failure = error
            self._check_live(state)
            changed = self._changed_files(state)
            if not changed:
                break
            self._refresh()
        else:
            self._unstable.update(file.path for file in changed)
        if failure:
            raise failure
        return cast("Answer", answer)

    def _files(self, state: State) -> list[OpenFile]:
        """Return the files that an answer about `state` rests on."""
        return [
            file
            for disk in self._disks
            if not (state.is_current and disk.target.live)
            for file in disk.files_from(state.above.get(disk.target.name, 0))
        ]

    def _changed_files(self, state: State) -> list[OpenFile]:
        """Return the files that were written since they were opened.

        A running machine writes to its file all the time, but never to the clusters of a snapshot: there
        the snapshot table tells whether what was read still stands, however the machine is known to run.
        """
        changed: list[OpenFile] = []
        for disk in self._disks:
            if state.external:  # its images are written by nobody, whoever writes what lies on top
                if above := state.above.get(disk.target.name):
                    changed.extend(file for file in disk.files_from(above) if file.changed())
                continue
            runs = disk.target.live is not None or disk.in_use
            if not runs or (state.is_current and disk.target.live is None):
                changed.extend(file for file in disk.files if file.changed())
            elif not state.is_current and disk.layers:
                top = disk.layers[0]
                if self._opener.inspect_anew(top).snapshots != top.info.snapshots:
                    changed.append(top.file)
        return changed

    def _check_live(self, state: State) -> None:
        """Raise OperationError where a point in time did not hold until the end of the read."""
        for disk in self._disks:
            if state.is_current and disk.target.live:
                disk.target.live.check()

    def _refresh(self) -> None:
        """Take the files' sizes and signatures anew; their tables are read anew by every job."""
        self._disks = [disk.refreshed() for disk in self._disks]
        if self._unlocking:
            self._unlocking.forget()
