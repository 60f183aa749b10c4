"""What runs is what was proven, and the proof notices mistakes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import prove  # noqa: E402
import strip_contracts  # noqa: E402

PROVEN = ("holdings.py", "core.py")
MUTANTS = prove.mutants().MUTANTS


def _proven(name: str) -> str:
    return (ROOT / "proof" / name).read_text(encoding="utf-8")


def _running(name: str) -> str:
    return (ROOT / "src" / "undercroft" / "vault" / name).read_text(encoding="utf-8")


def _run_prover(*arguments: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / "prove.py"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 2:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.timeout(1800)
def test_the_core_is_proven_for_all_inputs() -> None:
    _run_prover()


@pytest.mark.soak
def test_no_mutant_of_the_core_is_proven() -> None:
    _run_prover("--mutants", "all")


@pytest.mark.soak
def test_no_contract_holds_for_want_of_any_case() -> None:
    _run_prover("--reached")


def test_a_proof_that_fails_by_a_type_error_or_a_crash_is_no_mutant_caught() -> None:
    took = "Verification took 1.00 seconds.\n"
    failed = "Verification failed\nErrors:\n"
    contract = (
        "Postcondition of advance might not hold. Assertion (a > b) might not hold. (vault.py@3.1--3.9)\n"
    )
    assert prove.contracts_fail(failed + contract + took)
    shared = (
        "Fold might fail. There might be insufficient permission to access a.state(). (vault.py@3.1--3.9)\n"
    )
    assert prove.contracts_fail(failed + shared + took)
    called = contract.replace("Postcondition of advance", "The precondition of method keep")
    assert prove.contracts_fail(failed + called + took)
    assert not prove.contracts_fail(failed + took)
    assert not prove.contracts_fail(failed + contract + "Verification aborted exceptionally\n" + took)
    assert not prove.contracts_fail(
        "Translation failed\nType error: Name 'x' is not defined (vault.py@3.0)\n"
    )
    assert not prove.contracts_fail("Verification successful\n" + took)


def test_marks_stand_where_each_method_begins_and_where_each_of_its_paths_ends() -> None:
    program = prove.one_program(prove.sources())
    begins, at_begins = prove.reachable.marked(program, ends=False)
    ends, at_ends = prove.reachable.marked(program, ends=True)
    methods = sum(
        isinstance(n, ast.FunctionDef) and not n.decorator_list for n in ast.walk(ast.parse(program))
    )
    assert len(at_begins) == begins.count("Assert(False)") == methods
    assert len(at_ends) == ends.count("Assert(False)") > methods


@pytest.mark.parametrize("name", PROVEN)
def test_what_runs_is_the_proven_text_without_contracts_byte_for_byte(name: str) -> None:
    assert strip_contracts.strip(_proven(name)) == _running(name), "run: python tools/strip_contracts.py"


@pytest.mark.parametrize("name", PROVEN)
def test_what_runs_is_the_proven_program_by_its_tree_alone(name: str) -> None:
    expected = strip_contracts.stripped_tree(_proven(name))
    assert ast.dump(ast.parse(_running(name))) == ast.dump(expected)


def test_what_runs_knows_nothing_of_the_verifier() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        assert "nagini_contracts" not in path.read_text(encoding="utf-8"), path


def test_the_proof_assumes_the_hash_and_nothing_else() -> None:
    assumed = []
    for name in (*PROVEN, "theorems.py"):
        tree = ast.parse(_proven(name))
        called = {
            n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not called & {"Assume", "Inhale"}, name
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            if any(isinstance(one, ast.Name) and one.id == "ContractOnly" for one in function.decorator_list):
                assumed.append((name, function.name, [ast.unparse(one) for one in function.body[1:]]))
    # `anything` is no assumption: the verifier knows nothing of what it gives.
    assert assumed == [("holdings.py", "link", []), ("theorems.py", "anything", [])]


def test_a_contract_that_cannot_be_taken_out_is_an_error() -> None:
    source = _proven("core.py").replace(
        "        self.lives = False\n", "        self.lives = Old(self.lives)\n"
    )
    with pytest.raises(strip_contracts.StripError, match="Old"):
        strip_contracts.strip(source)


def test_a_changed_core_is_another_source_to_the_kept_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = prove._digest()
    changed = tmp_path / "core.py"
    changed.write_text(_proven("core.py") + "\n", encoding="utf-8")
    monkeypatch.setattr(prove, "SOURCES", (*prove.SOURCES[:2], changed, *prove.SOURCES[3:]))
    assert prove._digest() != before


def test_there_are_mutants_enough_and_each_is_one_edit_of_what_runs() -> None:
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 30
    sources = prove.sources()
    unchanged = {one: ast.dump(strip_contracts.stripped_tree(one)) for one in sources}
    for mutant in MUTANTS:
        assert mutant.breaks.endswith(".")
        ((before, after),) = [
            (one, other) for one, other in zip(sources, mutant.applied(sources), strict=True) if one != other
        ]
        assert ast.dump(strip_contracts.stripped_tree(after)) != unchanged[before], mutant.name
