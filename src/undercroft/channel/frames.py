"""The five kinds of frames: a byte that says which, then what belongs to it (docs/CHANNEL.md, "Frames").

Hello, answer, again and unable are CBOR in plain text: they come before there are keys. Sealed is all the
rest. What a guest wrote is untrusted throughout; parsing raises InputError and nothing else.
"""

import hashlib
from dataclasses import dataclass

from undercroft.channel import cbor
from undercroft.channel.keys import KEY_BYTES, NONCE_BYTES, TAG_BYTES
from undercroft.errors import InputError

VERSION = 1
HELLO, ANSWER, AGAIN, UNABLE, SEALED = 1, 2, 3, 4, 5
ID_BYTES = 16
MAX_SERIAL = (1 << 63) - 1
MAX_VERSIONS = 16
NUMBER_BYTES = 8
SEALED_TYPE = bytes((SEALED,))
REASONS = (
    "its helper has started",
    "a frame of the host's is missing",
    "the host took frames that it has not sent: it was put back",
    "it cannot read what the host sends",
)
"""Why a guest asks to begin again, by the number in its frame."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a guest stands in the last session that it knows.

    Attributes:
        eid: the execution of that session.
        serial: its number, as its hello gave it.
        sent: frames that the guest has sent in it, or was about to.
        taken: frames of the host's that it has taken in it.
    """

    eid: bytes
    serial: int
    sent: int
    taken: int


@dataclass(frozen=True, slots=True)
class Hello:
    """The host begins a session: who the guest is, in which execution, and the host's fresh nonce and key."""

    machine: bytes
    eid: bytes
    serial: int
    nonce: bytes
    key: bytes

    def frame(self) -> bytes:
        """Return the frame that says it."""
        parts: cbor.Value = [[VERSION], self.machine, self.eid, self.serial, self.nonce, self.key]
        return bytes((HELLO,)) + cbor.encode(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """The guest takes part: nothing in it is to be believed before its tag has been checked.

    Attributes:
        echo: the host's nonce, 16 bytes.
        nonce: the guest's, 16 bytes; it may be one that it has drawn before.
        key: the guest's public key, 32 bytes.
        boot: the id of the guest's boot, 16 bytes.
        standing: where it stands in the last session that it knows of this boot; None if in none.
        frozen: it was quiesced, and waits for a seed.
        body: the bytes that the tag covers.
        tag: `Keys.answer_tag` over the transcript.
    """

    echo: bytes
    nonce: bytes
    key: bytes
    boot: bytes
    standing: Standing | None
    frozen: bool
    body: bytes
    tag: bytes


def transcript(hello: bytes, answer_body: bytes) -> bytes:
    """Return SHA-256 over the hello's frame and the answer's body, each with its length before it."""
    told = hashlib.sha256(LABEL_TRANSCRIPT)
    for part in (hello, answer_body):
        told.update(len(part).to_bytes(4, "big") + part)
    return told.digest()


LABEL_TRANSCRIPT = b"undercroft transcript 1"


def read_answer(untrusted_frame: bytes) -> Answer:
    """Return what an answer's frame says: its type, tag, and CBOR body. Raises InputError."""
    tag, body = untrusted_frame[1 : 1 + TAG_BYTES], untrusted_frame[1 + TAG_BYTES :]
    parts = members(cbor.decode(body), 7, "an answer")
    if parts[0] != VERSION:
        raise InputError(f"an answer is in version {parts[0]!r:.40}: the hello offered {VERSION}")
    frozen = parts[6]
    if not isinstance(frozen, bool):
        raise InputError("an answer does not say whether the guest is frozen")
    sizes = (NONCE_BYTES, NONCE_BYTES, KEY_BYTES, ID_BYTES)
    echo, nonce, key, boot = (blob(parts[at + 1], size, "an answer") for at, size in enumerate(sizes))
    return Answer(echo, nonce, key, boot, _standing(parts[5]), frozen, body, tag)


def read_reason(untrusted_frame: bytes) -> str:
    """Return why a guest asks to begin again (type `AGAIN`). Raises InputError."""
    (reason,) = members(cbor.decode(untrusted_frame[1:]), 1, "a wish to begin again")
    return REASONS[number(reason, len(REASONS) - 1, "a reason")]


def read_versions(untrusted_frame: bytes) -> tuple[int, ...]:
    """Return the versions of a guest that is unable to speak any of the hello's. Raises InputError."""
    (listed,) = members(cbor.decode(untrusted_frame[1:]), 1, "a list of versions")
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_VERSIONS:
        raise InputError("a guest that is unable names no versions")
    return tuple(number(each, 0xFFFF, "a version") for each in listed)


def members(untrusted: cbor.Value, count: int, what: str) -> list[cbor.Value]:
    """Return an array's members. Raises InputError for another value and another count."""
    if not isinstance(untrusted, list) or len(untrusted) != count:
        raise InputError(f"{what} is an array of {count} members: another value was found")
    return untrusted


def blob(untrusted: cbor.Value, size: int, what: str) -> bytes:
    """Return a byte string of exactly `size` bytes. Raises InputError for all else."""
    if not isinstance(untrusted, bytes) or len(untrusted) != size:
        raise InputError(f"{what} has something else where {size} bytes belong")
    return untrusted


def number(untrusted: cbor.Value, most: int, what: str, least: int = 0) -> int:
    """Return a whole number from `least` to `most`. Raises InputError for all else."""
    if type(untrusted) is not int or not least <= untrusted <= most:
        raise InputError(f"{what} is a number from {least} to {most}: something else was found")
    return untrusted


def _standing(untrusted: cbor.Value) -> Standing | None:
    if untrusted is None:
        return None
    parts = members(untrusted, 4, "a standing")
    serial, sent, taken = (number(each, MAX_SERIAL, "a standing's count") for each in parts[1:])
    return Standing(blob(parts[0], ID_BYTES, "a standing"), serial, sent, taken)
