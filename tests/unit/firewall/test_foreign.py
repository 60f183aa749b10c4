"""What comes in by a port that is no machine's never bears the name of a machine that runs here."""

import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest
from firewallworld import FLEET, OPEN_PORTS, OUTSIDE_MAC, POLICY, ip_packet, ruleset

from undercroft.firewall.decisions import Path, PathKind, Remembered
from undercroft.firewall.kernel import Code, Hook, Immediate, Rule, Verdict
from undercroft.firewall.meaning import decide
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import Context, Memory, follow, run

WEB, DB, COMING = FLEET.ports[0], FLEET.ports[1], FLEET.ports[7]
W4, W6, D6 = WEB.ipv4[0].packed, WEB.ipv6[0].packed, DB.ipv6[0].packed
HOST6 = ip_address("2001:db8::fe").packed
OUT4, OUT6, LINK = bytes((203, 0, 113, 9)), ip_address("2001:db8:f::1").packed, ip_address("fe80::1").packed
ALL6 = ip_address("ff02::1").packed
TCP = struct.pack(">HH", 40_000, 5432) + bytes(16)
FIRST, LATER = 0x2000, 0x00B9
VLAN_9 = b"\x81\0\0\x09"
ROUTES = (
    Path(PathKind.TO_HOST, "eth0"),
    Path(PathKind.FORWARD, "eth0", DB.tap),
    Path(PathKind.FORWARD, "eth0", "veth9"),
    Path(PathKind.TO_HOST, "veth9"),
)


def ethernet(payload: bytes, kind: bytes = b"\x08\0", source: bytes = OUTSIDE_MAC) -> bytes:
    return DB.mac + source + kind + payload


def arp(sender: bytes, operation: int = 2) -> bytes:
    said = OUTSIDE_MAC + sender + DB.mac + DB.ipv4[0].packed
    return ethernet(b"\0\x01\x08\0\x06\x04" + operation.to_bytes(2, "big") + said, b"\x08\x06")


def advertises(address: bytes, source: bytes = LINK, target: bytes = D6) -> bytes:
    said = b"\x88\0\0\0" + b"\x20\0\0\0" + address + b"\x02\x01" + OUTSIDE_MAC
    packet = ip_packet(6, source, target, 58, said)
    return ethernet(packet[:7] + b"\xff" + packet[8:], b"\x86\xdd")


FORGED = {
    "IPv4": ethernet(ip_packet(4, W4, DB.ipv4[0].packed, 6, TCP)),
    "a first fragment": ethernet(ip_packet(4, W4, OUT4, 6, TCP, FIRST, 7)),
    "a later fragment": ethernet(ip_packet(4, W4, OUT4, 6, bytes(16), LATER, 7)),
    "a fragment in a tag": ethernet(ip_packet(4, W4, OUT4, 6, bytes(16), LATER, 7), VLAN_9 + b"\x08\0"),
    "IPv4 with options": ethernet(ip_packet(4, W4, OUT4, 6, TCP, options=bytes([148, 4, 0, 0]))),
    "IPv6": ethernet(ip_packet(6, W6, D6, 6, TCP), b"\x86\xdd"),
    "IPv6 in a tag": ethernet(ip_packet(6, W6, D6, 6, TCP), VLAN_9 + b"\x86\xdd"),
    "an IPv6 fragment": ethernet(ip_packet(6, W6, D6, 44, b"\x06\0\0\xb8" + bytes(20)), b"\x86\xdd"),
    "its link-local address": ethernet(ip_packet(6, WEB.all_ipv6[-1].packed, D6, 6, TCP), b"\x86\xdd"),
    "ARP": arp(W4),
    "an ARP request": arp(W4, 1),
    "an advertisement": advertises(W6),
    "an advertisement to all": advertises(W6, target=ALL6),
    "its MAC": ethernet(ip_packet(4, OUT4, DB.ipv4[0].packed, 6, TCP), source=WEB.mac),
    "its MAC in no IP": ethernet(bytes(46), b"\x88\xcc", WEB.mac),
}
HONEST = {
    "a stranger": ethernet(ip_packet(4, OUT4, W4, 6, TCP)),
    "a fragment of a stranger": ethernet(ip_packet(4, OUT4, W4, 6, bytes(16), LATER, 7)),
    "a stranger's ARP": arp(OUT4),
    "a stranger's advertisement": advertises(LINK),
    "a machine elsewhere": ethernet(ip_packet(4, bytes((10, 1, 0, 20)), W4, 6, TCP)),
    "who is arriving": ethernet(ip_packet(4, COMING.ipv4[0].packed, W4, 6, TCP), source=COMING.mac),
    "the ARP of who is arriving": arp(COMING.ipv4[0].packed),
}


def passes(frame: bytes, path: Path, policy=POLICY, rules=None) -> bool:  # type: ignore[no-untyped-def]
    packet = parse(frame)
    assert packet is not None
    accepted = follow(rules or ruleset(policy), packet, path, Memory()).accept
    if rules is None:
        assert decide(policy, FLEET, packet, path, Remembered()).accept is accepted
    return accepted


@pytest.mark.parametrize("name", FORGED)
def test_nothing_in_the_name_of_a_machine_here_gets_past_the_first_hook(name: str) -> None:
    packet = parse(FORGED[name])
    assert packet is not None
    for policy in (POLICY, OPEN_PORTS):
        for port in ("eth0", "veth9"):
            assert not run(ruleset(policy), Hook.PREROUTING, packet, Context(port), Memory()).accept
        assert not any(passes(FORGED[name], path, policy) for path in ROUTES)


@pytest.mark.parametrize("name", HONEST)
def test_what_bears_no_name_from_here_passes_the_first_hook(name: str) -> None:
    for path in (ROUTES[0], ROUTES[2], ROUTES[3]):
        assert passes(HONEST[name], path)


@pytest.mark.parametrize("name", FORGED)
def test_control_without_the_look_it_passes_to_host_and_uplinks(name: str) -> None:
    rules = ruleset()
    hole = (Rule((Immediate(Verdict(Code.ACCEPT)),)),)
    chains = [
        replace(one, rules=hole) if one.name.startswith("foreign") else one for one in rules.table.chains
    ]
    without = replace(rules, table=replace(rules.table, chains=tuple(chains)))
    assert passes(FORGED[name], ROUTES[0], rules=without)
    assert passes(FORGED[name], ROUTES[2], rules=without)


@pytest.mark.parametrize(
    ("claimed", "path", "source", "allowed"),
    [
        (W6, Path(PathKind.FORWARD, "eth0", DB.tap), LINK, False),
        (W6, Path(PathKind.FROM_HOST, "", DB.tap), HOST6, False),
        (HOST6, Path(PathKind.FORWARD, "eth0", DB.tap), LINK, False),
        (HOST6, Path(PathKind.FROM_HOST, "", DB.tap), LINK, False),
        (HOST6, Path(PathKind.FROM_HOST, "", DB.tap), HOST6, True),
        (LINK, Path(PathKind.FORWARD, "eth0", DB.tap), LINK, True),
        (COMING.ipv6[0].packed, Path(PathKind.FORWARD, "eth0", DB.tap), LINK, True),
        (ip_address("2001:db8::20").packed, Path(PathKind.FORWARD, "eth0", DB.tap), LINK, True),
    ],
)
def test_an_advertisement_is_believed_of_who_may_have_the_address(
    claimed: bytes, path: Path, source: bytes, allowed: bool
) -> None:
    assert passes(advertises(claimed, source), path) is allowed
