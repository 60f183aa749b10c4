"""A whole inventory, and the coverage that goes with it."""

import pytest
from memorymachines import Broken, File, Link, MemoryFileSystem, machine_of, uuid_of

from undercroft.disks.machine import UnreadDisk
from undercroft.errors import InputError
from undercroft.inventory.collect import _by_cause, collect
from undercroft.model.inventory import Boot, Inventory, Kernel, Package
from undercroft.model.schema import decode, encode

STATUS = b"Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n\n"
FILES: dict[str, bytes | File | Link | Broken] = {
    "etc/os-release": b'ID=debian\nVERSION_ID="12"\n',
    "etc/fstab": f"UUID={uuid_of(1)} / ext4\n".encode(),
    "etc/hostname": b"# my machine\nweb01\n",
    "var/lib/dpkg/status": STATUS,
    "boot/vmlinuz-6.1.0-28-amd64": b"",
    "boot/grub/grub.cfg": b"menuentry a {\n linux /boot/vmlinuz-6.1.0-28-amd64\n}\n",
    "usr/local/bin/tool": File(b"", 0o755),
}


def inventory_of(**changes: bytes | File | Link | Broken | None) -> Inventory:
    files = {path: file for path, file in {**FILES, **changes}.items() if file is not None}
    return collect(machine_of(vda=MemoryFileSystem(files, uuid=uuid_of(1))))


def test_a_whole_machine_is_inventoried_without_problems() -> None:
    found = inventory_of()
    assert found.os is not None
    assert (found.os.ident, found.hostname) == ("debian", "web01")
    assert found.packages == (Package("dpkg", "bash", "5.2-1", "amd64", "bash", "5.2-1", "installed"),)
    assert found.kernels == (Kernel("6.1.0-28-amd64", "/boot/vmlinuz-6.1.0-28-amd64", ""),)
    assert found.boot == Boot("6.1.0-28-amd64", "/boot/grub/grub.cfg")
    assert (found.unowned_executables, found.unowned_examples) == (1, ("/usr/local/bin/tool",))
    assert found.coverage.complete
    assert decode(Inventory, encode(found)) == found


def test_undecodable_names_survive_the_way_through_json() -> None:
    found = inventory_of(**{"etc/hostname": b"w\xffeb\x1b[31m\n"})
    assert decode(Inventory, encode(found)).hostname == "w\udcffeb\x1b[31m"


def test_a_machine_without_a_root_has_an_empty_and_incomplete_inventory() -> None:
    found = collect(machine_of(vda=UnreadDisk("encrypted with LUKS")))
    assert (found.os, found.packages) == (None, ())
    assert not found.coverage.complete


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"var/lib/dpkg/status": None},
            "no dpkg database in /var/lib/dpkg: the packages of this system are unknown",
        ),
        ({"var/lib/dpkg/status": Broken()}, "/var/lib/dpkg/status could not be read"),
        ({"var/lib/dpkg/status": STATUS[:-1]}, "the file may be cut off"),
        ({"etc/os-release": Broken()}, "the release file could not be read"),
        ({"boot/grub/grub.cfg": Broken()}, "boot loader: "),
        ({"usr/local/bin/tool": Broken()}, "executables below /usr/local are not all counted"),
        ({"var/lib/dpkg/status": b"\n"}, "/var/lib/dpkg/status is empty"),
        ({"var/lib/rpm/rpmdb.sqlite": b""}, "/var/lib/rpm/rpmdb.sqlite could not be read: sqlite: 0 bytes"),
        ({"var/lib/pacman/local/x-1/desc": b""}, "/var/lib/pacman/local/x-1 could not be read"),
        ({"var/db/pkg/sys-apps/portage-1/PF": b""}, "/var/db/pkg: portage is not supported yet"),
        ({"var/lib/dpkg/info/x.list": Broken()}, "/var/lib/dpkg/info/x.list could not be read"),
    ],
)
def test_what_hides_software_is_a_problem(changes: dict[str, bytes | Broken | None], problem: str) -> None:
    found = inventory_of(**changes)
    assert any(problem in told for told in found.coverage.problems), found.coverage.problems


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"etc/hostname": Broken()}, "the host name could not be read"),
        ({"var/log/wtmp": Broken()}, "/var/log/wtmp was not searched for the last kernel"),
        ({"var/lib/snapd/snaps/core20_1.snap": b""}, "/var/lib/snapd/snaps: 1 snap packages, not assessed"),
        ({"var/lib/docker/overlay2/abc/diff/x": b""}, "Docker's image layers, not assessed"),
    ],
)
def test_what_hides_no_recorded_software_is_a_note(
    changes: dict[str, bytes | Broken | None], note: str
) -> None:
    found = inventory_of(**changes)
    assert found.coverage.complete
    assert any(note in told for told in found.coverage.notes), found.coverage.notes


def test_a_system_without_any_package_database_says_so() -> None:
    unknown = {"etc/os-release": b"ID=void\n", "var/lib/dpkg/status": None}
    assert inventory_of(**unknown).coverage.problems == (
        "no package database was found: what is installed is unknown",
    )
    nix = inventory_of(**unknown, **{"nix/var/nix/db/db.sqlite": b""}).coverage.problems
    assert nix == ("/nix/var/nix/db/db.sqlite: nix is not supported yet",)


@pytest.mark.parametrize(
    ("ident", "problem"),
    [
        (
            "ID=alpine",
            "no apk database in /lib/apk/db or /usr/lib/apk/db: the packages of this system are unknown",
        ),
        ("ID=alma\nID_LIKE='rhel fedora'", "no rpm database in /var/lib/rpm, "),
        ("ID=endeavouros\nID_LIKE=arch", "no pacman database in /var/lib/pacman/local: "),
        ("ID=freebsd", "no pkg database in /var/db/pkg: "),
    ],
)
def test_the_database_of_the_systems_own_manager_must_be_there_whatever_else_is(
    ident: str, problem: str
) -> None:
    (told,) = inventory_of(**{"etc/os-release": ident.encode()}).coverage.problems
    assert told.startswith(problem)


def test_an_empty_database_of_the_systems_own_manager_is_no_answer() -> None:
    apk = {"etc/os-release": b"ID=alpine\n", "lib/apk/db/installed": b""}
    (told,) = inventory_of(**apk).coverage.problems
    assert told == "the apk database in /lib/apk/db or /usr/lib/apk/db holds no package: they are unknown"


def test_databases_of_several_managers_are_all_read() -> None:
    apk = b"P:musl\nV:1.2.4-r2\nA:x86_64\nF:opt\nR:tool\n\n"
    found = inventory_of(**{"lib/apk/db/installed": apk, "opt/tool": File(b"", 0o755)})
    assert [(package.manager, package.name) for package in found.packages] == [
        ("dpkg", "bash"),
        ("apk", "musl"),
    ]
    assert found.unowned_examples == ("/usr/local/bin/tool",)
    assert found.coverage.complete


DAMAGE = "ext inode 21: directory block 0: its checksum is 0x1, its bytes give 0x2"


class Damaged(MemoryFileSystem):
    """A filesystem whose directory /var cannot be read, as a flipped bit leaves it."""

    def lookup(self, node: int, name: bytes) -> int | None:
        if name in {b"lib", b"log"}:
            raise InputError(DAMAGE)
        return super().lookup(node, name)


def test_one_damaged_block_is_one_problem_that_names_the_volume_what_it_hides_and_the_cure() -> None:
    found = collect(machine_of(vda=Damaged({**FILES}, uuid=uuid_of(1))))
    (problem,) = [problem for problem in found.coverage.problems if DAMAGE in problem]
    assert problem.startswith(f"vda: {DAMAGE}; not read because of it: ")
    assert "/var/lib/dpkg/status" in problem
    assert " more; " in problem
    assert "e2fsck -n" in problem


def test_two_damages_stay_two_problems() -> None:
    volumes = machine_of(vda=MemoryFileSystem(FILES, uuid=uuid_of(1))).coverage.volumes
    assert [
        text.split(";")[0]
        for text in _by_cause(
            ["a: ext inode 1: x", "b: plain", "c: ext inode 2: y", "d: ext inode 1: x"], volumes
        )
    ] == ["vda: ext inode 1: x", "b: plain", "vda: ext inode 2: y"]
