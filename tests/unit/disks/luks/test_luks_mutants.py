"""Damaged LUKS headers and keyslots: each volume is read or refused, within limits, and never wrongly."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import luksmutants
import pytest

FEW, MANY = 6, 200


def outcomes(family: str, count: int) -> dict[str, str]:
    path = os.pathsep.join([str(Path(luksmutants.__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, luksmutants.__file__, family, "0", str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    assert len(found) == count
    return found


def judged(family: str, count: int) -> Counter[str]:
    found = outcomes(family, count)
    crashes = {seed: text for seed, text in found.items() if text not in ("same", "refused", "wrong")}
    assert crashes == {}
    return Counter(found.values())


@pytest.mark.parametrize("family", luksmutants.FAMILIES)
def test_some_mutants_are_read_or_refused_and_never_wrong(family: str) -> None:
    counts = judged(family, FEW)
    assert counts["wrong"] == 0
    assert counts["refused"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("family", luksmutants.FAMILIES)
def test_a_thousand_mutants_are_read_or_refused_and_never_wrong(family: str) -> None:
    counts = judged(family, MANY)
    sys.stdout.write(f"{family}: {dict(counts)}\n")
    assert counts["wrong"] == 0
