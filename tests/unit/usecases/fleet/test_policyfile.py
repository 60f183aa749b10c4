"""The policy's file: read whole, and the last good one kept."""

import os
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


def keeper(path: Path) -> PolicyKeeper:
    return PolicyKeeper(path, lambda: TODAY)


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
