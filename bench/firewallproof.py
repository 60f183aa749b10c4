"""Proofs of the packet filter: of the whole table of 10,000 machines as the kernel has it, and of one change.

    .venv/bin/python bench/firewallproof.py         # as root; all in a network namespace of its own
    .venv/bin/python bench/firewallproof.py 1000    # fewer machines

Each line is the median with the least and the most of the rounds. "cold" is the first proof of a process that
has imported everything; "warm" a later one of the same policy, with the table read anew; "new policy" one in
a warm process whose rules nobody has proven yet. Times of reading are told apart from those of proving. With
`alone` it runs before every other process, as on a host that has a core to spare.
"""

import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from filterproofs import DB, POLICY, WEB, classes, fleet, flow, label, port  # noqa: E402 - the tests' policy

from undercroft.adapters.nftables import Nftables  # noqa: E402
from undercroft.assurance.firewall.certificate import Certificate  # noqa: E402
from undercroft.assurance.firewall.proof import Prover, keys_of  # noqa: E402
from undercroft.firewall.compiler import compile_ruleset  # noqa: E402
from undercroft.firewall.elements import port_elements  # noqa: E402
from undercroft.firewall.policy import FirewallPolicy  # noqa: E402
from undercroft.firewall.tracking import StateKind  # noqa: E402

MACHINES = 10_000
ROUNDS = 5
CHANGES = 300
TABLE = "undercroft"
_NEW_NETWORK = 0x40000000


def main():
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), MACHINES)
    if "alone" in sys.argv:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    if ctypes.CDLL(None).unshare(_NEW_NETWORK):
        sys.exit("needs root, for a network namespace of its own")
    if "cold" in sys.argv:
        machines, numbers = fleet(count), classes()
        table = compile_ruleset(POLICY, machines, numbers, StateKind.TUPLES)
        print(timed(lambda: checked(Prover().prove(table, POLICY, machines, numbers))))
        return
    load = " ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{count} machines, {os.cpu_count()} cores, load {load}\n")
    with Nftables() as kernel:
        whole(kernel, count)
        one_machine(kernel, count)


def whole(kernel: Nftables, count: int):
    machines, numbers, prover = fleet(count), classes(), Prover()
    wanted = compile_ruleset(POLICY, machines, numbers, StateKind.TUPLES)
    took = {name: [] for name in ("load", "read", "prove, cold", "prove, warm", "prove, new policy")}
    for number in range(ROUNDS):
        took["load"].append(timed(lambda: kernel.replace(wanted)))
        took["read"].append(timed(lambda: kernel.read(TABLE)))
        found = kernel.read(TABLE)
        took["prove, cold"].append(in_a_new_process(count))
        if not number:
            checked(prover.prove(found, POLICY, machines, numbers))
        took["prove, warm"].append(
            timed(lambda found=found: checked(prover.prove(found, POLICY, machines, numbers)))
        )
        other = changed(number)
        table = compile_ruleset(other, machines, numbers, StateKind.TUPLES)
        took["prove, new policy"].append(
            timed(lambda other=other, table=table: checked(Prover().prove(table, other, machines, numbers)))
        )
        kernel.delete(TABLE)
    for name, seconds in took.items():
        found = [second * 1000 for second in seconds]
        spread = f"{min(found):.0f} to {max(found):.0f}"
        print(f"{name:18} {statistics.median(found):6.0f} ms ({spread})")


def one_machine(kernel: Nftables, count: int):
    machines, numbers, prover = fleet(count), classes(), Prover()
    wanted = compile_ruleset(POLICY, machines, numbers, StateKind.TUPLES)
    kernel.replace(wanted)
    checked(prover.prove(kernel.read(TABLE), POLICY, machines, numbers))
    read, prove, both = [], [], []
    labels = (WEB, DB)
    before = replace(port(count + 1, WEB), labels=WEB)
    kernel.change(wanted.table, port_elements(before, numbers), {})
    checked(prover.prove_port(None, before, kernel.find(wanted.table, keys_of(None, before)), 1))
    for number in range(CHANGES):
        after = replace(before, labels=labels[number % 2])
        new, old = port_elements(after, numbers), port_elements(before, numbers)
        removes = {name: list(found) for name, found in old.items()}
        kernel.change(wanted.table, new, removes)
        start = time.perf_counter()
        found = kernel.find(wanted.table, keys_of(before, after))
        middle = time.perf_counter()
        checked(prover.prove_port(before, after, found, number))
        end = time.perf_counter()
        read.append(middle - start)
        prove.append(end - middle)
        both.append(end - start)
        before = after
    for name, took in (("read one machine", read), ("prove one machine", prove), ("both", both)):
        ordered = sorted(second * 1000 for second in took)
        p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        print(f"{name:18} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   of {len(ordered)}")


def changed(number: int) -> FirewallPolicy:
    return replace(POLICY, flows=(*POLICY.flows, flow(label("db"), label("web"), f"tcp/{7000 + number}")))


def in_a_new_process(count: int) -> float:
    """Return how long the first proof of a process takes; its table is compiled before."""
    command = [sys.executable, __file__, str(count), "cold"]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def checked(answer: object):
    assert isinstance(answer, Certificate), answer


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
