"""What is on record of the firewall: the policy in force, what hosts' kernels hold, flows on the move."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from undercroft.errors import InputError
from undercroft.model.addresses import own_address
from undercroft.model.domain import Domain, Interface, Ownership, Power
from undercroft.model.execution import Origin

MAX_PROBLEM_CHARACTERS = 8_000
"""Of one host's filter; the rest of a longer one says nothing that the beginning does not."""


FLOWS_KEPT = timedelta(minutes=10)
"""How long flows of a machine that has left are on record at least, where nobody takes them."""


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """A firewall policy that somebody has put into force.

    Attributes:
        number: from 1; each that is applied has the next.
        digest: `FirewallPolicy.digest`.
        body: the policy as `firewall.stored.to_text` writes it.
        by: the user.
        reason: in the user's words, "" for none.
        at: with a time zone.
    """

    number: int
    digest: str
    body: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FilterState:
    """What the kernel of one host holds, as its agent says.

    Attributes:
        host: its name.
        number: of the policy that is in force there, 0 for none.
        digest: of that policy, "" for none.
        generation: the kernel's number of its ruleset when it was read.
        machines: how many machines have a port there.
        proven_at: when what the kernel holds was last proven to be what policy and record say, None for
            never.
        problem: why that is not so, or what of it no host can do, "" where all is well.
        at: when this was written.
        around_at: when what stands around the table was last looked at, None for never: a proof is of the
            table alone.
        findings: how many things were found there then.
        voided: one of them defeats the table, and `problem` tells it.
    """

    host: str
    number: int
    digest: str
    generation: int
    machines: int
    proven_at: datetime | None
    problem: str
    at: datetime
    around_at: datetime | None = None
    findings: int = 0
    voided: bool = False

    def bounded(self) -> "FilterState":
        """Return it with a `problem` of at most `MAX_PROBLEM_CHARACTERS`."""
        if len(self.problem) <= MAX_PROBLEM_CHARACTERS:
            return self
        return replace(self, problem=self.problem[: MAX_PROBLEM_CHARACTERS - 3] + "...")


@dataclass(frozen=True, slots=True)
class MovedFlows:
    """The open flows of a machine that has left a host, for the host that it has gone to.

    Attributes:
        machine: UUID.
        host: the one that it has left.
        at: when.
        elements: by the set that they stand in, their keys as the kernel has them.
    """

    machine: str
    host: str
    at: datetime
    elements: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkedMachine:
    """What the filter needs to know of one machine on one host: `MachineRecord` without the rest.

    Attributes:
        host, uuid, name, power, interfaces, ownership: as there.
        last_seen: as there.
        since: when it first had each of its MACs and addresses, and its UUID on this host, without a break,
            by `claims_of`'s texts. What has migrated goes on having what it had.
    """

    host: str
    uuid: str
    name: str
    power: Power
    interfaces: tuple[Interface, ...]
    ownership: Ownership
    last_seen: datetime
    since: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        """The machine with what is known here; all else of it is at its default."""
        return Domain(self.uuid, self.name, self.power, interfaces=self.interfaces, ownership=self.ownership)


@dataclass(frozen=True, slots=True)
class LiveOrigin:
    """Where a machine's live execution is, how it began, and when.

    Attributes:
        machine, host, origin, started_at: as there; `started_at` is by the host's own clock.
        number: tells of two hosts' executions which one the record learned of first: the lower one.
    """

    machine: str
    host: str
    origin: Origin
    started_at: datetime
    number: int = 0


def claims_of(domain: Domain) -> frozenset[str]:
    """Return a machine's UUID and MACs, and the addresses that its metadata and reservations give it."""
    found = {domain.uuid}
    found |= {address for interface in domain.interfaces for address in interface.addresses}
    found |= {interface.mac for interface in domain.interfaces if interface.mac}
    found |= {text.partition("@")[0] for text in domain.ownership.addresses}
    return frozenset(found)


def things_of(host: str, domain: Domain) -> frozenset[str]:
    """Return what machines may be in dispute about: MACs, addresses as they are compared, taps of a host."""
    found = {interface.mac.lower() for interface in domain.interfaces if interface.mac}
    found |= {tap_thing(host, interface.tap) for interface in domain.interfaces if interface.tap}
    texts = [address for interface in domain.interfaces for address in interface.addresses]
    for text in (*texts, *(text.partition("@")[0] for text in domain.ownership.addresses)):
        try:
            found.add(str(own_address(text)))
        except InputError:
            continue  # nobody can have it
    return frozenset(found)


def tap_thing(host: str, tap: str) -> str:
    """Return what stands among `things_of` for a tap."""
    return f"tap {tap} of {host}"
