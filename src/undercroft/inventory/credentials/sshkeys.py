"""SSH's key files: lines of public keys, and the public half of a private key.

Guarantees: the parsers return or raise `InputError`; no secret part of a private key is looked at.
Follows sshd(8), "AUTHORIZED_KEYS FILE FORMAT", RFC 4253 section 6.6 for the blobs, and OpenSSH's
PROTOCOL.key. Fingerprints are those of `ssh-keygen -l`.

    >>> parse_key_line(b'from="10.0.0.0/8" ssh-ed25519 AAAA... alice@laptop')
    PublicKey(kind='ssh-ed25519', fingerprint='SHA256:...', comment='alice@laptop', signs=False)
"""

import binascii
import hashlib
import re
from dataclasses import dataclass

from undercroft.disks.text import text
from undercroft.errors import InputError

MAX_LINE_BYTES = 64 << 10
"""sshd itself reads lines up to 8 KiB and a key in them up to 16 KiB of base64."""

MAX_COMMENT_CHARS = 200
PRIVATE_KEY = re.compile(rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----")

_KIND = re.compile(rb"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9-]{1,40}(?:@openssh\.com)?")
_OPENSSH = re.compile(
    rb"-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END OPENSSH PRIVATE KEY-----"
)
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_FIELDS_BEFORE_KEYS = 3
"""Cipher, key derivation function and its options."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key. `signs`: it stands for every key that it has signed (`cert-authority`)."""

    kind: str
    fingerprint: str
    comment: str
    signs: bool = False


def parse_key_line(untrusted_line: bytes) -> PublicKey | None:
    """Return the key of one line of an authorized_keys or .pub file, None for blanks and comments.

    Raises:
        InputError: it is no such line.
    """
    line = untrusted_line.strip()
    if not line or line.startswith(b"#"):
        return None
    if len(line) > MAX_LINE_BYTES:
        raise InputError(f"a line of {len(line)} bytes, the limit is {MAX_LINE_BYTES}")
    options = b""
    if not _KIND.fullmatch(line.split(None, 1)[0]):
        options, line = _split_options(line)
    kind, _, rest = line.partition(b" ")
    encoded, _, comment = rest.strip().partition(b" ")
    if not _KIND.fullmatch(kind) or not encoded:
        raise InputError("it names no kind of key that is known, or no key after it")
    signs = b"cert-authority" in options.lower().split(b",")
    return _public_key(_decoded(encoded), kind, text(comment.strip())[:MAX_COMMENT_CHARS], signs=signs)


def public_half(untrusted: bytes) -> PublicKey | None:
    """Return the public key inside a private key in OpenSSH's own format, None for other formats.

    Raises:
        InputError: it begins as such a key and is malformed.
    """
    armour = _OPENSSH.search(untrusted)
    if armour is None:
        return None
    data = _decoded(b"".join(armour[1].split()))
    if not data.startswith(_OPENSSH_MAGIC):
        raise InputError("it bears the name of OpenSSH's key format and not its magic")
    offset = len(_OPENSSH_MAGIC)
    for _field in range(_FIELDS_BEFORE_KEYS):
        _, offset = _string(data, offset)
    if data[offset : offset + 4] != b"\0\0\0\1":
        raise InputError("it does not hold exactly one key")
    blob, _ = _string(data, offset + 4)
    kind, _ = _string(blob, 0)
    return _public_key(blob, kind, "")


def _public_key(blob: bytes, kind: bytes, comment: str, *, signs: bool = False) -> PublicKey:
    named, _ = _string(blob, 0)
    if named != kind or not _KIND.fullmatch(kind):
        raise InputError("the key is not of the kind that stands before it")
    digest = binascii.b2a_base64(hashlib.sha256(blob).digest(), newline=False).rstrip(b"=")
    return PublicKey(kind.decode("ascii"), "SHA256:" + digest.decode("ascii"), comment, signs)


def _split_options(line: bytes) -> tuple[bytes, bytes]:
    """Cut a line at the first blank outside of double quotes; a backslash takes a quote its meaning."""
    is_quoted = False
    position = 0
    while position < len(line):
        byte = line[position : position + 1]
        if byte == b"\\" and line[position + 1 : position + 2] == b'"':
            position += 1
        elif byte == b'"':
            is_quoted = not is_quoted
        elif byte in b" \t" and not is_quoted:
            break
        position += 1
    return line[:position], line[position:].strip()


def _decoded(encoded: bytes) -> bytes:
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error as error:
        raise InputError(f"its key is no base64: {error}") from error


def _string(data: bytes, offset: int) -> tuple[bytes, int]:
    """Return the string of RFC 4251 at `offset`, and where it ends."""
    length = int.from_bytes(data[offset : offset + 4], "big")
    start = offset + 4
    if start > len(data) or length > len(data) - start:
        raise InputError("a field of its key is longer than the key")
    return data[start : start + length], start + length
