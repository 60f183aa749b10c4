"""All machines as a policy sees them, on whichever host they are: labels, ports, addresses."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from undercroft.errors import NotFoundError
from undercroft.firewall.classes import Labels
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.policy import Address, FirewallPolicy
from undercroft.model.execution import Origin
from undercroft.model.fleet import MachineRecord
from undercroft.model.verdict import Verdict
from undercroft.ports.records import Record
from undercroft.usecases.firewall.claims import Named
from undercroft.usecases.firewall.machines import Gatherer, Look
from undercroft.usecases.fleet.subjects import machine_key


@dataclass(frozen=True, slots=True)
class Member:
    """One machine.

    Attributes:
        record: what the record has of it.
        labels: that the policy gives it.
        addresses: that are its own, as the filter of some host knows them.
        ports: its interfaces on the bridges of its host, () while it does not run.
    """

    record: MachineRecord
    labels: Labels
    addresses: tuple[Address, ...]
    ports: tuple[Port, ...]

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.record.domain.name

    @property
    def host(self) -> str:
        """Where it is."""
        return self.record.host


@dataclass(frozen=True, slots=True)
class Members:
    """All of them by UUID, hosts' views of the fleet, and what is wrong with it, in words."""

    machines: Mapping[str, Member]
    fleets: Mapping[str, Fleet]
    problems: tuple[str, ...]

    def of(self, machine: MachineRecord) -> Member:
        """Return one of them. Raises NotFoundError for a machine that is gone."""
        found = self.machines.get(machine.domain.uuid)
        if found is None:
            raise NotFoundError(
                f"{machine.domain.name}: it is gone since {machine.gone_at}; nothing filters it"
            )
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """What the record knows of a machine beside its definition, as its labels need it.

    Attributes:
        verdict: as last judged, None for never; QUARANTINED while its network is closed.
        origin: how its present execution began, None where it has none or nobody knows.
        held: its network is closed, or is the quarantine's.
    """

    verdict: Verdict | None
    origin: Origin | None
    held: bool


def members(
    record: Record,
    policy: FirewallPolicy,
    host_addresses: Mapping[str, tuple[Address, ...]],
    hosts: Collection[str] | None = None,
) -> Members:
    """Return the machines on record under a policy, all of them with labels and addresses.

    Args:
        record: an open transaction.
        policy: any.
        host_addresses: by host, as far as they are known.
        hosts: whose filters are looked at: machines of others have no ports, and their problems are not
            told. None for all; each takes some time with thousands of machines.
    """
    gatherer = Gatherer(Look.at(record), Named(policy))
    found = record.machines()
    fleets: dict[str, Fleet] = {}
    problems: dict[str, None] = {}
    labels: dict[str, Labels] = {}
    addresses: dict[str, dict[Address, None]] = {}
    ports: dict[str, list[Port]] = {}
    every = {machine.host for machine in found}
    for host in sorted(every if hosts is None else every & set(hosts)) or sorted(every)[:1]:
        view = gatherer.at(host, host_addresses.get(host, ()))
        fleets[host] = view.fleet
        problems |= dict.fromkeys(view.problems)
        labels |= {uuid: mine for uuid, mine in view.labels.items() if uuid not in labels}
        for port in view.fleet.ports:
            labels[port.machine] = port.labels
            ports.setdefault(port.machine, []).append(port)
            addresses.setdefault(port.machine, {}).update(dict.fromkeys((*port.ipv4, *port.ipv6)))
        for other in view.fleet.elsewhere:
            addresses.setdefault(other.machine, {}).update(dict.fromkeys(other.addresses))
    machines: dict[str, Member] = {}
    # A machine that is on record on two hosts is the one that has ports, else the one that was seen last.
    for machine in sorted(found, key=lambda one: one.last_seen):
        uuid = machine.domain.uuid
        mine = tuple(port for port in ports.get(uuid, ()) if port.host == machine.host)
        if mine or uuid not in machines or not machines[uuid].ports:
            machines[uuid] = Member(machine, labels[uuid], tuple(addresses.get(uuid, ())), mine)
    return Members(machines, fleets, tuple(problems))


def known_of(record: Record, machine: MachineRecord) -> Known:
    """Return what the record knows of a machine."""
    domain = machine.domain
    judgement = record.judgement(machine_key(domain.uuid, template=domain.ownership.template))
    verdict = judgement.verdict if judgement else None
    held = any(hold.machine == domain.uuid and not hold.pending for hold in record.holds())
    live = [one for one in record.own_executions(domain.uuid, 1) if one.ended_at is None]
    if held:
        verdict = Verdict.QUARANTINED
    elif verdict is Verdict.QUARANTINED and live:
        verdict = Verdict.DRIFTING  # as in `machines`: of a machine that runs the hold says whether it is
    return Known(verdict, live[0].origin if live else None, held)


def counts(everyone: Members) -> Mapping[str, int]:
    """Return how many machines have each label."""
    return Counter(label for member in everyone.machines.values() for label in member.labels)
