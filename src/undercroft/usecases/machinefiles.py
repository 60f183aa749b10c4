"""The files of one opened machine: which of them an answer rests on, and which changed under the read."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

from undercroft.errors import InputError
from undercroft.model.fleet import FileIdentity
from undercroft.usecases.disklayers import OpenDisk
from undercroft.usecases.identity import identify
from undercroft.usecases.opendisk import DiskOpener
from undercroft.usecases.opening import OpenFile
from undercroft.usecases.states import State

Answer = TypeVar("Answer")


class MachineFiles:
    """The disks of a machine, taken anew where they were written meanwhile.

    Args:
        disks: as they were opened.
        opener: that opened them, and keeps them open.
        begun_at_ns: a time before the first file was opened.
        problem: what libvirt could not tell of the machine, "" for nothing.
        refreshed: called when files have changed.

    Attributes:
        disks: with their files' latest sizes and signatures.
        unstable: paths of files that changed during both reads.
    """

    def __init__(
        self,
        disks: Sequence[OpenDisk],
        opener: DiskOpener,
        begun_at_ns: int,
        problem: str,
        refreshed: Callable[[], None],
    ) -> None:
        self.disks = list(disks)
        self.unstable: set[str] = set()
        self._opener = opener
        self._begun_at_ns = begun_at_ns
        self._problem = problem
        self._refreshed = refreshed

    def settled(self, state: State, read: Callable[[], Answer]) -> Answer:
        """Return what `read` gives; read once more where a file changed meanwhile, then remember it."""
        answer: Answer | None = None
        failure: InputError | None = None
        for _attempt in range(2):
            try:
                answer, failure = read(), None
            except InputError as error:
                failure = error
            self.check_live(state)
            changed = self.changed(state)
            if not changed:
                break
            self.disks = [disk.refreshed() for disk in self.disks]
            self._refreshed()
        else:
            self.unstable.update(file.path for file in changed)
        if failure:
            raise failure
        return cast("Answer", answer)

    def of(self, state: State) -> list[OpenFile]:
        """Return the files that an answer about `state` rests on."""
        return [
            file
            for disk in self.disks
            if not (state.is_current and disk.target.live)
            for file in disk.files_from(state.above.get(disk.target.name, 0))
        ]

    def changed(self, state: State) -> list[OpenFile]:
        """Return the files that were written since they were opened.

        A running machine writes to its file all the time, but never to the clusters of a snapshot: there
        the snapshot table tells whether what was read still stands, however the machine is known to run.
        """
        changed: list[OpenFile] = []
        for disk in self.disks:
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

    def check_live(self, state: State) -> None:
        """Raise OperationError where a point in time did not hold until the end of the read."""
        for disk in self.disks:
            if state.is_current and disk.target.live:
                disk.target.live.check()

    def identities(self, state: State) -> tuple[FileIdentity, ...]:
        """Return the files of all chains, top images first; see `OpenMachine.identities`."""
        tops: list[FileIdentity] = []
        below: list[FileIdentity] = []
        for disk in self.disks:
            is_live = state.is_current and disk.target.live is not None
            for depth, file in enumerate(disk.files):
                identity = identify(file, self._begun_at_ns, live=is_live and depth == 0)
                (below if depth else tops).append(identity)
        return (*tops, *below)

    def problems(self, state: State, name: str) -> Iterator[str]:
        """Yield why an answer about `state` may not be that of the machine `name`, whatever was read."""
        yield from self.unstable_files(state)
        if state.is_current and self._problem:
            yield f"{name}: {self._problem}"
        for disk in self.disks if state.is_current else ():
            if disk.target.live and not disk.layers:
                yield f"{disk.target.name}: its snapshots could not be listed: {disk.unread}"
            elif not disk.target.live and disk.in_use:
                yield (
                    f"{disk.files[0].path}: a running machine has it open for writing and may hold back what"
                    " the file lacks; scan it with -d NAME"
                )

    def unstable_files(self, state: State) -> Iterator[str]:
        """Yield what is to be said of files that changed under both reads."""
        for path in sorted({file.path for file in self.of(state)} & self.unstable):
            yield (
                f"{path}: changed during both reads, so the answer may mix two moments;"
                " use -d for a running machine"
            )
