"""Frames of rare forms in the kernel: each comes out where the policy says, and nowhere else."""

import socket
import struct
from dataclasses import replace

from firewallworld import FLEET, OPEN_PORTS, OUTSIDE_MAC, POLICY, VLAN_POLICY, ip_packet, ruleset
from netns import in_own_network
from wire import BRIDGE, BRIDGE_MAC, HOST, Wire

from undercroft.adapters.nftables import Nftables
from undercroft.firewall.kernel import Key, Meta, Rule, Ruleset

WEB, DB = FLEET.ports[0], FLEET.ports[1]
PORTS = (*(port.tap for port in FLEET.ports), "eth0", "veth9", "vnet99")


def announcement(mac: bytes, operation: int = 3, padding: bytes = bytes(18)) -> bytes:
    """QEMU's announcement of a machine that goes on here: net/announce.c, announce_self_create."""
    said = b"\0\x01\x08\0\x06\x04" + operation.to_bytes(2, "big") + 2 * (mac + bytes(4))
    return b"\xff" * 6 + mac + b"\x80\x35" + said + padding


@in_own_network
def test_an_announcement_leaves_by_the_uplink_alone_and_only_in_its_exact_form() -> None:
    said = announcement(WEB.mac)
    others = (
        announcement(DB.mac),
        announcement(WEB.mac, operation=1),
        announcement(WEB.mac, padding=b"hello, quarantine!"),
        announcement(WEB.mac, padding=bytes(19)),
        announcement(WEB.mac, padding=bytes(17)),
    )
    with Nftables() as kernel, Wire(PORTS) as wire:
        assert all(wire.put(WEB.tap, frame)[DB.tap] == [frame] for frame in (said, *others))
        kernel.replace(ruleset(POLICY))
        assert wire.put(WEB.tap, said) == {"eth0": [said]}
        for frame in others:
            assert wire.put(WEB.tap, frame) == {}
        from_outside = announcement(bytes.fromhex("020000000001"))
        assert wire.put("eth0", from_outside) == {"veth9": [from_outside], HOST: [from_outside]}


def without_kinds(rules: Ruleset) -> Ruleset:
    """Return the control: a table that tells machines' taps by their names alone."""

    def asks(rule: Rule) -> bool:
        kinds = {Key.INPUT_KIND, Key.OUTPUT_KIND}
        return any(isinstance(item, Meta) and item.key in kinds for item in rule.expressions)

    chains = (
        replace(chain, rules=tuple(rule for rule in chain.rules if not asks(rule)))
        for chain in rules.table.chains
    )
    return replace(rules, table=replace(rules.table, chains=tuple(chains)))


@in_own_network
def test_a_tap_that_nobody_has_labelled_is_closed_whatever_its_name_also_that_of_an_uplink() -> None:
    asks = tagged(
        b"",
        ip_packet(
            4, bytes((203, 0, 113, 9)), WEB.ipv4[0].packed, 6, struct.pack(">HH", 40000, 443) + bytes(16)
        ),
        OUTSIDE_MAC,
        WEB.mac,
    )
    says = tagged(
        b"",
        ip_packet(
            4, WEB.ipv4[0].packed, bytes((203, 0, 113, 9)), 6, struct.pack(">HH", 40000, 443) + bytes(16)
        ),
        WEB.mac,
        OUTSIDE_MAC,
    )
    named = replace(POLICY, ports=replace(POLICY.ports, uplinks=("eth0", "nic7")))
    with Nftables() as kernel, Wire((*PORTS, "nic7")) as wire:
        for policy in (OPEN_PORTS, named):
            kernel.replace(without_kinds(ruleset(policy)))
            assert wire.put("nic7", asks).keys() >= {WEB.tap, "eth0", HOST}
            assert "nic7" in wire.put(WEB.tap, says)
            assert "nic7" in wire.put(HOST, asks)
            assert "nic7" in wire.put("eth0", asks)
            kernel.replace(ruleset(policy))
            assert wire.put("nic7", asks) == {}
            assert "eth0" in wire.put(WEB.tap, says)
            assert not any(
                "nic7" in wire.put(*sent) for sent in ((WEB.tap, says), (HOST, asks), ("eth0", asks))
            )
            assert WEB.tap in wire.put("eth0", asks)


IP = ip_packet(4, WEB.ipv4[0].packed, DB.ipv4[0].packed, 6, struct.pack(">HH", 40000, 5432) + bytes(16))
FORGED = ip_packet(
    4, FLEET.ports[2].ipv4[0].packed, DB.ipv4[0].packed, 6, struct.pack(">HH", 40000, 5432) + bytes(16)
)
VLAN_5, VLAN_6 = b"\x81\0\0\x05", b"\x81\0\0\x06"
SNAP = b"\0\x38\xaa\xaa\x03\0\0\0"
NEVER_GRANTED = (
    VLAN_6,
    b"\x81\0\0\0",
    b"\x88\xa8\0\x05",
    VLAN_5 + VLAN_5,
    b"\x88\xa8\0\x05" + VLAN_5,
    VLAN_5 + SNAP,
    SNAP + VLAN_5,
)


def tagged(tags: bytes, packet: bytes = IP, source: bytes = WEB.mac, target: bytes = DB.mac) -> bytes:
    return target + source + tags + b"\x08\0" + packet


@in_own_network
def test_a_granted_vlan_leads_to_who_has_it_and_out_and_no_other_tag_leads_anywhere() -> None:
    with Nftables() as kernel, Wire(PORTS) as wire:
        for policy, service, outside in (
            (VLAN_POLICY, 5432, {"eth0"}),
            (OPEN_PORTS, 443, {"eth0", "veth9"}),
        ):
            kernel.replace(ruleset(policy))
            packet = IP[:22] + service.to_bytes(2, "big") + IP[24:]
            # The bridge knows nobody here and floods; a machine may be behind an uplink or the host, too.
            assert wire.put(WEB.tap, tagged(b"", packet)).keys() == {DB.tap, HOST, *outside}
            assert wire.put(WEB.tap, tagged(VLAN_5, packet)).keys() == {DB.tap, *outside}
            assert all(wire.put(WEB.tap, tagged(tags, packet)) == {} for tags in NEVER_GRANTED)
            assert wire.put(WEB.tap, tagged(VLAN_5, FORGED)) == {}
            outward = ip_packet(
                4, WEB.ipv4[0].packed, bytes((8, 8, 8, 8)), 6, struct.pack(">HH", 40000, 443) + bytes(16)
            )
            out = tagged(VLAN_5, outward, target=OUTSIDE_MAC)
            assert wire.put(WEB.tap, out) == {port: [out] for port in outside}


@in_own_network
def test_a_vlan_from_outside_leads_to_who_has_it_and_the_host_sends_none() -> None:
    https = ip_packet(
        4, bytes((203, 0, 113, 9)), WEB.ipv4[0].packed, 6, struct.pack(">HH", 40000, 443) + bytes(16)
    )
    with Nftables() as kernel, Wire(PORTS) as wire:
        kernel.replace(ruleset(VLAN_POLICY))
        for tags, reaches in ((b"", True), (VLAN_5, True), (VLAN_6, False), (VLAN_5 + VLAN_5, False)):
            frame = tagged(tags, https, source=OUTSIDE_MAC, target=WEB.mac)
            assert (WEB.tap in wire.put("eth0", frame)) is reaches, tags.hex()
        from_host = tagged(VLAN_5, https, source=OUTSIDE_MAC, target=WEB.mac)
        assert WEB.tap not in wire.put(HOST, from_host)


@in_own_network
def test_control_without_the_filter_every_tag_arrives() -> None:
    with Wire(PORTS) as wire:
        for tags in (VLAN_5, *NEVER_GRANTED):
            assert wire.put(WEB.tap, tagged(tags, FORGED))[DB.tap] == [tagged(tags, FORGED)]


def from_host(service: int) -> bytes:
    ports = struct.pack(">HH", 40000, service)
    packet = ip_packet(4, bytes((10, 1, 0, 254)), WEB.ipv4[0].packed, 6, ports + bytes(16))
    return tagged(b"", packet, source=BRIDGE_MAC, target=WEB.mac)


@in_own_network
def test_a_program_of_the_host_that_calls_its_frame_something_else_gets_no_further() -> None:
    with (
        Nftables() as kernel,
        Wire(PORTS) as wire,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw,
    ):
        for policy in (POLICY, VLAN_POLICY):
            kernel.replace(ruleset(policy))
            assert wire.put(HOST, from_host(22)).keys() >= {WEB.tap}
            for service in (22, 443):
                for said in (0x0806, 0x86DD, 0x8100, 0x8035, 4):
                    raw.sendto(from_host(service), (BRIDGE, said))
                    assert WEB.tap not in wire.taken(), hex(said)
