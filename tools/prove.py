"""Proves the vault's core for all inputs, or says that this very source was proven before.

    python tools/prove.py [--mutants NAME,... | --mutants all | --reached]

What is proven is `proof/holdings.py` and `proof/core.py`, whose text without contracts is what runs, and over
them `proof/theorems.py`. With mutants: each of `proof/mutants.py` changes the source as a mistake would, and
its proof has to fail, by a contract that does not hold. `--reached` finds contracts that hold for want of any
case (`reachable.py`).

A result is kept under `.cache/prove`, by the digest of all that it rests on: the sources, the lock of the
verifier, these tools. With each proof one of the mutants is tried, another for each source: a proof that
mistakes pass too says nothing.
"""

import ast
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import reachable

ROOT = Path(__file__).resolve().parents[1]
PROVER = Path(os.environ.get("UNDERCROFT_PROVER", ROOT / ".cache" / "prover"))
RESULTS = ROOT / ".cache" / "prove"
LOCK = ROOT / "requirements" / "prove.lock"
CONTRACTS = "nagini_contracts.contracts"
# In the order in which one speaks of the other.
SOURCES = (
    ROOT / "src" / "undercroft" / "vault" / "answers.py",
    ROOT / "proof" / "holdings.py",
    ROOT / "proof" / "core.py",
    ROOT / "proof" / "theorems.py",
)
MUTANTS = ROOT / "proof" / "mutants.py"
DRIVER = ROOT / "tools" / "nagini_driver.py"
_OWN = "undercroft.vault."
_CONTRACT = re.compile(
    r"((?:Postcondition|The precondition) of (?:method )?\w+ might not hold|Assert might fail"
    r"|Loop invariant might not be preserved|Loop invariant might not hold on entry"
    r"|Fold might fail)\. (Assertion .* might not hold|There might be insufficient permission to access .*)\."
)
_MARK = re.compile(r"Assertion \(?False\)? might not hold\. \([^)@]*@(\d+)")


class UnprovenError(Exception):
    """The proof failed, or a mutant's did not; the message says where."""


def missing() -> str | None:
    """Why nothing can be proven here, or None."""
    if not (PROVER / "stamp").exists():  # the last thing that its installation makes
        return f"needs the verifier's own environment: make {PROVER.relative_to(ROOT)}/stamp"
    return None


def one_program(texts: Iterable[str]) -> str:
    """The sources as one module, as the verifier looks at one program, without imports of each other."""
    contracts: set[str] = set()
    bodies = []
    for text in texts:
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and node.module == CONTRACTS:
                contracts.update(name.name for name in node.names)
            elif not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_OWN)):
                continue
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
        bodies.append("\n".join(lines))
    return f"from {CONTRACTS} import {', '.join(sorted(contracts))}\n" + "\n\n".join(bodies) + "\n"


def verify(programs: Mapping[str, tuple[str, str]], viper: str = "") -> Iterator[dict[str, Any]]:
    """What the verifier says of each program, in their order.

    Args:
        programs: by name: the program, and which methods of it are looked at, with commas; "" for all.
        viper: options of Viper's, in place of the usual ones.

    Yields:
        name, `proven`, `errors` as text, `seconds`.
    """
    with tempfile.TemporaryDirectory() as folder:
        orders = []
        for name, (text, select) in programs.items():
            path = Path(folder) / f"{name}.py"
            path.write_text(text, encoding="utf-8")
            orders.append(json.dumps({"name": name, "path": str(path), "select": select, "viper": viper}))
        command = [PROVER / "bin" / "python", DRIVER]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n".join(orders) + "\n")
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode:
            raise UnprovenError(f"the verifier ended with {process.returncode}: is Java 17 there?")


def sources() -> list[str]:
    """The texts that are proven, in their order."""
    return [path.read_text(encoding="utf-8") for path in SOURCES]


def mutants() -> ModuleType:
    """The mutants' module."""
    spec = importlib.util.spec_from_file_location("proof_mutants", MUTANTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _digest() -> str:
    rests = hashlib.sha256()
    for path in (*SOURCES, MUTANTS, LOCK, DRIVER, Path(reachable.__file__), Path(__file__)):
        rests.update(hashlib.sha256(path.read_bytes()).digest())
    return rests.hexdigest()


def prove() -> str:
    """Proves the source, or finds its result.

    Returns:
        What was proven and in what time, in a line.

    Raises:
        UnprovenError: the proof fails.
    """
    digest = _digest()
    kept = RESULTS / digest
    if kept.exists():
        return f"{kept.read_text(encoding='utf-8')} (kept)"
    started = time.monotonic()
    everyone = mutants().MUTANTS
    tried = [everyone[int(digest, 16) % len(everyone)]]
    results = verify({"vault": (one_program(sources()), "")} | _programs(tried))
    proof = next(results)
    if not proof["proven"]:
        # A proof that succeeds once is one. One that fails may have been short of its solver's resources on a
        # busy machine: it gets a second try.
        sys.stderr.write(f"once more, as it failed:\n{proof['errors']}")
        results = verify({"vault": (one_program(sources()), "")} | _programs(tried))
        proof = next(results)
    if not proof["proven"]:
        raise UnprovenError(f"the vault's core is not proven:\n{proof['errors']}")
    proven_s = time.monotonic() - started
    if survived := _survivors(results):
        raise UnprovenError("the proof says nothing, as it does not notice:\n" + "\n".join(survived))
    said = f"the vault's core is proven for all inputs, in {proven_s:.0f} s; with {tried[0].name} it is not"
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept.write_text(said, encoding="utf-8")
    return said


def _programs(chosen: Iterable[Any]) -> dict[str, tuple[str, str]]:
    return {one.name: (one_program(one.applied(sources())), one.select) for one in chosen}


def survivors(names: Iterable[str]) -> list[str]:
    """The mutants of these names whose proof did not fail as a proof fails; none is what is hoped for."""
    return _survivors(verify(_programs(one for one in mutants().MUTANTS if one.name in set(names))))


def unreached() -> list[str]:
    """Marks that the verifier finds no fault with: what stands there is proven for want of any case."""
    left = []
    for ends in (False, True):
        text, marks = reachable.marked(one_program(sources()), ends=ends)
        (result,) = verify({"marked": (text, "")}, "--moreJoins=2,--numberOfErrorsToReport=0")
        found = {int(line) for line in _MARK.findall(result["errors"])}
        if not contracts_fail(result["errors"]) or not found <= marks:
            left.append(result["errors"])
        left += [
            f"line {line} of the program whose {'ends' if ends else 'beginnings'} are marked"
            for line in sorted(marks - found)
        ]
    return left


def contracts_fail(errors: str) -> bool:
    """Whether a proof failed, and by nothing but contracts that do not hold: no type error, no crash is that.

    Args:
        errors: what the verifier said.
    """
    lines = errors.splitlines()
    said = [line for line in lines[2:] if line and not line.startswith("Verification took")]
    return lines[:2] == ["Verification failed", "Errors:"] and bool(said) and all(map(_CONTRACT.match, said))


def _survivors(results: Iterable[dict[str, Any]]) -> list[str]:
    survived = []
    for result in results:
        caught = not result["proven"] and contracts_fail(result["errors"])
        sys.stderr.write(
            f"{'caught' if caught else 'SURVIVED'}: {result['name']} {result['seconds']:.0f} s\n"
        )
        if not caught:
            survived.append(f"{result['name']}: {result['errors']}")
    return survived


def main(arguments: list[str]) -> int:
    """Runs as the module says; 1 for what is not proven, 2 where nothing can be proven."""
    if (reason := missing()) is not None:
        sys.stderr.write(reason + "\n")
        return 2
    try:
        if arguments[:1] == ["--mutants"]:
            everyone = [one.name for one in mutants().MUTANTS]
            wanted = everyone if arguments[1] == "all" else arguments[1].split(",")
            if left := survivors(wanted):
                raise UnprovenError("the proof does not notice:\n" + "\n".join(left))
            sys.stdout.write(f"{len(wanted)} mutants, and the proof of each fails\n")
        elif arguments[:1] == ["--reached"]:
            if left := unreached():
                raise UnprovenError("proven for want of any case:\n" + "\n".join(left))
            sys.stdout.write("each method begins, and each of its paths ends\n")
        else:
            sys.stdout.write(prove() + "\n")
    except UnprovenError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
