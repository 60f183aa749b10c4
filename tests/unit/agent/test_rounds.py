"""What the rounds make of the decisions that are kept for when the agent is away, round after round."""

from pathlib import Path

import pytest
from keptdecisions import KEY, VALID, Agent, Kept, full_disk
from recordvalues import judgement

from undercroft.model.verdict import Action
from undercroft.usecases.fleet.starts.admission import keep_decision

ALLOW, REFUSE = Action.ALLOW, Action.REFUSE


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(Kept(tmp_path))


def test_what_a_full_disk_did_not_take_is_written_in_the_next_round(agent: Agent) -> None:
    agent.kept.start(ALLOW)
    with full_disk():
        agent.round(REFUSE)
    assert agent.kept.read().action is ALLOW
    (problem,) = agent.problems
    assert KEY in problem
    agent.round(REFUSE)
    assert agent.kept.read().action is REFUSE
    assert agent.problems == [problem]


def test_a_start_that_writes_the_file_between_two_rounds_is_followed_again(agent: Agent) -> None:
    agent.kept.start(ALLOW)
    agent.round(REFUSE)
    agent.kept.put(ALLOW)  # an exception, judged for the start alone
    agent.round(REFUSE)
    keep_decision(agent.kept.means, agent.kept.last, VALID)  # as `HookHandler` does when it has answered
    agent.round(REFUSE)
    assert agent.kept.read().action is REFUSE


def test_a_disk_that_is_full_for_many_machines_is_one_problem(agent: Agent) -> None:
    for number in (1, 2, 3):
        agent.kept.start(ALLOW, number)
    with full_disk():
        agent.round(REFUSE, REFUSE, REFUSE)
    (problem,) = agent.problems
    assert f"{KEY} and of 2 more" in problem


def test_a_snapshots_judgement_is_none_of_its_machine(agent: Agent) -> None:
    agent.kept.start(ALLOW)
    agent.rounds._follow({"snapshot:1": judgement(f"snapshot:{KEY}", action=REFUSE)})
    assert agent.kept.read().action is ALLOW
