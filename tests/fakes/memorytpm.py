"""A TPM in memory: a counter, an extend index, and secrets that only it opens."""

import hashlib
from copy import copy

from undercroft.errors import OperationError
from undercroft.ports.tpm import UNEXTENDED, extension


class MemoryTpm:
    """Implements `Tpm`. `absent` lets every call fail; `fail_extend` lets the next `extend` fail, undone."""

    def __init__(self, counter: int = 1, seed: bytes = b"seed") -> None:
        self.value = counter
        self.held = UNEXTENDED
        self.seed = seed
        self.absent = False
        self.fail_extend = False
        self.writes = 0

    def copy(self) -> "MemoryTpm":
        """The same TPM at this moment."""
        return copy(self)

    def setup(self) -> None:
        self._check()

    def counter(self) -> int:
        self._check()
        return self.value

    def increment(self) -> int:
        self._check()
        self.value += 1
        self.writes += 1
        return self.value

    def extended(self) -> bytes:
        self._check()
        return self.held

    def extend(self, head: bytes) -> bytes:
        self._check()
        if self.fail_extend:
            self.fail_extend = False
            raise OperationError("the TPM does not answer")
        self.held = extension(self.held, head)
        self.writes += 1
        return self.held

    def seal(self, secret: bytes) -> bytes:
        self._check()
        return hashlib.sha256(self.seed).digest() + secret

    def unseal(self, blob: bytes) -> bytes:
        self._check()
        if blob[:32] != hashlib.sha256(self.seed).digest():
            raise OperationError("another TPM made this")
        return blob[32:]

    def _check(self) -> None:
        if self.absent:
            raise OperationError("there is no TPM")
