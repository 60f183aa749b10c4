"""Our netlink beside the nft command: one element, 10,000 machines written, 60,000 elements read.

    .venv/bin/python bench/packetfilter.py          # as root; all in a network namespace of its own
    .venv/bin/python bench/packetfilter.py 1000     # fewer machines

Rounds are interleaved; each line is the median with the least and the most of the rounds. With `alone` it
runs before every other process, as on a host that has a core to spare.
"""

import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from undercroft.adapters.nftables import Nftables
from undercroft.firewall.kernel import Chain, Code, Hook, Ruleset, SetDefinition, Table

MACHINES = 10_000
ROUNDS = 7
CHANGES = 5000
NFT_CHANGES = 60
CLASSES = 100
_NEW_NETWORK = 0x40000000
_SIZE = 1 << 17
SETS = (
    SetDefinition("classes", ("ifname",), "mark", _SIZE),
    SetDefinition("macs", ("ifname", "ether_addr"), "", _SIZE),
    SetDefinition("sources4", ("ifname", "ether_addr", "ipv4_addr"), "", _SIZE),
    SetDefinition("targets4", ("ifname", "ether_addr", "ipv4_addr"), "mark", _SIZE),
    SetDefinition("sources6", ("ifname", "ether_addr", "ipv6_addr"), "", _SIZE),
    SetDefinition("outside6", ("ipv6_addr",), "mark", _SIZE),
)


def main():
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), MACHINES)
    if "alone" in sys.argv:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    if ctypes.CDLL(None).unshare(_NEW_NETWORK):
        sys.exit("needs root, for a network namespace of its own")
    load = " ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{count} machines, {os.cpu_count()} cores, load {load}\n")
    with Nftables() as nftables:
        bulk(nftables, count)
        one_by_one(nftables, count)


def bulk(nftables: Nftables, count: int):
    four, six = ruleset(count, SETS[:4]), ruleset(count, SETS)
    took = {name: [] for name in ("write", "nft -f", "read", "nft list", "same again")}
    for _ in range(ROUNDS):
        took["write"].append(timed(lambda: nftables.replace(four)))
        text = nft("list", "ruleset")
        nftables.delete("undercroft")
        took["nft -f"].append(timed(lambda text=text: nft("-f", "-", given=text)))
        assert nftables.read("undercroft").elements == four.elements
        nftables.replace(six)
        took["read"].append(timed(lambda: nftables.read("undercroft")))
        took["nft list"].append(timed(lambda: nft("list", "ruleset")))
        took["same again"].append(timed(lambda: nftables.replace(six)))
        nftables.delete("undercroft")
    for name, size in (("write", 4), ("nft -f", 4), ("read", 6), ("nft list", 6), ("same again", 6)):
        found = [second * 1000 for second in took[name]]
        spread = f"{min(found):.0f} to {max(found):.0f}"
        print(f"{name:11} {size * count:6} elements  {statistics.median(found):6.0f} ms ({spread})")


def one_by_one(nftables: Nftables, count: int):
    wanted = ruleset(count, SETS)
    nftables.replace(wanted)
    single, machine, command = [], [], []
    for number in range(count, count + CHANGES):
        elements = of_machine(number)
        own = {"classes": elements["classes"]}
        for taken, adds in ((single, own), (machine, elements)):
            removes = {name: list(found) for name, found in adds.items()}
            taken.append(timed(lambda adds=adds: nftables.change(wanted.table, adds, {})))
            taken.append(timed(lambda removes=removes: nftables.change(wanted.table, {}, removes)))
        if number % (CHANGES // NFT_CHANGES) == 0:
            line = f'add element bridge undercroft classes {{ "x{number}" : 1 }}'
            command.append(timed(lambda line=line: nft(line)))
    for name, took in (("one element", single), ("one machine", machine), ("nft, one element", command)):
        ordered = sorted(second * 1e6 for second in took)
        p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        print(f"{name:17} p50 {p50:7.0f} us   p99 {p99:7.0f} us   of {len(ordered)}")


def ruleset(count: int, sets: tuple[SetDefinition, ...]) -> Ruleset:
    elements = {definition.name: {} for definition in sets}
    for number in range(count):
        for name, found in of_machine(number).items():
            if name in elements:
                elements[name].update(found)
    forward = Chain("forward", (), Hook.FORWARD, -400, Code.ACCEPT)
    return Ruleset(
        Table("undercroft", sets, (forward, *(Chain(f"to-{c}", ()) for c in range(CLASSES)))), elements
    )


def of_machine(number: int):
    name = (b"vnet%d" % number).ljust(16, b"\0")
    mac = b"\x52\x54" + number.to_bytes(4, "big") + bytes(2)
    ipv4 = (0x0A000000 + number).to_bytes(4, "big")
    ipv6 = b"\xfd" + bytes(11) + ipv4
    mark = (number % CLASSES).to_bytes(4, sys.byteorder)
    return {
        "classes": {name: mark},
        "macs": {name + mac: None},
        "sources4": {name + mac + ipv4: None},
        "targets4": {name + mac + ipv4: mark},
        "sources6": {name + mac + ipv6: None},
        "outside6": {ipv6: mark},
    }


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def nft(*words: str, given: bytes = b"") -> bytes:
    return subprocess.run(["nft", *words], input=given, capture_output=True, check=True).stdout


if __name__ == "__main__":
    main()
