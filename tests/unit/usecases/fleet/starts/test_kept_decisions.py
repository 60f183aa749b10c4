"""What is kept for when the agent is away: compared with the file, renewed, and followed by the real hook."""

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from keptdecisions import KEY, MINUTE, UUID, VALID, Kept
from recordvalues import judgement, scan

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import HookSettings
from undercroft.errors import OperationError
from undercroft.model.fleet import FileIdentity
from undercroft.model.verdict import Action, Outcome, RuleResult
from undercroft.usecases.fleet.starts.admission import follow_judgement

ALLOW, REFUSE, QUARANTINE = Action.ALLOW, Action.REFUSE, Action.QUARANTINE


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@pytest.mark.parametrize(("first", "second"), [(REFUSE, ALLOW), (ALLOW, REFUSE), (ALLOW, QUARANTINE)])
def test_a_judgement_that_comes_back_to_what_the_start_met_is_followed_too(
    kept: Kept, first: Action, second: Action
) -> None:
    kept.start(first)
    for action in (second, first, second, first):
        kept.judge(action)
        assert kept.read().action is action


def test_what_a_quarantine_leaves_open_follows_the_policy_while_it_stays_one(kept: Kept) -> None:
    kept.start(QUARANTINE)
    for items in (("user 52:54:00:12:34:56",), ()):
        said = RuleResult("enforceable", Outcome.PASS, "", "policy.yaml", items)
        follow_judgement(kept.means, judgement(KEY, action=QUARANTINE, results=(said,)), VALID)
        assert kept.read().leaves_open is bool(items)


def test_an_order_stays_the_last_word_whatever_the_file_says_and_however_old_it_is(kept: Kept) -> None:
    kept.start(ALLOW)
    kept.judge(REFUSE)
    kept.put(ALLOW, by="root")
    before = kept.path.read_bytes()
    for action in (ALLOW, REFUSE):
        kept.now += VALID
        kept.judge(action)
    assert kept.path.read_bytes() == before


def test_a_decision_that_could_not_be_written_is_written_by_the_next_round(kept: Kept) -> None:
    kept.put(REFUSE)  # and its file was not
    kept.judge(REFUSE)
    assert kept.read().action is REFUSE


def test_a_file_that_is_not_the_agents_is_written_anew(kept: Kept) -> None:
    kept.start(REFUSE)
    forged = json.loads(kept.path.read_text())
    forged["decision"] = forged["decision"].replace("refuse", "allow")
    for untrusted in (json.dumps(forged).encode(), b"", b"{}", b'{"decision":1,"mac":2}', b"\xff"):
        kept.path.write_bytes(untrusted)
        kept.judge(REFUSE)
        assert kept.read().action is REFUSE


def test_another_machines_file_in_its_place_is_written_anew(kept: Kept) -> None:
    kept.start(REFUSE)
    other = replace(kept.read(), machine=UUID[:-1] + "2")
    hookfiles.write_decision(kept.state, other)
    (kept.state / "decisions" / f"{other.machine}.json").replace(kept.path)
    kept.judge(REFUSE)
    assert kept.read().machine == UUID


def test_where_nothing_can_be_written_the_round_is_told(kept: Kept) -> None:
    kept.start(ALLOW)
    (kept.state / "hook.key").unlink()
    with pytest.raises(OperationError, match=r"hook\.key"):
        kept.judge(REFUSE)


def test_what_agrees_is_written_once_in_half_of_its_time_and_no_oftener(kept: Kept) -> None:
    kept.start(ALLOW)
    written = set()
    for _ in range(10 * 24):
        kept.now += timedelta(hours=1) - MINUTE
        kept.judge(ALLOW)
        found = kept.read()
        assert found.until - kept.now >= VALID / 2
        written.add(found.until)
    assert len(written) == 240 // 36 + 1


def test_a_shorter_time_in_the_policy_counts_for_what_is_kept_already(kept: Kept) -> None:
    kept.start(ALLOW)
    kept.judge(ALLOW, timedelta(hours=1))
    assert kept.read().until == kept.now.replace(microsecond=0) + timedelta(hours=1)


def test_where_last_decisions_count_for_no_time_nothing_is_renewed(kept: Kept) -> None:
    kept.start(ALLOW)
    kept.judge(ALLOW, timedelta(0))
    first = kept.path.read_bytes()
    kept.judge(ALLOW, timedelta(0))
    assert kept.path.read_bytes() == first


@pytest.mark.parametrize("agent_lived", [True, False])
def test_a_host_that_comes_up_after_a_power_loss_starts_what_ran_for_days(
    tmp_path: Path, agent_lived: bool
) -> None:
    kept = Kept(tmp_path)
    image = tmp_path / "web01.raw"
    image.write_bytes(b"disk")
    found = image.stat()
    file = FileIdentity(str(image), found.st_dev, found.st_ino, 4, 0, 0)
    with kept.means.records.transaction() as record:
        record.put_scan(scan(KEY, files=(file,)))
    kept.now = datetime.now(UTC) - timedelta(hours=96)
    kept.start(ALLOW)
    while agent_lived and kept.now < datetime.now(UTC) - timedelta(hours=1):
        kept.now += timedelta(minutes=30)
        kept.judge(ALLOW)
    code, told = _hook_without_agent(tmp_path, kept.state, image)
    assert (code, "it has expired" in told) == ((0, False) if agent_lived else (1, True))


def _hook_without_agent(root: Path, state: Path, image: Path) -> tuple[int, str]:
    hookfiles.install_hook(root / "hooks", HookSettings(str(state), str(root / "no.sock")))
    xml = (
        f"<domain type='kvm'><name>web01</name><uuid>{UUID}</uuid><devices>"
        f"<disk type='file' device='disk'><source file='{image}'/><target dev='vda'/></disk>"
        "</devices></domain>"
    )
    command = [str(root / "hooks" / "qemu.d" / "undercroft"), "web01", "prepare", "begin", "-"]
    done = subprocess.run(
        command, input=xml.encode(), capture_output=True, check=False, env=dict(os.environ), timeout=60
    )
    return done.returncode, done.stderr.decode()
