"""Which subvolume of a btrfs disk is read as the machine, laid out as the distributions do it."""

import json
from collections.abc import Callable
from pathlib import Path

import btrfsimages
import pytest
from program import run_program

from undercroft.disks.machine import Machine, open_machine
from undercroft.disks.subvolumes import mounted
from undercroft.errors import InputError
from undercroft.model.job import SubvolumeInput

pytestmark = pytest.mark.skipif(
    bool(btrfsimages.problem()), reason=btrfsimages.problem() or "btrfs can be made and mounted"
)

BEGIN = r"""
system() {  # system FOLDER NAME ROOT-OPTIONS
  mkdir -p $1/etc $1/usr/lib $1/boot/grub $1/home $1/var/lib
  echo "NAME=$2" > $1/etc/os-release
  echo "UUID=$UUID / btrfs defaults${3:+,$3} 0 0" > $1/etc/fstab
}
menu() {  # menu FOLDER ROOTFLAGS
  echo "menuentry 'x' { linux /vmlinuz root=UUID=$UUID ro $2 }" > $1/boot/grub/grub.cfg
}
UUID=$(findmnt -n -o UUID .)
make() { for name; do btrfs subvolume create "$name" >/dev/null; done; }
snapshot() { btrfs subvolume snapshot "$@" >/dev/null; }
"""

Boot = Callable[[str], Machine]


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    """Lays a disk out with a shell script and opens it as a machine."""

    def lay_out(script: str) -> Machine:
        images = btrfsimages.make(tmp_path)
        btrfsimages.in_mount(images, BEGIN + script)
        return open_machine([("vda", btrfsimages.source(images[0]))])

    return lay_out


def name(machine: Machine) -> str:
    assert machine.tree is not None, machine.coverage.problems
    return machine.tree.read(b"/etc/os-release", 4096).decode().strip().removeprefix("NAME=")


def said(machine: Machine) -> str:
    return "\n".join(
        [*machine.coverage.problems, *machine.coverage.notes, machine.coverage.volumes[0].reason]
    )


def test_ubuntu_starts_the_subvolume_that_its_menu_names(boot: Boot) -> None:
    machine = boot("""
        make @ @home; system @ jammy subvol=@; menu @ rootflags=subvol=@
        echo "UUID=$UUID /home btrfs subvol=/@home 0 0" >> @/etc/fstab; echo me > @home/who
        snapshot -r @ @before; echo NAME=later > @/etc/os-release
    """)
    assert name(machine) == "later"
    assert machine.tree is not None
    assert machine.tree.read(b"/home/who", 10) == b"me\n"
    assert machine.coverage.problems == ()
    assert "snapshots with a system, not in this inventory: @before" in said(machine)


def test_fedora_without_a_menu_starts_the_subvolume_whose_fstab_names_itself(boot: Boot) -> None:
    machine = boot("""
        make root home; system root fedora subvol=root,compress=zstd:1
        echo "UUID=$UUID /home btrfs subvol=home 0 0" >> root/etc/fstab; echo me > home/who
        snapshot root copy; echo NAME=older > copy/etc/os-release
    """)
    assert name(machine) == "fedora"
    assert machine.tree is not None
    assert machine.tree.read(b"/home/who", 10) == b"me\n"
    assert machine.coverage.problems == ()


def test_opensuse_starts_the_default_subvolume_and_mounts_its_snapshots(boot: Boot) -> None:
    machine = boot("""
        make @ @/var @/.snapshots; mkdir -p @/.snapshots/1 @/.snapshots/2; make @/.snapshots/1/snapshot
        system @/.snapshots/1/snapshot leap; mkdir @/.snapshots/1/snapshot/.snapshots
        snapshot -r @/.snapshots/1/snapshot @/.snapshots/2/snapshot
        echo "UUID=$UUID /var btrfs subvol=/@/var 0 0" >> @/.snapshots/1/snapshot/etc/fstab
        echo "UUID=$UUID /.snapshots btrfs subvol=/@/.snapshots 0 0" >> @/.snapshots/1/snapshot/etc/fstab
        echo log > @/var/log; btrfs subvolume set-default @/.snapshots/1/snapshot
    """)
    assert name(machine) == "leap"
    assert machine.tree is not None
    assert machine.tree.read(b"/var/log", 10) == b"log\n"
    assert machine.tree.read(b"/.snapshots/2/snapshot/etc/os-release", 99) == b"NAME=leap\n"
    assert machine.coverage.problems == ()


def test_after_a_rollback_the_snapshot_that_became_the_default_is_read(boot: Boot) -> None:
    machine = boot("""
        make @; system @ newer; snapshot @ @rolled; echo NAME=older > @rolled/etc/os-release
        btrfs subvolume set-default @rolled
    """)
    assert name(machine) == "older"
    assert "other subvolumes with a system, not in this inventory: @" in said(machine)


def test_subvolume_by_its_id_is_mounted(boot: Boot) -> None:
    machine = boot("""
        system . debian; make data; echo data > data/file; mkdir -p opt
        id=$(btrfs inspect-internal rootid data); echo "UUID=$UUID /opt btrfs subvolid=$id 0 0" >> etc/fstab
    """)
    assert machine.tree is not None
    assert machine.tree.read(b"/opt/file", 10) == b"data\n"
    assert machine.coverage.problems == ()


MOUNT_OPTIONS = {
    "subvol=one,subvol=two": b"two",
    "subvol=/two/,ro,subvol=one": b"one",
    "subvolid=0x101": b"two",
    "subvolid=0401": b"two",
    "subvolid=256,subvolid=257": b"two",
    "subvolid=257,subvol=two": b"two",
    "subvolid=0": b"top",
}


def test_options_are_read_as_the_kernel_reads_them(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    fill = 'echo top > is; for name in one two; do make $name; echo $name > $name/is; done; set -- "$@"'
    btrfsimages.in_mount(images, BEGIN + fill)
    for options, expected in MOUNT_OPTIONS.items():
        seen = btrfsimages.in_mount(images, "cat is", f"ro,{options}")
        assert seen.encode().strip() == expected, options
        shown = mounted(btrfsimages.open_images(images), options.split(","))
        assert shown.read(shown.lookup(shown.root, b"is") or 0, 9).strip() == expected, options


def test_subvolume_id_that_is_no_number_is_refused_as_by_the_kernel(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    for value in ("x", "", "12x", "0x", "08", "-1"):
        with pytest.raises(AssertionError):
            btrfsimages.in_mount(images, "true", f"ro,subvolid={value}")
        with pytest.raises(InputError, match="subvolid="):
            mounted(btrfsimages.open_images(images), [f"subvolid={value}"])


def test_mount_without_an_option_shows_the_default_subvolume_and_not_the_root(boot: Boot) -> None:
    machine = boot("""
        make @; system @ debian subvol=@; mkdir -p @/mnt; echo top > top
        echo "UUID=$UUID /mnt btrfs defaults 0 0" >> @/etc/fstab
    """)
    assert machine.tree is not None
    assert machine.tree.read(b"/mnt/top", 10) == b"top\n"
    assert machine.tree.read(b"/mnt/@/etc/os-release", 99) == b"NAME=debian\n"


def test_missing_subvolume_is_a_problem_that_names_it(boot: Boot) -> None:
    machine = boot("""
        make @; system @ debian subvol=@; echo "UUID=$UUID /usr btrfs subvol=@usr 0 0" >> @/etc/fstab
    """)
    assert any("subvolume @usr is not there" in problem for problem in machine.coverage.problems)
    assert machine.unread == (b"/usr",)


def test_choice_that_nothing_decides_is_a_problem(boot: Boot) -> None:
    machine = boot("make one two; system one one; system two two")
    assert name(machine) == "one"
    assert "several subvolumes (one, two) hold a system" in machine.coverage.problems[0]


def test_menu_that_starts_another_subvolume_than_the_fstab_names_is_believed_and_told(boot: Boot) -> None:
    machine = boot("""
        make @ @old; system @ now subvol=@; system @old then subvol=@; menu @ rootflags=subvol=@old
    """)
    assert name(machine) == "then"
    assert any("names subvol=@ as /" in problem for problem in machine.coverage.problems)


def test_layers_of_containers_are_no_snapshots_of_the_machine(boot: Boot) -> None:
    machine = boot("""
        make @; system @ host subvol=@; mkdir -p @/layers; make @/layers/base; system @/layers/base image
        snapshot @/layers/base @/layers/container; snapshot @ @before; snapshot @before @again
    """)
    assert name(machine) == "host"
    assert [each.path for each in machine.snapshots] == ["@before", "@again"]
    assert "other subvolumes with a system, not in this inventory: @/layers/base, @/layers/cont" in said(
        machine
    )


def test_damaged_subvolume_is_told_where_no_other_holds_a_system(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-m", "single")
    mark = "a-name-that-only-the-system-has"
    btrfsimages.in_mount(images, f"{BEGIN} make @ data; system @ host subvol=@; touch @/{mark}")
    leaf = btrfsimages.live_leaf(images[0], b"@", mark.encode())
    with images[0].open("r+b") as file:
        file.seek(leaf + 3000)
        file.write(b"damage")
    machine = open_machine([("vda", btrfsimages.source(images[0]))])
    assert "no root filesystem was found" in machine.coverage.problems[0]
    assert "the subvolume @ is too damaged to tell what it holds" in said(machine)


def test_damaged_snapshot_is_a_note_where_the_root_is_certain(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-m", "single")
    mark = "a-name-that-only-the-snapshot-has"
    btrfsimages.in_mount(
        images,
        f"{BEGIN} make @; system @ host subvol=@; snapshot @ @old; rm @old/etc/*; touch @old/etc/{mark}",
    )
    leaf = btrfsimages.live_leaf(images[0], b"@old", mark.encode())
    with images[0].open("r+b") as file:
        file.seek(leaf + 3000)
        file.write(b"damage")
    machine = open_machine([("vda", btrfsimages.source(images[0]))])
    assert name(machine) == "host"
    assert machine.coverage.problems == ()
    assert "the subvolume @old is too damaged to tell what it holds" in said(machine)


def test_filesystem_on_two_disks_is_one_machine(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-d", "raid0", "-m", "raid1", devices=2)
    btrfsimages.in_mount(images, BEGIN + "system . striped; head -c 3000000 /dev/urandom > usr/lib/big")
    disks = [(f"vd{letter}", btrfsimages.source(image)) for letter, image in zip("ab", images, strict=True)]
    machine = open_machine(disks)
    assert name(machine) == "striped"
    assert machine.coverage.problems == ()
    one = open_machine(disks[:1])
    assert any("device 2 of 2 is missing" in problem for problem in one.coverage.problems)


PACKAGES = r"""
package() {
  printf 'Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\n\n' $2 $3 >> $1
}
make @; system @ now subvol=@; mkdir -p @/var/lib/dpkg; package @/var/lib/dpkg/status bash 1
printf 'ID=debian\nVERSION_ID="12"\n' > @/etc/os-release
snapshot -r @ @before; package @/var/lib/dpkg/status curl 2; snapshot @ @between
package @/var/lib/dpkg/status dash 3; make @data
"""


def test_snapshots_that_the_guest_took_are_states_of_the_machine(tmp_path: Path) -> None:
    image = btrfsimages.make(tmp_path)[0]
    btrfsimages.in_mount([image], BEGIN + PACKAGES)
    answer = run_program(tmp_path / "advisories.db", "scan", "-f", "json", image)
    states = json.loads(answer.stdout)["states"]
    found = {
        state["name"]: [package["name"] for package in state["inventory"]["packages"]] for state in states
    }
    assert found == {
        "current": ["bash", "curl", "dash"],
        "subvolume @before": ["bash"],
        "subvolume @between": ["bash", "curl"],
    }
    assert all(state["created_at_s"] > 1_700_000_000 for state in states[1:])
    assert all(state["inventory"]["coverage"]["problems"] == [] for state in states)


def test_snapshot_that_the_guest_took_is_looked_at_by_its_id(tmp_path: Path) -> None:
    image = btrfsimages.make(tmp_path)[0]
    btrfsimages.in_mount([image], BEGIN + PACKAGES)
    before = btrfsimages.open_images([image]).subvolume(b"@before").number
    database = tmp_path / "advisories.db"
    listed = run_program(database, "packages", f"{image}@{before}", "-f", "json")
    assert [package["name"] for package in json.loads(listed.stdout)["packages"]] == ["bash"]
    told = run_program(database, "files", "cat", f"{image}@{before}", "/var/lib/dpkg/status")
    assert told.stdout.count("Package:") == 1
    shown = run_program(database, "files", "ls", f"{image}@{before}", "/var/lib/dpkg")
    assert "status" in shown.stdout
    between = run_program(database, "diff", f"{image}@{before}", image, "-f", "json")
    added = [change["name"] for change in json.loads(between.stdout)["added"]]
    assert added == ["curl", "dash"]
    missing = run_program(database, "packages", f"{image}@nothing")
    assert missing.returncode == 3
    assert f"'subvolume @before' (ID {before})" in missing.stderr


def test_subvolume_that_is_not_there_cannot_be_asked_for(tmp_path: Path) -> None:
    image = btrfsimages.make(tmp_path)[0]
    btrfsimages.in_mount([image], BEGIN + PACKAGES)
    disks = [("vda", btrfsimages.source(image))]
    taken = open_machine(disks).snapshots
    assert [each.path for each in taken] == ["@before", "@between"]
    for volume, number in (("vda", 4000), ("vdb", taken[0].number)):
        with pytest.raises(InputError, match="subvolume"):
            open_machine(disks, subvolume=SubvolumeInput(volume, number))
