"""Proofs against the kernel: what it holds is proven as read, and examples pass or not as the proof says."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from filtermutants import mutant
from filterproofs import POLICY, classes, fleet, passes, ruleset
from netns import in_own_network

from undercroft.adapters.nftables import Nftables
from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.examplepacket import Example
from undercroft.assurance.firewall.proof import Prover
from undercroft.errors import NotFoundError
from undercroft.firewall.kernel import Chain, Code, Hook, Immediate, Rule, Ruleset, Verdict

MACHINES = 4
PORTS = (*(f"vnet{number}" for number in range(1, MACHINES + 1)), "eth0")
WAIT_S = 0.3
LLDP_GROUP = bytes.fromhex("0180c200000e")


def with_kernel(test: Callable[[Nftables], None]) -> Callable[[], None]:
    """Run a test in a network namespace of its own, with the packet filter of that."""

    def run() -> None:
        with Nftables() as kernel:
            test(kernel)

    run.__name__ = test.__name__
    return in_own_network(run)


def bridge() -> None:
    """A bridge with the fleet's taps and an uplink; the other end of port X is called x-X."""
    commands = [
        "sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1",
        "ip link add lab0 type bridge mcast_snooping 0",
    ]
    for name in PORTS:
        commands += [
            f"ip link add {name} type veth peer name x-{name}",
            f"ip link set {name} master lab0",
            f"ip link set x-{name} up",
            f"ip link set {name} up",
        ]
    # br_netfilter, where it is loaded, drops packets with a wrong checksum, as most examples have.
    commands += [f"sysctl -q -e -w net.bridge.bridge-nf-call-{what}tables=0" for what in ("ip", "ip6", "arp")]
    commands += ["ip link set lab0 up"]
    for command in commands:
        subprocess.run(command.split(), check=True)
    listed = ["bridge", "link", "show"]
    while True:  # A port takes frames some time after it is up.
        told = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
        if told.count("forwarding") == len(PORTS):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def plugged(name: str) -> Iterator[socket.socket]:
    """Speak and listen at the other end of a port."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as end:
        end.bind((f"x-{name}", 0))
        end.settimeout(WAIT_S)
        yield end


def arrives(example: Example) -> bool:
    """Tell whether the kernel lets an example from its port to the other, on a bridge that knows nobody."""
    subprocess.run(["ip", "link", "set", "lab0", "type", "bridge", "fdb_flush"], check=True)
    with plugged(example.input_name) as sender, plugged(example.output_name) as receiver:
        sender.send(example.frame)
        with contextlib.suppress(TimeoutError):
            while True:
                if receiver.recv(2048).startswith(example.frame[:12]):
                    return True
    return False


def prove(table: Ruleset) -> Certificate | Counterexample:
    return Prover().prove(table, POLICY, fleet(MACHINES), classes())


@with_kernel
def test_what_the_kernel_holds_is_proven_as_it_was_read_and_a_foreign_rule_is_found(kernel: Nftables) -> None:
    honest = ruleset(MACHINES)
    kernel.replace(honest)
    answer = prove(kernel.read("undercroft"))
    assert isinstance(answer, Certificate), answer.text()
    assert answer.generation == kernel.generation()
    subprocess.run(["nft", "insert", "rule", "bridge", "undercroft", "reach4", "accept"], check=True)
    found = prove(kernel.read("undercroft"))
    assert isinstance(found, Counterexample)
    assert found.packet is not None
    assert found.kernel_passes


@with_kernel
def test_the_kernel_lets_by_what_a_counterexample_says_and_no_honest_table_does(kernel: Nftables) -> None:
    bridge()
    honest = ruleset(MACHINES)
    hole = Rule((Immediate(Verdict(Code.ACCEPT)),))
    shown = 0
    names = "reach", "reach4", "reach-pieces4", "reach6", "to-1", "to-2", "whole-1", "whole-2", "near-1"
    for name in names:
        chains = tuple(
            replace(chain, rules=(hole, *chain.rules)) if chain.name == name else chain
            for chain in honest.table.chains
        )
        broken = replace(honest, table=replace(honest.table, chains=chains))
        answer = prove(broken)
        assert isinstance(answer, Counterexample)
        example = usable(answer.packet, honest, broken)
        if example is None:
            continue
        kernel.replace(broken)
        assert arrives(example)
        kernel.replace(honest)
        assert not arrives(example)
        shown += 1
    assert shown


def on_the_bridge(example: Example) -> Example:
    """Let a port that the fleet has not be the uplink's: the proof chose any name."""
    return replace(
        example,
        input_name=example.input_name if example.input_name in PORTS else "eth0",
        output_name=example.output_name if example.output_name in PORTS else "eth0",
    )


def usable(example: Example | None, honest: Ruleset, other: Ruleset) -> Example | None:
    """Return an example that two real ports can play, and that tells the tables apart without a past."""
    if example is None or example.hooks != (Hook.PREROUTING, Hook.FORWARD):
        return None
    plain = replace(on_the_bridge(example), remembered=(), input_kind="", output_kind="")
    if (
        plain.frame[:6] == plain.frame[6:12]
        or plain.input_name == plain.output_name
        or plain.frame[6] & 1
        or plain.frame[:5] == LLDP_GROUP[:5]
    ):
        return None
    return plain if passes(honest, plain) is not passes(other, plain) else None


@with_kernel
def test_mutants_do_in_the_kernel_what_the_proof_says_of_them(kernel: Nftables) -> None:
    bridge()
    honest, shown = ruleset(MACHINES), 0
    for seed in (204, 212, *range(213, 230)):  # the first ones can be played
        changed = mutant(honest, seed).ruleset
        answer = prove(changed)
        packet = answer.packet if isinstance(answer, Counterexample) else None
        example = usable(packet, honest, changed)
        if example is None:
            continue
        for table in (honest, changed):
            kernel.replace(table)
            assert arrives(example) is passes(table, example), (seed, example)
        shown += 1
        if shown == 2:
            return
    pytest.fail(f"only {shown} mutants could be played")


@with_kernel
def test_a_group_of_the_bridges_own_passes_a_table_that_drops_all_unless_the_port_is_shielded(
    kernel: Nftables,
) -> None:
    bridge()
    subprocess.run(["ip", "addr", "add", "10.1.0.254/24", "dev", "lab0"], check=True)
    drop = tuple(Chain(f"drop-{hook}", (), hook, -450, Code.DROP) for hook in (Hook.PREROUTING, Hook.INPUT))
    kernel.replace(replace(ruleset(0), table=replace(ruleset(0).table, sets=(), chains=drop), elements={}))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service, plugged("vnet1") as sender:
        service.bind(("0.0.0.0", 9999))
        service.settimeout(WAIT_S)
        sender.send(datagram(b"\xff" * 6))
        with pytest.raises(TimeoutError):
            service.recv(100)
        sender.send(datagram(LLDP_GROUP))
        assert service.recv(100) == b"past all hooks"
        shield = "net.ipv4.conf.vnet1.drop_unicast_in_l2_multicast=1"
        subprocess.run(["sysctl", "-q", "-w", shield], check=True)
        sender.send(datagram(LLDP_GROUP))
        with pytest.raises(TimeoutError):
            service.recv(100)


def datagram(target_mac: bytes) -> bytes:
    """A UDP datagram to the host, in a frame to any MAC."""
    payload = b"past all hooks"
    udp = bytes((4, 210, 39, 15)) + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload
    addresses = bytes((10, 1, 0, 1)) + bytes((10, 1, 0, 254))
    head = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + bytes((0, 1, 0, 0, 64, 17))
    total = sum(int.from_bytes((head + addresses)[place : place + 2], "big") for place in range(0, 18, 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    checksum = (~total & 0xFFFF).to_bytes(2, "big")
    return target_mac + bytes((0x52, 0x54, 0, 0, 0, 1)) + b"\x08\0" + head + checksum + addresses + udp


def nft(*words: str) -> None:
    subprocess.run(["nft", *words], check=True)


@with_kernel
def test_a_table_of_the_same_name_in_another_family_is_neither_proven_nor_in_the_way(
    kernel: Nftables,
) -> None:
    nft("add table inet undercroft")
    nft("add chain inet undercroft forward { type filter hook forward priority 0 ; }")
    with pytest.raises(NotFoundError):
        kernel.read("undercroft")
    kernel.replace(ruleset(MACHINES))
    nft("add set inet undercroft asked { type ipv4_addr ; }; add element inet undercroft asked { 10.0.0.1 }")
    answer = prove(kernel.read("undercroft"))
    assert isinstance(answer, Certificate), answer.text()


REMADE = (
    # flags of the set, what is done with its elements, what the proof says
    ("size 64 ; flags timeout", "{ eth0 timeout 1h }", "set uplinks: it has a timeout of each element's own"),
    ("size 64 ; timeout 1h", "{ eth0 }", "set uplinks: its elements end by themselves"),
    ("size 64 ; flags dynamic", "{ eth0 }", "set uplinks: packets write it"),
    ("size 64 ; gc-interval 1m ; flags timeout", "{ eth0 }", "set uplinks: it has"),
    ("flags constant", "{ eth0 }", "set uplinks: it says no size"),
    ("flags interval", "{ eth0 }", "set uplinks: it has intervals"),
    ("size 64 ; counter", "{ eth0 }", "set uplinks: it has"),
    ("size 64 ; flags dynamic", "{ eth0 counter }", "set uplinks: it has elements with expressions"),
)


@pytest.mark.parametrize(("flags", "elements", "said"), REMADE)
def test_a_set_of_ours_that_the_kernel_has_otherwise_is_refused(flags: str, elements: str, said: str) -> None:
    @with_kernel
    def remade(kernel: Nftables) -> None:
        honest = ruleset(MACHINES)
        table = honest.table
        without = tuple(item for item in table.sets if item.name != "uplinks")
        chains = tuple(replace(chain, rules=()) for chain in table.chains)
        kernel.replace(replace(honest, table=replace(table, sets=without, chains=chains)))
        # Listed by nft, the honest rules are made again around the other set.
        subprocess.run(
            [
                "nft",
                "add",
                "set",
                "bridge",
                "undercroft",
                "uplinks",
                "{",
                *f"type ifname ; {flags} ;".split(),
                "}",
            ],
            check=True,
        )
        subprocess.run(
            ["nft", "add", "element", "bridge", "undercroft", "uplinks", *elements.split()], check=True
        )
        found = kernel.read("undercroft")
        other = {item.name: item for item in found.table.sets}["uplinks"]
        sets = tuple(other if item.name == "uplinks" else item for item in table.sets)
        answer = prove(replace(honest, table=replace(table, sets=sets)))
        assert isinstance(answer, Counterexample)
        assert answer.says.startswith(said)

    remade()


@with_kernel
def test_a_table_that_somebody_has_put_to_sleep_is_refused(kernel: Nftables) -> None:
    kernel.replace(ruleset(MACHINES))
    nft("add table bridge undercroft { flags dormant ; }")
    answer = prove(kernel.read("undercroft"))
    assert isinstance(answer, Counterexample)
    assert "it is dormant" in answer.says


@with_kernel
def test_an_expression_of_another_program_is_refused(kernel: Nftables) -> None:
    kernel.replace(ruleset(MACHINES))
    nft("insert rule bridge undercroft reach4 meta nftrace set 1")
    answer = prove(kernel.read("undercroft"))
    assert isinstance(answer, Counterexample)
    assert "chain reach4, rule 1" in answer.says
