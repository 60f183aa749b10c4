"""A set of reads proves an answer exactly as long as every byte that the answer rests on is the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks import readset
from undercroft.disks.readset import Recorder, replay, replay_sets
from undercroft.disks.source import BlockSource, BytesSource
from undercroft.disks.volumes import UnreadDisk
from undercroft.errors import InputError
from undercroft.model.job import ProvenReads

DATA = bytes(range(256)) * 16


def recorded(reads: list[tuple[int, int]], data: bytes = DATA, name: str = "vda") -> ProvenReads | None:
    recorder = Recorder([(name, BytesSource(data))])
    for offset, length in reads:
        source = recorder.disks[0][1]
        assert not isinstance(source, UnreadDisk)
        assert source.read(offset, length) == data[offset : offset + length]
    return recorder.finish()


def test_ranges_that_join_are_one_and_a_range_read_twice_is_recorded_once() -> None:
    found = recorded([(0, 512), (512, 512), (2048, 100), (0, 512), (2148, 1)])
    assert found is not None
    assert found.numbers == (0, 0, 1024, 0, 2048, 101)
    assert found.sizes == (len(DATA),)
    assert replay([("vda", BytesSource(DATA))], found.numbers) == found.digest


READS = st.lists(
    st.integers(0, len(DATA) - 1).flatmap(
        lambda offset: st.tuples(st.just(offset), st.integers(1, len(DATA) - offset))
    ),
    min_size=1,
    max_size=20,
)


@given(READS, st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_one_changed_byte_breaks_the_proof_exactly_where_it_was_read(
    reads: list[tuple[int, int]], position: int, change: int
) -> None:
    found = recorded(reads)
    assert found is not None
    altered = bytearray(DATA)
    altered[position] ^= change
    is_read = any(offset <= position < offset + length for offset, length in reads)
    digest = replay([("vda", BytesSource(bytes(altered)))], found.numbers)
    assert (digest != found.digest) == is_read


def test_the_digest_tells_disks_by_name_size_and_why_they_are_unread() -> None:
    found = recorded([(0, 512)])
    assert found is not None
    others: list[list[tuple[str, BlockSource | UnreadDisk]]] = [
        [("sda", BytesSource(DATA))],
        [("vda", BytesSource(DATA + b"\0"))],
        [("vda", BytesSource(DATA)), ("vdb", UnreadDisk("encrypted with LUKS"))],
        [("vda", BytesSource(DATA)), ("vdb", UnreadDisk("it has no snapshot 'a'"))],
    ]
    digests = {replay(disks, found.numbers) for disks in others} | {found.digest}
    assert len(digests) == len(others) + 1


def test_another_version_of_the_reader_takes_no_proof_over(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recorded([(0, 512)])
    monkeypatch.setattr(readset, "VERSION", "0.0.0-other")
    assert found is not None
    assert replay([("vda", BytesSource(DATA))], found.numbers) != found.digest


def test_other_readers_of_the_same_version_take_no_proof_over() -> None:
    recorder = Recorder([("vda", BytesSource(DATA))], "these")
    source = recorder.disks[0][1]
    assert not isinstance(source, UnreadDisk)
    source.read(0, 512)
    found = recorder.finish()
    assert found is not None
    assert replay([("vda", BytesSource(DATA))], found.numbers, "these") == found.digest
    assert replay([("vda", BytesSource(DATA))], found.numbers, "others") != found.digest


def test_a_read_that_fails_proves_nothing_from_then_on() -> None:
    recorder = Recorder([("vda", BytesSource(DATA))])
    source = recorder.disks[0][1]
    assert not isinstance(source, UnreadDisk)
    source.read(0, 512)
    with pytest.raises(InputError):
        source.read(len(DATA), 1)
    source.read(0, 512)
    assert recorder.finish() is None


def test_a_disk_that_changes_under_the_read_proves_nothing() -> None:
    class Changing:
        size_bytes = 512

        def __init__(self) -> None:
            self.count = 0

        def read(self, offset: int, length: int) -> bytes:
            self.count += 1
            return bytes([self.count]) * length

    recorder = Recorder([("vda", Changing())])
    source = recorder.disks[0][1]
    assert not isinstance(source, UnreadDisk)
    source.read(0, 4)
    source.read(0, 4)
    assert recorder.finish() is None


def test_a_read_set_over_a_limit_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readset, "MAX_READS", 3)
    assert recorded([(number * 10, 5) for number in range(3)]) is not None
    assert recorded([(number * 10, 5) for number in range(4)]) is None
    monkeypatch.setattr(readset, "MAX_BYTES", 100)
    assert recorded([(0, 100)]) is not None
    assert recorded([(0, 101)]) is None


def test_a_replay_over_a_limit_or_of_no_such_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = ("vda", BytesSource(DATA))
    with pytest.raises(InputError):
        replay([disk], (1, 0, 5))
    with pytest.raises(InputError):
        replay([("vda", UnreadDisk("gone"))], (0, 0, 5))
    monkeypatch.setattr(readset, "MAX_BYTES", 4)
    with pytest.raises(InputError):
        replay([disk], (0, 0, 5))


def test_sets_are_tried_in_order_until_one_is_as_it_was() -> None:
    first, second = recorded([(0, 5)], bytes(512)), recorded([(100, 5)])
    assert first is not None
    assert second is not None
    beyond = ProvenReads((0, len(DATA), 9), (), "0" * 64)
    digests = replay_sets([("vda", BytesSource(DATA))], [beyond, first, second, first])
    assert (len(digests), digests[0], digests[2]) == (3, "", second.digest)
    assert digests[1] not in ("", first.digest)
