"""Signed heads: what pins the audit log, when copies of them lie where the log's writer can't reach.

A head says that log L had N entries, the last with digest D. It is signed with Ed25519 (RFC 8032) over the
canonical JSON of the list

    ["undercroft-head-1", log, number, digest, at, key]

so a signature for one purpose is good for no other. `verify_log` finds, against a pinned key and heads:
an edited entry; a missing, doubled or moved one; a tail that was cut off below a head; a chain that was
computed anew from any entry up to the highest head's; a head that was forged, or is of another log or key.

Not detectable, by anybody: entries that were removed or changed after the highest head that lies elsewhere;
and whatever is done by somebody who has the signing key and can replace every copy of the heads. Copies must
therefore leave the host, soon and often.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from undercroft.assurance.auditlog import NO_DIGEST, canonical, check_entry
from undercroft.errors import StateError
from undercroft.model.audit import AuditEntry, SignedHead

_DOMAIN = "undercroft-head-1"


@dataclass(frozen=True, slots=True)
class LogProof:
    """What was verified.

    Attributes:
        log: the log's identity, "" where neither heads nor a caller named it.
        first: number of the first entry, 0 for none.
        last: number of the last entry, 0 for none.
        digest: its digest.
        heads: how many heads were compared with an entry.
        pinned: up to this entry nothing can have been changed since its head was signed, 0 for none.
    """

    log: str
    first: int
    last: int
    digest: str
    heads: int
    pinned: int


def public_key(private: Ed25519PrivateKey) -> str:
    """Return the public key, 32 bytes in hexadecimal."""
    return private.public_key().public_bytes_raw().hex()


def sign_head(private: Ed25519PrivateKey, log: str, number: int, digest: str, at: datetime) -> SignedHead:
    """Return the signed statement that `log` has `number` entries, the last with `digest`."""
    moment, key = at.astimezone(UTC), public_key(private)
    signature = private.sign(_signed_bytes(log, number, digest, moment, key))
    return SignedHead(log, number, digest, moment, key, signature.hex())


def check_head(head: SignedHead, key: str, log: str = "") -> None:
    """Check that a head was signed with `key`, and for `log`.

    Args:
        head: untrusted.
        key: the pinned public key in hexadecimal.
        log: the log's identity, "" for any.

    Raises:
        StateError: it was not.
    """
    name = f"audit head {head.number} of {head.at:%Y-%m-%d %H:%M:%S}"
    if head.key != key:
        raise StateError(f"{name}: signed with the key {head.key}, the pinned one is {key}")
    if log and head.log != log:
        raise StateError(
            f"{name}: it is of the log {head.log}, not of {log}: the log was replaced by another"
        )
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        signed = _signed_bytes(head.log, head.number, head.digest, head.at, head.key)
        public.verify(bytes.fromhex(head.signature), signed)
    except (InvalidSignature, ValueError) as error:
        raise StateError(f"{name}: its signature is not the key's: the head was forged or damaged") from error


def verify_log(
    entries: Iterable[AuditEntry], heads: Sequence[SignedHead], key: str, *, log: str = "", first: int = 1
) -> LogProof:
    """Verify entries against signed heads.

    Args:
        entries: untrusted, in order; taken once.
        heads: untrusted, in any order; those that lie elsewhere count most.
        key: the pinned public key in hexadecimal.
        log: the log's identity, "" to take it from the heads.
        first: number that the first entry must have; above 1, what was before is not verified.

    Returns:
        What was verified. An entry above `pinned` is chained, and no more.

    Raises:
        StateError: the log or a head is not what it was; the message has the first entry that is wrong.
    """
    name = log or (heads[0].log if heads else "")
    for head in heads:
        check_head(head, key, name)
    pins = _Pins(heads)
    number, digest = first - 1, "" if first > 1 else NO_DIGEST
    for entry in entries:
        number += 1
        check_entry(entry, number, digest)
        if number == first:
            pins.compare(number - 1, entry.previous)
        pins.compare(number, entry.digest)
        digest = entry.digest
    if number < first == 1:
        pins.compare(0, NO_DIGEST)
    pins.check_end(number)
    return LogProof(
        name,
        first if number >= first else 0,
        number if number >= first else 0,
        digest,
        pins.met,
        pins.highest,
    )


class _Pins:
    """The heads by number, and which of them the log has met."""

    def __init__(self, heads: Sequence[SignedHead]) -> None:
        self._open: dict[int, list[SignedHead]] = {}
        for head in heads:
            self._open.setdefault(head.number, []).append(head)
        self.met = 0
        self.highest = 0

    def compare(self, number: int, digest: str) -> None:
        """Compare the heads of that number, of which there may be several."""
        for head in self._open.pop(number, ()):
            if head.digest != digest:
                raise StateError(
                    f"audit log: entry {number} is not the one that was signed on "
                    f"{head.at:%Y-%m-%d %H:%M:%S}: the log was computed anew at this entry or before it"
                )
            self.met += 1
            self.highest = number

    def check_end(self, last: int) -> None:
        """Check that no head tells of entries after the last."""
        beyond = [number for number in self._open if number > last]
        if beyond:
            head = self._open[max(beyond)][0]
            raise StateError(
                f"audit log: it ends at entry {last}, and had {head.number} when a head was signed on "
                f"{head.at:%Y-%m-%d %H:%M:%S}: its end was cut off, or the database was put back"
            )


def _signed_bytes(log: str, number: int, digest: str, at: datetime, key: str) -> bytes:
    return canonical([_DOMAIN, log, number, digest, at.astimezone(UTC).isoformat(), key]).encode("ascii")
