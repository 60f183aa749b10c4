"""Attacks on the log, each with its control: without the head that pins it, nothing is found."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from undercroft.assurance.auditheads import check_head, public_key, sign_head, verify_log
from undercroft.assurance.auditlog import NO_DIGEST, make_entry
from undercroft.errors import StateError
from undercroft.model.audit import AuditEntry, SignedHead

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = public_key(PRIVATE)
LOG = "ab" * 16


def chain(count: int, start: Sequence[AuditEntry] = (), action: str = "allow") -> list[AuditEntry]:
    """Continue a log to `count` entries."""
    entries = list(start)
    while len(entries) < count:
        previous = entries[-1].digest if entries else NO_DIGEST
        at = AT + timedelta(seconds=len(entries))
        entries.append(make_entry(len(entries) + 1, previous, "decision", "vm", {"action": action}, at))
    return entries


def head(entries: Sequence[AuditEntry], number: int, log: str = LOG) -> SignedHead:
    digest = entries[number - 1].digest if number else NO_DIGEST
    return sign_head(PRIVATE, log, number, digest, AT)


ENTRIES = chain(9)
HEADS = (head(ENTRIES, 0), head(ENTRIES, 4), head(ENTRIES, 8))


def test_a_whole_log_is_pinned_up_to_its_highest_head():
    proof = verify_log(ENTRIES, HEADS, KEY, log=LOG)
    assert (proof.first, proof.last, proof.heads, proof.pinned) == (1, 9, 3, 8)
    assert (proof.log, proof.digest) == (LOG, ENTRIES[-1].digest)


def test_an_empty_log_is_whole():
    proof = verify_log([], [head([], 0)], KEY)
    assert (proof.first, proof.last, proof.heads, proof.pinned) == (0, 0, 1, 0)


def test_an_edit_is_found_without_any_head():
    edited = [*ENTRIES[:2], replace(ENTRIES[2], body='{"action":"refuse"}'), *ENTRIES[3:]]
    with pytest.raises(StateError, match="entry 3 was edited"):
        verify_log(edited, (), KEY)


@pytest.mark.parametrize("number", range(9))
def test_a_missing_entry_is_found_where_others_follow(number: int):
    rest = [*ENTRIES[:number], *ENTRIES[number + 1 :]]
    with pytest.raises(StateError, match=f"{number + 1} is missing|ends at entry 8"):
        verify_log(rest, [*HEADS, head(ENTRIES, 9)], KEY)


def test_entries_that_changed_places_are_found():
    with pytest.raises(StateError, match="out of place"):
        verify_log([ENTRIES[1], ENTRIES[0], *ENTRIES[2:]], (), KEY)


def test_a_tail_that_was_cut_off_is_found_by_a_head_and_not_without_one():
    with pytest.raises(StateError, match="ends at entry 6, and had 8"):
        verify_log(ENTRIES[:6], HEADS, KEY)
    assert verify_log(ENTRIES[:6], HEADS[:2], KEY).last == 6


@given(start=st.integers(0, 7))
def test_a_log_that_was_computed_anew_is_found_by_a_head_and_not_without_one(start: int):
    forged = chain(9, ENTRIES[:start], action="refuse")
    with pytest.raises(StateError, match="computed anew"):
        verify_log(forged, HEADS, KEY)
    assert verify_log(forged, (), KEY).last == 9


def test_what_was_written_after_the_highest_head_can_be_replaced_unseen():
    """The limit that the docstring and the threat model state."""
    forged = chain(9, ENTRIES[:8], action="refuse")
    assert verify_log(forged, HEADS, KEY).pinned == 8


def test_two_heads_of_one_number_that_differ_are_found():
    other = sign_head(PRIVATE, LOG, 4, "c" * 64, AT)
    for heads in ([*HEADS, other], [other, *HEADS]):
        with pytest.raises(StateError, match="entry 4 is not the one"):
            verify_log(ENTRIES, heads, KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"log": "cd" * 16},
        {"number": 5},
        {"digest": "c" * 64},
        {"at": AT + timedelta(days=1)},
        {"signature": "00" * 64},
        {"signature": "not hexadecimal"},
        {"signature": ""},
    ],
)
def test_a_head_with_any_change_has_a_bad_signature(changes: dict[str, object]):
    with pytest.raises(StateError, match="signature"):
        check_head(replace(HEADS[1], **changes), KEY)  # type: ignore[arg-type]


def test_a_head_of_another_key_is_refused_though_its_signature_is_good():
    other = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    forged = sign_head(other, LOG, 4, ENTRIES[3].digest, AT)
    check_head(forged, public_key(other))
    with pytest.raises(StateError, match="the pinned one is"):
        verify_log(ENTRIES, [forged], KEY)


def test_a_head_of_another_log_is_refused():
    with pytest.raises(StateError, match="replaced by another"):
        verify_log(ENTRIES, [HEADS[1], head(ENTRIES, 4, log="cd" * 16)], KEY)
    with pytest.raises(StateError, match="replaced by another"):
        verify_log(ENTRIES, [HEADS[1]], KEY, log="cd" * 16)


def test_a_part_of_a_log_is_verified_from_its_first_entry_on():
    assert verify_log(ENTRIES[4:], HEADS[1:], KEY, first=5).heads == 2
    with pytest.raises(StateError, match="entry 4 is not the one"):
        verify_log(chain(9, action="refuse")[4:], HEADS[1:2], KEY, first=5)


def test_a_part_without_entries_is_of_no_use_and_says_so():
    proof = verify_log([], [head(ENTRIES, 9)], KEY, first=10)
    assert (proof.last, proof.heads) == (0, 0)
