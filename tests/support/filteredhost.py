"""A host whose firewall is in force, as an administrator has it: real guests on a real bridge, and a world.

Every machine has its address by its name in the policy. `world` is what lies beyond the uplink; the mirror of
patches is one address there. Each guest pings the world all the time, which is denied.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fleethost
import guests
import hookhost
import outside
import taps
from fleethost import FleetHost
from fleetstates import NEW, OLD, filesystem
from outside import World

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
WORKLOAD = f"""
stty -F /dev/ttyS1 raw -echo
(while read -r order; do eval "$order"; echo "DID $order"; done </dev/ttyS1) &
mount -t ext4 /dev/vda /mnt
for port in 22 443 5432; do nc -ll -p $port -e cat & done
n=0
while :; do
  n=$((n+1))
  if [ -e /sys/class/net/eth0 ] && ! ip addr show dev eth0 | grep -q 'inet '; then
    ip addr add 192.0.2.$(printf %d 0x$(cut -d: -f6 /sys/class/net/eth0/address))/24 dev eth0
    ip link set eth0 up
  fi
  ping -c 1 -w 1 {GATE} >/dev/null 2>&1 &
  usleep 250000
  echo ALIVE $n
done
"""
"""Its address is by its MAC, also on a card that it gets later."""


def mac_of(name: str) -> str:
    """Return the MAC from which a guest knows its address."""
    return f"52:54:00:00:00:{int(ADDRESSES[name].rpartition('.')[2]):02x}"


@contextmanager
def running(folder: Path) -> Iterator[tuple[FleetHost, World]]:
    """Run the host with its agent, and the world beyond its uplink; nothing is applied yet."""
    with fleethost.running(folder, WORKLOAD) as host:
        filesystem(folder, "old", OLD)
        filesystem(folder, "new", NEW)
        host.policy(POLICY)
        addresses = [f"{GATE}/24", f"{MIRROR}/24"]
        with host.up(), outside.joined([host.daemon], fleethost.BRIDGE, "up0", addresses) as world:
            yield host, world


def begin(host: FleetHost, name: str, state: str = "new", devices: str = "") -> None:
    """Define and start a machine, with one card on the bridge where nothing else is said."""
    devices = devices or hookhost.interface(mac_of(name))
    host.define(name, host.image(name, host.folder / f"{state}.fs"), devices)
    host.virsh("start", name)


def asks(host: FleetHost, name: str, address: str, port: int, source: str = "") -> bool:
    """Tell whether a guest gets an answer from there."""
    seen = guests.lines(host.serial(name)).count("REPLY")
    bound = f"-s {source} " if source else ""
    host.tell(name, f"echo ask | timeout 2 nc {bound}-w 1 {address} {port} | sed s/ask/REPLY/")
    return guests.lines(host.serial(name)).count("REPLY") > seen


@contextmanager
def hearing(host: FleetHost, world: World, name: str) -> Iterator[taps.Ear]:
    """Hear what comes out of the uplink."""
    with taps.listening(world.inside, outside.DEVICE, host.folder / f"heard-{name}") as ear:
        yield ear


def sent(ear: taps.Ear, name: str) -> set[str]:
    """Return what was heard of a machine: "arp", "answers" on port 443, other "ipv4" and "ipv6".

    "neighbours" is what a machine may always ask for with IPv6: its neighbours, and a router. "rarp" is how
    QEMU says where it is after a restore.
    """
    kinds = {"0x0806": "arp", "0x8035": "rarp", "0x0800": "ipv4"}
    found = set()
    for source, protocol, frame in ear.frames():
        if source == mac_of(name):
            header, kind = frame[40:42], frame[108:110]
            asks = protocol == "0x86dd" and header == "3a" and kind in {"85", "87", "88"}
            answers = protocol == "0x0800" and frame[46:48] == "06" and int(frame[68:72], 16) == 443
            other = "answers" if answers else kinds.get(protocol, "ipv6")
            found.add("neighbours" if asks else other)
    return found


HARMLESS = frozenset({"arp", "rarp", "neighbours", "answers"})
"""What a web server may send by the policy of which the world has asked."""


def tap_of(host: FleetHost, name: str) -> str:
    """Return the tap of a machine's only card, "" while it has none."""
    lines = [line.split() for line in host.virsh("domiflist", name).stdout.splitlines()]
    return next((words[0] for words in lines if words and words[-1] == mac_of(name)), "")


def link(host: FleetHost, *arguments: str) -> str:
    """Run ip(8) with `link` on the host, as somebody by hand; return what it says."""
    command = [*host.daemon.inside_network, "ip", "-d", "link", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def alarms(host: FleetHost) -> list[str]:
    """Return what alarms the record's log has, in order."""
    with host.records() as records, records.reading() as record:
        entries = record.log_entries(0, 10_000)
    return [json.loads(entry.body)["reason"] for entry in entries if entry.kind == "alarm"]
