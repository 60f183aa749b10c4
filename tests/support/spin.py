"""Spin: makes a program of a model, runs it within bounds, and says what it found."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from undercroft.assurance.models import FOLDER, Bounds, Model

MEMORY_MB = 4_000
_COMPILED = ("-O2", "-w", "-DSAFETY", "-DNOREDUCE", f"-DMEMLIM={MEMORY_MB}")


def missing() -> str:
    """What is not there that models need, "" where all is."""
    absent = [program for program in ("spin", "gcc") if shutil.which(program) is None]
    return f"needs {' and '.join(absent)}: apt-get install {' '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class Found:
    """What a run found.

    Attributes:
        errors: 0, or 1 as it stops at the first.
        broken: the invariant that does not hold, "" for none.
        reached: the control that was reached, "" for none.
        whole: all states within the bounds were looked at.
        states: how many.
        unreached: the source lines that no state reached.
        text: all that it printed.
    """

    errors: int
    broken: str
    reached: str
    whole: bool
    states: int
    unreached: frozenset[int]
    text: str


def numbers(model: Model, letter: str) -> dict[str, int]:
    """The mutants (M) or controls (R) that a model's text has, and their numbers."""
    text = model.path.read_text(encoding="ascii")
    return {
        name: int(number)
        for name, number in re.findall(rf"^#define {letter}_([A-Z0-9_]+) (\d+)\b", text, re.MULTILINE)
    }


def build(model: Model, folder: Path) -> Path:
    """Make the program; `folder` is its own."""
    for path in FOLDER.glob("*.pml"):
        shutil.copy(path, folder)
    for command in (["spin", "-a", model.path.name], ["gcc", *_COMPILED, "-o", model.name, "pan.c"]):
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert made.returncode == 0, made.stdout + made.stderr
    return folder / model.name


def run(program: Path, bounds: Bounds, *, mutant: int = 0, reach: int = 0) -> Found:
    """Look at the states within bounds until something is found, or all of them."""
    settings = {"MUTANT": mutant, "REACH": reach, **bounds}
    ran = subprocess.run(
        [str(program), "-m20000", "-w22"],
        cwd=program.parent,
        env={**os.environ, **{name: str(value) for name, value in settings.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    text = ran.stdout + ran.stderr
    errors = re.search(r"errors: (\d+)", text)
    assert errors is not None, text
    states = re.search(r"(\d+) states, stored", text)
    whole = "Search not completed" not in text and "max search depth too small" not in text
    return Found(
        int(errors[1]),
        _word("broken", text),
        _word("reached", text),
        whole and "out of memory" not in text and "MEMLIM" not in text,
        int(states[1]) if states else 0,
        frozenset(map(int, re.findall(rf"^\s+{program.name}\.pml:(\d+), state", text, re.MULTILINE))),
        text,
    )


def _word(kind: str, text: str) -> str:
    found = re.search(rf"^{kind}: (\w+)$", text, re.MULTILINE)
    return found[1] if found else ""
