"""A session's secrets: X25519, HKDF-SHA256, and sealing with what Python's standard library has.

Freshness rests on the host's key and nonce alone: a guest that was just resumed draws what it drew before.
Within a session a guest may be put back and seal the same number again with another text, so that the stream
must not hang on key and number alone, or the two texts' difference would be readable. Here the tag is made of
the text first and the stream hangs on the tag (a synthetic initialization vector, after RFC 5297): the same
number with another text has another stream, and the same number with the same text is the same frame.

    tag    = HMAC-SHA256(mac key, associated data | number | text), its first 16 bytes
    cipher = text XOR SHAKE-256(stream key | number | tag)

Sources: RFC 7748, RFC 5869, RFC 2104, FIPS 202; the order of tag and stream: P. Rogaway, T. Shrimpton,
"Deterministic Authenticated-Encryption", EUROCRYPT 2006.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from undercroft.errors import InputError

NONCE_BYTES = 16
KEY_BYTES = 32
TAG_BYTES = 16
LABEL = b"undercroft channel 1"
CONFIRM_LABEL = b"undercroft confirm 1"
Random = Callable[[int], bytes]


class TagError(InputError):
    """A sealed frame was not made with this key: of another session, or altered."""


@dataclass(frozen=True, slots=True)
class Direction:
    """The two keys of what one side sends. `repr` shows neither."""

    mac_key: bytes = field(repr=False)
    stream_key: bytes = field(repr=False)

    def seal(self, associated: bytes, number: int, text: bytes) -> bytes:
        """Return tag and cipher text of a text. `associated` is of one length for all that this key seals."""
        counted = number.to_bytes(8, "big")
        tag = hmac.digest(self.mac_key, associated + counted + text, "sha256")[:TAG_BYTES]
        return tag + self._cross(counted + tag, text)

    def open(self, associated: bytes, number: int, untrusted_sealed: bytes) -> bytes:
        """Return the text of what `seal` made with the same arguments. Raises TagError for all else."""
        if len(untrusted_sealed) < TAG_BYTES:
            raise TagError(f"{len(untrusted_sealed)} sealed bytes have no tag")
        tag, cipher = untrusted_sealed[:TAG_BYTES], untrusted_sealed[TAG_BYTES:]
        counted = number.to_bytes(8, "big")
        text = self._cross(counted + tag, cipher)
        whole = hmac.digest(self.mac_key, associated + counted + text, "sha256")
        if not hmac.compare_digest(whole[:TAG_BYTES], tag):
            raise TagError(f"the tag of the sealed frame {number} is not of this session's key")
        return text

    def _cross(self, start: bytes, text: bytes) -> bytes:
        size = len(text)
        stream = hashlib.shake_256(self.stream_key + start).digest(size)
        return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one session, for both directions, and the one that signs the guest's answer."""

    from_host: Direction
    from_guest: Direction
    answer_key: bytes = field(repr=False)

    def answer_tag(self, transcript: bytes) -> bytes:
        """Return the tag, 16 bytes, with which the guest shows that its answer is whole and its own."""
        return hmac.digest(self.answer_key, transcript, "sha256")[:TAG_BYTES]


class KeyPair:
    """The host's X25519 pair of one session."""

    def __init__(self, random: Random) -> None:
        self._private = X25519PrivateKey.from_private_bytes(random(KEY_BYTES))
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, untrusted_public: bytes) -> bytes:
        """Return the secret, 32 bytes, that is shared with the holder of a public key.

        Raises InputError for a key of another size, and for one of those that make the secret zero
        whatever the host's key is (RFC 7748, section 6.1).
        """
        if len(untrusted_public) != KEY_BYTES:
            raise InputError(f"a public key of {len(untrusted_public)} bytes is none: it has {KEY_BYTES}")
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(untrusted_public))
        except ValueError as error:
            raise InputError("the guest's public key is of small order: no secret comes of it") from error


def hkdf(secret: bytes, salt: bytes, info: bytes, size_bytes: int) -> bytes:
    """Return `size_bytes` bytes of HKDF-SHA256 (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=size_bytes, salt=salt, info=info).derive(secret)


def derive(secret: bytes, nonces: bytes, machine: bytes, eid: bytes, transcript: bytes) -> Keys:
    """Return a session's keys.

    Args:
        secret: what X25519 gave, 32 bytes.
        nonces: the host's nonce and the guest's, 16 bytes each.
        machine: the machine's UUID, 16 bytes.
        eid: the execution's id, 16 bytes.
        transcript: SHA-256 over the frames of the handshake (`frames.transcript`), so that who does not know
            what was said has other keys.
    """
    made = hkdf(secret, nonces, LABEL + machine + eid + transcript, 160)
    parts = [made[at : at + KEY_BYTES] for at in range(0, 160, KEY_BYTES)]
    return Keys(Direction(parts[0], parts[1]), Direction(parts[2], parts[3]), parts[4])


def confirmation(seed: bytes, machine: bytes, eid: bytes, generation: int) -> bytes:
    """Return the tag, 32 bytes, that only who has this seed can make for this execution and generation."""
    info = CONFIRM_LABEL + machine + eid + generation.to_bytes(8, "big")
    return hmac.digest(hkdf(seed, b"", info, KEY_BYTES), info, "sha256")
