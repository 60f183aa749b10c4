"""A policy is replaced under traffic, on a real bridge in a network namespace of the test's own.

A raw socket sends frames into one port. Two tables of the test's own count them, before the policy and after.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable

import pytest
from netns import call_in_own_network, in_own_network

from undercroft.adapters.nftables import Nftables, difference
from undercroft.adapters.nftables.wire import Channel
from undercroft.firewall.kernel import (
    Base,
    Chain,
    Code,
    Compare,
    Counter,
    Hook,
    Immediate,
    Key,
    Lookup,
    Meta,
    Operator,
    Payload,
    Rule,
    Ruleset,
    SetDefinition,
    Table,
    Verdict,
)

needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")

ACCEPT = Immediate(Verdict(Code.ACCEPT))
NAMES = SetDefinition("names", ("ifname",), "verdict", 1 << 14)
ALLOWED, DENIED = b"\x88\xb5", b"\x88\xb6"
REPLACEMENTS = 100


def bridge() -> None:
    """Two ports, in0 and out0, whose other ends in1 and out1 are on one bridge."""
    for command in (
        "sysctl -q -w net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1",
        "ip link add lab0 type bridge mcast_snooping 0",
        "ip link add in0 type veth peer name in1",
        "ip link add out0 type veth peer name out1",
        "ip link set in1 master lab0",
        "ip link set out1 master lab0",
        "ip link set lab0 up",
        "ip link set in0 up",
        "ip link set in1 up",
        "ip link set out0 up",
        "ip link set out1 up",
    ):
        subprocess.run(command.split(), check=True)


COUNTING = """
table bridge counting {
  counter came-allowed { }
  counter came-denied { }
  counter passed-allowed { }
  counter passed-denied { }
  chain before { type filter hook forward priority -900;
    ether type 0x88b5 counter name came-allowed
    ether type 0x88b6 counter name came-denied
  }
  chain after { type filter hook forward priority 900;
    ether type 0x88b5 counter name passed-allowed
    ether type 0x88b6 counter name passed-denied
  }
}
"""


def counted() -> dict[str, int]:
    listed = subprocess.run(
        ["nft", "-j", "list", "counters", "table", "bridge", "counting"], check=True, capture_output=True
    )
    entries = [entry["counter"] for entry in json.loads(listed.stdout)["nftables"] if "counter" in entry]
    return {entry["name"]: entry["packets"] for entry in entries}


def policy(number: int) -> Ruleset:
    """Policies that all allow ALLOWED from in1, and nothing else; their rules and other machines differ.

    Rules that only count make the moment longer that a frame spends before the look-up.
    """
    chain = f"in-{number}"
    others = {(b"vnet%d" % (number * 10 + n)).ljust(16, b"\0"): Verdict(Code.DROP) for n in range(10)}
    counts = (Rule((Counter(),), f"policy {number}"),) * 200
    kind = (Payload(0, Base.LINK, 12, 2), Compare(0, Operator.EQUAL, ALLOWED), ACCEPT)
    by_name = Rule((Meta(0, Key.INPUT_NAME), Lookup("names", 0, verdicts=True)))
    chains = (
        Chain("forward", (*counts, by_name), Hook.FORWARD, -400, Code.DROP),
        Chain(chain, (Rule(kind),)),
    )
    elements = {"names": {**others, b"in1".ljust(16, b"\0"): Verdict(Code.GOTO, chain)}}
    return Ruleset(Table("undercroft", (NAMES,), chains), elements)


def lost_and_leaked(replace: Callable[[Ruleset], object]) -> tuple[int, int]:
    """Replace policies under traffic; return how many allowed frames were lost, and denied ones passed."""
    bridge()
    subprocess.run(["nft", "-f", "-"], input=COUNTING.encode(), check=True)
    replace(policy(0))
    head = b"\2\0\0\0\0\2" + b"\2\0\0\0\0\1"
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            for kind in (ALLOWED, DENIED):
                sender.send(head + kind + bytes(50))

    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("in0", 0))
        thread = threading.Thread(target=send)
        thread.start()
        for number in range(1, REPLACEMENTS):
            replace(policy(number))
        stop.set()
        thread.join()
    subprocess.run(["ip", "link", "set", "in0", "down"], check=True)  # Nothing is under way any more.
    found = counted()
    assert min(found["came-allowed"], found["came-denied"]) > REPLACEMENTS
    return found["came-allowed"] - found["passed-allowed"], found["passed-denied"]


@needs_nft
@in_own_network
def test_replacing_under_traffic_loses_no_allowed_frame_and_leaks_no_denied_one() -> None:
    with Nftables() as nftables:
        assert lost_and_leaked(nftables.replace) == (0, 0)


@needs_nft
@pytest.mark.parametrize("way", ["anew", "in one transaction"])
def test_control_a_table_made_anew_or_changed_in_one_transaction_loses_or_leaks(way: str) -> None:
    def unstaged() -> tuple[int, int]:
        with Nftables() as nftables, contextlib.closing(Channel()) as channel:

            def replace(wanted: Ruleset) -> None:
                first = not nftables.tables()[1:]
                anew = first or way == "anew"
                held = wanted if anew else nftables.read("undercroft")
                channel.commit(difference.recreated(wanted) if anew else difference.changed(held, wanted))

            return lost_and_leaked(replace)

    # Few frames meet the moment.
    assert any(call_in_own_network(unstaged) != (0, 0) for _ in range(30))
