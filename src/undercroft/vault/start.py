"""Begins an epoch of a host's vaults, so that no rollback of the host's disk goes unseen (ADR 7, the vault).

1. Read the log. Where a TPM counted its last epoch, or an index of the TPM was extended, the two have to fit:
   the index holds what the log last noted, or that extended with the head of one group since; the counter is
   that of the last epoch, or, after an intent, the one that the intent has or the next.
2. Log the intent with the counter, sync. A crash from here on is continued by another start.
3. Increment the counter.
4. Log the epoch, sync.
5. Extend the index with the head, note that in the log, sync: only then is anything answered.

An earlier image of the disk lacks the head that step 5 of a later epoch, a final spend or an anchor extended
the index with. An image that has the last such head is taken: what it lacks was acknowledged after it, in an
epoch that did not end, and is void; counters go on in an epoch that none had before.

Without a TPM the epoch is the log's last and one more: an earlier image is taken for what it says.
"""

from collections.abc import Callable
from dataclasses import dataclass

from undercroft.errors import OperationError, StateError
from undercroft.ports.tpm import UNEXTENDED, Tpm, extension
from undercroft.ports.vaultlog import VaultLog
from undercroft.vault import commands
from undercroft.vault.answers import EPOCH_LIMIT
from undercroft.vault.budget import START_WRITES, Budget
from undercroft.vault.engine import SNAPSHOT_BYTES, Engine
from undercroft.vault.history import History
from undercroft.vault.keeping import Keeping

ADOPTED_EPOCHS = 4_096
"""By how much epochs go on, at the least, where the log may lack some that no counter tells."""

_REASON_CHARS = 400


@dataclass(frozen=True, slots=True)
class Adoption:
    """An administrator's order to go on with a log that does not fit the TPM.

    Attributes:
        reason: in words, for the record; not empty.
    """

    reason: str


def start(
    log: VaultLog,
    tpm: Tpm | None,
    keep: Keeping,
    *,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
    adoption: Adoption | None = None,
    above: int = 0,
    snapshot_bytes: int = SNAPSHOT_BYTES,
) -> Engine:
    """Read the log, begin an epoch, and return the engine that serves in it.

    Args:
        log: just opened.
        tpm: None where the host has none.
        keep: encrypts what is kept.
        clock: Unix time in seconds.
        random: so many random bytes.
        adoption: an order to go on with what does not fit; without effect where it fits.
        above: an epoch of another host's that the one that begins has to be above.
        snapshot_bytes: by how much the log grows before it begins anew.

    Raises:
        StateError: the log and the TPM do not fit, and there is no order; nothing was changed.
        DamagedError: the log cannot be read.
        OperationError: disk or TPM failed, or the TPM is spared; another start continues.
    """
    history = History()
    history.replay(log.read())
    counter = tpm.counter() if tpm is not None else 0
    held = tpm.extended() if tpm is not None else UNEXTENDED
    problem = misfit(history, tpm is not None, counter, held)
    records = [_adopted(problem, adoption, held, clock())] if problem else []
    void = history.epoch if problem or (not history.closed and _served(history, held)) else 0
    if tpm is None:
        base, epoch = 0, max(history.epoch + (ADOPTED_EPOCHS if problem else 1), above + 1)
    else:
        base = _base(history, counter, known=not problem or _counts(history, counter, held))
        base = _raised(base, counter, above)
        epoch = counter + 1 + base
    _check_epoch(epoch, counter)
    if tpm is not None:
        _spare(history.budget, clock())
        _write(log, [*records, commands.write(commands.INTENT, counter, base)])
        records = []
        epoch = tpm.increment() + base
    _write(log, [*records, commands.write(commands.EPOCH, epoch, tpm is not None, held, void)])
    history.begin(epoch, tpm is not None, held, void)
    if tpm is not None:
        _anchor(history, log, tpm, held)
        history.budget.owe(clock(), START_WRITES)
        _write_anchor(history, log)
    return Engine(
        history,
        keep,
        reserve=log.reserve,
        grown=lambda: log.grown_bytes,
        clock=clock,
        random=random,
        snapshot_bytes=snapshot_bytes,
    )


def _check_epoch(epoch: int, counter: int) -> None:
    """Raise StateError where no epoch is left."""
    if epoch >= EPOCH_LIMIT:
        raise StateError(
            f"the vaults' next epoch would be {epoch}, and epochs end below {EPOCH_LIMIT}: the TPM's counter"
            f" ({counter}) is too high for them, or they were begun too often; use another TPM, or none"
        )


def _adopted(problem: str, adoption: Adoption | None, held: bytes, now_s: int) -> bytes:
    """Return the record of an order to go on with what does not fit. Raises StateError without one."""
    if adoption is None or not adoption.reason:
        raise StateError(
            f"{problem}; `undercroft vault adopt --reason` goes on with what is there, on record"
        )
    reason = adoption.reason[:_REASON_CHARS]
    return commands.write(commands.ADOPTED, reason, now_s, held, problem[:_REASON_CHARS])


def _anchor(history: History, log: VaultLog, tpm: Tpm, held: bytes) -> None:
    """Extend the index, which held `held`, with the log's head. Raises StateError if others extend it."""
    extended = tpm.extend(log.head)
    if extended != extension(held, log.head):
        raise StateError("another program extends the TPM's index of the vaults: find and stop it first")
    history.anchor(extended)


def _write_anchor(history: History, log: VaultLog) -> None:
    budget = history.budget
    _write(log, [commands.write(commands.ANCHOR, log.head, history.held, budget.saved_s, budget.at_s)])


def stop(engine: Engine, log: VaultLog, tpm: Tpm | None) -> None:
    """End the epoch as it should: what was acknowledged in it is anchored, and nothing of it becomes void.

    To be called when no group waits or runs. Raises OperationError: the epoch has no end.
    """
    _write(log, [commands.write(commands.CLOSED)])
    engine.history.closed = True
    if tpm is not None and not engine.doubtful:  # else the next start finds out what became of that anchor
        tpm.extend(log.head)


def misfit(history: History, present: bool, counter: int, held: bytes) -> str:
    """Return what does not fit between log and TPM, "" where all does.

    Args:
        history: what the log says.
        present: whether there is a TPM.
        counter: the TPM's.
        held: what its index holds.
    """
    known = history.counted or history.intent is not None or history.held != UNEXTENDED
    if not present:
        return "the vaults' epochs were counted by a TPM, and there is none" if known else ""
    if not known:
        if held != UNEXTENDED:
            return (
                "the TPM has anchors of this host's vaults, and their log has none: it is not the TPM's own"
            )
        return ""
    if held != history.held and not any(extension(history.held, head) == held for head in history.heads):
        return (
            "the TPM's index is not where the vaults' log says: an earlier image of the disk, or another TPM"
        )
    first = history.epoch - history.base if history.intent is None else history.intent
    last = first if history.intent is None else first + 1
    if not first <= counter <= last:
        return (
            f"the TPM's counter is {counter}, where the vaults' log has {last}: an earlier image of the disk"
        )
    return ""


def _served(history: History, held: bytes) -> bool:
    """Whether anything may have been acknowledged in the last epoch."""
    return not history.counted or history.anchored or held != history.held


def _counts(history: History, counter: int, held: bytes) -> bool:
    """Whether a TPM that does not fit has counted all epochs of the log, and those that the log lacks."""
    first = history.epoch - history.base if history.intent is None else history.intent
    return history.counted and held != UNEXTENDED and counter >= first


def _base(history: History, counter: int, *, known: bool) -> int:
    """Return what makes the counter's next value an epoch that was never given.

    Where this TPM has counted all epochs, it is what it was: each loss that is adopted finds the counter
    higher. Elsewhere it is a multiple of `ADOPTED_EPOCHS` above the log's last epoch, and takes nothing off
    for the counter: the same loss that is adopted twice goes on above the first time too.
    """
    if known:
        return max(history.base, history.epoch - counter)
    return _block_above(history.epoch)


def _raised(base: int, counter: int, above: int) -> int:
    """Return a base, at least the given one, with which the counter's next value is above another epoch.

    By whole blocks, as in `_base`: where the log loses that it was raised, epochs go on without, and must not
    come to those that it gave.
    """
    return base if counter + 1 + base > above else _block_above(above)


def _block_above(epoch: int) -> int:
    return (epoch // ADOPTED_EPOCHS + 2) * ADOPTED_EPOCHS


def _spare(budget: Budget, now_s: int) -> None:
    """Raise OperationError where starts owe the TPM so much that another would wear it out."""
    budget.count(now_s)
    wait_s = -budget.most_s - budget.saved_s
    if wait_s > 0:
        raise OperationError(
            f"the vaults were begun too often: the TPM's memory is spared for {wait_s} s more; find out why"
            " the service ended each time"
        )


def _write(log: VaultLog, records: list[bytes]) -> None:
    log.append(records)
    log.sync()
