"""Live systems, made as their makers make them, come out with their packages; what is not applied is told."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import extimages
import pytest
from diskimages import MIB, opened, run, wrap_gpt
from machineimages import DebPackage, debian_tree
from program import run_program

from undercroft.disks.machine import Machine, open_machine
from undercroft.disks.readset import Recorder, replay
from undercroft.inventory.collect import collect
from undercroft.model.inventory import Inventory

pytestmark = [
    pytest.mark.skipif(not shutil.which("xorriso"), reason="needs xorriso"),
    pytest.mark.skipif(not shutil.which("mksquashfs"), reason="needs squashfs-tools"),
]

OLD = [DebPackage("openssl", "3.0.1-1"), DebPackage("bash", "5.2-1")]
NEW = [DebPackage("openssl", "3.0.2-1"), DebPackage("bash", "5.2-1"), DebPackage("live-boot", "1-1")]
FSTAB = b"overlay / overlay rw 0 0\ntmpfs /tmp tmpfs nosuid,nodev 0 0\n"
STATUS = "var/lib/dpkg/status"


def system(folder: Path, installed: Sequence[DebPackage]) -> Path:
    return debian_tree(folder, installed, {"etc/fstab": FSTAB})


def squashed(tree: Path, image: Path) -> Path:
    image.parent.mkdir(parents=True, exist_ok=True)
    run("mksquashfs", tree, image, "-quiet", "-no-progress", "-processors", "1", "-comp", "zstd")
    return image


def layer(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def status(installed: Sequence[DebPackage]) -> bytes:
    return "".join(f"{package.stanza()}\n" for package in installed).encode()


def disc(tree: Path, image: Path, *options: str | Path) -> Path:
    run("xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-V", "LIVE", *options, "-o", image, tree)
    return image


def look(*images: Path) -> tuple[Machine, Inventory]:
    """Return the machine of these disks, the first one first; its files can no longer be read."""
    names = [f"vd{letter}" for letter in "abc"]
    sources = []
    contexts = [opened(image) for image in images]
    try:
        sources = [context.__enter__() for context in contexts]
        machine = open_machine(list(zip(names, sources, strict=False)))
        return machine, collect(machine)
    finally:
        for context in contexts:
            context.__exit__(None, None, None)


def versions(inventory: Inventory) -> dict[str, str]:
    return {package.name: package.version for package in inventory.packages}


WANTED = {package.name: package.version for package in NEW}


def test_packages_of_a_debian_live_image_are_listed_by_the_program(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", NEW), medium / "live/filesystem.squashfs")
    done = run_program(tmp_path / "db", "packages", disc(medium, tmp_path / "live.iso"), "-f", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"live-boot"' in done.stdout
    assert '"complete": true' in done.stdout
    files = run_program(tmp_path / "db", "files", "cat", tmp_path / "live.iso", "/etc/hostname")
    assert files.returncode == 0, files.stderr


def test_modules_lie_one_over_the_other_in_the_order_of_their_list(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", OLD), medium / "live/filesystem.squashfs")
    squashed(layer(tmp_path / "a", {STATUS: status(NEW)}), medium / "live/aaa.squashfs")
    squashed(layer(tmp_path / "z", {STATUS: b""}), medium / "live/zzz.squashfs")
    (medium / "live/filesystem.module").write_text("filesystem.squashfs\naaa.squashfs\n")
    machine, inventory = look(disc(medium, tmp_path / "live.iso"))
    assert versions(inventory) == WANTED
    assert inventory.coverage.complete, inventory.coverage.problems
    by_name = {volume.name: volume for volume in machine.coverage.volumes}
    assert by_name["overlay"].mounts == ("/",)
    assert by_name["overlay"].members == ("vda/live/aaa.squashfs", "vda/live/filesystem.squashfs")
    assert "holds the live system" in by_name["vda"].reason
    (medium / "live/filesystem.module").unlink()
    assert versions(look(disc(medium, tmp_path / "all.iso"))[1]) == {}


@pytest.mark.skipif(bool(extimages.mounting_problem()), reason=extimages.mounting_problem())
def test_a_layer_made_by_a_kernel_takes_packages_away(tmp_path: Path) -> None:
    """The upper squashfs holds a whiteout and an opaque folder, as overlayfs writes them."""
    upper = layer(tmp_path / "upper", {"var/lib/dpkg/info/new.list": b"/opt/new\n"})
    run("mknod", upper / "etc-hostname", "c", "0", "0")
    (upper / "etc").mkdir()
    (upper / "etc-hostname").rename(upper / "etc/hostname")
    run("setfattr", "-n", "trusted.overlay.opaque", "-v", "y", upper / "var/lib/dpkg/info")
    medium = tmp_path / "medium"
    root = system(tmp_path / "root", NEW)
    layer(root, {"var/lib/dpkg/info/old.list": b"/opt/old\n"})
    squashed(root, medium / "live/filesystem.squashfs")
    squashed(upper, medium / "live/upper.squashfs")
    with opened(disc(medium, tmp_path / "live.iso")) as source:
        tree = open_machine([("vda", source)]).tree
        assert tree is not None
        assert not tree.exists(b"/etc/hostname")
        assert [entry.name for entry in tree.entries(b"/var/lib/dpkg/info")] == [b"new.list"]
        assert tree.exists(b"/usr/lib/os-release")


def test_casper_is_a_chain_by_the_dots_in_its_names(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", OLD), medium / "casper/minimal.squashfs")
    squashed(layer(tmp_path / "de", {STATUS: b""}), medium / "casper/minimal.de.squashfs")
    squashed(layer(tmp_path / "a", {STATUS: status(OLD)}), medium / "casper/minimal.standard.squashfs")
    squashed(layer(tmp_path / "b", {STATUS: status(NEW)}), medium / "casper/minimal.standard.live.squashfs")
    _, inventory = look(disc(medium, tmp_path / "live.iso"))
    assert versions(inventory) == WANTED
    assert inventory.coverage.complete, inventory.coverage.problems
    (medium / "casper/minimal.other.live.squashfs").write_bytes(
        (medium / "casper/minimal.standard.live.squashfs").read_bytes()
    )
    _, doubtful = look(disc(medium, tmp_path / "two.iso"))
    assert any("several layers may be the uppermost" in problem for problem in doubtful.coverage.problems)
    layer(
        medium, {"boot/grub/grub.cfg": b"linux /casper/vmlinuz layerfs-path=minimal.standard.live.squashfs\n"}
    )
    _, decided = look(disc(medium, tmp_path / "told.iso"))
    assert versions(decided) == WANTED
    assert decided.coverage.complete, decided.coverage.problems


@pytest.mark.parametrize("is_nested", [True, False])
def test_a_liveos_image_holds_the_root_or_an_image_of_it(is_nested: bool, tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    root = system(tmp_path / "root", NEW)
    if is_nested:
        inner = tmp_path / "inner/LiveOS"
        inner.mkdir(parents=True)
        extimages.make(inner / "rootfs.img", "-t", "ext4", size="24M", tree=root)
        root = inner.parent
    squashed(root, medium / "LiveOS/squashfs.img")
    machine, inventory = look(disc(medium, tmp_path / "live.iso"))
    assert versions(inventory) == WANTED
    last = machine.coverage.volumes[-1]
    inside = "/LiveOS/rootfs.img" if is_nested else ""
    assert (last.name, last.mounts) == (f"vda/LiveOS/squashfs.img{inside}", ("/",))
    assert last.content == ("ext4" if is_nested else "squashfs")
    layer(medium, {"LiveOS/overlay-LIVE-1234": b"changes"})
    _, changed = look(disc(medium, tmp_path / "changed.iso"))
    assert any("overlay-LIVE-1234" in problem for problem in changed.coverage.problems)


def persistent(folder: Path, config: str, tree: Path) -> Path:
    (tree / "persistence.conf").write_text(config)
    (tree / "work").mkdir(exist_ok=True)
    return extimages.make(folder / "persistence.img", "-t", "ext4", "-L", "persistence", tree=tree)


def with_changes(tmp_path: Path, config: str, boot_line: str, folder: str = "rw/") -> Inventory:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", OLD), medium / "live/filesystem.squashfs")
    layer(medium, {"boot/grub/grub.cfg": boot_line.encode()})
    kept = layer(tmp_path / "kept", {f"{folder}{STATUS}": status(NEW), "opt/data": b"x"})
    return look(disc(medium, tmp_path / "live.iso"), persistent(tmp_path, config, kept))[1]


def test_what_a_debian_live_system_keeps_is_applied(tmp_path: Path) -> None:
    inventory = with_changes(tmp_path, "/ union\n", "linux /live/vmlinuz boot=live persistence\n")
    assert versions(inventory) == WANTED
    assert inventory.coverage.complete, inventory.coverage.problems
    assert any("vdb: applied over" in note for note in inventory.coverage.notes)


@pytest.mark.parametrize(
    ("config", "boot_line", "problem"),
    [
        ("/ union\n", "linux /live/vmlinuz boot=live\n", "no boot line of the medium says so"),
        ("/opt bind\n", "linux /live/vmlinuz boot=live persistence\n", "keeps /opt of the live system"),
    ],
)
def test_what_is_kept_and_may_not_count_is_a_problem(
    config: str, boot_line: str, problem: str, tmp_path: Path
) -> None:
    problems = with_changes(tmp_path, config, boot_line).coverage.problems
    assert any(problem in each for each in problems), problems


def test_an_image_that_keeps_changes_beside_the_live_system_is_a_problem(tmp_path: Path) -> None:
    medium = layer(tmp_path / "medium", {"persistence": b"image"})
    squashed(system(tmp_path / "root", NEW), medium / "live/filesystem.squashfs")
    _, inventory = look(disc(medium, tmp_path / "live.iso"))
    assert versions(inventory) == WANTED
    assert inventory.coverage.problems == (
        "vda: the file persistence keeps what the live system changes, which was not applied",
    )


@pytest.mark.parametrize("label", ["casper-rw", "writable"])
def test_what_casper_keeps_is_a_problem(label: str, tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", NEW), medium / "casper/filesystem.squashfs")
    kept = layer(tmp_path / "kept", {f"upper/{STATUS}": b"", "work/x": b""})
    disk = extimages.make(tmp_path / "kept.img", "-t", "ext4", "-L", label, tree=kept)
    _, inventory = look(disc(medium, tmp_path / "live.iso"), disk)
    assert "vdb: keeps what the live system changes, which was not applied" in inventory.coverage.problems


def test_changes_in_an_older_form_are_a_problem(tmp_path: Path) -> None:
    inventory = with_changes(tmp_path, "/ union\n", "linux /live/vmlinuz boot=live persistence\n", "")
    assert versions(inventory) != WANTED
    assert "vdb: keeps changes of the live system's root" in inventory.coverage.problems[0]


@pytest.mark.parametrize("table", [(), ("-appended_part_as_gpt", "-partition_offset", "16")])
def test_a_hybrid_image_is_a_disc_and_its_partitions(table: tuple[str, ...], tmp_path: Path) -> None:
    """As on a stick: the whole is a disc, and a partition behind it keeps the changes."""
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", OLD), medium / "live/filesystem.squashfs")
    layer(medium, {"boot/grub/grub.cfg": b"linux /live/vmlinuz boot=live persistence\n"})
    kept = layer(tmp_path / "kept", {f"rw/{STATUS}": status(NEW)})
    appended = persistent(tmp_path, "/ union\n", kept)
    options = ("-append_partition", "2", "0x83", appended, *table)
    image = disc(medium, tmp_path / "live.iso", *options)
    machine, inventory = look(image)
    assert versions(inventory) == WANTED
    assert inventory.coverage.complete, inventory.coverage.problems
    shown = {volume.name: (volume.content, volume.status.value) for volume in machine.coverage.volumes}
    assert shown["vda"] == ("iso9660", "read")
    assert shown["vda2"] == ("ext4", "read")


def test_an_ordinary_root_and_one_that_may_be_there_come_before_a_live_system(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", OLD), medium / "live/filesystem.squashfs")
    image = disc(medium, tmp_path / "live.iso")
    installed = debian_tree(tmp_path / "installed", NEW, {"etc/fstab": b""})
    disk = extimages.make(tmp_path / "disk", "-t", "ext4", tree=installed)
    assert versions(look(image, disk)[1]) == WANTED
    locked = tmp_path / "locked"
    locked.write_bytes(b"LUKS\xba\xbe\0\1" + bytes(4 * MIB))
    machine, inventory = look(image, locked)
    assert machine.tree is None
    assert inventory.packages == ()
    assert any("its live system was left alone" in note for note in machine.coverage.notes)
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(4 * MIB))
    assert look(image, blank)[1].coverage.complete


@pytest.mark.parametrize("is_planted", [True, False])
def test_a_live_disc_that_a_guest_plants_in_its_disks_gap_hides_nothing(
    is_planted: bool, tmp_path: Path
) -> None:
    """The gap before the first partition has room for a disc, which is read where nothing else is."""
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", NEW), medium / "live/filesystem.squashfs")
    planted = disc(medium, tmp_path / "live.iso", "-no-pad").read_bytes()
    assert len(planted) < MIB
    installed = debian_tree(tmp_path / "installed", OLD, {"etc/fstab": b""})
    root = extimages.make(tmp_path / "root.fs", "-t", "ext4", tree=installed)
    disk = wrap_gpt(tmp_path / "disk", [root])
    with disk.open("r+b") as file:
        file.seek(32 << 10)
        file.write(planted[32 << 10 :])
        if not is_planted:  # the control: without the system, the disc is found
            file.seek(MIB)
            file.write(bytes(8 * MIB))
    machine, inventory = look(disk)
    expected = OLD if is_planted else NEW
    assert versions(inventory) == {package.name: package.version for package in expected}
    assert {volume.name for volume in machine.coverage.volumes} >= {"vda", "vda1"}


def test_images_that_hold_no_system_are_no_live_system(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(layer(tmp_path / "data", {"films/one": b"x"}), medium / "live/concert.squashfs")
    machine, _ = look(disc(medium, tmp_path / "data.iso"))
    assert machine.tree is None
    assert "no root filesystem was found" in machine.coverage.problems[-1]


def test_of_several_media_the_one_with_a_system_is_read_and_two_are_a_problem(tmp_path: Path) -> None:
    medium, films = tmp_path / "medium", tmp_path / "films"
    squashed(system(tmp_path / "root", NEW), medium / "live/filesystem.squashfs")
    squashed(layer(tmp_path / "data", {"films/one": b"x"}), films / "live/concert.squashfs")
    live, data = disc(medium, tmp_path / "live.iso"), disc(films, tmp_path / "films.iso")
    _, inventory = look(data, live)
    assert versions(inventory) == WANTED
    assert inventory.coverage.complete, inventory.coverage.problems
    (tmp_path / "again.iso").write_bytes(live.read_bytes())
    _, doubtful = look(live, tmp_path / "again.iso")
    assert any("several live systems (vda, vdb)" in each for each in doubtful.coverage.problems)


def test_an_unread_partition_beside_a_live_system_is_a_problem(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", NEW), medium / "live/filesystem.squashfs")
    locked = tmp_path / "locked"
    locked.write_bytes(b"LUKS\xba\xbe\0\1" + bytes(4 * MIB))
    image = disc(medium, tmp_path / "live.iso", "-append_partition", "2", "0x83", locked)
    _, inventory = look(image)
    assert versions(inventory) == WANTED
    assert inventory.coverage.problems == ("vda2 was not read and may hold the system that starts",)


def test_an_image_that_is_cut_off_or_packed_unreadably_is_unread(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", OLD), medium / "live/filesystem.squashfs")
    lower = medium / "live/base.squashfs"
    run("mksquashfs", tmp_path / "root", lower, "-quiet", "-no-progress", "-comp", "lzo")
    machine, _ = look(disc(medium, tmp_path / "live.iso"))
    assert machine.tree is None
    assert any("base.squashfs: squashfs: the compression lzo" in each for each in machine.coverage.problems)
    lower.unlink()
    whole = disc(medium, tmp_path / "whole.iso").read_bytes()
    (tmp_path / "cut.iso").write_bytes(whole[: len(whole) // 2])
    _, inventory = look(tmp_path / "cut.iso")
    assert not inventory.coverage.complete


def test_what_was_read_is_proven_by_the_same_reads_again(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    squashed(system(tmp_path / "root", NEW), medium / "live/filesystem.squashfs")
    image = disc(medium, tmp_path / "live.iso")
    with opened(image) as source:
        recorder = Recorder([("vda", source)])
        inventory = collect(open_machine(recorder.disks))
        reads = recorder.finish()
        assert reads is not None
        assert versions(inventory) == WANTED
        assert replay([("vda", source)], reads.numbers) == reads.digest
    data = bytearray(image.read_bytes())
    start = data.index(b"hsqs")
    data[start + 96 + 20] ^= 1
    image.write_bytes(data)
    with opened(image) as source:
        assert replay([("vda", source)], reads.numbers) != reads.digest


def test_a_system_that_lies_on_a_disc_as_it_is_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    image = disc(system(tmp_path / "root", NEW), tmp_path / "disc.iso")
    assert versions(look(image)[1]) == WANTED
