"""The models hold within their bounds, and are not empty: each mistake is found, each control is reached.

Spin looks at all states. What runs here is small; `make soak` has the larger bounds.
"""

import re
import resource
from pathlib import Path

import pytest
from tests.support import spin

from undercroft.assurance.models import INVARIANTS, MODELS, Bounds, Model

pytestmark = pytest.mark.xdist_group("models")

ROOT = Path(__file__).parents[2]
MOST_S = 60
"""What one run may take, in seconds of processor time."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    if spin.missing():
        pytest.skip(spin.missing())
    return {model.name: spin.build(model, tmp_path_factory.mktemp(model.name)) for model in MODELS}


def _named(kind: str) -> list[object]:
    found: list[object] = []
    for model in MODELS:
        names = model.mutants if kind == "mutants" else model.controls
        found += [pytest.param(model, name, id=f"{model.name}-{name}") for name in names]
    return found


def _runs(kind: str) -> list[object]:
    return [
        pytest.param(model, bounds, id=f"{model.name}-{at}")
        for model in MODELS
        for at, bounds in enumerate(model.runs if kind == "runs" else model.soak)
    ]


def _used_s() -> float:
    """Processor time of the programs that ran so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _whole(program: Path, bounds: Bounds) -> spin.Found:
    began_s = _used_s()
    found = spin.run(program, bounds)
    assert (found.errors, found.broken, found.whole) == (0, "", True), found.text
    assert _used_s() - began_s < MOST_S
    return found


@pytest.mark.parametrize(("model", "bounds"), _runs("runs"))
def test_a_model_keeps_its_invariants_in_all_states_within_its_bounds(
    programs: dict[str, Path], model: Model, bounds: Bounds
) -> None:
    assert _whole(programs[model.name], bounds).states > 10_000


@pytest.mark.soak
@pytest.mark.parametrize(("model", "bounds"), _runs("soak"))
def test_a_model_keeps_its_invariants_within_larger_bounds(
    programs: dict[str, Path], model: Model, bounds: Bounds
) -> None:
    assert _whole(programs[model.name], bounds).states > 100_000


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_no_line_of_a_model_is_idle_but_those_of_its_mistakes(
    programs: dict[str, Path], model: Model
) -> None:
    lines = model.path.read_text(encoding="ascii").splitlines()
    seen = [spin.run(programs[model.name], bounds).unreached for bounds in model.runs]
    idle = {at: lines[at - 1] for at in frozenset.intersection(*seen)}
    unexpected = {at: line for at, line in idle.items() if not re.search("mutant|never:|REACHED|HOLDS", line)}
    assert not unexpected


@pytest.mark.parametrize(("model", "name"), _named("mutants"))
def test_a_mistake_in_the_protocol_breaks_an_invariant(
    programs: dict[str, Path], model: Model, name: str
) -> None:
    mutant = model.mutants[name]
    bounds = mutant.bounds or model.runs[0]
    found = spin.run(programs[model.name], bounds, mutant=spin.numbers(model, "M")[name])
    assert (found.errors, found.broken) == (1, mutant.breaks), found.text


@pytest.mark.parametrize(("model", "name"), _named("controls"))
def test_what_a_model_is_about_happens_in_it(programs: dict[str, Path], model: Model, name: str) -> None:
    bounds = model.controls[name] or model.runs[0]
    found = spin.run(programs[model.name], bounds, reach=spin.numbers(model, "R")[name])
    assert (found.errors, found.reached) == (1, name), found.text


def test_each_mistake_and_control_of_the_models_is_run() -> None:
    for model in MODELS:
        assert set(spin.numbers(model, "M")) == set(model.mutants), model.name
        assert set(spin.numbers(model, "R")) == set(model.controls), model.name


def test_each_invariant_is_in_a_model_that_breaks_it_by_a_mistake() -> None:
    broken = {mutant.breaks for model in MODELS for mutant in model.mutants.values()}
    assert set(INVARIANTS) <= broken
    for model in MODELS:
        text = model.path.read_text(encoding="ascii")
        stated = set(re.findall(r"HOLDS\((\w+),", text))
        assert set(model.invariants) == stated & set(INVARIANTS), model.name
    assert {each for model in MODELS for each in model.invariants} == set(INVARIANTS)


def test_the_document_has_the_tables_of_the_models() -> None:
    rows = {
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in (ROOT / "docs" / "MODELS.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    }
    expected = {("invariant", "says", "in the models"), ("model", "mistake", "breaks")}
    expected |= {("model", "`make test`", "`make soak`", "mistakes", "controls")}
    for name, sentence in INVARIANTS.items():
        models = ", ".join(model.name for model in MODELS if name in model.invariants)
        expected.add((name, sentence, models))
    for model in MODELS:
        runs, soak = ("; ".join(map(_bounds, each)) for each in (model.runs, model.soak))
        expected.add((model.name, runs, soak, str(len(model.mutants)), str(len(model.controls))))
        expected |= {(model.name, name, mutant.breaks) for name, mutant in model.mutants.items()}
    assert rows == expected


def _bounds(bounds: Bounds) -> str:
    return ", ".join(f"{name}={value}" for name, value in bounds.items())
