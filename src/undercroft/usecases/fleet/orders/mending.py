"""What an administrator changes in a machine's definition from here, on record.

libvirt is asked first and the log is written afterwards, in a transaction of its own: an admission must
never wait for a writer that waits for libvirt.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime

from undercroft.errors import OperationError, StateError
from undercroft.model.domain import Ownership
from undercroft.model.fleet import MachineRecord
from undercroft.model.schema import Json, encode
from undercroft.ports.fleet import FleetHypervisor
from undercroft.ports.records import Records


@dataclass(frozen=True, slots=True)
class Ownerships:
    """What is to be written of a machine's ownership; None leaves as it is.

    Attributes:
        owner: "" for nobody.
        labels: all of them.
        expires_on: "" for never, else YYYY-MM-DD.
        template: never started itself.
        addresses: all of them, as in `Ownership.addresses`.
    """

    owner: str | None = None
    labels: tuple[str, ...] | None = None
    expires_on: str | None = None
    template: bool | None = None
    addresses: tuple[str, ...] | None = None

    @property
    def empty(self) -> bool:
        """True where nothing is to be changed."""
        return self == Ownerships()

    def applied(self, before: Ownership) -> Ownership:
        """Return the ownership after the change; one that could not be read is replaced whole."""
        base = Ownership() if before.problem else before
        return replace(
            base,
            owner=base.owner if self.owner is None else self.owner,
            labels=base.labels if self.labels is None else tuple(sorted(set(self.labels))),
            expires_on=base.expires_on if self.expires_on is None else _day(self.expires_on),
            template=base.template if self.template is None else self.template,
            addresses=base.addresses if self.addresses is None else tuple(sorted(set(self.addresses))),
        )


def mend_genid(
    records: Records, fleet: FleetHypervisor, machine: MachineRecord, *, by: str, now: datetime
) -> None:
    """Add `<genid/>` to a machine's definition; it takes effect at its next start.

    Raises:
        StateError: the machine has one, or is transient and has no definition to change.
        NotFoundError: the machine is not there any more.
        OperationError: libvirt refused, or the change could not be logged.
    """
    domain = fleet.domain(machine.domain.uuid)
    if domain.genid:
        raise StateError(f"{domain.name}: its definition has <genid/> already")
    if not domain.persistent:
        raise StateError(f"{domain.name}: it is transient; add <genid/> to the XML that it is created from")
    fleet.enable_genid(domain.uuid)
    _log(records, machine, {"what": "genid", "by": by}, now)


def change_ownership(
    records: Records,
    fleet: FleetHypervisor,
    machine: MachineRecord,
    change: Ownerships,
    *,
    by: str,
    now: datetime,
) -> Ownership:
    """Write whose a machine is into its metadata, live and in its definition, and return what stands there.

    Raises:
        NotFoundError: the machine is not there any more.
        OperationError: libvirt refused, or the change could not be logged.
    """
    after = change.applied(fleet.domain(machine.domain.uuid).ownership)
    fleet.set_ownership(
        machine.domain.uuid,
        owner=after.owner,
        labels=after.labels,
        expires_on=after.expires_on.isoformat() if after.expires_on else "",
        template=after.template,
        addresses=after.addresses,
    )
    _log(records, machine, {"what": "ownership", "by": by, "ownership": encode(after)}, now)
    return after


def _log(records: Records, machine: MachineRecord, body: dict[str, Json], now: datetime) -> None:
    try:
        with records.transaction() as record:
            record.log("mend", machine.domain.uuid, {"name": machine.domain.name, **body}, now)
    except OperationError as error:
        raise OperationError(
            f"{machine.domain.name}: changed, but that is not in the log: {error}"
        ) from error


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None
