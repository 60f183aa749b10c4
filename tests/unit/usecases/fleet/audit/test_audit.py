import io
import json
import os
import stat
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from memoryrecords import MemoryRecords

from undercroft.assurance.auditheads import public_key
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.model.audit import SignedHead
from undercroft.usecases.fleet.audit import audit
from undercroft.usecases.fleet.audit.headfile import (
    begin_anew,
    existing_key,
    locked_heads,
    own_key,
    read_heads,
)
from undercroft.usecases.fleet.audit.restart import Restarted, restart, restarts

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Log:
    """A record with a log, and the files of its heads."""

    def __init__(self, folder: Path) -> None:
        self.records = MemoryRecords()
        self.key = folder / "state" / "audit.key"
        self.heads = folder / "state" / "heads.jsonl"
        self.out = folder / "audit.jsonl"

    def write(self, count: int = 1) -> None:
        with self.records.transaction() as record:
            for number in range(count):
                record.log("agent", "host1", {"number": number}, AT)

    def sign(self, seconds: int = 0) -> SignedHead | None:
        return audit.sign_head(self.records, self.key, self.heads, AT + timedelta(seconds=seconds))

    def restart(self, seconds: int = 60) -> Restarted:
        at = AT + timedelta(seconds=seconds)
        return restart(self.records, self.key, self.heads, at, host="host1", by="alice", reason="disk broke")

    def put_back(self, count: int) -> None:
        """Put back a backup with so many entries."""
        self.records = MemoryRecords()
        self.write(count)

    @property
    def public(self) -> str:
        return public_key(existing_key(self.key))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_the_key_is_made_once_and_for_its_owner_only(log: Log):
    first = public_key(own_key(log.key))
    assert public_key(own_key(log.key)) == first == log.public
    assert stat.S_IMODE(log.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.key.parent.stat().st_mode) == 0o711
    assert os.listdir(log.key.parent) == ["audit.key"]


def test_a_damaged_key_is_never_replaced_by_a_new_one(log: Log):
    own_key(log.key)
    log.key.write_text("00ff")
    with pytest.raises(InputError, match="not a signing key"):
        own_key(log.key)
    assert log.key.read_text() == "00ff"


def test_a_head_is_added_only_where_the_log_has_moved(log: Log):
    assert log.sign() is not None
    assert log.sign(1) is None
    log.write(3)
    assert log.sign(2) is not None
    assert log.sign(3) is None
    assert [head.number for head in read_heads(log.heads)] == [0, 3]
    assert stat.S_IMODE(log.heads.stat().st_mode) == 0o600


def test_half_a_line_of_a_killed_append_does_not_count_and_the_next_one_takes_its_place(log: Log):
    log.sign()
    whole = log.heads.read_bytes()
    log.heads.write_bytes(whole + whole[:50])
    assert len(read_heads(log.heads)) == 1
    log.write()
    log.sign()
    assert [head.number for head in read_heads(log.heads)] == [0, 1]


def test_a_log_that_was_put_back_is_not_signed(log: Log):
    log.write(5)
    log.sign()
    log.records = MemoryRecords()
    log.write(3)
    with pytest.raises(StateError, match="does not continue the head that was signed for 5"):
        log.sign()
    assert [head.number for head in read_heads(log.heads)] == [5]


def test_a_log_that_was_computed_anew_is_not_signed_though_it_is_longer(log: Log):
    log.write(5)
    log.sign()
    log.records = MemoryRecords()
    with log.records.transaction() as record:
        for number in range(9):
            record.log("agent", "another", {"number": number}, AT)
    with pytest.raises(StateError, match="does not continue"):
        log.sign()


def test_a_log_of_another_identity_is_not_signed(log: Log):
    log.sign()
    log.records = MemoryRecords(log="cd" * 16)
    with pytest.raises(StateError, match="replaced by another"):
        log.sign()


def test_a_damaged_last_head_is_told_with_its_place(log: Log):
    log.sign()
    log.heads.write_bytes(log.heads.read_bytes() + b"{}\n")
    with pytest.raises(InputError, match=r"heads\.jsonl, last line"):
        log.sign()
    with pytest.raises(InputError, match=r"heads\.jsonl, line 2"):
        read_heads(log.heads)


def test_heads_that_are_not_there_are_not_found(log: Log):
    with pytest.raises(NotFoundError):
        read_heads(log.heads)
    with pytest.raises(NotFoundError):
        existing_key(log.key)


def test_the_record_is_verified_against_its_heads(log: Log):
    log.write(2500)
    log.sign()
    log.write(10)
    proof = audit.verify_record(log.records, read_heads(log.heads), log.public)
    assert (proof.last, proof.pinned, proof.heads) == (2510, 2500, 1)


def test_an_export_ends_in_a_head_that_pins_its_last_entry(log: Log):
    log.write(1500)
    audit.export_file(log.records, log.key, log.heads, log.out, AT)
    proof = audit.verify_export(log.out, (), log.public)
    assert (proof.first, proof.last, proof.pinned) == (1, 1500, 1500)
    assert stat.S_IMODE(log.out.stat().st_mode) == 0o600


def test_an_export_may_begin_after_an_entry_and_is_pinned_by_an_earlier_head_too(log: Log):
    log.write(10)
    log.sign()
    log.write(10)
    audit.export_file(log.records, log.key, log.heads, log.out, AT, after=10)
    proof = audit.verify_export(log.out, read_heads(log.heads)[:1], log.public)
    assert (proof.first, proof.last, proof.heads) == (11, 20, 2)


def test_an_export_after_the_last_entry_is_refused(log: Log):
    log.write(3)
    with pytest.raises(NotFoundError, match="3 entries, so none after 4"):
        audit.export(log.records, log.key, log.heads, io.BytesIO(), AT, after=4)


def test_a_file_that_could_not_be_written_whole_is_not_there(log: Log):
    log.write(3)
    with pytest.raises(NotFoundError):
        audit.export_file(log.records, log.key, log.heads, log.out, AT, after=4)
    assert os.listdir(log.out.parent) == ["state"]


def test_an_exported_entry_that_was_edited_is_found(log: Log):
    log.write(5)
    audit.export_file(log.records, log.key, log.heads, log.out, AT)
    log.out.write_bytes(log.out.read_bytes().replace(b'{\\"number\\":2}', b'{\\"number\\":7}'))
    with pytest.raises(StateError, match="entry 3 was edited"):
        audit.verify_export(log.out, (), log.public)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither an entry nor a head"),
        (b"[]\n", "line 1: neither an entry nor a head"),
        (b'{"entry": {}}\n', "line 1: the fields of AuditEntry"),
        (b"{" * 100_000, "line 1: not a whole line"),
        (b"\xff\xfe", "line 1: not a whole line"),
        (b"9" * 5000 + b"\n", "line 1: not"),
    ],
)
def test_a_file_that_is_no_export_is_refused_with_its_line(log: Log, content: bytes, message: str):
    own_key(log.key)
    log.out.write_bytes(content)
    with pytest.raises(InputError, match=message):
        audit.verify_export(log.out, (), log.public)


def test_an_export_that_was_cut_within_a_line_is_told(log: Log):
    log.write(5)
    audit.export_file(log.records, log.key, log.heads, log.out, AT)
    log.out.write_bytes(log.out.read_bytes()[:-20])
    with pytest.raises(InputError, match="an export ends in a head"):
        audit.verify_export(log.out, (), log.public)


def test_the_last_head_is_found_whatever_came_before(log: Log):
    log.sign()
    (head,) = read_heads(log.heads)
    with locked_heads(log.heads) as heads:
        for number in range(40):
            heads.append(replace(head, number=number))
            found = heads.last()
            assert found is not None
            assert found.number == number
    assert len(read_heads(log.heads)) == 41


def test_after_a_restart_the_log_is_signed_and_exported_again_and_nothing_is_lost(log: Log):
    log.write(5)
    log.sign()
    before = log.heads.read_bytes()
    log.put_back(3)
    with pytest.raises(StateError, match="undercroft audit restart --reason"):
        log.sign()
    with pytest.raises(StateError, match="undercroft audit restart --reason"):
        audit.export(log.records, log.key, log.heads, io.BytesIO(), AT)
    done = log.restart()
    assert done.archive.read_bytes() == before
    assert stat.S_IMODE(done.archive.stat().st_mode) == stat.S_IMODE(log.heads.stat().st_mode) == 0o600
    assert [(head.number, head.digest) for head in read_heads(log.heads)] == [(4, done.entry.digest)]
    body = json.loads(done.entry.body)
    assert (body["by"], body["reason"], body["archive"]) == ("alice", "disk broke", done.archive.name)
    assert (body["last"]["number"], body["last"]["signature"]) == (5, read_heads(done.archive)[-1].signature)
    assert "does not continue the head that was signed for 5" in body["problem"]
    log.write(2)
    assert log.sign(90) is not None
    audit.export_file(log.records, log.key, log.heads, log.out, AT)
    assert audit.verify_export(log.out, read_heads(log.heads), log.public).pinned == 6
    assert audit.verify_record(log.records, read_heads(log.heads), log.public).pinned == 6
    assert sorted(os.listdir(log.heads.parent)) == ["audit.key", done.archive.name, "heads.jsonl"]


@pytest.mark.parametrize("grown", [0, 1, 30])
def test_whoever_holds_a_head_from_before_finds_what_a_restart_would_hide(log: Log, grown: int):
    log.write(5)
    log.sign()
    elsewhere = read_heads(log.heads)
    log.put_back(3)
    log.restart()
    log.write(grown)
    log.sign(90)
    audit.verify_record(log.records, read_heads(log.heads), log.public)
    with pytest.raises(StateError, match=r"it ends at entry 4|entry 5 is not the one that was signed"):
        audit.verify_record(log.records, elsewhere, log.public)
    audit.export_file(log.records, log.key, log.heads, log.out, AT)
    with pytest.raises(StateError, match=r"it ends at entry 4|entry 5 is not the one that was signed"):
        audit.verify_export(log.out, elsewhere, log.public)


def test_the_archived_heads_still_verify_what_was_exported_before(log: Log):
    log.write(5)
    audit.export_file(log.records, log.key, log.heads, log.out, AT)
    log.put_back(3)
    done = log.restart()
    assert audit.verify_export(log.out, read_heads(done.archive), log.public).pinned == 5


def test_a_new_record_a_new_key_and_damaged_heads_are_reasons_to_restart(log: Log):
    log.write(5)
    log.sign()
    log.records = MemoryRecords(log="cd" * 16)
    log.write(7)
    log.restart()
    log.key.unlink()
    with pytest.raises(StateError, match="audit restart"):
        log.sign(61)
    log.restart(62)
    log.heads.write_bytes(b"{}\n")
    with pytest.raises(InputError, match="audit restart"):
        log.sign(63)
    assert log.restart(64).last is None
    log.heads.write_bytes(b"{}\n" + log.heads.read_bytes())
    log.restart(64)
    assert log.sign(66) is None
    assert len([name for name in os.listdir(log.heads.parent) if name.startswith("heads-")]) == 4
    with log.records.reading() as record:
        assert len(list(restarts(record))) == 4


def test_without_a_reason_nothing_is_begun_anew(log: Log):
    with pytest.raises(NotFoundError, match="nothing is signed yet"):
        log.restart()
    log.write(3)
    log.sign()
    log.write(2)
    before = log.heads.read_bytes()
    with pytest.raises(StateError, match="it continues the head that was signed last, for entry 3"):
        log.restart()
    assert log.heads.read_bytes() == before
    assert sorted(os.listdir(log.heads.parent)) == ["audit.key", "heads.jsonl"]


def test_a_restart_that_was_cut_short_changes_no_head_and_is_done_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
):
    log.write(5)
    log.sign()
    before = log.heads.read_bytes()
    log.put_back(3)

    def fails() -> None:
        raise OperationError("the database is away")

    with monkeypatch.context() as broken:
        broken.setattr(log.records, "transaction", fails)
        with pytest.raises(OperationError):
            log.restart()
    assert log.heads.read_bytes() == before
    with pytest.raises(StateError):
        log.sign()
    done = log.restart()
    assert done.archive.read_bytes() == before
    assert log.sign(90) is None


def test_who_waits_for_the_heads_meanwhile_adds_to_the_new_ones(log: Log):
    log.write(5)
    head = log.sign()
    assert head is not None
    old = log.heads.with_name("old.jsonl")
    waiting = threading.Event()

    def adds() -> None:
        waiting.set()
        with locked_heads(log.heads) as heads:
            heads.append(replace(head, number=7))

    thread = threading.Thread(target=adds)
    with locked_heads(log.heads):
        thread.start()
        waiting.wait(10)
        thread.join(0.2)  # it stands before the lock by then, as a rule; if not, there is nothing to find
        os.link(log.heads, old)
        begin_anew(log.heads, replace(head, number=6))
    thread.join(10)
    assert [found.number for found in read_heads(log.heads)] == [6, 7]
    assert [found.number for found in read_heads(old)] == [5]


@pytest.mark.parametrize("body", ["[]", "{", "9" * 5000, '{"by": ["x"]}', "null"])
def test_an_entry_that_anybody_wrote_is_told_whatever_it_says(log: Log, body: str):
    with log.records.transaction() as record:
        record.log("restart", "audit-log", {}, AT)
        record.log("agent", "audit-log", {}, AT)
    with log.records.transaction() as record:
        (entry, other) = record.log_entries()
        made = type("Record", (), {"log_entries": lambda self, subject: (replace(entry, body=body), other)})()
        assert len(list(restarts(made))) == 1
