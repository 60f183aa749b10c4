"""A host that dies between two: what it had is closed where it is started anew, until the host is forgotten.

web01 runs on the left host, which is lost with its agent and its guest at one moment. Somebody starts the
same machine on the right host, as a cluster does. Nobody but an administrator tells that the left one is off.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hookhost
import pytest
import twohosts
from fleethost import FleetHost
from fleetstates import NEW, filesystem
from twohosts import TwoHosts

MISSING = twohosts.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-dead-host"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

GATE, WEB, MAC = "192.0.2.1", "192.0.2.21", "52:54:00:00:00:15"
POLICY = f"""version: 1
labels:
  web: {{machines: "web*"}}
addresses: {{web01: {WEB}}}
ports: {{uplinks: up0}}
firewall:
  - {{from: world, to: web, allow: [tcp/443]}}
"""
WORKLOAD = f"""
mount -t ext4 /dev/vda /mnt
ip addr add {WEB}/24 dev eth0 && ip link set eth0 up
nc -ll -p 443 -e cat &
nc -ll -p 22 -e cat &
n=0
while :; do
  n=$((n+1))
  ping -c 1 -w 1 -W 1 {GATE} >/dev/null &
  usleep 250000
  echo ALIVE $n
done
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    """Both hosts, whose agents run under the policy, and web01 on the left one."""
    with twohosts.running(tmp_path, WORKLOAD, (f"{GATE}/24",)) as hosts:
        for host in (hosts.left, hosts.right):
            host.policy(POLICY)
            host.start_agent()
        hosts.left.undercroft("firewall", "apply", "--reason", "both", check=True)
        hosts.begin("web01", hosts.left, filesystem(tmp_path, "new", NEW), MAC)
        hosts.left.wait(lambda: hosts.world.reaches(WEB, 443), "it serves")
        yield hosts


@contextmanager
def dead(host: FleetHost) -> Iterator[None]:
    """End a host's agent, its libvirtd and its guests while the block runs; none of them says anything."""
    host.stop_agent(signal.SIGKILL)
    with host.daemon.down():
        init = host.daemon.inside[2]
        for pid in Path(f"/proc/{init}/task/{init}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().startswith("qemu"):
                os.kill(int(pid), signal.SIGKILL)
        yield


def begin_elsewhere(hosts: TwoHosts) -> None:
    """Start the dead host's machine on the right one, from the disk that both have."""
    left, right = hosts.left, hosts.right
    card = hookhost.interface(MAC)
    there, ident = left.described("web01", hosts.disks / "web01.qcow2", card)
    here, other = right.described("web01", hosts.disks / "web01.qcow2", card)
    assert there != here
    here.write_text(here.read_text().replace(other, ident))
    right.virsh("define", str(here))
    right.virsh("start", "web01")
    right.goes_on("web01")


def test_a_dead_host_s_machine_is_closed_where_it_is_started_until_the_host_is_forgotten(
    hosts: TwoHosts,
) -> None:
    right, world = hosts.right, hosts.world
    with dead(hosts.left), hosts.hearing(right) as ear:
        assert not world.reaches(WEB, 443), "it is dead"
        begin_elsewhere(hosts)
        assert right.closed("web01", MAC)
        assert not world.reaches(WEB, 443), "it may run on the left host still, for all that anybody knows"
        refused = right.undercroft("host", "forget", "left.lab", "--reason", "it burns")
        assert "--anyway" in refused.stderr, "its agent was heard a moment ago"
        assert right.closed("web01", MAC)
        right.undercroft("host", "forget", "left.lab", "--reason", "it burns", "--anyway", check=True)
        right.wait(lambda: world.reaches(WEB, 443), "it serves again")
        assert not world.reaches(WEB, 22), "and is filtered as it was"
    heard = [bytes.fromhex(frame) for source, _, frame in ear.frames() if source == MAC]
    assert heard, "it was heard once it was opened"
    assert not [frame for frame in heard if frame[12:14] == b"\x08\x00" and frame[23] == 1], "no ping left"
