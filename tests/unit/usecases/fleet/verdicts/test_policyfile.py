"""The policy's file: read whole, and the last good one kept."""

import json
import os
import stat
from datetime import date
from pathlib import Path

import pytest

from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.model.verdict import Action
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper, read_policy, read_texts

TODAY = date(2026, 3, 7)
REFUSE = "version: 1\ndefaults: {drifting: refuse}\n"
BROKEN = "version: 1\ndefaults: {drifting: refus}\n"


def keeper(path: Path, kept: Path | None = None, today: date = TODAY) -> PolicyKeeper:
    return PolicyKeeper(path, lambda: today, kept)


def replaced(path: Path, text: str) -> None:
    """Write as editors do: a new file in the place of the old one."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def test_without_a_file_the_built_in_policy_holds(tmp_path: Path) -> None:
    assert read_policy(tmp_path / "policy.yaml", TODAY) == Policy()
    assert read_policy(tmp_path, TODAY) == Policy(), "a folder without any *.yaml"


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("20-b.yaml", "10-a.yaml", "notes.txt", ".30-c.yaml", "40.yaml~"):
        (tmp_path / name).write_text(REFUSE if name.startswith("20") else "version: 1\n")
    assert [Path(name).name for name, _ in read_texts(tmp_path)] == ["10-a.yaml", "20-b.yaml"]
    assert read_policy(tmp_path, TODAY).defaults.drifting.source == f"{tmp_path}/20-b.yaml:2"


def test_what_cannot_be_read_is_no_missing_policy(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(OperationError, match=r"loop\.yaml"):
        read_policy(tmp_path / "loop.yaml", TODAY)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="no regular file"):
        read_policy(tmp_path / "pipe.yaml", TODAY)
    (tmp_path / "loop.yaml").unlink()
    (tmp_path / "loop.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="at most 1,048,576"):
        read_policy(tmp_path / "loop.yaml", TODAY)


def test_a_broken_policy_is_no_policy_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(BROKEN)
    with pytest.raises(InputError, match="did you mean 'refuse'"):
        keeper(tmp_path / "policy.yaml")


def test_a_broken_policy_never_replaces_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(REFUSE)
    held = keeper(path)
    assert held.refresh() is None
    replaced(path, BROKEN)
    found = held.refresh()
    assert found is not None
    assert (found.changed, found.policy.defaults.drifting.value) == (False, Action.REFUSE)
    assert found.problem == f"{path}:2:22: defaults.drifting: found 'refus'; did you mean 'refuse'? " + (
        "possible: allow, quarantine, refuse"
    )
    assert held.refresh() is None, "told once"
    replaced(path, REFUSE.replace("refuse", "quarantine"))
    found = held.refresh()
    assert found is not None
    assert (found.changed, found.problem) == (True, "")
    assert held.policy.defaults.drifting.value is Action.QUARANTINE


def test_a_comment_is_a_new_file_but_no_new_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(REFUSE)
    held = keeper(path)
    replaced(path, f"# why\n{REFUSE}")
    found = held.refresh()
    assert found is not None
    assert not found.changed
    assert held.policy.defaults.drifting.source == f"{path}:3"


def test_removing_the_file_does_not_lift_what_it_enforced(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(REFUSE)
    held = keeper(path)
    path.unlink()
    found = held.refresh()
    assert found is not None
    assert found.policy.defaults.drifting.value is Action.REFUSE
    assert "no policy there" in found.problem


def test_a_first_file_is_seen_when_it_appears(tmp_path: Path) -> None:
    held = keeper(tmp_path)
    (tmp_path / "a.yaml").write_text(REFUSE)
    found = held.refresh()
    assert found is not None
    assert found.changed


def test_nothing_to_check_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no policy there"):
        read_texts(tmp_path / "policy.yaml")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where a policy that refuses was kept by an agent that has ended; its file is PATH/policy.yaml."""
    (tmp_path / "policy.yaml").write_text(REFUSE)
    assert keeper(tmp_path / "policy.yaml", tmp_path / "kept").problem == ""
    return tmp_path / "kept"


def test_without_a_kept_one_a_removed_policy_and_a_restart_lift_everything(tmp_path: Path) -> None:
    """The control of those below: what a removal did while nothing was kept."""
    assert keeper(tmp_path / "policy.yaml", tmp_path / "kept").policy == Policy()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("text", [BROKEN, "", None], ids=["mistake", "empty", "removed"])
def test_a_wrong_or_removed_policy_and_a_restart_lift_nothing(kept: Path, text: str | None) -> None:
    path = kept.parent / "policy.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    held = keeper(path, kept)
    assert held.policy.defaults.drifting.value is Action.REFUSE
    assert held.policy.defaults.drifting.source == f"{path}:2"
    assert str(path) in held.problem
    assert held.refresh() is None
    replaced(path, REFUSE.replace("refuse", "quarantine"))
    found = held.refresh()
    assert found is not None
    assert (found.changed, found.problem) == (True, "")
    path.unlink()
    assert keeper(path, kept).policy.defaults.drifting.value is Action.QUARANTINE, "the newest is kept"


def test_a_policy_is_lifted_on_purpose_by_one_that_says_its_version_only(kept: Path) -> None:
    path = kept.parent / "policy.yaml"
    path.write_text("version: 1\n")
    assert keeper(path, kept).policy.digest == Policy().digest
    path.unlink()
    assert keeper(path, kept).policy.digest == Policy().digest


def test_a_folder_is_kept_with_all_its_files_for_root_only(tmp_path: Path) -> None:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    (folder / "10.yaml").write_text("\ufeffversion: 1\n# gr\u00fc\u00dfe\n")
    (folder / "20.yaml").write_text(REFUSE)
    before = keeper(folder, tmp_path / "kept").policy
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600
    for file in folder.iterdir():
        file.unlink()
    held = keeper(folder, tmp_path / "kept")
    assert held.policy == before
    assert "no *.yaml there" in held.problem


def test_a_kept_policy_that_is_damaged_never_brings_the_built_in_one(kept: Path) -> None:
    path = kept.parent / "policy.yaml"
    for damage in (b"", b"[]", b'{"schema": "x"}', b"{" * 100_000, b"\xff", b'{"schema": 1, "files": 3}'):
        kept.write_bytes(damage)
        path.unlink(missing_ok=True)
        with pytest.raises(InputError, match="kept copy of the last good policy is damaged"):
            keeper(path, kept)
        with pytest.raises(InputError, match="kept copy"):
            read_policy(path, TODAY, kept)
        path.write_text(REFUSE)
        assert keeper(path, kept).problem == "", "a good policy replaces it"
        assert json.loads(kept.read_bytes())["files"][0]["text"] == REFUSE


def test_commands_go_by_the_kept_policy_where_the_file_is_gone_and_refuse_a_wrong_one(kept: Path) -> None:
    path = kept.parent / "policy.yaml"
    path.unlink()
    assert read_policy(path, TODAY, kept).defaults.drifting.value is Action.REFUSE
    assert read_policy(path, TODAY).defaults.drifting.value is Action.ALLOW
    path.write_text(BROKEN)
    with pytest.raises(InputError, match="did you mean"):
        read_policy(path, TODAY, kept)


def test_a_clock_that_went_back_does_not_spoil_the_kept_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        f"{REFUSE}exceptions:\n- {{machine: web01, rule: fixable, until: 2026-06-01, reason: ticket 4711}}\n"
    )
    before = keeper(path, tmp_path / "kept").policy
    held = keeper(path, tmp_path / "kept", date(1970, 1, 1))
    assert "2026-06-01" in held.problem
    assert held.policy == before


def test_a_policy_that_cannot_be_kept_holds_and_is_kept_later(tmp_path: Path) -> None:
    path, state = tmp_path / "policy.yaml", tmp_path / "state"
    path.write_text(REFUSE)
    held = keeper(path, state / "kept")
    assert held.policy.defaults.drifting.value is Action.REFUSE
    assert "not kept for a restart" in held.unkept
    state.mkdir()
    assert held.refresh() is None
    assert held.unkept == ""
    assert (state / "kept").exists()
