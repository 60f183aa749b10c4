"""The hypervisor as the fleet needs it: everything that it has, what happens to it, and a few commands.

Nothing that a hook waits for may call any of this: libvirt waits for the hook.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from undercroft.model.domain import Domain, DomainSnapshot, Survey


class Happening(StrEnum):
    """What happened to a machine, or to the connection (CONNECTED, LOST: `uuid` is then "")."""

    STARTED = "started"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    DEFINED = "defined"
    UNDEFINED = "undefined"
    CHANGED = "changed"
    CONNECTED = "connected"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """One event.

    Attributes:
        happening: what.
        detail: libvirt's reason: "booted", "restored", "from-snapshot", "migrated", "wakeup" of a start;
            "shutdown", "destroyed", "crashed", "saved", "migrated", "failed", "from-snapshot" of a stop;
            "paused", "migrated", "ioerror", "from-snapshot", ... of a pause; "device-added",
            "device-removed", "metadata" of a change; the error for LOST; "" where there is none.
        uuid: the machine's.
        name: the machine's name at that time.
        at: when it arrived.
    """

    happening: Happening
    detail: str
    uuid: str
    name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ChannelEnabled:
    """What was done to give a machine its channel.

    Attributes:
        defined: its definition had none before.
        plugged: what runs had none before.
        problem: why what runs has none yet, "" where it has one or nothing runs.
    """

    defined: bool = False
    plugged: bool = False
    problem: str = ""


class FleetHypervisor(Protocol):
    """libvirt on this host. Methods block and may be called from several threads.

    All raise OperationError when libvirt cannot be asked, and NotFoundError for a machine that is not there.
    """

    def survey(self) -> Survey:
        """Return everything.

        A machine that vanishes meanwhile is left out; one that cannot be read has its `problem`.
        """
        ...

    def domain(self, uuid: str) -> Domain:
        """Return one machine."""
        ...

    def events(self) -> AsyncIterator[MachineEvent]:
        """Yield events for ever, from the running event loop's thread.

        The first is CONNECTED, or LOST where libvirt cannot be reached yet; after each LOST the connection
        is tried again with growing pauses until the next CONNECTED. Events between the two are lost: whoever
        listens surveys at every CONNECTED.
        Events are held in a bounded queue; where it overflows, one CONNECTED stands for what was dropped.
        """
        ...

    def revert(self, uuid: str, snapshot: str, *, paused: bool = False) -> None:
        """Revert a machine to a snapshot of that name; what runs in it is killed.

        BusyError, with the machine untouched: a scan holds it for a moment.
        """
        ...

    def start(self, uuid: str) -> None:
        """Start a machine that is off. OperationError has libvirt's words, a hook's refusal too."""
        ...

    def destroy(self, uuid: str, libvirt_id: int = 0) -> None:
        """Stop a machine at once. Does nothing when it is off.

        Args:
            uuid: the machine.
            libvirt_id: the process that is meant, 0 for any. StateError, and nothing is stopped, where the
                machine was started anew since.
        """
        ...

    def enable_genid(self, uuid: str) -> None:
        """Add `<genid/>` to a machine's definition; it takes effect at its next start."""
        ...

    def enable_channel(self, uuid: str) -> ChannelEnabled:
        """Add the channel (`model.channel.NAME`) to a machine's definition, and plug it in where it runs.

        What is there already stays as it is.
        """
        ...

    def take_snapshot(self, uuid: str, snapshot: str) -> DomainSnapshot:
        """Take an internal snapshot of that name, with its RAM where the machine runs, and return it.

        StateError: it has one of that name. OperationError has libvirt's words; nothing was taken then.
        """
        ...

    def is_paused(self, uuid: str) -> bool:
        """Tell whether a machine has a process that stands still at this moment. It waits for no job."""
        ...

    def set_ownership(
        self,
        uuid: str,
        *,
        owner: str,
        labels: Sequence[str],
        expires_on: str,
        template: bool,
        addresses: Sequence[str],
    ) -> None:
        """Write a machine's metadata element, live and in its definition; "" for no owner or expiry.

        Addresses are as in `Ownership.addresses`.
        """
        ...

    def delete_snapshot(self, uuid: str, snapshot: str) -> None:
        """Delete one snapshot; its children stay."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...
