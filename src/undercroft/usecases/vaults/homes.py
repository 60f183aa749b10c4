"""Which host keeps a machine's vault: the first that served it, until an administrator says otherwise.

A vault does not move with its machine. Where another host's service began one of its own, values would come
again, what was spent could be spent again, and what was revoked would be valid. So each vault has one home,
on record before that host's service serves it; everywhere else the machine is told where its vault is.

    place = placed(records, service, machine, "host1", now)
    service.attach(..., elsewhere=place.elsewhere, epoch=place.epoch)

The home's row has the highest epoch in which its service was to serve the vault, noted before it does. A home
that is given to another host begins above that: no counter value comes twice, whatever the old one gave out.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from undercroft.errors import InputError, StateError
from undercroft.model.schema import Json
from undercroft.model.vaulthome import VaultHome
from undercroft.ports.records import Record, Records

KIND = "vault"
"""Of the log's entries: which host is a vault's home."""
_FIRST = "it served this machine first"


@dataclass(frozen=True, slots=True)
class Place:
    """What a guest service is told of a machine's vault.

    Attributes:
        elsewhere: the host that keeps it, "" where this one does.
        epoch: in which this host's service may serve it, as is on record; 0 where it may not, or serves none.
    """

    elsewhere: str
    epoch: int


class Serves(Protocol):
    """The guest service of this host, as `adapters.guestservice.GuestService` reaches it."""

    def status(self) -> dict[str, object]:
        """Return how it stands."""
        ...

    def lift(self, above: int) -> int:
        """Have an epoch served that is above another one; return it."""
        ...


def placed(records: Records, service: Serves, machine: str, host: str, now: datetime) -> Place:
    """Return where a machine's vault is; a machine that has none gets its home here, on record.

    Args:
        records: the record.
        service: this host's guest service.
        machine: UUID.
        host: this host's name.
        now: when.

    Raises:
        OperationError: the record or the service is away: nobody knows, and nothing is guessed.
        StateError: the service can serve no epoch that is high enough.
    """
    with records.reading() as record:
        home = record.vault_home(machine)
    if home is not None and home.host != host:
        return Place(home.host, 0)
    epoch = _epoch(service)
    if not epoch:
        return Place("", 0)  # its start was refused: it says why to whoever attaches
    behind = home is not None and home.epoch > epoch
    if home is not None and epoch <= max(home.above, home.epoch if behind else 0):
        served, epoch = epoch, service.lift(max(home.above, home.epoch if behind else 0))
        if behind:
            _alarm(records, home, served, now)
    if home is not None and home.epoch == epoch:
        return Place("", epoch)
    return _claimed(records, machine, host, epoch, now)


def _epoch(service: Serves) -> int:
    found = service.status().get("epoch")
    return found if isinstance(found, int) else 0


def _claimed(records: Records, machine: str, host: str, epoch: int, now: datetime) -> Place:
    """Put the home, or its new epoch, on record; of two hosts that try at once one becomes it."""
    with records.transaction() as record:
        home = record.vault_home(machine)
        if home is not None and home.host != host:
            return Place(home.host, 0)
        if home is not None and home.above >= epoch:
            raise StateError(f"{machine}: its vault was given to this host a moment ago: try again")
        if home is None:
            record.put_vault_home(VaultHome(machine, host, epoch, 0, now), host, _FIRST)
        elif home.epoch < epoch:
            record.put_vault_home(replace(home, epoch=epoch), host, "")
    return Place("", epoch)


def _alarm(records: Records, home: VaultHome, epoch: int, now: datetime) -> None:
    reason = (
        f"the guest service of {home.host} came with epoch {epoch}, and had served epoch {home.epoch}: an "
        "earlier image of its disk, or another folder; counters go on above, but what was spent or revoked "
        "since may not be known any more: undercroft vault verify"
    )
    body: dict[str, Json] = {"alarm": "vault-rollback", "executions": [], "reason": reason}
    with records.transaction() as record:
        record.log("alarm", home.machine, body, now)


def adoptable(record: Record, machine: str, host: str) -> VaultHome:
    """Return the home that a machine's vault has on another host, where this host may take it over.

    Args:
        record: an open transaction.
        machine: UUID.
        host: this host's name.

    Raises StateError: its vault is here, or nowhere yet; or the machine does not run here, or runs elsewhere.
    """
    home = record.vault_home(machine)
    if home is None:
        raise StateError(f"{machine}: its vault has no home yet: the host that serves it first becomes it")
    if home.host == host:
        raise StateError(f"{machine}: its vault is kept by this host: there is nothing to adopt")
    live = {one.host for one in record.live_executions() if one.machine == machine}
    if live - {host}:
        where = ", ".join(sorted(live - {host}))
        raise StateError(
            f"{machine}: it runs on {where}, which may serve its vault: stop it there first; if that host is "
            f"gone for good: undercroft host forget {where}"
        )
    if host not in live:
        raise StateError(f"{machine}: it does not run on this host: adopt its vault where it runs")
    return home


def adopt(record: Record, machine: str, host: str, *, by: str, reason: str, now: datetime) -> VaultHome:
    """Make this host the home of a machine's vault, on record and in the log; return it as it is now.

    Args:
        record: a transaction.
        machine: UUID.
        host: this host's name.
        by: who orders it.
        reason: why; not empty.
        now: when.

    Raises:
        InputError: no reason is given.
        StateError: see `adoptable`.
    """
    if not reason.strip():
        raise InputError("a vault gets another home only with a reason: it goes on record")
    before = adoptable(record, machine, host)
    home = VaultHome(machine, host, 0, max(before.epoch, before.above), now)
    record.put_vault_home(home, by, reason.strip())
    return home
