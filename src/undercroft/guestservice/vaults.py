"""The vaults of this host, opened from the service's folder: key, log, TPM, engine; or why not.

A start that is refused (the log and the TPM do not fit, the log is damaged, the key is sealed by a TPM that
is not there) leaves the process up, so that `status`, `verify` and `adopt` are answered; no guest is.
"""

import contextlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from undercroft.adapters.durablefiles import Files
from undercroft.adapters.tpm import DEVICE, DeviceTpm
from undercroft.adapters.vaultfile import VaultFile
from undercroft.adapters.vaultkey import host_key
from undercroft.errors import DamagedError, OperationError, StateError
from undercroft.ports.tpm import Tpm
from undercroft.vault.engine import Engine
from undercroft.vault.keeping import Keeping, log_key
from undercroft.vault.start import Adoption, start, stop

AUTO, NONE = "auto", "none"
_DEVICE_PATH = Path("/dev/tpmrm0")


class Vaults:
    """The engine while it serves.

    Attributes:
        engine: None where the start was refused.
        log: None then.
        keep: what decrypts what it keeps; None before the first start.
        problem: why it was refused, with the cure; "" while it serves.
        may_pass: that was something that another start may find mended: a disk or TPM that failed.
        tpm_name: how the TPM is reached, "" for none.
    """

    def __init__(
        self, files: Files, tpm: str, *, clock: Callable[[], int], random: Callable[[int], bytes]
    ) -> None:
        """Take what `open` opens.

        Args:
            files: of the service's folder, which this process holds.
            tpm: `auto`, `none`, or how the TPM is reached (`chosen_tpm`).
            clock: Unix time in seconds.
            random: bytes of the host's kernel.
        """
        self._files, self._clock, self._random = files, clock, random
        self.tpm_name = chosen_tpm(tpm)
        self.tpm: Tpm | None = None
        self.engine: Engine | None = None
        self.log: VaultFile | None = None
        self.keep: Keeping | None = None
        self.problem = "not opened yet"
        self.may_pass = False

    def open(self, adoption: Adoption | None = None, above: int = 0) -> None:
        """Begin an epoch, or say in `problem` why not.

        Args:
            adoption: an administrator's order to go on with what does not fit.
            above: an epoch that it has to be above.
        """
        self._let_go()
        try:
            if self.tpm_name and self.tpm is None:
                device = DeviceTpm(self.tpm_name)
                device.setup()
                self.tpm = device
            key = host_key(self._files, self.tpm, self._random)
            self.log = VaultFile(self._files, log_key(key))
            self.keep = Keeping(key, self._random)
            self.engine = start(
                self.log,
                self.tpm,
                self.keep,
                clock=self._clock,
                random=self._random,
                adoption=adoption,
                above=above,
            )
        except (OperationError, StateError) as error:
            self._let_go()
            self.problem = str(error)
            self.may_pass = isinstance(error, OperationError) and not isinstance(error, DamagedError)
            if self.may_pass and isinstance(self.tpm, DeviceTpm):
                with contextlib.suppress(Exception):  # whatever its library makes of one that is gone
                    self.tpm.close()
                self.tpm = None
            return
        self.problem = ""

    def reopened(self) -> VaultFile:
        """Open the log of a start that was refused, to be read and closed: no epoch begins.

        Raises OperationError: key or log cannot be opened.
        """
        return VaultFile(self._files, log_key(host_key(self._files, self.tpm, self._random)))

    @property
    def serving(self) -> Engine:
        """The engine. Raises StateError with the reason where the start was refused."""
        if self.engine is None:
            raise StateError(f"no vault is served and no session begins: {self.problem}")
        return self.engine

    @property
    def unprotected(self) -> str:
        """Return in words what a missing TPM leaves unprotected, "" where there is one."""
        if self.tpm_name:
            return ""
        return "no TPM: whoever puts an earlier image of this host's disk back is not found out"

    def stop(self) -> None:
        """End the epoch as it should, if one runs; to be called when no group waits or runs.

        Raises OperationError: it has no end, and the next start counts it as void.
        """
        if self.engine is not None and self.log is not None and not self.engine.failed:
            stop(self.engine, self.log, self.tpm)
        self._let_go()

    def _let_go(self) -> None:
        self.engine = None
        if self.log is not None:
            with contextlib.suppress(OperationError, OSError):
                self.log.close()
        self.log = None


def chosen_tpm(choice: str) -> str:
    """Return how the TPM is reached, "" for none.

    Args:
        choice: `auto` (the kernel's resource manager, where it and tpm2-pytss are there), `none`, a device's
            path, or a TCTI as tpm2-tss writes it.
    """
    if choice == NONE:
        return ""
    if choice == AUTO:
        there = _DEVICE_PATH.exists() and importlib.util.find_spec("tpm2_pytss") is not None
        return DEVICE if there else ""
    return f"device:{choice}" if choice.startswith("/") else choice


def kernel_random(size_bytes: int) -> bytes:
    """Return bytes of getrandom(2), which waits until the kernel's generator is ready."""
    return os.urandom(size_bytes)
