"""Checksums against the published check values of each polynomial."""

import pytest

from undercroft.disks.ext4.checksum import (
    chain_from_stored,
    check,
    crc16,
    crc32_msb,
    crc32c,
    mirrored_stored,
    stored,
)
from undercroft.errors import InputError

CHECK = b"123456789"


def test_crc16_gives_the_check_value_of_its_polynomial() -> None:
    assert crc16(CHECK) == 0x4B37


def test_crc32_of_highest_bits_first_gives_the_check_value_of_mpeg2() -> None:
    assert mirrored_stored(crc32_msb(CHECK, 0)) == 0x0376E6E7


def test_chains_continue_where_they_stopped() -> None:
    assert mirrored_stored(crc32_msb(CHECK[4:], crc32_msb(CHECK[:4], 0))) == 0x0376E6E7
    assert crc16(CHECK[4:], crc16(CHECK[:4])) == 0x4B37
    assert crc32c(CHECK[4:], chain_from_stored(stored(crc32c(CHECK[:4])))) == 0xE3069283


def test_wrong_checksum_is_named() -> None:
    check(1, 1, "thing")
    with pytest.raises(InputError, match="thing: its checksum is 0x1, its bytes give 0x2"):
        check(1, 2, "thing")
