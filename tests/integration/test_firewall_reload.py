"""Compiled policies are replaced, and machines come and go, while traffic runs at full speed.

Every policy allows the allowed frames and denies the denied ones; all else in them varies. Counted by the
kernel: not one allowed frame is lost, not one denied frame gets by.
"""

import contextlib
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from firewallworld import ANY, FLEET, HOST, LABELS, PING, WORLD, ip_packet, label, networks, tcp, udp
from netns import call_in_own_network
from spoofs import A4, A6, B4, B6, V4, WORLD4, A, B, V, arp, ethernet, icmp6, six
from traffic import Told, Traffic
from wire import Wire

from undercroft.adapters.nftables import Nftables, difference
from undercroft.adapters.nftables.wire import Channel
from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.elements import port_elements
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.policy import FirewallPolicy, Flow, LogRate, OtherPorts, Ports
from undercroft.firewall.tracking import StateKind

pytestmark = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")

PORTS = (A.tap, B.tap, V.tap, "eth0")
REPLACEMENTS = 20
SOAK_REPLACEMENTS = 600
NEEDED = (
    Flow(label("web"), label("db"), (tcp(5432), PING), place="p:1"),
    Flow(WORLD, label("web"), (tcp(443),), place="p:2"),
)
OPENING, ANSWERING = struct.pack(">HH", 40000, 5432) + bytes(16), struct.pack(">HH", 5432, 40000) + bytes(16)
UPLINK_MAC = bytes.fromhex("020000000001")


def to(port: Port, frame: bytes, source: bytes) -> bytes:
    return port.mac + source + frame[12:]


ALLOWED = (
    (A.tap, B.tap, ethernet(ip_packet(4, A4, B4, 6, OPENING))),
    (A.tap, B.tap, six(ip_packet(6, A6, B6, 6, OPENING))),
    (B.tap, A.tap, to(A, ethernet(ip_packet(4, B4, A4, 6, ANSWERING)), B.mac)),
    (B.tap, A.tap, to(A, six(ip_packet(6, B6, A6, 6, ANSWERING)), B.mac)),
    (A.tap, B.tap, ethernet(ip_packet(4, A4, B4, 1, b"\x08\0" + bytes(14)))),
    (A.tap, B.tap, arp(1, A.mac, A4, B4)),
    (A.tap, B.tap, icmp6(b"\x87\0\0\0" + bytes(4) + B6 + b"\x01\x01" + A.mac)),
    (
        "eth0",
        A.tap,
        to(A, ethernet(ip_packet(4, WORLD4, A4, 6, struct.pack(">HH", 9, 443) + bytes(16))), UPLINK_MAC),
    ),
)
DENIED = (
    (A.tap, ethernet(ip_packet(4, A4, B4, 6, struct.pack(">HH", 40000, 23) + bytes(16)))),
    (A.tap, ethernet(ip_packet(4, V4, B4, 6, OPENING))),
    (A.tap, ethernet(ip_packet(4, A4, B4, 6, OPENING), source=V.mac)),
    (A.tap, B.mac + A.mac + b"\x81\0\0\x05\x08\0" + ip_packet(4, A4, B4, 6, OPENING)),
    (A.tap, arp(2, A.mac, V4, B4)),
    (A.tap, icmp6(b"\x86\0\0\0" + bytes(12))),
    (B.tap, to(A, ethernet(ip_packet(4, B4, A4, 6, struct.pack(">HH", 5432, 40009) + bytes(16))), B.mac)),
    (B.tap, to(A, six(ip_packet(6, B6, A6, 6, struct.pack(">HH", 5432, 40009) + bytes(16))), B.mac)),
    (B.tap, to(A, ethernet(ip_packet(4, B4, A4, 6, OPENING)), B.mac)),
    ("eth0", to(B, ethernet(ip_packet(4, WORLD4, B4, 6, OPENING)), UPLINK_MAC)),
)
"""Other ports, others' addresses and MACs, a tag, ARP and ND for others, answers to nothing, and more."""

OTHERS = (
    Flow(label("blue"), label("red"), (tcp(1), udp(1, 40)), log=True),
    Flow(label("db"), HOST, (udp(53), PING)),
    Flow(label("web"), WORLD, (tcp(443), udp(53)), log=True),
    Flow(networks("10.0.0.0/8", "2001:db8:800::/37"), label("db"), (udp(1000, 1200),)),
    Flow(networks("192.0.2.7/32"), label("web"), (tcp(22),)),
    Flow(label("web"), label("web"), (tcp(1000),), log=True),
    Flow(label("web"), label("db"), (udp(2000, 2400),), log=True),
    Flow(ANY, networks("192.0.2.7/32"), (udp(123),)),
    Flow(HOST, ANY, (PING,)),
)


def extra(number: int, labels: tuple[str, ...]) -> Port:
    """Return a machine that comes and goes."""
    mac = bytes((0x52, 0x54, 1)) + number.to_bytes(3, "big")
    ipv4, ipv6 = IPv4Address(0x0A020000 + number), IPv6Address((0x20010DB9 << 96) + number)
    return Port(f"x-{number}", f"x{number}", f"vnet{100 + number}", mac, (ipv4,), (ipv6,), frozenset(labels))


class Changing:
    """Policies and fleets, one after the other, of which any two differ; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._classes = Classes()

    def next(self) -> Ruleset:
        """Return the next one."""
        chance = self._random
        flows = [*NEEDED, *chance.sample(OTHERS, chance.randrange(len(OTHERS)))]
        chance.shuffle(flows)
        others = chance.choice((OtherPorts.DENIED, OtherPorts.OUTSIDE))
        policy = FirewallPolicy(
            labels=LABELS,
            flows=tuple(flows),
            ports=Ports(uplinks=("eth0", f"eth{chance.randrange(1, 9)}"), others=others),
            log=LogRate(packets=chance.choice((0, 5, 10))),
            tcp_state_s=chance.choice((600, 3600)),
            other_state_s=chance.choice((60, 120)),
        )
        labels = chance.choices((("blue",), ("red",), ("blue", "red"), ("web", "red"), ()), k=12)
        numbers = chance.sample(range(40), 12)
        ports = (A, B, V, *(extra(number, own) for number, own in zip(numbers, labels, strict=True)))
        self._classes = assigned(self._classes, [port.labels for port in ports])
        fleet = Fleet("here", FLEET.host_addresses, ports)
        return compile_ruleset(policy, fleet, self._classes, StateKind.TUPLES)


def under_traffic(change: Callable[[Nftables, Ruleset], None], first: Ruleset) -> Told:
    """Change the filter while frames come in, and return what became of them."""
    with Wire(PORTS) as wire, Nftables() as kernel:
        kernel.replace(first)
        for port, _, frame in ALLOWED:  # What answers has to have been opened.
            wire.put(port, frame)
        with Traffic(wire, ALLOWED, DENIED) as traffic:
            change(kernel, first)
        assert kernel.read(first.table.name)
        return traffic.told


def replaced(count: int, seed: int) -> Told:
    changing = Changing(seed)

    def change(kernel: Nftables, first: Ruleset) -> None:
        generation = kernel.generation()
        for _ in range(count):
            assert kernel.replace(changing.next()) > 0
        assert kernel.generation() >= generation + count

    return call_in_own_network(lambda: under_traffic(change, changing.next()))


def test_policies_are_replaced_under_traffic_without_one_frame_lost_or_leaked() -> None:
    told = replaced(REPLACEMENTS, 1)
    print(told)  # noqa: T201 - figures of docs/ROBUSTNESS.md
    assert (told.lost, told.leaked) == (0, 0)
    assert min(told.allowed, told.denied) > 100 * REPLACEMENTS


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_hundreds_of_policies_are_replaced_under_traffic_without_one_frame_lost_or_leaked() -> None:
    told = replaced(SOAK_REPLACEMENTS, 2)
    print(told)  # noqa: T201
    assert (told.lost, told.leaked) == (0, 0)


def test_machines_come_and_go_under_traffic_without_one_frame_lost_or_leaked() -> None:
    ports = [extra(number, ("web", "red")) for number in range(40)]
    classes = assigned(Classes(), [A.labels, B.labels, ports[0].labels])
    first = compile_ruleset(
        FirewallPolicy(labels=LABELS, flows=NEEDED, ports=Ports(uplinks=("eth0",))),
        Fleet("here", FLEET.host_addresses, (A, B, V)),
        classes,
        StateKind.TUPLES,
    )

    def change(kernel: Nftables, first: Ruleset) -> None:
        for round_number in range(100):
            elements = port_elements(ports[round_number % len(ports)], classes)
            kernel.change(first.table, elements, {})
            kernel.change(first.table, {}, {name: tuple(found) for name, found in elements.items()})

    told = call_in_own_network(lambda: under_traffic(change, first))
    print(told)  # noqa: T201
    assert (told.lost, told.leaked) == (0, 0)
    assert min(told.allowed, told.denied) > 1_000


def relabelled(count: int, *, at_once: bool) -> Told:
    """Change the labels of the machine that sends; `at_once`: nobody's labels have no class in any table."""
    labels = (frozenset({"web"}), frozenset({"web", "blue"}))
    policy = FirewallPolicy(labels=LABELS, flows=NEEDED, ports=Ports(uplinks=("eth0",)))
    every = assigned(Classes(), [*labels, B.labels, V.labels])

    def made(number: int) -> Ruleset:
        ports = (replace(A, labels=labels[number % 2]), B, V)
        classes = assigned(every, [port.labels for port in ports]) if at_once else every
        return compile_ruleset(policy, Fleet("here", FLEET.host_addresses, ports), classes, StateKind.TUPLES)

    def change(kernel: Nftables, first: Ruleset) -> None:
        for number in range(1, count):
            kernel.replace(made(number))

    return call_in_own_network(lambda: under_traffic(change, made(0)))


def test_a_machines_labels_change_under_traffic_without_one_frame_lost_or_leaked() -> None:
    told = relabelled(REPLACEMENTS, at_once=False)
    print(told)  # noqa: T201
    assert (told.lost, told.leaked) == (0, 0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_labels_whose_class_goes_at_once_leak_nothing_though_a_frame_on_its_way_may_be_lost() -> None:
    told = relabelled(SOAK_REPLACEMENTS, at_once=True)
    print(told)  # noqa: T201
    assert told.leaked == 0
    assert told.lost <= SOAK_REPLACEMENTS


def test_control_tables_deleted_and_added_in_one_batch_lose_or_leak() -> None:
    changing = Changing(3)

    def change(kernel: Nftables, first: Ruleset) -> None:
        with contextlib.closing(Channel()) as channel:
            for _ in range(REPLACEMENTS):
                channel.commit(difference.recreated(changing.next()))

    def harmed() -> bool:
        told = call_in_own_network(lambda: under_traffic(change, changing.next()))
        print(told)  # noqa: T201
        return told.lost + told.leaked > 0

    assert any(harmed() for _ in range(10))
