"""What a policy says about traffic, as values: who may open which service to whom, and what may never be.

What is not allowed is denied. A flow allows its source to open services of its target; replies follow from
that, and from nothing else. Places say where the policy says so, for people; they have no meaning.

Meaning of a peer, for a packet's source as for its target:
- a label: machines that have it. Any other machine is denied, wherever its address lies.
- `world`: an address that is no machine's, no host's, and no multicast, broadcast or unspecified one.
- a network: such an address in one of these networks (multicast where the network is multicast), so that a
  quarantined machine never profits from the network that it lies in.
- `host`: the machine's own host.
- any (`*`): all of these in a `Never`; in a `Flow` all but quarantined machines, and but multicast.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from undercroft.model.execution import Origin
from undercroft.model.verdict import Verdict
from undercroft.steady.policy import Match

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_PORTS_PER_SERVICE = 1024
MAX_HOPS = 8
MAX_VLAN = 4094
"""802.1Q: 0 is for a priority without a VLAN, 4095 is reserved."""
MAX_OPENINGS_PER_S = 100_000
"""With more one address fills what is remembered in a second or two."""


class Protocol(StrEnum):
    """Protocols that a service can have. ICMP: echo of ICMP and ICMPv6, the only ones that are asked for."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP = "icmp"


PORT_PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
"""IANA's numbers of those that have ports."""


@dataclass(frozen=True, slots=True, order=True)
class Service:
    """A protocol with ports `low` to `high`, both in it, from 1 to 65535; 0 and 0 for ICMP."""

    protocol: Protocol
    low: int = 0
    high: int = 0

    def __str__(self) -> str:
        """Return it as the policy has it: "tcp/443", "udp/8000-8010", "icmp"."""
        if self.protocol is Protocol.ICMP:
            return "icmp"
        ports = str(self.low) if self.low == self.high else f"{self.low}-{self.high}"
        return f"{self.protocol}/{ports}"


class PeerKind(StrEnum):
    """What a peer is."""

    LABEL = "label"
    WORLD = "world"
    HOST = "host"
    NETWORK = "network"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Peer:
    """One side of a flow.

    Attributes:
        kind: what it is.
        label: of a LABEL; of a NETWORK the name that `addresses` gives it, "" for a plain one. A machine
            of that name has it as a label, so that the peer means the machine where there is one.
        networks: of a NETWORK, at least one.
    """

    kind: PeerKind
    label: str = ""
    networks: tuple[Network, ...] = ()

    def __str__(self) -> str:
        """Return it as the policy has it."""
        match self.kind:
            case PeerKind.ANY:
                return "*"
            case PeerKind.WORLD | PeerKind.HOST:
                return self.kind.value
            case _:
                return self.label or ", ".join(map(str, self.networks))


@dataclass(frozen=True, slots=True)
class Flow:
    """`source` may open `services` of `target`. `log`: first packets are told of, within the rate."""

    source: Peer
    target: Peer
    services: tuple[Service, ...]
    log: bool = False
    place: str = ""


@dataclass(frozen=True, slots=True)
class Never:
    """No flow may allow this, whatever labels machines have.

    Attributes:
        source, target: peers.
        exceptions: peers that are not meant, as source or as target.
        services: which ones, () for all.
        hops: 1 for direct flows; up to this many allowed flows one after the other.
        place: where the policy says so.
    """

    source: Peer
    target: Peer
    exceptions: tuple[Peer, ...] = ()
    services: tuple[Service, ...] = ()
    hops: int = 1
    place: str = ""


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Which machines have a label: all that fit.

    Attributes:
        name: the label.
        match: by names, owners, metadata labels, networks and hosts; without any, all machines fit.
        verdicts: what was judged of it last is one of these, () for whatever it was.
        place: where the policy says so.
        origins: its present execution began in one of these ways, () for any. A machine of which that is
            not known fits to none.
    """

    name: str
    match: Match
    verdicts: tuple[Verdict, ...] = ()
    place: str = ""
    origins: tuple[Origin, ...] = ()

    @property
    def quarantines(self) -> bool:
        """True where the label is what quarantined machines have: they then have no other."""
        return Verdict.QUARANTINED in self.verdicts


class Drift(StrEnum):
    """What happens when somebody else has changed the kernel's table. It is told in both cases."""

    REPAIR = "repair"
    REPORT = "report"


class OtherPorts(StrEnum):
    """What a bridge port is that is neither a managed machine's nor an uplink.

    DENIED: nothing passes between it and machines. OUTSIDE: as an uplink. Frames that concern no machine
    pass in both cases.
    """

    DENIED = "denied"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Ports:
    """Which bridge ports are what.

    Attributes:
        machines: prefixes of the names that machines' taps have; one without a class is closed.
        uplinks: names of ports that lead to other hosts and the world.
        others: what the rest is.
    """

    machines: tuple[str, ...] = ("vnet",)
    uplinks: tuple[str, ...] = ()
    others: OtherPorts = OtherPorts.DENIED


@dataclass(frozen=True, slots=True)
class LogRate:
    """How many packets are told of: `packets` in `per_s` seconds, `burst` more at once; 0 packets: none."""

    packets: int = 10
    per_s: int = 1
    burst: int = 20
    group: int = 5


@dataclass(frozen=True, slots=True)
class NamedAddresses:
    """Addresses of the machine of this name; where there is none, of something outside."""

    name: str
    networks: tuple[Network, ...]
    place: str = ""


@dataclass(frozen=True, slots=True)
class VlanGrant:
    """Machines of a label may send and get frames with one 802.1Q tag of these ids, from 1 to 4094.

    What is in such a frame is filtered as any other: a VLAN opens no flow. The frame reaches uplinks, and
    machines with a grant of the same id.
    """

    label: str
    ids: tuple[int, ...]
    place: str = ""


@dataclass(frozen=True, slots=True)
class FirewallPolicy:
    """The whole of it. The empty one denies everything to and from machines.

    Attributes:
        labels: in order; a name may have several rules, each of which gives the label.
        flows, nevers: in order, which has no meaning.
        addresses: by name, each name once.
        ports: which bridge ports are what.
        vlans: which labels may use which; no other tag ever passes from or to a machine.
        log: the rate of what is told.
        tcp_state_s, other_state_s: how long an idle flow's replies pass, for kernels without conntrack.
        drift: what happens to a foreign change of the table.
        openings_per_s: how many new flows a machine's address may open, or from outside be opened, in a
            second, for kernels without conntrack; four times as many at once.
    """

    labels: tuple[LabelRule, ...] = ()
    flows: tuple[Flow, ...] = ()
    nevers: tuple[Never, ...] = ()
    addresses: tuple[NamedAddresses, ...] = ()
    ports: Ports = Ports()
    log: LogRate = LogRate()
    tcp_state_s: int = 3600
    other_state_s: int = 120
    drift: Drift = Drift.REPAIR
    vlans: tuple[VlanGrant, ...] = ()
    openings_per_s: int = 1000

    def vlans_of(self, labels: frozenset[str]) -> frozenset[int]:
        """Return the ids of the VLANs that machines with these labels may use."""
        return frozenset(one for grant in self.vlans if grant.label in labels for one in grant.ids)

    @property
    def quarantine_labels(self) -> frozenset[str]:
        """Labels that a quarantined machine has alone."""
        return frozenset(rule.name for rule in self.labels if rule.quarantines)

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal over what it says; not over where it says so."""
        text = json.dumps(_canonical(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> object:
    match value:
        case bool() | int() | str():
            return value
        case tuple():
            return [_canonical(item) for item in value]
        case IPv4Network() | IPv6Network():
            return str(value)
        case _:
            names = [item.name for item in fields(value) if item.name != "place"]  # type: ignore[arg-type]
            return {name: _canonical(getattr(value, name)) for name in names}
