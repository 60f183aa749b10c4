"""Closing and opening the network of a running machine, on record and in the hook's note.

The order is what makes a kill at any point safe: a tap is closed before the record says so, and the record
says that it is open only after it is. What is half done is closed, and `keep_closed` mends it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from undercroft.adapters.hookfiles import read_note, write_note
from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.model.domain import Interface
from undercroft.model.fleet import HeldTap, Hold
from undercroft.ports.records import Record
from undercroft.ports.taps import Taps


def close(
    record: Record,
    taps: Taps,
    hold: Hold,
    interfaces: Sequence[Interface],
    state: Path,
) -> tuple[Hold, tuple[str, ...]]:
    """Close a running machine's taps and record it; those that `hold` names are closed already.

    Args:
        record: where it is recorded.
        taps: the host's devices.
        hold: whose, why and since when; its taps are those that the hook has closed.
        interfaces: the machine's, as its hypervisor tells them now.
        state: the agent's folder, for the hook's note.

    Returns:
        The hold with all taps, and why any interface stays open: the kernel refuses, or it is no tap.
    """
    held = {tap.tap: tap for tap in hold.taps}
    failures = []
    for interface in interfaces:
        if not interface.holdable or not interface.tap:
            failures.append(f"an interface of type {interface.kind!r} cannot be held")
            continue
        try:
            found = taps.hold(interface.tap)
        except NotFoundError:
            continue  # it is being taken out
        except OperationError as error:
            failures.append(str(error))
            continue
        known = held.get(interface.tap)
        bridge = found.bridge or (known.bridge if known else "") or interface.bridge
        held[interface.tap] = HeldTap(interface.tap, bridge)
    closed = replace(hold, taps=tuple(held.values()))
    record.put_hold(closed)
    _note(state, closed, closed=True)
    return closed, tuple(failures)


def reopen(record: Record, taps: Taps, hold: Hold, reason: str, at: datetime, state: Path) -> None:
    """Open what `hold` has closed, then record it. Taps that are gone are left out.

    Raises OperationError: a tap could not be opened, or its bridge is gone; the hold stays on record.
    """
    for tap in hold.taps:
        try:
            taps.open_tap(tap)
        except NotFoundError as error:
            if _is_there(taps, tap.tap):
                raise OperationError(f"{tap.tap}: it stays closed: {error}") from error
    record.drop_hold(hold.machine, reason, at)
    _note(state, replace(hold, taps=()), closed=False)


def let_go(record: Record, machine: str, eid: str, at: datetime) -> None:
    """End the hold of a process that is gone, and its taps with it; one of a process since stays.

    Args:
        record: a transaction.
        machine: UUID.
        eid: the execution that is over, "" where it is not known.
        at: when.
    """
    for hold in record.holds():
        if hold.machine != machine:
            continue
        execution = record.execution(hold.eid)
        if hold.eid in {"", eid} or (execution is not None and not execution.live):
            record.drop_hold(machine, "it stopped", at)


def is_of_host(record: Record, hold: Hold, host: str) -> bool:
    """Tell whether a hold is of this host, in a record that several hosts share.

    Its taps' names say nothing: another host has devices of the same names.
    """
    execution = record.execution(hold.eid)
    if execution is not None:
        return execution.host == host
    return any(found.host == host for found in record.find_machines(hold.machine)[:1])


def keep_closed(taps: Taps, hold: Hold) -> tuple[str, ...]:
    """Close again what somebody has opened, and return those taps. Raises OperationError."""
    opened = []
    for tap in hold.taps:
        with suppress(NotFoundError):
            if not taps.is_held(tap.tap):
                taps.hold(tap.tap)
                opened.append(tap.tap)
    return tuple(opened)


def _is_there(taps: Taps, tap: str) -> bool:
    try:
        taps.is_held(tap)
    except NotFoundError:
        return False
    return True


def _note(state: Path, hold: Hold, *, closed: bool) -> None:
    """Bring the hook's note in line, where it is of this execution: the hook heeds it at a reconnect."""
    try:
        note = read_note(state, hold.machine)
    except InputError:
        return  # the hook writes it anew at the next start
    if note is not None and note.eid == hold.eid:
        write_note(state, replace(note, closed=closed, hold=closed and hold.pending, taps=hold.taps))
