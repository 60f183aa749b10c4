"""The firewall between two hosts of one record: whom they believe, and machines that migrate between them.

web01 begins on the left host, db01 on the right one; `world` is what both uplinks lead to. A guest pings the
world all the time, which nobody allows it: any ping that leaves a host was not filtered. One that serves on
port 80 speaks first and is never spoken to: what it sends are answers to a flow that the other host has seen.
"""

import contextlib
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import outside
import pytest
import taps
import twohosts
from firewallworld import ip_packet
from fleethost import FleetHost
from fleetstates import NEW, filesystem
from frames import checked
from twohosts import TwoHosts, asks

from undercroft.usecases.fleet.starts.arrivals import may_be_arriving, on_their_way

MISSING = twohosts.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-between-hosts"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

GATE = "192.0.2.1"
WEB, DB = "192.0.2.21", "192.0.2.22"
ANSWER_S = 2.0
CERTIFIED = ("certified", "")
STRANGER = bytes.fromhex("020000000099")
MACS = {"web01": "52:54:00:00:00:15", "db01": "52:54:00:00:00:16", "web02": "52:54:00:00:00:17"}
POLICY = f"""version: 1
labels:
  web: {{machines: "web*"}}
  db: {{machines: "db*"}}
  ops: {{label: ops}}
addresses: {{web01: {WEB}, db01: {DB}}}
ports: {{uplinks: up0}}
firewall:
  - {{from: web, to: db, allow: [tcp/5432]}}
  - {{from: world, to: web, allow: [tcp/443, tcp/80]}}
  - {{from: ops, to: db, allow: [tcp/22]}}
"""
WORKLOAD = f"""
stty -F /dev/ttyS1 raw -echo
(while read -r order; do eval "$order"; echo "DID $order"; done </dev/ttyS1) &
mount -t ext4 /dev/vda /mnt
n=$(printf %d 0x$(cut -d: -f6 /sys/class/net/eth0/address))
ip addr add 192.0.2.$n/24 dev eth0 && ip link set eth0 up
for port in 22 443 5432; do nc -ll -p $port -e cat & done
printf '#!/bin/sh\\nwhile echo TICK; do usleep 100000; done\\n' >/push; chmod +x /push
nc -ll -p 80 -e /push &
n=0
while :; do
  n=$((n+1))
  ping -c 1 -w 1 -W 1 {GATE} >/dev/null &
  usleep 250000
  echo ALIVE $n
done
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    """Both hosts, whose agents run under the policy, with a machine on each."""
    folder = tmp_path_factory.mktemp("hosts")
    new = filesystem(folder, "new", NEW)
    with twohosts.running(folder, WORKLOAD, (f"{GATE}/24",)) as hosts:
        for host in (hosts.left, hosts.right):
            host.policy(POLICY)
            host.start_agent()
        hosts.left.undercroft("firewall", "apply", "--reason", "both", check=True)
        for name, host in (("web01", hosts.left), ("db01", hosts.right)):
            hosts.begin(name, host, new, MACS[name])
        for name, host in (("web01", hosts.left), ("db01", hosts.right)):
            host.goes_on(name)
        yield hosts


def labelled(host: FleetHost) -> set[str]:
    """Return the taps that have a label in the kernel of a host."""
    return set(re.findall(r'"([^"]+)" :', _listed(host, "map", "classes")))


def sources(host: FleetHost) -> set[str]:
    """Return the addresses that machines of a host may send from."""
    return set(re.findall(r"192\.0\.2\.[0-9]+", _listed(host, "map", "sources4")))


def _listed(host: FleetHost, kind: str, name: str) -> str:
    command = [*host.daemon.inside_network, "nft", "list", kind, "bridge", "undercroft", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def frames(ear: taps.Ear, name: str) -> list[bytes]:
    """Return what was heard of a machine."""
    return [bytes.fromhex(frame) for source, _, frame in ear.frames() if source == MACS[name]]


def pings(ear: taps.Ear, name: str) -> list[bytes]:
    """Return the pings of a machine that were heard."""
    return [frame for frame in frames(ear, name) if frame[12:14] == b"\x08\x00" and frame[23] == 1]


class Pushed:
    """A connection to a server that speaks and is not spoken to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def goes_on(self, timeout_s: float = 30.0) -> bool:
        """Tell whether anything comes that was not sent before."""
        self._connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._connection.recv(1 << 16):
                pass
        self._connection.settimeout(timeout_s)
        try:
            return bool(self._connection.recv(1))
        except OSError:
            return False

    def speak(self) -> None:
        """Say something."""
        self._connection.sendall(b"x")


def is_believed(hosts: TwoHosts) -> bool:
    """Open a flow to db01 from the wire in web01's name; tell whether db01 answers to it."""
    right, mac = hosts.right, MACS["db01"]
    (tap,) = [line.split()[0] for line in right.virsh("domiflist", "db01").stdout.splitlines() if mac in line]
    with taps.listening(right.daemon.inside_network, tap, right.folder / f"db-{time.monotonic_ns()}") as ear:
        port = 40_000 + time.monotonic_ns() % 20_000
        send(hosts, port)
        ends = time.monotonic() + ANSWER_S
        while time.monotonic() < ends:
            if any(frame[34:38] == struct.pack(">HH", 5432, port) for frame in frames(ear, "db01")):
                return True
            time.sleep(0.05)
    return False


def send(hosts: TwoHosts, port: int) -> None:
    """Send db01 a SYN in web01's name."""
    tcp = struct.pack(">HHIIBBHHH", port, 5432, 1, 0, 0x50, 2, 1024, 0, 0)
    packet = ip_packet(4, socket.inet_aton(WEB), socket.inet_aton(DB), 6, tcp)
    to_right(hosts, mac_of("db01") + STRANGER + b"\x08\0" + packet)


def to_right(hosts: TwoHosts, *frames: bytes) -> None:
    """Send frames from the wire to the right host, some hundred a second."""

    def put() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((twohosts.port_of(hosts.right), 0))
            for frame in frames:
                wire.send(checked(frame))
                time.sleep(0.005)

    hosts.world.call(put)


def mac_of(name: str) -> bytes:
    return bytes.fromhex(MACS[name].replace(":", ""))


def take(host: FleetHost, address: str) -> None:
    """Have web01 take an address, say that it has it, and ping the world from it."""
    order = f"arping -c 1 -w 1 -U -I eth0 -s {address} {address}; ping -c 1 -w 1 -W 1 -I {address} {GATE}"
    host.tell("web01", f"ip addr add {address}/32 dev eth0; {order}; ip addr del {address}/32 dev eth0")


def taken(ear: taps.Ear, address: str) -> list[bytes]:
    """Return what was heard of web01 from this address, or about it."""
    return [frame for frame in frames(ear, "web01") if socket.inet_aton(address) in frame[14:]]


def test_a_machine_reaches_on_another_host_what_the_policy_allows_and_nothing_else(hosts: TwoHosts) -> None:
    left, right, world = hosts.left, hosts.right, hosts.world
    assert asks(left, "web01", DB, 5432)
    assert not asks(left, "web01", DB, 443)
    assert not asks(right, "db01", WEB, 443)
    assert world.reaches(WEB, 443)
    assert not world.reaches(DB, 5432), "it is web's alone"


def test_a_label_that_one_host_s_machine_gets_counts_on_the_other_host(hosts: TwoHosts) -> None:
    left = hosts.left
    assert not asks(left, "web01", DB, 22)
    left.undercroft("machine", "web01", "--label", "ops", "-y", check=True)
    left.wait(lambda: asks(left, "web01", DB, 22), "both hosts know the label")
    left.undercroft("machine", "web01", "--label", "", "-y", check=True)
    left.wait(lambda: not asks(left, "web01", DB, 22), "and that it is gone")


def test_an_address_of_another_host_s_machine_does_not_leave_the_host_of_who_takes_it(
    hosts: TwoHosts,
) -> None:
    with hosts.hearing(hosts.left) as ear:
        take(hosts.left, DB)
        assert hosts.world.reaches(WEB, 443)
    assert frames(ear, "web01"), "it is heard with its own"
    assert not taken(ear, DB)


def test_a_machine_that_migrates_is_filtered_from_its_first_moment_and_its_flows_go_on(
    hosts: TwoHosts,
) -> None:
    left, right, world = hosts.left, hosts.right, hosts.world
    here, there = labelled(left), labelled(right)
    assert is_believed(hosts), "a host is trusted with the addresses of its machines"
    with (
        hosts.hearing(right) as ear,
        world.connected(WEB, 80) as silent,
        world.connected(WEB, 443) as talk,
    ):
        pushed = Pushed(silent)
        assert pushed.goes_on()
        with hosts.migrating("web01", left, right):
            assert right.virsh("domstate", "web01").stdout.strip() == "paused"
            assert len(labelled(right) - there) == 1, "its label is there before it runs"
            assert pushed.goes_on(), "it still serves from where it is"
            assert outside.echoes(talk)
        assert pushed.goes_on(), (left.log(), right.log())
        talk.settimeout(30)
        assert outside.echoes(talk)
        right.goes_on("web01")
    assert frames(ear, "web01")
    assert pings(ear, "web01") == []
    left.wait(lambda: not labelled(left) & here, "its label is gone where it was")
    left.wait(lambda: WEB not in sources(left), "and so is its address")
    right.wait(lambda: not is_believed(hosts), "who runs here never speaks from outside")
    assert asks(right, "web01", DB, 5432)
    assert not asks(right, "web01", GATE, 443)


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_what_comes_from_where_nobody_tells_of_it_is_proven_on_its_way_and_not_without_its_label(
    hosts: TwoHosts,
) -> None:
    """No record says that it lives elsewhere: the agent that it comes to knows it from the hook alone."""
    left, right = hosts.left, hosts.right
    there = labelled(right)
    with left.without():
        hosts.begin("web02", left, left.folder.parent / "new.fs", MACS["web02"])
        left.goes_on("web02")
        with hosts.migrating("web02", left, right, mib_per_s=1):
            (tap,) = right.wait(lambda: labelled(right) - there, "it has its label")
            assert is_coming_from_nowhere(right)
            assert proven(right) == CERTIFIED
            right.stop_agent(signal.SIGKILL)
            element = f'delete element bridge undercroft classes {{ "{tap}" }}'
            subprocess.run([*right.daemon.inside_network, "nft", element], check=True)
            assert is_coming_from_nowhere(right)
            assert proven(right) == ("void", "classes")
            right.start_agent()
        right.goes_on("web02")
        right.wait(lambda: not is_coming_from_nowhere(right), "it has come")
        right.wait(lambda: proven(right) == CERTIFIED, "it is proven where it is")
        right.forget("web02")


def is_coming_from_nowhere(host: FleetHost) -> bool:
    """Tell whether a machine may be on its way to a host, which lives nowhere else by the record."""
    with host.records() as records, records.reading() as record:
        name = f"{host.folder.name}.lab"
        return bool(may_be_arriving(record, name) - on_their_way(record, name))


def proven(host: FleetHost) -> tuple[str, str]:
    """Return what `prove` calls what a host holds, and the set that is not as it should be."""
    found = host.document("firewall", "prove")
    return found["standing"], (found["counterexample"] or {"set": ""})["set"]


@pytest.mark.soak
def test_with_the_agent_killed_that_it_leaves_a_machine_s_flows_stop_and_nothing_opens(
    hosts: TwoHosts,
) -> None:
    """It is the control of flows that are moved, too: nobody has told of them here."""
    left, right, world = hosts.left, hosts.right, hosts.world
    hosts.bring("web01", right)
    right.wait(lambda: not is_believed(hosts), "it has arrived")
    with hosts.hearing(left) as ear, world.connected(WEB, 80) as silent:
        pushed = Pushed(silent)
        assert pushed.goes_on()
        with hosts.migrating("web01", right, left):
            right.stop_agent(signal.SIGKILL)
        left.goes_on("web01")
        assert not pushed.goes_on(4), "nobody knows who has asked"
        pushed.speak()
        assert pushed.goes_on(), "who opens a flow takes it up"
        assert world.reaches(WEB, 443)
        closed = not asks(left, "web01", DB, 5432)
        right.start_agent()
        assert closed, "the other host has taken it for its own, and itself for closed to it from outside"
        left.wait(lambda: asks(left, "web01", DB, 5432), "it knows better")
        right.wait(lambda: WEB not in sources(right), "its address is gone where it was")
        assert pushed.goes_on()
    assert pings(ear, "web01") == []


@pytest.mark.soak
def test_with_the_agent_killed_that_it_comes_to_a_machine_is_filtered_and_its_flows_wait_for_the_agent(
    hosts: TwoHosts,
) -> None:
    left, right, world = hosts.left, hosts.right, hosts.world
    hosts.bring("web01", left)
    with hosts.hearing(right) as ear, world.connected(WEB, 80) as silent:
        pushed = Pushed(silent)
        assert pushed.goes_on()
        with hosts.migrating("web01", left, right):
            right.stop_agent(signal.SIGKILL)
        right.goes_on("web01")
        assert world.reaches(WEB, 443), "its label is in the kernel"
        assert not asks(right, "web01", GATE, 443)
        assert not pushed.goes_on(4)
        right.start_agent()
        assert pushed.goes_on(60), (left.log(), right.log())
        right.wait(lambda: WEB not in sources(left), "it is gone where it was")
        right.wait(lambda: not is_believed(hosts), "it has arrived")
    assert pings(ear, "web01") == []


@pytest.mark.soak
def test_a_machine_that_comes_to_a_host_without_its_agent_is_closed_until_there_is_one(
    hosts: TwoHosts,
) -> None:
    left, right, world = hosts.left, hosts.right, hosts.world
    hosts.bring("web01", right)
    with hosts.hearing(left) as ear, world.connected(WEB, 80) as silent:
        pushed = Pushed(silent)
        assert pushed.goes_on()
        left.stop_agent(signal.SIGKILL)
        hosts.migrate("web01", right, left)
        left.goes_on("web01")
        assert left.closed("web01", MACS["web01"])
        assert not world.reaches(WEB, 443)
        assert not frames(ear, "web01")
        left.start_agent()
        left.wait(lambda: world.reaches(WEB, 443), "it has its labels and is opened")
        assert pushed.goes_on(60), (left.log(), right.log())
    assert pings(ear, "web01") == []


@pytest.mark.soak
def test_a_stranger_s_frames_with_a_machine_s_mac_lead_astray_what_its_neighbours_send_it(
    hosts: TwoHosts,
) -> None:
    """A limit that the threat model names: the bridge learns from what the table has no reason to deny."""
    right = hosts.right
    hosts.bring("web01", right)
    right.wait(lambda: asks(right, "web01", DB, 5432), "it reaches its neighbour")
    datagram = struct.pack(">HHHH", 5000, 5001, 12, 0) + b"none"
    packet = ip_packet(4, socket.inet_aton(GATE), socket.inet_aton("192.0.2.77"), 17, datagram)
    stolen = STRANGER + mac_of("db01") + b"\x08\0" + packet
    with hosts.hearing(right) as ear, ThreadPoolExecutor() as beside:
        sent = beside.submit(to_right, hosts, *[stolen] * 600)
        while not sent.done():
            asks(right, "web01", DB, 5432)
    assert [frame for frame in frames(ear, "web01") if frame[30:34] == socket.inet_aton(DB)]


def test_control_without_a_policy_the_same_packets_leave_both_hosts(hosts: TwoHosts) -> None:
    left, right = hosts.left, hosts.right
    left.undercroft("firewall", "apply", "--withdraw", "--reason", "control", check=True)
    hosts.bring("web01", right)
    with hosts.hearing(right) as ear:
        take(right, DB)
    assert taken(ear, DB)
    with hosts.hearing(left) as ear:
        hosts.migrate("web01", right, left)
        left.wait(lambda: pings(ear, "web01"), "pings are heard")
