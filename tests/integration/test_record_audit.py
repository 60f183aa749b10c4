"""Attacks on the audit log by somebody who may write the database, and the installed program that finds them.

Each has its control: the same attack passes where no head lies elsewhere.
"""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from program import run_program
from recordvalues import NOW, decision, later

from undercroft.assurance.auditlog import NO_DIGEST, make_entry
from undercroft.errors import OperationError, StateError
from undercroft.model.audit import AuditEntry
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.audit.audit import sign_head, verify_record
from undercroft.usecases.fleet.audit.headfile import read_heads
from undercroft.usecases.fleet.places import Places

ENTRIES = 8


class Host:
    """A host with a log of eight decisions, and heads after the sixth and the last; copies lie elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = Places(folder / "state", folder / "run", folder / "etc")
        self.elsewhere = folder / "elsewhere.jsonl"
        records = open_records(self.places.database_url)
        for number in range(ENTRIES):
            with records.transaction() as record:
                record.put_decision(decision(f"d{number}", at=later(number)))
            if number in {5, ENTRIES - 1}:
                head = sign_head(records, self.places.audit_key, self.places.heads, NOW)
                assert head is not None
                self.key = head.key
        records.close()
        shutil.copy(self.places.heads, self.elsewhere)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_program(
            self.folder / "none.db", "audit", *arguments, UNDERCROFT_STATE=str(self.places.state)
        )

    def verify_with_heads(self) -> subprocess.CompletedProcess[str]:
        return self.run("verify", "--key", self.key, "--heads", self.elsewhere)

    def verify_without_heads(self) -> subprocess.CompletedProcess[str]:
        empty = self.folder / "empty.jsonl"
        empty.touch()
        return self.run("verify", "--key", self.key, "--heads", empty)

    def attack(self, change: Callable[[sqlite3.Connection], object]) -> None:
        connection = sqlite3.connect(self.places.database_url)
        change(connection)
        connection.commit()
        connection.close()

    def entries(self) -> list[AuditEntry]:
        records = open_records(self.places.database_url)
        with records.reading() as record:
            entries = list(record.log_entries())
        records.close()
        return entries


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def recompute(host: Host, connection: sqlite3.Connection, number: int, last: int = ENTRIES) -> None:
    """Change entry `number`, compute everything after it anew, and set the log's own head to fit."""
    entries = host.entries()[:last]
    previous = entries[number - 2].digest if number > 1 else NO_DIGEST
    for old in entries[number - 1 :]:
        body = {"action": "refuse"} if old.number == number else {"same": old.body}
        new = make_entry(old.number, previous, old.kind, old.subject, body, old.at)
        connection.execute(
            "UPDATE log_entry SET body = ?, previous = ?, digest = ? WHERE number = ?",
            (new.body, new.previous, new.digest, new.number),
        )
        previous = new.digest
    set_head(connection, last, previous)


def set_head(connection: sqlite3.Connection, number: int, digest: str) -> None:
    connection.execute("UPDATE log_head SET number = ?, digest = ?", (number, digest))


def cut(host: Host, connection: sqlite3.Connection, last: int) -> None:
    """Remove the end, and set the log's own head to fit."""
    connection.execute("DELETE FROM log_entry WHERE number > ?", (last,))
    set_head(connection, last, host.entries()[last - 1].digest)


def test_a_log_that_nobody_touched_is_whole(host: Host):
    result = host.verify_with_heads()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        f"whole: entries 1 to 8, 2 heads checked, pinned up to entry 8; key {host.key}\n"
    )
    assert host.run("verify").stdout == result.stdout


def test_without_any_head_nobody_can_tell(host: Host):
    result = host.verify_without_heads()
    assert result.returncode == 4
    assert "no head pins this log" in result.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_entry SET body = replace(body, 'allow', 'refuse') WHERE number = 3",
        "UPDATE log_entry SET at = at + 1 WHERE number = 3",
        "UPDATE log_entry SET subject = 'another' WHERE number = 3",
        "UPDATE log_entry SET kind = 'agent' WHERE number = 3",
        "DELETE FROM log_entry WHERE number = 3",
        "DELETE FROM log_entry WHERE number = 1",
        "UPDATE log_entry SET number = number + 100 WHERE number = 3",
        "DELETE FROM log_entry WHERE number = 8",
        "UPDATE log_entry SET at = 'never' WHERE number = 3",
        "UPDATE log_entry SET digest = 7 WHERE number = 3",
        "UPDATE log_head SET digest = 'x'",
        "UPDATE log_head SET number = 9",
        "UPDATE log_head SET log = 'x'",
        "DELETE FROM log_entry",
    ],
)
def test_an_edit_of_the_database_is_found(host: Host, statement: str):
    host.attack(lambda connection: connection.execute(statement))
    records = open_records(host.places.database_url)
    with pytest.raises((StateError, OperationError), match="audit"):
        verify_record(records, read_heads(host.elsewhere), host.key)
    records.close()


def test_an_end_that_was_cut_off_is_found_with_heads_and_not_without(host: Host):
    host.attack(lambda connection: cut(host, connection, 7))
    result = host.verify_with_heads()
    assert result.returncode == 1
    assert "it ends at entry 7, and had 8" in result.stderr
    assert host.verify_without_heads().stdout.startswith("whole: entries 1 to 7, 0 heads")


@pytest.mark.parametrize("number", [1, 8])
def test_a_log_that_was_computed_anew_is_found_with_heads_and_not_without(host: Host, number: int):
    host.attack(lambda connection: recompute(host, connection, number))
    result = host.verify_with_heads()
    assert result.returncode == 1
    assert "computed anew" in result.stderr
    assert host.verify_without_heads().stdout.startswith("whole: entries 1 to 8, 0 heads")


def test_who_also_replaces_the_heads_and_the_key_on_the_host_is_found_by_the_pinned_key(host: Host):
    host.attack(lambda connection: recompute(host, connection, 2))
    host.places.audit_key.unlink()
    host.places.heads.unlink()
    records = open_records(host.places.database_url)
    sign_head(records, host.places.audit_key, host.places.heads, NOW)
    records.close()
    assert host.run("verify").returncode == 0, "the host alone cannot tell"
    result = host.run("verify", "--key", host.key)
    assert result.returncode == 1
    assert "the pinned one is" in result.stderr
    assert host.verify_with_heads().returncode == 1


def test_a_database_put_back_from_a_copy_is_found_and_never_signed(host: Host):
    host.attack(lambda connection: cut(host, connection, 6))
    assert host.run("verify").returncode == 1
    result = host.run("export")
    assert (result.returncode, result.stdout) == (1, "")
    assert "Nothing is signed" in result.stderr


def test_a_restart_signs_again_and_hides_nothing_from_whoever_holds_a_head(host: Host):
    before = host.places.heads.read_bytes()
    host.attack(lambda connection: cut(host, connection, 6))
    assert "undercroft audit restart --reason" in host.run("export").stderr
    assert host.run("restart").returncode == 2, "without a reason"
    done = host.run("restart", "--reason", "backup of Monday")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"signing begins anew with entry 7; key {host.key}\n")
    assert "the last one is of entry 8" in done.stdout
    assert [file.read_bytes() for file in host.places.state.glob("heads-*.jsonl")] == [before]
    exported = host.run("export")
    assert exported.returncode == 0
    assert "backup of Monday" in exported.stdout
    verified = host.run("verify")
    assert verified.returncode == 0, verified.stderr
    assert "signing was begun anew at entry 7" in verified.stdout, "the host itself does not hide it"
    found = host.verify_with_heads()
    assert found.returncode == 1
    assert "it ends at entry 7, and had 8" in found.stderr
    assert "which proves nothing: signing was begun anew at entry 7" in found.stderr
    again = host.run("restart", "--reason", "once more")
    assert again.returncode == 1
    assert "there is no reason" in again.stderr


def test_a_new_record_is_signed_after_a_restart_and_old_heads_tell_that_it_is_another(host: Host):
    for file in host.places.state.glob("fleet.db*"):
        file.unlink()
    records = open_records(host.places.database_url)
    with records.transaction() as record:
        record.put_decision(decision("d1", at=NOW))
    records.close()
    assert "undercroft audit restart --reason" in host.run("export").stderr
    assert host.run("restart", "--reason", "the disk is gone").returncode == 0
    assert host.run("verify").returncode == 0
    assert "the log was replaced by another" in host.verify_with_heads().stderr


def test_who_has_the_database_only_cannot_restart_by_writing_that_it_was(host: Host):
    def forge(connection: sqlite3.Connection) -> None:
        kept = host.entries()[:6]
        body = {"by": "root", "reason": "backup", "host": "host1", "archive": "heads-1.jsonl", "last": None}
        new = make_entry(7, kept[-1].digest, "restart", "audit-log", body, NOW)
        connection.execute("DELETE FROM log_entry WHERE number > 7")
        connection.execute(
            "UPDATE log_entry SET kind = ?, subject = ?, about = ?, body = ?, at = ?, digest = ?"
            " WHERE number = 7",
            (new.kind, new.subject, new.subject, new.body, int(NOW.timestamp() * 1_000_000), new.digest),
        )
        set_head(connection, 7, new.digest)

    host.attack(forge)
    assert host.verify_without_heads().stdout.startswith("whole: entries 1 to 7, 0 heads"), "well forged"
    assert host.run("verify").returncode == 1
    assert host.verify_with_heads().returncode == 1
    assert "Nothing is signed" in host.run("export").stderr


def test_an_export_is_verified_elsewhere_with_the_pinned_key_alone(host: Host, tmp_path: Path):
    exported = tmp_path / "audit.jsonl"
    assert host.run("export", "-o", exported).returncode == 0
    elsewhere = {"UNDERCROFT_STATE": str(tmp_path / "nowhere")}
    command = ("audit", "verify", "--key", host.key, exported)
    result = run_program(tmp_path / "none.db", *command, **elsewhere)
    assert result.stdout.startswith("whole: entries 1 to 8, 1 heads checked, pinned up to entry 8")
    without_key = run_program(tmp_path / "none.db", "audit", "verify", exported, **elsewhere)
    assert without_key.returncode == 3
    assert "--key" in without_key.stderr


def test_the_key_may_stand_in_a_file_and_a_wrong_one_is_told(host: Host, tmp_path: Path):
    pinned = tmp_path / "audit.pub"
    pinned.write_text(host.key + "\n")
    assert host.run("verify", "--key", pinned).returncode == 0
    pinned.write_text("secret")
    assert "64 hexadecimal digits" in host.run("verify", "--key", pinned).stderr
    assert host.run("verify", "--key", tmp_path / "none").returncode == 3


def test_a_host_without_a_record_is_told_so(tmp_path: Path):
    result = run_program(
        tmp_path / "none.db", "audit", "verify", "--key", "0" * 64, UNDERCROFT_STATE=str(tmp_path)
    )
    assert result.returncode == 3
    assert "there is no record of the fleet" in result.stderr
    assert list(tmp_path.iterdir()) == []
