"""Starts the sandbox.

    >>> with launcher.start() as reader:            # returns at once; go on importing
    ...     answer = reader.call("inspect", {"image": encode(layer)}, [descriptor])

Importing this module and starting takes a few milliseconds; the warm process needs some 40 more, which
pass while the caller loads the rest of itself. Call `start` early.
"""

from undercroft.sandbox import bubblewrap
from undercroft.sandbox.process import CONTROL_DESCRIPTOR, SandboxProcess

TYPE_CHECKING = False  # typing's own takes longer to import than the start itself
if TYPE_CHECKING:
    from undercroft.sandbox.limits import Limits
    from undercroft.sandbox.reader import SandboxedReader

PRODUCT_JOBS = "undercroft.sandbox.jobs"


def start(*, limits: "Limits | None" = None, jobs_module: str = PRODUCT_JOBS) -> "SandboxedReader":
    """Start a sandbox and return before it is up; its first job waits for it.

    Start it from a thread that outlives it: the kernel ends it with the thread that started it.

    Args:
        limits: of each job; `Limits()` by default.
        jobs_module: importable module with JOBS and STREAMS.

    Raises:
        DeniedError: bubblewrap is missing, or the architecture has no filter; the text says the cure.
            Where the kernel forbids it, the first job raises the same.
    """
    process = SandboxProcess(bubblewrap.command(CONTROL_DESCRIPTOR, jobs_module))
    # Imported only now, so that the process comes up meanwhile.
    from undercroft.sandbox.reader import SandboxedReader  # noqa: PLC0415

    return SandboxedReader(process, limits)
