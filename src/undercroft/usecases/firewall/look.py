"""One look at the record as the filter needs it: where machines are, and what is thought of them.

    Look.at(record)                            # of all machines
    Look.about(record, named, uuid, "host1")   # of one, and of those that it may be in dispute with

A look at all of 10,000 machines is a matter of tenths of a second, one at a single machine of milliseconds:
it asks for no more than the machines that have what it has, by what `model.filter.things_of` tells of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from undercroft.firewall.classes import Labeller, Labels
from undercroft.model.domain import Interface
from undercroft.model.execution import Origin
from undercroft.model.filter import LiveOrigin, NetworkedMachine, tap_thing, things_of
from undercroft.model.verdict import Verdict
from undercroft.ports.records import Record
from undercroft.usecases.firewall.claims import Named
from undercroft.usecases.firewall.whereabouts import oldest, strays
from undercroft.usecases.fleet.subjects import machine_key
from undercroft.usecases.fleet.verdicts.facts import domain_target

_NEVER = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Look:
    """What the record says of machines at one time.

    Attributes:
        machines: of all hosts.
        live: live executions, in order of their start.
        verdicts: by subject key.
        quarantined: UUIDs of machines with a hold that is not pending.
        astray: UUID and host of live executions of machines that did not go there from where they live.
    """

    machines: Sequence[NetworkedMachine]
    live: Sequence[LiveOrigin]
    verdicts: Mapping[str, Verdict]
    quarantined: frozenset[str]
    astray: frozenset[tuple[str, str]] = frozenset()

    @staticmethod
    def at(record: Record) -> "Look":
        """Return what is on record."""
        return _look(record, record.networked_machines(), None)

    @staticmethod
    def about(record: Record, named: Named, machine: str, host: str) -> "Look":
        """Return as much of it as decides what one machine has on a host.

        Whoever has an address, a MAC or a tap that it has too may have it instead; whether such a one has the
        MAC on this host is decided by its tap, which a third one may have.
        """
        own = record.networked_machines([machine])
        things = {thing for one in own for thing in things_of(one.host, one.domain)}
        things.update(address for one in own for address in named.addresses(one.name))
        names = {name for thing in things for name in named.names(thing)}
        rivals = record.machines_with(things, names)
        taps = {tap_thing(host, item.tap) for one in rivals if one.host == host for item in one.interfaces}
        others = record.machines_with(taps - things) if taps - things else ()
        found = {(one.uuid, one.host): one for one in (*own, *rivals, *others)}
        return _look(record, tuple(found.values()), frozenset(uuid for uuid, _ in found))


def _look(record: Record, machines: Sequence[NetworkedMachine], uuids: Collection[str] | None) -> Look:
    live = record.live_origins(uuids)
    keys = None
    if uuids is not None:
        keys = [machine_key(uuid, template=template) for uuid in uuids for template in (False, True)]
    hosts: dict[str, set[str]] = {}
    for item in live:
        hosts.setdefault(item.machine, set()).add(item.host)
    several = [machine for machine, places in hosts.items() if len(places) > 1]
    return Look(
        machines=machines,
        live=live,
        verdicts=record.verdicts(keys),
        quarantined=frozenset(hold.machine for hold in record.holds(uuids) if not hold.pending),
        astray=frozenset(
            (machine, host) for machine in several for host in strays(record.executions_as_told(machine))
        ),
    )


class Standing:
    """Where machines are, and what is thought of them; the same to all hosts, but for `here`.

    Attributes:
        machines: by UUID, each once, as it is where it runs or was seen last.
        false: machines that live and have a UUID which is another one's, with that one.
    """

    def __init__(self, look: Look) -> None:
        """Take a look."""
        self._look = look
        self._live = {(item.machine, item.host): item for item in look.live}
        self._of_uuid: dict[str, list[LiveOrigin]] = {}
        for item in look.live:
            self._of_uuid.setdefault(item.machine, []).append(item)
        self._of_host: dict[str, list[NetworkedMachine]] = {}
        self._true: dict[str, list[NetworkedMachine]] = {}
        self.machines: dict[str, NetworkedMachine] = {}
        self.false: list[tuple[NetworkedMachine, NetworkedMachine]] = []
        rows: dict[str, list[NetworkedMachine]] = {}
        for machine in look.machines:
            rows.setdefault(machine.uuid, []).append(machine)
            self._of_host.setdefault(machine.host, []).append(machine)
        for uuid, several in rows.items():
            self.machines[uuid] = several[0] if len(several) == 1 else self._one_of(several)

    def _one_of(self, several: Sequence[NetworkedMachine]) -> NetworkedMachine:
        """Return the one that has the UUID of these."""
        eldest = oldest(several)
        true = [one for one in eldest if (one.uuid, one.host) not in self._look.astray] or eldest
        found = max(true, key=self._rank)
        self._true[found.uuid] = true
        self.false += [(one, found) for one in several if self.is_live(one) and not self._is_true(one)]
        return _moved(found, [one for one in true if one is not found])

    def here(self, host: str, arriving: frozenset[str] = frozenset()) -> dict[str, NetworkedMachine]:
        """Return the machines whose packets come from taps of a host, or are about to, as it has them.

        Args:
            host: which.
            arriving: UUIDs of machines that are being migrated to it.
        """
        return {
            machine.uuid: machine
            for machine in self._of_host.get(host, ())
            if any(map(tapped, machine.interfaces))
            and (machine.uuid in arriving or (self.is_live(machine) and self._is_true(machine)))
        }

    def is_live(self, machine: NetworkedMachine) -> bool:
        """Tell whether a machine has a live execution on its host."""
        return (machine.uuid, machine.host) in self._live

    def began(self, machine: NetworkedMachine) -> datetime:
        """Return when its execution on its host began; long ago where there is none."""
        live = self._live.get((machine.uuid, machine.host))
        return live.started_at if live else _NEVER

    def labels(self, labeller: Labeller, machine: NetworkedMachine) -> Labels:
        """Return a machine's labels."""
        domain = machine.domain
        live = self._live.get((machine.uuid, machine.host)) or self._lives(machine.uuid)
        verdict = self._look.verdicts.get(machine_key(machine.uuid, template=domain.ownership.template))
        if machine.uuid in self._look.quarantined:
            verdict = Verdict.QUARANTINED
        elif verdict is Verdict.QUARANTINED and live is not None:
            # It was judged before it was released, or as one that was to start closed: of a machine that
            # runs the hold says whether it is quarantined, and what was judged is its software.
            verdict = Verdict.DRIFTING
        return labeller.labels(domain_target(domain, machine.host), verdict, live.origin if live else None)

    def _is_true(self, machine: NetworkedMachine) -> bool:
        return any(machine is one for one in self._true.get(machine.uuid, (machine,)))

    def _lives(self, uuid: str) -> LiveOrigin | None:
        """Return the live execution of a machine on whichever host, None where it has none."""
        false = {one.host for one, _ in self.false if one.uuid == uuid} if self.false else ()
        return max(
            (one for one in self._of_uuid.get(uuid, ()) if one.host not in false), key=_order, default=None
        )

    def _rank(self, machine: NetworkedMachine) -> tuple[bool, tuple[bool, int], datetime, str]:
        live = self._live.get((machine.uuid, machine.host))
        return live is not None, _order(live) if live else (False, 0), machine.last_seen, machine.host


def _order(live: LiveOrigin) -> tuple[bool, int]:
    """Return what tells where a machine goes to that lives on two hosts; clocks of hosts say nothing."""
    return live.origin is Origin.MIGRATE, live.number


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
