"""The key of a host's vaults: sealed by the TPM where there is one, else in a file.

In a file it protects what is kept from who has the log alone, as in a backup that leaves the key out; whoever
has the whole folder has the vaults' secrets. Sealed by the TPM, the folder alone gives nothing away, on this
host or another; programs that may open this TPM can still ask it for the key.
"""

from collections.abc import Callable

from undercroft.adapters.durablefiles import Files
from undercroft.errors import DamagedError, OperationError
from undercroft.ports.tpm import UNEXTENDED, Tpm
from undercroft.vault.keeping import KEY_BYTES

PLAIN, SEALED = "key", "key.tpm"
_NEW = "new-key"


def host_key(files: Files, tpm: Tpm | None, random: Callable[[int], bytes]) -> bytes:
    """Return the key of the vaults in a folder; make it where there are no vaults yet.

    A key that lies in a file is sealed as soon as there is a TPM; what lay in the file may be found on the
    disk for some time after. Once the TPM has anchors of the vaults, a key in a file is not theirs: who can
    write the disk would put one of their own there, and make a whole log with it that fits the TPM.

    Args:
        files: of the folder, which this process holds.
        tpm: None where the host has none; set up.
        random: so many random bytes.

    Raises:
        OperationError: the key is sealed and there is no TPM or another one, or the disk failed.
        DamagedError: there are vaults and no key, or it is damaged, or not the one that the TPM sealed.
    """
    try:
        names = files.names()
        if SEALED in names:
            key = _unsealed(files.read(SEALED), tpm)
            if PLAIN in names:
                files.remove(PLAIN)
            return _checked(key)
        if PLAIN in names:
            key = _checked(files.read(PLAIN))
            if tpm is not None and tpm.extended() != UNEXTENDED:
                raise DamagedError(
                    f"the TPM has anchors of the vaults, and their key lies in the file {PLAIN}, where who"
                    f" writes the disk may have put another one: put {SEALED} back from a backup"
                )
        elif any(name.startswith("log-") for name in names):
            raise DamagedError(f"the vaults' {PLAIN} or {SEALED} is gone: put it back from a backup")
        else:
            key = random(KEY_BYTES)
        if tpm is not None:
            _write(files, SEALED, tpm.seal(key))
            if PLAIN in names:
                files.remove(PLAIN)
                files.sync_names()
        elif PLAIN not in names:
            _write(files, PLAIN, key)
    except OSError as error:
        raise OperationError(f"the vaults' key cannot be read or written: {error.strerror}") from error
    return key


def _unsealed(blob: bytes, tpm: Tpm | None) -> bytes:
    if tpm is None:
        raise OperationError("the vaults' key is sealed by a TPM, and there is none: make the TPM available")
    return tpm.unseal(blob)


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise DamagedError(
            f"the vaults' key has {len(key)} bytes and not {KEY_BYTES}: put a backup of it back"
        )
    return key


def _write(files: Files, name: str, data: bytes) -> None:
    handle = files.open(_NEW, create=True)
    try:
        if files.write(handle, data, 0) != len(data):
            raise OperationError("the vaults' key cannot be written: the disk is full")
        files.sync(handle)
    finally:
        files.close(handle)
    files.rename(_NEW, name)
    files.sync_names()
