"""How each machine stands beneath its guest, from the record: who has fresh randomness, and who has not."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from undercroft.errors import NotFoundError
from undercroft.inventory.vmgenid import has_driver
from undercroft.model.channel import GuestChannel, Heard, Reseed
from undercroft.model.domain import Domain
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import MachineRecord
from undercroft.ports.records import Record
from undercroft.usecases.fleet.starts.reseed import MAX_MOVES
from undercroft.usecases.fleet.subjects import machine_key
from undercroft.usecases.fleet.views.values import ChannelRow, Protection


def channel_rows(record: Record, machines: Sequence[MachineRecord]) -> tuple[ChannelRow, ...]:
    """Return how these machines stand, worst first.

    Args:
        record: an open transaction.
        machines: such as are there.

    Raises OperationError: the record cannot be read.
    """
    live = {(one.machine, one.host): one for one in record.live_executions()}
    here = [live[key] for one in machines if (key := (one.domain.uuid, one.host)) in live]
    chains = {one.eid: _chain(record, one) for one in here}
    reseeds = record.reseeds({eid for chain in chains.values() for eid in chain})
    channels, homes = record.channels(), record.vault_homes()
    rows = []
    for machine in machines:
        uuid = machine.domain.uuid
        execution = live.get((uuid, machine.host))
        chain = chains.get(execution.eid, ()) if execution else ()
        confirmed = next((reseeds[eid] for eid in chain if eid in reseeds), None)
        row = _row(record, machine, execution, confirmed, channels.get(uuid))
        home = homes.get(uuid)
        away = home is not None and home.host != machine.host
        rows.append(replace(row, elsewhere=home.host) if home is not None and away else row)
    order = list(Protection)
    return tuple(sorted(rows, key=lambda row: (order.index(row.protection), row.name, row.host)))


def _chain(record: Record, execution: Execution) -> tuple[str, ...]:
    """Return the executions whose confirmation counts for one: it, and what it was migrated from."""
    found: list[str] = []
    known: Execution | None = execution
    while known is not None and len(found) < MAX_MOVES:
        found.append(known.eid)
        moved = known.origin is Origin.MIGRATE and known.parent
        known = record.execution(known.parent) if moved else None
    return tuple(found)


def _row(
    record: Record,
    machine: MachineRecord,
    execution: Execution | None,
    confirmed: Reseed | None,
    channel: GuestChannel | None,
) -> ChannelRow:
    domain = machine.domain
    if channel is not None and (execution is None or channel.eid != execution.eid):
        channel = None  # of an execution that is over
    return ChannelRow(
        machine=domain.uuid,
        name=domain.name,
        host=machine.host,
        protection=_protection(domain, execution, confirmed, channel),
        channel=domain.channel,
        generation=confirmed.generation if confirmed else 0,
        confirmed_at=confirmed.at if confirmed else None,
        milliseconds=confirmed.milliseconds if confirmed else 0,
        helper=channel.helper if channel else "",
        kernel=channel.kernel if channel else "",
        genid=domain.genid,
        driver=_driver(record, domain.uuid),
        since=channel.at if channel else None,
        problem=channel.problem if channel else "",
    )


def _protection(
    domain: Domain, execution: Execution | None, confirmed: Reseed | None, channel: GuestChannel | None
) -> Protection:
    heard = channel.heard if channel else None
    if not domain.power.has_process:
        return Protection.OFF
    if heard is Heard.REWOUND:
        return Protection.REWOUND
    if confirmed is not None and not confirmed.credited:
        return Protection.UNPROTECTED
    if confirmed is not None:
        return Protection.PROTECTED if heard is Heard.READY else Protection.SILENT
    if execution is not None and execution.origin is Origin.LOAD and domain.channel:
        return Protection.REWOUND
    if not domain.channel:
        return Protection.NO_CHANNEL
    words = {
        Heard.READY: Protection.WAITING,
        Heard.ATTACHED: Protection.NO_HELPER,
        Heard.SILENT: Protection.NO_HELPER,
        Heard.GONE: Protection.UNREACHABLE,
        Heard.UNREACHABLE: Protection.UNREACHABLE,
    }
    return words[heard] if heard is not None else Protection.UNKNOWN


def _driver(record: Record, uuid: str) -> bool | None:
    """Tell whether the kernel that starts has a driver for `<genid/>`, as its disks were read last."""
    scan = record.scan(machine_key(uuid))
    if scan is None or not scan.inventory:
        return None
    try:
        inventory = record.inventory(scan.inventory)
    except NotFoundError:
        return None
    releases = [inventory.boot.default_release] if inventory.boot.default_release else []
    releases = releases or [kernel.release for kernel in inventory.kernels]
    if inventory.os is None or len(releases) != 1:
        return None
    return has_driver(inventory.os.ident, releases[0])


def summary(rows: Sequence[ChannelRow]) -> Mapping[Protection, int]:
    """Return how many machines stand how; words that nobody has are left out."""
    return {word: count for word in Protection if (count := sum(row.protection is word for row in rows))}


def exposed_snapshots(record: Record, domain: Domain) -> tuple[str, ...]:
    """Return a machine's snapshots with RAM whose guest is not on record as having stood still.

    Raises OperationError: the record cannot be read.
    """
    with_ram = [snapshot for snapshot in domain.snapshots if snapshot.memory != "no"]
    if not with_ram:
        return ()
    quiesced = record.quiesced(domain.uuid)
    known = [state for state in record.states(domain.uuid) if state.key in quiesced]
    calm = {(state.name, int(state.taken_at.timestamp())) for state in known}
    return tuple(one.name for one in with_ram if (one.name, one.created_at_s) not in calm)
