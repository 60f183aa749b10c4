"""Damaged images of VMware, Hyper-V and VirtualBox: no crash, no hang, few lies.

`tests/support/containermutants.py` prints what docs/ROBUSTNESS.md publishes; `make soak` runs a thousand.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import containermutants
import pytest
from campaign import CRASH, WRONG, run_campaign, table
from containermutants import REFUSED, container_families

from undercroft.usecases.session import start_reader

MAX_WRONG_SHARE = 0.05


def _alone(count: int, seed: int) -> dict[str, Counter[str]]:
    """Run mutants in a process of their own, under its limits of memory and time."""
    done = subprocess.run(
        [sys.executable, containermutants.__file__, "--alone", "--mutants", str(count), "--seed", str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: Counter(outcomes) for name, outcomes in json.loads(done.stdout).items()}


def _check_alone(count: int, seed: int) -> None:
    outcomes = sum(_alone(count, seed).values(), Counter())
    assert outcomes.total() == count
    assert set(outcomes) <= {"same", "refused", "wrong"}, [text for text in outcomes if "Traceback" in text]
    assert outcomes["wrong"] <= MAX_WRONG_SHARE * count
    # The damage is real: were it not noticed, the campaign would prove nothing.
    assert outcomes[REFUSED] > 0.3 * count


def _check_whole(count: int, seed: int, folder: Path) -> None:
    reader = start_reader()
    try:
        tallies = run_campaign(container_families(folder), count, seed, reader, folder)
    finally:
        reader.close()
    crashes = [crash for tally in tallies.values() for crash in tally.crashes]
    assert not crashes, "\n".join(crashes)
    outcomes = sum((tally.outcomes for tally in tallies.values()), Counter())
    assert outcomes.total() == count
    assert not outcomes[CRASH]
    assert outcomes[WRONG] <= MAX_WRONG_SHARE * count, table(tallies)


def test_eighty_mutants_of_containers_alone_crash_nothing_and_few_deceive() -> None:
    _check_alone(80, 1)


def test_dozens_of_mutants_of_containers_go_the_products_own_way(tmp_path: Path) -> None:
    _check_whole(24, 3, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_mutants_of_containers_alone() -> None:
    _check_alone(1000, 2)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_thousand_mutants_of_containers_go_the_products_own_way(tmp_path: Path) -> None:
    _check_whole(1000, 2, tmp_path)
