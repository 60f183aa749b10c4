"""A worker that reads mutants of a package database under limits, and says what became of each.

    databasemutants.py MANAGER FOLDER MUTATED FIRST COUNT

FOLDER holds a tree of files as a guest would, MUTATED is the path in it of the file that is damaged.
Prints one JSON object: seed -> "same", "refused", "wrong" or what crashed it.
"""

import json
import resource
import signal
import sys
import traceback
from pathlib import Path

from memorymachines import tree_of
from mutants import Family, mutate

from undercroft.inventory.databases import DATABASES
from undercroft.model.inventory import Package

MEMORY_LIMIT_BYTES = 512 << 20
TIME_LIMIT_S = 10
SAME, REFUSED, WRONG = "same", "refused", "wrong"


def read(manager: str, files: dict[str, bytes]) -> tuple[tuple[Package, ...], tuple[str, ...]]:
    """Return the packages and problems of a tree by the reader of `manager`."""
    (entry,) = [each for each in DATABASES if each.manager == manager]
    database = entry.read(tree_of(files))
    owners = database.find_owners({b"/opt/app/run"}) if database.found else None
    problems = (*database.problems, *(owners.problems if owners else ()))
    return database.packages, problems if database.found else ("no database",)


def judge(manager: str, files: dict[str, bytes], expected: tuple[Package, ...]) -> str:
    """Return the outcome for one mutant; what is raised comes back as its traceback."""
    signal.alarm(TIME_LIMIT_S)
    try:
        packages, problems = read(manager, files)
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    if problems:
        return REFUSED
    return SAME if packages == expected else WRONG


def areas_of(content: bytes, block: int = 512) -> tuple[tuple[int, int], ...]:
    """Return the blocks that hold anything: damage where nothing is tells nothing."""
    starts = range(0, len(content), block)
    found = [
        (start, min(block, len(content) - start)) for start in starts if any(content[start : start + block])
    ]
    return tuple(found)


def main() -> None:
    """Judge COUNT mutants from FIRST on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    manager, folder, mutated, first, count = sys.argv[1:]
    root = Path(folder)
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    content = files[mutated]
    family = Family(Path(mutated).name, content, areas_of(content), "raw")
    expected, problems = read(manager, files)
    assert expected, problems
    assert not problems, problems
    outcomes = {
        seed: judge(manager, {**files, mutated: mutate(family, seed)}, expected)
        for seed in range(int(first), int(first) + int(count))
    }
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
