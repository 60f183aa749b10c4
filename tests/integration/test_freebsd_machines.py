"""FreeBSD: GPT and slices with disklabels, its names of devices, its packages, in the sandbox too."""

import json
from pathlib import Path

import pytest
import ufsimages
from diskimages import MIB, make_raw, opened, partition
from freebsdmachines import gpt_disk, label, mbr_disk, partx, tree, ufs
from program import run_program

from undercroft.disks.machine import Machine, open_machine
from undercroft.disks.partitions import read_table
from undercroft.inventory.collect import collect
from undercroft.model.inventory import Kernel, OsRelease

pytestmark = pytest.mark.skipif(bool(ufsimages.missing()), reason=ufsimages.missing() or "-")

INSTALLED = {"curl": "8.9.1", "pkg": "1.21.3", "sudo": "1.9.15p5_4", "vim": "9.1.0707"}
RELEASE = OsRelease("freebsd", "14.1", "", "FreeBSD 14.1-RELEASE-p5", "/bin/freebsd-version")
KERNELS = (
    Kernel("14.0-RELEASE", "/boot/kernel.old/kernel", ""),
    Kernel("14.1-RELEASE-p5", "/boot/kernel/kernel", ""),
)
FSTAB = """# Device  Mountpoint  FStype  Options  Dump  Pass#
{root}  /  ufs  rw  1  1
{swap}  none  swap  sw  0  0
fdesc  /dev/fd  fdescfs  rw  0  0
proc  /proc  procfs  rw  0  0
{more}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("freebsd")


def machine_of(disk: Path, name: str = "vda") -> Machine:
    with opened(disk) as source:
        machine = open_machine([(name, source)])
        assert machine.tree is not None, machine.coverage.problems
        machine.tree.read(b"/bin/freebsd-version", 4096)
    return machine


def one_root(folder: Path, root: str, swap: str = "/dev/vtbd0p3") -> Path:
    folder.mkdir()
    fstab = FSTAB.format(root=root, swap=swap, more="")
    return ufs(tree(folder / "tree", fstab, INSTALLED), folder / "root", 16)


def test_a_machine_is_read_in_the_sandbox_with_its_packages_on_a_volume_of_their_own(folder: Path) -> None:
    fstab = FSTAB.format(root="/dev/vtbd0p2", swap="/dev/gpt/swap0", more="/dev/gpt/varfs /var ufs rw 2 2\n")
    root = ufs(tree(folder / "tree", fstab), folder / "root", 16)
    var = tree(folder / "whole", "", INSTALLED) / "var"
    disk = gpt_disk(folder / "disk", root, ufs(var, folder / "var", 12))
    done = run_program(folder / "db", "packages", disk, "--image-format", "raw", "-f", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert {each["name"]: each["version"] for each in found["packages"]} == INSTALLED
    assert {each["manager"] for each in found["packages"]} == {"pkg"}
    assert found["os"]["name"] == RELEASE.name
    volumes = {each["number"]: (each["content"], each["mounts"]) for each in found["coverage"]["volumes"]}
    assert volumes == {1: ("bios-boot", []), 2: ("ufs2", ["/"]), 3: ("swap", []), 4: ("ufs2", ["/var"])}
    assert found["coverage"]["problems"] == []


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("vda", "/dev/vtbd0p2"),
        ("sda", "/dev/ada0p2"),
        ("vda", "/dev/ada0p2"),
        ("nvme0n1", "/dev/nda0p2"),
        ("vda", "/dev/gpt/rootfs"),
        ("vda", "/dev/ufs/ROOT"),
        ("vda", "/dev/ufsid/{uuid}"),
    ],
)
def test_a_root_is_found_by_each_of_its_names(name: str, root: str, tmp_path: Path) -> None:
    path = one_root(tmp_path / "one", root.format(uuid="0123abcd89ef4567"))
    content = ufsimages.patched(path.read_bytes(), 8192 + 144, "II", 0x0123ABCD, 0x89EF4567)
    path.write_bytes(ufsimages.marked(content, label=b"ROOT"))
    coverage = machine_of(gpt_disk(tmp_path / "disk", path), name).coverage
    assert coverage.problems == ()
    assert [volume.mounts for volume in coverage.volumes] == [(), ("/",), ()]


@pytest.mark.parametrize("point", ["/var/db", "/var/db/pkg"])
def test_a_volume_of_the_package_database_that_is_not_there_is_a_problem(point: str, tmp_path: Path) -> None:
    fstab = FSTAB.format(root="/dev/vtbd0p2", swap="/dev/gpt/swap0", more=f"/dev/gpt/db {point} ufs rw 2 2\n")
    root = ufs(tree(tmp_path / "tree", fstab, INSTALLED), tmp_path / "root", 16)  # an old one lies below it
    coverage = machine_of(gpt_disk(tmp_path / "disk", root)).coverage
    assert f"{point} is /dev/gpt/db, which is on none of the given disks" in coverage.problems[0]


def test_a_kernel_that_names_no_release_is_told(tmp_path: Path) -> None:
    source = tree(tmp_path / "tree", FSTAB.format(root="/dev/vtbd0p2", swap="none", more=""), INSTALLED)
    (source / "boot/kernel/kernel").write_bytes(b"\x7fELF" + bytes(5000))
    disk = gpt_disk(tmp_path / "disk", ufs(source, tmp_path / "root", 16))
    with opened(disk) as opened_disk:
        inventory = collect(open_machine([("vda", opened_disk)]))
    assert inventory.kernels == KERNELS[:1]
    assert inventory.coverage.problems == ("/boot/kernel/kernel: the kernel's image names no release",)


def test_a_root_on_another_disk_is_told(tmp_path: Path) -> None:
    coverage = machine_of(gpt_disk(tmp_path / "disk", one_root(tmp_path / "one", "/dev/vtbd1p2"))).coverage
    assert "names /dev/vtbd1p2 as /, which is not vda2" in coverage.problems[0]


def test_a_volume_that_was_not_unmounted_makes_the_answer_incomplete(tmp_path: Path) -> None:
    path = one_root(tmp_path / "one", "/dev/vtbd0p2")
    path.write_bytes(ufsimages.marked(path.read_bytes(), clean=0, flags=0x0A))
    inventory = collect(machine_of(gpt_disk(tmp_path / "disk", path)))
    assert inventory.coverage.problems[0] == (
        "vda2: ufs the volume was not unmounted and the soft-updates journal is not replayed: "
        "it is read as it stands"
    )
    assert inventory.coverage.complete is False


@pytest.mark.parametrize("absolute", [False, True])
def test_partitions_in_a_slice_are_those_of_its_disklabel(absolute: bool, tmp_path: Path) -> None:
    path = one_root(tmp_path / "one", "/dev/vtbd0s1a", "/dev/vtbd0s1b")
    disk = mbr_disk(tmp_path / "disk", path, absolute=absolute)
    with opened(disk) as source:
        table = read_table(source)
        inventory = collect(open_machine([("vda", source)]))
    found = {part.number: (part.start_bytes // 512, part.size_bytes // 512) for part in table.partitions}
    assert [part.alias for part in table.partitions] == ["s1a", "s1b"]
    blkid = {number: (start, sectors) for number, start, sectors in partx(disk)}
    assert found == {number: blkid[number] for number in (5, 6)}
    assert inventory.os == RELEASE
    assert inventory.kernels == KERNELS
    assert {package.name for package in inventory.packages} == INSTALLED.keys()
    assert inventory.coverage.problems == ()
    assert [(each.content, each.mounts) for each in inventory.coverage.volumes] == [
        ("ufs2", ("/",)),
        ("swap", ()),
    ]


def test_a_label_on_a_whole_disk_or_in_a_slice_that_is_the_disk_is_read(tmp_path: Path) -> None:
    path = one_root(tmp_path / "one", "/dev/ada0a", "/dev/ada0b")
    disk = mbr_disk(tmp_path / "disk", path, start=0)
    parts = [(0, 32_768, 7), (32_768, 8192, 1), (0, 40_960, 0)]
    bare = make_raw(tmp_path / "bare", 21 * MIB, {0: path.read_bytes(), 512: label(parts)})
    for image, kind in ((disk, "mbr"), (bare, "bsd")):
        with opened(image) as source:
            table = read_table(source)
            assert (table.kind, [part.alias for part in table.partitions]) == (kind, ["a", "b"])
            assert {each.name for each in collect(open_machine([("sda", source)])).packages} == set(INSTALLED)


def test_what_a_damaged_label_says_is_not_believed(tmp_path: Path) -> None:
    good = label([(16, 2048, 7), (0, 0, 0), (0, 8192, 0)])
    outside = label([(16, 1 << 31, 7), (4096, 2048, 1), (8, 8192, 0)])
    disk = make_raw(tmp_path / "disk", 8 * MIB)
    partition(disk, "label: dos\nstart=2048, size=8192, type=a5\n")
    for sector, expected in (
        (good, ["s1a"]),
        (good[:140] + b"\1" + good[141:], [""]),
        (bytes(512), [""]),
        (outside, ["s1a", "s1b"]),
    ):
        with disk.open("r+b") as file:
            file.seek(MIB + 512)
            file.write(sector)
        with opened(disk) as source:
            table = read_table(source)
        assert [part.alias for part in table.partitions] == expected
        assert all(part.start_bytes + part.size_bytes <= 5 * MIB for part in table.partitions)
    assert "beyond the disk's end" in table.partitions[0].problem
