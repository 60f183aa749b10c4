"""One change of rules or contents at a time: each is caught, or makes no difference to any packet."""

import random

import pytest
from filtermutants import Mutant, mutant
from filterproofs import passes
from firewallworld import CLASSES, FLEET, POLICY, Frames, memory_of, routed_mark, ruleset

from undercroft.assurance.firewall.certificate import Certificate
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.decisions import Remembered
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import follow

QUICK, ALL = 8, 1000
QUICK_PACKETS, ALL_PACKETS = 400, 4000


def proven(honest: Ruleset, changed: Mutant) -> bool:
    """Prove a mutant; a packet that the proof gives has to tell the tables apart by the interpreter too."""
    answer = Prover().prove(changed.ruleset, POLICY, FLEET, CLASSES)
    if isinstance(answer, Certificate):
        return True
    if answer.packet is not None:
        assert passes(changed.ruleset, answer.packet) is answer.kernel_passes, changed.what
        assert passes(honest, answer.packet) is answer.policy_passes, changed.what
    return False


def told_apart(one: Ruleset, other: Ruleset, count: int) -> str:
    """Return a frame with which two tables do different things, "" where a campaign has none."""
    frames, nothing = Frames(random.Random("told apart")), Remembered()
    for _ in range(count):
        path, frame = frames.draw(nothing)
        packet = parse(frame)
        if packet is None:
            continue
        answers = [
            follow(table, packet, path, memory_of(nothing), routed_mark(path)).accept
            for table in (one, other)
        ]
        if answers[0] is not answers[1]:
            return frame.hex()
    return ""


@pytest.mark.parametrize("seed", range(QUICK))
def test_a_mutant_is_caught_or_no_packet_tells_it_apart(seed: int) -> None:
    honest = ruleset()
    changed = mutant(honest, seed)
    if proven(honest, changed):
        assert not told_apart(honest, changed.ruleset, QUICK_PACKETS), changed.what


@pytest.mark.soak
def test_a_thousand_mutants_are_caught_or_no_packet_tells_them_apart() -> None:
    honest, equal = ruleset(), []
    for seed in range(ALL):
        changed = mutant(honest, seed)
        if proven(honest, changed):
            assert not told_apart(honest, changed.ruleset, ALL_PACKETS), changed.what
            equal.append(f"{seed}: {changed.what}")
    assert len(equal) < ALL // 4, "\n".join(equal)
