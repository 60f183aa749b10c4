"""From keys to data: the right key opens, a wrong one is told, and no key shows anywhere."""

from typing import Any

import pytest
from diskimages import assert_reads_as
from luksmaker import PASSPHRASE, Luks1, Luks2

from undercroft.disks import luks
from undercroft.disks.keys import ANY, MAX_KEYS, Key, Keys, Secret, passphrases
from undercroft.disks.luks import unlock
from undercroft.disks.luks.header import Segment
from undercroft.disks.luks.source import LuksSource
from undercroft.disks.source import MAX_READ_BYTES, BytesSource
from undercroft.errors import InputError, UnsupportedError

RIGHT = Key("vda2", PASSPHRASE)


@pytest.mark.parametrize(
    "kdf",
    [
        {"type": "pbkdf2", "hash": "sha1", "iterations": 9},
        {"type": "pbkdf2", "hash": "sha512", "iterations": 9},
        {"type": "argon2i", "time": 4, "memory": 32, "cpus": 1},
        {"type": "argon2id", "time": 4, "memory": 64, "cpus": 4},
    ],
)
@pytest.mark.parametrize("sector_bytes", [512, 4096])
def test_luks2_reads_as_its_plain_text(kdf: dict[str, Any], sector_bytes: int) -> None:
    made = Luks2(kdf=kdf, sector_bytes=sector_bytes)
    assert_reads_as(luks.open_volume(BytesSource(made.build()), [RIGHT]), made.plain)


@pytest.mark.parametrize(
    ("cipher", "key_bytes"),
    [("aes-xts-plain64", 64), ("aes-cbc-essiv:sha256", 32), ("aes-cbc-plain64", 16), ("aes-cbc-plain", 32)],
)
@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha512"])
def test_luks1_reads_as_its_plain_text(cipher: str, key_bytes: int, hash_name: str) -> None:
    made = Luks1(cipher=cipher, key=bytes(range(key_bytes)), hash=hash_name, slot=5)
    assert_reads_as(luks.open_volume(BytesSource(made.build()), [RIGHT]), made.plain)


def test_a_tweak_moves_the_numbers_of_sectors() -> None:
    made = Luks2(iv_tweak=(1 << 40) + 8)
    assert_reads_as(luks.open_volume(BytesSource(made.build()), [RIGHT]), made.plain)


def test_a_segment_may_end_before_the_volume() -> None:
    made = Luks2(changes={"segments.0.size": "4096"})
    assert_reads_as(luks.open_volume(BytesSource(made.build()), [RIGHT]), made.plain[:4096])


def test_a_largest_read_within_sectors_is_whole() -> None:
    class Zeros:
        size_bytes = MAX_READ_BYTES + 8192

        def read(self, offset: int, length: int) -> bytes:
            assert length <= MAX_READ_BYTES
            return bytes(length)

    class Nothing:
        def decrypt(self, number: int, data: bytes) -> bytes:
            return data

    segment = Segment(0, None, "", 4096)
    source = LuksSource(Zeros(), segment, Zeros.size_bytes, Nothing(), "luks")
    assert len(source.read(100, MAX_READ_BYTES)) == MAX_READ_BYTES
    assert source.read(Zeros.size_bytes, 0) == b""
    with pytest.raises(InputError, match="beyond its end"):
        source.read(Zeros.size_bytes - 1, 2)


def test_a_wrong_key_is_told_with_the_keyslots_that_were_tried() -> None:
    made = Luks2(
        changes={"keyslots.1": Luks2().metadata()["keyslots"]["0"], "digests.0.keyslots": ["0", "1"]}
    )
    with pytest.raises(unlock.WrongKeyError, match=r"the key given does not open it \(2 keyslots tried\)"):
        luks.open_volume(BytesSource(made.build()), [Key("vda2", b"wrong")])
    with pytest.raises(unlock.WrongKeyError, match=r"none of the 2 keys given opens it \(1 keyslot tried\)"):
        luks.open_volume(BytesSource(Luks1().build()), [Key("vda2", b"wrong"), Key("*", b"too")])


def test_a_key_that_the_digest_does_not_prove_never_gives_noise() -> None:
    """The attack: a header whose keyslot yields another key, so that a reader would decrypt to anything."""
    made = Luks2(changes={"digests.0.digest": "A" * 43 + "="})
    with pytest.raises(InputError, match="does not open it"):
        luks.open_volume(BytesSource(made.build()), [RIGHT])
    with pytest.raises(InputError, match="does not open it"):
        luks.open_volume(BytesSource(made.build()), [Key("vda2", bytes(range(64)), Secret.VOLUME_KEY)])


def test_a_volumes_own_key_opens_without_a_derivation() -> None:
    made = Luks2(changes={"keyslots.0.kdf.type": "not known"})
    own = Key("vda2", made.key, Secret.VOLUME_KEY)
    assert luks.open_volume(BytesSource(made.build()), [own]).read(0, 64) == made.plain[:64]


def test_slots_are_tried_by_priority() -> None:
    slot = Luks2().metadata()["keyslots"]["0"]
    changes = {"keyslots.1": {**slot, "priority": 2}, "keyslots.2": {**slot, "priority": 0}}
    made = Luks2(changes={**changes, "digests.0.keyslots": ["2", "0", "1"]})
    found = luks.read_header(BytesSource(made.build()))
    assert [each.name for each in found.keyslots] == ["1", "0", "2"]


# Which key for which volume


def test_keys_are_chosen_by_name_uuid_label_or_for_any() -> None:
    given = [Key(ANY, b"any"), Key("VAULT", b"label"), Key("vda2", b"name"), Key("vdb", b"other")]
    keys = Keys(given)
    assert [key.secret for key in keys.candidates(("vda2", "vault"))] == [b"label", b"name", b"any"]
    assert [key.secret for key in keys.candidates(("", ""))] == [b"any"]
    assert keys.names == (ANY, "VAULT", "vda2", "vdb")


def test_at_most_eight_keys_are_tried_on_one_volume() -> None:
    keys = Keys([Key("vda2", bytes([number])) for number in range(20)])
    assert len(keys.candidates(("vda2",))) == MAX_KEYS


def test_what_was_opened_and_what_was_not_is_kept_for_the_next_job() -> None:
    made = Luks2()
    source = BytesSource(made.build())
    header = luks.read_header(source)
    keys = Keys([RIGHT])
    assert luks.unlocked(source, header, ("vda2",), keys) == made.key
    assert keys.opened == [("vda2", made.key)]
    wrong = Keys([Key("vda2", b"wrong")])
    with pytest.raises(InputError):
        luks.unlocked(source, header, ("vda2",), wrong)
    later = Keys([], wrong.refusals)
    with pytest.raises(UnsupportedError, match="does not open it"):
        luks.unlocked(source, header, ("vda2",), later)


def test_without_a_key_the_cure_names_the_volume_and_the_keys_that_were_given() -> None:
    source = BytesSource(Luks1().build())
    header = luks.read_header(source)
    with pytest.raises(UnsupportedError, match=r"no key was given for it \(1 keyslot\).*--key vda2=FILE"):
        luks.unlocked(source, header, ("vda2",), Keys())
    with pytest.raises(UnsupportedError, match="the keys given are for vdb1"):
        luks.unlocked(source, header, ("vda2",), Keys([Key("vdb1", b"x")]))


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (b"secret", (b"secret",)),
        (b"secret\n", (b"secret", b"secret\n")),
        (b"secret\r\n", (b"secret", b"secret\r\n")),
        (b"two\nlines\n", (b"two\nlines\n",)),
        (b"\n", (b"\n",)),
    ],
)
def test_a_line_of_text_is_tried_without_its_line_feed_first(
    content: bytes, meant: tuple[bytes, ...]
) -> None:
    assert passphrases(content) == meant


def test_a_key_file_from_echo_opens_the_volume() -> None:
    made = Luks2()
    volume = luks.open_volume(BytesSource(made.build()), [Key("vda2", PASSPHRASE + b"\n")])
    assert volume.read(0, 16) == made.plain[:16]


def test_no_text_shows_a_key() -> None:
    keys = Keys([RIGHT])
    texts = [repr(RIGHT), repr([RIGHT]), repr(keys), str(RIGHT), f"{keys}"]
    with pytest.raises(InputError) as told:
        luks.open_volume(BytesSource(Luks2().build()), [Key("vda2", b"hunter2-wrong")])
    texts.append(str(told.value))
    assert not any("hunter2" in text or "correct horse" in text for text in texts)
    assert repr(RIGHT) == "Key(for 'vda2')"
