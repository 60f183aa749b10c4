"""What the vaults need of a TPM 2.0: a counter, an index that is only extended, and a key that stays in it.

Both are NV indices as the TCG's library specification has them (part 1, section 37): TPM_NT_COUNTER goes up
by one and never down, also after it was deleted and made anew; TPM_NT_EXTEND holds SHA-256 over its value
before and what it is extended with, so that its value stands for all of its extensions in their order.
"""

import hashlib
from typing import Protocol

UNEXTENDED = bytes(32)
"""What an index holds that was never extended."""


class Tpm(Protocol):
    """One TPM. `increment` and `extend` are durable when they return, and wear the TPM's memory.

    When one of these raises, nobody knows whether it took place.

    All raise OperationError where the TPM is absent, locked out, was reset, lacks what is asked for, or was
    not set up by `setup`.
    """

    def setup(self) -> None:
        """Make counter and index where they are missing; an index that was there keeps what it holds."""
        ...

    def counter(self) -> int:
        """Return the counter's value, from 1."""
        ...

    def increment(self) -> int:
        """Add one to the counter, and return its value then."""
        ...

    def extended(self) -> bytes:
        """Return what the index holds, 32 bytes; `UNEXTENDED` where it was never extended."""
        ...

    def extend(self, head: bytes) -> bytes:
        """Extend the index with 32 bytes, and return what it holds then."""
        ...

    def seal(self, secret: bytes) -> bytes:
        """Return a blob that only this TPM opens. The secret has at most 128 bytes."""
        ...

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret of a blob. Raises OperationError also for one that this TPM did not make."""
        ...


def extension(held: bytes, head: bytes) -> bytes:
    """Return what an index holds after it held `held` and was extended with `head`."""
    return hashlib.sha256(held + head).digest()
