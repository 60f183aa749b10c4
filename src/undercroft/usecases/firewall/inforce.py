"""The policy that a question is about: the one in force by the record, or a file that is not applied."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from undercroft.errors import InputError, NotFoundError, StateError
from undercroft.firewall import reading as firewall
from undercroft.firewall.policy import Address, FirewallPolicy
from undercroft.firewall.stored import from_text
from undercroft.ports.records import Record
from undercroft.steady import reading as steady
from undercroft.usecases.firewall.members import members
from undercroft.usecases.firewall.planning import BridgePort, plan_of
from undercroft.usecases.firewall.values import Plan
from undercroft.usecases.fleet.verdicts.policyfile import read_texts


def policy_of_file(path: Path, today: date) -> FirewallPolicy:
    """Return the firewall's part of a policy that has no mistake in any part.

    Args:
        path: a file, or a folder of them.
        today: the day, in UTC.

    Raises:
        InputError: one line for each mistake; or it says nothing of the firewall.
        NotFoundError, OperationError: as `read_texts`.
    """
    texts = read_texts(path)
    found, rest = firewall.check(texts), steady.check(texts, today)
    problems = dict.fromkeys((*rest.problems, *found.problems))
    if problems or found.policy is None:
        raise InputError("\n".join(map(str, problems)))
    if found.policy.digest == FirewallPolicy().digest:
        raise InputError(
            f"{path}: nothing in it is about the firewall, so that it would close every machine;"
            " docs/FIREWALL.md has a first policy; undercroft firewall apply --withdraw opens everything"
        )
    return found.policy


def policy_in_force(record: Record) -> tuple[int, FirewallPolicy]:
    """Return number and policy.

    Raises:
        NotFoundError: none is in force.
        StateError: the one on record cannot be read.
    """
    applied = record.applied_policy()
    if applied is None or not applied.body:
        raise NotFoundError(
            "no firewall policy is in force: nothing is filtered; undercroft firewall plan shows what one"
            " would do; show, trace and map take one that is not applied: --policy FILE"
        )
    return applied.number, from_text(applied.body)


def policy_asked(record: Record, path: Path | None, today: date) -> tuple[int, FirewallPolicy]:
    """Return the policy of a file, with the number 0, or the one in force. Raises as the two above."""
    return policy_in_force(record) if path is None else (0, policy_of_file(path, today))


def planned(
    record: Record,
    policy: FirewallPolicy | None,
    host_addresses: Mapping[str, tuple[Address, ...]],
    bridge_ports: Sequence[BridgePort] = (),
) -> Plan:
    """Return what applying a policy would change.

    Args:
        record: an open transaction.
        policy: to be applied, None for a withdrawal.
        host_addresses: by host, as far as they are known.
        bridge_ports: of this host.
    """
    applied = record.applied_policy()
    before, problem = None, ""
    if applied and applied.body:
        try:
            before = from_text(applied.body)
        except StateError as error:
            problem = str(error)
    after_members = members(record, policy or before or FirewallPolicy(), host_addresses)
    before_members = members(record, before, host_addresses, ()) if before else after_members
    return plan_of(
        applied,
        (before, before_members),
        (policy, after_members),
        bridge_ports,
        (problem,) if problem else (),
    )
