"""What is kept for when the agent is away follows what a start would meet by now."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from memoryrecords import MemoryRecords

from undercroft.adapters.hookfiles import prepare_folders
from undercroft.model.verdict import Action, Decision, Judgement, Outcome, RuleResult, Verdict
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.starts.admission import AGENT, Means, follow_judgement, keep_decision
from undercroft.usecases.fleet.verdicts.judging import Basis

UUID = "6d0f5d5e-0000-4000-8000-000000000001"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ALLOWED = Decision("ab" * 16, UUID, "web01", "cd" * 16, Action.ALLOW, False, "steady", NOW, AGENT)
REFUSED = Judgement(
    f"machine:{UUID}", Verdict.DRIFTING, Action.REFUSE, (), "policy", "mark", NOW + timedelta(hours=1), NOW
)
VALID = timedelta(hours=72)


@pytest.fixture
def means(tmp_path: Path) -> Means:
    prepare_folders(tmp_path)
    nothing = cast("Any", None)
    basis = lambda: Basis(Policy(), "")  # noqa: E731
    return Means(MemoryRecords(), nothing, nothing, nothing, basis, nothing, lambda: NOW, "host1", tmp_path)


def decide(means: Means, decision: Decision) -> None:
    with means.records.transaction() as record:
        record.put_decision(decision)
    keep_decision(means, decision, VALID)


def kept(means: Means) -> str:
    path = means.state / "decisions" / f"{UUID}.json"
    return str(json.loads(json.loads(path.read_text())["decision"])["action"]) if path.exists() else ""


def test_a_hole_that_became_known_since_the_start_is_refused_without_the_agent_too(means: Means) -> None:
    decide(means, ALLOWED)
    assert kept(means) == "allow"
    follow_judgement(means, REFUSED, VALID)
    assert kept(means) == "refuse"


def test_a_machine_that_was_patched_since_is_allowed(means: Means) -> None:
    decide(means, replace(ALLOWED, action=Action.REFUSE))
    follow_judgement(means, replace(REFUSED, action=Action.ALLOW), VALID)
    assert kept(means) == "allow"


def test_nothing_is_kept_of_a_machine_that_never_started_here(means: Means) -> None:
    follow_judgement(means, REFUSED, VALID)
    assert kept(means) == ""


@pytest.mark.parametrize("items", [("user 52:54:00:12:34:56",), ()])
def test_what_the_policy_leaves_open_is_kept_with_a_quarantine(means: Means, items: tuple[str, ...]) -> None:
    decide(means, ALLOWED)
    said = RuleResult("enforceable", Outcome.PASS, "", "policy.yaml", items)
    follow_judgement(means, replace(REFUSED, action=Action.QUARANTINE, results=(said,)), VALID)
    assert kept(means) == "quarantine"
    text = (means.state / "decisions" / f"{UUID}.json").read_text()
    assert json.loads(json.loads(text)["decision"])["leaves_open"] is bool(items)


def test_an_order_of_an_administrator_is_not_overruled(means: Means) -> None:
    decide(means, ALLOWED)
    with means.records.transaction() as record:
        record.put_decision(
            replace(ALLOWED, ident="ef" * 16, by="root", at=NOW + timedelta(minutes=1), reason="ordered")
        )
    follow_judgement(means, REFUSED, VALID)
    assert kept(means) == "allow"
