"""The jobs of one machine: its disks as a job takes them, with what else the reader has to be told."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from undercroft.errors import UnsupportedError
from undercroft.model.schema import Json, encode
from undercroft.ports.reader import Reader
from undercroft.readers import readers_digest
from undercroft.usecases.disklayers import OpenDisk
from undercroft.usecases.jobinputs import disk_inputs
from undercroft.usecases.states import State
from undercroft.usecases.unlocking import Unlocking

_OF_SUBVOLUMES = frozenset({"inventory", "entries", "content"})
"""What looks at a snapshot that the guest took of its root; no proof of it is kept."""

_OF_PROOFS = frozenset({"reading", "replay", "compare", "credentials"})
"""What is told which readers these are: a proof by others proves nothing about what these would say."""

_WITHOUT_KEYS = frozenset({"replay", "compare"})
"""What reads the bytes of disks again, encrypted as they are."""

Disks = Callable[[], Sequence[OpenDisk]]


class MachineJobs:
    """Runs jobs about one machine.

    Args:
        name: of the machine, for messages.
        reader: whoever runs them.
        unlocking: of its volumes, None without keys.
        disks: gives its disks as they are now.
    """

    def __init__(self, name: str, reader: Reader, unlocking: Unlocking | None, disks: Disks) -> None:
        self._name = name
        self._reader = reader
        self._unlocking = unlocking
        self._disks = disks

    def call(self, job: str, state: State, **arguments: Json) -> Json:
        """Return what a job says of a state, untrusted. Raises what the reader raises."""
        with ExitStack() as sockets:
            given, descriptors = self._given(job, state, sockets)
            return self._reader.call(job, {**given, **arguments}, descriptors)

    def stream(self, job: str, state: State, **arguments: Json) -> Iterator[bytes]:
        """Yield what a job gives, untrusted. Raises what the reader raises."""
        with ExitStack() as sockets:
            given, descriptors = self._given(job, state, sockets)
            yield from self._reader.stream(job, {**given, **arguments}, descriptors)

    def _given(self, job: str, state: State, sockets: ExitStack) -> tuple[dict[str, Json], list[int]]:
        """Return the arguments that all jobs of this kind have, and the descriptors that they refer to."""
        if state.subvolume and job not in _OF_SUBVOLUMES:
            raise UnsupportedError(f"{self._name}: {job} is not done for a snapshot of the guest's own")
        disks, descriptors = disk_inputs(self._disks(), state, sockets)
        given: dict[str, Json] = {"disks": disks}
        if self._unlocking and job not in _WITHOUT_KEYS:
            given["keys"] = self._keys(self._unlocking, state, descriptors)
        if state.subvolume:
            given["subvolume"] = encode(state.subvolume)
        if job in _OF_PROOFS:
            given["readers"] = readers_digest()
        return given, descriptors

    def _keys(self, unlocking: Unlocking, state: State, descriptors: list[int]) -> Json:
        """Return the argument that names a job's keys; adds to its descriptors."""

        def unlock(keys: Json, holding: list[int]) -> Json:
            with ExitStack() as sockets:  # a live disk's socket serves one job
                disks, own = disk_inputs(self._disks(), state, sockets)
                return self._reader.call("unlock", {"disks": disks, "keys": keys}, [*own, *holding])

        place = f"{state.name}@{state.ident}"
        keys, holding = unlocking.keys(place, len(descriptors), unlock)
        descriptors += holding
        return keys
