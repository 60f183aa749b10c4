"""Runs the workers that read mutants, each in a process of its own, whose limits then harm nobody else."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

FINE = ("same", "refused", "wrong")
"""What a worker says of a mutant that crashed nothing."""


def outcomes(worker: ModuleType, *arguments: object, timeout_s: int) -> dict[str, str]:
    """Return what became of each mutant: seed -> outcome. AssertionError where one crashed its reader.

    Args:
        worker: the module that is run as a program.
        arguments: of the program.
        timeout_s: for all of them.
    """
    program = str(worker.__file__)
    path = os.pathsep.join([str(Path(program).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    crashes = {seed: text for seed, text in found.items() if text not in FINE}
    assert crashes == {}
    return found


def counts(worker: ModuleType, *arguments: object, count: int, timeout_s: int) -> Counter[str]:
    """Return how many of `count` mutants came out how. Raises as `outcomes`."""
    found = outcomes(worker, *arguments, timeout_s=timeout_s)
    assert len(found) == count
    return Counter(found.values())
