import io
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from memoryrecords import MemoryRecords

from undercroft.assurance.auditheads import public_key
from undercroft.errors import InputError, NotFoundError, StateError
from undercroft.model.audit import SignedHead
from undercroft.usecases.fleet.audit import audit
from undercroft.usecases.fleet.audit.headfile import existing_key, locked_heads, own_key, read_heads

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
