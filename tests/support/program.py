"""The installed program, run as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = Path(sys.executable).with_name("undercroft")


def run_program(database: Path, *arguments: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
    """Run `undercroft` with an advisory database of its own; options are environment variables.

    What scans of folders keep lies beside that database. The width of the tests' own terminal is not its.
    """
    own = {"UNDERCROFT_DATABASE": str(database), "UNDERCROFT_CACHE": f"{database}.images", "COLUMNS": ""}
    environment = {**os.environ, **own, "NO_COLOR": "1", **options}
    return subprocess.run(
        [str(part) for part in (PROGRAM, *arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=environment,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
