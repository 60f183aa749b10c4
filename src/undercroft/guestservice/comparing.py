"""The TPM beside the log, as a start would find them: for `verify`, which changes nothing."""

from dataclasses import dataclass

from undercroft.errors import OperationError
from undercroft.guestservice.vaults import Vaults
from undercroft.ports.tpm import UNEXTENDED, extension
from undercroft.vault.history import History
from undercroft.vault.start import misfit


@dataclass(frozen=True, slots=True)
class Reading:
    """What the TPM said when no group ran.

    Attributes:
        name: how it is reached, "" for none.
        counter: its counter's value; None where it was not read.
        held: what its index holds; b"" where it was not read.
        problem: why it was not, "" where it was or there is none.
    """

    name: str
    counter: int | None
    held: bytes
    problem: str


def read_tpm(vaults: Vaults) -> Reading:
    """Return what the TPM says now; to be called when no group runs."""
    if not vaults.tpm_name:
        return Reading("", None, b"", "")
    if vaults.tpm is None:
        return Reading(vaults.tpm_name, None, b"", vaults.problem)
    try:
        return Reading(vaults.tpm_name, vaults.tpm.counter(), vaults.tpm.extended(), "")
    except OperationError as error:
        return Reading(vaults.tpm_name, None, b"", str(error))


def compared(history: History, reading: Reading) -> dict[str, object]:
    """Return what fits, and both sides of it.

    Returns:
        `problem`, "" where both fit; `tpm`; `counter` and `logged_counter`, null where there is none;
        `index` and `logged_index`, hexadecimal, "" where there is none. What a crash left open, one step of
        the TPM that the log does not have yet, fits.
    """
    counted = history.counted or history.intent is not None or history.held != UNEXTENDED
    counter, held = reading.counter, reading.held
    unread = counter is None and bool(reading.name)
    problem = reading.problem if unread else misfit(history, bool(reading.name), counter or 0, held)
    first = history.epoch - history.base if history.intent is None else history.intent
    last = first if history.intent is None else first + 1
    steps = {extension(history.held, head) for head in history.heads}
    return {
        "problem": problem,
        "tpm": reading.name or "none",
        "counter": counter,
        "logged_counter": (counter if counter in (first, last) else last) if counted else None,
        "index": held.hex(),
        "logged_index": (held if held in steps else history.held).hex() if counted else "",
    }
