"""A host with many linked clones of one base, for bench/fleet.py: libvirtd, hook and `undercroft up`."""

import os
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import fleethost  # noqa: E402 - what the tests have
import fleetstates  # noqa: E402
import hookhost  # noqa: E402
import libvirt  # noqa: E402
import libvirtd  # noqa: E402
from machineimages import DebPackage, debian_tree, make_filesystem, packages  # noqa: E402

POLICY = "version: 1\ndefaults:\n  drifting: quarantine\n"
GUEST_BYTES = 64 << 20
OWN_OFFSET = 48 << 20
"""Where a guest that ran has written something of its own: no part of its package database."""


class CloneHost:
    """The host. `fleet` is the tests' own; machines are named clone0000, clone0001, ..."""

    def __init__(self, fleet, count):
        self.fleet = fleet
        self.count = count
        self.folder = fleet.daemon.images / "clones"
        self.folder.mkdir()
        self.base = self._base()
        self.fresh, self.own = self._overlays()
        self.connection = libvirt.open(fleet.daemon.uri)
        self.started_at = 0.0
        fleet.policy(POLICY)

    @property
    def record(self):
        """Path of the record's database."""
        return self.fleet.state / "fleet.db"

    @property
    def hook(self):
        """The installed hook."""
        return self.fleet.daemon.root / "etc" / "hooks" / "qemu.d" / "undercroft"

    def clone(self, number):
        """Return the path of a clone's image."""
        return self.folder / f"{number:04}.qcow2"

    def image(self, number, *, ran=True):
        """Write a clone's image: an empty overlay, or one in which its guest has written its own bytes."""
        path = self.clone(number)
        path.write_bytes(self.own.replace(b"@" * 64, f"{number:064}".encode()) if ran else self.fresh)
        return path

    def define(self):
        """Define all machines, a pool around their images, and wait until no image is racy."""
        images = self.fleet.daemon.images
        for folder in (images, self.folder):
            xml = f"<pool type='dir'><name>{folder.name}</name><target><path>{folder}</path></target></pool>"
            self.connection.storagePoolCreateXML(xml)
        for number in range(self.count):
            self.image(number, ran=False)
            self.connection.defineXML(self.xml(number))
        time.sleep(1.5)

    def xml(self, number, *, name=""):
        """Return a clone's XML as the hook gets it too."""
        name = name or f"clone{number:04}"
        disk = libvirtd.disk_xml(self.clone(number), "vda")
        boot = (
            f"<domain type='qemu'><name>{name}</name><uuid>{uuid_of(name)}</uuid><genid/>"
            "<memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>"
            "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
        )
        nic = hookhost.interface(fleetstates.mac_of(name))
        return f"{boot}{disk}{nic}<memballoon model='none'/></devices></domain>"

    # The agent

    def up(self):
        """Start the agent; return when it was started, before it answers."""
        self.started_at = time.perf_counter()
        self.fleet.start_agent()
        return self.started_at

    def down(self):
        """End it, and forget all that it knew."""
        self.fleet.stop_agent()
        for path in self.fleet.state.glob("fleet.db*"):
            path.unlink()

    def agent_pid(self):
        """Return the agent's number as seen from here."""
        (child,) = _children(self.fleet.agent.pid)
        return child

    def sandbox_pid(self):
        """Return the number of the sandbox's warm process: bubblewrap's child."""
        (wrapper,) = _children(self.agent_pid())
        (warm,) = _children(wrapper)
        return warm

    # What is on record, asked without the program

    def ask(self, statement, *values):
        """Return the first row of a query, None where the database is not there yet."""
        try:
            with closing(sqlite3.connect(f"file:{self.record}?mode=ro", uri=True, timeout=30)) as database:
                return database.execute(statement, values).fetchone()
        except sqlite3.OperationalError:
            return None

    def wait_for_judgements_after(self, begin):
        """Return the seconds from what `begin` returns to the last judgement."""
        begun = begin()
        return self.wait_for_judgements() - begun

    def wait_for_judgements(self, *, since_us=0, timeout_s=300):
        """Wait until every machine is judged by what was read of it; return the moment."""
        statement = (
            "SELECT count(*) FROM judgement JOIN scan ON scan.subject = judgement.subject"
            " WHERE judgement.subject LIKE 'machine:%' AND scan.inventory != ''"
            " AND judgement.verdict != 'unknown' AND judgement.judged_at > ?"
        )
        deadline = time.perf_counter() + timeout_s
        while (self.ask(statement, since_us) or (0,))[0] < self.count:
            if time.perf_counter() > deadline:
                raise SystemExit(f"not all were judged:\n{self.fleet.log()[-3000:]}")
            time.sleep(0.05)
        return time.perf_counter()

    def wait_for_credentials(self, *, timeout_s=300):
        """Wait until accounts and keys of every machine are known; return the moment."""
        statement = "SELECT count(*) FROM scan WHERE subject LIKE 'machine:%' AND credentials != ''"
        deadline = time.perf_counter() + timeout_s
        while (self.ask(statement) or (0,))[0] < self.count:
            if time.perf_counter() > deadline:
                raise SystemExit(f"credentials of some are unknown:\n{self.fleet.log()[-3000:]}")
            time.sleep(0.5)
        return time.perf_counter()

    def _base(self):
        old = [DebPackage("libssl3", fleetstates.OLD, "openssl"), DebPackage("openssl", fleetstates.OLD)]
        tree = debian_tree(self.fleet.folder / "base", [*packages(498), *old])
        (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
        state = make_filesystem(tree, self.fleet.folder / "base.fs", size_bytes=GUEST_BYTES)
        return self.fleet.image("base", state)

    def _overlays(self):
        """Return the bytes of an overlay that never ran, and of one whose guest wrote 64 @ of its own."""
        path = self.folder / "model.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.base, "-F", "qcow2", path)
        fresh = path.read_bytes()
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 0x40 {OWN_OFFSET} 64", path)
        own = path.read_bytes()
        path.unlink()
        return fresh, own


def _children(pid):
    """Return the processes that any thread of a process has started."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for thread in threads for word in (thread / "children").read_text().split()]


def uuid_of(name):
    """Return a machine's UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def run(*command):
    """Run a command that has to succeed."""
    subprocess.run([str(word) for word in command], check=True)


@contextmanager
def clone_host(folder, count):
    """Run the host; all of it is gone when the block ends."""
    os.environ.pop("UNDERCROFT_DATABASE", None)
    with fleethost.running(folder) as fleet:
        host = CloneHost(fleet, count)
        try:
            yield host
        finally:
            host.connection.close()
