"""Settings, tables and devices around the table on a real bridge: what is found, and what is not."""

import contextlib
import json
import subprocess
import sys

import portlab
import pytest
from netns import in_own_network
from portlab import BRIDGE, OUTSIDE, TAPS, findings, nft, run, told

from undercroft.adapters.netlinkcodec import CREATE, attribute
from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.wire import Channel, Request
from undercroft.adapters.surroundings.shielding import shield_tap
from undercroft.assurance.firewall.surroundings import Danger

FROM, TO = "vnet2", "vnet1"


@pytest.mark.parametrize(
    ("command", "danger", "thing"),
    [
        (f"bridge link set dev {FROM} hairpin on", Danger.ASSUMPTION, f"port {FROM}"),
        (f"bridge link set dev {FROM} learning off", Danger.COPY, f"port {FROM}"),
        (f"ip link set {FROM} promisc on", Danger.COPY, f"port {FROM}"),
        (f"ip link set {FROM} nomaster", Danger.BYPASS, f"port {FROM}"),
        (f"ip addr add 10.9.0.1/24 dev {FROM}", Danger.ASSUMPTION, f"port {FROM}"),
        (f"ip link set {BRIDGE} type bridge vlan_filtering 1", Danger.ASSUMPTION, f"bridge {BRIDGE}"),
        (
            f"ip link set {BRIDGE} type bridge nf_call_iptables 1 && iptables -A FORWARD -j ACCEPT",
            Danger.ASSUMPTION,
            BRIDGE,
        ),
        (
            "iptables-legacy -t mangle -A FORWARD -j MARK --set-mark 1",
            Danger.ASSUMPTION,
            "chain ip mangle (legacy)",
        ),
        ("iptables -t mangle -A FORWARD -j MARK --set-mark 1", Danger.ASSUMPTION, "chain ip mangle FORWARD"),
        (f"ip link del {FROM}", Danger.UNKNOWN, "surroundings"),
        (
            f"nft add table netdev t && nft add chain netdev t c {{ type filter hook ingress device {BRIDGE} "
            "priority 0 ; } && nft add rule netdev t c ip dscp set 1",
            Danger.REWRITE,
            "chain netdev t c",
        ),
        (
            "nft add table ip6 t && nft add chain ip6 t c { type filter hook forward priority 0 ; } && "
            "nft add rule ip6 t c ip6 nexthdr set 0",
            Danger.ASSUMPTION,
            "chain ip6 t c",
        ),
        (
            f"sysctl -w net.ipv6.conf.{OUTSIDE}.disable_ipv6=0 && "
            f"ip -6 route add 2001:db8::/48 encap seg6 mode inline segs 2001:db8::5 dev {OUTSIDE}",
            Danger.ASSUMPTION,
            "IPv6 routes",
        ),
        (
            f"ip link add over0 type vxlan id 4 dstport 4789 dev {OUTSIDE} && ip link set over0 up",
            Danger.UNKNOWN,
            "tunnel over0 (vxlan)",
        ),
        (f"ip link add link {FROM} name tagged type vlan id 5", Danger.BYPASS, f"port {FROM}"),
    ],
)
def test_each_setting_that_the_proof_does_not_stand_is_found(
    command: str, danger: Danger, thing: str
) -> None:
    @in_own_network
    def changed() -> None:
        portlab.make_bridge()
        for tap in TAPS:
            shield_tap(tap)
        assert findings() == ()
        try:
            run(*command.split(" && "))
        except subprocess.CalledProcessError as error:
            if "vlan" not in command:
                raise
            pytest.skip(f"this kernel has no VLANs: {error}")
        assert told() == {(danger, thing)}

    changed()


@in_own_network
def test_what_the_bridge_calls_joins_fragments_only_where_there_is_a_chain_and_is_found_then() -> None:
    portlab.make_bridge()
    for tap in TAPS:
        shield_tap(tap)
    nft(
        """table bridge seen {
        counter pieces { }
        chain c { type filter hook forward priority 0; ip frag-off & 0x3fff != 0 counter name pieces; }
        }"""
    )
    run("sysctl -q -e -w net.bridge.bridge-nf-call-iptables=1")
    assert pieces_between_the_hooks() > 0
    assert findings() == ()
    run("iptables -A FORWARD -m conntrack --ctstate NEW -j ACCEPT")
    if not findings():
        pytest.skip("this kernel has no br_netfilter")
    assert pieces_between_the_hooks() == 0
    assert told() == {(Danger.ASSUMPTION, "bridge-nf-call-iptables")}


def pieces_between_the_hooks() -> int:
    """Send two fragments of a packet; return how many the bridge's forward hook sees."""
    packet = portlab.ipv4(bytes((10, 1, 0, 3)), bytes((10, 1, 0, 1)), 253, bytes(16))
    run("nft reset counter bridge seen pieces")
    with portlab.plugged(FROM) as mouth:
        for place in (0x2000, 2):
            ether = b"\xff" * 6 + bytes((0x52, 0x54, 0, 0, 0, 3)) + b"\x08\0"
            mouth.send(ether + portlab.fragment(packet, place))
    listed = subprocess.run(
        ["nft", "-j", "list", "counter", "bridge", "seen", "pieces"], check=True, capture_output=True
    )
    (found,) = [entry["counter"] for entry in json.loads(listed.stdout)["nftables"] if "counter" in entry]
    return int(found["packets"])


@in_own_network
def test_a_chain_of_inet_at_a_port_s_ingress_is_found_like_one_of_netdev() -> None:
    portlab.make_bridge()
    for tap in TAPS:
        shield_tap(tap)
    chain = f"type filter hook ingress device {FROM} priority 0"
    nft(f"table inet t {{ chain c {{ {chain}; ip saddr set 10.0.0.1; }}; }}")
    assert told() == {(Danger.REWRITE, "chain inet t c")}
    nft("add table inet t { flags dormant; }")
    assert findings() == ()


@in_own_network
def test_a_table_whose_name_cannot_be_read_leaves_the_tables_unread_and_never_clean() -> None:
    portlab.make_bridge()
    for tap in TAPS:
        shield_tap(tap)
    name = attribute(numbers.TABLE_NAME, b"\xff\x1b[31m\0")
    with contextlib.closing(Channel()) as channel:
        channel.commit([Request(numbers.NEW_TABLE, CREATE, name, "a table")])
    ((danger, thing),) = told()
    assert (danger, thing) == (Danger.UNKNOWN, "surroundings")


@in_own_network
def test_what_libvirt_makes_for_its_own_network_is_no_finding() -> None:
    portlab.make_bridge(stp=True)
    for tap in TAPS:
        shield_tap(tap)
    run(f"ip addr add 192.168.122.1/24 dev {BRIDGE}")
    libvirt = (
        "-t mangle -A POSTROUTING -o lab0 -p udp --dport 68 -j CHECKSUM --checksum-fill",
        "-t nat -A POSTROUTING -s 192.168.122.0/24 -p tcp -j MASQUERADE --to-ports 1024-65535",
        "-t nat -A POSTROUTING -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE",
        "-A INPUT -i lab0 -p udp --dport 53 -j ACCEPT",
        "-A FORWARD -d 192.168.122.0/24 -o lab0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -o lab0 -j REJECT --reject-with icmp-port-unreachable",
    )
    for program in ("iptables", "iptables-legacy"):
        run(*(f"{program} {rule}" for rule in libvirt))
    nft(
        """table bridge nwfilter {
        chain in { ether saddr != 52:54:00:00:00:01 drop; ip saddr 10.0.0.1 accept; return; }
        chain pre { type filter hook prerouting priority -300; iifname vnet1 jump in; }
        }"""
    )
    run(f"tc qdisc add dev {TO} root handle 1: htb default 1")
    assert findings() == ()


@in_own_network
def test_who_may_not_look_is_told_of_everything_that_was_not_read_and_never_that_it_is_clean() -> None:
    portlab.make_bridge()
    script = """
import os, sys
from undercroft.adapters.surroundings import gather
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(*gather("undercroft", sys.argv[1:]).unread, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script, *TAPS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    for part in ("nftables", "bpf", "ip_tables_names"):  # this kernel may have no ebtables to be kept from
        assert any(part in line for line in lines), (part, lines)
