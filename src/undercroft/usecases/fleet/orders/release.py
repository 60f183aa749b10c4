"""Out of quarantine: a fresh look at what runs now, and the network opens where nothing stands against it.

An administrator orders it by command. The agent does the same by itself after each new scan of a held
machine (`starts.confirming.settle`), by the same rules of the policy and the same lineage; what it opens is
on record as the end of the hold, not as an order. Beyond the agent, a command has an incomplete look stand
against it, unless the policy itself says `unknown: allow`.

    standing = check(records, machine, examiner=examiner, now=now)
    carry_out(records, taps, standing, Order(by="alice", at=now, reason="patched"), state=places.state)
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from undercroft.errors import DeniedError, InputError, OperationError, StateError
from undercroft.model.comeback import Standing
from undercroft.model.fleet import Hold, Intent, MachineRecord
from undercroft.model.report import CURRENT
from undercroft.model.schema import Json
from undercroft.model.verdict import Action
from undercroft.ports.records import Record, Records
from undercroft.ports.taps import Taps
from undercroft.steady.rules import FLOOR
from undercroft.usecases.fleet.orders.examine import (
    INTENT_VALID,
    RELEASE_VALID,
    Examiner,
    Order,
    against_floor,
    below_sentence,
    keep_floor,
    looked,
    said_of_floor,
    stands_below,
    unproven_sentence,
)
from undercroft.usecases.fleet.starts.network import reopen
from undercroft.usecases.fleet.starts.reseed import is_fresh

KIND = "release"
_RECENT = 16
_REASONS_SHOWN = 3


def check(
    records: Records, machine: MachineRecord, *, examiner: Examiner, now: Callable[[], datetime]
) -> Standing:
    """Return what stands against opening a machine's network. Nothing is changed but its floor.

    Raises:
        StateError: the machine is not held.
    """
    domain = machine.domain
    with records.reading() as record:
        hold = held(record, machine)
    look, problems = looked(examiner, machine, CURRENT)
    with records.reading() as record:
        floor = record.floor(domain.uuid)
    if look is not None and look.inventory is not None:
        knowledge = examiner.knowledge(look.inventory)
        floor = keep_floor(records, domain.uuid, look.inventory, knowledge, look.looked_at)
    below, above = against_floor(floor, look)
    said = examiner.judge(machine, CURRENT, look, floor)
    judgement, reason = said.judgement, said.reason
    with records.reading() as record:
        against = _not_fresh(record, machine, hold, wanted=examiner.wants_fresh(machine))
    if stands_below(judgement, below):
        against.append(f"it is below its patch floor: {below_sentence(below, 'it has')}")
    if FLOOR in said.against:  # not in a machine that goes on from where it was: it is most likely a patch
        against += [unproven_sentence(source) for source in above]
    is_told = bool(against) and reason in said_of_floor(judgement)
    if judgement.action is not Action.ALLOW and not is_told:
        against.append(reason or f"the policy answers {judgement.action}")
    if look is None or examiner.unknown_action(machine) is not Action.ALLOW:
        against += problems
    return Standing(
        machine=domain.uuid,
        name=domain.name,
        hold=hold,
        returning=below,
        judgement=judgement,
        against=tuple(dict.fromkeys(against)),
        problems=problems,
        checked_at=now(),
    )


def carry_out(records: Records, taps: Taps, standing: Standing, order: Order, *, state: Path) -> None:
    """Open a machine's network, or raise and leave it closed. The order and its outcome are on record.

    An order that overrides what stands against it counts for `RELEASE_VALID`.

    Args:
        records: the record; no transaction is open.
        taps: the host's devices.
        standing: what `check` said, not older than a moment.
        order: whose, and whether what stands against it is overridden.
        state: the agent's folder, for the hook's note.

    Raises:
        DeniedError: something stands against it, and the order does not override it.
        InputError: the order gives no reason.
        StateError: the hold is gone, or is another one by now.
        OperationError: a tap could not be opened; the hold stays.
    """
    if not order.reason.strip():
        raise InputError(f"{standing.name}: a release goes on record with a reason only: --reason TEXT")
    if standing.against and not order.anyway:
        _log(records, standing, order, "refused")
        raise DeniedError(_refusal(standing))
    try:
        with records.transaction() as record:
            hold = next((one for one in record.holds() if one.machine == standing.machine), None)
            is_other = hold is None or (hold.eid, hold.since) != (standing.hold.eid, standing.hold.since)
            # It was put back since it was checked, and waits for its guest once more.
            if hold is None or is_other or (hold.reseed and not order.anyway):
                raise StateError(f"{standing.name}: its hold is another since it was checked: check again")
            record.put_intent(
                Intent(
                    machine=standing.machine,
                    kind=KIND,
                    state="",
                    by=order.by,
                    reason=order.reason,
                    at=order.at,
                    until=order.at + (RELEASE_VALID if standing.against else INTENT_VALID),
                    overrides=bool(standing.against),
                )
            )
            reopen(record, taps, hold, f"released by {order.by}: {order.reason}", order.at, state)
    except OperationError as error:
        _log(records, standing, order, "failed", str(error))
        raise
    _log(records, standing, order, "done")


def held(record: Record, machine: MachineRecord) -> Hold:
    """Return a machine's hold. Raises StateError where there is none."""
    for hold in record.holds():
        if hold.machine == machine.domain.uuid:
            return hold
    raise StateError(f"{machine.domain.name}: its network is not closed, so there is nothing to release")


def _not_fresh(record: Record, machine: MachineRecord, hold: Hold, *, wanted: bool) -> list[str]:
    """Return that its guest has not confirmed fresh randomness in this execution, where it has to."""
    known = record.own_executions(machine.domain.uuid, _RECENT)
    live = next((one for one in reversed(known) if one.live and one.host == machine.host), None)
    waits = hold.reseed or wanted
    if not waits or live is None or is_fresh(record, live):
        return []
    return ["its guest has not confirmed fresh randomness: undercroft channel status"]


def _refusal(standing: Standing) -> str:
    shown = "; ".join(standing.against[:_REASONS_SHOWN])
    more = len(standing.against) - _REASONS_SHOWN
    also = f"; and {more} more" if more > 0 else ""
    where = "closed" if standing.hold.pending else "in quarantine"
    return (
        f"{standing.name}: stays {where}: {shown}{also}; patch it from inside, write an exception into "
        "the policy, or give --anyway, which goes on record"
    )


def _log(records: Records, standing: Standing, order: Order, outcome: str, detail: str = "") -> None:
    body: dict[str, Json] = {
        "outcome": outcome,
        "against": list(standing.against),
        "overrides": bool(standing.against) and order.anyway,
        "by": order.by,
        "reason": order.reason,
        "detail": detail,
    }
    with records.transaction() as record:
        record.log(KIND, standing.machine, body, order.at)
