"""LUKS volumes made by hand, field by field, so that any of them can be wrong; small, and quick to open.

Written from the specifications and not from the reader: sectors are encrypted one by one, keys are split by a
splitter of its own. `test_luks_oracles` shows that cryptsetup takes what is made here for what it is.
"""

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from random import Random
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB, XTS
from cryptography.hazmat.primitives.kdf.argon2 import Argon2i, Argon2id

PASSPHRASE = b"correct horse 7f3a9c"
STRIPES = 4
SALT = bytes(range(32))
HEADER_BYTES = 0x4000
PAGE_BYTES = 4096


def encrypted(cipher: str, key: bytes, plain: bytes, sector_bytes: int = 512, first: int = 0) -> bytes:
    """Return `plain` encrypted sector by sector as dm-crypt does; `first` counts in units of 512 bytes."""
    _, mode, vectors = cipher.split("-", 2)
    pieces = []
    for start in range(0, len(plain), sector_bytes):
        number = first + start // 512
        vector = struct.pack("<QQ", number & (0xFFFFFFFF if vectors == "plain" else (1 << 64) - 1), 0)
        if vectors.startswith("essiv"):
            vector = Cipher(AES(hashlib.sha256(key).digest()), ECB()).encryptor().update(vector)
        made = Cipher(AES(key), XTS(vector) if mode == "xts" else CBC(vector)).encryptor()
        pieces.append(made.update(plain[start : start + sector_bytes]))
    return b"".join(pieces)


def split(key: bytes, stripes: int, hash_name: str) -> bytes:
    """Return the key spread over stripes."""
    random = Random(9)
    pieces = [random.randbytes(len(key)) for _ in range(stripes - 1)]
    state = bytes(len(key))
    for piece in pieces:
        state = _diffused(bytes(a ^ b for a, b in zip(state, piece, strict=True)), hash_name)
    pieces.append(bytes(a ^ b for a, b in zip(state, key, strict=True)))
    return b"".join(pieces)


def _diffused(block: bytes, hash_name: str) -> bytes:
    size = hashlib.new(hash_name).digest_size
    return b"".join(
        hashlib.new(hash_name, struct.pack(">I", at // size) + block[at : at + size]).digest()[
            : len(block[at : at + size])
        ]
        for at in range(0, len(block), size)
    )


@dataclass
class Luks1:
    """A LUKS1 volume; every field may be changed before `build`."""

    plain: bytes = bytes(range(256)) * 32
    cipher: str = "aes-xts-plain64"
    hash: str = "sha256"
    key: bytes = bytes(range(64))
    passphrase: bytes = PASSPHRASE
    version: int = 1
    iterations: int = 5
    digest_iterations: int = 3
    stripes: int = STRIPES
    slot: int = 0
    states: dict[int, int] = field(default_factory=dict)
    uuid: bytes = b"0a1b2c3d-0000-4000-8000-00000000cafe"

    def build(self) -> bytes:
        """Return the whole volume."""
        name, mode = self.cipher.split("-", 1)
        area = split(self.key, self.stripes, self.hash)
        area += bytes(-len(area) % PAGE_BYTES)
        payload = PAGE_BYTES + 8 * len(area)
        digest = hashlib.pbkdf2_hmac(self.hash, self.key, SALT, self.digest_iterations, 20)
        head = struct.pack(
            ">6sH32s32s32sII20s32sI40s",
            *(b"LUKS\xba\xbe", self.version, name.encode(), mode.encode(), self.hash.encode()),
            *(payload // 512, len(self.key), digest, SALT, self.digest_iterations, self.uuid),
        )
        for number in range(8):
            state = self.states.get(number, 0x00AC71F3 if number == self.slot else 0x0000DEAD)
            iterations = self.iterations if number == self.slot else 1
            sector = (PAGE_BYTES + number * len(area)) // 512
            head += struct.pack(">II32sII", state, iterations, SALT, sector, self.stripes)
        slot_key = hashlib.pbkdf2_hmac(self.hash, self.passphrase, SALT, self.iterations, len(self.key))
        volume = bytearray(payload)
        volume[: len(head)] = head
        start = PAGE_BYTES + self.slot * len(area)
        volume[start : start + len(area)] = encrypted(self.cipher, slot_key, area)
        return bytes(volume) + encrypted(self.cipher, self.key, self.plain)


@dataclass
class Luks2:
    """A LUKS2 volume; every field may be changed before `build`, and the JSON by `change`."""

    plain: bytes = bytes(range(256)) * 64
    cipher: str = "aes-xts-plain64"
    sector_bytes: int = 512
    key: bytes = bytes(range(64))
    passphrase: bytes = PASSPHRASE
    kdf: dict[str, Any] = field(default_factory=lambda: {"type": "pbkdf2", "hash": "sha256", "iterations": 5})
    sequences: tuple[int, int] = (3, 3)
    iv_tweak: int = 0
    label: bytes = b"vault"
    uuid: bytes = b"0a1b2c3d-0000-4000-8000-00000000beef"
    stripes: int = STRIPES
    changes: dict[str, Any] = field(default_factory=dict)
    json: bytes | None = None

    @property
    def area_bytes(self) -> int:
        """Size of the keyslot's area, in whole pages."""
        return -(-self.stripes * len(self.key) // PAGE_BYTES) * PAGE_BYTES

    @property
    def data_offset(self) -> int:
        """Where the data begins: after both headers and the area."""
        return 2 * HEADER_BYTES + self.area_bytes

    def metadata(self) -> dict[str, Any]:
        """Return the JSON area's object before `changes`."""
        kdf = {**self.kdf, "salt": _b64(SALT)}
        digest = hashlib.pbkdf2_hmac("sha256", self.key, SALT, 3, 32)
        return {
            "keyslots": {
                "0": {
                    "type": "luks2",
                    "key_size": len(self.key),
                    "af": {"type": "luks1", "stripes": self.stripes, "hash": "sha256"},
                    "area": {
                        "type": "raw",
                        "offset": str(2 * HEADER_BYTES),
                        "size": str(self.area_bytes),
                        "encryption": "aes-xts-plain64",
                        "key_size": 64,
                    },
                    "kdf": kdf,
                }
            },
            "tokens": {},
            "segments": {
                "0": {
                    "type": "crypt",
                    "offset": str(self.data_offset),
                    "size": "dynamic",
                    "iv_tweak": str(self.iv_tweak),
                    "encryption": self.cipher,
                    "sector_size": self.sector_bytes,
                }
            },
            "digests": {
                "0": {
                    "type": "pbkdf2",
                    "keyslots": ["0"],
                    "segments": ["0"],
                    "hash": "sha256",
                    "iterations": 3,
                    "salt": _b64(SALT),
                    "digest": _b64(digest),
                }
            },
            "config": {"json_size": str(HEADER_BYTES - 4096), "keyslots_size": str(self.area_bytes)},
        }

    def build(self) -> bytes:
        """Return the whole volume; `changes` has dotted paths ({"segments.0.type": "x"}), None removes."""
        metadata = self.metadata()
        for path, value in self.changes.items():
            *parents, last = path.split(".")
            place = metadata
            for parent in parents:
                place = place.setdefault(parent, {})
            if value is None:
                del place[last]
            else:
                place[last] = value
        text = json.dumps(metadata).encode() if self.json is None else self.json
        volume = bytearray(self.data_offset)
        volume[:HEADER_BYTES] = self.copy(0, text)
        volume[HEADER_BYTES : 2 * HEADER_BYTES] = self.copy(HEADER_BYTES, text)
        area = split(self.key, self.stripes, "sha256")
        area += bytes(-len(area) % 512)
        area = encrypted("aes-xts-plain64", self.slot_key(), area)
        volume[2 * HEADER_BYTES : 2 * HEADER_BYTES + len(area)] = area
        return bytes(volume) + encrypted(
            self.cipher, self.key, self.plain, self.sector_bytes, first=self.iv_tweak
        )

    def copy(self, offset: int, text: bytes) -> bytes:
        """Return one copy of the header with its JSON area."""
        head = bytearray(
            struct.pack(
                ">6sHQQ48s32s64s40s48sQ184s64s",
                b"SKUL\xba\xbe" if offset else b"LUKS\xba\xbe",
                *(2, HEADER_BYTES, self.sequences[bool(offset)], self.label, b"sha256", bytes(64)),
                *(self.uuid, b"", offset, b"", b""),
            )
        )
        head += bytes(4096 - len(head))
        return sealed(bytes(head) + text + bytes(HEADER_BYTES - 4096 - len(text)))

    def slot_key(self) -> bytes:
        """Return the key of the keyslot's area."""
        if self.kdf["type"] == "pbkdf2":
            hash_name, iterations = self.kdf["hash"], self.kdf["iterations"]
            return hashlib.pbkdf2_hmac(hash_name, self.passphrase, SALT, min(iterations, 1000), 64)
        kind = Argon2id if self.kdf["type"] == "argon2id" else Argon2i
        made = kind(
            salt=SALT,
            length=64,
            iterations=min(max(self.kdf["time"], 1), 8),
            lanes=min(self.kdf["cpus"], 4),
            memory_cost=min(self.kdf["memory"], 4096),
        )
        return made.derive(self.passphrase)


def sealed(copy: bytes) -> bytes:
    """Return a copy of a LUKS2 header with the right checksum."""
    digest = hashlib.sha256(copy[:448] + bytes(64) + copy[512:]).digest()
    return copy[:448] + digest.ljust(64, b"\0") + copy[512:]


def resealed(volume: bytes) -> bytes:
    """Return a volume made here with the checksums of both copies put right."""
    return (
        sealed(volume[:HEADER_BYTES])
        + sealed(volume[HEADER_BYTES : 2 * HEADER_BYTES])
        + volume[2 * HEADER_BYTES :]
    )


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
