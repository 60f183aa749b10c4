"""External snapshots that a real libvirt took: states of the images below, listed by `scan -d`."""

from collections.abc import Iterator
from pathlib import Path

import diskimages
import guests
import libvirtd
import pytest
from diskimages import MIB
from machineimages import debian_tree, make_filesystem, packages

from undercroft.adapters.libvirt import LibvirtHypervisor
from undercroft.adapters.libvirt.bindings import load
from undercroft.sandbox.inprocess import InProcessReader
from undercroft.usecases.domaintarget import domain_target, known_images
from undercroft.usecases.machine import OpenMachine

MISSING = libvirtd.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("libvirt-external"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

SNAPSHOT = "<domainsnapshot><name>{name}</name><disks>{disks}</disks></domainsnapshot>"


@pytest.fixture(scope="module")
def daemon() -> Iterator[libvirtd.Libvirtd]:
    with libvirtd.running() as running:
        yield running


def disk_with(folder: Path, version: str) -> Path:
    tree = debian_tree(folder / version, packages(3, version), {})
    filesystem = make_filesystem(tree, folder / f"{version}.fs", size_bytes=8 * MIB)
    return diskimages.wrap_gpt(folder / f"{version}.raw", [filesystem])


def test_external_snapshots_are_states_of_the_images_below(daemon: libvirtd.Libvirtd, tmp_path: Path) -> None:
    old, new = disk_with(tmp_path, "1.0-1"), disk_with(tmp_path, "1.0-2")
    root = diskimages.make_qcow2(old, daemon.images / "root.qcow2")
    data = diskimages.create_qcow2(daemon.images / "data.qcow2", MIB)
    connection = load().open(daemon.uri)
    disks = [libvirtd.disk_xml(root, "vda"), libvirtd.disk_xml(data, "vdb")]
    boot = guests.boot_files()
    domain = connection.defineXML(libvirtd.domain_xml("web01", boot, daemon.images / "none", disks))
    only = load().VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    try:
        for name in ("first", "second"):
            listed = (
                f"<disk name='vda' snapshot='external'><source file='{daemon.images}/{name}.qcow2'/></disk>"
            )
            listed += "<disk name='vdb' snapshot='no'/>"
            domain.snapshotCreateXML(SNAPSHOT.format(name=name, disks=listed), only)
            if name == "first":
                content = f"write -s {new} 0 {new.stat().st_size}"
                diskimages.run("qemu-io", "-c", content, daemon.images / "first.qcow2")
        with LibvirtHypervisor(daemon.uri) as hypervisor:
            found = hypervisor.find("web01")
        assert [snapshot.name for snapshot in found.snapshots] == ["first", "second"]
        target = domain_target(
            found.name,
            found.disks,
            backing_files=known_images(found.images),
            snapshots=found.snapshots,
            problem=found.problem,
        )
        with OpenMachine(target, InProcessReader()) as machine:
            assert [state.name for state in machine.states] == ["current", "first", "second"]
            versions = {}
            for state in machine.states:
                inventory = machine.inventory(state)
                versions[state.name] = {package.version for package in inventory.packages}
                if state.external:
                    (left_out,) = (volume for volume in inventory.coverage.volumes if volume.disk == "vdb")
                    assert "left it out" in left_out.reason
            assert versions == {"first": {"1.0-1"}, "second": {"1.0-2"}, "current": {"1.0-2"}}
    finally:
        for snapshot in domain.listAllSnapshots():
            snapshot.delete(load().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        domain.undefine()
        connection.close()
