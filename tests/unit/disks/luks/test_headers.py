"""Headers of LUKS1 and LUKS2: what counts, what is refused by name, what a hostile one may not ask for."""

import json
import struct
from typing import Any

import pytest
from luksmaker import HEADER_BYTES, PASSPHRASE, Luks1, Luks2, resealed

from undercroft.disks import luks
from undercroft.disks.keys import Key
from undercroft.disks.luks import layout
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UnsupportedError

KEYS = [Key("*", PASSPHRASE)]


def header(volume: bytes) -> luks.Header:
    return luks.read_header(BytesSource(volume))


def refused(volume: bytes, told: str, kind: type[InputError] = InputError) -> None:
    with pytest.raises(kind, match=told):
        luks.open_volume(BytesSource(volume), KEYS)


def test_the_header_says_whose_it_is() -> None:
    found = header(Luks2().build())
    assert (found.version, found.uuid, found.label) == (2, "0a1b2c3d-0000-4000-8000-00000000beef", "vault")
    assert header(Luks1().build()).uuid == "0a1b2c3d-0000-4000-8000-00000000cafe"


# Two copies


def test_the_newer_copy_counts() -> None:
    """cryptsetup writes the second copy last: a host that died between them leaves two states."""
    made = Luks2(sequences=(3, 4))
    older = Luks2(sequences=(3, 4), changes={"segments.0.encryption": "serpent-xts-plain64"}).build()
    newer = made.build()
    volume = older[:HEADER_BYTES] + newer[HEADER_BYTES:]
    assert luks.open_volume(BytesSource(volume), KEYS).read(0, 512) == made.plain[:512]
    turned = newer[:HEADER_BYTES] + older[HEADER_BYTES : 2 * HEADER_BYTES] + newer[2 * HEADER_BYTES :]
    refused(turned, "serpent", UnsupportedError)


@pytest.mark.parametrize("place", [0, 6, 20, 200, 450, 4096, 5000])
def test_a_damaged_first_copy_is_replaced_and_told(place: int) -> None:
    made = Luks2()
    volume = bytearray(made.build())
    volume[place] ^= 1
    found = header(bytes(volume)) if place > 7 else luks.luks2.read_header(BytesSource(bytes(volume)))
    assert "the first LUKS2 header is damaged" in found.notes[0]
    assert found.segment.offset == header(made.build()).segment.offset


def test_a_damaged_second_copy_is_told() -> None:
    volume = bytearray(Luks2().build())
    volume[HEADER_BYTES + 5000] ^= 1
    assert header(bytes(volume)).notes == ("the second LUKS2 header is damaged; the first one was used",)


def test_with_both_copies_damaged_nothing_is_believed() -> None:
    volume = bytearray(Luks2().build())
    volume[5000] ^= 1
    volume[HEADER_BYTES + 5000] ^= 1
    refused(bytes(volume), "checksum is wrong")


def test_a_copy_elsewhere_than_it_says_is_no_copy() -> None:
    """A second header that a guest put into a file must not be taken for the volume's own."""
    volume = bytearray(Luks2().build())
    struct.pack_into(">Q", volume, 256, 512)
    volume[HEADER_BYTES : 2 * HEADER_BYTES] = bytes(HEADER_BYTES)
    refused(resealed(bytes(volume)), "lies at 512")


@pytest.mark.parametrize("size", [0, 512, 4096, 0x4001, 0x800000, (1 << 64) - 1])
def test_a_header_of_another_size_is_out_of_range(size: int) -> None:
    volume = bytearray(Luks2().build())
    for at in (0, HEADER_BYTES):
        struct.pack_into(">Q", volume, at + 8, size)
    refused(resealed(bytes(volume)), "out of range|neither copy")


# What is not read


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config.requirements": {"mandatory": ["online-reencrypt-v2"]}}, "a reencryption is in progress"),
        ({"config.requirements": {"mandatory": ["offline-reencrypt"]}}, "a reencryption is in progress"),
        ({"config.requirements": {"mandatory": ["inline-hw-tags"]}}, "inline-hw-tags"),
        ({"segments.0.integrity": {"type": "hmac(sha256)"}}, "authenticated encryption"),
        ({"segments.0.type": "linear"}, "'linear'"),
        ({"segments.0.type": "hw-opal-crypt"}, "'hw-opal-crypt'"),
        ({"segments.1": {"type": "crypt"}}, "2 segments"),
        ({"segments.0.offset": "0"}, "detached header"),
        ({"segments.0.encryption": "serpent-xts-plain64"}, "serpent-xts-plain64"),
        ({"segments.0.encryption": "aes-xts-plain64be"}, "aes-xts-plain64be"),
        ({"digests.0.type": "sha3"}, "'sha3'"),
        ({"digests.0.hash": "whirlpool"}, "'whirlpool'"),
    ],
)
def test_what_is_not_read_is_refused_by_name(changes: dict[str, Any], told: str) -> None:
    refused(Luks2(changes=changes).build(), told, UnsupportedError)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"keyslots.0.kdf.type": "scrypt"}, "'scrypt'"),
        ({"keyslots.0.type": "reencrypt"}, "'reencrypt'"),
        ({"keyslots.0.area.type": "journal"}, "'journal'"),
        ({"keyslots.0.af.hash": "ripemd160"}, "'ripemd160'"),
        ({"keyslots.0.area.encryption": "twofish-xts-plain64"}, "twofish"),
    ],
)
def test_a_keyslot_that_is_not_read_is_told_where_no_other_opens(changes: dict[str, Any], told: str) -> None:
    refused(Luks2(changes=changes).build(), told)


def test_another_keyslot_opens_in_spite_of_one_that_is_not_read() -> None:
    made = Luks2()
    strange = {"type": "luks9"}
    made.changes = {"keyslots.5": strange, "digests.0.keyslots": ["5", "0", "7"]}
    assert luks.open_volume(BytesSource(made.build()), KEYS).read(0, 99) == made.plain[:99]


def test_versions_beyond_two_are_refused_by_name() -> None:
    refused(Luks1(version=3).build(), "luks3", UnsupportedError)


def test_tokens_are_ignored() -> None:
    made = Luks2(changes={"tokens.0": {"type": "systemd-tpm2", "keyslots": ["0"], "x": [1] * 99}})
    assert luks.open_volume(BytesSource(made.build()), KEYS).size_bytes == len(made.plain)


# What a header may ask for


@pytest.mark.parametrize(
    ("kdf", "told"),
    [
        ({"type": "argon2id", "time": 1, "memory": (1 << 20) + 1, "cpus": 1}, "memory in KiB of 1048577"),
        ({"type": "argon2id", "time": 65, "memory": 64, "cpus": 1}, "a number of passes of 65"),
        ({"type": "argon2i", "time": 1, "memory": 1024, "cpus": 17}, "a number of threads of 17"),
        ({"type": "argon2id", "time": 0, "memory": 64, "cpus": 1}, "a number of passes of 0"),
        ({"type": "pbkdf2", "hash": "sha256", "iterations": 64_000_001}, "a number of iterations"),
        ({"type": "pbkdf2", "hash": "sha256", "iterations": 1 << 62}, "a number of iterations"),
    ],
)
def test_a_derivation_over_the_limits_is_refused(kdf: dict[str, Any], told: str) -> None:
    refused(Luks2(kdf=kdf).build(), told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"keyslots.0.af.stripes": 1 << 30}, "a number of stripes"),
        ({"keyslots.0.key_size": 1 << 30}, "a key's length"),
        ({"keyslots.0.area.offset": str(1 << 61)}, "beyond the end"),
        ({"keyslots.0.area.offset": "-1"}, "no number in a string"),
        ({"segments.0.offset": str(1 << 61)}, "beyond the end"),
        ({"segments.0.size": str(1 << 40)}, "beyond the end"),
        ({"segments.0.size": 4096}, "no number in a string"),
        ({"segments.0.size": "700"}, "no multiple"),
        ({"segments.0.sector_size": 513}, "a sector of 513"),
        ({"segments.0.sector_size": True}, "no number"),
        ({"segments.0.iv_tweak": "x"}, "no number in a string"),
        ({"segments.0.encryption": "a" * 65}, "no short text"),
        ({"digests.0.digest": "!"}, "no base64"),
        ({"digests.0.digest": "AAAA"}, "a digest's length"),
        ({"digests.0.salt": "A" * 4000}, "no short base64"),
        ({"digests.0.keyslots": [["0"]]}, "other than names"),
        ({"digests.0.segments": ["1"]}, "no digest proves"),
        ({"digests": []}, "no object"),
        ({"config": 5}, "no object"),
        ({"keyslots": {str(number): {} for number in range(40)}}, "a number of keyslots"),
    ],
)
def test_metadata_that_cannot_be_is_refused(changes: dict[str, Any], told: str) -> None:
    refused(Luks2(changes=changes).build(), told)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 12_000,
        b'{"a":' * 2_000,
        b'{"config":' + b"9" * 9_000 + b"}",
        b"\xff{}",
    ],
)
def test_an_area_that_is_no_such_object_is_refused(text: bytes) -> None:
    refused(Luks2(json=text).build(), "luks2 metadata")


def test_numbers_are_numbers_and_no_floats() -> None:
    text = json.dumps(Luks2().metadata()).replace('"sector_size": 512', '"sector_size": 1e999')
    refused(Luks2(json=text.encode()).build(), "sector_size is no number")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"payload": 0}, "detached header"),
        ({"stripes": 0x4000}, "a number of stripes"),
        ({"states": {0: 0x0000DEAD}}, "0 keyslots tried"),
        ({"states": {0: 5}}, "neither on nor off"),
    ],
)
def test_a_luks1_header_that_cannot_be_is_refused(fields: dict[str, Any], told: str) -> None:
    places = {"stripes": 208 + 44, "payload": 104}
    volume = bytearray(Luks1(states=fields.get("states", {})).build())
    for name in places.keys() & fields.keys():
        struct.pack_into(">I", volume, places[name], fields[name])
    refused(bytes(volume), told)


def test_luks1_key_lengths_and_hashes_are_checked() -> None:
    for place, value, told in (
        (108, struct.pack(">I", 1 << 31), "a key's length"),
        (72, b"whirlpool", "whirl"),
    ):
        volume = bytearray(Luks1().build())
        volume[place : place + len(value)] = value
        refused(bytes(volume), told)


@pytest.mark.parametrize("length", [0, 7, 300, 591, 4095, 0x4000, 0x7000])
def test_a_volume_that_ends_early_is_refused(length: int) -> None:
    for volume in (Luks1().build(), Luks2().build()):
        if length < len(volume):
            with pytest.raises(InputError):
                luks.open_volume(BytesSource(volume[:length]), KEYS)


def test_the_json_area_has_a_limit() -> None:
    assert layout.MAX_JSON_BYTES < 4 << 20
