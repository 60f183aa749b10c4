"""Hundreds of damaged images: no crash, no hang, no lie beyond a known share.

The campaign also runs from the command line (`tests/support/campaign.py`) and prints what
docs/ROBUSTNESS.md publishes; `make soak` runs a longer one.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from campaign import INCOMPLETE, REFUSED, RELABELLED, WRONG, families, run_campaign, table
from mutants import Family

from undercroft.usecases.session import start_reader

MUTANTS = 400
"""In each run of the tests; the soak has fifty times as many."""
MAX_WRONG_SHARE = 0.05
MAX_SECONDS = 10


@pytest.fixture(scope="module")
def memory_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in memory where there is one: each mutant is written once and read a few times."""
    folder = tmp_path_factory.mktemp("mutants")
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        return folder
    place = shared / f"undercroft-{os.getpid()}-{folder.name}"
    place.mkdir()
    return place


@pytest.fixture(scope="module")
def bases(memory_folder: Path) -> list[Family]:
    """The base images."""
    return families(memory_folder)


def _run(bases: list[Family], count: int, seed: int, folder: Path) -> Counter[str]:
    reader = start_reader()
    try:
        tallies = run_campaign(bases, count, seed, reader, folder)
    finally:
        reader.close()
    outcomes = sum((tally.outcomes for tally in tallies.values()), Counter())
    crashes = [crash for tally in tallies.values() for crash in tally.crashes]
    assert not crashes, "\n".join(crashes)
    assert max(tally.slowest_s for tally in tallies.values()) < MAX_SECONDS
    assert outcomes.total() == count
    assert outcomes[WRONG] + outcomes[RELABELLED] <= MAX_WRONG_SHARE * count, table(tallies)
    return outcomes


@pytest.mark.timeout(300)
def test_hundreds_of_mutants_crash_nothing_and_few_deceive(bases: list[Family], memory_folder: Path) -> None:
    outcomes = _run(bases, MUTANTS, 1, memory_folder)
    # The damage is real: were most mutants read as if nothing had happened, the campaign would prove nothing.
    assert outcomes[INCOMPLETE] + outcomes[REFUSED] > 0.2 * MUTANTS


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_twenty_thousand_mutants(bases: list[Family], memory_folder: Path) -> None:
    _run(bases, 20_000, 2, memory_folder)
