"""Which elements the policy and the fleet want in each set. Computed here anew, without the compiler.

Elements of machines are by far the most, so they are made of bytes, without a value for each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from undercroft.assurance.firewall.places import (
    FORGED,
    HOST_MARK,
    MACHINE,
    OURS,
    Kind,
    Meant,
    Place,
    places,
)
from undercroft.assurance.firewall.running import host_order
from undercroft.errors import StateError
from undercroft.firewall.fleet import Elsewhere, Fleet, Port
from undercroft.firewall.kernel import Code, Verdict
from undercroft.firewall.policy import Address, FirewallPolicy, Protocol, Service

Data = bytes | Verdict | None
Contents = dict[str, dict[bytes, Data]]

NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
HEADERS6 = (6, 17, 44, 58, 132)
TRANSPORTS6 = (6, 17, 58, 132)
ERRORS4, ERRORS6, ECHOES6 = (3, 11, 12), (1, 2, 3, 4), (128, 129)
DENY = Verdict(Code.GOTO, "deny")
BY_CLASS = {"class-targets": "to", "class-whole": "whole", "class-near": "near"}
"""Maps from the mark of a class -> how the chain begins that each gives for it."""
_NAME_BYTES = 16


@dataclass(slots=True)
class Sides:
    """The sides of a policy, with what it grants between them, as elements.

    Attributes:
        every: all sides.
        targets: names of those that have a chain.
        contents: elements that follow from the policy alone.
    """

    every: list[Place]
    targets: frozenset[str]
    contents: Contents = field(default_factory=dict)


def sides(policy: FirewallPolicy, numbers: Mapping[frozenset[str], int]) -> Sides:
    """Return the sides of a policy for classes with these numbers."""
    every = places(policy, numbers)
    contents = _grants(policy, every)
    near = {place.name for place in every if contents[f"near-{place.name}"]}
    targets = frozenset(place.name for place in every if place.kind is not Kind.ZONE or place.name in near)
    for place in every:
        if place.name not in targets:
            for name in ("to", "back", "ping", "pong", "near"):
                del contents[f"{name}-{place.name}"]
    contents |= {
        "uplinks": {name.encode().ljust(_NAME_BYTES, b"\0"): None for name in policy.ports.uplinks},
        "headers6": {bytes([number]): None for number in HEADERS6},
        "transports6": {bytes([number]): None for number in TRANSPORTS6},
        "sent-icmp6": {bytes([number]): None for number in (*ERRORS6, *ECHOES6)},
        "errors4": {bytes([number]): None for number in ERRORS4},
        "errors6": {bytes([number]): None for number in ERRORS6},
    }
    if policy.vlans:
        contents["vlans"] = {
            host_order(place.mark) + one.to_bytes(2, "big") + b"\0\0": None
            for place in every
            for grant in policy.vlans
            if place.kind is Kind.MACHINES and grant.label in place.labels
            for one in grant.ids
        }
    machines = [place for place in every if place.kind is Kind.MACHINES]
    for name, start in BY_CLASS.items():
        contents[name] = {host_order(place.mark): _into(start, place) for place in machines}
    for version in (4, 6):
        single = [place for place in every if _is_single(place, version)]
        contents[f"named-sources{version}"] = {_packed(place): host_order(place.mark) for place in single}
        contents[f"named-targets{version}"] = {
            _packed(place): Verdict(Code.GOTO, f"to-{place.name}") if place.name in targets else DENY
            for place in single
        }
    return Sides(every, targets, contents)


def verdicts(sides: Sides) -> dict[str, tuple[Verdict, ...]]:
    """Return map -> all verdicts that it may have, whatever machines and addresses there are."""
    machines = [place for place in sides.every if place.kind is Kind.MACHINES]
    host = Verdict(Code.GOTO, "to-host")
    found: dict[str, tuple[Verdict, ...]] = {
        name: tuple(_into(start, place) for place in machines) for name, start in BY_CLASS.items()
    }
    for version in (4, 6):
        named = sides.contents[f"named-targets{version}"].values()
        once = dict.fromkeys([host, *(item for item in named if isinstance(item, Verdict))])
        found[f"named-targets{version}"] = tuple(once)
    return found


def _into(start: str, place: Place) -> Verdict:
    return Verdict(Code.GOTO, f"{start}-{place.name}")


def of_host(contents: Contents, addresses: Iterable[Address]) -> None:
    """Add the host's own addresses to what follows from the policy."""
    for address in addresses:
        contents[f"named-sources{address.version}"][address.packed] = host_order(HOST_MARK)
        contents[f"named-targets{address.version}"][address.packed] = Verdict(Code.GOTO, "to-host")


def of_port(contents: Contents, port: Port, number: int) -> None:
    """Add the elements of one port, whose class has this number."""
    tap, mac = port.tap.encode().ljust(_NAME_BYTES, b"\0"), port.mac
    frame = tap + mac + b"\0\0"
    mark = host_order(OURS + MACHINE + number)
    contents["classes"][tap] = mark
    contents["taps"][tap] = None
    contents["macs"][frame] = None
    if not port.arriving:
        contents["stations"][mac] = None
    link_local = b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    own = [("4", int(address).to_bytes(4, "big")) for address in port.ipv4]
    own += [("6", address) for address in {link_local, *(int(one).to_bytes(16, "big") for one in port.ipv6)}]
    # What is about to come here speaks from where it still runs.
    outside = mark if port.arriving else host_order(FORGED)
    for version, address in own:
        contents["sources" + version][frame + address] = mark if version == "4" else None
        contents["targets" + version][frame + address] = mark
        contents["near" + version][tap + address] = mark
        contents["outside" + version][address] = outside
        if not _of_link(address):
            contents["places" + version][address] = mark


def of_elsewhere(contents: Contents, machine: Elsewhere, number: int) -> None:
    """Add the elements of a machine whose packets come from outside."""
    mark = host_order(OURS + MACHINE + number)
    for address in machine.addresses:
        contents[f"outside{address.version}"][address.packed] = mark
        contents[f"places{address.version}"][address.packed] = mark


def of_fleet(fleet: Fleet, numbers: Mapping[frozenset[str], int]) -> Contents:
    """Return the elements of all machines.

    Raises:
        StateError: a machine's labels have no class.
    """
    names = ("sources", "targets", "near", "places", "outside")
    contents: Contents = {"classes": {}, "taps": {}, "macs": {}, "stations": {}}
    contents |= {f"{name}{version}": {} for name in names for version in (4, 6)}
    for port in fleet.ports:
        of_port(contents, port, number_of(port.name, port.labels, numbers))
    for machine in fleet.elsewhere:
        of_elsewhere(contents, machine, number_of(machine.name, machine.labels, numbers))
    return contents


def number_of(name: str, labels: frozenset[str], numbers: Mapping[frozenset[str], int]) -> int:
    """Return the number of a machine's class.

    Raises:
        StateError: it has none.
    """
    if labels not in numbers:
        raise StateError(
            f"{name}: no class has the labels {', '.join(sorted(labels)) or 'none'}: apply the policy again"
        )
    return numbers[labels]


def _grants(policy: FirewallPolicy, every: list[Place]) -> Contents:
    """Fill each side's sets: who may open what there, whose answers it gets, and who may look for it."""
    kinds = ("to", "back", "ping", "pong", "near", "logged")
    contents: Contents = {f"{kind}-{place.name}": {} for place in every for kind in kinds}
    meant = Meant(every, policy.quarantine_labels, flow=True)
    for flow in policy.flows:
        sources = [every[number] for number in meant.by(flow.source)]
        targets = [every[number] for number in meant.by(flow.target)]
        ports = tuple(_ports(flow.services))
        echo = any(service.protocol is Protocol.ICMP for service in flow.services)
        for source in sources:
            for target in targets:
                if Kind.MACHINES in {source.kind, target.kind}:
                    _grant(contents, source, target, ports, echo=echo, log=flow.log)
    outside = [place for place in every if place.kind is not Kind.MACHINES]
    for place in every:
        if place.kind is Kind.MACHINES and contents[f"near-{place.name}"]:
            contents[f"near-{place.name}"].update({host_order(other.mark): None for other in outside})
        if not contents[f"logged-{place.name}"]:
            del contents[f"logged-{place.name}"]
    return contents


def _grant(
    contents: Contents, source: Place, target: Place, ports: Iterable[bytes], *, echo: bool, log: bool
) -> None:
    of_source, of_target = host_order(source.mark), host_order(target.mark)
    contents[f"near-{target.name}"][of_source] = None
    contents[f"near-{source.name}"][of_target] = None
    for port in ports:
        contents[f"to-{target.name}"][of_source + port] = None
        contents[f"back-{source.name}"][of_target + port] = None
        if log:
            contents[f"logged-{target.name}"][of_source + port] = None
    if echo:
        contents[f"ping-{target.name}"][of_source] = None
        contents[f"pong-{source.name}"][of_target] = None


def _ports(services: Iterable[Service]) -> Iterable[bytes]:
    """Protocol and port as they stand in registers."""
    for service in services:
        if service.protocol in NUMBERS:
            for port in range(service.low, service.high + 1):
                yield bytes((NUMBERS[service.protocol], 0, 0, 0)) + port.to_bytes(2, "big") + b"\0\0"


def _is_single(place: Place, version: int) -> bool:
    network = place.network
    return network is not None and network.version == version and network.num_addresses == 1


def _packed(place: Place) -> bytes:
    assert place.network is not None
    return place.network.network_address.packed


def _of_link(address: bytes) -> bool:
    """169.254.0.0/16 and fe80::/10 are of every link alike, so nobody is found by them."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
