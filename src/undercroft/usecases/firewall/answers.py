"""What `show`, `trace` and `map` find, for whoever shows it. Texts of hosts and people are as they are."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class LabelReason:
    """One label of a machine, or one that it would have. `place`: the rule of the policy.

    `counts`: False for a label that the machine's quarantine takes from it.
    """

    label: str
    place: str
    counts: bool


@dataclass(frozen=True, slots=True)
class PortView:
    """One interface. `addresses` with where each comes from: "10.0.0.7 (policy.yaml:9)".

    `unfiltered`: why the host's filter does not see its packets, "" where it does.
    """

    tap: str
    mac: str
    network: str
    addresses: tuple[str, ...]
    unfiltered: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """One side that a machine may open services of, or that may open its services."""

    name: str
    services: tuple[str, ...]
    places: tuple[str, ...]
    machines: tuple[str, ...] = ()


class KernelHas(StrEnum):
    """Whether the kernel's elements of a machine are those that the record and the policy make."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Showing:
    """One machine as the firewall sees it.

    Attributes:
        machine, name, host: UUID, name, and where it is.
        policy: the number of the applied policy, 0 for one that is not applied.
        verdict: as last judged, "" for never.
        quarantined: its network is closed, or it has the quarantine's labels alone.
        labels: with the rules that give them.
        alike: names of other machines with the same labels.
        ports: its interfaces.
        reaches: whose services it may open.
        reached_by: who may open its services.
        kernel: what was found in the kernel of this host.
        differences: in words, where that is not the same; or why it could not be told.
        problems: of this machine.
    """

    machine: str
    name: str
    host: str
    policy: int
    running: bool
    verdict: str
    quarantined: bool
    labels: tuple[LabelReason, ...]
    alike: tuple[str, ...]
    ports: tuple[PortView, ...]
    reaches: tuple[Reach, ...]
    reached_by: tuple[Reach, ...]
    kernel: KernelHas
    differences: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that gave a verdict. `rule`: as nft writes it; `number` counts from 1."""

    chain: str
    number: int
    rule: str


@dataclass(frozen=True, slots=True)
class Way:
    """A packet's way through one host's table.

    Attributes:
        host: whose.
        table: "kernel" where it was read there, "compiled" where it is what the record makes.
        packet: "first packet" or "its answer".
        path: "vnet1 to vnet2", "vnet1 to the host".
        accept: it passes.
        steps: the rules that gave verdicts, in order.
    """

    host: str
    table: str
    packet: str
    path: str
    accept: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """Whether one side may open a service of another, why, and how the kernel comes to that.

    Attributes:
        source, target: as people call them, with their labels.
        service: what was asked about.
        policy: the number of the applied policy, 0 for one that is not applied.
        allowed: the policy allows it, and the packet and its answer pass.
        rule: where the policy allows it, "" where it does not.
        reason: in a sentence.
        nearest: rules that nearly do, with what they lack.
        ways: through the tables of the hosts that are concerned.
        notes: what could not be traced, and why.
    """

    source: str
    target: str
    service: str
    policy: int
    allowed: bool
    rule: str
    reason: str
    nearest: tuple[str, ...]
    ways: tuple[Way, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One row and column of the map: a label, a network or a name of it, "world" or "host".

    `machines`: how many have the label, None where nobody has looked.
    """

    name: str
    kind: str
    machines: int | None = None


@dataclass(frozen=True, slots=True)
class MapFlow:
    """Services that one place may open of another, and where the policy says so."""

    source: str
    target: str
    services: tuple[str, ...]
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MapNever:
    """What may never be from one place to another: `services` () for all, `hops` as the policy has it."""

    source: str
    target: str
    services: tuple[str, ...]
    hops: int
    place: str


@dataclass(frozen=True, slots=True)
class FlowMap:
    """Who may talk to whom, by labels. `policy` is its number, 0 for one that is not applied."""

    policy: int
    digest: str
    places: tuple[Place, ...]
    flows: tuple[MapFlow, ...]
    nevers: tuple[MapNever, ...]
