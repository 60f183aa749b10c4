"""Each way around the table is taken on a real bridge: the frame arrives, and the finding names the way.

Beside each stands the same without it: nothing is found, and the frame does not arrive.
"""

import contextlib
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator

import portlab
import pytest
from filterproofs import DB, PATIENT, WEB, classes, port, ruleset
from netns import in_own_network
from portlab import BRIDGE, OUTSIDE, TAPS, findings, heard, nft, run, segment, told

from undercroft.adapters.nftables import Nftables
from undercroft.adapters.surroundings.shielding import shield_tap
from undercroft.assurance.firewall.surroundings import Danger
from undercroft.firewall import marks

DATABASE, QUARANTINED, SHOP = port(1, DB), port(2, PATIENT), port(3, WEB)
FORBIDDEN = segment(QUARANTINED, DATABASE, 5432)
ALLOWED = segment(SHOP, DATABASE, 5432)
FROM, TO = QUARANTINED.tap, DATABASE.tap
NO_ADDRESS, EVERYBODY = bytes(4), b"\xff" * 4
LLDP, SPANNING_TREE = bytes.fromhex("0180c200000e"), bytes.fromhex("0180c2000000")
HOST = bytes((10, 1, 0, 254))


@contextlib.contextmanager
def filtered(*, stp: bool = False) -> Iterator[None]:
    """A bridge with the table in force and nothing around it; by it one machine may speak to another."""
    portlab.make_bridge(stp=stp)
    with Nftables() as kernel:
        kernel.replace(ruleset(3))
        for tap in TAPS:
            shield_tap(tap)
        assert findings() == ()
        assert heard(ALLOWED, SHOP.tap, TO)
        assert not heard(FORBIDDEN, FROM, TO)
        yield


def by_tc() -> None:
    run(f"tc qdisc add dev {FROM} clsact")
    run(f"tc filter add dev {FROM} ingress u32 match u32 0 0 action mirred egress redirect dev {TO}")


def by_old_ingress() -> None:
    run(f"tc qdisc add dev {FROM} ingress")
    run(f"tc filter add dev {FROM} parent ffff: u32 match u32 0 0 action mirred egress mirror dev {TO}")


def by_chain_of_device() -> None:
    nft(
        f"table netdev t {{ chain c {{ type filter hook ingress device {FROM} priority 0; fwd to {TO}; }}; }}"
    )


def by_copy_of_device() -> None:
    nft(
        f"table netdev t {{ chain c {{ type filter hook ingress device {FROM} priority 0; dup to {TO}; }}; }}"
    )


def by_chain_behind_a_map() -> None:
    nft(
        f"""table netdev t {{
        chain sent {{ fwd to {TO}; }}
        chain c {{ type filter hook ingress device {FROM} priority 0; ether type vmap {{ ip : jump sent }}; }}
        }}"""
    )


def by_xdp() -> None:
    portlab.redirect_by_xdp(FROM, TO)


def by_classic_bpf() -> None:
    run(f"tc qdisc add dev {FROM} clsact")
    subprocess.run(
        [
            *f"tc filter add dev {FROM} ingress bpf bytecode".split(),
            "1,6 0 0 4294967295,",
            *f"action mirred egress redirect dev {TO}".split(),
        ],
        check=True,
    )


def by_mark() -> None:
    mark = marks.of_class(classes().number(WEB))
    nft(f"table bridge t {{ chain c {{ type filter hook forward priority -451; meta mark set {mark}; }}; }}")


@pytest.mark.parametrize(
    ("way", "danger", "thing"),
    [
        (by_tc, Danger.BYPASS, f"tc filter ingress of {FROM}"),
        (by_old_ingress, Danger.BYPASS, f"tc filter ingress of {FROM}"),
        (by_classic_bpf, Danger.BYPASS, f"tc filter ingress of {FROM}"),
        (by_chain_of_device, Danger.BYPASS, "chain netdev t c"),
        (by_copy_of_device, Danger.BYPASS, "chain netdev t c"),
        (by_chain_behind_a_map, Danger.BYPASS, "chain netdev t c"),
        (by_xdp, Danger.BYPASS, f"port {FROM}"),
        (by_mark, Danger.BYPASS, "chain bridge t c"),
    ],
)
def test_what_carries_a_forbidden_frame_past_the_table_is_found(
    way: Callable[[], None], danger: Danger, thing: str
) -> None:
    @in_own_network
    def attack() -> None:
        with filtered():
            way()
            assert heard(FORBIDDEN, FROM, TO)
            assert (danger, thing) in told()

    attack()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="bpf(2) by its number")
@in_own_network
def test_a_program_of_tcx_carries_a_frame_past_the_table_and_is_found() -> None:
    with filtered():
        try:
            with portlab.redirected_by_tcx(FROM, TO):
                assert heard(FORBIDDEN, FROM, TO)
                assert told() == {(Danger.BYPASS, f"tc filter ingress of {FROM}")}
        except OSError as error:
            pytest.skip(f"this kernel has no TCX: {error}")
        assert findings() == ()


@in_own_network
def test_a_device_that_is_no_port_and_sends_to_one_is_found_and_one_that_sends_elsewhere_is_not() -> None:
    with filtered():
        run(f"tc qdisc add dev {OUTSIDE} clsact")
        add = f"tc filter add dev {OUTSIDE} ingress u32 match u32 0 0 action mirred egress redirect dev"
        run(f"{add} x-eth0")
        assert findings() == ()
        run(f"tc filter del dev {OUTSIDE} ingress", f"{add} {TO}")
        assert heard(FORBIDDEN, OUTSIDE, TO)
        assert told() == {(Danger.BYPASS, f"tc filter ingress of {OUTSIDE}")}


@in_own_network
def test_a_filter_of_a_class_within_a_qdisc_is_found() -> None:
    with filtered():
        run(
            f"tc qdisc add dev {TO} root handle 1: htb default 1",
            f"tc class add dev {TO} parent 1: classid 1:1 htb rate 1gbit",
            f"tc class add dev {TO} parent 1:1 classid 1:2 htb rate 1gbit",
            f"tc filter add dev {TO} parent 1: u32 match u32 0 0 flowid 1:1",
        )
        assert findings() == ()
        run(f"tc filter add dev {TO} parent 1:1 u32 match u32 0 0 action mirred egress redirect dev {FROM}")
        assert heard(ALLOWED, SHOP.tap, FROM)
        assert (Danger.BYPASS, f"tc filter egress of {TO}") in told()


@pytest.mark.parametrize("family", ["bridge", "ip"])
def test_what_changes_a_packet_after_it_was_judged_is_found(family: str) -> None:
    @in_own_network
    def attack() -> None:
        with filtered():
            other = segment(SHOP, DATABASE, 22)
            assert not heard(other, SHOP.tap, TO)
            condition = "ether type ip ip protocol tcp" if family == "bridge" else ""
            nft(
                f"table {family} t {{ chain c {{ type filter hook postrouting priority 0; "
                f"{condition} tcp dport set 22; }}; }}"
            )
            if family == "ip":
                assert findings() == ()
                run("sysctl -q -e -w net.bridge.bridge-nf-call-iptables=1")
                if not told():
                    pytest.skip("this kernel has no br_netfilter")
            assert heard(ALLOWED, SHOP.tap, TO, within=other[26:38])
            thing = "chain bridge t c" if family == "bridge" else "bridge-nf-call-iptables"
            assert told() == {(Danger.REWRITE, thing)}

    attack()


def reaches_the_host(group: bytes, target: bytes, source: bytes) -> bool:
    """Tell whether a socket of the host gets a datagram that a machine puts into a frame to a group."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service, portlab.plugged(FROM) as machine:
        service.bind(("0.0.0.0", 9999))
        service.settimeout(portlab.HEARD_WITHIN_S)
        machine.send(portlab.datagram(group, source, target))
        with contextlib.suppress(TimeoutError):
            return service.recv(100) == b"past all hooks"
    return False


@pytest.mark.parametrize(("group", "stp"), [(LLDP, False), (SPANNING_TREE, True)])
def test_a_group_that_the_bridge_keeps_reaches_the_host_until_the_port_is_shielded(
    group: bytes, stp: bool
) -> None:
    @in_own_network
    def attack() -> None:
        with filtered(stp=stp):
            run(f"ip addr add 10.1.0.254/24 dev {BRIDGE}")
            own = QUARANTINED.ipv4[0].packed
            assert not reaches_the_host(group, HOST, own)
            run(f"ip link set {FROM} type bridge_slave group_fwd_mask 0")
            assert (Danger.BYPASS, f"port {FROM}") in told()
            assert reaches_the_host(group, HOST, own)
            # What the kernel offers against it keeps unicast packets out, and no others.
            run(f"sysctl -q -w net.ipv4.conf.{FROM}.drop_unicast_in_l2_multicast=1")
            assert not reaches_the_host(group, HOST, own)
            assert reaches_the_host(group, EVERYBODY, NO_ADDRESS)
            shield_tap(FROM)
            assert findings() == ()
            assert not reaches_the_host(group, EVERYBODY, NO_ADDRESS)

    attack()


@in_own_network
def test_a_device_with_an_address_lets_the_host_speak_past_the_table_until_it_is_shielded() -> None:
    portlab.make_bridge(ipv6=True)
    nft("table bridge undercroft { chain c { type filter hook output priority -450; policy drop; }; }")
    group = f"ff02::1%{TO}"

    def arrives() -> bool:
        with (
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as speaker,
            portlab.plugged(TO) as machine,
        ):
            with contextlib.suppress(OSError):
                speaker.sendto(b"past the table", socket.getaddrinfo(group, 9999)[0][4])
            with contextlib.suppress(TimeoutError):
                while True:
                    if machine.recv(2048).endswith(b"past the table"):
                        return True
        return False

    for _ in range(100):  # The address is checked for being nobody else's first.
        if arrives():
            break
    assert arrives()
    assert (Danger.ASSUMPTION, f"port {TO}") in told()
    for tap in TAPS:
        shield_tap(tap)
    assert not arrives()
    assert findings() == ()


@in_own_network
def test_a_bridge_that_answers_for_others_tells_what_the_table_denies_and_is_found() -> None:
    with filtered():
        asked = SHOP.ipv4[0]
        run(
            f"ip neigh add {asked} lladdr {SHOP.mac.hex(':')} dev {BRIDGE} nud permanent",
            f"bridge fdb replace {SHOP.mac.hex(':')} dev {SHOP.tap} master static",
        )
        question = (b"\xff" * 6 + QUARANTINED.mac + bytes.fromhex("08060001080006040001")) + (
            QUARANTINED.mac + QUARANTINED.ipv4[0].packed + bytes(6) + asked.packed
        )
        answer = bytes.fromhex("0002") + SHOP.mac + asked.packed
        assert not heard(question, FROM, FROM, within=answer)
        run(f"ip link set {FROM} type bridge_slave proxy_arp on")
        assert heard(question, FROM, FROM, within=answer)
        assert told() == {(Danger.ASSUMPTION, f"port {FROM}")}
