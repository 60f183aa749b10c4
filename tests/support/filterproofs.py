"""Policies and fleets for proofs of the packet filter, and what a table does with an example of theirs."""

from ipaddress import IPv4Address, IPv6Address, ip_network

from undercroft.assurance.firewall.examplepacket import Example
from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.fleet import Elsewhere, Fleet, Port
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.packets import parse
from undercroft.firewall.policy import (
    FirewallPolicy,
    Flow,
    Never,
    OtherPorts,
    Peer,
    PeerKind,
    Ports,
    Protocol,
    Service,
)
from undercroft.firewall.simulate import Context, Memory, run
from undercroft.firewall.tracking import StateKind

WORLD, HOST, ANY = Peer(PeerKind.WORLD), Peer(PeerKind.HOST), Peer(PeerKind.ANY)
WEB, DB, PATIENT = frozenset({"web"}), frozenset({"db"}), frozenset({"quarantine"})


def label(name: str) -> Peer:
    """Return machines of a label."""
    return Peer(PeerKind.LABEL, name)


def network(*texts: str) -> Peer:
    """Return addresses in these networks."""
    return Peer(PeerKind.NETWORK, "", tuple(map(ip_network, texts)))


def service(text: str) -> Service:
    """Return "tcp/443" or "icmp" as a value."""
    name, _, port = text.partition("/")
    low, _, high = port.partition("-")
    return Service(Protocol(name), int(low or 0), int(high or low or 0))


def flow(source: Peer, target: Peer, *services: str, log: bool = False) -> Flow:
    """Return a flow."""
    return Flow(source, target, tuple(map(service, services)), log)


POLICY = FirewallPolicy(
    flows=(
        flow(label("web"), label("db"), "tcp/5432"),
        flow(WORLD, label("web"), "tcp/443", "tcp/80", "icmp", log=True),
        flow(label("web"), network("10.9.0.0/16", "192.0.2.7/32", "2001:db8:9::/48"), "udp/53", "icmp"),
        flow(label("db"), HOST, "tcp/22"),
        flow(label("quarantine"), network("192.0.2.80/32"), "tcp/443"),
    ),
    nevers=(Never(WORLD, label("db")), Never(label("quarantine"), ANY, (network("192.0.2.80/32"),))),
    ports=Ports(uplinks=("eth0",)),
)
OUTSIDE_POLICY = FirewallPolicy(
    flows=POLICY.flows, nevers=POLICY.nevers, ports=Ports(others=OtherPorts.OUTSIDE)
)


def port(number: int, labels: frozenset[str]) -> Port:
    """Return the port of a machine; the same number gives the same one."""
    mac = bytes((0x52, 0x54, 0)) + number.to_bytes(3, "big")
    ipv6 = IPv6Address((0x20010DB8 << 96) + number)
    name = f"m{number}"
    return Port(
        f"uuid-{number}", name, f"vnet{number}", mac, (IPv4Address(0x0A010000 + number),), (ipv6,), labels
    )


def fleet(count: int, label_sets: tuple[frozenset[str], ...] = (WEB, DB, PATIENT)) -> Fleet:
    """Return machines that have these labels in turn, one of them elsewhere, and a host with an address."""
    ports = tuple(port(number, label_sets[number % len(label_sets)]) for number in range(1, count + 1))
    elsewhere = Elsewhere("uuid-elsewhere", "e1", (IPv4Address("10.2.0.1"),), label_sets[0])
    return Fleet("host1", (IPv4Address("10.0.0.1"),), ports, (elsewhere,))


def classes(label_sets: tuple[frozenset[str], ...] = (WEB, DB, PATIENT)) -> Classes:
    """Return the classes of these labels."""
    return assigned(Classes(), label_sets)


def ruleset(count: int = 6, policy: FirewallPolicy = POLICY, state: StateKind = StateKind.TUPLES) -> Ruleset:
    """Return the compiler's table for so many machines."""
    return compile_ruleset(policy, fleet(count), classes(), state)


def passes(table: Ruleset, example: Example) -> bool:
    """Tell what a table does with an example, by the interpreter of single packets."""
    packet = parse(example.frame)
    assert packet is not None
    memory = Memory(connection_bits=example.state)
    for name, key in example.remembered:
        memory.sets.setdefault(name, set()).add(key)
    mark = example.mark
    for hook in example.hooks:
        context = Context(
            example.input_name if hook.value != "output" else "",
            example.output_name if hook.value in {"forward", "output"} else "",
            mark,
            example.input_kind,
            example.output_kind,
        )
        outcome = run(table, hook, packet, context, memory)
        if not outcome.accept:
            return False
        mark = outcome.mark
    return True
