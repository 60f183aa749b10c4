"""One change of rules or sets at a time: each is caught, or is proven, and told by no packet, to be none."""

from collections import Counter
from collections.abc import Callable

import pytest
from filtermutants import mutant
from mutantcampaign import Fate, Traffic, judged

from undercroft.firewall.tracking import StateKind

QUICK = 6
ALL = 1000
MOST_EQUAL = 1 / 3
QUICK_FRAMES, ALL_FRAMES = 1500, 30_000


@pytest.mark.parametrize("state", StateKind)
def test_a_mutant_is_caught_or_no_packet_tells_it_apart(state: StateKind) -> None:
    traffic = Traffic.drawn(state, QUICK_FRAMES, 1)
    fates = Counter(judged(mutant(traffic.honest, seed), traffic).fate for seed in range(QUICK))
    assert fates[Fate.EXAMPLE] > QUICK // 4


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_thousand_mutants_that_change_anything_are_caught_all(
    record_property: Callable[[str, object], None],
) -> None:
    """Mutants of both kinds of state, until so many are caught; who is not was proven equal, and plays so."""
    traffics = [Traffic.drawn(state, ALL_FRAMES, 7) for state in StateKind]
    caught, equal = Counter[tuple[Fate, str]](), []
    seed = 0
    while caught.total() < ALL:
        traffic = traffics[seed % 4 == 0]
        found = judged(mutant(traffic.honest, seed), traffic)
        if found.fate is Fate.EQUAL:
            equal.append(f"{seed}: {found.what}")
        else:
            caught[found.fate, found.theorem.partition(" ")[0]] += 1
        seed += 1
    record_property("mutants", seed)
    record_property("caught", {f"{fate}, {theorem}": count for (fate, theorem), count in caught.items()})
    assert len(equal) < seed * MOST_EQUAL, "\n".join(equal)
