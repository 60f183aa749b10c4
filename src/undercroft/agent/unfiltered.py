"""Machines in quarantine by the filter, held off their bridges where it is about to go, or is not trusted."""

from undercroft.agent.host import Host
from undercroft.errors import NotFoundError, OperationError
from undercroft.model.fleet import Hold
from undercroft.ports.records import Record
from undercroft.usecases.fleet.starts.network import close, is_of_host


def hold_without_filter(host: Host) -> None:
    """Hold what the filter keeps in quarantine off its bridge.

    Raises OperationError where that fails; a policy that was to go stays then.
    """
    with host.records.transaction() as record:  # after all that knew of no change
        holds = [one for one in record.holds() if one.by_filter and is_of_host(record, one, host.name)]
    for hold in holds:
        with host.records.transaction() as record:
            if hold in record.holds():
                _hold_taps(host, record, hold)


def _hold_taps(host: Host, record: Record, hold: Hold) -> None:
    found = (one for one in record.find_machines(hold.machine) if one.host == host.name)
    machine = next(found, None)
    interfaces = machine.domain.interfaces if machine else ()
    closed, failures = close(record, host.taps, hold, interfaces, host.places.state)
    held = {tap.tap for tap in closed.taps}
    for tap in (one.tap for one in interfaces if one.holdable and one.tap):
        if tap not in held and _is_there(host, tap):
            why = "; ".join(failures)
            raise OperationError(f"machine {hold.machine} cannot be held without the filter: {why}")


def _is_there(host: Host, tap: str) -> bool:
    try:
        host.taps.is_held(tap)
    except NotFoundError:
        return False
    return True
