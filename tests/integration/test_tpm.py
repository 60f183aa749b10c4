"""The TPM's adapter against a real implementation of the specification, and a host's vaults on it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.faultyfiles import MemoryFiles
from tests.support.softwaretpm import SoftwareTpm
from tests.support.vaultlab import KEY, Host, begun, increment, outcomes, spend

from undercroft.adapters.tpm import COUNTER_INDEX, EXTEND_INDEX, DeviceTpm
from undercroft.adapters.vaultfile import VaultFile
from undercroft.channel.requests import Outcome
from undercroft.errors import OperationError, StateError
from undercroft.ports.tpm import UNEXTENDED, extension
from undercroft.vault.keeping import log_key


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    made = SoftwareTpm(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def tpm(chip: SoftwareTpm) -> Iterator[DeviceTpm]:
    made = DeviceTpm(chip.tcti)
    made.setup()
    yield made
    made.close()


def tool(chip: SoftwareTpm, *command: str) -> None:
    subprocess.run([*command, "-T", chip.tcti], check=True, capture_output=True)


def restarted(chip: SoftwareTpm, tpm: DeviceTpm, kept: Path | None = None) -> DeviceTpm:
    tpm.close()
    chip.stop()
    if kept is not None:
        chip.put_back(kept)
    chip.start()
    return DeviceTpm(chip.tcti)


def test_the_counter_goes_up_by_one_and_survives_a_restart(chip: SoftwareTpm, tpm: DeviceTpm) -> None:
    first = tpm.counter()
    assert [tpm.increment() for _ in range(3)] == [first + 1, first + 2, first + 3]
    tpm.setup()
    tpm = restarted(chip, tpm)
    assert tpm.counter() == first + 3
    tpm.close()


def test_the_index_holds_what_the_specification_says(chip: SoftwareTpm, tpm: DeviceTpm) -> None:
    assert tpm.extended() == UNEXTENDED
    one = tpm.extend(b"a" * 32)
    assert one == extension(UNEXTENDED, b"a" * 32)
    assert tpm.extend(b"b" * 32) == extension(one, b"b" * 32)
    tpm = restarted(chip, tpm)
    assert tpm.extended() == extension(one, b"b" * 32)
    tpm.close()


def test_a_secret_opens_in_its_own_tpm_alone(chip: SoftwareTpm, tpm: DeviceTpm, tmp_path: Path) -> None:
    blob = tpm.seal(KEY)
    assert KEY not in blob
    tpm = restarted(chip, tpm)
    assert tpm.unseal(blob) == KEY
    assert [tpm.unseal(tpm.seal(bytes([each]) * 32))[0] for each in range(6)] == list(range(6))
    with pytest.raises(OperationError):
        tpm.unseal(blob[:40] + bytes([blob[40] ^ 1]) + blob[41:])
    with pytest.raises(OperationError):
        tpm.unseal(b"no blob")
    with pytest.raises(OperationError):
        tpm.seal(bytes(200))
    tpm.close()
    other = SoftwareTpm(tmp_path / "other")
    other.start()
    try:
        found = DeviceTpm(other.tcti)
        with pytest.raises(OperationError, match="another TPM"):
            found.unseal(blob)
        found.close()
    finally:
        other.stop()


def test_a_counter_that_was_deleted_goes_on_above_its_old_value(chip: SoftwareTpm, tpm: DeviceTpm) -> None:
    value = [tpm.increment() for _ in range(5)][-1]
    tpm.close()
    tool(chip, "tpm2_nvundefine", hex(COUNTER_INDEX), "-C", "o")
    tpm = DeviceTpm(chip.tcti)
    with pytest.raises(OperationError, match="cleared, or never set up"):
        tpm.counter()
    tpm.setup()
    assert tpm.counter() > value
    tpm.close()


def test_a_tpm_that_is_absent_or_gone_is_named(tmp_path: Path, chip: SoftwareTpm, tpm: DeviceTpm) -> None:
    for nowhere in (f"device:{tmp_path}/none", f"swtpm:path={tmp_path}/none", "nonsense:"):
        with pytest.raises(OperationError, match="cannot be opened"):
            DeviceTpm(nowhere)
    chip.stop()
    for call in (tpm.counter, tpm.increment, tpm.extended, lambda: tpm.extend(bytes(32))):
        with pytest.raises(OperationError):
            call()


def test_a_tpm_without_startup_is_named(chip: SoftwareTpm, tpm: DeviceTpm) -> None:
    tpm.close()
    chip.stop()
    chip.start(startup=False)
    with pytest.raises(OperationError, match="reset and not started"):
        DeviceTpm(chip.tcti)


def test_a_locked_out_tpm_still_counts_and_one_whose_owner_has_a_password_does(
    chip: SoftwareTpm, tpm: DeviceTpm
) -> None:
    blob, value = tpm.seal(KEY), tpm.counter()
    tpm.close()
    tool(chip, "tpm2_dictionarylockout", "-s", "-n", "1", "-t", "1000", "-l", "1000")
    tool(chip, "tpm2_createprimary", "-c", str(chip.folder / "p.ctx"), "-p", "right", "-Q")
    wrong = [
        "tpm2_create",
        "-C",
        str(chip.folder / "p.ctx"),
        "-P",
        "wrong",
        "-u",
        "/dev/null",
        "-r",
        "/dev/null",
    ]
    for _ in range(2):
        subprocess.run([*wrong, "-T", chip.tcti], check=False, capture_output=True)
    tool(chip, "tpm2_flushcontext", "-t")
    tpm = DeviceTpm(chip.tcti)
    assert tpm.increment() == value + 1
    assert tpm.extend(bytes(32)) == extension(UNEXTENDED, bytes(32))
    assert tpm.unseal(blob) == KEY
    tpm.close()
    tool(chip, "tpm2_changeauth", "-c", "owner", "password")
    tpm = DeviceTpm(chip.tcti)
    assert tpm.increment() == value + 2
    tpm.setup()
    tpm.close()
    tool(chip, "tpm2_nvundefine", hex(EXTEND_INDEX), "-C", "o", "-P", "password")
    tpm = DeviceTpm(chip.tcti)
    with pytest.raises(OperationError, match="owner has a password"):
        tpm.setup()
    tpm.close()


def test_an_earlier_disk_under_a_real_tpm_is_refused_and_a_crash_is_not(
    chip: SoftwareTpm, tpm: DeviceTpm
) -> None:
    files = MemoryFiles()
    host = begun(VaultFile(files, log_key(KEY)), tpm)
    earlier = files.image()
    assert host.ask(spend(b"t", final=True)) == [(0, 2)]
    value = int(host.ask(increment(b"c"))[0][2])
    tpm = restarted(chip, tpm)
    with pytest.raises(StateError, match="earlier image"):
        Host(VaultFile(MemoryFiles(earlier), log_key(KEY)), tpm)
    host = Host(VaultFile(MemoryFiles(files.image()), log_key(KEY)), tpm)
    assert outcomes(host.ask(spend(b"t", final=True))) == [Outcome.REFUSED]
    assert int(host.ask(increment(b"c"))[0][2]) > value
    tpm.close()


def test_a_tpm_s_own_state_put_back_is_refused_while_the_disk_is_not(
    chip: SoftwareTpm, tpm: DeviceTpm
) -> None:
    """What a virtual TPM's snapshot does; only disk and TPM put back together are not found out."""
    files = MemoryFiles()
    begun(VaultFile(files, log_key(KEY)), tpm)
    tpm.close()
    chip.stop()
    kept, both = chip.copy_state("kept"), files.image()
    chip.start()
    tpm = DeviceTpm(chip.tcti)
    Host(VaultFile(files, log_key(KEY)), tpm)
    tpm = restarted(chip, tpm, kept)
    with pytest.raises(StateError):
        Host(VaultFile(MemoryFiles(files.image()), log_key(KEY)), tpm)
    Host(VaultFile(MemoryFiles(both), log_key(KEY)), tpm)
    tpm.close()
