"""Mutants of LVM and md metadata: none crashes, hangs or takes much memory, few are read as another."""

from collections import Counter

import mutantworkers
import pytest
import volumemutants

MAX_WRONG_SHARE = {"lvm": 0.1, "md": 0.0}
"""The tables of a classic snapshot and of RAID legs have no checksum; md's superblocks have one."""


def outcomes(name: str, first: int, count: int, *, sealed: bool) -> Counter[tuple[str, str]]:
    """Return how many mutants of each kind came out how."""
    found = mutantworkers.outcomes(volumemutants, name, first, count, int(sealed), timeout_s=3000)
    return Counter((seed.split()[1], outcome) for seed, outcome in found.items())


def check(name: str, count: int) -> None:
    found = outcomes(name, 0, count, sealed=False)
    wrong = sum(number for (_, outcome), number in found.items() if outcome == "wrong")
    assert wrong <= MAX_WRONG_SHARE[name] * count, found
    assert {kind for (kind, outcome) in found if outcome == "wrong"} <= {"table"}
    outcomes(name, 10_000, count // 2, sealed=True)


@pytest.mark.parametrize("name", ["lvm", "md"])
def test_a_few_mutants_are_read_right_or_refused(name: str) -> None:
    check(name, 24)


@pytest.mark.timeout(1500)
@pytest.mark.soak
@pytest.mark.parametrize("name", ["lvm", "md"])
def test_a_thousand_mutants_are_read_right_or_refused(name: str) -> None:
    check(name, 1000)
