"""Whether a port has to wait for its guest's fresh randomness, where the policy wants that.

A guest that was restored, reverted, cloned or put back inside its process draws the random numbers that it
drew before. `reseed: required` in the policy makes its taps stay off their bridges, also in quarantine,
until its helper has confirmed the seed of this very execution, and its kernel has credited it. What is
confirmed is
on record, so that the two events (how it began, and that it is fresh) may come in any order, and an agent
that was killed between them goes on from there.

A migration goes on where it was: it is as fresh as the execution that it continues, where the record has
that. What an administrator has let out all the same (`undercroft release --anyway`) in this execution stays
out.
"""

from datetime import datetime

from undercroft.model.domain import Domain
from undercroft.model.execution import Execution, Origin
from undercroft.ports.records import Record
from undercroft.steady.policy import Need, Policy
from undercroft.usecases.fleet.verdicts.facts import domain_target

RELEASE = "release"
"""The kind of intent that lets a machine out whatever stands against it."""
MAX_MOVES = 256
"""Migrations in a row that are followed back."""
WAITS = "its guest has to confirm fresh randomness first"
_CURES = "undercroft channel status; undercroft release --anyway lets it out without"


def may_be_required(policy: Policy) -> bool:
    """Tell whether a policy wants fresh randomness of any machine at all."""
    said = (rule.overrides.get("reseed") for rule in policy.rules)
    values = [policy.defaults.reseed.value, *(setting.value for setting in said if setting is not None)]
    return Need.REQUIRED in values


def is_required(policy: Policy, domain: Domain, host: str) -> bool:
    """Tell whether a policy wants fresh randomness of a machine."""
    return policy.settings(domain_target(domain, host)).reseed.value is Need.REQUIRED


def is_fresh(record: Record, execution: Execution) -> bool:
    """Tell whether the guest of an execution, on record or not, has confirmed a seed that was credited."""
    known: Execution | None = execution
    for _move in range(MAX_MOVES):
        if known is None:
            return False
        found = record.reseed(known.eid)
        if found is not None and found.credited:
            return True
        if known.origin is not Origin.MIGRATE or not known.parent:
            return False
        known = record.execution(known.parent)
    return False


def is_owed(record: Record, policy: Policy, domain: Domain, execution: Execution, at: datetime) -> bool:
    """Tell whether a machine's taps have to stay closed for want of fresh randomness.

    Args:
        record: a transaction.
        policy: the one that holds.
        domain: the machine.
        execution: the one that lives, or begins.
        at: now.
    """
    if not is_required(policy, domain, execution.host) or is_fresh(record, execution):
        return False
    order = record.intent(domain.uuid, RELEASE, at)
    return order is None or not order.overrides or order.at < execution.started_at


def reason(record: Record, domain: Domain, execution: Execution) -> str:
    """Return why a machine's taps stay closed for want of fresh randomness, and what helps."""
    found = record.reseed(execution.eid)
    if found is not None:
        return f"{WAITS}: its kernel did not credit the seed; {_CURES}"
    if not domain.channel:
        return f"{WAITS}, and it has no channel: undercroft channel enable; {_CURES}"
    return f"{WAITS}: {_CURES}"
