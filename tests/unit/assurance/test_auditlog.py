from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.assurance.auditlog import MAX_BODY_CHARS, NO_DIGEST, check_entry, entry_digest, make_entry
from undercroft.errors import StateError
from undercroft.model.audit import AuditEntry

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(**changes: object) -> AuditEntry:
    plain = make_entry(7, "a" * 64, "decision", "vm", {"action": "allow"}, AT)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_an_entry_that_was_not_touched_is_whole():
    check_entry(entry(), 7, "a" * 64)


@pytest.mark.parametrize("field", [field.name for field in fields(AuditEntry)])
def test_an_edit_of_any_field_is_found(field: str):
    edits: dict[str, object] = {"number": 8, "at": AT + timedelta(microseconds=1)}
    edited = entry(**{field: edits.get(field, "b" * 64)})
    with pytest.raises(StateError, match="audit log: entry"):
        check_entry(edited, 7, "a" * 64)


def test_an_entry_whose_predecessor_is_not_at_hand_is_checked_all_the_same():
    check_entry(entry(), 7, "")
    with pytest.raises(StateError, match="edited"):
        check_entry(entry(previous="b" * 64), 7, "")


def test_the_same_moment_in_another_zone_has_the_same_digest():
    there = AT.astimezone(timezone(timedelta(hours=5)))
    assert make_entry(1, NO_DIGEST, "agent", "h", {}, there) == make_entry(1, NO_DIGEST, "agent", "h", {}, AT)


def test_a_body_has_one_text_whatever_the_order_of_its_keys():
    one = make_entry(1, NO_DIGEST, "agent", "h", {"b": 1, "a": [True, None]}, AT)
    other = make_entry(1, NO_DIGEST, "agent", "h", {"a": [True, None], "b": 1}, AT)
    assert one == other
    assert one.body == '{"a":[true,null],"b":1}'


def test_a_body_beyond_the_limit_is_shortened_and_says_so():
    large = make_entry(1, NO_DIGEST, "alarm", "h", {"text": "x" * MAX_BODY_CHARS}, AT)
    assert len(large.body) < MAX_BODY_CHARS
    assert '"shortened":true' in large.body
    other = make_entry(1, NO_DIGEST, "alarm", "h", {"text": "x" * MAX_BODY_CHARS + "y"}, AT)
    assert other.digest != large.digest


texts = st.text(st.characters(), max_size=12)


@given(first=st.tuples(texts, texts, texts), second=st.tuples(texts, texts, texts))
def test_no_two_different_entries_have_the_same_digest(
    first: tuple[str, str, str], second: tuple[str, str, str]
):
    """A boundary between fields that could be moved would let one entry pass for another."""
    digests = [entry_digest(1, AT, *values, NO_DIGEST) for values in (first, second)]
    assert (digests[0] == digests[1]) == (first == second)
