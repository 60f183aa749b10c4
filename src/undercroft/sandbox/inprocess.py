"""`ports.reader.Reader` without a sandbox, for --no-sandbox: the same jobs, errors and pieces, no walls.

A hostile image then has the rights of the user who reads it. Limits on memory, time and size do not hold.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, cast

from undercroft.errors import OperationError, UndercroftError
from undercroft.model.schema import Json
from undercroft.sandbox import failure, wire
from undercroft.sandbox.context import JobContext, JobModule
from undercroft.sandbox.launcher import PRODUCT_JOBS
from undercroft.sandbox.limits import Limits


class InProcessReader:
    """Runs jobs in this process.

    Args:
        limits: named in messages only.
        jobs_module: importable module with JOBS and STREAMS; imported at the first job.
    """

    sandboxed = False

    def __init__(self, *, limits: Limits | None = None, jobs_module: str = PRODUCT_JOBS) -> None:
        self._limits = limits or Limits()
        self._jobs_module = jobs_module

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        """Run `job` and return its answer. Raises as `ports.reader.Reader.call`."""
        function = self._jobs().JOBS.get(job)
        if function is None:
            raise OperationError(f"the sandbox has no job named {job}")
        try:
            # Through JSON and back, so that an answer looks the same with and without the sandbox.
            body = wire.encode_answer(function(JobContext(dict(arguments), tuple(descriptors))))
        except Exception as error:
            raise self._told(error) from error
        return wire.decode_answer(body)

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        """Run `job` and yield what it sends, in pieces of at most 1 MiB. Raises as `call` does."""
        function = self._jobs().STREAMS.get(job)
        if function is None:
            raise OperationError(f"the sandbox has no job named {job}")
        chunks = function(JobContext(dict(arguments), tuple(descriptors)))
        while True:
            try:
                chunk = next(chunks, None)
            except Exception as error:
                raise self._told(error) from error
            if chunk is None:
                return
            for start in range(0, len(chunk), wire.MAX_DATA_BYTES):
                yield chunk[start : start + wire.MAX_DATA_BYTES]

    def close(self) -> None:
        """Nothing to end."""

    def _jobs(self) -> JobModule:
        return cast("JobModule", importlib.import_module(self._jobs_module))

    def _told(self, error: Exception) -> UndercroftError:
        return failure.reported(*failure.describe(error, self._limits))
