"""A guarded revert: first what would come back, then the decision, and only then the revert.

libvirt kills the running guest before its hook is asked, so a hook cannot keep a guest alive that a refused
revert would end. This decides before libvirt is spoken to at all:

1. The present state is read, so that what was fixed an hour ago counts.
2. The snapshot's state is read from its own bytes and compared with the patch floor.
3. It is judged by the policy, as a start from it would be.
4. What brings back a fixed vulnerability is refused, whatever a start would meet; an administrator may
   override it, and both is on record before libvirt is asked.

    comeback = check(records, machine, "before-upgrade", examiner=examiner, now=now)
    carry_out(records, hypervisor, comeback, Order(by="alice", at=now))
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from undercroft.errors import (
    BusyError,
    DeniedError,
    InputError,
    NotFoundError,
    StateError,
    UndercroftError,
    UnsupportedError,
)
from undercroft.lineage.credentialdiff import coming_back
from undercroft.model.comeback import Comeback, CredentialsBack, FindingsBack
from undercroft.model.domain import Domain, DomainSnapshot
from undercroft.model.finding import Assessment, Finding, FixState
from undercroft.model.fleet import Intent, MachineRecord
from undercroft.model.report import CURRENT
from undercroft.model.schema import Json
from undercroft.model.verdict import Action
from undercroft.ports.fleet import FleetHypervisor
from undercroft.ports.records import Records
from undercroft.steady.judge import strongest
from undercroft.usecases.fleet.orders.examine import (
    INTENT_VALID,
    Examiner,
    Look,
    Order,
    against_floor,
    below_sentence,
    excused,
    keep_floor,
    looked,
    said_of_floor,
    stands_below,
    unproven_sentence,
)
from undercroft.usecases.fleet.reading.snapshotdisks import unnameable

KIND = "revert"
HELD_AGAIN_S = 0.5
HELD_TRIES = 40
"""A scan holds a running machine for a second or so, and libvirt reverts none that is held."""
_REASONS_SHOWN = 3


def check(
    records: Records,
    machine: MachineRecord,
    snapshot: str,
    *,
    examiner: Examiner,
    now: Callable[[], datetime],
) -> Comeback:
    """Return what a revert to a snapshot would bring back, and what it meets; it changes only the floor.

    Raises:
        NotFoundError, UnsupportedError: as `named_snapshot`.
    """
    taken = named_snapshot(machine.domain, snapshot)
    present, notes = _present(records, machine, examiner)
    then, problems = looked(examiner, machine, snapshot)
    with records.reading() as record:
        floor = record.floor(machine.domain.uuid)
    if not floor.entries and (present is None or present.inventory is None):
        problems += ("what the machine has fixed is unknown: its present state was never read",)
    below, above = against_floor(floor, then)
    said = examiner.judge(machine, snapshot, then, floor)
    judgement = said.judgement
    if not excused(judgement):
        problems += tuple(map(unproven_sentence, above))
    answers: list[tuple[Action, str]] = []
    if stands_below(judgement, below):
        answers.append((Action.REFUSE, below_sentence(below, "it would bring back")))
    unknown = examiner.unknown_action(machine) if problems else Action.ALLOW
    of_floor = bool(below or above) and said.reason in said_of_floor(judgement)
    is_told = of_floor and (bool(answers) or unknown is not Action.ALLOW)
    answers.append(
        (judgement.action, "" if is_told else said.reason or f"the policy answers {judgement.action}")
    )
    if problems:
        answers.append((unknown, f"it cannot be judged: {problems[0]}"))
    action, reasons = _decide(answers)
    return Comeback(
        machine=machine.domain.uuid,
        name=machine.domain.name,
        snapshot=snapshot,
        created_at_s=taken.created_at_s,
        returning=below,
        unproven=above,
        findings=_findings(present, then),
        credentials=_credentials(present, then),
        judgement=judgement,
        action=action,
        reasons=reasons,
        problems=(*problems, *notes),
        checked_at=now(),
    )


def carry_out(
    records: Records,
    hypervisor: FleetHypervisor,
    comeback: Comeback,
    order: Order,
    *,
    paused: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Revert as `comeback` decided, or raise before anything has happened to the running guest.

    The order and its outcome are on record. Where the decision is a quarantine the revert is carried out;
    the agent closes the network at the start that follows. An order that overrides counts on for the next
    start, since a snapshot of a machine that was off starts nothing.

    Args:
        records: the record; no transaction is open.
        hypervisor: libvirt.
        comeback: what `check` said, not older than a moment.
        order: whose, and whether a refusal is overridden.
        paused: leave the machine paused after it.
        tell: takes a line where a scan is waited for, which holds the machine for a moment.
        pause: waits for so many seconds.

    Raises:
        DeniedError: it is refused, and the order does not override it.
        InputError: the order overrides without a reason.
        StateError: the snapshot is not the one that was checked.
        NotFoundError: the machine or the snapshot is gone.
        BusyError: a scan held the machine all the time.
        OperationError: libvirt failed; the message has its words.
    """
    _may(records, hypervisor, comeback, order)
    refused = comeback.action is Action.REFUSE
    with records.transaction() as record:
        record.put_intent(_intent(comeback, order, overrides=refused))
    try:
        _revert(hypervisor, comeback, tell, pause, paused=paused)
    except UndercroftError as error:
        with records.transaction() as record:
            record.end_intent(comeback.machine, KIND, order.at)
        _log(records, comeback, order, "failed", str(error))
        raise
    if not refused:  # the start, if there was one, is decided; no other may be taken for it
        with records.transaction() as record:
            record.end_intent(comeback.machine, KIND, order.at)
    _log(records, comeback, order, "done")


def _may(records: Records, hypervisor: FleetHypervisor, comeback: Comeback, order: Order) -> None:
    """Raise where the order may not be carried out. See `carry_out`."""
    refused = comeback.action is Action.REFUSE
    if refused and not order.anyway:
        _log(records, comeback, order, "refused")
        raise DeniedError(_refusal(comeback))
    if refused and not order.reason.strip():
        raise InputError(f"{comeback.name}: a refusal is overridden with a reason only: --reason TEXT")
    taken = named_snapshot(hypervisor.domain(comeback.machine), comeback.snapshot)
    if taken.created_at_s != comeback.created_at_s:
        raise StateError(
            f"{comeback.name}: snapshot {comeback.snapshot!r} is another since it was checked: check again"
        )


def _intent(comeback: Comeback, order: Order, *, overrides: bool) -> Intent:
    return Intent(
        machine=comeback.machine,
        kind=KIND,
        state=comeback.snapshot,
        by=order.by,
        reason=order.reason,
        at=order.at,
        until=order.at + INTENT_VALID,
        overrides=overrides,
    )


def _revert(
    hypervisor: FleetHypervisor,
    comeback: Comeback,
    tell: Callable[[str], None],
    pause: Callable[[float], None],
    *,
    paused: bool,
) -> None:
    for left in reversed(range(HELD_TRIES)):
        try:
            hypervisor.revert(comeback.machine, comeback.snapshot, paused=paused)
            return
        except BusyError:
            if not left:
                raise
            if left == HELD_TRIES - 1:
                limit = f"at most {HELD_AGAIN_S * HELD_TRIES:g} s"
                tell(f"{comeback.name}: waiting for the scan that holds its disks to end, {limit}")
            pause(HELD_AGAIN_S)


def named_snapshot(domain: Domain, name: str) -> DomainSnapshot:
    """Return a machine's snapshot.

    Raises:
        NotFoundError: there is none; the message lists those that there are.
        UnsupportedError: it has the name of the present state, by which that would be judged in its place.
    """
    if name == CURRENT:
        raise UnsupportedError(unnameable(domain))
    for snapshot in domain.snapshots:
        if snapshot.name == name:
            return snapshot
    existing = ", ".join(repr(snapshot.name) for snapshot in domain.snapshots) or "none"
    raise NotFoundError(f"{domain.name}: libvirt has no snapshot {name!r} of it; it has: {existing}")


def _present(
    records: Records, machine: MachineRecord, examiner: Examiner
) -> tuple[Look | None, tuple[str, ...]]:
    """Return what the machine holds now, its floor raised to it, and why that may be missing.

    A machine whose present state cannot be read any more is what snapshots are kept for: then the floor
    on record stands.
    """
    look, problems = looked(examiner, machine, CURRENT)
    if look is not None and look.inventory is not None:
        knowledge = examiner.knowledge(look.inventory)
        keep_floor(records, machine.domain.uuid, look.inventory, knowledge, look.looked_at)
    return look, tuple(f"the present state: {problem}" for problem in problems)


def _decide(answers: Sequence[tuple[Action, str]]) -> tuple[Action, tuple[str, ...]]:
    """Return the strongest answer, and every reason for one that is not to allow it; "" is told already."""
    reasons = [reason for action, reason in answers if action is not Action.ALLOW and reason]
    return strongest([action for action, _ in answers]), tuple(dict.fromkeys(reasons))


def _refusal(comeback: Comeback) -> str:
    reasons = "; ".join(comeback.reasons[:_REASONS_SHOWN])
    return (
        f"{comeback.name}: not reverted to {comeback.snapshot!r}: {reasons}; "
        "patch and take a new snapshot, or give --anyway --reason TEXT, which goes on record"
    )


def _findings(present: Look | None, then: Look | None) -> FindingsBack | None:
    """Return how the findings differ, None where one side was not assessed."""
    if present is None or then is None or present.assessment is None or then.assessment is None:
        return None
    old, new = _identities(then.assessment), _identities(present.assessment)
    back = [finding for name, finding in old.items() if name not in new]
    return FindingsBack(
        total=len(old),
        back=len(back),
        gone=len(new.keys() - old.keys()),
        exploited=tuple(sorted({item.vulnerability for item in back if item.known_exploited_on is not None})),
        fixable=sum(finding.fix is FixState.FIXABLE for finding in back),
    )


def _identities(assessment: Assessment) -> dict[tuple[str, str], Finding]:
    return {(finding.vulnerability, finding.source): finding for finding in assessment.findings}


def _credentials(present: Look | None, then: Look | None) -> CredentialsBack:
    now = present.credentials if present else None
    old = then.credentials if then else None
    if now is None or old is None:
        side = "then" if old is None else "now"
        return CredentialsBack(problems=(f"{side}: accounts and keys could not be read",))
    return coming_back(now, old)


def _log(records: Records, comeback: Comeback, order: Order, outcome: str, detail: str = "") -> None:
    body: dict[str, Json] = {
        "snapshot": comeback.snapshot,
        "outcome": outcome,
        "action": comeback.action.value,
        "reasons": list(comeback.reasons),
        "returning": len(comeback.returning),
        "credentials": len(comeback.credentials.returning),
        "overrides": comeback.action is Action.REFUSE and order.anyway,
        "by": order.by,
        "reason": order.reason,
        "detail": detail,
    }
    with records.transaction() as record:
        record.log(KIND, comeback.machine, body, order.at)
