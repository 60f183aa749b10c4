import contextlib
import os

import pytest
from tests.fakes.memorytpm import MemoryTpm
from tests.support.faultyfiles import FaultyFiles, Killed, MemoryFiles
from tests.support.vaultlab import begun

from undercroft.adapters.vaultfile import VaultFile
from undercroft.adapters.vaultkey import PLAIN, SEALED, host_key
from undercroft.errors import DamagedError, OperationError
from undercroft.vault.keeping import log_key


def test_the_key_is_made_once_and_stays() -> None:
    for tpm in (None, MemoryTpm()):
        files = MemoryFiles()
        key = host_key(files, tpm, os.urandom)
        assert len(key) == 32
        assert host_key(MemoryFiles(files.image()), tpm, os.urandom) == key
        assert files.names() == [PLAIN if tpm is None else SEALED]


def test_a_sealed_key_opens_on_no_other_host() -> None:
    files = MemoryFiles()
    host_key(files, MemoryTpm(), os.urandom)
    for other in (None, MemoryTpm(seed=b"another")):
        with pytest.raises(OperationError):
            host_key(MemoryFiles(files.image()), other, os.urandom)


def test_a_key_in_a_file_is_sealed_once_there_is_a_tpm() -> None:
    files = MemoryFiles()
    key = host_key(files, None, os.urandom)
    assert host_key(files, MemoryTpm(), os.urandom) == key
    assert files.names() == [SEALED]


def test_vaults_without_their_key_get_no_new_one() -> None:
    files = MemoryFiles()
    VaultFile(files, host_key(files, None, os.urandom))
    files.remove(PLAIN)
    for tpm in (None, MemoryTpm()):
        with pytest.raises(DamagedError):
            host_key(files, tpm, os.urandom)
    files.files[PLAIN] = bytearray(b"short")
    with pytest.raises(DamagedError):
        host_key(files, None, os.urandom)


@pytest.mark.parametrize("how", ["kill", "torn", "ENOSPC", "EIO"])
def test_a_fault_at_any_call_leaves_the_old_key_or_none(how: str) -> None:
    for begun_without in (True, False):
        for at in range(1, 9):
            files, tpm = MemoryFiles(), MemoryTpm()
            before = host_key(files, None, os.urandom) if begun_without else b""
            with contextlib.suppress(Killed, OperationError):
                host_key(FaultyFiles(files, at, how), tpm, os.urandom)
            found = host_key(MemoryFiles(files.image()), tpm, os.urandom)
            assert len(found) == 32
            assert found == before or not begun_without


def test_who_writes_the_disk_cannot_exchange_the_sealed_key_for_one_of_their_own() -> None:
    """With it they could write a whole log that fits the TPM: its index and counter stand in the old one."""
    tpm, files = MemoryTpm(), MemoryFiles()
    begun(VaultFile(files, log_key(host_key(files, tpm, os.urandom))), tpm)
    forged = MemoryFiles({PLAIN: b"x" * 32})
    with pytest.raises(DamagedError, match="has anchors"):
        host_key(forged, tpm, os.urandom)
    assert forged.names() == [PLAIN], "nothing was sealed"
    assert host_key(forged, MemoryTpm(), os.urandom) == b"x" * 32, (
        "a TPM that comes later takes what is there"
    )
