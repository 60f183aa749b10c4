"""Binary layout of LUKS1 and LUKS2: structures, offsets and limits; no logic.

Follows "LUKS1 On-Disk Format Specification Version 1.2.3" and "LUKS2 On-Disk Format Specification Version
1.1.1". All numbers of the binary headers are big-endian. The limits on derivation are Undercroft's own
(ADR 8): whoever writes a disk must not choose how much memory or time the reader spends on it.
"""

from struct import Struct
from typing import Final

MAGIC: Final = b"LUKS\xba\xbe"
MAGIC_SECOND: Final = b"SKUL\xba\xbe"
"""What the second copy of a LUKS2 header begins with."""

VERSION: Final = Struct(">6sH")

SECTOR_BYTES: Final = 512
"""The unit of LUKS1's offsets, of initialization vectors, and of what keyslots are encrypted in."""

HEADER1: Final = Struct(">6sH32s32s32sII20s32sI40s")
"""magic, version, cipher, mode, hash, payload offset in sectors, key bytes, digest, its salt and iterations,
UUID."""

KEYSLOT1: Final = Struct(">II32sII")
"""state, iterations, salt, key material's offset in sectors, stripes; eight of them follow `HEADER1`."""

KEYSLOTS1: Final = 8
KEYSLOT1_ENABLED: Final = 0x00AC71F3
KEYSLOT1_DISABLED: Final = 0x0000DEAD
HEADER1_BYTES: Final = HEADER1.size + KEYSLOTS1 * KEYSLOT1.size
DIGEST1_BYTES: Final = 20

HEADER2: Final = Struct(">6sHQQ48s32s64s40s48sQ184s64s")
"""magic, version, header size, sequence, label, checksum's hash, salt, UUID, subsystem, own offset, padding,
checksum; the JSON area begins at `HEADER2_BYTES`."""

HEADER2_BYTES: Final = 4096
CHECKSUM2_OFFSET: Final = 448
CHECKSUM2_BYTES: Final = 64
SECOND_OFFSETS: Final = (
    0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000,
)  # fmt: skip
"""Where a second header may lie, which is also how large a header with its JSON area may be."""

MAX_JSON_BYTES: Final = SECOND_OFFSETS[-1] - HEADER2_BYTES
MAX_KEYSLOTS2: Final = 32
MAX_DIGESTS2: Final = 32

HASHES: Final = ("sha1", "sha224", "sha256", "sha384", "sha512")
"""Hashes that are read; a header with another one (whirlpool, ripemd160) is refused by name."""

SECTOR_SIZES: Final = (512, 1024, 2048, 4096)

MIN_KEY_BYTES: Final = 16
MAX_KEY_BYTES: Final = 64
MAX_STRIPES: Final = 8192
"""Twice what every known program writes (4000)."""

MAX_SALT_BYTES: Final = 64
MAX_DIGEST_BYTES: Final = 64
MAX_PBKDF2_ITERATIONS: Final = 64_000_000
"""Some 20 s of one processor; cryptsetup's default of 2 s is 1 to 5 million."""

MAX_ARGON2_KIB: Final = 1 << 20
MAX_ARGON2_PASSES: Final = 64
"""With the most memory some 80 s of one processor; cryptsetup's default of 2 s is 4 to 8."""

MAX_ARGON2_LANES: Final = 16
