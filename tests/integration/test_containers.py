"""Machines in images of VMware, Hyper-V and VirtualBox: whole, and no file is opened by an image's word."""

import os
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import containerimages
import diskimages
import pytest
from containerimages import QEMU_IMAGES, make_ova, set_vmdk_cid
from diskimages import MIB, run
from machineimages import debian_tree, make_machine, packages

from undercroft.disks import vhd, vhdx
from undercroft.model.disk import DiskFormat
from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json
from undercroft.sandbox.inprocess import InProcessReader
from undercroft.usecases.identity import same_file
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.session import start_reader
from undercroft.usecases.target import from_images

SECRET = b"root:$y$secret:19000:0:99999:7:::\n"

opened_paths: list[str] = []
"""What this process has opened; an audit hook cannot be taken off again, so there is one for the module."""


@pytest.fixture(scope="module", autouse=True)
def _watch() -> None:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            opened_paths.append(arguments[0])

    sys.addaudithook(hook)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    tree = debian_tree(folder / "tree", packages(5, "1.0-1"), {})
    image = make_machine(folder / "web.qcow2", [("now", tree)], size_bytes=8 * MIB)
    return diskimages.to_raw(image, folder / "web.raw")


def read(
    image: Path,
    image_format: str | None = None,
    data_files: Sequence[Path] = (),
    backing_files: Sequence[Path] = (),
    reader: InProcessReader | None = None,
) -> Inventory:
    """Return what is installed in the machine of one image."""
    target = from_images(
        [str(image)],
        image_format=DiskFormat(image_format) if image_format else None,
        data_files=[str(path) for path in data_files],
        backing_files=[str(path) for path in backing_files],
    )
    with OpenMachine(target, reader or InProcessReader()) as machine:
        return machine.inventory(machine.state("current"))


def problem_of(inventory: Inventory) -> str:
    assert not inventory.packages
    return "\n".join(inventory.coverage.problems)


@pytest.mark.parametrize("kind", QEMU_IMAGES)
def test_a_machine_is_the_same_in_every_container(kind: str, raw: Path, tmp_path: Path) -> None:
    image = containerimages.make(kind, raw, tmp_path / f"web.{containerimages.suffix(kind)}")
    said = "vpc" if kind == "vhd-fixed" else None
    found = read(image, said, data_files=[tmp_path])
    assert found.packages == read(raw).packages
    assert len(found.packages) == 5
    assert not found.coverage.problems


def test_a_split_image_is_read_in_the_sandbox_too(raw: Path, tmp_path: Path) -> None:
    image = containerimages.make("vmdk-split", raw, tmp_path / "web.vmdk")
    ova = make_ova(tmp_path / "web.ova", [containerimages.make("vmdk-stream", raw, tmp_path / "disk.vmdk")])
    reader = start_reader()
    try:
        for path in (image, ova):
            target = from_images([str(path)], data_files=[str(tmp_path)])
            with OpenMachine(target, reader) as machine:
                assert len(machine.inventory(machine.state("current")).packages) == 5
    finally:
        reader.close()


# Names of extents


def descriptor(*extents: str) -> str:
    start = ["# Disk DescriptorFile", "version=1", "CID=00000001", "parentCID=ffffffff"]
    return "\n".join([*start, 'createType="monolithicFlat"', *extents, ""])


@pytest.mark.parametrize("how", ["absolute", "above", "in a folder", "link"])
def test_an_extent_that_names_a_file_of_the_host_is_not_opened(how: str, tmp_path: Path) -> None:
    """The control: qemu-img opens what the descriptor names and gives out the secret."""
    outside, folder = tmp_path / "outside", tmp_path / "images"
    outside.mkdir()
    (folder / "deeper").mkdir(parents=True)
    secret = outside / "shadow"
    secret.write_bytes(SECRET.ljust(4096, b"\0"))
    (folder / "link.vmdk").symlink_to(secret)
    (folder / "deeper" / "shadow").write_bytes(secret.read_bytes())
    name = {
        "absolute": str(secret),
        "above": "../outside/shadow",
        "in a folder": "deeper/shadow",
        "link": "link.vmdk",
    }[how]
    image = folder / "web.vmdk"
    image.write_text(descriptor(f'RW 8 FLAT "{name}" 0'))
    run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", image, tmp_path / "stolen.raw")
    assert (tmp_path / "stolen.raw").read_bytes().startswith(SECRET)
    opened_paths.clear()
    for allowed in ([], [folder], [image], [folder / "deeper"]):
        assert f"{name!r}, which is opened only if you name it too: --data-file FILE" in problem_of(
            read(image, data_files=allowed)
        )
    assert not {str(secret), str(folder / "link.vmdk"), name} & set(opened_paths)


@pytest.mark.parametrize("name", ["/dev/null", "/proc/self/mem", ".", "..", "", "\\\\.\\PhysicalDrive0"])
def test_devices_and_folders_are_no_extents(name: str, tmp_path: Path) -> None:
    image = tmp_path / "web.vmdk"
    image.write_text(descriptor(f'RW 8 FLAT "{name}" 0'))
    opened_paths.clear()
    assert problem_of(read(image, data_files=[tmp_path]))
    assert [path for path in opened_paths if path == name] == []


def test_one_file_is_not_read_under_two_names(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(4096))
    os.link(tmp_path / "a", tmp_path / "b")
    image = tmp_path / "web.vmdk"
    image.write_text(descriptor('RW 8 FLAT "a" 0', 'RW 8 FLAT "b" 0'))
    assert "names one file under several names" in problem_of(read(image, data_files=[tmp_path]))
    image.write_text(descriptor('RW 1 FLAT "web.vmdk" 0'))
    assert "names one file under several names" in problem_of(read(image, data_files=[tmp_path]))


def test_an_image_of_more_files_than_a_job_takes_is_unread(tmp_path: Path) -> None:
    image = tmp_path / "web.vmdk"
    image.write_text(descriptor(*(f'RW 8 FLAT "e{number}" 0' for number in range(201))))
    assert "its disk lies in 201 files, the limit is 200" in problem_of(read(image, data_files=[tmp_path]))


def test_an_image_of_two_hundred_files_is_read(raw: Path, tmp_path: Path) -> None:
    content = raw.read_bytes()
    sectors = len(content) // 512
    lines, start = [], 0
    for number in range(200):
        end = sectors * (number + 1) // 200
        (tmp_path / f"e{number}").write_bytes(content[start * 512 : end * 512])
        lines.append(f'RW {end - start} FLAT "e{number}" 0')
        start = end
    image = tmp_path / "web.vmdk"
    image.write_text(descriptor(*lines))
    reader = start_reader()
    try:
        with OpenMachine(from_images([str(image)], data_files=[str(tmp_path)]), reader) as machine:
            assert len(machine.inventory(machine.state("current")).packages) == 5
    finally:
        reader.close()


# Changed extents


def test_a_changed_extent_is_a_changed_machine(raw: Path, tmp_path: Path) -> None:
    image = containerimages.make("vmdk-flat", raw, tmp_path / "web.vmdk")
    flat = tmp_path / "web-flat.vmdk"
    target = from_images([str(image)], data_files=[str(tmp_path)])

    def identities() -> tuple[object, ...]:
        with OpenMachine(target, InProcessReader()) as machine:
            return machine.identities(machine.state("current"))

    before = identities()
    assert [Path(file.path).name for file in before] == ["web.vmdk", "web-flat.vmdk"]  # type: ignore[attr-defined]
    with flat.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(b"x")
    after = identities()
    assert before[0] == after[0]
    assert not same_file(before[1], after[1])  # type: ignore[arg-type]
    assert before[1] != after[1]


class WritingReader(InProcessReader):
    """A reader under which somebody writes to a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        answer = super().call(job, arguments, descriptors)
        if job == "inventory":
            with self._path.open("r+b") as file:
                file.seek(2 * MIB)
                file.write(os.urandom(16))
        return answer


def test_an_extent_that_is_written_during_the_read_is_told(raw: Path, tmp_path: Path) -> None:
    image = containerimages.make("vmdk-flat", raw, tmp_path / "web.vmdk")
    flat = tmp_path / "web-flat.vmdk"
    found = read(image, data_files=[tmp_path], reader=WritingReader(flat))
    assert any(str(flat) in problem and "changed during" in problem for problem in found.coverage.problems)


# Parents


def test_a_vmdk_overlay_is_read_with_the_parent_that_was_named_and_was_not_written_since(
    raw: Path, tmp_path: Path
) -> None:
    base = containerimages.make("vmdk", raw, tmp_path / "base.vmdk")
    top = tmp_path / "top.vmdk"
    run("qemu-img", "create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", top)
    assert "--backing FILE" in problem_of(read(top))
    assert len(read(top, backing_files=[base]).packages) == 5
    set_vmdk_cid(base, b"deadbee1")
    assert "is not the parent" in problem_of(read(top, backing_files=[base]))


def test_a_parent_is_of_its_childs_format_whatever_its_bytes_say(raw: Path, tmp_path: Path) -> None:
    """A guest of a raw base can write any header onto it."""
    base = containerimages.make("vmdk", raw, tmp_path / "base.vmdk")
    top = tmp_path / "top.vmdk"
    run("qemu-img", "create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", top)
    run("qemu-img", "convert", "-O", "qcow2", raw, base)
    assert "is no sparse vmdk extent" in problem_of(read(top, backing_files=[base]))


def test_a_qcow2_overlay_of_a_vmdk_is_read_by_the_format_that_its_header_names(
    raw: Path, tmp_path: Path
) -> None:
    base = containerimages.make("vmdk-split", raw, tmp_path / "base.vmdk")
    top = diskimages.create_qcow2(
        tmp_path / "top.qcow2", raw.stat().st_size, backing=base, backing_format="vmdk"
    )
    assert len(read(top, backing_files=[base], data_files=[tmp_path]).packages) == 5
    assert "--data-file FILE" in problem_of(read(top, backing_files=[base]))


def pieces(raw: Path, tmp_path: Path, kind: str) -> tuple[Path, Path, bytes]:
    """Return a base without part of the machine, an image with that part alone, and the whole disk."""
    content = raw.read_bytes()
    middle = 4 * MIB
    (tmp_path / "base.raw").write_bytes(content[:middle] + b"\x77" * (len(content) - middle))
    base = containerimages.make(kind, tmp_path / "base.raw", tmp_path / f"base.{kind}")
    child = tmp_path / f"child.{kind}"
    image_format = QEMU_IMAGES[kind][0]
    option = ["-o", "block_size=1M,block_state_zero=off"] if kind == "vhdx" else []
    if kind == "vhd":
        option = ["-o", "force_size=on"]
        run("qemu-img", "convert", "-O", "vpc", *option, tmp_path / "base.raw", base)
    run("qemu-img", "create", "-q", "-f", image_format, *option, child, str(len(content)))
    (tmp_path / "rest").write_bytes(content[middle:])
    write = f"write -s {tmp_path / 'rest'} {middle} {len(content) - middle}"
    run("qemu-io", "-f", image_format, "-c", write, child)
    return base, child, content


def test_a_vdi_difference_finds_its_parent_by_uuid(raw: Path, tmp_path: Path) -> None:
    base, child, _ = pieces(raw, tmp_path, "vdi")
    containerimages.as_vdi_child(child, base)
    other = containerimages.make("vdi", raw, tmp_path / "other.vdi")
    assert "is opened only if you name its file" in problem_of(read(child, backing_files=[other]))
    assert len(read(child, backing_files=[raw, other, base]).packages) == 5


def test_a_vhd_difference_takes_each_sector_from_where_its_bitmap_says(raw: Path, tmp_path: Path) -> None:
    base, child, content = pieces(raw, tmp_path, "vhd")
    containerimages.as_vhd_child(child, base, "C:\\disks\\base.vhd")
    run("qemu-io", "-f", "vpc", "-c", f"write -s {raw} 0 4M", base)  # as the parent has it
    assert "--backing FILE" in problem_of(read(child))
    with diskimages.opened(child) as source, diskimages.opened(base) as below:
        whole = vhd.open_image(source, backing=vhd.open_image(below))
        assert whole.read(4 * MIB, MIB) == content[4 * MIB : 5 * MIB]
    containerimages.clear_vhd_bits(child, block=2, first_sector=3, count=5)
    with diskimages.opened(child) as source, diskimages.opened(base) as below:
        disk = vhd.open_image(source, backing=vhd.open_image(below))
        start = 4 * MIB
        assert disk.read(start, 16 * 512) == (
            content[start : start + 3 * 512] + b"\x77" * 5 * 512 + content[start + 8 * 512 : start + 16 * 512]
        )


def test_a_vhdx_difference_takes_each_sector_from_where_its_bitmap_says(raw: Path, tmp_path: Path) -> None:
    base, child, content = pieces(raw, tmp_path, "vhdx")
    containerimages.as_vhdx_child(child, base, "base.vhdx", {5: range(7, 100)})
    assert "--backing FILE" in problem_of(read(child))
    with diskimages.opened(child) as source, diskimages.opened(base) as below:
        info = vhdx.inspect(source)
        assert (info.backing_name, info.parent_ident) == ("base.vhdx", vhdx.inspect(below).ident)
        disk = vhdx.open_image(source, backing=vhdx.open_image(below))
        expected = bytearray(content)
        start = 5 * MIB
        expected[start : start + 7 * 512] = b"\x77" * 7 * 512
        expected[start + 100 * 512 : start + MIB] = b"\x77" * (MIB - 100 * 512)
        assert disk.read(0, len(content)) == expected


# Archives


def test_the_disks_of_an_archive_are_read_in_their_place(raw: Path, tmp_path: Path) -> None:
    disk = containerimages.make("vmdk-stream", raw, tmp_path / "root.vmdk")
    blank = diskimages.make_raw(tmp_path / "blank.raw", 2 * MIB)
    data = containerimages.make("vmdk-stream", blank, tmp_path / "data.vmdk")
    ova = make_ova(tmp_path / "web.ova", [disk, data])
    with OpenMachine(from_images([str(ova)]), InProcessReader()) as machine:
        reports = machine.disk_reports()
        assert [(report.name, report.format) for report in reports] == [("disk0", "vmdk"), ("disk1", "vmdk")]
        found = machine.inventory(machine.state("current"))
        assert found.packages == read(raw).packages
        assert not [note for note in found.coverage.notes if "manifest" in note]


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_an_archive_whose_disk_is_not_what_the_manifest_says_is_refused(
    digest: str, raw: Path, tmp_path: Path
) -> None:
    disk = containerimages.make("vmdk-stream", raw, tmp_path / "root.vmdk")
    ova = make_ova(tmp_path / "web.ova", [disk], manifest=digest)
    assert len(read(ova).packages) == 5
    data = bytearray(ova.read_bytes())
    data[data.rindex(b"KDMV") + 100] ^= 1
    ova.write_bytes(data)
    assert f"is not what its manifest says, its {digest} digest differs" in problem_of(read(ova))


def test_an_archive_without_a_manifest_is_read_with_a_note(raw: Path, tmp_path: Path) -> None:
    disk = containerimages.make("vmdk-stream", raw, tmp_path / "root.vmdk")
    found = read(make_ova(tmp_path / "web.ova", [disk], manifest=None))
    assert len(found.packages) == 5
    assert any("has no manifest" in note for note in found.coverage.notes)


def test_an_archive_of_several_machines_is_unread(raw: Path, tmp_path: Path) -> None:
    disk = containerimages.make("vmdk-stream", raw, tmp_path / "root.vmdk")
    assert "describes 2 machines" in problem_of(read(make_ova(tmp_path / "web.ova", [disk], machines=2)))


def test_the_disks_of_an_unpacked_archive_are_read_where_they_are_named(raw: Path, tmp_path: Path) -> None:
    containerimages.make("vmdk-stream", raw, tmp_path / "root.vmdk")
    image = tmp_path / "web.ovf"
    image.write_text(containerimages.envelope(["root.vmdk"]))
    assert "--data-file FILE" in problem_of(read(image))
    assert len(read(image, data_files=[tmp_path]).packages) == 5
    image.write_text(containerimages.envelope(["/etc/hostname"]))
    opened_paths.clear()
    assert "--data-file FILE" in problem_of(read(image, data_files=[tmp_path]))
    assert "/etc/hostname" not in opened_paths


def test_a_link_in_an_archive_is_no_disk(raw: Path, tmp_path: Path) -> None:
    ova = tmp_path / "web.ova"
    (tmp_path / "machine.ovf").write_text(containerimages.envelope(["root.vmdk"]))
    link = tarfile.TarInfo("root.vmdk")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
    with tarfile.open(ova, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tmp_path / "machine.ovf", "machine.ovf")
        archive.addfile(link)
    assert "it is not in the archive" in problem_of(read(ova))
