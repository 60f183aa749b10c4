"""What the command line of a machine's QEMU says: the host's own word on how the process began.

libvirt starts a revert to a snapshot with RAM with `-loadvm NAME`. Its own record of the current snapshot is
brought up to date only when the revert is over, after its events: by then a guest has run for a while.
"""

from pathlib import Path

RUN_DIRECTORY = Path("/run/libvirt/qemu")
MAX_COMMAND_BYTES = 4 << 20
_LOADVM = b"-loadvm"


def loaded_snapshot(name: str, run_directory: Path = RUN_DIRECTORY, proc: Path = Path("/proc")) -> str:
    """Return the snapshot that a running machine's process was started from, "" for none or unknown.

    Args:
        name: the machine's.
        run_directory: where libvirt keeps the numbers of its processes.
        proc: where processes are seen.
    """
    try:
        pid = int((run_directory / f"{name}.pid").read_text("ascii"))
        with (proc / str(pid) / "cmdline").open("rb") as file:
            arguments = file.read(MAX_COMMAND_BYTES).split(b"\0")
    except (OSError, ValueError):
        return ""
    if _LOADVM not in arguments[:-1]:
        return ""
    return arguments[arguments.index(_LOADVM) + 1].decode("utf-8", "surrogateescape")
