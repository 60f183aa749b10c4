"""Signatures of distributions: whoever verifies them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Signed:
    """A verified text, and the fingerprint of the primary key that signed it."""

    text: bytes
    fingerprint: str


class Verifier(Protocol):
    """Verifies OpenPGP signatures against the keys that are trusted for one source.

    Both methods raise `InputError` when the text is not rightly signed, and `OperationError` when nothing
    can be verified on this host.
    """

    def clearsigned(self, data: bytes, what: str) -> Signed:
        """Return the text inside an untrusted clearsigned message: what was signed, no more."""
        ...

    def detached(self, data: bytes, signature: bytes, what: str) -> Signed:
        """Return `data` if the untrusted detached `signature` is of it."""
        ...
