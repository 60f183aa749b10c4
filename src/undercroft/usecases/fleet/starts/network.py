"""Closing and opening the network of a running machine, on record and in the hook's note.

The order is what makes a kill at any point safe: a tap is closed before the record says so, and the record
says that it is open only after it is. What is half done is closed, and `keep_closed` mends it.

Where a packet filter is in force that has labels for quarantined machines, a quarantine is a matter of these:
the taps stay on their bridges, and the machine reaches what such labels may. Its ports have them before the
record says that it is in quarantine; they lose them after the record says that it is out. A tap that was off
its bridge goes back only once its port has its labels, whichever they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from undercroft.adapters.hookfiles import read_note, write_note
from undercroft.errors import InputError, NotFoundError, OperationError, UndercroftError
from undercroft.model.domain import Interface
from undercroft.model.fleet import HeldTap, Hold
from undercroft.ports.records import Record, Records
from undercroft.ports.taps import Taps

STOPPED = "it stopped"
"""Why a hold ends whose process is gone: nothing opens by it."""


class Filter(Protocol):
    """The packet filter at machines' ports, as far as their networks need it; `labels.Labels` is one."""

    @property
    def required(self) -> bool:
        """True where taps need labels: a policy is in force on this host, or should be."""
        ...

    @property
    def quarantines(self) -> bool:
        """True where a policy is in force that has labels for quarantined machines."""
        ...

    def changing(self, records: Records, machine: str) -> AbstractContextManager[Record]:
        """Begin a transaction that may change what labels a machine has.

        Its ports have those of the record once it has ended, whether whole or not at all.
        """
        ...

    def label(self, record: Record, machine: str, taps: Sequence[str]) -> None:
        """Give a machine's ports the labels that it has in this transaction, before it ends.

        Raises OperationError: one of `taps` has none, or the kernel refuses; it may have the old ones then.
        """
        ...

    def admit(self, machine: str, taps: Sequence[str]) -> None:
        """Give the ports of a machine that is about to run what labels are on record. Raises as `label`."""
        ...

    def dismiss(self, machine: str) -> None:
        """Take the labels of a machine that is gone from its ports; it raises nothing."""
        ...

    def put_back(self, tap: str) -> None:
        """Let no frame pass the filter by from a tap that was put onto a bridge; it raises nothing."""
        ...


class NoFilter:
    """What commands have: labels are the agent's to give, which follows the record."""

    required = False
    quarantines = False

    @contextmanager
    def changing(self, records: Records, machine: str) -> Iterator[Record]:
        """Begin a transaction. See `Filter.changing`."""
        del machine
        with records.transaction() as record:
            yield record

    def label(self, record: Record, machine: str, taps: Sequence[str]) -> None:
        """Do nothing."""

    def admit(self, machine: str, taps: Sequence[str]) -> None:
        """Do nothing."""

    def dismiss(self, machine: str) -> None:
        """Do nothing."""

    def put_back(self, tap: str) -> None:
        """Do nothing."""


NO_FILTER: Filter = NoFilter()


def close(
    record: Record,
    taps: Taps,
    hold: Hold,
    interfaces: Sequence[Interface],
    state: Path,
    filter: Filter = NO_FILTER,  # noqa: A002 - what it is
) -> tuple[Hold, tuple[str, ...]]:
    """Close a running machine's network and record it; the taps that `hold` names are closed already.

    Args:
        record: where it is recorded.
        taps: the host's devices.
        hold: whose, why and since when; its taps are those that the hook has closed.
        interfaces: the machine's, as its hypervisor tells them now.
        state: the agent's folder, for the hook's note.
        filter: where it quarantines, it closes what is no `pending` hold.

    Returns:
        The hold with all taps, and why any interface stays open: the kernel refuses, or it is no tap.
    """
    if not hold.pending and filter.quarantines:
        try:
            return _close_by_filter(record, taps, hold, interfaces, state, filter)
        except UndercroftError:
            pass  # what has gone back has the quarantine's labels; it is closed without the filter
    return _close_taps(record, taps, hold, interfaces, state)


def _close_by_filter(
    record: Record,
    taps: Taps,
    hold: Hold,
    interfaces: Sequence[Interface],
    state: Path,
    filter: Filter,  # noqa: A002
) -> tuple[Hold, tuple[str, ...]]:
    """Let the filter close it; what was off its bridge goes back. Raises where it does not."""
    closed = replace(hold, taps=(), by_filter=True)
    record.put_hold(closed)
    on_taps = [item.tap for item in interfaces if item.holdable and item.tap]
    filter.label(record, hold.machine, on_taps)
    _open(taps, hold)
    _note(state, closed, closed=False)
    return closed, tuple(_cannot_be_held(item) for item in interfaces if not item.holdable)


def _close_taps(
    record: Record, taps: Taps, hold: Hold, interfaces: Sequence[Interface], state: Path
) -> tuple[Hold, tuple[str, ...]]:
    held = {tap.tap: tap for tap in hold.taps}
    failures = []
    for interface in interfaces:
        if not interface.holdable or not interface.tap:
            failures.append(_cannot_be_held(interface))
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
    closed = replace(hold, taps=tuple(held.values()), by_filter=False)
    record.put_hold(closed)
    _note(state, closed, closed=True)
    return closed, tuple(failures)


def _cannot_be_held(interface: Interface) -> str:
    return f"an interface of type {interface.kind!r} cannot be held"


def reopen(
    record: Record,
    taps: Taps,
    hold: Hold,
    reason: str,
    at: datetime,
    state: Path,
    filter: Filter = NO_FILTER,  # noqa: A002
) -> None:
    """Open what `hold` has closed, and record it. Taps that are gone are left out.

    What the filter has closed, it opens once the transaction has ended (`Filter.changing`).

    Raises OperationError: a tap could not be opened, has no labels, or its bridge is gone. The transaction is
    then to be given up, so that the hold stays on record.
    """
    record.drop_hold(hold.machine, reason, at)
    if hold.taps:
        filter.label(record, hold.machine, [tap.tap for tap in hold.taps if _is_there(taps, tap.tap)])
        _open(taps, hold)
    _note(state, replace(hold, taps=()), closed=False)


def _open(taps: Taps, hold: Hold) -> None:
    for tap in hold.taps:
        try:
            taps.open_tap(tap)
        except NotFoundError as error:
            if _is_there(taps, tap.tap):
                raise OperationError(f"{tap.tap}: it stays closed: {error}") from error


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
            record.drop_hold(machine, STOPPED, at)


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
