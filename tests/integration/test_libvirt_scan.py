"""Real domains of a real libvirtd: what is found, and one moment of a machine that goes on writing."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import guests
import libvirtd
import libvirthost
import pytest
from libvirthost import DIRECT_BYTES, NAME, Host, overlay

from undercroft.disks import ext4, qcow2
from undercroft.disks.nbd import NbdSource
from undercroft.disks.source import BlockSource, DescriptorSource
from undercroft.errors import NotFoundError, OperationError
from undercroft.ports.hypervisor import ChainEntry

MISSING = libvirthost.missing()
pytestmark = [pytest.mark.libvirt, pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run")]

BACKING_FORMAT_EXTENSION = b"\xe2\x79\x2a\xca"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with libvirthost.running() as running:
        yield running


def files_of(source: BlockSource) -> dict[int, bytes]:
    """Return the guest's numbered files."""
    filesystem = ext4.open_filesystem(source)
    assert filesystem.problems == ()
    found = {}
    for name, node, _kind in filesystem.entries(filesystem.root):
        if match := re.fullmatch(rb"file(\d+)", name):
            found[int(match[1])] = filesystem.read(node, 1 << 20)
    return found


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
    for number, found in first.items():
        assert found == libvirthost.content(number)
    assert second == first
    assert host.is_clean()


def test_one_moment_holds_what_the_guest_wrote_without_a_flush(host: Host) -> None:
    with host.held() as moment, moment.connect("vdb") as connection:
        found = NbdSource(connection.fileno(), "vdb").read(0, DIRECT_BYTES)
    assert found == Path(str(shutil.which("busybox"))).read_bytes()[:DIRECT_BYTES]


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


def test_a_chain_that_runs_in_a_circle_is_told(host: Host, pool: Path) -> None:
    first = guests.ext4_image(pool / "first.qcow2", 16)
    second = overlay(pool / "second.qcow2", first)
    rebase = ["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(second), str(first)]
    subprocess.run(rebase, check=True)
    host.connection.storagePoolLookupByName("images").refresh()
    with defined(host, [libvirtd.disk_xml(second, "vda")]) as name, host.hypervisor() as hypervisor:
        assert "it loops" in hypervisor.find(name).disks[0].problem


def test_a_storage_volume_that_is_not_there_is_told(host: Host) -> None:
    source = "<source pool='nowhere' volume='web01.qcow2'/><target dev='vda' bus='virtio'/>"
    disk = f"<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>{source}</disk>"
    with defined(host, [disk]) as name, host.hypervisor() as hypervisor:
        problem = hypervisor.find(name).disks[0].problem
    assert problem.startswith("storage volume nowhere/web01.qcow2: Storage pool not found")


def test_a_stopped_machine_cannot_be_held(host: Host) -> None:
    disks = [libvirtd.disk_xml(host.daemon.images / "some.qcow2", "vda")]
    with (
        defined(host, disks) as name,
        host.hypervisor() as hypervisor,
        pytest.raises(OperationError, match="not running"),
        hypervisor.point_in_time(hypervisor.find(name)),
    ):
        pass
