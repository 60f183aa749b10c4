"""A policy put into force: checked, put on record, and waited for until the hosts' agents hold it.

The command speaks with no agent: the record is the meeting point. Each agent takes the policy from there and
writes back what its kernel holds.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from undercroft.errors import StateError
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.stored import to_text
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.ports.records import Record, Records
from undercroft.usecases.firewall.planning import applied_of
from undercroft.usecases.firewall.values import Holding, HostHolding, Plan, Status

POLL_S = 0.2
AWAY_AFTER = timedelta(minutes=10)
"""An agent says how it is every half minute; more is for hosts whose clocks differ."""


@dataclass(frozen=True, slots=True)
class ApplyOrder:
    """Who applies a policy, when and why. `policy`: None withdraws the one in force."""

    policy: FirewallPolicy | None
    by: str
    reason: str
    at: datetime


def put_into_force(record: Record, plan: Plan, order: ApplyOrder) -> AppliedPolicy:
    """Put a policy on record, or its withdrawal.

    Args:
        record: a transaction that may write.
        plan: of this policy, as somebody has seen it.
        order: who and why.

    Raises:
        StateError: no host could hold it (`Plan.against`), another one was applied since the plan, or
            there is nothing to withdraw.
    """
    if plan.against:
        raise StateError("\n".join(plan.against))
    present = record.applied_policy()
    if (present.number if present else 0) != (plan.applied.number if plan.applied else 0):
        number = present.number if present else 0
        raise StateError(f"policy {number} was applied meanwhile; look at `undercroft firewall plan` again")
    check_withdrawal(plan, order)
    if order.policy is None:
        return record.put_applied_policy("", "", order.by, order.reason, order.at)
    text, digest = to_text(order.policy), order.policy.digest
    return record.put_applied_policy(text, digest, order.by, order.reason, order.at)


def check_withdrawal(plan: Plan, order: ApplyOrder) -> None:
    """Raise StateError where there is nothing to withdraw."""
    if order.policy is None and (plan.applied is None or plan.applied.withdrawn):
        raise StateError("no firewall policy is in force; there is nothing to withdraw")


def status(record: Record, now: datetime) -> Status:
    """Return the policy in force and what each host says of it: hosts with machines, and those that told."""
    applied = record.applied_policy()
    states = {state.host: state for state in record.filter_states()}
    counts: dict[str, int] = {}
    for machine in record.machines():
        counts[machine.host] = counts.get(machine.host, 0) + 1
    hosts = sorted({*counts, *states})
    return Status(
        applied_of(applied),
        tuple(
            HostHolding(host, _holding(applied, states.get(host), now), counts.get(host, 0), states.get(host))
            for host in hosts
        ),
    )


def wait_until_held(
    records: Records,
    *,
    wait_s: float,
    clock_s: Callable[[], float],
    sleep: Callable[[float], None],
    now: Callable[[], datetime],
) -> Status:
    """Return what the hosts say once each of them has said something of the policy in force, or time is up.

    Args:
        records: the record.
        wait_s: how long; 0 looks once.
        clock_s: a monotonic clock.
        sleep: waits some seconds.
        now: tells the time, with its zone.
    """
    until = clock_s() + wait_s
    while True:
        with records.reading() as record:
            found = status(record, now())
        if _settled(found.hosts) or clock_s() >= until:
            return found
        sleep(POLL_S)


def _settled(hosts: Iterable[HostHolding]) -> bool:
    settled = {Holding.PROVEN, Holding.QUALIFIED, Holding.VOID, Holding.PROBLEM}
    return all(host.holding in settled for host in hosts)


def _holding(applied: AppliedPolicy | None, state: FilterState | None, now: datetime) -> Holding:
    if state is None:
        return Holding.SILENT
    if applied and state.number != applied.number:
        return Holding.BEHIND
    if applied is None or not applied.body:
        # Nothing has to be proven where no table has to be.
        return Holding.PROBLEM if state.problem else Holding.PROVEN
    # A proof that is older is of the policy before.
    proven = state.proven_at is not None and state.proven_at >= applied.at
    if not proven:
        return Holding.PROBLEM if state.problem else Holding.HELD
    if state.voided:
        return Holding.VOID
    if now - state.at > AWAY_AFTER:
        return Holding.AWAY
    return Holding.QUALIFIED if state.problem else Holding.PROVEN
