"""Real domains of a real libvirtd: what is found, and one moment of a machine that goes on writing."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import guests
import libvirtd
import pytest

from undercroft.adapters.libvirt import LibvirtHypervisor, ScratchLimits
from undercroft.disks import ext4, qcow2
from undercroft.disks.nbd import NbdSource
from undercroft.disks.source import DescriptorSource
from undercroft.errors import NotFoundError, OperationError
from undercroft.ports.hypervisor import ChainEntry, PointInTime

libvirt = pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")

MISSING = guests.missing() or libvirtd.missing()
pytestmark = [pytest.mark.libvirt, pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run")]

NAME = "writer01"
DIRECT_BYTES = 1 << 20
BACKING_FORMAT_EXTENSION = b"\xe2\x79\x2a\xca"
WORKLOAD = """
mount -t ext4 /dev/vda /mnt
dd if=/bin/busybox of=/dev/vdb bs=64k count=16 oflag=direct
echo DIRECT-WRITTEN
n=0
while :; do
  n=$((n+1))
  seq 1 $((n*100)) | dd of=/mnt/new bs=64k conv=fsync 2>/dev/null
  mv /mnt/new /mnt/file$n
  sync
  echo SYNCED $n
  usleep 20000
done
"""
HOLDER = """
import sys, time
from pathlib import Path
from undercroft.adapters.libvirt import LibvirtHypervisor, ScratchLimits
with LibvirtHypervisor(sys.argv[1], ScratchLimits(Path(sys.argv[2])), Path(sys.argv[3])) as hypervisor:
    with hypervisor.point_in_time(hypervisor.find(sys.argv[4])) as moment:
        print(moment._guard.pid, flush=True)
        time.sleep(60)
"""


@dataclass(frozen=True)
class Host:
    """A libvirtd with one running machine."""

    daemon: libvirtd.Libvirtd
    connection: "libvirt.virConnect"
    domain: "libvirt.virDomain"
    serial: Path
    scratch: Path
    chain: tuple[Path, ...]
    direct: Path

    def hypervisor(self, limits: ScratchLimits | None = None) -> LibvirtHypervisor:
        limits = limits or ScratchLimits(self.scratch)
        return LibvirtHypervisor(self.daemon.uri, limits, self.daemon.state_directory)

    @contextmanager
    def held(self, limits: ScratchLimits | None = None) -> Iterator[PointInTime]:
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
        try:
            return bool(self.domain.backupGetXMLDesc())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
                raise
            return False

    def is_clean(self) -> bool:
        sockets = list(self.daemon.state_directory.glob("domain-*/undercroft*"))
        return not (self.has_job() or list(self.scratch.iterdir()) or sockets)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with libvirtd.running() as daemon, closing(libvirt.open(daemon.uri)) as connection:
        images = daemon.images
        base = guests.ext4_image(images / "base.qcow2", 64, "-b", "4096")
        chain = (
            overlay(images / "top.qcow2", overlay(images / "middle.qcow2", base)),
            images / "middle.qcow2",
            base,
        )
        direct = images / "direct.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(direct), "8M"], check=True)
        scratch = images / "scratch"
        scratch.mkdir(mode=0o755)
        serial = images / "serial"
        boot = guests.with_workload(guests.boot_files(), WORKLOAD, images)
        disks = [libvirtd.disk_xml(chain[0], "vda"), libvirtd.disk_xml(direct, "vdb")]
        domain = connection.createXML(libvirtd.domain_xml(NAME, boot, serial, disks))
        guests.wait_for(serial, "SYNCED 3")
        yield Host(daemon, connection, domain, serial, scratch, chain, direct)


def overlay(path: Path, backing: Path) -> Path:
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(path)]
    subprocess.run(command, check=True)
    return path


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def files_of(source: object) -> dict[int, bytes]:
    """Return the guest's numbered files."""
    filesystem = ext4.open_filesystem(source)  # type: ignore[arg-type]
    assert filesystem.problems == ()
    found = {}
    for name, node, _kind in filesystem.entries(filesystem.root):
        if match := re.fullmatch(rb"file(\d+)", name):
            found[int(match[1])] = filesystem.read(node, 1 << 20)
    return found


def expected_content(number: int) -> bytes:
    return "".join(f"{line}\n" for line in range(1, number * 100 + 1)).encode()


def test_one_moment_holds_all_that_the_guest_called_synced_while_it_goes_on_writing(host: Host) -> None:
    before = host.synced()
    with host.held() as moment:
        after = host.synced()
        with moment.connect("vda") as connection:
            first = files_of(NbdSource(connection.fileno(), "vda"))
        host.goes_on()
        with moment.connect("vda") as connection:
            second = files_of(NbdSource(connection.fileno(), "vda"))
        moment.check()
    assert set(range(1, before + 1)) <= set(first) <= set(range(1, after + 2))
    for number, content in first.items():
        assert content == expected_content(number)
    assert second == first
    assert host.is_clean()


def test_one_moment_holds_what_the_guest_wrote_without_a_flush(host: Host) -> None:
    with host.held() as moment, moment.connect("vdb") as connection:
        found = NbdSource(connection.fileno(), "vdb").read(0, DIRECT_BYTES)
    assert found == Path("/usr/bin/busybox").read_bytes()[:DIRECT_BYTES]


def test_control_the_bare_image_lacks_what_the_guest_wrote_without_a_flush(host: Host) -> None:
    with host.direct.open("rb") as file:
        image = qcow2.open_image(DescriptorSource(file.fileno(), host.direct.stat().st_size))
        assert image.read(0, DIRECT_BYTES) == bytes(DIRECT_BYTES)


def test_a_machine_is_found_by_name_by_id_and_by_uuid_with_its_chain(host: Host) -> None:
    with host.hypervisor() as hypervisor:
        machines = {hypervisor.find(key) for key in (NAME, str(host.domain.ID()), host.domain.UUIDString())}
    (machine,) = machines
    assert machine.running
    first, second = machine.disks
    assert (first.target, first.path, first.format) == ("vda", str(host.chain[0]), "qcow2")
    assert first.chain == tuple(ChainEntry(str(path), "qcow2") for path in host.chain[1:])
    assert (second.target, second.chain) == ("vdb", ())


def test_a_name_that_nobody_has_is_answered_with_the_near_ones(host: Host) -> None:
    with (
        host.hypervisor() as hypervisor,
        pytest.raises(NotFoundError, match=r"writer02.*did you mean writer01"),
    ):
        hypervisor.find("writer02")


@pytest.fixture
def pool(host: Host) -> Iterator[Path]:
    """A storage pool of libvirt's, with a folder for images."""
    folder = host.daemon.images / "pool"
    folder.mkdir(exist_ok=True)
    xml = f"<pool type='dir'><name>images</name><target><path>{folder}</path></target></pool>"
    pool = host.connection.storagePoolCreateXML(xml)
    yield folder
    pool.destroy()


@contextmanager
def defined(host: Host, disks: list[str]) -> Iterator[str]:
    """A stopped machine."""
    boot = guests.boot_files()
    xml = libvirtd.domain_xml("stopped01", boot, host.daemon.images / "none", disks)
    domain = host.connection.defineXML(xml)
    try:
        yield "stopped01"
    finally:
        domain.undefine()


def test_a_stopped_machines_chain_comes_from_the_storage_pool(host: Host, pool: Path) -> None:
    base = guests.ext4_image(pool / "base.qcow2", 16)
    top = overlay(pool / "top.qcow2", overlay(pool / "middle.qcow2", base))
    host.connection.storagePoolLookupByName("images").refresh()
    by_volume = "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>"
    by_volume += "<source pool='images' volume='middle.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
    with defined(host, [libvirtd.disk_xml(top, "vda"), by_volume]) as name, host.hypervisor() as hypervisor:
        machine = hypervisor.find(name)
    assert not machine.running
    first, second = machine.disks
    assert first.chain == (ChainEntry(str(pool / "middle.qcow2"), ""), ChainEntry(str(base), ""))
    assert (second.path, second.chain) == (str(pool / "middle.qcow2"), (ChainEntry(str(base), ""),))


def test_a_stopped_machine_outside_the_pools_has_a_chain_that_nobody_named(host: Host) -> None:
    top = overlay(host.daemon.images / "lonely.qcow2", host.chain[2])
    with defined(host, [libvirtd.disk_xml(top, "vda")]) as name, host.hypervisor() as hypervisor:
        assert hypervisor.find(name).disks[0].chain is None


def test_a_qcow2_header_that_a_guest_wrote_on_a_raw_disk_names_nothing(host: Host, pool: Path) -> None:
    planted = overlay(pool / "planted.img", host.chain[2])
    host.connection.storagePoolLookupByName("images").refresh()
    with defined(host, [libvirtd.disk_xml(planted, "vda", "raw")]) as name, host.hypervisor() as hypervisor:
        disk = hypervisor.find(name).disks[0]
    assert (disk.format, disk.chain) == ("raw", ())
    control = host.connection.storageVolLookupByPath(str(planted)).XMLDesc()
    assert str(host.chain[2]) in control, "the pool believed the header, and would have led there"


def test_a_format_that_the_storage_pool_probed_is_not_passed_on(host: Host, pool: Path) -> None:
    secret = guests.ext4_image(pool / "secret.qcow2", 16)
    planted = overlay(pool / "was-a-guests-raw-disk.img", secret)
    top = overlay(pool / "on-planted.qcow2", planted)
    header = top.read_bytes()
    top.write_bytes(header.replace(BACKING_FORMAT_EXTENSION, b"\x12\x34\x56\x78", 1))
    host.connection.storagePoolLookupByName("images").refresh()
    with defined(host, [libvirtd.disk_xml(top, "vda")]) as name, host.hypervisor() as hypervisor:
        disk = hypervisor.find(name).disks[0]
    assert disk.chain is not None
    assert {entry.format for entry in disk.chain} == {""}
    control = host.connection.storageVolLookupByPath(str(top)).XMLDesc()
    backing = control[control.index("<backingStore>") :]
    assert str(planted) in backing
    assert "<format type='qcow2'/>" in backing, "the pool believed what a guest may have written"


def test_a_stopped_machine_cannot_be_held(host: Host) -> None:
    disks = [libvirtd.disk_xml(host.daemon.images / "some.qcow2", "vda")]
    with (
        defined(host, disks) as name,
        host.hypervisor() as hypervisor,
        pytest.raises(OperationError, match="not running"),
        hypervisor.point_in_time(hypervisor.find(name)),
    ):
        pass


def test_another_programs_backup_is_left_alone(host: Host) -> None:
    folder = host.daemon.images / "backup"
    folder.mkdir()
    folder.chmod(0o777)
    server = f"<server transport='unix' socket='{folder}/socket'/>"
    host.domain.backupBegin(f"<domainbackup mode='pull'>{server}</domainbackup>", None)
    try:
        with pytest.raises(OperationError, match=r"another program's backup.*virsh domjobinfo"), host.held():
            pass
        assert host.has_job()
    finally:
        host.domain.abortJob()
    wait_until(host.is_clean)


def test_a_second_scan_is_told_of_the_first(host: Host) -> None:
    with host.held() as moment:
        with pytest.raises(OperationError, match="another scan"), host.held():
            pass
        moment.connect("vda").close()
    assert host.is_clean()


def test_an_error_in_the_scan_ends_the_job(host: Host) -> None:
    with pytest.raises(ZeroDivisionError), host.held():
        raise ZeroDivisionError
    assert host.is_clean()


@contextmanager
def holder(host: Host) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Another process that holds the machine: (process, its guard's id)."""
    arguments = [host.daemon.uri, str(host.scratch), str(host.daemon.state_directory), NAME]
    process = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process:
        yield process, int(process.stdout.readline())
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_scan_that_is_asked_to_end_ends_its_job_itself(host: Host, number: signal.Signals) -> None:
    with holder(host) as (process, guard):
        os.kill(guard, signal.SIGKILL)
        process.send_signal(number)
        assert process.wait(20) == (-number if number == signal.SIGINT else 128 + number)
        assert host.is_clean()


def test_the_guard_ends_the_job_of_a_killed_scan(host: Host) -> None:
    with holder(host) as (process, _guard):
        process.kill()
        process.wait()
        wait_until(host.is_clean)
    host.goes_on()


def test_the_next_scan_ends_the_job_of_a_scan_that_was_killed_with_its_guard(host: Host) -> None:
    with holder(host) as (process, guard):
        os.kill(guard, signal.SIGKILL)
        process.kill()
        process.wait()
    time.sleep(0.3)
    assert host.has_job(), "control: nobody else ends it"
    with host.held() as moment:
        moment.connect("vda").close()
    assert host.is_clean()


def test_a_client_that_never_finished_its_handshake_does_not_freeze_the_guest(host: Host) -> None:
    with host.held() as moment:
        idle = moment.connect("vda")
        idle.recv(18)
    host.goes_on()
    idle.close()
    assert host.is_clean()


def test_a_machine_that_overwrites_too_much_is_let_go_and_the_scan_is_void(host: Host) -> None:
    limits = ScratchLimits(host.scratch, max_bytes=1 << 20, poll_s=0.01)
    with pytest.raises(OperationError, match="overwrote so much"), host.held(limits):
        wait_until(lambda: not host.has_job())
    assert host.is_clean()
    host.goes_on()


def test_a_machine_is_not_held_where_there_is_no_room_for_what_it_may_overwrite(host: Host) -> None:
    limits = ScratchLimits(host.scratch, max_bytes=1 << 60)
    with pytest.raises(OperationError, match="MiB are free"), host.held(limits):
        pass
    assert host.is_clean()
