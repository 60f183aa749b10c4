"""Post-copy: a machine runs on its new host while the process that serves its memory is on the old one still.

web01 leaves the left host, on which its neighbour db01 stays. What db01 sends it goes to where it runs, and
not to the tap of a process that never runs again. QEMU can take page faults of its guest as root alone, with
root's rights, so libvirt starts it so here.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirtd
import pytest
import twohosts
from fleethost import FleetHost
from fleetstates import NEW, filesystem
from twohosts import TwoHosts, asks

MISSING = twohosts.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("fleet-postcopy"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

GATE = "192.0.2.1"
WEB, DB = "192.0.2.21", "192.0.2.22"
MACS = {"web01": "52:54:00:00:00:15", "db01": "52:54:00:00:00:16"}
ROOT = 'user = "root"\ngroup = "root"\nclear_emulator_capabilities = 0\n'
POLICY = f"""version: 1
labels:
  web: {{machines: "web*"}}
  db: {{machines: "db*"}}
addresses: {{web01: {WEB}, db01: {DB}}}
ports: {{uplinks: up0}}
firewall:
  - {{from: db, to: web, allow: [tcp/443]}}
"""
WORKLOAD = """
stty -F /dev/ttyS1 raw -echo
(while read -r order; do eval "$order"; echo "DID $order"; done </dev/ttyS1) &
mount -t ext4 /dev/vda /mnt
n=$(printf %d 0x$(cut -d: -f6 /sys/class/net/eth0/address))
ip addr add 192.0.2.$n/24 dev eth0 && ip link set eth0 up
nc -ll -p 443 -e cat &
nc -ll -p 22 -e cat &
n=0
while :; do
  n=$((n+1))
  usleep 250000
  echo ALIVE $n
done
"""


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoHosts]:
    """Both hosts, whose agents run under the policy, and both machines on the left one."""
    monkeypatch.setattr(libvirtd, "_QEMU_CONF", libvirtd._QEMU_CONF + ROOT)
    new = filesystem(tmp_path, "new", NEW)
    with twohosts.running(tmp_path, WORKLOAD, (f"{GATE}/24",)) as hosts:
        for host in (hosts.left, hosts.right):
            host.policy(POLICY)
            host.start_agent()
        hosts.left.undercroft("firewall", "apply", "--reason", "both", check=True)
        for name, mac in MACS.items():
            hosts.begin(name, hosts.left, new, mac)
        for name in MACS:
            hosts.left.goes_on(name)
        yield hosts


@contextmanager
def post_copying(hosts: TwoHosts, name: str) -> Iterator[None]:
    """Migrate a machine to the right host: it runs there without all of its memory while the block runs."""
    left, right = hosts.left, hosts.right
    described = left.daemon.images / f"{name}.there.xml"
    xml = left.virsh("dumpxml", "--migratable", name).stdout
    described.write_text(re.sub(f"{re.escape(str(left.daemon.images))}/", f"{right.daemon.images}/", xml))
    arguments = ["migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--unsafe", "--postcopy"]
    arguments += ["--bandwidth", "1", "--postcopy-bandwidth", "1"]
    arguments += ["--xml", str(described), "--persistent-xml", str(described)]
    arguments += ["--migrateuri", f"unix://{hosts.disks}/memory.sock", name, right.daemon.uri]
    command = [*left.daemon.inside, "virsh", "-c", "qemu:///system", *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        left.wait(lambda: _has_switched(left, name) or running.poll() is not None, "it has switched over")
        assert running.poll() is None, running.communicate()[0]
        right.wait(lambda: "post-copy" in _state(right, name), "it runs there")
        yield
        assert "post-copy" in _state(left, name), "its process is on the left host still"
        left.virsh("migrate-setspeed", name, "1000", "--postcopy")
        told, _ = running.communicate(timeout=60)
        assert running.returncode == 0, told
    finally:
        if running.poll() is None:
            running.kill()
            running.communicate()


def _has_switched(host: FleetHost, name: str) -> bool:
    return host.virsh("migrate-postcopy", name, check=False).returncode == 0


def _state(host: FleetHost, name: str) -> str:
    return host.virsh("domstate", name, "--reason", check=False).stdout.strip()


def test_a_machine_that_leaves_by_post_copy_is_reached_where_it_runs_and_filtered_there(
    hosts: TwoHosts,
) -> None:
    left, right = hosts.left, hosts.right
    assert asks(left, "db01", WEB, 443)
    assert not asks(left, "db01", WEB, 22)
    with post_copying(hosts, "web01"):
        left.wait(lambda: asks(left, "db01", WEB, 443), "db01 reaches it on the right host")
        assert not asks(left, "db01", WEB, 22)
        assert left.undercroft("firewall", "prove").returncode == 0
    left.wait(lambda: asks(left, "db01", WEB, 443), "and when all of it has gone")
    assert not asks(left, "db01", WEB, 22)
    right.goes_on("web01")
