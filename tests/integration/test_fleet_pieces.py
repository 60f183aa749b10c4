"""Machines of a fleet whose disks lie in several files, in the real sandbox; and who tries to gain by it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from containerimages import as_vhd_child, make
from diskimages import run, to_raw
from layers import domain_of
from machineimages import debian_tree, make_machine, packages

from undercroft.model.disk import DiskFormat
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.ports.reader import Reader
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.layers import LayerReader
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.session import start_reader
from undercroft.usecases.target import DiskTarget, MachineTarget, NamedFile, from_images

VERSION = "1.0-secret"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = start_reader()
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    image = make_machine(folder / "m.qcow2", [("now", debian_tree(folder / "tree", packages(3, VERSION)))])
    return to_raw(image, folder / "raw")


def machine(name: str, disk: Path, kind: str, number: int = 1) -> Domain:
    domain = domain_of(name, disk, number=number)
    chain = () if kind == "raw" else None
    return replace(domain, disks=tuple(replace(each, format=kind, chain=chain) for each in domain.disks))


def files_of(*domains: Domain) -> HostFiles:
    """Return the files of a host with one pool that lists all that lies beside the first machine's disk."""
    folder = Path(domains[0].disks[0].path).parent
    volumes = tuple(PoolVolume("default", path.name, str(path), "raw", 5) for path in folder.iterdir())
    return HostFiles(Survey("host", "test:///default", datetime.now(UTC), domains, volumes))


def versions(reader: Reader, target: MachineTarget) -> set[str]:
    found = LayerReader(reader).read(target, "current").inventory
    assert found is not None
    return {package.version for package in found.packages}


def problems(reader: Reader, target: MachineTarget) -> str:
    found = LayerReader(reader).read(target, "current").inventory
    assert found is not None
    return " ".join(found.coverage.problems)


@pytest.mark.parametrize("kind", ["vmdk-split", "vmdk-flat"])
def test_a_machine_on_a_split_or_flat_vmdk_is_read(
    reader: Reader, raw: Path, tmp_path: Path, kind: str
) -> None:
    web = machine("web", make(kind, raw, tmp_path / "web.vmdk"), "vmdk")
    assert versions(reader, files_of(web).target_for(web)) == {VERSION}


def test_a_machine_on_a_qcow2_with_an_external_data_file_is_read(
    reader: Reader, raw: Path, tmp_path: Path
) -> None:
    image = tmp_path / "web.qcow2"
    options = f"data_file={tmp_path}/web-data.raw"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, image)
    web = machine("web", image, "qcow2")
    assert versions(reader, files_of(web).target_for(web)) == {VERSION}


def test_an_image_is_not_its_own_data_file(reader: Reader, raw: Path, tmp_path: Path) -> None:
    """Its own header would be what its guest boots from."""
    image = tmp_path / "web.qcow2"
    options = f"data_file={tmp_path}/web-data.raw"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, image)
    (tmp_path / "web-data.raw").unlink()
    (tmp_path / "web-data.raw").hardlink_to(image)
    target = from_images([str(image)], data_files=[f"{tmp_path}/web-data.raw"])
    assert "cannot be its data file too" in problems(reader, target)


def test_an_answer_rests_on_the_pieces_too(reader: Reader, raw: Path, tmp_path: Path) -> None:
    web = machine("web", make("vmdk-flat", raw, tmp_path / "web.vmdk"), "vmdk")
    reading = LayerReader(reader).read(files_of(web).target_for(web), "current")
    assert [Path(file.path).name for file in reading.files] == ["web.vmdk", "web-flat.vmdk"]


DESCRIPTOR = (
    '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    'RW {sectors} FLAT "{name}" 0\n'
)


@pytest.mark.parametrize(
    "name",
    ["mallory-flat.vmdk", "victim.raw", pytest.param("{folder}/victim.raw", marks=pytest.mark.soak)],
)
def test_a_guest_that_writes_a_descriptor_into_its_raw_disk_reads_no_other_machine_s(
    reader: Reader, raw: Path, tmp_path: Path, name: str
) -> None:
    """Its machine's XML says raw, and so it is read; were it vmdk, the name would not be followed."""
    victim_disk, disk = tmp_path / "victim.raw", tmp_path / "mallory.vmdk"
    victim_disk.write_bytes(raw.read_bytes())
    (tmp_path / "mallory-flat.vmdk").hardlink_to(victim_disk)
    sectors = raw.stat().st_size // 512
    text = DESCRIPTOR.format(sectors=sectors, name=name.format(folder=tmp_path)).encode()
    disk.write_bytes(text.ljust(1 << 16, b"\0"))
    victim = machine("victim", victim_disk, "raw")
    for kind in ("raw", "vmdk"):
        mallory = machine("mallory", disk, kind, number=2)
        assert versions(reader, files_of(victim, mallory).target_for(mallory)) == set()
    # The control: a reader that believes the bytes, and gets what they name.
    believed = DiskTarget("vda", NamedFile(str(disk)), format_source="libvirt")
    allowed = (NamedFile(str(tmp_path / Path(name).name), DiskFormat.RAW),)
    assert versions(reader, MachineTarget("mallory", (believed,), data_files=allowed)) == {VERSION}


def test_a_qcow2_header_in_a_raw_disk_is_the_guest_s_data(reader: Reader, raw: Path, tmp_path: Path) -> None:
    disk, victim_disk = tmp_path / "mallory.raw", tmp_path / "mallory-data.raw"
    victim_disk.write_bytes(raw.read_bytes())
    size = raw.stat().st_size
    options = f"data_file={victim_disk},data_file_raw=on"
    kept = victim_disk.read_bytes()
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, disk, str(size))
    victim_disk.write_bytes(kept)
    victim = machine("victim", victim_disk, "raw")
    mallory = machine("mallory", disk, "raw", number=2)
    files = files_of(victim, mallory)
    assert versions(reader, files.target_for(mallory)) == set()
    as_qcow2 = machine("mallory", disk, "qcow2", number=2)
    assert "machine victim writes" in problems(reader, files.target_for(as_qcow2))


def test_a_vhd_difference_that_qemu_runs_without_its_parent_is_no_clean_machine(
    reader: Reader, raw: Path, tmp_path: Path
) -> None:
    """Its owner names a patched parent, which QEMU never opens: the guest runs what the parent hides."""
    base, child = make("vhd", raw, tmp_path / "base.vhd"), tmp_path / "child.vhd"
    run("qemu-img", "create", "-q", "-f", "vpc", child, str(raw.stat().st_size))
    as_vhd_child(child, base, "base.vhd")
    web = machine("web", child, "vpc")
    target = files_of(web).target_for(web)
    assert versions(reader, target) == set()
    assert "which QEMU runs without its parent" in problems(reader, target)
    run("qemu-img", "convert", "-f", "vpc", "-O", "raw", child, tmp_path / "runs")
    assert not any((tmp_path / "runs").read_bytes()), "the control: QEMU gives none of what the parent holds"
    by_name = from_images([str(child)], backing_files=[str(base)])
    found = LayerReader(reader).read(by_name, "current").inventory
    assert found is not None
    assert {package.version for package in found.packages} == {VERSION}, "Hyper-V would"
    with OpenMachine(by_name, reader) as opened:
        assert "QEMU would run it without" in opened.inventory(opened.states[0]).coverage.notes[0]


def test_an_image_of_no_machine_gets_no_pieces(reader: Reader, raw: Path, tmp_path: Path) -> None:
    """Its format is told from its bytes, which may be what a guest wrote."""
    make("vmdk-flat", raw, tmp_path / "left.vmdk")
    files = files_of(machine("web", tmp_path / "other.qcow2", "qcow2"))
    volume = PoolVolume("default", "left.vmdk", str(tmp_path / "left.vmdk"), "raw", 5)
    assert versions(reader, files.target_for_image(volume)) == set()
