"""The engine is killed and disturbed on the real kernel, with traffic at full speed meanwhile.

A program enforces one policy after the other, and is killed at each step between file and kernel, and at any
moment. The kernel then holds the old policy or the new one, and no frame that both deny has passed.
"""

import random
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from enforced import NUMBERS, as_wanted, make, now, plain, reached
from enforcedruns import ALLOWED, COMING, DENIED, PORTS, enforce, fleet, policy, program
from netns import call_in_own_network
from traffic import Told, Traffic
from wire import Wire

from undercroft.adapters.nftables import Nftables
from undercroft.errors import StateError
from undercroft.firewall.compiler import TABLE_NAME, compile_ruleset
from undercroft.firewall.tracking import StateKind
from undercroft.ports.packetfilter import PacketFilter
from undercroft.usecases.firewall import memory
from undercroft.usecases.firewall.numbering import matched

pytestmark = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")

RANDOM_KILLS = 3
SOAK_KILLS = 300
FORGOTTEN = 4


def held(packet_filter: PacketFilter, file: Path) -> str:
    """Tell which policy the kernel holds with which machines; "mixture" where it is none.

    Chains that nothing goes to yet are part of no policy.
    """
    found = packet_filter.read(TABLE_NAME, written=False)
    kept = matched(memory.load(file), found.table, now())
    if kept is None:
        return "of no numbering that the file has"
    (numbering,) = kept.numberings
    for name in ("old", "new"):
        for more in ((), (COMING,)):
            machines = replace(fleet(name), ports=(*fleet(name).ports, *more))
            with suppress(StateError):
                wanted = compile_ruleset(policy(name), machines, numbering.classes, StateKind.TUPLES)
                if numbering.policy == policy(name).digest and plain(reached(found, wanted)) == plain(wanted):
                    return name
    return "mixture"


def killed(folder: Path, kills: list[tuple[str, int]]) -> tuple[list[str], Told]:
    """Kill the engine under traffic; return what the kernel held after each kill, and what frames came to."""
    seen: list[str] = []
    with Wire(PORTS) as wire, Nftables() as kernel:
        enforce(make(kernel, folder), "old")
        for port, _, frame in ALLOWED:  # What answers has to have been opened.
            wire.put(port, frame)
        with program(folder) as run, Traffic(wire, ALLOWED, DENIED) as traffic:
            for order, number in kills:
                was_killed = run(order, number)
                seen.append(held(kernel, folder / NUMBERS))
                again = make(kernel, folder)
                assert again.recall() == ""
                enforce(again, "old")
                as_wanted(again, kernel, policy("old"), fleet("old"))
                if not was_killed:
                    break
    return seen, traffic.told


def test_killed_at_each_step_between_file_and_kernel_the_kernel_has_the_old_policy_or_the_new(
    tmp_path: Path,
) -> None:
    steps = [("step", number) for number in range(1, 100)]
    seen, told = call_in_own_network(lambda: killed(tmp_path, steps))
    print(seen, told)  # noqa: T201 - figures of docs/ROBUSTNESS.md
    assert set(seen) == {"old", "new"}
    assert seen == sorted(seen, reverse=True)
    assert 10 <= len(seen) < 99
    assert (told.lost, told.leaked) == (0, 0)
    assert min(told.allowed, told.denied) > 1_000


def random_kills(tmp_path: Path, count: int) -> tuple[list[str], Told]:
    times = random.Random(count)
    kills = [("time", times.randrange(100_000, 800_000)) for _ in range(count)]
    return call_in_own_network(lambda: killed(tmp_path, kills))


def test_killed_at_any_moment_the_kernel_has_the_old_policy_or_the_new(tmp_path: Path) -> None:
    seen, told = random_kills(tmp_path, RANDOM_KILLS)
    print(seen, told)  # noqa: T201
    assert set(seen) <= {"old", "new"}
    assert (told.lost, told.leaked) == (0, 0)


def test_without_its_memory_all_is_replaced_and_no_denied_frame_passes(tmp_path: Path) -> None:
    def forgetful() -> Told:
        with Wire(PORTS) as wire, Nftables() as kernel:
            enforce(make(kernel, tmp_path), "old")
            for port, _, frame in ALLOWED:
                wire.put(port, frame)
            with Traffic(wire, ALLOWED, DENIED) as traffic:
                for number in range(FORGOTTEN):
                    (tmp_path / NUMBERS).unlink()
                    which = ("new", "old")[number % 2]
                    again = make(kernel, tmp_path)
                    assert "all classes get new numbers" in again.recall()
                    enforce(again, which)
                    as_wanted(again, kernel, policy(which), fleet(which))
            return traffic.told

    told = call_in_own_network(forgetful)
    print(told)  # noqa: T201
    assert told.leaked == 0
    # A frame that bears a number of which nobody knows any more whose it was is denied.
    assert told.lost <= 4 * FORGOTTEN
    assert told.denied > 1_000


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_hundreds_of_times_the_kernel_has_the_old_policy_or_the_new(tmp_path: Path) -> None:
    seen, told = random_kills(tmp_path, SOAK_KILLS)
    print(seen.count("old"), seen.count("new"), told)  # noqa: T201
    assert set(seen) == {"old", "new"}
    assert (told.lost, told.leaked) == (0, 0)
