"""Where a machine is that is on record with several hosts. Pure.

A UUID is had like an address: by the machine that has had it longest, and whoever defines another machine of
that UUID on another host comes into nothing. A machine is the same on another host where it was migrated to:
it goes on having there what it had. That a host on which it was before defines it still says nothing: one
that is started there, while it lives where it has gone to, is another one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from undercroft.model.execution import Execution, Origin
from undercroft.model.filter import NetworkedMachine

_MOVED, _FAILED = "migrated", "failed"
"""Endings of executions."""


def oldest(machines: Sequence[NetworkedMachine]) -> list[NetworkedMachine]:
    """Return those of one UUID that have had it longest: one, and what it was until it was migrated."""
    ages = [_age(machine) for machine in machines]
    return [machine for machine, age in zip(machines, ages, strict=True) if age == min(ages)]


def _age(machine: NetworkedMachine) -> datetime:
    return machine.since.get(machine.uuid, machine.last_seen)


def strays(executions: Iterable[Execution]) -> frozenset[str]:
    """Return the hosts on which a machine lives that has not gone there from where it lived.

    Of two that were started and of which one then migrates nobody tells which it was: it is taken for the one
    that came last.

    Args:
        executions: of one machine, in the order in which the record learned of them, which rests on no clock.
    """
    place = ""
    living: set[str] = set()
    astray: dict[str, bool] = {}  # whether it lives
    for execution in executions:
        host = execution.host
        if execution.origin is Origin.MIGRATE and host != place and place:
            if execution.ending == _FAILED:
                continue
            if astray:
                astray = {other: lives for other, lives in astray.items() if lives} | {host: execution.live}
            else:
                place = host
        elif host != place and living - astray.keys() - {host}:
            if execution.live or execution.ending == _MOVED:  # what has stopped says nothing of what follows
                astray[host] = execution.live
        else:
            place = host
        if execution.live:
            living.add(host)
    return frozenset(astray) & living
