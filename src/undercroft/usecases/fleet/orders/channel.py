"""A machine gets its channel: in its definition, and plugged into what runs where libvirt can; on record.

libvirt is asked first and the log is written afterwards, as in `mending`.
"""

from datetime import datetime

from undercroft.errors import OperationError, StateError
from undercroft.model.fleet import MachineRecord
from undercroft.model.schema import Json
from undercroft.ports.fleet import ChannelEnabled, FleetHypervisor
from undercroft.ports.records import Records

KIND = "mend"


def enable(
    records: Records, fleet: FleetHypervisor, machine: MachineRecord, *, by: str, now: datetime
) -> ChannelEnabled:
    """Give a machine its channel; what is there already stays, and is no error.

    Raises:
        StateError: it is transient and off: there is nothing to change.
        NotFoundError: the machine is not there any more.
        OperationError: libvirt refused, or the change could not be logged.
    """
    domain = fleet.domain(machine.domain.uuid)
    if not domain.persistent and not domain.power.has_process:
        raise StateError(
            f"{domain.name}: it is transient and off: add the channel to the XML it is made from"
        )
    done = fleet.enable_channel(domain.uuid)
    if not done.defined and not done.plugged:
        return done
    body: dict[str, Json] = {
        "name": domain.name,
        "what": "channel",
        "by": by,
        "defined": done.defined,
        "plugged": done.plugged,
    }
    try:
        with records.transaction() as record:
            record.log(KIND, domain.uuid, body, now)
    except OperationError as error:
        raise OperationError(f"{domain.name}: changed, but that is not in the log: {error}") from error
    return done
