"""A revert below the patch floor on a real libvirt: refused, while the guest runs on. virsh alone does it."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import advisorydata
import guests
import libvirtd
import pytest
from diskimages import make_qcow2, run
from libvirthost import missing
from machineimages import DebPackage, debian_tree, make_filesystem
from program import PROGRAM

from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.advisories.records import KnownExploited, Status
from undercroft.model.fleet import HeldTap, Hold
from undercroft.ports.records import Records
from undercroft.store.database import AdvisoryDatabase
from undercroft.store.fleet.records import open_records

MISSING = missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("revert"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

OLD, NEW = "3.0.14-1~deb12u2", "3.0.15-1~deb12u1"
CVE = "CVE-2024-5535"
NAME = "web01"
BEFORE, CLAIMED = "before-upgrade", "claimed"
REFUSED, USAGE, NOT_FOUND, UNJUDGED = 1, 2, 3, 4
BRIDGE = "under0"
_INTERFACE = f"<interface type='bridge'><source bridge='{BRIDGE}'/><model type='virtio'/></interface>"
_PASSWD = b"root:x:0:0:root:/root:/bin/bash\n"
_SHADOW = b"root:*:19000:0:99999:7:::\n"
_WORKLOAD = "n=0\nwhile :; do n=$((n+1)); echo ALIVE $n; usleep 200000; done\n"


@dataclass(frozen=True)
class Host:
    """A libvirtd with the machine, patched since two snapshots were taken, and running."""

    daemon: libvirtd.Libvirtd
    image: Path
    serial: Path
    folder: Path

    def virsh(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.daemon.inside, "virsh", *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def undercroft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program where libvirt's own paths are this libvirtd's."""
        environment = {
            **os.environ,
            "NO_COLOR": "1",
            "UNDERCROFT_DATABASE": str(self.folder / "advisories.db"),
            "UNDERCROFT_STATE": str(self.folder / "state"),
            "UNDERCROFT_ETC": str(self.folder / "etc"),
            "UNDERCROFT_RUN": str(self.folder / "run"),
        }
        return subprocess.run(
            [*self.daemon.inside_network, PROGRAM, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def ip(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.daemon.inside_network, "ip", *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def write(self, state: Path) -> None:
        """Write a filesystem into the image of the machine, which is off."""
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", state, self.image)

    def alive(self) -> int:
        """Return the last number that the guest has counted to."""
        lines = [line for line in guests.lines(self.serial) if line.startswith("ALIVE ")]
        return int(lines[-1].split()[1]) if lines else 0

    def goes_on(self) -> None:
        """Wait until the guest counts on from where it is."""
        guests.wait_for(self.serial, f"ALIVE {self.alive() + 2}")

    def installed(self) -> str:
        """Return what debugfs, not we, finds in the image's package database."""
        raw = self.folder / "seen.raw"
        run("qemu-img", "convert", "-U", "-O", "raw", self.image, raw)
        return run("debugfs", "-R", "cat /var/lib/dpkg/status", raw)


def filesystem(folder: Path, name: str, version: str, *, left: bool = False) -> Path:
    """Make the filesystem of one state; `left` is an account of somebody who has left since."""
    account = b"left:x:1000:1000::/home/left:/bin/bash\n" if left else b""
    shadow = b"left:$y$j9T$x$y:19000:0:99999:7:::\n" if left else b""
    tree = debian_tree(
        folder / name,
        [DebPackage("libssl3", version, "openssl"), DebPackage("openssl", version)],
        {"etc/passwd": _PASSWD + account, "etc/shadow": _SHADOW + shadow},
    )
    (tree / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    return make_filesystem(tree, folder / f"{name}.fs")


def write_advisories(path: Path) -> None:
    now = datetime.now(UTC)
    tracker = advisorydata.header("debian-tracker", complete=True, published_at=now)
    mirror = advisorydata.header("mirror:debian:12:bookworm-security", published_at=now)
    kev = advisorydata.header("kev", (), published_at=now)
    fixed = advisorydata.statement(tracker, "openssl", CVE, NEW)
    other = advisorydata.statement(tracker, "bash", "CVE-1", status=Status.NOT_AFFECTED)
    listed = [advisorydata.listed(name, NEW, "openssl") for name in ("libssl3", "openssl")]
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(tracker, [fixed, other], now)
        database.replace_feed(mirror, listed, now)
        database.replace_feed(kev, [KnownExploited(CVE, date(2024, 7, 1))], now)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("revert")
    with libvirtd.running() as daemon:
        image = daemon.images / "web01.qcow2"
        serial = daemon.images / "serial"
        boot = guests.with_workload(guests.boot_files(), _WORKLOAD, daemon.images)
        host = Host(daemon, image, serial, folder)
        make_qcow2(filesystem(folder, "old", OLD, left=True), image)
        definition = folder / "web01.xml"
        devices = [libvirtd.disk_xml(image, "vda"), _INTERFACE]
        definition.write_text(libvirtd.domain_xml(NAME, boot, serial, devices))
        host.ip("link", "add", BRIDGE, "type", "bridge")
        host.virsh("define", str(definition))
        host.virsh("snapshot-create-as", NAME, BEFORE)
        host.write(filesystem(folder, "claimed", "999:1"))
        host.virsh("snapshot-create-as", NAME, CLAIMED)
        filesystem(folder, "new", NEW)
        write_advisories(folder / "advisories.db")
        yield host


@pytest.fixture
def patched(host: Host) -> Host:
    """The host whose machine is off, and patched since its snapshots were taken."""
    if host.virsh("domstate", NAME) == "running":
        host.virsh("destroy", NAME)
    host.write(host.folder / "new.fs")
    return host


@pytest.fixture
def running(patched: Host) -> Host:
    """The same, with the machine running."""
    patched.virsh("start", NAME)
    guests.wait_for(patched.serial, "ALIVE 2")
    return patched


def test_a_revert_to_an_unpatched_snapshot_is_refused_and_the_guest_runs_on(running: Host) -> None:
    host = running
    ident = host.virsh("domid", NAME)
    done = host.undercroft("revert", NAME, BEFORE)
    assert done.returncode == REFUSED, done.stderr
    assert CVE in done.stdout
    assert "known to be exploited" in done.stdout
    assert "account left" in done.stdout
    assert "not reverted to 'before-upgrade'" in done.stderr
    assert host.virsh("domid", NAME) == ident
    host.goes_on()

    told = json.loads(host.undercroft("revert", NAME, BEFORE, "--dry-run", "-f", "json").stdout)
    assert (told["action"], told["returning"][0]["floor_version"]) == ("refuse", NEW)

    done = host.undercroft("revert", NAME, CLAIMED)
    assert done.returncode == UNJUDGED, "999: in its database does not pass as patched"
    assert "no index lists it" in done.stdout
    assert host.undercroft("revert", NAME, "never").returncode == NOT_FOUND
    assert host.virsh("domid", NAME) == ident
    host.goes_on()

    done = host.undercroft("revert", NAME, BEFORE, "--anyway", "--reason", "database lost")
    assert done.returncode == 0, done.stderr
    assert f"Version: {OLD}" in host.installed()


def test_control_virsh_brings_the_hole_back_and_ends_the_guest(running: Host) -> None:
    assert f"Version: {NEW}" in running.installed()
    running.virsh("snapshot-revert", NAME, BEFORE)
    assert running.virsh("domstate", NAME) == "shut off"
    assert f"Version: {OLD}" in running.installed()


def started_in_quarantine(host: Host, records: Records, state: str) -> str:
    """Start the machine in one of its states, its tap off the bridge as the hook puts it; return the tap."""
    if host.virsh("domstate", NAME) == "running":
        host.virsh("destroy", NAME)
    host.write(host.folder / f"{state}.fs")
    host.virsh("start", NAME)
    (tap,) = [line.split()[0] for line in host.virsh("domiflist", NAME).splitlines() if BRIDGE in line]
    host.ip("link", "set", tap, "nomaster", "down")
    held = (HeldTap(tap, BRIDGE),)
    now = datetime.now(UTC)
    with records.transaction() as record:
        record.put_hold(
            Hold(host.virsh("domuuid", NAME), "ab" * 16, held, "below its floor", now, pending=False)
        )
    return tap


def test_a_quarantined_machine_is_released_once_it_is_above_its_floor(patched: Host) -> None:
    host = patched
    host.undercroft("revert", NAME, BEFORE, "--dry-run")  # the floor is on record
    with closing(open_records(str(host.folder / "state" / "fleet.db"))) as records:
        tap = started_in_quarantine(host, records, "old")
        done = host.undercroft("release", NAME, "--reason", "please")
        assert done.returncode == REFUSED
        assert CVE in done.stdout
        assert "stays in quarantine: it is below its patch floor" in done.stderr
        assert BRIDGE not in host.ip("link", "show", tap)

        tap = started_in_quarantine(host, records, "new")
        done = host.undercroft("release", NAME, "--reason", "patched")
        assert done.returncode == 0, done.stderr
        with records.reading() as record:
            assert record.holds() == ()
    shown = host.ip("link", "show", tap)
    assert f"master {BRIDGE}" in shown
    assert "UP" in shown


def test_snapshots_are_removed_by_an_explicit_command_only(patched: Host) -> None:
    host = patched
    host.virsh("snapshot-create-as", NAME, "tonight")
    with closing(open_records(str(host.folder / "state" / "fleet.db"))) as records:
        with records.transaction() as record, closing(LibvirtFleet(host.daemon.uri)) as fleet:
            record.put_survey(fleet.survey())
        done = host.undercroft("retention", NAME)
        assert (done.returncode, "tonight" in done.stdout) == (UNJUDGED, True), "nobody has read them yet"
        asked = ("retention", NAME, "--remove", "tonight", "--reason", "tidy")
        assert host.undercroft(*asked).returncode == USAGE, "nobody can be asked"
        assert "tonight" in host.virsh("snapshot-list", NAME, "--name")
        done = host.undercroft(*asked, "--yes")
        assert done.returncode == 0, done.stderr
        assert "tonight" not in host.virsh("snapshot-list", NAME, "--name")
        with records.reading() as record:
            kinds = [entry.kind for entry in record.log_entries()]
    assert kinds.count("retention") == 2


def test_an_external_snapshot_is_judged_by_the_files_below_it(patched: Host) -> None:
    host = patched
    overlay = host.daemon.images / "overlay.qcow2"
    spec = f"vda,snapshot=external,file={overlay}"
    host.virsh("start", NAME)
    host.virsh("snapshot-create-as", NAME, "outside", "--disk-only", "--diskspec", spec)
    ident = host.virsh("domid", NAME)
    done = host.undercroft("revert", NAME, "outside", "--dry-run", "-f", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["action"], told["problems"]) == (0, "allow", [])
    done = host.undercroft("revert", NAME, "outside")
    assert done.returncode == REFUSED
    assert "external" in done.stderr, "libvirt's own words"
    assert host.virsh("domid", NAME) == ident

    done = host.undercroft("revert", NAME, BEFORE)
    assert (done.returncode, CVE in done.stdout) == (REFUSED, True), "it lies in the image below"
