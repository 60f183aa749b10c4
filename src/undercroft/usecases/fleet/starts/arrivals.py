"""Which machines are being migrated to a host: their packets come from outside still, and from their ports.

    arrivals = Arrivals("host1")
    arrivals.announce(record, uuid)      # libvirt's hook: somebody has begun a migration to this host
    arrivals.arrived(record, uuid)       # libvirt's word: it runs here
    arrivals.left(record, uuid)          # libvirt's word: it goes on elsewhere, and never here again
    arrivals.now(record)                 # UUIDs

What has left by post-copy is as if it arrived: its process is here still, its packets come from outside. This
host's libvirt tells that, and no other host: it would speak in the name of machines that run here.
That a machine arrives ends once it was seen running here, whoever saw it. Whoever may ask libvirt for a
migration announces whatever UUID he likes: of what lives here, an announcement says nothing, and of others it
counts for a minute, until its process is on record as one that was migrated.
"""

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from undercroft.model.domain import Power
from undercroft.model.execution import Origin
from undercroft.model.filter import LiveOrigin
from undercroft.ports.records import Record

ANNOUNCED_S = 60.0
"""How long an announcement counts before the machine's process is on record."""
MAX_ANNOUNCED = 256
"""More are announced by nobody in good faith; the oldest goes."""


class Arrivals:
    """Of one host. Not for several threads at once.

    Args:
        host: its name.
        clock: seconds, monotonic.
    """

    def __init__(self, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._announced: dict[str, float] = {}
        self._arrived: dict[str, datetime] = {}
        self._left: dict[str, datetime] = {}

    def announce(self, record: Record, machine: str) -> None:
        """Take note that a machine is said to be about to come."""
        self._announced.pop(machine, None)
        if _here(record, self._host, machine) is None:
            self._announced[machine] = self._clock()
            while len(self._announced) > MAX_ANNOUNCED:
                del self._announced[next(iter(self._announced))]

    def arrived(self, record: Record, machine: str) -> None:
        """Take note that a machine runs here."""
        self._announced.pop(machine, None)
        self._left.pop(machine, None)
        if (live := _here(record, self._host, machine)) is not None:
            self._arrived[machine] = live.started_at

    def left(self, record: Record, machine: str) -> None:
        """Take note that a machine runs elsewhere from now on, while its process here serves its memory."""
        if (live := _here(record, self._host, machine)) is not None:
            self._left[machine] = live.started_at

    def is_announced(self, machine: str) -> bool:
        """Tell whether an announcement of a machine still counts, or has not been looked at since."""
        return machine in self._announced

    def forget(self, machine: str) -> None:
        """Take note that a machine is gone."""
        self._announced.pop(machine, None)
        self._arrived.pop(machine, None)
        self._left.pop(machine, None)

    def now(self, record: Record, machines: Collection[str] | None = None) -> frozenset[str]:
        """Return the machines that arrive, with a live process here or one that is to be, or that have left.

        Args:
            record: a transaction.
            machines: which are asked about, None for all.
        """
        live_ones = record.live_origins(machines)
        here = _of_host(live_ones, self._host)
        if machines is None:
            self._arrived = {uuid: at for uuid, at in self._arrived.items() if uuid in here}
            self._left = {uuid: at for uuid, at in self._left.items() if uuid in here}
        coming = set(_going_to(self._host, live_ones))
        for machine, since in tuple(self._announced.items()):
            if machines is not None and machine not in machines:
                continue
            live = here.get(machine)
            counts = self._clock() - since < ANNOUNCED_S if live is None else live.origin is Origin.MIGRATE
            if counts:
                coming.add(machine)
            else:
                del self._announced[machine]
        left = {uuid for uuid, at in self._left.items() if uuid in here and here[uuid].started_at == at}
        return frozenset(
            uuid for uuid in coming if uuid not in here or not self._has_arrived(record, here[uuid])
        ).union(left)

    def _has_arrived(self, record: Record, live: LiveOrigin) -> bool:
        """Tell whether it is here; one that was seen running once is, however it stands later."""
        if self._arrived.get(live.machine) == live.started_at:
            return True
        if not _was_seen_running(record, live):
            return False
        self._arrived[live.machine] = live.started_at
        self._announced.pop(live.machine, None)
        return True


def on_their_way(record: Record, host: str) -> frozenset[str]:
    """Return the machines that by the record are being migrated to a host, and still run on another one.

    One that came here before, and is on its way on, has begun on the other one since. One that was seen
    running here has come, whatever is on record of where it was.
    """
    live_ones = record.live_origins()
    here = _of_host(live_ones, host)
    going = _going_to(host, live_ones)
    return frozenset(machine for machine in going if not _was_seen_running(record, here[machine]))


def _going_to(host: str, live_ones: Sequence[LiveOrigin]) -> frozenset[str]:
    """Return the machines that live on a host and on another one, which they have left for it."""
    elsewhere: dict[str, LiveOrigin] = {}
    for item in live_ones:
        if item.host != host:
            elsewhere[item.machine] = max(item, elsewhere.get(item.machine, item), key=_order)
    return frozenset(
        machine
        for machine, live in _of_host(live_ones, host).items()
        if live.origin is Origin.MIGRATE
        and machine in elsewhere
        and _order(elsewhere[machine]) < _order(live)
    )


def _order(live: LiveOrigin) -> tuple[bool, int]:
    """Return what tells which of two hosts a machine has gone to: what was migrated has left where it began.

    The order is that of the record. Each host has a clock of its own, and they are not compared.
    """
    return live.origin is Origin.MIGRATE, live.number


def may_be_arriving(record: Record, host: str) -> frozenset[str]:
    """Return those that are on their way, and those that come from a host that is not on record.

    Of these the agent alone knows for sure: it was told before they came, and it may have ended since.
    """
    unknown = {
        machine
        for machine, live in _of_host(record.live_origins(), host).items()
        if live.origin is Origin.MIGRATE and not _was_seen_running(record, live)
    }
    return on_their_way(record, host) | unknown


def views(record: Record, host: str) -> tuple[frozenset[str], ...]:
    """Return what a host's filter may take for arriving, as far as the record tells: one of these is so.

    Of what comes from a host that is not on record, and of what leaves by post-copy, its agent alone knows.
    """
    live_ones = record.live_origins()
    sure, here = on_their_way(record, host), _of_host(live_ones, host)
    coming = sure | may_be_arriving(record, host)
    leaving = {
        one.machine
        for one in live_ones
        if one.host != host and one.origin is Origin.MIGRATE and one.machine in here
        if _order(here[one.machine]) < _order(one)
    }
    return tuple(dict.fromkeys((sure, coming, sure | leaving, coming | leaving)))


def _here(record: Record, host: str, machine: str) -> LiveOrigin | None:
    """Return a machine's latest live execution on a host."""
    return _of_host(record.live_origins([machine]), host).get(machine)


def _of_host(live_ones: Sequence[LiveOrigin], host: str) -> dict[str, LiveOrigin]:
    """Return what lives on a host, the latest of each machine."""
    return {item.machine: item for item in live_ones if item.host == host}


def _was_seen_running(record: Record, live: LiveOrigin) -> bool:
    """Tell whether a look since its process began found it running: until it comes it is paused."""
    return any(
        (seen.host, seen.domain.uuid) == (live.host, live.machine)  # a name may be another one's UUID
        and seen.domain.power is Power.RUNNING
        and seen.last_seen >= live.started_at
        for seen in record.find_machines(live.machine)
    )
