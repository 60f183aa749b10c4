"""What one host filters with, wired together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from undercroft.agent.host import now
from undercroft.firewall.policy import Address
from undercroft.ports.packetfilter import PacketFilter
from undercroft.ports.records import Records
from undercroft.usecases.firewall.enforcing import Enforcer
from undercroft.usecases.firewall.surrounding import Around, Gather, Ground
from undercroft.usecases.fleet.starts.labels import Labels

MEMORY_NAME = "firewall.json"
"""In the agent's folder: the numbers of classes."""


@dataclass(frozen=True, slots=True)
class Firewall:
    """What one host filters with: the kernel's filter, what holds it to a policy, and machines' labels."""

    packet_filter: PacketFilter
    enforcer: Enforcer
    labels: Labels
    around: Around

    @classmethod
    def of(
        cls,
        packet_filter: PacketFilter,
        records: Records,
        host: str,
        state: Path,
        host_addresses: Callable[[], tuple[Address, ...]],
        gather: Gather | None = None,
    ) -> "Firewall":
        """Return that of a host; nothing is asked of the kernel yet.

        Args:
            packet_filter: of the network namespace in which machines' taps are.
            records: the record.
            host: this host's name.
            state: the agent's folder, in which the numbers of classes are kept.
            host_addresses: gives the host's own addresses.
            gather: gives the facts around the table, None where nobody looks at them.
        """
        enforcer = Enforcer(packet_filter, state / MEMORY_NAME, now)
        around = Around(Ground(packet_filter, gather) if gather else None, now)
        return cls(packet_filter, enforcer, Labels(enforcer, records, host, host_addresses), around)
