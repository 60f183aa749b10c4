"""`make bench`: the firewall beside a bridge without one, linear rules, and what libvirt's nwfilter makes.

Prints the tables that docs/BENCHMARKS.md holds. All in network namespaces of its own, with the real kernel.

    .venv/bin/python bench/firewall.py                  # as root; some three minutes
    .venv/bin/python bench/firewall.py packets          # one part (see PART)
    .venv/bin/python bench/firewall.py packets slow     # and nwfilter with 10,000 machines: a minute more
    .venv/bin/python bench/firewall.py quick            # few rounds, to see that it works

A ratio is the median over rounds, in each of which all ways of filtering were measured one after the other,
with the interval in which the median of all rounds that there could be lies with 95 %.
"""

import ctypes
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import firewallengine as engine
import firewallpeers as peers
from firewallpackets import Bridge, Traffic, built

COUNT = 10_000
ROUNDS = 60
WHOLE_ROUNDS = 5
_NEW_NETWORK = 0x40000000
WHAT = {
    Traffic.FRAME: "60 bytes, tap to tap",
    Traffic.MESSAGE: "64 bytes over TCP",
    Traffic.BULK: "64 KiB over TCP",
}


def main():
    words = sys.argv[1:]
    parts = [word for word in words if word in PART] or list(PART)
    problem = peers.missing()
    if problem or os.geteuid():
        sys.exit(problem or "needs root, for network namespaces of its own")
    kernel = f"Linux {os.uname().release}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {kernel}, {_load()}\n", flush=True)
    for part in parts:
        PART[part]("quick" in words, "slow" in words)


# What a packet costs


def _packets(quick: bool, slow: bool):
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bridges, program = [], built(Path(folder))
        try:
            for name, count, load, *traffics in _bridges(slow=slow):
                bridges.append(Bridge(name, count, load, program, *traffics))
                bridges[-1].warm()
            rounds = 9 if quick else ROUNDS
            _packet_table(bridges, {traffic: _costs(traffic, bridges, rounds) for traffic in Traffic}, rounds)
        finally:
            for bridge in bridges:
                bridge.close()


def _bridges(*, slow: bool):
    """Yield names, numbers of machines, rules, and what is moved where that is not everything."""
    yield "no filter", 100, peers.nothing
    for count in (100, 1000, COUNT):
        yield "Undercroft", count, peers.undercroft
    for count in (100, 1000):
        yield "libvirt's nwfilter, clean-traffic", count, peers.nwfilter
    if slow:
        yield "libvirt's nwfilter, clean-traffic", COUNT, peers.nwfilter, [Traffic.FRAME]
    for count in (100, 1000):
        yield "linear rules, five a machine", count, peers.linear
    yield "linear rules, five a machine", COUNT, peers.linear, [Traffic.FRAME]


def _costs(traffic: Traffic, bridges: Sequence[Bridge], rounds: int) -> dict[Bridge, list[float]]:
    """Return what each bridge took in each round, ns."""
    asked = [bridge for bridge in bridges if traffic in bridge.traffics]
    costs: dict[Bridge, list[float]] = {bridge: [] for bridge in asked}
    for _ in range(rounds):
        for bridge in asked:
            costs[bridge].append(bridge.cost_ns(traffic))
    return costs


def _packet_table(
    bridges: Sequence[Bridge], found: Mapping[Traffic, Mapping[Bridge, list[float]]], rounds: int
):
    print(f"### A packet\n\n| ratio to no filter | machines | {' | '.join(WHAT.values())} |")
    print("|---|---|---|---|---|")
    for bridge in bridges:
        cells = []
        for costs in found.values():
            if bridge is bridges[0]:
                cells.append(f"1 ({statistics.median(costs[bridge]):,.0f} ns)")
            else:
                cells.append(_ratio(costs[bridge], costs[bridges[0]]) if bridge in costs else "")
        count = "" if bridge is bridges[0] else f"{bridge.count:,}"
        print(f"| {bridge.name} | {count} | {' | '.join(cells)} |")
    ours = [bridge for bridge in bridges if bridge.name == "Undercroft"]
    for bridge in ours[1:]:
        cells = [_ratio(costs[bridge], costs[ours[0]]) for costs in found.values()]
        print(f"| Undercroft, to itself with {ours[0].count} | {bridge.count:,} | {' | '.join(cells)} |")
    print(f"\n({rounds} rounds; processor time, the kernel's work in it; {_load()})\n", flush=True)


def _ratio(costs: Sequence[float], others: Sequence[float]) -> str:
    return _interval([one / other for one, other in zip(costs, others, strict=True)])


def _interval(ratios: Sequence[float]) -> str:
    """Return the median of ratios with the interval of 95 % for it, by ranks. Source: the sign test."""
    ordered, size = sorted(ratios), len(ratios)
    low = max(0, int(size / 2 - 0.98 * size**0.5))
    digits = 2 if ordered[-1] < 100 else 0
    middle, least, most = statistics.median(ordered), ordered[low], ordered[size - 1 - low]
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


# What the engine takes


def _whole(quick: bool):
    took = engine.whole(COUNT, 2 if quick else WHOLE_ROUNDS)
    rows = (
        ("loading, from policy and machines to the kernel", "load", "under 1 s"),
        ("beside it: sets of as many elements, without rules, by `nft -f`", "nft", ""),
        ("the same again: nothing has to be changed", "same", ""),
        ("full proof, first of a process: read, and proven", "cold", ""),
        ("full proof in a warm process", "warm", "under 500 ms"),
        ("full proof in a warm process, of a policy that is new to it", "new policy", ""),
    )
    print(f"### The whole table of {COUNT:,} machines\n\n| | median | least to most | processor | goal |")
    print("|---|---|---|---|---|")
    for text, name, goal in rows:
        times = took[name]
        used = "" if name == "nft" else f"{statistics.median(times.cpu) * 1000:.0f} ms"
        least, most = min(times.wall) * 1000, max(times.wall) * 1000
        middle = statistics.median(times.wall) * 1000
        print(f"| {text} | {middle:.0f} ms | {least:.0f} to {most:.0f} ms | {used} | {goal} |")
    print(f"\n({len(took['load'].wall)} rounds; {_load()})\n", flush=True)


def _one(_quick: bool):
    took = engine.one_machine(COUNT)
    rows = (
        ("a machine that starts: its elements committed", "admit", "p99 under 1 ms"),
        ("a machine whose labels change", "label", "p99 under 1 ms"),
        ("a machine that ends", "dismiss", "p99 under 1 ms"),
        ("beside it: one element by the `nft` command", "nft", ""),
        ("proof of one change in a warm process", "prove", "under 50 ms"),
    )
    print(f"### One machine of {COUNT:,}\n\n| | median | p99 | processor, median and p99 | of | goal |")
    print("|---|---|---|---|---|---|")
    for text, name, goal in rows:
        wall, cpu = sorted(took[name].wall), sorted(took[name].cpu)
        used = "" if name == "nft" else f"{_ms(_rank(cpu, 0.5))} and {_ms(_rank(cpu, 0.99))} ms"
        middle, high = _ms(_rank(wall, 0.5)), _ms(_rank(wall, 0.99))
        print(f"| {text} | {middle} ms | {high} ms | {used} | {len(wall)} | {goal} |")
    print(f"\n({_load()})\n", flush=True)


def _gather(quick: bool):
    took = engine.gathering(COUNT, 3 if quick else WHOLE_ROUNDS)
    print(f"### {COUNT:,} machines on record\n\n| | median | least to most | processor |\n|---|---|---|---|")
    for text, name in (
        ("asked for, with labels and addresses", "gather"),
        ("one machine's ports asked for, as at its start (goal: under 5 ms)", "ports"),
        ("held against what the kernel has, nothing has changed", "enforce"),
    ):
        wall, cpu = took[name].wall, statistics.median(took[name].cpu)
        digits = 0 if name != "ports" else 1
        spread = f"{min(wall) * 1000:.{digits}f} to {max(wall) * 1000:.{digits}f} ms"
        middle = f"{statistics.median(wall) * 1000:.{digits}f} ms"
        print(f"| {text} | {middle} | {spread} | {cpu * 1000:.{digits}f} ms |")
    print(f"\n({_load()})\n", flush=True)


# Help


def _in_own_network(function):
    """Let a part have a process, and in it a network namespace, of its own: what is warm is that part's."""

    def run(quick: bool, _slow: bool):
        child = os.fork()
        if not child:
            if ctypes.CDLL(None).unshare(_NEW_NETWORK):
                sys.exit("a network namespace cannot be had here")
            function(quick)
            sys.exit()
        if os.waitpid(child, 0)[1]:
            sys.exit(1)

    return run


def _rank(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


PART = {
    "packets": _packets,
    "whole": _in_own_network(_whole),
    "one": _in_own_network(_one),
    "gather": _in_own_network(_gather),
}

if __name__ == "__main__":
    main()
