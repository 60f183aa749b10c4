"""The reader: whoever opens untrusted objects on behalf of a use case."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from undercroft.model.schema import Json


class Reader(Protocol):
    """Runs one job on untrusted descriptors and gives back what it found.

    A job is a name and JSON arguments; descriptors are referred to by their index in `descriptors`.
    Each call is a separate child with its own limits: one that dies takes no other job with it.
    `sandboxed` says whether the children are confined.
    """

    sandboxed: bool

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        """Run `job` and return its answer, not yet checked against a schema.

        Raises:
            InputError: the object is malformed, or its reading passed a limit (memory, time, size).
            NotFoundError: a path or state that the job names is not in the object.
            OperationError: the sandbox itself failed.
        """
        ...

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        """Run `job` and yield the bytes that it sends, in order. Raises as `call` does, also midway."""
        ...

    def close(self) -> None:
        """End the reader and all its children."""
        ...
