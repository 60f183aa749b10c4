"""A TPM 2.0 through tpm2-pytss and the resource manager's device: see `ports.tpm` for what it is used for.

Two NV indices (TCG TPM 2.0 library, part 2, section 13): a counter and an extend index with SHA-256, both
without an authorization value and out of the lockout's reach (TPMA_NV_NO_DA): who may open the device may
move them, which the next start finds and refuses, and only the owner may delete them. Secrets are sealed
under a storage key that the TPM makes anew from its own seed each time, without a policy: any program that
may open this TPM may open them, no other TPM does.

The commands go over the bus without a session that encrypts or authenticates: somebody with probes on the
bus of a discrete TPM is not kept out.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from undercroft.errors import OperationError
from undercroft.ports.tpm import UNEXTENDED

DEVICE = "device:/dev/tpmrm0"
COUNTER_INDEX, EXTEND_INDEX = 0x0180_5543, 0x0180_5545
"""In the range of owners (TCG registry of reserved handles, section 2.2.2)."""

_COUNTER_BYTES = 8
_DIGEST_BYTES = 32
_MAX_SECRET_BYTES = 128
_KEY_TEMPLATE = "ecc256:aes128cfb"
_Result = TypeVar("_Result")

# Response codes (part 2, section 6.6), without the bits that say which handle or parameter was meant.
_HANDLE = 0x08B
_NV_UNINITIALIZED, _LOCKOUT, _INITIALIZE, _NV_RATE, _RETRY = 0x14A, 0x921, 0x100, 0x920, 0x922
_AUTH_FAIL, _BAD_AUTH, _INTEGRITY, _NV_SPACE = 0x08E, 0x0A2, 0x09F, 0x14B
_OBJECT_MEMORY = 0x902
_REASONS = {
    _HANDLE: "it has no index of the vaults: it was cleared, or never set up",
    _LOCKOUT: "it is locked out: wait, or reset its lockout (tpm2_dictionarylockout --clear-lockout)",
    _INITIALIZE: "it was reset and not started since: restart the host",
    _NV_RATE: "its memory is written too often at the moment: wait some minutes",
    _RETRY: "it is busy: try again",
    _OBJECT_MEMORY: "keys of killed programs fill it; /dev/tpmrm0 clears them: use that, or restart it",
    _AUTH_FAIL: "its owner has a password, and the indices of the vaults are missing: make them as its owner",
    _BAD_AUTH: "its owner has a password, and the indices of the vaults are missing: make them as its owner",
    _INTEGRITY: "this was sealed by another TPM, or this one was cleared since",
    _NV_SPACE: "it has no room for another index: delete one (tpm2_nvundefine)",
}


class DeviceTpm:
    """Implements `Tpm`. For one thread at a time."""

    def __init__(self, tcti: str = DEVICE) -> None:
        """Open the TPM.

        Args:
            tcti: how it is reached, as tpm2-tss writes it.

        Raises:
            OperationError: there is none, or tpm2-pytss is not installed.
        """
        os.environ.setdefault("TSS2_LOG", "all+none")  # its library writes to stderr what is raised here
        try:
            import tpm2_pytss  # noqa: PLC0415 - loads the C libraries, which hosts without a TPM lack
        except ImportError as error:
            raise OperationError("tpm2-pytss is not installed: install undercroft[tpm]") from error
        self._tss: Any = tpm2_pytss
        with self._errors(f"opened at {tcti}"):
            self._esys: Any = tpm2_pytss.ESAPI(tcti)
            self._esys.get_capability(tpm2_pytss.TPM2_CAP.TPM_PROPERTIES, tpm2_pytss.TPM2_PT.MANUFACTURER)

    def close(self) -> None:
        """Let the TPM go. Twice is no error."""
        self._esys.close()

    def setup(self) -> None:
        """Make counter and index where they are missing; a new counter goes on above all that there were."""
        types = self._tss.TPM2_NT
        with self._errors("set up"):
            self._ensure(COUNTER_INDEX, types.COUNTER, _COUNTER_BYTES)
            self._ensure(EXTEND_INDEX, types.EXTEND, _DIGEST_BYTES)
        if self._written(COUNTER_INDEX, _COUNTER_BYTES) is None:
            self.increment()

    def counter(self) -> int:
        """Return the counter's value."""
        found = self._written(COUNTER_INDEX, _COUNTER_BYTES)
        if found is None:
            raise OperationError("the TPM's counter of the vaults was never begun: set the TPM up")
        return int.from_bytes(found, "big")

    def increment(self) -> int:
        """Add one to the counter, and return its value then."""
        with self._errors("incremented"):
            handle = self._index(COUNTER_INDEX)
            self._esys.nv_increment(handle, handle)
        return self.counter()

    def extended(self) -> bytes:
        """Return what the index holds."""
        return self._written(EXTEND_INDEX, _DIGEST_BYTES) or UNEXTENDED

    def extend(self, head: bytes) -> bytes:
        """Extend the index, and return what it holds then."""
        with self._errors("extended"):
            handle = self._index(EXTEND_INDEX)
            self._esys.nv_extend(handle, head, handle)
        return self.extended()

    def seal(self, secret: bytes) -> bytes:
        """Return a blob that only this TPM opens: private part after its size (2), then the public part."""
        if not 0 < len(secret) <= _MAX_SECRET_BYTES:
            raise OperationError(f"a TPM seals 1 to {_MAX_SECRET_BYTES} bytes: {len(secret)} were given")
        tss = self._tss
        public = tss.TPM2B_PUBLIC.parse(
            "keyedhash",
            objectAttributes=tss.TPMA_OBJECT.FIXEDTPM
            | tss.TPMA_OBJECT.FIXEDPARENT
            | tss.TPMA_OBJECT.USERWITHAUTH
            | tss.TPMA_OBJECT.NODA,
        )
        sensitive = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(data=secret))
        with self._errors("used to seal"), self._parent() as parent:
            private, made, *_ = self._esys.create(parent, sensitive, public)
            inner = bytes(private.marshal())
            return len(inner).to_bytes(2, "big") + inner + bytes(made.marshal())

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret of a blob."""
        tss, size = self._tss, int.from_bytes(blob[:2], "big")
        with self._errors("used to unseal"), self._parent() as parent:
            private, _ = tss.TPM2B_PRIVATE.unmarshal(blob[2 : 2 + size])
            public, _ = tss.TPM2B_PUBLIC.unmarshal(blob[2 + size :])
            loaded = self._esys.load(parent, private, public)
            try:
                return bytes(self._esys.unseal(loaded))
            finally:
                self._esys.flush_context(loaded)

    def _ensure(self, index: int, kind: int, size: int) -> None:
        """Define an index where it is missing."""
        tss = self._tss
        if self._unless(_HANDLE, lambda: self._index(index)) is not None:
            return
        attributes = (
            tss.TPMA_NV.AUTHREAD
            | tss.TPMA_NV.AUTHWRITE
            | tss.TPMA_NV.OWNERREAD
            | tss.TPMA_NV.NO_DA
            | (kind << tss.TPMA_NV.TPM2_NT_SHIFT)
        )
        public = tss.TPMS_NV_PUBLIC(
            nvIndex=index, nameAlg=tss.TPM2_ALG.SHA256, attributes=attributes, dataSize=size
        )
        self._esys.nv_define_space(None, tss.TPM2B_NV_PUBLIC(nvPublic=public))

    def _index(self, index: int) -> Any:
        return self._esys.tr_from_tpmpublic(index)

    def _written(self, index: int, size: int) -> bytes | None:
        """Return what an index holds, None for one that was never written."""
        with self._errors("read"):
            handle = self._index(index)
            found = self._unless(
                _NV_UNINITIALIZED, lambda: bytes(self._esys.nv_read(handle, size, 0, handle))
            )
        if found is not None and len(found) != size:
            raise OperationError(
                f"the TPM's index {index:#x} is not of the vaults: delete it, and set the TPM up"
            )
        return found

    @contextmanager
    def _parent(self) -> Iterator[Any]:
        """The storage key, for as long as it is needed."""
        tss = self._tss
        attributes = (
            tss.TPMA_OBJECT.RESTRICTED
            | tss.TPMA_OBJECT.DECRYPT
            | tss.TPMA_OBJECT.FIXEDTPM
            | tss.TPMA_OBJECT.FIXEDPARENT
            | tss.TPMA_OBJECT.SENSITIVEDATAORIGIN
            | tss.TPMA_OBJECT.USERWITHAUTH
            | tss.TPMA_OBJECT.NODA
        )
        template = tss.TPM2B_PUBLIC.parse(_KEY_TEMPLATE, objectAttributes=attributes)
        handle, *_ = self._esys.create_primary(None, template)
        try:
            yield handle
        finally:
            self._esys.flush_context(handle)

    def _unless(self, code: int, call: Callable[[], _Result]) -> _Result | None:
        """Return what a call gives, None where the TPM answers with this code."""
        try:
            return call()
        except self._tss.TSS2_Exception as error:
            if _code(error.rc) == code:
                return None
            raise

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._tss.TSS2_Exception as error:
            reason = _REASONS.get(_code(error.rc), str(error))
            raise OperationError(f"the TPM cannot be {what}: {reason}") from error


def _code(response: int) -> int:
    """Return a response code without the layer and without handle, session or parameter (section 6.6.3)."""
    code = response & 0xFFFF
    if code & 0x080:  # format one: bits 6 and 8 to 11 say what was meant
        return code & 0x0BF
    return code & 0xFFF
