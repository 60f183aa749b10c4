"""What a job gets to work with; the contract between `jobs` and whoever runs them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from undercroft.model.schema import Json


@dataclass(frozen=True, slots=True)
class JobContext:
    """One job's whole world.

    What works on a file is pread, read, lseek and close; its position is shared with the host and other
    jobs, so read with pread. On a socket read, write, send and recv work. There is no fstat (the C
    library makes it of a call that takes a path), no other file, no thread, no sleep, and nothing that
    was not imported before can be imported.

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
    """A module of jobs: `undercroft.sandbox.jobs`, or a test's own.

    `prepare` runs in the warm process before the fork of each job, on the host's own arguments, and imports
    what that job needs.
    """

    JOBS: Mapping[str, Call]
    STREAMS: Mapping[str, Stream]

    def prepare(self, arguments: Mapping[str, Json]) -> None:
        """Import what the job with these arguments needs beyond what all jobs do."""
        ...
