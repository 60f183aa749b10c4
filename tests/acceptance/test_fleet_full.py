"""The disk that holds the agent's state is full: nothing starts unseen, nothing opens, nothing is lost.

The disk is a small tmpfs in the host's own namespaces.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import baremachines
import fleethost
import pytest
from fleethost import FleetHost
from fleetstates import NEW, OLD, filesystem

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("fleet-faults"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

REFUSED = 1
SETTLES_S = 180.0
ROOM = "48m"
GOOD, BAD, ENDS, GATEWAY = "good-01", "bad-01", "bad-02", "gateway-01"
POLICY = """version: 1
defaults: {drifting: quarantine, below_floor: quarantine}
agent_away: {default: allow}
break_glass: ['gateway-*']
"""


def inside(host: FleetHost, script: str, *, check: bool = True) -> None:
    """Run a script where the host's mounts are."""
    done = subprocess.run([*host.daemon.inside, "sh", "-c", script], capture_output=True, check=False)
    assert not check or done.returncode == 0, done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FleetHost]:
    """A host whose agent keeps its state on a small disk; BAD and ENDS run in quarantine, GOOD is off."""
    with fleethost.running(tmp_path) as host:
        old, new = filesystem(tmp_path, "old", OLD), filesystem(tmp_path, "new", NEW)
        host.policy(POLICY)
        state = host.state
        inside(host, f"cp -a {state} {state}.kept")
        inside(host, f"mount -t tmpfs -o size={ROOM},mode=700 tmpfs {state} && cp -a {state}.kept/. {state}/")
        with host.up():
            for name, disk in {GOOD: new, BAD: old, ENDS: old, GATEWAY: old}.items():
                baremachines.define(host, name, host.image(name, disk))
            for name in (BAD, ENDS):
                host.virsh("start", name)
                assert host.closed(name)
            yield host


def lives(host: FleetHost, name: str) -> list[bool]:
    """Return of each execution on record whether it lives."""
    done = host.undercroft("lineage", name, "-f", "json")
    found = json.loads(done.stdout)["executions"] if done.stdout else []
    return [one["execution"]["ended_at"] is None for one in found]


def fill(host: FleetHost) -> None:
    """Leave no room at all."""
    inside(host, f"cat /dev/zero >{host.state}/filler", check=False)


def test_a_full_disk_opens_nothing_and_loses_nothing(host: FleetHost) -> None:
    host.wait(lambda: all(lives(host, name) for name in (BAD, ENDS)), "they are on record")
    fill(host)
    said = host.virsh("start", GOOD, check=False)
    assert said.returncode == REFUSED
    assert "No space left on device" in said.stderr
    assert "undercroft doctor says more" in said.stderr
    assert "make room" in host.undercroft("doctor").stdout

    assert host.closed(BAD), "what is closed stays closed"
    host.virsh("destroy", ENDS)
    host.virsh("start", GATEWAY)  # break-glass: without a record for now
    fill(host)
    assert host.closed(BAD)

    inside(host, f"rm {host.state}/filler")
    host.wait(lambda: lives(host, ENDS) == [False], "the end is on record", SETTLES_S)
    host.wait(lambda: lives(host, GATEWAY), "so is the start that passed by the list", SETTLES_S)
    host.virsh("start", GOOD)
    host.wait(lambda: not host.closed(GOOD), "it starts", SETTLES_S)
    host.wait(lambda: host.closed(GATEWAY), "what started unseen is looked at", SETTLES_S)
    assert host.closed(BAD)
    assert {name: lives(host, name) for name in (GOOD, BAD, ENDS, GATEWAY)} == {
        GOOD: [True],
        BAD: [True],
        ENDS: [False],
        GATEWAY: [True],
    }
    host.undercroft("audit", "verify", check=True)
    assert "Traceback" not in host.log()
