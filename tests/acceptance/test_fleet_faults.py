"""What breaks around the agent: its policy, libvirt, its disk, disks of machines, its hook.

What is closed stays closed, each fault is named with its cure, and what happened meanwhile is on record once
the fault is gone.
"""

import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import baremachines
import fleethost
import libvirt
import pytest
from fleethost import FleetHost
from fleetstates import CVE, NEW, OLD, filesystem

from undercroft.adapters.libvirt import LibvirtHypervisor, ScratchLimits
from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.errors import BusyError
from undercroft.model.execution import Execution

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("fleet-faults"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

REFUSED = 1
SETTLES_S = 180.0
GOOD, BAD, STOPS = "good-01", "bad-01", "good-02"
POLICY = """version: 1
defaults: {drifting: quarantine, below_floor: quarantine}
agent_away: {default: refuse, last_decision: 1h}
break_glass: ['gateway-*']
"""
STRICT = POLICY.replace("drifting: quarantine", "drifting: refuse")


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The filesystems of an unpatched and of a patched machine."""
    folder = tmp_path_factory.mktemp("states")
    return filesystem(folder, "old", OLD), filesystem(folder, "new", NEW)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    with fleethost.running(tmp_path_factory.mktemp("faults")) as host:
        host.policy(POLICY)
        yield host


@pytest.fixture
def machines(host: FleetHost, states: tuple[Path, Path]) -> Iterator[dict[str, str]]:
    """The machines' UUIDs by name; all run, BAD in quarantine, and so does the agent."""
    old, new = states
    host.policy(POLICY)
    host.start_agent()
    names = {BAD: old, GOOD: new, STOPS: new}
    uuids = {name: baremachines.define(host, name, host.image(name, state)) for name, state in names.items()}
    for name in names:
        host.virsh("start", name)
    host.wait(
        lambda: [host.closed(name) for name in names] == [True, False, False], "they are as they should"
    )
    yield uuids
    host.stop_agent(signal.SIGKILL)
    for name in names:
        host.forget(name)


def lives(host: FleetHost, ident: str) -> tuple[Execution, ...]:
    with host.records() as records, records.reading() as record:
        return record.own_executions(ident)


def has_ended(host: FleetHost, ident: str) -> bool:
    return not any(one.live for one in lives(host, ident))


WRONG = {
    "a value that is none": (
        "version: 1\ndefaults: {drifting: quarantin}\n",
        "policy.yaml:2:22: ",
        ("'quarantin'", "allow, quarantine, refuse"),
    ),
    "a key that is none": (
        "version: 1\ndefaults:\n  driftign: refuse\n",
        "policy.yaml:3:3: ",
        ("'driftign'", "drifting"),
    ),
    "no YAML": ("version: 1\ndefaults: {drifting: refuse\n", "policy.yaml:3:1: ", ()),
    "no version": ("defaults: {drifting: refuse}\n", "policy.yaml:1:1: ", ("version",)),
}


def test_a_policy_with_an_error_never_replaces_a_good_one(host: FleetHost, machines: dict[str, str]) -> None:
    path = host.folder / "policy.yaml"
    for what, (text, where, words) in WRONG.items():
        seen = len(host.log())
        host.policy(text)
        host.wait(lambda s=seen: "was not taken over" in host.log()[s:], f"{what} is told")
        done = host.undercroft("policy", "check", str(path))
        assert done.returncode == REFUSED
        for said in (host.log()[seen:], done.stderr):
            assert where in said, what
            assert all(word in said for word in words), (what, said)
    path.unlink()
    seen = len(host.log())
    host.wait(lambda: "no policy there" in host.log()[seen:], "that it is gone is told")

    assert host.closed(BAD)
    host.virsh("destroy", BAD)
    host.virsh("start", BAD)
    assert host.closed(BAD), "the last good one holds"

    host.policy(STRICT)
    host.wait_for_action(BAD, "refuse")
    host.virsh("destroy", BAD)
    done = host.virsh("start", BAD, check=False)
    assert done.returncode == REFUSED
    assert CVE in done.stderr
    assert not host.closed(GOOD)


def test_libvirtd_is_killed_and_comes_back_under_the_agent(host: FleetHost, machines: dict[str, str]) -> None:
    process = (host.daemon.root / "run" / "libvirt" / "qemu" / f"{STOPS}.pid").read_text().strip()
    seen = len(host.log())
    with host.daemon.down():
        host.wait(lambda: "tried again until it answers" in host.log()[seen:], "that libvirt is lost is told")
        subprocess.run([*host.daemon.inside, "kill", "-9", process], check=True)
        done = host.undercroft("doctor")
        assert "libvirtd" in done.stdout
        assert done.returncode == REFUSED
    host.wait(lambda: has_ended(host, machines[STOPS]), "what stopped meanwhile has its end", SETTLES_S)
    host.wait(lambda: host.closed(BAD), "a daemon that comes back opens nothing for long")
    assert not host.closed(GOOD)
    for name in (GOOD, BAD):
        assert [one.live for one in lives(host, machines[name])][-2:] in ([True], [False, True]), "it ran on"

    host.virsh("start", STOPS)
    host.wait(lambda: not host.closed(STOPS), "events come again")
    assert [one.live for one in lives(host, machines[STOPS])][-2:] == [False, True]
    host.virsh("destroy", BAD)
    host.wait(lambda: has_ended(host, machines[BAD]), "events come again")


def test_libvirt_cannot_be_reached_when_the_agent_starts(host: FleetHost, machines: dict[str, str]) -> None:
    with host.daemon.down():
        host.stop_agent(signal.SIGKILL)
        seen = len(host.log())
        host.start_agent()
        host.wait(lambda: "tried again until it answers" in host.log()[seen:], "it is told")
        assert host.undercroft("fleet").returncode in {0, REFUSED}, "what was known is known"
        assert BAD in host.undercroft("fleet").stdout
    host.wait(lambda: host.closed(BAD), "it is held again")
    host.virsh("destroy", STOPS, check=False)
    host.wait(lambda: has_ended(host, machines[STOPS]), "events come")


def test_disks_that_are_missing_and_a_thousand_machines_at_once(
    host: FleetHost, machines: dict[str, str]
) -> None:
    host.policy(POLICY.replace("drifting: quarantine", "drifting: quarantine, unknown: refuse"))
    count = 1000
    gone = host.daemon.images / "gone.qcow2"
    names = [f"lost{number:04}" for number in range(count)]
    with closing(libvirt.open(host.daemon.uri)) as connection:
        for name in names:
            connection.defineXML(baremachines.xml(name, str(uuid.uuid4()), gone))
        host.virsh("destroy", GOOD)
        host.virsh("start", GOOD)
        with host.records() as records, records.reading() as record:
            last = record.decisions(machines[GOOD], 1)
        assert [one.by for one in last] == ["agent"], "it answers meanwhile"

        def judged() -> Counter[str]:
            rows = host.document("fleet", "--name", "lost*")["rows"]
            return Counter(row["verdict"] for row in rows if row["since"])

        host.wait(lambda: judged().total() == count, "all are judged", SETTLES_S)
        assert judged() == {"unknown": count}, "never clean"
        said = host.virsh("start", names[0], check=False)
        assert said.returncode == REFUSED
        assert "gone.qcow2" in said.stderr
        for name in names:
            connection.lookupByName(name).undefine()


def test_a_hook_that_is_missing_is_told_with_its_cure(host: FleetHost, machines: dict[str, str]) -> None:
    hook = host.daemon.root / "etc" / "hooks" / "qemu.d" / "undercroft"
    assert "is not there: no start is asked about" not in host.undercroft("doctor").stdout
    aside = hook.rename(host.folder / "hook-aside")
    try:
        done = host.undercroft("doctor")
        assert done.returncode == REFUSED
        assert "is not there: no start is asked about" in done.stdout
        assert "undercroft up installs it" in done.stdout
        assert host.closed(BAD), "what is closed stays closed"
        host.virsh("destroy", BAD)
        host.virsh("start", BAD)
        host.wait(lambda: host.closed(BAD), "what started unasked is looked at", SETTLES_S)
    finally:
        aside.unlink()
    host.stop_agent()
    host.start_agent()
    assert hook.exists(), "up installs it"
    host.virsh("destroy", BAD)
    host.virsh("start", BAD)
    assert host.closed(BAD)


def test_a_revert_waits_for_the_scan_that_holds_the_machine(
    host: FleetHost, machines: dict[str, str]
) -> None:
    host.virsh("snapshot-create-as", GOOD, "taken")
    host.wait_for_verdict(f"{GOOD}@taken", "steady")
    host.stop_agent()
    scratch = host.daemon.images / "scratch"
    scratch.mkdir(mode=0o755)
    limits = ScratchLimits(scratch)
    with (
        ThreadPoolExecutor(1) as pool,
        LibvirtHypervisor(host.daemon.uri, limits, host.daemon.state_directory) as hypervisor,
    ):
        with hypervisor.point_in_time(hypervisor.find(GOOD)):
            said = host.virsh("snapshot-revert", GOOD, "taken", check=False)
            assert "active block job" in said.stderr, "control: libvirt does not wait"
            with (
                pytest.raises(BusyError, match="a scan holds its disks"),
                LibvirtFleet(host.daemon.uri) as fleet,
            ):
                fleet.revert(machines[GOOD], "taken")
            ident = host.virsh("domid", GOOD).stdout
            done = pool.submit(host.undercroft, "revert", GOOD, "taken")
            time.sleep(3)
            assert not done.done(), done.result()
            assert host.virsh("domid", GOOD).stdout == ident
        assert done.result().returncode == 0, done.result().stderr
    assert host.virsh("domid", GOOD).stdout != ident
