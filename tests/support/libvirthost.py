"""A libvirtd with one running machine that writes without end, and says what it has synced.

Its first disk is the top of a chain of three images and holds an ext4 filesystem with numbered files; its
second holds what the guest wrote directly and never flushed.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import guests
import libvirtd

from undercroft.adapters.libvirt import LibvirtHypervisor, ScratchLimits
from undercroft.ports.hypervisor import PointInTime

if TYPE_CHECKING:
    import libvirt

NAME = "writer01"
DIRECT_BYTES = 1 << 20

_WORKLOAD = """
mount -t ext4 /dev/vda /mnt
dd if=/bin/busybox of=/dev/vdb bs=64k count=16 oflag=direct
n=0
while :; do
  n=$((n+1))
  seq 1 $(((n%20+1)*100)) | dd of=/mnt/new bs=64k conv=fsync 2>/dev/null
  mv /mnt/new /mnt/file$n
  sync
  echo SYNCED $n
  usleep 20000
done
"""


@dataclass(frozen=True)
class Host:
    """The libvirtd and its machine.

    Attributes:
        daemon: the libvirtd.
        connection: a connection of libvirt's own binding to it, that may write.
        domain: the machine.
        serial: what it writes to its console.
        scratch: where scans put their scratch files.
        chain: the images of its first disk, top first.
        direct: the image of its second disk.
    """

    daemon: libvirtd.Libvirtd
    connection: "libvirt.virConnect"
    domain: "libvirt.virDomain"
    serial: Path
    scratch: Path
    chain: tuple[Path, ...]
    direct: Path

    def hypervisor(self, limits: ScratchLimits | None = None) -> LibvirtHypervisor:
        """Return a hypervisor of ours on this libvirtd."""
        limits = limits or ScratchLimits(self.scratch)
        return LibvirtHypervisor(self.daemon.uri, limits, self.daemon.state_directory)

    @contextmanager
    def held(self, limits: ScratchLimits | None = None) -> Iterator[PointInTime]:
        """Hold the machine at one moment."""
        with self.hypervisor(limits) as hypervisor:
            machine = hypervisor.find(NAME)
            with hypervisor.point_in_time(machine) as moment:
                yield moment

    def synced(self) -> int:
        """Return the last file that the guest says is synced."""
        numbers = [line.split()[1] for line in guests.lines(self.serial) if line.startswith("SYNCED ")]
        return int(numbers[-1]) if numbers else 0

    def goes_on(self) -> None:
        """Wait until the guest has synced two more files: it runs, and its writes succeed."""
        seen = self.synced()
        wait_until(lambda: self.synced() >= seen + 2)

    def has_job(self) -> bool:
        """Tell whether a backup job runs on the machine, whoever's."""
        import libvirt  # noqa: PLC0415 - only where it is installed

        try:
            return bool(self.domain.backupGetXMLDesc())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
                raise
            return False

    def is_clean(self) -> bool:
        """Tell whether nothing is left of any scan: no job, no scratch file, no socket."""
        sockets = list(self.daemon.state_directory.glob("domain-*/undercroft*"))
        return not (self.has_job() or list(self.scratch.iterdir()) or sockets)


def missing() -> str:
    """Return why there can be no such host here, "" when there can."""
    binding = "" if find_spec("libvirt") else "needs libvirt-python: pip install libvirt-python"
    return guests.missing() or libvirtd.missing() or binding


@contextmanager
def running() -> Iterator[Host]:
    """Run the libvirtd and the machine; both are gone when the block ends."""
    import libvirt  # noqa: PLC0415 - only where it is installed

    with libvirtd.running() as daemon, closing(libvirt.open(daemon.uri)) as connection:
        images = daemon.images
        base = guests.ext4_image(images / "base.qcow2", 64, "-b", "4096")
        middle = overlay(images / "middle.qcow2", base)
        top = overlay(images / "top.qcow2", middle)
        direct = images / "direct.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(direct), "8M"], check=True)
        scratch = images / "scratch"
        scratch.mkdir(mode=0o755)
        serial = images / "serial"
        boot = guests.with_workload(guests.boot_files(), _WORKLOAD, images)
        disks = [libvirtd.disk_xml(top, "vda"), libvirtd.disk_xml(direct, "vdb")]
        domain = connection.createXML(libvirtd.domain_xml(NAME, boot, serial, disks))
        guests.wait_for(serial, "SYNCED 3")
        yield Host(daemon, connection, domain, serial, scratch, (top, middle, base), direct)


def content(number: int) -> bytes:
    """Return what the guest's file of that number holds once it is synced."""
    return "".join(f"{line}\n" for line in range(1, (number % 20 + 1) * 100 + 1)).encode()


def overlay(path: Path, backing: Path) -> Path:
    """Make an empty image on top of another."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(path)]
    subprocess.run(command, check=True)
    return path


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
