"""The audit log's entries and heads."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry; it never changes.

    Attributes:
        number: from 1, without gaps.
        at: when.
        kind: "decision", "verdict", "execution", "ending", "alarm", "revert", "release", "policy", "agent",
            "hold", "floor", "mend", "retention", "firewall" (a policy was applied), "filter" (a host's),
            "restart" (the log's signing was begun anew), "host" (one was forgotten).
        subject: the machine's or subject's key or name.
        body: canonical JSON (sorted keys, no spaces, ASCII) of an object that says the rest.
        previous: the entry before's `digest`, 64 zeros for the first.
        digest: SHA-256 in hexadecimal over all the above.
    """

    number: int
    at: datetime
    kind: str
    subject: str
    body: str
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A statement that the log had this many entries with this head.

    Attributes:
        log: the log's own identity, 16 random bytes in hexadecimal, made with it.
        number: of the last entry, 0 for an empty log.
        digest: its digest.
        at: when it was signed.
        key: the Ed25519 public key, 32 bytes in hexadecimal.
        signature: 64 bytes in hexadecimal, over the other fields.
    """

    log: str
    number: int
    digest: str
    at: datetime
    key: str
    signature: str
