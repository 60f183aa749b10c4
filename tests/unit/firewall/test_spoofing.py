"""What a machine may not send, crafted by hand: no encapsulation, and no name but its own."""

import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest
from firewallworld import CLASSES, FLEET, OUTSIDE_MAC, POLICY, VLAN_POLICY, ip_packet, ruleset

from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.decisions import Path, PathKind, Remembered
from undercroft.firewall.kernel import (
    Base,
    Chain,
    Code,
    Compare,
    Hook,
    Immediate,
    Operator,
    Payload,
    Rule,
    Ruleset,
    Table,
    Verdict,
)
from undercroft.firewall.meaning import decide
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import Context, Memory, follow, run
from undercroft.firewall.tracking import StateKind

RULES = ruleset()
WEB, DB = FLEET.ports[0], FLEET.ports[1]
A4, B4 = WEB.ipv4[0].packed, DB.ipv4[0].packed
A6, B6 = WEB.ipv6[0].packed, DB.ipv6[0].packed
TO_DB = Path(PathKind.FORWARD, WEB.tap, DB.tap)
TO_WORLD = Path(PathKind.FORWARD, WEB.tap, "eth0")
TCP = struct.pack(">HH", 40000, 5432) + bytes(16)
HTTPS = struct.pack(">HH", 40000, 443) + bytes(16)
WORLD6 = ip_address("2001:db8:f::1").packed


def ethernet(payload, ether_type=0x0800, source=WEB.mac, target=DB.mac):
    return target + source + ether_type.to_bytes(2, "big") + payload


def accepted(frame, path=TO_DB, memory=None, rules=RULES):
    packet = parse(frame)
    return packet is not None and follow(rules, packet, path, memory or Memory()).accept


def deny_list(*addresses):
    """Return what several products do: IPv4 from other addresses is dropped, all else passes."""
    drop = Immediate(Verdict(Code.DROP))
    wrong = [
        Rule(
            (
                Payload(0, Base.LINK, 12, 2),
                Compare(0, Operator.EQUAL, b"\x08\0"),
                Payload(0, Base.NETWORK, 12, 4),
                Compare(0, Operator.UNEQUAL, address),
                drop,
            )
        )
        for address in addresses
    ]
    return Ruleset(Table("control", (), (Chain("only", tuple(wrong), Hook.PREROUTING),)))


IP = ip_packet(4, A4, B4, 6, TCP)
FORGED = ip_packet(4, FLEET.ports[2].ipv4[0].packed, B4, 6, TCP)
SNAP = b"\xaa\xaa\x03\0\0\0"
ENCAPSULATIONS = {
    "VLAN": b"\x81\0\0\x05\x08\0",
    "VLAN 0": b"\x81\0\0\0\x08\0",
    "VLAN 0 twice": b"\x81\0\0\0\x81\0\0\0\x08\0",
    "QinQ": b"\x88\xa8\0\x05\x81\0\0\x05\x08\0",
    "QinQ 0": b"\x88\xa8\0\0\x08\0",
    "old QinQ": b"\x91\0\0\x05\x08\0",
    "SNAP": b"\0\x30" + SNAP + b"\x08\0",
    "VLAN 0 and SNAP": b"\x81\0\0\0\0\x30" + SNAP + b"\x08\0",
    "QinQ and SNAP": b"\x88\xa8\0\x05\x81\0\0\0\0\x30" + SNAP + b"\x08\0",
    "SNAP and VLAN 0": b"\0\x30" + SNAP + b"\x81\0\0\0\x08\0",
    "LLC": b"\0\x30\x06\x06\x03",
    "MPLS": b"\x88\x47\0\0\x11\x40",
    "PPPoE": b"\x88\x64\x11\0\0\x01\0\x30\0\x21",
    "NSH": b"\x89\x4f\0\0\0\0",
    "Ethernet in Ethernet": b"\x65\x58" + DB.mac + WEB.mac + b"\x08\0",
}


@pytest.mark.parametrize("name", ENCAPSULATIONS)
def test_no_encapsulation_passes_even_around_an_own_packet(name):
    for inner in (IP, FORGED):
        assert not accepted(DB.mac + WEB.mac + ENCAPSULATIONS[name] + inner)


def test_a_deny_list_lets_the_same_encapsulations_through():
    control = deny_list(A4)
    assert not accepted(ethernet(FORGED), rules=control)
    assert all(accepted(DB.mac + WEB.mac + kind + FORGED, rules=control) for kind in ENCAPSULATIONS.values())


def test_the_plain_packet_passes():
    assert accepted(ethernet(IP))
    assert accepted(ethernet(ip_packet(6, A6, B6, 6, TCP), 0x86DD))


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(FORGED),
        ethernet(IP, source=DB.mac),
        ethernet(ip_packet(4, bytes(4), B4, 6, TCP)),
        ethernet(ip_packet(4, A4, B4, 6, TCP, options=b"\x83\x04\0\0")),
        ethernet(ip_packet(4, A4, B4, 6, TCP)[:-1]),
        ethernet(ip_packet(4, A4, B4, 6, b"\x9c\x40")),
        ethernet(ip_packet(4, A4, B4, 4, IP)),
        ethernet(ip_packet(6, A6, B6, 41, IP), 0x86DD),
        ethernet(ip_packet(6, B6, B6, 6, TCP), 0x86DD),
        *(
            ethernet(ip_packet(6, A6, B6, number, bytes([6, 0]) + bytes(6) + TCP), 0x86DD)
            for number in (0, 43, 51, 60, 135, 139, 140, 253)
        ),
        ethernet(ip_packet(6, A6, B6, 59, TCP), 0x86DD),
        ethernet(ip_packet(4, A4, B4, 17, struct.pack(">HH", 67, 68) + bytes(250))),
        ethernet(ip_packet(6, A6, B6, 17, struct.pack(">HH", 547, 546) + bytes(50)), 0x86DD),
        ethernet(ip_packet(6, A6, B6, 58, b"\x86\0\0\0" + bytes(12), hops=255), 0x86DD),
        ethernet(ip_packet(6, A6, B6, 58, b"\x89\0\0\0" + bytes(36), hops=255), 0x86DD),
    ],
)
def test_what_is_not_the_ports_own_is_dropped_on_every_way(frame):
    packet = parse(frame)
    for path in (TO_DB, TO_WORLD, Path(PathKind.TO_HOST, WEB.tap)):
        assert not accepted(frame, path)
        assert not decide(POLICY, FLEET, packet, path, Remembered()).accept


VLAN_RULES = ruleset(VLAN_POLICY)
TAG_5 = b"\x81\0\0\x05"


def tagged(frame, tag=TAG_5):
    return frame[:12] + tag + frame[12:]


def judged(frame, path):
    """Tell what becomes of a frame where VLANs are granted; rules and meaning are of one opinion."""
    packet = parse(frame)
    passes = follow(VLAN_RULES, packet, path, Memory()).accept
    assert decide(VLAN_POLICY, FLEET, packet, path, Remembered()).accept is passes
    return passes


@pytest.mark.parametrize("inner", [ethernet(IP), ethernet(ip_packet(6, A6, B6, 6, TCP), 0x86DD)])
def test_a_granted_tag_passes_between_machines_that_have_it_and_out(inner):
    outward = ethernet(ip_packet(4, A4, ip_address("8.8.8.8").packed, 6, HTTPS), target=OUTSIDE_MAC)
    for tag in (TAG_5, b"\x81\0\xe0\x05"):
        assert judged(tagged(inner, tag), TO_DB)
        assert judged(tagged(outward, tag), TO_WORLD)
    assert not accepted(tagged(inner))


@pytest.mark.parametrize(
    "tag",
    [
        b"\x81\0\0\0",
        b"\x81\0\0\x06",
        b"\x81\0\x0f\xff",
        b"\x81\0\x50\x00",
        b"\x88\xa8\0\x05",
        b"\x91\0\0\x05",
        TAG_5 + TAG_5,
        TAG_5 + b"\x81\0\0\0",
        b"\x88\xa8\0\x05" + TAG_5,
        TAG_5 + b"\0\x30" + SNAP,
        b"\0\x30" + SNAP + TAG_5,
    ],
)
def test_no_other_tag_and_no_stack_of_tags_passes_where_one_is_granted(tag):
    for path in (TO_DB, TO_WORLD):
        assert not judged(tagged(ethernet(IP), tag), path)


def test_a_granted_tag_hides_no_forgery_and_opens_no_flow():
    sick, other = FLEET.ports[4], FLEET.ports[3]
    for inner in (
        ethernet(FORGED),
        ethernet(IP, source=DB.mac),
        ethernet(ip_packet(4, A4, B4, 6, HTTPS)),
        ethernet(ip_packet(4, A4, B4, 17, struct.pack(">HH", 67, 68) + bytes(250))),
        announcement(),
    ):
        assert not judged(tagged(inner), TO_DB)
        assert not judged(tagged(inner), TO_WORLD)
    for port in (sick, other):
        to_it = ethernet(ip_packet(4, A4, port.ipv4[0].packed, 6, TCP), target=port.mac)
        assert not judged(tagged(to_it), Path(PathKind.FORWARD, WEB.tap, port.tap))
        asked = arp(1, WEB.mac, A4, port.ipv4[0].packed)
        assert not judged(tagged(asked), Path(PathKind.FORWARD, WEB.tap, port.tap))


def test_what_comes_in_by_a_vlan_reaches_machines_that_have_it_and_never_the_host():
    https = ip_packet(4, ip_address("203.0.113.9").packed, A4, 6, struct.pack(">HH", 9, 443) + bytes(16))
    incoming = ethernet(https, source=OUTSIDE_MAC, target=WEB.mac)
    assert judged(tagged(incoming), Path(PathKind.FORWARD, "eth0", WEB.tap))
    assert not judged(tagged(incoming, b"\x81\0\0\x06"), Path(PathKind.FORWARD, "eth0", WEB.tap))
    assert not judged(tagged(incoming), Path(PathKind.FORWARD, "veth9", WEB.tap))
    assert not judged(tagged(incoming), Path(PathKind.FROM_HOST, "", WEB.tap))
    forged = ethernet(ip_packet(4, B4, A4, 6, TCP), source=OUTSIDE_MAC, target=WEB.mac)
    assert not judged(tagged(forged), Path(PathKind.FORWARD, "eth0", WEB.tap))
    asked = arp(1, DB.mac, B4, A4)
    assert not judged(tagged(asked), Path(PathKind.TO_HOST, DB.tap))
    to_host = ethernet(ip_packet(4, B4, ip_address("10.1.0.254").packed, 17, struct.pack(">HH", 9, 53)))
    assert not judged(tagged(to_host), Path(PathKind.TO_HOST, DB.tap))


def test_a_frame_for_another_mac_is_not_shown_to_a_port():
    assert not accepted(ethernet(IP, target=OUTSIDE_MAC))
    assert not accepted(ethernet(IP), Path(PathKind.FORWARD, WEB.tap, FLEET.ports[2].tap))


def arp(operation, mac, sender, target):
    return ethernet(
        struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + mac + sender + bytes(6) + target, 0x0806
    )


def test_arp_speaks_for_the_port_alone():
    assert accepted(arp(1, WEB.mac, A4, B4))
    assert accepted(arp(2, WEB.mac, A4, B4))
    assert accepted(arp(1, WEB.mac, bytes(4), A4), TO_WORLD)
    assert not accepted(arp(2, WEB.mac, B4, B4), TO_WORLD)
    assert not accepted(arp(2, DB.mac, A4, B4))
    assert not accepted(arp(1, WEB.mac, bytes(4), B4), TO_WORLD)


def test_a_neighbour_is_looked_for_only_where_a_flow_leads():
    other = FLEET.ports[3]
    path = Path(PathKind.FORWARD, WEB.tap, other.tap)
    assert not accepted(arp(1, WEB.mac, A4, other.ipv4[0].packed), path)
    assert not accepted(arp(1, WEB.mac, A4, B4), path)


def announcement(mac=WEB.mac, operation=3, addresses=bytes(8), padding=bytes(18), **ends):
    """QEMU's announcement of a machine that goes on here: net/announce.c, announce_self_create."""
    said = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
    said += mac + addresses[:4] + mac + addresses[4:] + padding
    return ethernet(said, 0x8035, **{"target": b"\xff" * 6, **ends})


def test_switches_hear_where_a_machine_is_now_and_machines_do_not():
    assert accepted(announcement(), TO_WORLD)
    for path in (TO_DB, Path(PathKind.TO_HOST, WEB.tap), Path(PathKind.FORWARD, WEB.tap, "veth9")):
        assert not accepted(announcement(), path)
        assert not decide(POLICY, FLEET, parse(announcement()), path, Remembered()).accept


@pytest.mark.parametrize(
    "frame",
    [
        announcement(mac=DB.mac),
        announcement(mac=DB.mac, source=DB.mac),
        announcement(source=DB.mac),
        announcement(target=OUTSIDE_MAC),
        announcement(target=DB.mac),
        *(announcement(operation=operation) for operation in (0, 1, 2, 4, 8, 9)),
        announcement(addresses=A4 + bytes(4)),
        announcement(addresses=bytes(4) + A4),
        announcement(padding=b"hello, quarantine!"),
        announcement(padding=bytes(17)),
        announcement(padding=bytes(19)),
        announcement(padding=b""),
        announcement()[:12] + b"\x81\0\0\x05" + announcement()[12:],
        announcement()[:14] + b"\0\x06" + announcement()[16:],
    ],
)
def test_nothing_else_is_said_by_rarp(frame):
    for path in (TO_WORLD, TO_DB, Path(PathKind.TO_HOST, WEB.tap)):
        assert not accepted(frame, path)
        assert not decide(POLICY, FLEET, parse(frame), path, Remembered()).accept


def test_no_announcement_comes_in_from_outside_to_a_machine_or_from_the_host():
    said = announcement(mac=OUTSIDE_MAC, source=OUTSIDE_MAC)
    for path in (Path(PathKind.FORWARD, "eth0", WEB.tap), Path(PathKind.FROM_HOST, "", WEB.tap)):
        assert not accepted(said, path)
    assert accepted(said, Path(PathKind.FORWARD, "eth0", "veth9"))


def discovery(kind, target, option=b"", source=A6, hops=255):
    body = bytes([kind, 0, 0, 0]) + bytes(4) + target + option
    return ethernet(ip_packet(6, source, B6, 58, body, hops=hops), 0x86DD)


def test_neighbour_discovery_speaks_for_the_port_alone():
    own, other = b"\x01\x01" + WEB.mac, b"\x01\x01" + DB.mac
    assert accepted(discovery(135, B6, own))
    assert accepted(discovery(136, A6, b"\x02\x01" + WEB.mac))
    assert accepted(discovery(135, A6, source=bytes(16)), TO_WORLD)
    assert not accepted(discovery(135, B6, other))
    assert not accepted(discovery(135, B6, own + bytes([14, 1]) + bytes(6)))
    assert not accepted(discovery(135, B6, own, hops=64))
    assert not accepted(discovery(136, B6, b"\x02\x01" + WEB.mac))
    assert not accepted(discovery(136, A6, b"\x02\x01" + DB.mac))
    assert not accepted(discovery(135, B6, source=bytes(16)), TO_WORLD)


def error(sender, inner, kind=3):
    return ethernet(
        ip_packet(4, sender, A4, 1, bytes([kind, 1]) + bytes(6) + inner), source=DB.mac, target=WEB.mac
    )


def test_an_icmp_error_passes_only_for_a_flow_of_its_receiver():
    memory = Memory()
    assert accepted(ethernet(IP), memory=memory)
    back = Path(PathKind.FORWARD, DB.tap, WEB.tap)
    assert accepted(error(B4, IP), back, memory)
    assert not accepted(error(B4, IP), back, Memory())
    assert not accepted(error(B4, IP, kind=5), back, memory)
    other = ip_packet(4, A4, B4, 6, struct.pack(">HH", 40009, 5432) + bytes(16))
    assert not accepted(error(B4, other), back, memory)


def test_a_third_machine_cannot_forge_an_error_but_a_router_outside_can_tell_of_one():
    memory = Memory()
    https = ip_packet(4, A4, ip_address("8.8.8.8").packed, 6, HTTPS)
    assert accepted(ethernet(https, target=OUTSIDE_MAC), TO_WORLD, memory)
    router = ip_packet(4, ip_address("203.0.113.1").packed, A4, 1, bytes([11, 0]) + bytes(6) + https)
    incoming = Path(PathKind.FORWARD, "eth0", WEB.tap)
    assert accepted(ethernet(router, source=OUTSIDE_MAC, target=WEB.mac), incoming, memory)
    assert not accepted(error(B4, https), Path(PathKind.FORWARD, DB.tap, WEB.tap), memory)


def test_an_answer_passes_once_the_flow_is_open_and_not_before():
    answer = ethernet(
        ip_packet(4, B4, A4, 6, struct.pack(">HH", 5432, 40000) + bytes(16)), source=DB.mac, target=WEB.mac
    )
    back, memory = Path(PathKind.FORWARD, DB.tap, WEB.tap), Memory()
    assert not accepted(answer, back, memory)
    assert accepted(ethernet(IP), memory=memory)
    assert accepted(answer, back, memory)


@pytest.mark.parametrize("version", [4, 6])
def test_later_fragments_follow_their_first_one_only(version):
    memory = Memory()
    if version == 4:
        first = ethernet(ip_packet(4, A4, B4, 6, TCP, 0x2000, 7))
        later = ethernet(ip_packet(4, A4, B4, 6, bytes(32), 0x0005, 7))
        stranger = ethernet(ip_packet(4, A4, B4, 6, bytes(32), 0x0005, 8))
    else:
        first = ethernet(ip_packet(6, A6, B6, 44, b"\x06\0\0\x01\0\0\0\x07" + TCP), 0x86DD)
        later = ethernet(ip_packet(6, A6, B6, 44, b"\x06\0\0\x28\0\0\0\x07" + bytes(32)), 0x86DD)
        stranger = ethernet(ip_packet(6, A6, B6, 44, b"\x06\0\0\x28\0\0\0\x08" + bytes(32)), 0x86DD)
    assert not accepted(later, memory=memory)
    assert accepted(first, memory=memory)
    assert accepted(later, memory=memory)
    assert not accepted(stranger, memory=memory)


@pytest.mark.parametrize("version", [4, 6])
def test_ports_in_later_fragments_open_nothing_though_the_kernel_reads_them(version):
    """Linux 6.18 loads up to four bytes of the transport header of later fragments."""
    if version == 4:
        frame = ethernet(ip_packet(4, A4, B4, 6, TCP, 0x0005, 7))
    else:
        frame = ethernet(ip_packet(6, A6, B6, 44, b"\x06\0\0\x28\0\0\0\x07" + TCP), 0x86DD)
    packet = parse(frame)
    assert packet.transport(2, 2) is None
    assert packet.misread_transport(2, 2) is not None
    assert not accepted(frame)


def test_a_local_machines_address_never_comes_from_an_uplink():
    incoming = Path(PathKind.FORWARD, "eth0", DB.tap)
    assert not accepted(ethernet(IP, source=OUTSIDE_MAC), incoming)
    remote = ip_packet(4, ip_address("10.1.0.20").packed, B4, 6, TCP)
    assert accepted(ethernet(remote, source=OUTSIDE_MAC), incoming)


@pytest.mark.parametrize("version", [4, 6])
def test_a_machine_that_is_on_its_way_here_speaks_from_outside_until_it_has_come(version):
    coming = FLEET.ports[7]
    source, target = (coming.ipv4[0].packed, B4) if version == 4 else (coming.all_ipv6[-1].packed, B6)
    ether_type = 0x0800 if version == 4 else 0x86DD
    frame = ethernet(ip_packet(version, source, target, 6, TCP), ether_type, source=coming.mac)
    incoming, own = Path(PathKind.FORWARD, "eth0", DB.tap), Path(PathKind.FORWARD, coming.tap, DB.tap)
    here = replace(
        FLEET,
        ports=tuple(replace(port, arriving=False) if port is coming else port for port in FLEET.ports),
    )
    arrived = compile_ruleset(POLICY, here, CLASSES, StateKind.TUPLES)
    for fleet, rules, passes in ((FLEET, RULES, True), (here, arrived, False)):
        assert accepted(frame, incoming, rules=rules) is passes
        assert decide(POLICY, fleet, parse(frame), incoming, Remembered()).accept is passes
        assert accepted(frame, own, rules=rules)


def test_a_machine_on_its_way_here_has_no_other_rights_outside_than_its_label_has():
    coming = FLEET.ports[7]
    incoming = Path(PathKind.FORWARD, "eth0", DB.tap)
    forbidden = ip_packet(4, coming.ipv4[0].packed, B4, 6, HTTPS)
    assert not accepted(ethernet(forbidden, source=coming.mac), incoming)
    stolen = ip_packet(4, A4, B4, 6, TCP)
    assert not accepted(ethernet(stolen, source=coming.mac), incoming)
    assert not accepted(ethernet(stolen, source=coming.mac), Path(PathKind.FORWARD, coming.tap, DB.tap))


def test_dhcp_answers_reach_who_has_asked():
    memory = Memory()
    ask = ip_packet(4, bytes(4), b"\xff" * 4, 17, struct.pack(">HH", 68, 67) + bytes(240))
    offer = ip_packet(4, ip_address("203.0.113.1").packed, A4, 17, struct.pack(">HH", 67, 68) + bytes(240))
    incoming = Path(PathKind.FORWARD, "eth0", WEB.tap)
    offered = ethernet(offer, source=OUTSIDE_MAC, target=WEB.mac)
    assert not accepted(offered, incoming, memory)
    assert accepted(ethernet(ask, target=b"\xff" * 6), TO_WORLD, memory)
    assert not accepted(ethernet(ask, target=b"\xff" * 6), TO_DB, memory)
    assert accepted(offered, incoming, memory)


def test_frames_that_skip_prerouting_do_not_reach_the_host():

    frame = parse(arp(1, WEB.mac, B4, A4))
    assert not run(RULES, Hook.INPUT, frame, Context(WEB.tap), Memory()).accept
    assert run(RULES, Hook.INPUT, frame, Context("eth0"), Memory()).accept


def test_a_tap_without_a_class_is_closed_both_ways():
    assert not accepted(ethernet(IP), Path(PathKind.FORWARD, "vnet99", "eth0"))
    assert not accepted(ethernet(IP), Path(PathKind.FORWARD, "eth0", "vnet99"))
    for name in ("tap3", "eth0"):  # also one that is called as the uplink is
        assert not accepted(ethernet(HTTPS), Path(PathKind.TO_HOST, name, source_kind="tun"))
        assert not accepted(ethernet(IP), Path(PathKind.FORWARD, WEB.tap, name, target_kind="tun"))
        assert not accepted(ethernet(IP), Path(PathKind.FROM_HOST, "", name, target_kind="tun"))
    strangers = ip_packet(4, bytes((203, 0, 113, 9)), B4, 6, TCP)
    assert accepted(ethernet(strangers, source=OUTSIDE_MAC), Path(PathKind.FORWARD, "eth0", "veth9")), (
        "this concerns no machine"
    )
