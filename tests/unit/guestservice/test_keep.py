"""What was seen of guests: read back as it was, whatever a death in the middle of a write leaves."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.faultyfiles import MemoryFiles

from undercroft.channel.seen import Seen
from undercroft.errors import OperationError
from undercroft.guestservice import keep as keeping
from undercroft.guestservice.keep import NAME, SLOT_BYTES, Confirmation, Keep

MACHINE, ONE, TWO = b"m" * 16, b"1" * 16, b"2" * 16
CONFIRMED = Confirmation((3 << 40) + 1, credited=True, drained=128, hooks=2, failed=1, milliseconds=77)


def seen(serial: int, received: int = 0, former: int = 0, *, proven: bool = False) -> Seen:
    return Seen(b"b" * 16, serial, received, received, tuple(bytes([n]) * 16 for n in range(former)), proven)


def test_what_was_kept_is_there_in_the_next_process() -> None:
    files = MemoryFiles()
    keep = Keep(files)
    one, two = keep.find(MACHINE, ONE), keep.find(MACHINE, TWO)
    keep.note(one, seen(1))
    keep.note(one, seen(1, 5))
    keep.note(two, seen(9, 2, 64, proven=True))
    keep.confirm(one, CONFIRMED)
    keep.note(one, seen(1, 6))
    again = Keep(files)
    assert again.find(MACHINE, ONE).seen == seen(1, 6)
    assert again.find(MACHINE, ONE).confirmed == CONFIRMED
    assert again.find(MACHINE, TWO).seen == seen(9, 2, 64, proven=True)
    assert set(again.of(MACHINE)) == {ONE, TWO}


def test_a_slot_of_an_earlier_version_reads_as_a_confirmation_of_an_unknown_boot() -> None:
    files = MemoryFiles()
    keep = Keep(files)
    one, two = keep.find(MACHINE, ONE), keep.find(MACHINE, TWO)
    keep.note(one, seen(1))
    keep.note(two, seen(1, former=64, proven=True))
    keep.confirm(one, CONFIRMED)  # six members, as before there were boots
    keep.confirm(two, replace(CONFIRMED, boot=b"b" * 16))
    again = Keep(files)
    assert again.find(MACHINE, ONE).confirmed == CONFIRMED
    assert again.find(MACHINE, TWO).confirmed == replace(CONFIRMED, boot=b"b" * 16)


def test_what_is_forgotten_is_gone_and_its_slot_is_used_again() -> None:
    files = MemoryFiles()
    keep = Keep(files)
    keep.note(keep.find(MACHINE, ONE), seen(1))
    keep.forget(MACHINE, ONE)
    assert Keep(files).of(MACHINE) == []
    assert keep.find(MACHINE, TWO).seen is None
    assert len(files.read(NAME)) == SLOT_BYTES


def test_a_session_s_counts_are_not_those_of_the_one_before() -> None:
    files = MemoryFiles()
    keep = Keep(files)
    one = keep.find(MACHINE, ONE)
    keep.note(one, seen(1, 50))
    keep.note(one, seen(2, 3))
    assert Keep(files).find(MACHINE, ONE).seen == seen(2, 3)


class Torn(MemoryFiles):
    """A process that is killed after so many bytes of a write."""

    left = 1 << 30

    def write(self, handle: int, data: bytes, offset: int) -> int:
        part = data[: max(0, self.left)]
        self.left -= len(data)
        return super().write(handle, part, offset) if part else 0


STEPS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 9), st.integers(0, 3), st.booleans()), min_size=1, max_size=12
)


@given(STEPS, st.integers(0, 4_000))
def test_a_death_in_the_middle_of_any_write_leaves_nothing_that_was_never_seen(
    steps: list[tuple[int, int, int, bool]], died_after: int
) -> None:
    files = Torn()
    keep = Keep(files)
    kept = keep.find(MACHINE, ONE)
    files.left = died_after
    noted: list[Seen | None] = [None]
    serial = 0
    for grown, received, former, proven in steps:
        serial += grown
        for count in range(received + 1):
            noted.append(seen(serial, count, former, proven=proven and count == received))
            keep.note(kept, noted[-1])
    files.left = 1 << 30
    found = Keep(files).find(MACHINE, ONE).seen
    assert found in noted


@given(st.binary(max_size=3 * SLOT_BYTES))
def test_a_file_of_anything_is_read_as_nothing(data: bytes) -> None:
    files = MemoryFiles()
    handle = files.open(NAME, create=True)
    files.write(handle, data, 0)
    keep = Keep(files)
    assert keep.find(MACHINE, ONE).seen is None


def test_where_too_many_are_kept_those_that_are_not_needed_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MAX_SLOTS", 2)
    keep = Keep(MemoryFiles())
    keep.note(keep.find(MACHINE, ONE), seen(1))
    keep.note(keep.find(MACHINE, TWO), seen(2))
    assert keep.is_full
    with pytest.raises(OperationError, match="the most that may be"):
        keep.find(b"o" * 16, ONE)
    keep.forget_all_but({(MACHINE, TWO): None})
    assert keep.find(b"o" * 16, ONE).seen is None
    assert keep.find(MACHINE, TWO).seen == seen(2)


def test_a_full_disk_is_told_and_stops_nobody() -> None:
    class Full(MemoryFiles):
        def write(self, handle: int, data: bytes, offset: int) -> int:
            raise OSError(28, "No space left on device")

    keep = Keep(Full())
    keep.note(keep.find(MACHINE, ONE), seen(1))
    assert "No space left" in keep.problem
