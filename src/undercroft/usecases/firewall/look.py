"""One look at the record as the filter needs it: where machines are, and what is thought of them.

Bulk reads only: a look at 10,000 machines is a matter of tenths of a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from undercroft.firewall.classes import Labels, labels_of
from undercroft.firewall.policy import FirewallPolicy
from undercroft.model.domain import Interface
from undercroft.model.filter import LiveOrigin, NetworkedMachine
from undercroft.model.verdict import Verdict
from undercroft.ports.records import Record
from undercroft.usecases.fleet.subjects import machine_key
from undercroft.usecases.fleet.verdicts.facts import domain_target

_NEVER = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Look:
    """What the record says of all machines at one time.

    Attributes:
        machines: of all hosts.
        live: live executions, in order of their start.
        verdicts: by subject key.
        quarantined: UUIDs of machines with a hold that is not pending.
    """

    machines: Sequence[NetworkedMachine]
    live: Sequence[LiveOrigin]
    verdicts: Mapping[str, Verdict]
    quarantined: frozenset[str]

    @staticmethod
    def at(record: Record) -> "Look":
        """Return what is on record."""
        return Look(
            machines=record.networked_machines(),
            live=record.live_origins(),
            verdicts=record.verdicts(),
            quarantined=frozenset(hold.machine for hold in record.holds() if not hold.pending),
        )


class Standing:
    """Where machines are, and what is thought of them.

    Attributes:
        here: by UUID, as they are on record with this host, those whose packets come from its taps, or are
            about to.
    """

    def __init__(self, look: Look, host: str, arriving: frozenset[str]) -> None:
        """Take a look from `host`, to which the machines with these UUIDs are being migrated."""
        self._look = look
        self._host = host
        self._arriving = arriving
        self._live = {(item.machine, item.host): item for item in look.live}
        self._last = {item.machine: item for item in look.live}
        self.here = {machine.uuid: machine for machine in look.machines if self._is_here(machine)}

    def one_each(self) -> list[NetworkedMachine]:
        """Return each machine once, as it is where it runs or was seen last: the same to all hosts."""
        found: dict[str, NetworkedMachine] = {}
        several: dict[str, list[NetworkedMachine]] = {}
        for machine in self._look.machines:
            other = found.get(machine.uuid)
            if other is not None:
                several.setdefault(machine.uuid, [other]).append(machine)
            if other is None or self._rank(machine) > self._rank(other):
                found[machine.uuid] = machine
        for uuid, records in several.items():
            found[uuid] = _moved(found[uuid], [one for one in records if one is not found[uuid]])
        return list(found.values())

    def _is_here(self, machine: NetworkedMachine) -> bool:
        if machine.host != self._host or not any(tapped(item) for item in machine.interfaces):
            return False
        return (machine.uuid, self._host) in self._live or machine.uuid in self._arriving

    def began(self, machine: NetworkedMachine) -> datetime:
        """Return when its execution on its host began; long ago where there is none."""
        live = self._live.get((machine.uuid, machine.host))
        return live.started_at if live else _NEVER

    def labels(self, policy: FirewallPolicy, machine: NetworkedMachine) -> Labels:
        """Return a machine's labels."""
        domain = machine.domain
        live = self._live.get((machine.uuid, machine.host), self._last.get(machine.uuid))
        verdict = self._look.verdicts.get(machine_key(machine.uuid, template=domain.ownership.template))
        if machine.uuid in self._look.quarantined:
            verdict = Verdict.QUARANTINED
        elif verdict is Verdict.QUARANTINED and live is not None:
            # It was judged before it was released, or as one that was to start closed: of a machine that
            # runs the hold says whether it is quarantined, and what was judged is its software.
            verdict = Verdict.DRIFTING
        return labels_of(policy, domain_target(domain, machine.host), verdict, live.origin if live else None)

    def _rank(self, machine: NetworkedMachine) -> tuple[bool, datetime, datetime, str]:
        return (
            (machine.uuid, machine.host) in self._live,
            self.began(machine),
            machine.last_seen,
            machine.host,
        )


def tapped(interface: Interface) -> bool:
    """Tell whether a tap on a bridge carries an interface's packets."""
    return interface.holdable and bool(interface.tap)


def _moved(machine: NetworkedMachine, others: Sequence[NetworkedMachine]) -> NetworkedMachine:
    """Return a machine that is on record on several hosts with what the others know of it.

    A hook has no reservations, and libvirt of the host that a machine comes to has not been asked yet: until
    then it has those that it had, and has them as long.
    """
    reserved = {item.mac: item.addresses for other in others for item in other.interfaces if item.addresses}
    since = dict(machine.since)
    for other in others:
        for claim, at in other.since.items():
            since[claim] = min(at, since.get(claim, at))
    if any(item.addresses for item in machine.interfaces):
        reserved = {}
    interfaces = tuple(
        replace(item, addresses=item.addresses or reserved.get(item.mac, ())) for item in machine.interfaces
    )
    return replace(machine, interfaces=interfaces, since=since)
