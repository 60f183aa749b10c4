"""The packet model and the kernel agree on every frame, and so does the policy's meaning.

A frame is put into a tap, or sent by the host; where it comes out is compared, port by port, with what the
model (`simulate`) makes of the compiled table, and with what policy and fleet say (`meaning`). After every
episode the sets that packets have filled are compared, too: the kernel's, the model's, and the meaning's.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from netns import call_in_own_network
from wire import Wire
from wiremodel import EPISODE_FRAMES, PORTS, Figures, campaign, told

from undercroft.adapters.nftables import Nftables
from undercroft.firewall.kernel import Code, Immediate, Rule, Ruleset, Verdict

FRAMES = 4_000
SOAK_FRAMES = 120_000


def played(count: int, seed: int, altered: Callable[[Ruleset], Ruleset] = lambda rules: rules) -> Figures:
    """Play frames on this kernel."""

    def play() -> Figures:
        with Wire(PORTS) as wire, Nftables() as kernel:
            return campaign(wire, kernel, count, seed, altered)

    return call_in_own_network(play)


def test_kernel_model_and_meaning_agree_on_frames_of_every_form() -> None:
    figures = played(FRAMES, 1)
    assert not figures.differences, "\n".join(figures.differences)
    assert sum(figures.frames.values()) >= FRAMES
    assert len(figures.frames) >= 15
    assert figures.passed > FRAMES // 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_kernel_model_and_meaning_agree_on_120_000_frames() -> None:
    figures = played(SOAK_FRAMES, 2)
    print(told(figures))  # noqa: T201 - the figures of docs/ROBUSTNESS.md
    assert not figures.differences, "\n".join(figures.differences)
    assert sum(figures.frames.values()) >= SOAK_FRAMES


@pytest.mark.parametrize("chain", ["managed", "sender-arp", "reach6", "source4", "other"])
def test_control_the_same_frames_tell_of_one_rule_more_in_the_kernel(chain: str) -> None:
    def with_hole(rules: Ruleset) -> Ruleset:
        hole = Rule((Immediate(Verdict(Code.ACCEPT)),))
        chains = [
            replace(held, rules=(hole, *held.rules)) if held.name == chain else held
            for held in rules.table.chains
        ]
        assert tuple(chains) != rules.table.chains
        return replace(rules, table=replace(rules.table, chains=tuple(chains)))

    assert played(EPISODE_FRAMES, 3, with_hole).differences
