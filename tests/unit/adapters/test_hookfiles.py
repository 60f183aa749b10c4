"""The agent's files for the hook: installation, keys, what is read back, and what is not let in."""

import hashlib
import hmac
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import HookSettings, LastDecision, RunNote
from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.model.fleet import HeldTap
from undercroft.model.verdict import Action

UUID = "c7a5fdbd-cdaf-9455-926a-d65c16db1809"
SETTINGS = HookSettings("/var/lib/undercroft", "/run/undercroft/admission.sock", break_glass=("db*",))
NAME = f"{1:020d}-{1:032x}.json"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    hookfiles.prepare_folders(tmp_path / "state")
    return tmp_path / "state"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_first_hook_of_a_folder_asks_for_a_reload(tmp_path: Path) -> None:
    first = hookfiles.install_hook(tmp_path, SETTINGS)
    again = hookfiles.install_hook(tmp_path, replace(SETTINGS, away=Action.ALLOW))
    assert (first.changed, first.needs_reload) == (True, True)
    assert (again.changed, again.needs_reload) == (False, False)
    assert hookfiles.read_settings(tmp_path).away is Action.ALLOW
    hook = tmp_path / "qemu.d" / "undercroft"
    assert mode(hook) == 0o755
    assert hook.read_bytes().startswith(b"#!/usr/bin/python3 -ISB\n")


def test_a_hook_of_somebody_else_beside_it_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "qemu.d" / "other"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    assert not hookfiles.install_hook(tmp_path, SETTINGS).needs_reload
    hookfiles.remove_hook(tmp_path)
    assert other.read_text() == "#!/bin/sh\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["other", "qemu.d"]


@pytest.mark.parametrize("bad_mode", [0o644, 0o777])
def test_a_hook_with_another_mode_is_put_right(tmp_path: Path, bad_mode: int) -> None:
    hookfiles.install_hook(tmp_path, SETTINGS)
    hook = tmp_path / "qemu.d" / "undercroft"
    hook.chmod(bad_mode)
    assert hookfiles.install_hook(tmp_path, SETTINGS).changed
    assert mode(hook) == 0o755


def test_a_link_in_the_hook_s_place_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "qemu.d").mkdir()
    (tmp_path / "qemu.d" / "undercroft").symlink_to(victim)
    hookfiles.install_hook(tmp_path, SETTINGS)
    assert victim.read_text() == "mine"
    assert not (tmp_path / "qemu.d" / "undercroft").is_symlink()


def test_the_key_is_made_once_and_for_its_owner_only(state: Path) -> None:
    key = state / "hook.key"
    before = key.read_bytes()
    hookfiles.prepare_folders(state)
    assert key.read_bytes() == before
    assert len(before) == 32
    assert mode(key) == 0o600
    assert {mode(state / name) for name in ("spool", "spool/bad", "decisions", "run")} == {0o700}


def test_a_note_comes_back_as_it_was(state: Path) -> None:
    note = RunNote(
        UUID, "web01", "e" * 32, Action.ALLOW, True, True, "to be seen", (HeldTap("vnet0", "br0"),)
    )
    assert hookfiles.read_note(state, UUID) is None
    hookfiles.write_note(state, note)
    assert hookfiles.read_note(state, UUID) == note


DECISION = LastDecision(
    UUID, "web01", Action.QUARANTINE, True, "to be seen", datetime(2026, 11, 25, 12, tzinfo=UTC), (), True
)


def test_a_last_decision_comes_back_as_it_was(state: Path) -> None:
    with pytest.raises(NotFoundError):
        hookfiles.read_decision(state, UUID)
    hookfiles.write_decision(state, DECISION)
    assert hookfiles.read_decision(state, UUID) == DECISION


_FIELDS = some.sampled_from(["machine", "name", "action", "until_s", "images", "decision", "mac"])
_JSON = some.recursive(
    some.none() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(_FIELDS, inner, max_size=5),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.binary(max_size=100) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_a_last_decision_is_read_or_malformed(state: Path, data: bytes) -> None:
    path = state / "decisions" / f"{UUID}.json"
    path.write_bytes(data)
    with pytest.raises(InputError):
        hookfiles.read_decision(state, UUID)
    # The same as the agent's own words, which a later version may have written.
    body = b"undercroft last decision 1\n" + data
    code = hmac.new((state / "hook.key").read_bytes(), body, hashlib.sha256).hexdigest()
    path.write_text(json.dumps({"decision": data.decode("latin-1"), "mac": code}))
    with pytest.raises(InputError):
        hookfiles.read_decision(state, UUID)


def test_a_rounds_thread_and_a_starts_write_one_decision_at_once(state: Path) -> None:
    def write(number: int) -> None:
        hookfiles.write_decision(state, replace(DECISION, reason="x" * number))
        assert hookfiles.read_decision(state, UUID).machine == UUID

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(200)))
    assert [path.name for path in (state / "decisions").iterdir()] == [f"{UUID}.json"]


@pytest.mark.parametrize("machine", ["", "../x", UUID.upper(), UUID + "\n", f"../{UUID}"])
def test_what_is_no_uuid_never_becomes_a_path(state: Path, machine: str) -> None:
    decision = LastDecision(machine, "web01", Action.ALLOW, False, "", datetime.now(UTC), ())
    for call in (
        lambda: hookfiles.write_decision(state, decision),
        lambda: hookfiles.drop_decision(state, machine),
        lambda: hookfiles.read_decision(state, machine),
        lambda: hookfiles.read_note(state, machine),
    ):
        with pytest.raises(InputError):
            call()


@pytest.mark.parametrize("name", ["", "x", "../hook.key", NAME + "\n", NAME.upper(), f"./{NAME}"])
def test_what_is_no_spool_name_is_refused(state: Path, name: str) -> None:
    with pytest.raises(InputError):
        hookfiles.read_event(state, name)


def test_a_link_in_the_spool_is_not_followed(state: Path) -> None:
    (state / "spool" / NAME).symlink_to(state / "hook.key")
    with pytest.raises(OperationError):
        hookfiles.read_event(state, NAME)


@given(
    some.binary(max_size=300)
    | some.recursive(
        some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=10),
        lambda inner: some.dictionaries(
            some.sampled_from(["ident", "xml", "uuid", "save", "at_ns", "alone", "x"]), inner, max_size=7
        ),
    ).map(lambda value: json.dumps(value).encode())
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_the_spool_are_an_event_or_an_input_error(state: Path, data: bytes) -> None:
    (state / "spool" / NAME).write_bytes(data)
    with pytest.raises(InputError):
        hookfiles.read_event(state, NAME)


def test_what_hooks_at_work_name_while_their_drafts_are_swept_up_is_left_to_them(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that begins among many starts: each draft has its name by the time that it is looked at."""
    listed = os.scandir

    def named_meanwhile(folder: Path) -> Iterator[os.DirEntry[str]]:
        for entry in listed(folder):
            if entry.name.startswith(".") and ".json." in entry.name:
                os.rename(entry.path, Path(folder) / entry.name.removeprefix(".").rpartition(".")[0])
            yield entry

    for number in range(3):
        (state / "spool" / f".{number:020d}-{1:032x}.json.77").write_text("{}")
    (state / "spool" / ".left").touch()
    os.utime(state / "spool" / ".left", (0, 0))
    monkeypatch.setattr(os, "scandir", named_meanwhile)
    hookfiles.sweep(state, datetime.now(UTC))
    monkeypatch.undo()
    assert len(hookfiles.spooled(state)) == 3
    assert not (state / "spool" / ".left").exists()


def test_the_daemon_is_found_by_its_file_and_by_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        hookfiles.daemon_pid(tmp_path)
    program = shutil.copy(str(shutil.which("sleep")), tmp_path / "virtqemud")
    with subprocess.Popen([program, "60"]) as daemon:
        (tmp_path / "virtqemud.pid").write_text(f"{daemon.pid}\n")
        while Path(f"/proc/{daemon.pid}/comm").read_text() != "virtqemud\n":
            time.sleep(0.001)  # the kernel names it a moment after it has closed what tells us of the exec
        assert hookfiles.daemon_pid(tmp_path) == daemon.pid
        hookfiles.reload_daemon(tmp_path)
        assert daemon.wait() == -signal.SIGHUP


def test_a_process_that_only_has_the_daemon_s_old_number_gets_no_signal(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "libvirtd.pid").write_text(str(other.pid))
        with pytest.raises(NotFoundError):
            hookfiles.reload_daemon(tmp_path)
        assert other.poll() is None
        other.kill()
