"""Which channels are to be handed to the guest service: of what runs here, and has a live execution."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from undercroft.model.domain import Domain, Power
from undercroft.model.execution import Execution, Origin
from undercroft.ports.records import Records

_SAVED = "save:"
"""Begins the key of a state that is a RAM image."""
_FEW = 16


@dataclass(frozen=True, slots=True)
class Line:
    """One machine's channel.

    Attributes:
        machine: UUID.
        name: libvirt's.
        eid: the execution that lives.
        path: where its process listens.
        process: libvirt's number of it, 0 where it is not known which one that was.
        forked: it began from RAM that another execution has continued, which may live on.
        doubtful: libvirt's word leaves open whether a state was loaded inside its process.
    """

    machine: str
    name: str
    eid: str
    path: str
    process: int
    forked: bool = False
    doubtful: bool = False


def lines(records: Records, host: str, domains: Iterable[Domain]) -> Mapping[str, Line]:
    """Return the lines of these machines by UUID; those that have none are left out.

    Args:
        records: the record.
        host: this host's name.
        domains: machines as they were seen last.

    Raises OperationError: the record cannot be read.
    """
    having = [one for one in domains if one.power.has_process and one.channel_path]
    if not having:
        return {}
    with records.reading() as record:
        one = having[0].uuid if len(having) == 1 else ""
        known = record.own_executions(one, _FEW) if one else record.live_executions()
    live = {one.machine: one for one in known if one.live and one.host == host}
    return {
        one.uuid: _line(one, live[one.uuid])
        for one in having
        if one.uuid in live and not _is_coming(one, live[one.uuid])
    }


def _line(domain: Domain, execution: Execution) -> Line:
    return Line(
        domain.uuid,
        domain.name,
        execution.eid,
        domain.channel_path,
        domain.libvirt_id,
        is_forked(execution),
        doubtful=execution.origin is Origin.LOAD and not execution.certain,
    )


def _is_coming(domain: Domain, execution: Execution) -> bool:
    """Tell whether it stands still because it runs elsewhere still, where its line is."""
    return execution.origin is Origin.MIGRATE and domain.power is Power.PAUSED


def is_forked(execution: Execution) -> bool:
    """Tell whether an execution began from RAM that another one has continued, or is another machine's."""
    from_ram = execution.state.startswith(_SAVED)
    return execution.origin is Origin.FORK or (execution.origin is Origin.CLONE and from_ram)
