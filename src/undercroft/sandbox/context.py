"""What a job gets to work with; the contract between `jobs` and whoever runs them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from undercroft.model.schema import Json


@dataclass(frozen=True, slots=True)
class JobContext:
    """One job's whole world.

    What works on a descriptor is read, pread, lseek and close, on a socket send and recv too. There is no
    fstat (the C library makes it of a call that takes a path), no file of any other name, no thread, no
    sleep; nothing can be imported any more.

    Attributes:
        arguments: the host's arguments, trusted.
        descriptors: open files (read-only) and connected sockets, in the order in which the host gave
            them; their content is untrusted.
    """

    arguments: Mapping[str, Json]
    descriptors: tuple[int, ...]


Call = Callable[[JobContext], Json]
Stream = Callable[[JobContext], Iterator[bytes]]


class JobModule(Protocol):
    """A module of jobs: `undercroft.sandbox.jobs`, or a test's own."""

    JOBS: Mapping[str, Call]
    STREAMS: Mapping[str, Stream]
