"""Bridge conntrack, in a guest whose kernel has it: our table filters there, loaded and read by our own code.

Frames go through the guest's taps, and real TCP between two network namespaces on the guest's bridge.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace

import filterguest
import pytest
from filterguest import FilterGuest
from firewallworld import CLASSES, FLEET, OUTSIDE_MAC, POLICY, ip_packet, ruleset
from frames import checked
from spoofmatrix import OPEN, leaking, open_flows
from spoofs import A4, A6, B4, B6, HONEST, WORLD4, WORLD6, A, B
from wiremodel import PORTS, campaign, told

from undercroft.adapters.nftables import Nftables
from undercroft.assurance.firewall.certificate import Certificate
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.kernel import Code, Immediate, Rule, Ruleset, Table, Verdict
from undercroft.firewall.tracking import StateKind

pytestmark = [
    pytest.mark.skipif(bool(filterguest.missing()), reason=filterguest.missing()),
    pytest.mark.xdist_group("conntrack-guest"),
]

SOAK_FRAMES = 10_000
CLOSED = ruleset(POLICY, StateKind.CONNTRACK)
SYN, SYN_ACK, ACK = (2, 1000, 0), (18, 5000, 1001), (16, 1001, 5001)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilterGuest]:
    with FilterGuest(tmp_path_factory.mktemp("guest")) as started:
        yield started


@pytest.fixture(scope="module")
def kernel(guest: FilterGuest) -> Nftables:
    """The guest's packet filter with the policy, and taps on its bridge. Each test has flows of its own."""
    packet_filter = guest.packet_filter()
    guest.plug(PORTS)
    packet_filter.replace(CLOSED)
    return packet_filter


def in_order(table: Table) -> Table:
    return replace(
        table,
        sets=tuple(sorted(table.sets, key=lambda definition: definition.name)),
        chains=tuple(sorted(table.chains, key=lambda chain: chain.name)),
    )


def filled(held: Ruleset) -> dict[str, object]:
    return {name: elements for name, elements in held.elements.items() if elements}


def frame(source: bytes, target: bytes, ends: tuple[bytes, bytes], protocol: int, payload: bytes) -> bytes:
    version = 4 if len(ends[0]) == 4 else 6
    head = target + source + (b"\x08\0" if version == 4 else b"\x86\xdd")
    return checked(head + ip_packet(version, *ends, protocol, payload))


def tcp(ports: tuple[int, int], segment: tuple[int, int, int]) -> bytes:
    flags, sequence, acknowledged = segment
    return struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 0x50, flags, 8000, 0, 0)


def udp(ports: tuple[int, int], data: bytes = b"question") -> bytes:
    return struct.pack(">HHHH", *ports, 8 + len(data), 0) + data


def echo(kind: int, ident: int) -> bytes:
    return struct.pack(">BBHHH", kind, 0, 0, ident, 1) + b"as it was"


def test_what_the_guests_kernel_holds_is_read_back_as_compiled_and_proven(kernel: Nftables) -> None:
    assert kernel.features().conntrack
    found = kernel.read("undercroft")
    assert (found.table, filled(found)) == (in_order(CLOSED.table), filled(CLOSED))
    answer = Prover().prove(found, POLICY, FLEET, CLASSES)
    assert isinstance(answer, Certificate), answer.text()
    assert kernel.replace(CLOSED) == 0


VERSIONS = pytest.mark.parametrize("own", [(A4, B4, WORLD4), (A6, B6, WORLD6)], ids=["IPv4", "IPv6"])
Own = tuple[bytes, bytes, bytes]


@VERSIONS
def test_a_tcp_answer_passes_once_the_flow_is_open_and_not_before(
    guest: FilterGuest, kernel: Nftables, own: Own
) -> None:
    a, b, _ = own
    opening = frame(A.mac, B.mac, (a, b), 6, tcp((40000, 5432), SYN))
    answer = frame(B.mac, A.mac, (b, a), 6, tcp((5432, 40000), SYN_ACK))
    going_on = frame(A.mac, B.mac, (a, b), 6, tcp((40000, 5432), ACK))
    stranger = frame(B.mac, A.mac, (b, a), 6, tcp((5432, 40001), SYN_ACK))
    denied = frame(A.mac, B.mac, (a, b), 6, tcp((40000, 23), SYN))
    assert guest.put(B.tap, answer) == {}
    assert guest.put(A.tap, denied) == {}
    assert guest.put(A.tap, opening)[B.tap] == [opening]
    assert guest.put(B.tap, answer)[A.tap] == [answer]
    assert guest.put(A.tap, going_on)[B.tap] == [going_on]
    assert guest.put(B.tap, stranger) == {}


@VERSIONS
def test_udp_from_the_world_passes_as_an_answer_only(guest: FilterGuest, kernel: Nftables, own: Own) -> None:
    a, _, world = own
    question = frame(A.mac, OUTSIDE_MAC, (a, world), 17, udp((41000, 53)))
    answer = frame(OUTSIDE_MAC, A.mac, (world, a), 17, udp((53, 41000)))
    other = frame(OUTSIDE_MAC, A.mac, (world, a), 17, udp((53, 41001)))
    assert guest.put("eth0", answer).get(A.tap) is None
    assert guest.put(A.tap, question)["eth0"] == [question]
    assert guest.put("eth0", answer)[A.tap] == [answer]
    assert guest.put("eth0", other).get(A.tap) is None


@VERSIONS
def test_an_echo_reply_passes_after_its_request(guest: FilterGuest, kernel: Nftables, own: Own) -> None:
    a, b, _ = own
    protocol, request_kind, reply_kind = (1, 8, 0) if len(a) == 4 else (58, 128, 129)
    request = frame(A.mac, B.mac, (a, b), protocol, echo(request_kind, 7))
    reply = frame(B.mac, A.mac, (b, a), protocol, echo(reply_kind, 7))
    other = frame(B.mac, A.mac, (b, a), protocol, echo(reply_kind, 8))
    assert guest.put(B.tap, reply) == {}
    assert guest.put(A.tap, request)[B.tap] == [request]
    assert guest.put(B.tap, reply)[A.tap] == [reply]
    assert guest.put(B.tap, other) == {}


@VERSIONS
def test_an_error_passes_for_an_open_flow_of_its_receiver(
    guest: FilterGuest, kernel: Nftables, own: Own
) -> None:
    a, b, world = own
    protocol, head = (1, b"\x03\x01" + bytes(6)) if len(a) == 4 else (58, b"\x01\x04" + bytes(6))
    question = frame(A.mac, OUTSIDE_MAC, (a, world), 17, udp((42000, 53)))
    error = frame(OUTSIDE_MAC, A.mac, (world, a), protocol, head + question[14:])
    about_others = frame(A.mac, OUTSIDE_MAC, (a, world), 17, udp((42001, 53)))
    forged = frame(OUTSIDE_MAC, A.mac, (world, a), protocol, head + about_others[14:])
    by_neighbour = frame(B.mac, A.mac, (b, a), protocol, head + about_others[14:])
    assert guest.put("eth0", error).get(A.tap) is None
    assert guest.put(A.tap, question)["eth0"] == [question]
    assert guest.put("eth0", error)[A.tap] == [error]
    assert guest.put("eth0", forged).get(A.tap) is None
    assert guest.put(B.tap, by_neighbour) == {}


def test_fragments_are_filtered_as_the_packet_that_they_make(guest: FilterGuest, kernel: Nftables) -> None:
    def pieces(port: int, ident: int) -> tuple[bytes, bytes]:
        whole = frame(A.mac, OUTSIDE_MAC, (A4, WORLD4), 17, udp((43000, port), bytes(range(200))))
        head, body = whole[:14], whole[34:]
        first = ip_packet(4, A4, WORLD4, 17, body[:104], 0x2000, ident)
        last = ip_packet(4, A4, WORLD4, 17, body[104:], 13, ident)
        return checked(head + first), checked(head + last)

    first, last = pieces(53, 77)
    assert guest.put(A.tap, first) == {}
    passed = guest.put(A.tap, last)["eth0"]
    assert b"".join(piece[34:] for piece in passed) == first[34:] + last[34:]
    for piece in pieces(54, 78):
        assert guest.put(A.tap, piece) == {}
    assert guest.put(A.tap, pieces(53, 79)[1]) == {}


def believing(rules: Ruleset) -> Ruleset:
    """Return the control: a table whose first hook lets by what comes from elsewhere, in whatever name."""
    passes = (Rule((Immediate(Verdict(Code.ACCEPT)),)),)
    chains = (replace(one, rules=passes) if one.name == "foreign" else one for one in rules.table.chains)
    return replace(rules, table=replace(rules.table, chains=tuple(chains)))


def a_strangers_piece_gets_into_a_machines_packet(guest: FilterGuest, ident: int) -> bool:
    whole = frame(A.mac, B.mac, (A4, B4), 17, udp((43000, 53), bytes(200)))
    first = ip_packet(4, A4, B4, 6, tcp((43000, 5432), SYN) + bytes(84), 0x2000, ident)
    forged = ip_packet(4, A4, B4, 6, b"of a stranger" + bytes(83), 13, ident)
    assert guest.put(A.tap, checked(whole[:14] + first)) == {}
    out = guest.put("eth0", checked(B.mac + OUTSIDE_MAC + b"\x08\0" + forged))
    return b"of a stranger" in b"".join(out.get(B.tap, []))


def a_stranger_opens_in_a_machines_name(guest: FilterGuest, port: int) -> bool:
    forged = frame(OUTSIDE_MAC, bytes(5) + b"\x02", (A4, WORLD4), 17, udp((port, 53)))
    guest.put("eth0", forged)
    answer = frame(OUTSIDE_MAC, A.mac, (WORLD4, A4), 17, udp((53, port)))
    return A.tap in guest.put("eth0", answer)


def test_what_comes_from_elsewhere_in_a_machines_name_is_neither_joined_to_its_packets_nor_remembered(
    guest: FilterGuest, kernel: Nftables
) -> None:
    assert not a_strangers_piece_gets_into_a_machines_packet(guest, 81)
    assert not a_stranger_opens_in_a_machines_name(guest, 45_000)
    try:
        kernel.replace(believing(CLOSED))
        assert a_strangers_piece_gets_into_a_machines_packet(guest, 82)
        assert a_stranger_opens_in_a_machines_name(guest, 45_001)
    finally:
        kernel.replace(CLOSED)


def test_answers_end_with_the_flow_that_the_policy_takes_away(guest: FilterGuest, kernel: Nftables) -> None:
    opening = frame(A.mac, B.mac, (A4, B4), 6, tcp((44000, 5432), SYN))
    answer = frame(B.mac, A.mac, (B4, A4), 6, tcp((5432, 44000), SYN_ACK))
    assert guest.put(A.tap, opening)[B.tap] == [opening]
    assert guest.put(B.tap, answer)[A.tap] == [answer]
    kernel.replace(ruleset(replace(POLICY, flows=POLICY.flows[1:]), StateKind.CONNTRACK))
    assert guest.put(B.tap, answer) == {}
    kernel.replace(CLOSED)
    assert guest.put(B.tap, answer)[A.tap] == [answer]


NAMESPACES = (("one", "port11", A), ("two", "port12", B))
"""Name, the port of the bridge, and whose machine it plays."""


def namespaces(guest: FilterGuest) -> None:
    """Make two hosts with a TCP stack each, on a bridge that learns as bridges do."""
    guest.run(
        "mkdir -p /run; ip link add lab1 type bridge mcast_snooping 0 forward_delay 0; ip link set lab1 up"
    )
    for name, tap, port in NAMESPACES:
        for command in (
            f"ip netns add {name}",
            f"ip link add {tap} type veth peer name inside netns {name}",
            f"ip link set {tap} master lab1 up",
            f"ip -n {name} link set inside address {port.mac.hex(':')} up",
            f"ip -n {name} addr add {port.ipv4[0]}/16 dev inside",
            f"ip -n {name} addr add {port.ipv6[0]}/64 dev inside nodad",
        ):
            guest.run(command)
        for service in (5432, 22):
            # Whoever asks gets back what it has sent.
            serve = f"ip netns exec {name} nc -ll -p {service} -e cat"
            guest.run(f"(exec </dev/null >/dev/null 2>&1; {serve}) &")


def echoed(guest: FilterGuest, client: str, address: str, port: int) -> int:
    """Return how many of some bytes come back over TCP."""
    send = "head -c 300000 /dev/zero"
    ask = f"ip netns exec {client} timeout 10 nc -w 2 {address} {port} 2>/dev/null"
    return int(guest.run(f"{send} | {ask} | wc -c"))


def test_real_tcp_passes_where_the_policy_allows_it_and_nowhere_else(
    guest: FilterGuest, kernel: Nftables
) -> None:
    taps = {port.tap: tap for _, tap, port in NAMESPACES}
    ports = [replace(port, tap=taps.get(port.tap, port.tap)) for port in FLEET.ports]
    fleet = replace(FLEET, ports=tuple(ports))
    namespaces(guest)
    try:
        kernel.replace(compile_ruleset(POLICY, fleet, CLASSES, StateKind.CONNTRACK))
        for address in (B.ipv4[0], B.ipv6[0]):
            assert echoed(guest, "one", str(address), 5432) == 300_000
            assert echoed(guest, "one", str(address), 22) == 0
        assert echoed(guest, "two", str(A.ipv4[0]), 5432) == 0
        kernel.delete("undercroft")
        # Without the filter the same ports answer.
        assert echoed(guest, "one", str(B.ipv4[0]), 22) == 300_000
        assert echoed(guest, "two", str(A.ipv4[0]), 5432) == 300_000
    finally:
        kernel.replace(CLOSED)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_forged_frame_gets_by_conntrack_in_any_encapsulation(guest: FilterGuest, kernel: Nftables) -> None:
    try:
        kernel.replace(ruleset(OPEN, StateKind.CONNTRACK))
        open_flows(guest)
        for honest in HONEST:
            assert guest.put(A.tap, honest)[B.tap] == [honest]
        assert leaking(guest) == []
    finally:
        kernel.replace(CLOSED)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_another_version_of_the_kernel_agrees_with_model_and_meaning_too(
    guest: FilterGuest, kernel: Nftables
) -> None:
    kernel.delete("undercroft")
    try:
        figures = campaign(guest, kernel, SOAK_FRAMES, 4)
        print(guest.run("uname -r"), told(figures))  # noqa: T201 - figures of docs/ROBUSTNESS.md
        assert not figures.differences, "\n".join(figures.differences)
    finally:
        kernel.replace(CLOSED)
