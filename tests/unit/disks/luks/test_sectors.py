"""Decryption of many sectors at once, against one cipher context for each."""

import struct
from random import Random

import pytest
from luksmaker import encrypted

from undercroft.disks.luks.sectors import BATCH_SECTORS, FEW_SECTORS, expand_tweaks, open_cipher
from undercroft.errors import InputError, UnsupportedError

CIPHERS = (
    ("aes-xts-plain64", 64),
    ("aes-xts-plain64", 32),
    ("aes-xts-plain", 64),
    ("aes-cbc-essiv:sha256", 32),
    ("aes-cbc-essiv:sha256", 16),
    ("aes-cbc-plain64", 24),
    ("aes-cbc-plain", 32),
)


@pytest.mark.parametrize(("cipher", "key_bytes"), CIPHERS)
@pytest.mark.parametrize("sector_bytes", [512, 1024, 2048, 4096])
def test_any_run_of_sectors_reads_as_one_context_for_each_would(
    cipher: str, key_bytes: int, sector_bytes: int
) -> None:
    random = Random(key_bytes + sector_bytes)
    key = random.randbytes(key_bytes)
    opened = open_cipher(cipher, key, sector_bytes)
    counts = (0, 1, 2, FEW_SECTORS, FEW_SECTORS + 1, BATCH_SECTORS, BATCH_SECTORS + 3)
    for count in counts if sector_bytes == 512 else counts[:3]:
        plain = random.randbytes(count * sector_bytes)
        for first in (0, 8, (1 << 32) - 8, 1 << 40):
            assert opened.decrypt(first, encrypted(cipher, key, plain, sector_bytes, first)) == plain


def test_numbers_beyond_64_bits_wrap_as_the_kernels_do() -> None:
    key = bytes(range(64))
    data = bytes(512 * (FEW_SECTORS + 4))
    last = (1 << 64) - 2
    assert open_cipher("aes-xts-plain64", key).decrypt(last, data) == b"".join(
        open_cipher("aes-xts-plain64", key).decrypt((last + number) % (1 << 64), data[:512])
        for number in range(FEW_SECTORS + 4)
    )


def test_tweaks_are_multiplied_in_the_field_of_xts() -> None:
    """The bit that falls out comes back as 0x87, in each lane for itself (IEEE 1619, 5.2)."""
    highest, one = 1 << 127, 1
    tweaks = expand_tweaks(highest.to_bytes(16, "little") + one.to_bytes(16, "little"))
    lanes = [int.from_bytes(tweaks[at : at + 16], "little") for at in range(0, len(tweaks), 16)]
    assert lanes[:4] == [1 << 127, 0x87, 0x87 << 1, 0x87 << 2]
    assert lanes[32:36] == [1, 2, 4, 8]


def test_the_vector_of_the_standard() -> None:
    """IEEE 1619-2007, appendix B, vector 2: keys 1111.. and 2222.., unit 0x3333333333, 32 bytes of 44."""
    key = b"\x11" * 16 + b"\x22" * 16
    cipher = open_cipher("aes-xts-plain64", key)
    number = 0x3333333333
    expected = bytes.fromhex("c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0")
    # The standard's unit has 32 bytes: the first two blocks of a sector whose other blocks do not matter.
    for count in (1, FEW_SECTORS + 1):
        assert cipher.decrypt(number, (expected + bytes(480)) * count)[:32] == b"\x44" * 32


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("serpent-xts-plain64", "serpent-xts-plain64"),
        ("twofish-cbc-essiv:sha256", "twofish"),
        ("aes-ecb", "aes-ecb"),
        ("aes-xts-benbi", "only with plain64"),
        ("aes-cbc-essiv:md5", "only with plain64"),
        ("cipher_null-ecb", "cipher_null"),
        ("", "''"),
        ("x" * 64, "x" * 40),
    ],
)
def test_other_ciphers_are_refused_by_name(name: str, told: str) -> None:
    with pytest.raises(UnsupportedError, match=told):
        open_cipher(name, bytes(64))


@pytest.mark.parametrize(("name", "size"), [("aes-xts-plain64", 48), ("aes-cbc-plain64", 64)])
def test_a_key_of_another_length_is_refused(name: str, size: int) -> None:
    with pytest.raises(InputError, match=f"a key of {size} bytes"):
        open_cipher(name, bytes(size))


def test_the_two_halves_of_a_key_may_be_the_same() -> None:
    """OpenSSL refuses such keys for encryption, and in its FIPS mode; dm-crypt decrypts with them."""
    data = struct.pack("<QQ", 1, 2) * 32
    assert len(open_cipher("aes-xts-plain64", bytes(64)).decrypt(0, data * (FEW_SECTORS + 1))) > 0
