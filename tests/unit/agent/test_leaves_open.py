"""What cannot be held: the policy's word on it goes with the agent's answer, and stands in the reason."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from advisorydata import BOOKWORM
from agentlab import POLICY, UUID, Lab
from comebackdata import NEW, PATCHED, UNPATCHED
from memoryrecords import MemoryRecords

from undercroft.agent.host import now
from undercroft.model.fleet import Floor, FloorEntry
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Decision
from undercroft.usecases.fleet.starts.admission import decide, keep_decision

MAC = "52:54:00:12:34:56"
BESIDE = f"<interface type='user'><mac address='{MAC}'/></interface></devices>"
ALLOW, REFUSE = POLICY.replace("}", ", unenforceable: allow}"), POLICY


def decided(folder: Path, policy: str, *, patched: bool = False) -> Decision:
    """Return the decision on a start with a second interface that cannot be held; it is kept then."""
    lab = Lab(folder, MemoryRecords(), policy=policy)
    lab.disks[CURRENT] = PATCHED if patched else UNPATCHED
    means = lab._host().means
    with lab.records.transaction() as record:
        record.put_floor(Floor(UUID, (FloorEntry(BOOKWORM, "openssl", NEW, now()),)))
    event = lab._event(lab._domain(), "prepare", "begin", "e1" * 16)
    decision = decide(means, replace(event, xml=event.xml.replace("</devices>", BESIDE)))
    keep_decision(means, decision, timedelta(hours=1))
    with lab.records.reading() as record:
        assert record.decision(event.ident) == decision
    return decision


def kept(folder: Path) -> bool:
    text = (folder / "state" / "decisions" / f"{UUID}.json").read_text()
    return json.loads(json.loads(text)["decision"])["leaves_open"] is True


def test_a_quarantine_that_leaves_open_what_cannot_be_held_says_so(tmp_path: Path) -> None:
    decision = decided(tmp_path, ALLOW)
    assert (decision.action, decision.leaves_open) == (Action.QUARANTINE, True)
    assert decision.reason.endswith(f"; the policy leaves open: user {MAC}")
    assert kept(tmp_path)


def test_control_without_the_policys_word_it_is_refused(tmp_path: Path) -> None:
    decision = decided(tmp_path, REFUSE)
    assert (decision.action, decision.leaves_open) == (Action.REFUSE, False)
    assert not kept(tmp_path)


@pytest.mark.parametrize("policy", [ALLOW, REFUSE])
def test_what_nothing_stands_against_is_told_of_no_interface(tmp_path: Path, policy: str) -> None:
    decision = decided(tmp_path, policy, patched=True)
    assert (decision.action, decision.hold) == (Action.ALLOW, False)
    assert "leaves open" not in decision.reason
    assert kept(tmp_path) is (policy == ALLOW)
