"""Keys on their way to the reader: kept by the kernel, named by volumes, shown nowhere."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from undercroft.disks.keys import MAX_SECRET_BYTES
from undercroft.errors import InputError, NotFoundError
from undercroft.model.job import KeysInput, Refusal, Unlocked, VolumeKey
from undercroft.model.schema import Json, decode, encode
from undercroft.usecases.keys import MAX_KEYS, KeyRing, ring_of
from undercroft.usecases.unlocking import Unlocking

SECRET = b"correct horse 7f3a9c"


@pytest.fixture
def ring() -> Iterator[KeyRing]:
    with KeyRing() as made:
        yield made


def held(ring: KeyRing) -> list[tuple[str, bytes]]:
    return [(each.volume, os.pread(ring.descriptor, each.size_bytes, each.offset)) for each in ring.inputs(0)]


def test_keys_are_held_in_order(ring: KeyRing) -> None:
    ring.add("vda2", SECRET)
    ring.add("*", b"other")
    assert held(ring) == [("vda2", SECRET), ("*", b"other")]


def test_a_child_cannot_write_to_them(ring: KeyRing) -> None:
    ring.add("vda2", SECRET)
    with pytest.raises(OSError, match="Bad file descriptor") as told:
        os.pwrite(ring.descriptor, b"x", 0)
    assert told.value.errno == errno.EBADF


def test_nothing_inherits_them(ring: KeyRing) -> None:
    assert not os.get_inheritable(ring.descriptor)


def test_a_ring_that_is_closed_is_gone(ring: KeyRing) -> None:
    ring.add("vda2", SECRET)
    descriptor = ring.descriptor
    ring.close()
    ring.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert len(ring) == 0


def test_no_text_shows_a_key(ring: KeyRing) -> None:
    ring.add("vda2", SECRET)
    texts = [repr(ring), str(ring), repr(ring.inputs(0)), str(encode(KeysInput(ring.inputs(0))))]
    texts.append(repr(VolumeKey("vda2", SECRET.hex())))
    texts.append(repr(Unlocked((VolumeKey("vda2", SECRET.hex()),), ())))
    assert not any("correct horse" in text or SECRET.hex() in text for text in texts)


@pytest.mark.parametrize(
    ("size", "fits"), [(0, False), (MAX_SECRET_BYTES, True), (MAX_SECRET_BYTES + 1, False)]
)
def test_a_key_has_a_length(ring: KeyRing, tmp_path: Path, size: int, fits: bool) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * size)
    if fits:
        ring.add_file("vda2", str(path))
        assert held(ring) == [("vda2", b"k" * size)]
    else:
        with pytest.raises(InputError, match="the key for vda2 has"):
            ring.add_file("vda2", str(path))


def test_a_file_that_is_not_there_is_named_by_its_volume(ring: KeyRing) -> None:
    """A passphrase that was typed in place of the path must not be repeated."""
    with pytest.raises(NotFoundError) as told:
        ring.add_file("vda2", SECRET.decode())
    assert "correct horse" not in str(told.value)
    assert "the key for vda2 does not exist" in str(told.value)
    for path in ("/", "a\0b"):
        with pytest.raises(InputError, match="the key for vda2 cannot be read"):
            ring.add_file("vda2", path)


def test_a_pipe_is_read_to_its_end(ring: KeyRing) -> None:
    reading, writing = os.pipe()
    os.write(writing, SECRET[:5])
    os.write(writing, SECRET[5:])
    os.close(writing)
    ring.add_file("vda2", f"/dev/fd/{reading}")
    os.close(reading)
    assert held(ring) == [("vda2", SECRET)]


def test_keys_have_a_number_and_a_volume(ring: KeyRing) -> None:
    for _ in range(MAX_KEYS):
        ring.add("vda2", SECRET)
    with pytest.raises(InputError, match=f"more than {MAX_KEYS} keys"):
        ring.add("vda2", SECRET)
    for name in ("", "x" * 300):
        with pytest.raises(InputError, match="for no volume"):
            ring.add(name, SECRET)


def test_a_mapping_gives_files_or_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"from the file")
    with ring_of({"vda2": str(path), "*": SECRET}) as ring:
        assert held(ring) == [("vda2", b"from the file"), ("*", SECRET)]
    with pytest.raises(NotFoundError):
        ring_of({"vda2": str(tmp_path / "none")})


# One unlocking for each state


class Reader:
    """Answers as told, and remembers what it was given."""

    def __init__(self, *answers: Unlocked) -> None:
        self.answers = list(answers)
        self.asked: list[list[tuple[str, bool, bytes]]] = []

    def __call__(self, keys: Json, holding: list[int]) -> Json:
        given = decode(KeysInput, keys).keys
        self.asked.append(
            [
                (
                    each.volume,
                    each.is_volume_key,
                    os.pread(holding[each.descriptor - 3], each.size_bytes, each.offset),
                )
                for each in given
            ]
        )
        return encode(self.answers.pop(0))


OWN = bytes(range(64))


def test_passphrases_go_to_the_child_that_unlocks_and_to_no_other(ring: KeyRing) -> None:
    ring.add("vda2", SECRET)
    unlocking = Unlocking(ring)
    reader = Reader(Unlocked((VolumeKey("vda2", OWN.hex()),), (Refusal("vdb", "wrong key"),)))
    keys, holding = unlocking.keys("current", 3, reader)
    assert reader.asked == [[("vda2", False, SECRET)]]
    given = decode(KeysInput, keys)
    assert [(each.volume, each.is_volume_key, each.descriptor) for each in given.keys] == [("vda2", True, 3)]
    assert given.refusals == (Refusal("vdb", "wrong key"),)
    (descriptor,) = holding
    assert os.pread(descriptor, 1 << 16, 0) == OWN
    unlocking.close()


def test_each_state_is_unlocked_once_and_what_opened_an_earlier_one_is_tried(ring: KeyRing) -> None:
    ring.add("vda2", SECRET)
    unlocking = Unlocking(ring)
    answer = Unlocked((VolumeKey("vda2", OWN.hex()),), ())
    reader = Reader(answer, answer, answer)
    for state in ("current", "current", "before", "before"):
        unlocking.keys(state, 3, reader)
    assert reader.asked == [[("vda2", False, SECRET)], [("vda2", True, OWN), ("vda2", False, SECRET)]]
    unlocking.forget()
    unlocking.keys("current", 3, reader)
    assert len(reader.asked) == 3
    unlocking.close()


@pytest.mark.parametrize("digits", ["", "xyz", "0", "00" * 65, "é"])
def test_an_answer_that_is_no_key_is_refused(ring: KeyRing, digits: str) -> None:
    """The child has read untrusted headers: what it gives back is checked."""
    ring.add("vda2", SECRET)
    unlocking = Unlocking(ring)
    with pytest.raises(InputError):
        unlocking.keys("current", 3, Reader(Unlocked((VolumeKey("vda2", digits),), ())))
    unlocking.close()
