"""Ports that the kernel was told of before the record says so, and their shields."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from undercroft.errors import NotFoundError, UndercroftError
from undercroft.firewall.fleet import Fleet, Port


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What a transaction that has not ended has told the kernel of one machine."""

    ports: tuple[Port, ...]


def with_claims(fleet: Fleet, claims: Mapping[str, Claim]) -> Fleet:
    """Return the fleet with what transactions that have not ended have told of their machines (by UUID)."""
    if not claims:
        return fleet
    claimed = [port for claim in claims.values() for port in claim.ports]
    taps, macs = {port.tap for port in claimed}, {port.mac for port in claimed}
    others = [
        port
        for port in fleet.ports
        if port.machine not in claims and port.tap not in taps and port.mac not in macs
    ]
    elsewhere = tuple(one for one in fleet.elsewhere if one.machine not in claims)
    return replace(fleet, ports=(*others, *claimed), elsewhere=elsewhere)


def left(before: Sequence[Port], after: Sequence[Port]) -> tuple[Port, ...]:
    """Return ports whose MACs have left them, to be shielded as such: a bridge finds out anew where each is.

    A tap may be there longer than its machine's port: it is closed, or another machine's by now.
    """
    kept = {(port.tap, port.mac) for port in after}
    return tuple(replace(port, arriving=True) for port in before if (port.tap, port.mac) not in kept)


def shielded(shield: Callable[[Port], None], ports: Sequence[Port]) -> tuple[str, ...]:
    """Shield ports; return why some are not, one sentence each. A port that is gone needs none."""
    problems = []
    for port in ports:
        try:
            shield(port)
        except NotFoundError:
            continue  # it is gone
        except UndercroftError as error:
            problems.append(f"{port.tap} is not shielded: {error}")
    return tuple(problems)
