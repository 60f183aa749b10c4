"""A live migration between two hosts of one record: filtered all the way, and its open flow goes on."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import fleethost
import hookhost
import outside
import pytest
import taps
from fleethost import FleetHost
from fleetstates import NEW, filesystem
from outside import World

MISSING = fleethost.missing() or ("" if shutil.which("ip") else "ip is missing: apt-get install iproute2")
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-migration"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

GATE, ADDRESS, MAC, NAME = "192.0.2.1", "192.0.2.21", "52:54:00:00:00:15", "web01"
POLICY = f"""version: 1
labels: {{web: {{machines: "web*"}}}}
addresses: {{{NAME}: {ADDRESS}}}
ports: {{uplinks: up0}}
firewall: [{{from: world, to: web, allow: [tcp/443]}}]
"""
WORKLOAD = f"""
mount -t ext4 /dev/vda /mnt
ip addr add {ADDRESS}/24 dev eth0 && ip link set eth0 up
printf '#!/bin/sh\nwhile :; do echo TICK; sleep 1; done\n' >/tick && chmod +x /tick
nc -ll -p 22 -e cat &
nc -ll -p 443 -e /tick &
n=0
while :; do
  n=$((n+1))
  ping -c 1 -w 1 {GATE} >/dev/null &
  usleep 250000
  echo ALIVE $n
done
"""


@dataclass
class Two:
    """Two hosts, and the world that both are in."""

    source: FleetHost
    target: FleetHost
    world: World
    shared: Path

    def migrate(self) -> None:
        """Migrate the machine with virsh; its RAM goes through a socket that both hosts see."""
        command = ["virsh", "-c", self.source.daemon.uri, "migrate", "--live", "--unsafe", NAME]
        folder = self.source.daemon.images / "way"
        folder.mkdir()
        folder.chmod(0o777)  # QEMU's user makes the socket
        done = subprocess.run(
            [*command, self.target.daemon.uri, "--migrateuri", f"unix://{folder}/socket"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (done.stderr, self.source.log(), self.target.log())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    shared = tmp_path_factory.mktemp("migration")
    filesystem(shared, "new", NEW)
    with ExitStack() as stack:
        hosts = []
        for name in ("alpha", "beta"):
            (shared / name).mkdir()
            host = stack.enter_context(fleethost.running(shared / name, WORKLOAD, name))
            host.databases["fleet"] = str(shared / "fleet.db")
            host.policy(POLICY)
            hosts.append(host)
        daemons = [host.daemon for host in hosts]
        world = stack.enter_context(outside.joined(daemons, fleethost.BRIDGE, "up0", [f"{GATE}/24"]))
        for host in hosts:
            stack.enter_context(host.up())
        yield Two(hosts[0], hosts[1], world, shared)


def ticks(flow: socket.socket, count: int) -> bool:
    """Tell whether the guest goes on sending in a flow in which the other side only listens.

    What it sends passes as an answer alone: the host that it has come to must know of the flow.
    """
    flow.settimeout(20)
    try:
        return all(flow.recv(5) for _ in range(count))
    except OSError:
        return False


def icmp(ear: taps.Ear) -> list[str]:
    """Return the pings of the machine that were heard."""
    return [
        frame
        for source, protocol, frame in ear.frames()
        if source == MAC and protocol == "0x0800" and frame[46:48] == "01"
    ]


def opened(world: World) -> socket.socket | None:
    """Return a new flow to the machine, None where it is not reached."""
    try:
        return world.connected(ADDRESS, 443)
    except OSError:
        return None


def labelled(host: FleetHost) -> bool:
    """Tell whether the kernel of a host has labels for the machine."""
    shown = subprocess.run(
        [*host.daemon.inside_network, "nft", "list", "map", "bridge", "undercroft", "classes"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "vnet" in shown.stdout


def test_a_machine_that_migrates_is_filtered_all_the_way_and_its_open_flow_goes_on(two: Two) -> None:
    source, target, world = two.source, two.target, two.world
    source.undercroft("firewall", "apply", "--reason", "both hosts", check=True)
    image = source.image(NAME, two.shared / "new.fs")
    source.define(NAME, image, hookhost.interface(MAC))
    with taps.listening(world.inside, outside.DEVICE, two.shared / "heard") as ear:
        source.virsh("start", NAME)
        with source.wait(lambda: opened(world), "it is reached") as flow:
            assert ticks(flow, 2)
            two.migrate()
            assert ticks(flow, 8), (source.log(), target.log())
        with target.wait(lambda: opened(world), "it is reached where it is now") as flow:
            assert ticks(flow, 1)
        assert not world.reaches(ADDRESS, 22)
        target.wait(lambda: not labelled(source) and labelled(target), "its labels have gone with it")
    assert icmp(ear) == [], "what the policy denies was heard at no time"
    target.forget(NAME)
