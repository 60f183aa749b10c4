"""Real domains of a real libvirtd: what is found, and one moment of a machine that goes on writing."""

import re
import shutil
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
from undercroft.model.domain import ChainEntry

MISSING = libvirthost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("libvirt-scan"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

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
        found = image.read(0, DIRECT_BYTES)
    if any(found):
        pytest.skip("this QEMU writes a qcow2 image's tables before the guest asks for a flush")


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


def test_a_stopped_machines_chain_is_never_what_an_image_says(host: Host, pool: Path) -> None:
    secret = guests.ext4_image(pool / "secret.qcow2", 16)
    handed_in = overlay(pool / "handed-in.qcow2", secret)
    host.connection.storagePoolLookupByName("images").refresh()
    by_volume = "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>"
    by_volume += "<source pool='images' volume='handed-in.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
    disks = [libvirtd.disk_xml(handed_in, "vda"), by_volume]
    with defined(host, disks) as name, host.hypervisor() as hypervisor:
        machine = hypervisor.find(name)
    assert not machine.running
    first, second = machine.disks
    assert (first.chain, second.path, second.chain) == (None, str(handed_in), None)
    control = host.connection.storageVolLookupByPath(str(handed_in)).XMLDesc()
    assert str(secret) in control, "the pool believed the header, and would have led there"


def test_a_qcow2_header_that_a_guest_wrote_on_a_raw_disk_names_nothing(host: Host, pool: Path) -> None:
    planted = overlay(pool / "planted.img", host.chain[2])
    host.connection.storagePoolLookupByName("images").refresh()
    with defined(host, [libvirtd.disk_xml(planted, "vda", "raw")]) as name, host.hypervisor() as hypervisor:
        disk = hypervisor.find(name).disks[0]
    assert (disk.format, disk.chain) == ("raw", ())
    control = host.connection.storageVolLookupByPath(str(planted)).XMLDesc()
    assert str(host.chain[2]) in control, "the pool believed the header, and would have led there"


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
