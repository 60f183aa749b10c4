"""The compiled table and the policy's meaning agree on every packet: random ones, near to what is allowed."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from firewallworld import (
    FLEET,
    POLICIES,
    Frames,
    memory_of,
    routed_mark,
    ruleset,
    with_entries,
    with_room,
    without_rates,
)

from undercroft.firewall.decisions import Remembered
from undercroft.firewall.meaning import Meaning
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import follow
from undercroft.firewall.tracking import StateKind

FRAMES = 2_500
SOAK_FRAMES = 100_000


def campaign(policy, state, count, seed, rules=None):
    """Return how often each reason was met; every packet is asked of both."""
    frames, meaning = Frames(random.Random(seed)), Meaning(policy, FLEET)
    rules = rules or ruleset(policy, state)
    reasons = Counter()
    remembered = Remembered()
    for _ in range(count):
        path, frame = frames.draw(remembered)
        packet = parse(frame)
        if packet is None:
            continue
        if state is StateKind.CONNTRACK:
            connection = frames.random.choice(("established", "related", ""))
            remembered = replace(remembered, connection=connection)
        memory = memory_of(remembered)
        decision = meaning.decide(packet, path, remembered)
        outcome = follow(rules, packet, path, memory, routed_mark(path))
        assert outcome.accept is decision.accept, (path, packet.frame.hex(), decision, outcome.way)
        reasons[decision.reason, decision.accept] += 1
        if decision.reason in {"allowed", "an answer"}:
            frames.note(path, frame)
        if decision.remember:
            remembered = with_entries(remembered, decision.remember)
            assert without_rates(memory.sets) == memory_of(remembered).sets
        remembered = with_room(remembered)
    return reasons


@pytest.mark.parametrize("state", StateKind)
@pytest.mark.parametrize("number", range(len(POLICIES)))
def test_rules_and_meaning_agree_on_random_packets(state, number):
    reasons = campaign(POLICIES[number], state, FRAMES, number)
    assert sum(reasons.values()) > FRAMES * 0.9
    assert sum(count for (_, accept), count in reasons.items() if accept) > FRAMES // 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", StateKind)
def test_rules_and_meaning_agree_on_many_random_packets(state):
    reasons = campaign(POLICIES[0], state, SOAK_FRAMES, 99)
    assert sum(reasons.values()) > SOAK_FRAMES * 0.9
