"""What vaults keep secret on their disk: sealed blobs and signing keys, encrypted under one key of the host.

AES-256-GCM (NIST SP 800-38D). Each content has a key of its own, HMAC-SHA256 over 24 random bytes, machine
and name under a key that HKDF-SHA256 (RFC 5869) makes of the host's: random nonces of 96 bits under one key
are for 2^32 contents at the most (SP 800-38D, section 8.3), which a guest may seal in days. What is encrypted
is bound to its machine and its name. The digests that the core compares are HMACs, bound alike: one who reads
the disk can neither try contents out nor see which are equal.

Signing keys are made here and never leave: Ed25519 (RFC 8032), and ECDSA over P-256 (FIPS 186-5), whose
nonces come from the host's generator, which no guest's snapshot rewinds.
"""

import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from undercroft.errors import DamagedError, InputError

KEY_BYTES = 32
ED25519, ECDSA_P256 = 1, 2
_SALT_BYTES = 24
_NONCE = bytes(12)

SigningKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def log_key(host_key: bytes) -> bytes:
    """Return the key of the log's heads."""
    return _derived(host_key, b"log")


class Keeping:
    """Encrypts and decrypts under the host's key."""

    def __init__(self, host_key: bytes, random: Callable[[int], bytes]) -> None:
        """Take the host's key, of `KEY_BYTES`, and the host's random generator."""
        self._content_key = _derived(host_key, b"contents")
        self._digest_key = _derived(host_key, b"digests")
        self._random = random

    def digest(self, content: bytes, machine: bytes, name: bytes) -> bytes:
        """Return 32 bytes that stand for a content there, and say nothing of it to who has no key."""
        owner = machine + bytes((len(name),)) + name
        return hmac.digest(self._digest_key, owner + content, "sha256")

    def encrypt(self, content: bytes, machine: bytes, name: bytes) -> bytes:
        """Return a content as it goes to the disk."""
        salt = self._random(_SALT_BYTES)
        return salt + self._cipher(salt, machine, name).encrypt(_NONCE, content, None)

    def decrypt(self, kept: bytes, machine: bytes, name: bytes) -> bytes:
        """Return the content of what was kept. Raises DamagedError for what is of another machine or name."""
        try:
            cipher = self._cipher(kept[:_SALT_BYTES], machine, name)
            return cipher.decrypt(_NONCE, kept[_SALT_BYTES:], None)
        except InvalidTag as error:
            raise DamagedError(f"what is kept for {name!r:.60} is damaged, or of another key") from error

    def _cipher(self, salt: bytes, machine: bytes, name: bytes) -> AESGCM:
        """The cipher of one content: its key is used once, so that its nonce may be any."""
        return AESGCM(hmac.digest(self._content_key, salt + machine + name, "sha256"))


def new_secret(kind: int, random: Callable[[int], bytes]) -> bytes:
    """Return the secret of a new signing key of a kind. Raises InputError for an unknown kind."""
    if kind == ED25519:
        return random(KEY_BYTES)
    if kind == ECDSA_P256:
        scalar = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        return scalar.to_bytes(KEY_BYTES, "big")
    raise InputError(f"there is no kind {kind} of signing key")


def signing_key(kind: int, secret: bytes) -> SigningKey:
    """Return the key of a secret that `new_secret` made."""
    if kind == ED25519:
        return ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())


def sign(key: SigningKey, digest: bytes) -> bytes:
    """Return a signature of a SHA-256.

    Ed25519 signs the 32 bytes as its message, and has 64 bytes. ECDSA takes them as the digest of a message,
    and answers in DER.
    """
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(digest)
    return key.sign(digest, ec.ECDSA(Prehashed(SHA256())))


def public(key: SigningKey) -> bytes:
    """Return the public key in DER (SubjectPublicKeyInfo, RFC 5280), which names its kind."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _derived(host_key: bytes, purpose: bytes) -> bytes:
    if len(host_key) != KEY_BYTES:
        raise InputError(f"the host's key has {KEY_BYTES} bytes: {len(host_key)} were found")
    return HKDF(SHA256(), KEY_BYTES, None, b"undercroft vault 1 " + purpose).derive(host_key)
