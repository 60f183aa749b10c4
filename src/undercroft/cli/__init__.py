"""The command line: thin commands over the use cases of `undercroft.usecases`.

Results go to stdout, messages and progress to stderr. Exit codes: 0 clean, 1 error, 2 usage, 3 not
found, 4 incomplete or unknown, 6 findings (only with --fail-on).

This module imports next to nothing: a command that reads disks starts the sandbox first, which then comes
up while the program loads itself.
"""

import sys

TYPE_CHECKING = False  # typing's own would be the largest import here
if TYPE_CHECKING:
    from undercroft.ports.reader import Reader

INTERRUPTED = 130
_READING = frozenset({"scan", "packages", "diff", "files"})
_NOT_READING = frozenset({"-h", "--help", "--no-sandbox"})


def main() -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:]
    try:
        reader = _early_reader(arguments)
        from undercroft.cli.program import run  # noqa: PLC0415 - only now, see above
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(run(arguments, reader))


def _early_reader(arguments: list[str]) -> "Reader | None":
    """Start the sandbox for a command that will read disks; None where it will not, or where it failed."""
    if not arguments or arguments[0] not in _READING or not _NOT_READING.isdisjoint(arguments):
        return None
    from undercroft.errors import DeniedError  # noqa: PLC0415
    from undercroft.sandbox.launcher import start  # noqa: PLC0415

    try:
        return start()
    except DeniedError:
        return None  # the command starts it again, and says why it can't
