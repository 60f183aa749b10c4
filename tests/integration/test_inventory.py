"""Inventories of real disks, made by mke2fs, sfdisk and qemu-img, compared with what dpkg-query says."""

import hmac
import re
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from diskimages import MIB, make_raw, opened, run, wrap_gpt, wrap_mbr
from machineimages import DebPackage, debian_tree, packages

from undercroft.disks.machine import UnreadDisk, open_machine
from undercroft.disks.source import BlockSource
from undercroft.inventory.collect import collect
from undercroft.model.disk import VolumeStatus
from undercroft.model.inventory import Boot, Inventory, Kernel
from undercroft.model.schema import decode, encode

ROOT, USR, VAR, DATA = (f"{number:08x}-0000-4000-8000-000000000000" for number in range(1, 5))
INSTALLED = [
    *packages(300),
    DebPackage("openssl", "3.0.11-1~deb12u2"),
    DebPackage("libssl3", "3.0.11-1~deb12u2", source="openssl"),
    DebPackage("linux-image-6.1.0-28-amd64", "6.1.119-1", source="linux-signed-amd64 (6.1.119+1)"),
]
STATUS = "/var/lib/dpkg/status"
INODE_SIZE_OFFSET = 4
FORMAT = "${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"
GRUB = (
    'if [ "${next_entry}" ] ; then\n set default="${next_entry}"\nelse\n set default="0"\nfi\n'
    "menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {\n"
    f"\tlinux\t/boot/vmlinuz-6.1.0-28-amd64 root=UUID={ROOT} ro quiet\n}}\n"
)


def filesystem(tree: Path, fs_uuid: str, *options: str, size_mib: int = 24) -> Path:
    image = make_raw(tree.with_suffix(".fs"), size_mib * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-U", fs_uuid, *options, "-d", tree, image)
    return image


def asked_of_dpkg(admin: Path) -> list[tuple[str, ...]]:
    output = run("dpkg-query", f"--admindir={admin}", "-W", "-f", FORMAT)
    return sorted(tuple(line.split("\t")) for line in output.splitlines())


def listed(inventory: Inventory) -> list[tuple[str, ...]]:
    return [
        (package.name, package.version, package.architecture, package.source, package.source_version)
        for package in inventory.packages
    ]


def inventory_of(disks: Sequence[tuple[str, Path | UnreadDisk]]) -> Inventory:
    """Open raw disks, take the inventory, and bring it through the schema as the sandbox does."""
    with ExitStack() as files:
        sources: list[tuple[str, BlockSource | UnreadDisk]] = [
            (name, files.enter_context(opened(disk)) if isinstance(disk, Path) else disk)
            for name, disk in disks
        ]
        found = collect(open_machine(sources))
    assert decode(Inventory, encode(found)) == found
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian tree with a fstab for one partition, GRUB, and software of its own in /usr/local."""
    fstab = f"UUID={ROOT} / ext4 errors=remount-ro 0 1\n/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
    folder = debian_tree(
        tmp_path_factory.mktemp("inventory") / "tree",
        INSTALLED,
        {
            "etc/fstab": fstab.encode(),
            "boot/grub/grub.cfg": GRUB.encode(),
            "usr/local/bin/tool": b"#!/bin/sh\n",
        },
    )
    (folder / "usr/local/bin/tool").chmod(0o755)
    (folder / "var/lib/dpkg/updates").mkdir()
    (folder / "var/lib/dpkg/info").mkdir()
    return folder


def test_a_disk_with_one_partition_is_inventoried_as_dpkg_query_lists_it(tree: Path, tmp_path: Path) -> None:
    disk = wrap_gpt(tmp_path / "disk.raw", [filesystem(tree, ROOT)])
    found = inventory_of([("vda", disk)])
    assert listed(found) == asked_of_dpkg(tree / "var/lib/dpkg")
    assert found.os is not None
    assert (found.os.ident, found.os.version, found.os.source) == ("debian", "12", "/etc/os-release")
    release = "6.1.0-28-amd64"
    assert found.kernels == (Kernel(release, f"/boot/vmlinuz-{release}", f"linux-image-{release}"),)
    assert found.boot == Boot(release, "/boot/grub/grub.cfg")
    assert found.unowned_examples == ("/usr/local/bin/tool",)
    assert found.coverage.complete
    assert found.coverage.volumes[0].mounts == ("/",)


def test_this_machines_own_database_is_read_from_an_image_of_it(tmp_path: Path) -> None:
    own = Path("/var/lib/dpkg")
    if not (own / "status").exists():
        pytest.skip("needs a machine with dpkg")
    copy = tmp_path / "tree/var/lib/dpkg"
    copy.mkdir(parents=True)
    run("cp", "-a", own / "status", own / "updates", copy)
    (copy / "info").mkdir()
    (tmp_path / "tree/etc").mkdir()
    (tmp_path / "tree/etc/debian_version").write_text("12.0\n")
    found = inventory_of([("vda", filesystem(tmp_path / "tree", ROOT, size_mib=64))])
    output = run("dpkg-query", f"--admindir={copy}", "-W", "-f", "${Status}\t" + FORMAT).splitlines()
    present = [line.split("\t") for line in output if not line.startswith(("deinstall", "purge", "unknown"))]
    assert listed(found) == sorted(tuple(row[1:]) for row in present)
    assert found.coverage.complete


def test_a_merged_usr_is_one_folder_by_both_of_its_names(tree: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    run("cp", "-a", tree, merged)
    (merged / "usr/lib/modules/6.1.0-28-amd64").mkdir(parents=True)
    (merged / "lib").symlink_to("usr/lib")
    (merged / "usr/lib/own").write_text("x")
    with opened(filesystem(merged, ROOT)) as source:
        machine = open_machine([("vda", source)])
        assert machine.tree is not None
        assert machine.tree.realpath(b"/lib/own") == b"/usr/lib/own"
        assert collect(machine).kernels[0].package == "linux-image-6.1.0-28-amd64"


@pytest.fixture(scope="module")
def images(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The disks of a machine whose /usr, /var and /srv lie on volumes of their own."""
    folder = tmp_path_factory.mktemp("disks")
    run("cp", "-a", tree, folder / "root")
    for name in ("usr", "var"):
        (folder / "root" / name).rename(folder / name)
        (folder / "root" / name).mkdir()
    (folder / "data").mkdir()
    (folder / "data/site.db").write_text("x")
    fstab = (
        f"UUID={ROOT} / ext4 defaults 0 1\nLABEL=usr /usr ext4 defaults 0 2\n"
        f"UUID={VAR} /var ext4 defaults 0 2\n/dev/vdc1 /srv ext4 defaults 0 2\n/dev/vdc2 none swap sw 0 0\n"
    )
    (folder / "root/etc/fstab").write_text(fstab)
    swap = make_raw(folder / "swap.fs", 2 * MIB)
    run("mkswap", "-q", swap)
    return {
        "vda": wrap_gpt(
            folder / "vda", [filesystem(folder / "root", ROOT), filesystem(folder / "usr", USR, "-L", "usr")]
        ),
        "vdb": wrap_mbr(folder / "vdb", [filesystem(folder / "var", VAR)], logical=1),
        "vdc": wrap_gpt(folder / "vdc", [filesystem(folder / "data", DATA), swap]),
    }


class TestManyDisks:
    """Several disks are one machine, and each that is missing is told."""

    def test_all_disks_together_are_one_machine(self, images: dict[str, Path], tree: Path) -> None:
        found = inventory_of(list(images.items()))
        assert listed(found) == asked_of_dpkg(tree / "var/lib/dpkg")
        assert found.os is not None
        assert found.unowned_executables == 1
        assert found.coverage.complete, found.coverage.problems
        mounted = {f"{volume.disk}{volume.number}": volume.mounts for volume in found.coverage.volumes}
        assert mounted == {
            "vda1": ("/",),
            "vda2": ("/usr",),
            "vdb5": ("/var",),
            "vdc1": ("/srv",),
            "vdc2": (),
        }
        assert found.coverage.volumes[-1].status is VolumeStatus.NOT_APPLICABLE

    def test_without_the_disk_of_var_the_answer_is_incomplete_and_names_the_cure(
        self, images: dict[str, Path]
    ) -> None:
        found = inventory_of([("vda", images["vda"])])
        assert found.packages == ()
        assert any(
            "/var is UUID" in problem and "(-a DISK)" in problem for problem in found.coverage.problems
        )
        assert any("no dpkg database" in problem for problem in found.coverage.problems)
        assert any("/srv is /dev/vdc1" in note for note in found.coverage.notes)

    def test_a_disk_of_data_that_is_encrypted_takes_nothing_away(self, images: dict[str, Path]) -> None:
        disks = [("vda", images["vda"]), ("vdb", images["vdb"]), ("vdc", UnreadDisk("encrypted with LUKS"))]
        found = inventory_of(disks)
        assert found.coverage.complete, found.coverage.problems
        assert len(found.packages) == len(INSTALLED)

    def test_disks_in_another_order_are_found_by_what_they_carry(self, images: dict[str, Path]) -> None:
        found = inventory_of([("sda", images["vdb"]), ("sdb", images["vda"]), ("sdc", images["vdc"])])
        assert found.coverage.complete, found.coverage.problems
        assert len(found.packages) == len(INSTALLED)


class TestDiscoverablePartitions:
    """Without an fstab, systemd mounts partitions by their GPT types; so does the reader."""

    ROOT_TYPE = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    USR_TYPE = "8484680c-9521-48c6-9c11-b0720656f69e"
    VAR_TYPE = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
    MACHINE_ID = "0123456789abcdef0123456789abcdef"

    def disk(self, tree: Path, folder: Path, var_uuid: str) -> Path:
        run("cp", "-a", tree, folder / "root")
        for name in ("usr", "var"):
            (folder / "root" / name).rename(folder / name)
            (folder / "root" / name).mkdir()
        (folder / "root/etc/fstab").unlink()
        (folder / "root/etc/machine-id").write_text(f"{self.MACHINE_ID}\n")
        names = {"root": ROOT, "usr": USR, "var": VAR}
        parts = [filesystem(folder / name, fs_uuid) for name, fs_uuid in names.items()]
        disk = wrap_gpt(folder / "disk", parts)
        for number, type_id in enumerate((self.ROOT_TYPE, self.USR_TYPE, self.VAR_TYPE), 1):
            run("sfdisk", "-q", "--no-tell-kernel", "--part-type", disk, str(number), type_id)
        run("sfdisk", "-q", "--no-tell-kernel", "--part-uuid", disk, "3", var_uuid)
        return disk

    def test_usr_and_the_machines_own_var_are_mounted(self, tree: Path, tmp_path: Path) -> None:
        found = inventory_of([("vda", self.disk(tree, tmp_path, own_var_uuid(self.MACHINE_ID)))])
        assert [volume.mounts for volume in found.coverage.volumes] == [("/",), ("/usr",), ("/var",)]
        assert listed(found) == asked_of_dpkg(tree / "var/lib/dpkg")
        assert found.coverage.complete, found.coverage.problems

    def test_another_machines_var_is_left_alone_as_systemd_leaves_it(
        self, tree: Path, tmp_path: Path
    ) -> None:
        found = inventory_of([("vda", self.disk(tree, tmp_path, DATA))])
        assert [volume.mounts for volume in found.coverage.volumes] == [("/",), ("/usr",), ()]
        assert not found.coverage.complete


def own_var_uuid(machine_id: str) -> str:
    """By the Discoverable Partitions Specification, computed apart from the reader's code."""
    key, message = bytes.fromhex(machine_id), uuid.UUID(TestDiscoverablePartitions.VAR_TYPE).bytes
    return str(uuid.UUID(bytes=hmac.digest(key, message, "sha256")[:16], version=4))


def test_the_uuid_of_a_machines_own_var_is_the_one_that_systemd_derives() -> None:
    own = Path("/etc/machine-id")
    if not own.exists() or len(own.read_text().strip()) != 32:
        pytest.skip("needs a machine with a machine id")
    told = run("systemd-id128", "machine-id", "-u", f"--app-specific={TestDiscoverablePartitions.VAR_TYPE}")
    assert own_var_uuid(own.read_text().strip()) == told.strip()


def test_an_lvm_disk_is_unread_and_says_what_it_is(tmp_path: Path) -> None:
    disk = make_raw(tmp_path / "pv", 8 * MIB, {512: b"LABELONE" + bytes(16) + b"LVM2 001" + b"a" * 32})
    found = inventory_of([("vda", disk)])
    (problem,) = found.coverage.problems
    assert problem.startswith("no root filesystem was found: vda: lvm label: its checksum is 0x0")


def test_a_file_that_fails_its_checksum_makes_the_answer_incomplete(tree: Path, tmp_path: Path) -> None:
    image = filesystem(tree, ROOT)
    place = re.search(
        r"located at block (\d+), offset (0x\w+)", run("debugfs", "-R", f"imap {STATUS}", image)
    )
    assert place is not None
    with image.open("r+b") as file:
        file.seek(int(place[1]) * _block_bytes(image) + int(place[2], 16) + INODE_SIZE_OFFSET)
        file.write(b"\xff\xff")
    found = inventory_of([("vda", image)])
    assert found.packages == ()
    assert any(f"not read because of it: {STATUS}" in problem for problem in found.coverage.problems)


def _block_bytes(image: Path) -> int:
    size = re.search(r"Block size: +(\d+)", run("dumpe2fs", "-h", image))
    assert size is not None
    return int(size[1])
