"""Damaged LUKS headers and keyslots: each volume is read or refused, within limits, and never wrongly."""

import sys
from collections import Counter

import luksmutants
import pytest
from mutantworkers import counts

FEW, MANY = 6, 200


def judged(family: str, count: int) -> Counter[str]:
    return counts(luksmutants, family, 0, count, count=count, timeout_s=1000)


@pytest.mark.parametrize("family", luksmutants.FAMILIES)
def test_some_mutants_are_read_or_refused_and_never_wrong(family: str) -> None:
    found = judged(family, FEW)
    assert found["wrong"] == 0
    assert found["refused"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("family", luksmutants.FAMILIES)
def test_a_thousand_mutants_are_read_or_refused_and_never_wrong(family: str) -> None:
    found = judged(family, MANY)
    sys.stdout.write(f"{family}: {dict(found)}\n")
    assert found["wrong"] == 0
