"""The firewall as an administrator has it: a policy is applied, and real guests on a real bridge meet it.

Every machine has its address by its name in the policy. `world` is what lies beyond the uplink; the mirror of
patches is one address there.
"""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import fleethost
import guests
import hookhost
import outside
import pytest
import taps
from fleethost import FleetHost
from fleetstates import NEW, OLD, filesystem
from outside import World

MISSING = fleethost.missing() or ("" if shutil.which("nft") else "nft is missing: apt-get install nftables")
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-firewall"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

GATE, MIRROR = "192.0.2.1", "192.0.2.10"
ADDRESSES = {"web01": "192.0.2.21", "db01": "192.0.2.22", "web02": "192.0.2.23", "web03": "192.0.2.24"}
POLICY = f"""version: 1
defaults: {{drifting: quarantine}}
labels:
  web: {{machines: "web*"}}
  db: {{machines: "db*"}}
  quarantine: {{verdict: quarantined}}
addresses:
  patch-mirror: {MIRROR}
  {json.dumps(ADDRESSES)[1:-1].replace(", ", chr(10) + "  ")}
ports: {{machines: [vnet, tap], uplinks: up0}}
firewall:
  - {{from: web, to: db, allow: [tcp/5432]}}
  - {{from: world, to: web, allow: [tcp/443, tcp/80]}}
  - {{from: quarantine, to: patch-mirror, allow: [tcp/443]}}
never:
  - {{from: quarantine, to: "*", except: patch-mirror}}
  - {{from: world, to: db}}
"""
WORKLOAD = """
stty -F /dev/ttyS1 raw -echo
(while read -r order; do eval "$order"; echo "DID $order"; done </dev/ttyS1) &
mount -t ext4 /dev/vda /mnt
n=$(printf %d 0x$(cut -d: -f6 /sys/class/net/eth0/address))
ip addr add 192.0.2.$n/24 dev eth0 && ip link set eth0 up
for port in 22 443 5432; do nc -ll -p $port -e cat & done
n=0
while :; do
  n=$((n+1))
  ping -c 1 -w 1 192.0.2.1 >/dev/null &
  usleep 250000
  echo ALIVE $n
done
"""


def mac_of(name: str) -> str:
    return f"52:54:00:00:00:{int(ADDRESSES[name].rpartition('.')[2]):02x}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    folder = tmp_path_factory.mktemp("firewall")
    with fleethost.running(folder, WORKLOAD) as host:
        filesystem(folder, "old", OLD)
        filesystem(folder, "new", NEW)
        host.policy(POLICY)
        with host.up():
            yield host


@pytest.fixture(scope="module")
def world(host: FleetHost) -> Iterator[World]:
    addresses = [f"{GATE}/24", f"{MIRROR}/24"]
    with outside.joined([host.daemon], fleethost.BRIDGE, "up0", addresses) as world:
        yield world


@pytest.fixture(scope="module")
def applied(host: FleetHost, world: World) -> None:
    host.undercroft("firewall", "apply", "--reason", "the issue's", check=True)


@pytest.fixture(scope="module")
def fleet(host: FleetHost, applied: None) -> Iterator[FleetHost]:
    """The host with web01 and db01, which run and are steady."""
    for name in ("web01", "db01"):
        begin(host, name)
    for name in ("web01", "db01"):
        host.goes_on(name)
    yield host
    for name in ("web01", "db01"):
        host.forget(name)


def begin(host: FleetHost, name: str, state: str = "new", devices: str = "") -> None:
    devices = devices or hookhost.interface(mac_of(name))
    host.define(name, host.image(name, host.folder / f"{state}.fs"), devices)
    host.virsh("start", name)


def asks(host: FleetHost, name: str, address: str, port: int, source: str = "") -> bool:
    """Tell whether a guest gets an answer from there."""
    seen = guests.lines(host.serial(name)).count("REPLY")
    bound = f"-s {source} " if source else ""
    host.tell(name, f"echo ask | timeout 2 nc {bound}-w 1 {address} {port} | sed s/ask/REPLY/")
    return guests.lines(host.serial(name)).count("REPLY") > seen


def state(host: FleetHost) -> dict[str, object]:
    with host.records() as records, records.reading() as record:
        (found,) = record.filter_states()
    return {"number": found.number, "problem": found.problem, "proven": found.proven_at is not None}


def in_order(host: FleetHost) -> bool:
    found = state(host)
    return bool(found["proven"]) and not found["problem"]


def alarms(host: FleetHost) -> list[str]:
    with host.records() as records, records.reading() as record:
        entries = record.log_entries(0, 10_000)
    return [json.loads(entry.body)["reason"] for entry in entries if entry.kind == "alarm"]


@contextmanager
def hearing(host: FleetHost, world: World, name: str) -> Iterator[taps.Ear]:
    """Hear what comes out of the uplink."""
    with taps.listening(world.inside, outside.DEVICE, host.folder / f"heard-{name}") as ear:
        yield ear


def sent(ear: taps.Ear, name: str) -> set[str]:
    """Return what was heard of a machine: "arp", "answers" on port 443, other "ipv4" and "ipv6".

    "neighbours" is what a machine may always ask for with IPv6: its neighbours, and a router.
    """
    kinds = {"0x0806": "arp", "0x0800": "ipv4"}
    found = set()
    for source, protocol, frame in ear.frames():
        if source == mac_of(name):
            header, kind = frame[40:42], frame[108:110]
            asks = protocol == "0x86dd" and header == "3a" and kind in {"85", "87", "88"}
            answers = protocol == "0x0800" and frame[46:48] == "06" and int(frame[68:72], 16) == 443
            other = "answers" if answers else kinds.get(protocol, "ipv6")
            found.add("neighbours" if asks else other)
    return found


def test_the_issue_s_policy_lets_pass_what_it_allows_and_nothing_else(fleet: FleetHost, world: World) -> None:
    web, db = ADDRESSES["web01"], ADDRESSES["db01"]
    with world.serving(GATE, 443):
        assert world.reaches(web, 443)
        assert asks(fleet, "web01", db, 5432)
        assert not world.reaches(web, 22)
        assert not world.reaches(db, 5432), "never"
        assert not asks(fleet, "web01", db, 22)
        assert not asks(fleet, "db01", web, 443)
        assert not asks(fleet, "web01", GATE, 443)
    fleet.wait(lambda: in_order(fleet), "the kernel's table is proven")


def test_a_guest_that_takes_another_address_is_not_heard(fleet: FleetHost, world: World) -> None:
    with hearing(fleet, world, "spoofed") as ear:
        fleet.tell("web01", "ip addr add 192.0.2.99/24 dev eth0")
        assert not asks(fleet, "web01", GATE, 443, "192.0.2.99")
        fleet.tell("web01", "arping -c 2 -w 2 -U -I eth0 192.0.2.99; ip addr del 192.0.2.99/24 dev eth0")
        assert world.reaches(ADDRESSES["web01"], 443), "with its own it is"
    forged = bytes((192, 0, 2, 99)).hex()
    heard = [frame for source, _, frame in ear.frames() if source == mac_of("web01")]
    assert heard
    assert not [frame for frame in heard if forged in frame[12:]]


def test_not_one_denied_packet_leaves_a_guest_from_its_first_on_nor_the_next_one_on_its_tap(
    fleet: FleetHost, world: World
) -> None:
    devices = hookhost.interface(mac_of("web03")).replace("<model", "<target dev='tap7'/><model")
    with hearing(fleet, world, "first") as ear:
        begin(fleet, "web03", devices=devices)
        fleet.wait(lambda: world.reaches(ADDRESSES["web03"], 443), "it is reached")
        fleet.wait(lambda: fleet.alive("web03") >= 6, "it has sent for a while")
        fleet.forget("web03")
        fleet.define("db02", fleet.image("db02", fleet.folder / "new.fs"), devices)
        fleet.virsh("start", "db02")
        fleet.goes_on("db02")
        assert not world.reaches(ADDRESSES["web03"], 443), "the tap's name is a db's now, without an address"
        fleet.forget("db02")
    assert sent(ear, "web03") <= {"arp", "neighbours", "answers"}, "it asks for who may ask it"


def test_a_quarantined_guest_reaches_the_mirror_alone_and_a_released_one_has_its_flows(
    fleet: FleetHost, world: World
) -> None:
    begin(fleet, "web02", "old")
    fleet.wait_for_verdict("web02", "quarantined")
    fleet.goes_on("web02")
    assert fleet.on_bridge("web02", mac_of("web02"))
    with world.serving(MIRROR, 443), world.serving(GATE, 443):
        assert asks(fleet, "web02", MIRROR, 443)
        assert not asks(fleet, "web02", GATE, 443)
        assert not asks(fleet, "web02", ADDRESSES["db01"], 5432)
        assert not world.reaches(ADDRESSES["web02"], 443)
        fleet.undercroft("release", "web02", "--reason", "tonight", "--anyway", check=True)
        fleet.wait(lambda: world.reaches(ADDRESSES["web02"], 443), "the world reaches it")
        assert asks(fleet, "web02", ADDRESSES["db01"], 5432)
        assert not asks(fleet, "web02", MIRROR, 443)
    fleet.forget("web02")


def test_the_agent_killed_leaves_the_rules_and_open_flows_outlive_its_return(
    fleet: FleetHost, world: World
) -> None:
    web, db = ADDRESSES["web01"], ADDRESSES["db01"]
    with world.connected(web, 443) as flow:
        assert outside.echoes(flow)
        fleet.stop_agent(signal.SIGKILL)
        assert outside.echoes(flow)
        assert world.reaches(web, 443)
        assert not world.reaches(db, 5432)
        begin(fleet, "web03")
        assert fleet.closed("web03", mac_of("web03")), "nobody has labels for it"
        fleet.start_agent()
        assert outside.echoes(flow)
        assert not world.reaches(db, 5432)
        fleet.wait(lambda: world.reaches(ADDRESSES["web03"], 443), "it has its labels and is opened")
        assert outside.echoes(flow)
    fleet.forget("web03")


@pytest.mark.parametrize("order", ["delete table bridge undercroft", "flush table bridge undercroft"])
def test_who_takes_the_table_away_is_seen_and_undone(fleet: FleetHost, world: World, order: str) -> None:
    fleet.wait(lambda: in_order(fleet), "it is in order before")
    before = len(alarms(fleet))
    subprocess.run([*fleet.daemon.inside_network, "nft", *order.split()], check=True)
    seen = "has changed the firewall's table"
    fleet.wait(lambda: any(seen in reason for reason in alarms(fleet)[before:]), "it is seen")
    fleet.wait(lambda: not world.reaches(ADDRESSES["db01"], 5432), "it is closed again")
    fleet.wait(lambda: in_order(fleet), "and proven")
    assert world.reaches(ADDRESSES["web01"], 443)


def test_control_once_the_policy_is_withdrawn_the_same_packets_arrive(fleet: FleetHost, world: World) -> None:
    fleet.undercroft("firewall", "apply", "--withdraw", "--reason", "control", check=True)
    assert world.reaches(ADDRESSES["db01"], 5432)
    with hearing(fleet, world, "control") as ear:
        fleet.tell("web01", "ip addr add 192.0.2.99/24 dev eth0; ping -c 1 -w 1 -I 192.0.2.99 192.0.2.1")
        fleet.wait(lambda: "ipv4" in sent(ear, "web01"), "it is heard")
    assert [frame for _, _, frame in ear.frames() if bytes((192, 0, 2, 99)).hex() in frame[12:]]
