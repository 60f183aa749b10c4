"""A lab whose kernel filters: a policy of the firewall, and what a test asks of the table in memory."""

import json
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

from agentlab import BRIDGE, NAME, TAP, UUID, Lab
from comebackdata import UNPATCHED
from memoryfilter import MemoryFilter
from memoryrecords import MemoryRecords

from undercroft.agent.host import now
from undercroft.errors import OperationError
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.elements import device
from undercroft.firewall.policy import (
    FirewallPolicy,
    Flow,
    LabelRule,
    NamedAddresses,
    Peer,
    PeerKind,
    Protocol,
    Service,
)
from undercroft.firewall.stored import to_text
from undercroft.model.filter import FilterState
from undercroft.model.fleet import Hold
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Verdict
from undercroft.steady.policy import Match

HTTPS = (Service(Protocol.TCP, 443, 443),)
POLICY = FirewallPolicy(
    labels=(
        LabelRule("web", Match(names=("web*",))),
        LabelRule("quarantine", Match(), (Verdict.QUARANTINED,)),
    ),
    flows=(
        Flow(Peer(PeerKind.WORLD), Peer(PeerKind.LABEL, "web"), HTTPS),
        Flow(
            Peer(PeerKind.LABEL, "quarantine"),
            Peer(PeerKind.NETWORK, networks=(ip_network("192.0.2.1/32"),)),
            HTTPS,
        ),
    ),
    addresses=(NamedAddresses(NAME, (ip_network("192.0.2.7/32"),)),),
)
NO_QUARANTINE = replace(POLICY, labels=POLICY.labels[:1], flows=POLICY.flows[:1])


class FilterLab(Lab):
    """A lab with a policy of the firewall."""

    packet_filter: MemoryFilter

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, MemoryRecords())
        self.seen: list[tuple[bool, frozenset[str] | None]] = []

    def apply(self, policy: FirewallPolicy | None = POLICY) -> None:
        """Apply a policy, as the command does; None withdraws."""
        with self.records.transaction() as record:
            body, digest = (to_text(policy), policy.digest) if policy else ("", "")
            record.put_applied_policy(body, digest, "alice", "", now())

    def labels(self, tap: str = TAP) -> frozenset[str] | None:
        """Return the labels that a tap has in the kernel, None for none."""
        if not self.has_table():
            return None
        found = self.packet_filter.read(TABLE_NAME).elements["classes"]
        if device(tap) not in found:
            return None
        fleet = self.firewall.enforcer.fleet
        assert fleet is not None
        return next((port.labels for port in fleet.ports if port.tap == tap), None)

    def has_table(self) -> bool:
        try:
            return TABLE_NAME in {table.name for table in self.packet_filter.tables()}
        except OperationError:
            return False

    def on_run(self) -> None:
        """Note whether the tap is on its bridge, and its labels, when QEMU begins."""
        self.seen.append((self.taps.bridges[TAP] == BRIDGE, self.labels()))

    def state(self) -> FilterState | None:
        states = self._read(lambda record: record.filter_states())
        return states[0] if states else None

    def problem(self) -> str:
        state = self.state()
        return state.problem if state else ""

    def holds(self) -> tuple[Hold, ...]:
        found: tuple[Hold, ...] = self._read(lambda record: record.holds())
        return found

    def alarms(self) -> list[str]:
        entries = self._read(lambda record: record.log_entries(0, 10_000))
        return [json.loads(entry.body)["reason"] for entry in entries if entry.kind == "alarm"]

    def is_in_quarantine(self) -> bool:
        """Tell whether it runs on its bridge, in quarantine on record and by its labels."""
        seen = self.host.domain(UUID)
        runs = seen is not None and seen.power.has_process
        by_filter = [hold.by_filter for hold in self.holds()] == [True]
        return runs and by_filter and self.taps.bridges.get(TAP) == BRIDGE and self.labels() == {"quarantine"}

    def is_proven(self) -> bool:
        state = self.state()
        return state is not None and state.proven_at is not None and not state.problem

    async def known(self, *, unpatched: bool = False) -> None:
        """Wait until its machine is judged."""
        await self.until(self.is_known, "it is known")
        if unpatched:
            self.disks[CURRENT] = UNPATCHED


def without_snapshots(lab: FilterLab) -> None:
    """Let its starts be no possible reverts, so that nothing is held for a confirmation."""
    lab.fleet._put(replace(lab.fleet.domain(UUID), snapshots=()))
