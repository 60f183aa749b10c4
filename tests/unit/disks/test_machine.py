"""A machine's mounts are assembled as the guest would make them, and nothing that is missing goes unsaid."""

import pytest
from memorymachines import Broken, Link, MemoryFileSystem, disk_of, machine_of, uuid_of

from undercroft.disks.bootroot import MAX_GRUB_MENUS
from undercroft.disks.detect import Content
from undercroft.disks.fstab import MountEntry
from undercroft.disks.machine import Machine, UnreadDisk, open_machine
from undercroft.disks.mountorder import in_order
from undercroft.disks.partitions import Partition
from undercroft.disks.rootchoice import choose_root
from undercroft.disks.softwarepaths import may_hold_software
from undercroft.disks.source import BytesSource
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError
from undercroft.model.disk import VolumeStatus

ROOT, VAR, OTHER = uuid_of(1), uuid_of(2), uuid_of(3)
RELEASE = {"etc/os-release": b"ID=debian\n"}


def root_with(fstab: str, **files: bytes) -> MemoryFileSystem:
    """A root (UUID number 1) whose fstab has a line for itself and these lines."""
    lines = f"UUID={ROOT} / ext4 errors=remount-ro 0 1\n{fstab}\n"
    folders = {f"{name}/": b"" for name in ("var", "usr", "opt", "home", "boot", "srv", "mnt", "tmp")}
    return MemoryFileSystem({**folders, **RELEASE, **files, "etc/fstab": lines.encode()}, uuid=ROOT)


def other(number: int, label: str = "", **files: bytes) -> MemoryFileSystem:
    return MemoryFileSystem({"mark": b"%d" % number, **files}, uuid=uuid_of(number), label=label)


def mark(machine: Machine, folder: bytes) -> bytes:
    """Which `other` filesystem is mounted at `folder`."""
    assert machine.tree is not None
    return machine.tree.read(folder + b"/mark", 10)


F2FS = BytesSource(bytes(1024) + b"\x10\x20\xf5\xf2" + bytes(64 << 10))
SWAP = BytesSource(bytes(4086) + b"SWAPSPACE2" + bytes(60 << 10))


class TestMounts:
    @pytest.mark.parametrize(
        "name", [f"UUID={VAR}", "LABEL=var", "/dev/vdb", "/dev/sdb", f"/dev/disk/by-uuid/{VAR}"]
    )
    def test_a_second_disk_is_mounted_by_any_of_its_names(self, name: str) -> None:
        machine = machine_of(vda=root_with(f"{name} /var ext4 defaults 0 2"), vdb=other(2, "var"))
        assert mark(machine, b"/var") == b"2"
        assert machine.coverage.complete
        assert [volume.mounts for volume in machine.coverage.volumes] == [("/",), ("/var",)]

    def test_nested_mounts_are_made_from_the_outside_in_whatever_their_order(self) -> None:
        fstab = f"UUID={OTHER} /var/lib ext4\nUUID={VAR} /var ext4"
        machine = machine_of(vda=root_with(fstab), vdb=other(2, **{"lib/": b""}), vdc=other(3))
        assert (mark(machine, b"/var"), mark(machine, b"/var/lib")) == (b"2", b"3")
        assert machine.coverage.complete

    def test_a_bind_is_made_after_the_mount_that_it_shows(self) -> None:
        fstab = f"/srv/data/opt /opt none bind\nUUID={VAR} /srv/data ext4"
        disk = other(2, **{"opt/mark": b"bound"})
        machine = machine_of(vda=root_with(fstab, **{"srv/data/x": b""}), vdb=disk)
        assert mark(machine, b"/opt") == b"bound"
        assert machine.coverage.complete

    def test_binds_in_a_circle_end(self) -> None:
        machine = machine_of(vda=root_with("/mnt /srv none bind\n/srv /mnt none bind\n/ /tmp none rbind"))
        assert machine.tree is not None
        assert machine.tree.exists(b"/tmp/etc/fstab")

    def test_a_bind_of_what_is_not_there_is_a_problem_where_software_may_lie(self) -> None:
        machine = machine_of(vda=root_with("/none /opt none bind\n/none /mnt none bind"))
        assert [problem.partition(" shows")[0] for problem in machine.coverage.problems] == [
            "/etc/fstab line 2: /opt"
        ]
        assert len(machine.coverage.notes) == 1

    def test_mount_units_mount(self) -> None:
        unit = f"[Mount]\nWhat=/dev/disk/by-uuid/{VAR}\nWhere=/opt\n".encode()
        files: dict[str, bytes] = {"etc/systemd/system/opt.mount": unit, "opt/used": b""}
        wanted = {**files, "etc/systemd/system/local-fs.target.wants/opt.mount": b""}
        assert mark(machine_of(vda=root_with("", **wanted), vdb=other(2)), b"/opt") == b"2"
        idle = machine_of(vda=root_with("", **files), vdb=other(2))
        assert idle.tree is not None
        assert idle.tree.exists(b"/opt/used")
        assert "/etc/systemd/system/opt.mount: /opt is not mounted at boot" in idle.coverage.notes

    def test_noauto_does_not_cover_what_the_guest_sees(self) -> None:
        fstab = f"UUID={VAR} /opt ext4 noauto\nUUID={OTHER} /boot ext4 noauto"
        machine = machine_of(vda=root_with(fstab, **{"opt/mark": b"root"}), vdb=other(2), vdc=other(3))
        assert mark(machine, b"/opt") == b"root"
        assert mark(machine, b"/boot") == b"3"

    def test_a_cdrom_line_says_nothing(self) -> None:
        machine = machine_of(vda=root_with("/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0"))
        assert (machine.coverage.problems, machine.coverage.notes) == ((), ())


class TestCoverage:
    @pytest.mark.parametrize("point", ["/var", "/usr", "/opt/app", "/boot", "/var/lib/dpkg", "/lib", "/etc"])
    def test_a_missing_disk_is_a_problem_with_its_cure_where_software_may_lie(self, point: str) -> None:
        machine = machine_of(vda=root_with(f"UUID={OTHER} {point} ext4 defaults,nofail 0 2"))
        assert machine.coverage.problems == (
            f"/etc/fstab line 2: {point} is UUID={OTHER}, which is on none of the given disks; "
            "give its disk too (-a DISK)",
        )

    @pytest.mark.parametrize("point", ["/home", "/srv", "/var/log", "/boot/efi", "/mnt/x"])
    def test_a_missing_data_disk_is_a_note(self, point: str) -> None:
        machine = machine_of(vda=root_with(f"UUID={OTHER} {point} ext4 defaults 0 2"))
        assert machine.coverage.complete
        assert f"{point} is UUID={OTHER}" in machine.coverage.notes[0]

    def test_a_disk_that_was_not_opened_is_named_where_a_mount_may_lie_on_it(self) -> None:
        machine = machine_of(vda=root_with("LABEL=x /usr ext4"), vdb=UnreadDisk("encrypted with LUKS"))
        assert machine.coverage.problems[0].endswith("; it may lie in vdb (encrypted with LUKS)")
        unread = machine.coverage.volumes[1]
        assert (unread.status, unread.reason) == (VolumeStatus.UNREAD, "encrypted with LUKS; not mounted")

    def test_a_mount_of_an_unsupported_filesystem_is_a_problem_or_a_note(self) -> None:
        problem = machine_of(vda=root_with("/dev/vdb /var f2fs"), vdb=F2FS).coverage
        assert problem.problems == (
            "/etc/fstab line 2: /var is /dev/vdb (vdb), which was not read: f2fs is not supported yet",
        )
        assert problem.volumes[1].mounts == ("/var",)
        assert machine_of(vda=root_with("/dev/vdb /home f2fs"), vdb=F2FS).coverage.complete

    def test_an_unread_volume_that_nothing_mounts_is_listed_and_no_problem(self) -> None:
        coverage = machine_of(vda=root_with(""), vdb=F2FS).coverage
        assert coverage.complete
        assert coverage.volumes[1].reason == "f2fs is not supported yet; not mounted"

    def test_swap_and_blank_disks_are_not_applicable(self) -> None:
        blank = BytesSource(bytes(4096))
        coverage = machine_of(vda=root_with("/dev/vdb none swap sw"), vdb=SWAP, vdc=blank).coverage
        assert coverage.complete
        assert [volume.status for volume in coverage.volumes[1:]] == [VolumeStatus.NOT_APPLICABLE] * 2

    def test_a_fat_at_the_firmwares_place_is_no_problem_and_at_boot_it_hides_kernels(self) -> None:
        fat = BytesSource(bytes(82) + b"FAT32   " + bytes(420) + b"\x55\xaa" + bytes(64 << 10))
        quiet = machine_of(vda=root_with("/dev/vdb /boot/efi vfat umask=0077"), vdb=fat).coverage
        assert quiet.complete
        loud = machine_of(vda=root_with("/dev/vdb /boot vfat umask=0077"), vdb=fat).coverage
        assert not loud.complete

    def test_a_hibernated_system_is_noted(self) -> None:
        swap = BytesSource(bytes(4086) + b"S1SUSPEND\0" + bytes(60 << 10))
        coverage = machine_of(vda=root_with(""), vdb=swap).coverage
        assert coverage.notes == (
            "vdb: holds a hibernated system: its filesystems may lag behind its memory",
        )

    def test_a_unit_that_is_not_understood_is_a_problem_where_software_may_lie(self) -> None:
        units = {f"etc/systemd/system/{name}.mount": b"[Mount]\nWhat=%h\n" for name in ("opt", "home")}
        coverage = machine_of(vda=root_with("", **units)).coverage
        assert (len(coverage.problems), len(coverage.notes)) == (1, 1)
        assert coverage.problems[0].startswith("/etc/systemd/system/opt.mount: needs What=")

    def test_network_and_overlay_mounts_are_problems_where_software_may_lie(self) -> None:
        fstab = "nas:/apps /opt nfs defaults\nnas:/home /home nfs defaults\noverlay /usr overlay lowerdir=/a"
        coverage = machine_of(vda=root_with(fstab)).coverage
        assert [problem.split(": ")[1] for problem in coverage.problems] == [
            "/opt comes over the network and is on no disk",
            "/usr is an overlay that could not be made",
        ]

    def test_pseudo_filesystems_say_nothing_and_a_tmpfs_over_software_is_noted(self) -> None:
        fstab = "proc /proc proc defaults\ntmpfs /tmp tmpfs nosuid\ntmpfs /opt tmpfs size=1g"
        coverage = machine_of(vda=root_with(fstab)).coverage
        assert coverage.complete
        assert coverage.notes == (
            "/etc/fstab line 4: /opt is empty at boot (tmpfs): what it covers was read",
        )

    def test_two_volumes_of_one_name_are_a_problem_and_the_roots_own_disk_is_not_in_doubt(self) -> None:
        twin = MemoryFileSystem({"mark": b"2"}, uuid=VAR)
        machine = machine_of(vda=root_with(f"UUID={VAR} /var ext4"), vdb=twin, vdc=disk_of(twin))
        assert machine.coverage.problems == (
            f"/etc/fstab line 2: /var is UUID={VAR}, which may be any of vdb, vdc: vdb was read",
        )

    def test_what_a_filesystem_could_not_make_sense_of_is_a_problem_where_software_lies(self) -> None:
        flawed = MemoryFileSystem({}, uuid=VAR, problems=("the journal could not be replayed",))
        used = machine_of(vda=root_with(f"UUID={VAR} /var ext4"), vdb=flawed).coverage
        assert used.problems == ("vdb: the journal could not be replayed",)
        unused = machine_of(vda=root_with(f"UUID={VAR} /home ext4"), vdb=flawed).coverage
        assert unused.complete
        assert unused.notes == used.problems

    def test_an_fstab_that_cannot_be_read_is_a_problem(self) -> None:
        broken = MemoryFileSystem({**RELEASE, "etc/fstab": Broken()}, uuid=ROOT)
        assert machine_of(vda=broken).coverage.problems[0].startswith("the mounts are unknown: ")
        huge = MemoryFileSystem({**RELEASE, "etc/fstab": b"#" * (100 << 20)}, uuid=ROOT)
        assert "the limit is 1048576" in machine_of(vda=huge).coverage.problems[0]

    def test_a_mount_that_cannot_be_made_is_a_problem(self) -> None:
        machine = machine_of(vda=root_with(f"UUID={VAR} /opt/a/b/c ext4"), vdb=other(2))
        assert "could not be mounted: " in machine.coverage.problems[0]


class TestRoot:
    def test_a_machine_without_a_readable_root_says_what_was_found(self) -> None:
        machine = machine_of(vda=F2FS, vdb=UnreadDisk("has no snapshot 'before'"), vdc=other(3), vdd=SWAP)
        assert machine.tree is None
        assert machine.coverage.problems == (
            "vdb: has no snapshot 'before'",
            "no root filesystem was found: vda: f2fs is not supported yet; "
            "vdc: ext4 without a system; vdd: swap space holds no files",
        )

    def test_a_filesystem_whose_log_was_not_replayed_may_have_held_the_root(self) -> None:
        machine = machine_of(
            vda=MemoryFileSystem({"data": b"x"}, uuid=uuid_of(1), problems=("log not replayed: x",))
        )
        assert machine.coverage.problems == (
            "no root filesystem was found: vda: ext4 without a system",
            "vda: log not replayed: x",
        )

    def test_of_the_only_disk_the_cause_is_all_that_is_said(self) -> None:
        machine = machine_of(vda=UnreadDisk("top.qcow2: its backing file is missing"))
        assert machine.coverage.problems == ("top.qcow2: its backing file is missing",)

    def test_disks_that_are_all_unread_are_told_without_their_consequence(self) -> None:
        machine = machine_of(vda=UnreadDisk("encrypted with LUKS"), vdb=UnreadDisk("gone"))
        assert machine.coverage.problems == ("vda: encrypted with LUKS", "vdb: gone")

    @pytest.mark.parametrize(
        "source", [BytesSource(b""), BytesSource(bytes(512)), BytesSource(b"\xff" * 5000)]
    )
    def test_a_disk_of_nothing_or_of_noise_has_no_root(self, source: BytesSource) -> None:
        machine = open_machine([("vda", source)])
        assert machine.tree is None
        assert machine.coverage.problems

    def test_a_machine_without_disks_has_no_root(self) -> None:
        assert open_machine([]).coverage.problems == ("no root filesystem was found: there is no disk",)

    def test_of_two_systems_the_one_whose_fstab_names_itself_is_the_root(self) -> None:
        stale = MemoryFileSystem({**RELEASE, "mark": b"stale", "etc/fstab": b"UUID=9 / ext4\n"}, uuid=VAR)
        machine = machine_of(vda=stale, vdb=root_with("", mark=b"right"))
        assert mark(machine, b"") == b"right"
        assert machine.coverage.complete
        assert machine.coverage.volumes[0].reason == "another system, not in this inventory"

    def test_grubs_default_entry_decides_between_two_systems(self) -> None:
        def system(number: int, **files: bytes) -> MemoryFileSystem:
            fstab = f"UUID={uuid_of(number)} / ext4\n".encode()
            return MemoryFileSystem({**RELEASE, "etc/fstab": fstab, **files}, uuid=uuid_of(number))

        config = f"set default=0\nmenuentry a {{\n linux /vmlinuz-1 root=UUID={uuid_of(2)} ro\n}}\n".encode()
        machine = machine_of(vda=system(1, **{"boot/grub/grub.cfg": config}), vdb=system(2, mark=b"2"))
        assert mark(machine, b"") == b"2"
        assert machine.coverage.complete
        undecided = machine_of(vda=system(1, mark=b"1"), vdb=system(2))
        assert mark(undecided, b"") == b"1"
        assert undecided.coverage.problems == (
            "several systems (vda, vdb) and nothing that says which one starts: vda was read",
        )

    def test_a_root_that_names_another_filesystem_as_root_is_doubtful(self) -> None:
        stale = MemoryFileSystem({**RELEASE, "etc/fstab": b"/dev/mapper/vg-root / ext4\n"}, uuid=ROOT)
        machine = machine_of(vda=stale, vdb=F2FS)
        assert machine.coverage.problems == (
            "/etc/fstab line 1: names /dev/mapper/vg-root as /, which is not vda, where the system was "
            "found; it may lie in vdb (f2fs is not supported yet)",
        )

    def test_a_root_with_a_dangling_release_link_is_a_root(self) -> None:
        split = MemoryFileSystem({"etc/os-release": Link(b"../usr/lib/os-release"), "usr/": b""}, uuid=ROOT)
        assert machine_of(vda=split).tree is not None

    @pytest.mark.parametrize("name", ["vda", "vdb"])
    def test_a_damaged_filesystem_beside_a_system_may_be_the_root_that_starts(self, name: str) -> None:
        rotten, old = Rotten({}, uuid=VAR), root_with("", mark=b"old")
        machine = machine_of(vda=rotten, vdb=old) if name == "vda" else machine_of(vda=old, vdb=rotten)
        damage = "directory block 7: checksum"
        assert mark(machine, b"") == b"old"
        assert machine.coverage.problems[0] == (
            f"{name}: too damaged to tell whether it holds the system that starts: {damage}"
        )
        found = next(volume for volume in machine.coverage.volumes if volume.disk == name)
        assert (found.status, found.reason) == (VolumeStatus.UNREAD, f"{damage}; not mounted")

    def test_a_machine_whose_only_filesystem_is_damaged_says_what_is_damaged(self) -> None:
        coverage = machine_of(vda=Rotten({}, uuid=VAR)).coverage
        assert coverage.problems == ("no root filesystem was found: vda: directory block 7: checksum",)
        assert coverage.volumes[0].status is VolumeStatus.UNREAD

    def test_a_system_whose_fstab_is_damaged_is_not_passed_over_in_silence(self) -> None:
        damaged = MemoryFileSystem({**RELEASE, "etc/fstab": Broken()}, uuid=VAR)
        coverage = machine_of(vda=damaged, vdb=root_with("")).coverage
        assert coverage.problems[0].startswith("vda: too damaged to tell whether it holds the system")

    def test_another_readable_system_is_noted(self) -> None:
        stale = MemoryFileSystem({**RELEASE, "etc/fstab": b"UUID=9 / ext4\n"}, uuid=VAR)
        coverage = machine_of(vda=stale, vdb=root_with("")).coverage
        assert coverage.complete
        assert coverage.notes == ("vda: another system, not in this inventory",)


def menu(root: str) -> bytes:
    return f"set default=0\nmenuentry a {{\n linux /vmlinuz-1 root={root} ro\n}}\n".encode()


class TestWhatStarts:
    """One old system is readable, and something else says that another one starts."""

    @pytest.mark.parametrize("folder", ["boot/grub", "boot/grub2", "grub", "grub2"])
    @pytest.mark.parametrize(
        ("root", "found"),
        [
            ("/dev/mapper/vg-root", "which is on none of the volumes that were read"),
            (f"UUID={OTHER}", "which is on none of the volumes that were read"),
            ("/dev/vdb", "vdb, not read: f2fs is not supported yet"),
        ],
    )
    def test_grub_starts_a_root_that_was_not_read(self, folder: str, root: str, found: str) -> None:
        machine = machine_of(vda=root_with("", **{f"{folder}/grub.cfg": menu(root)}), vdb=F2FS)
        assert machine.coverage.problems == (
            f"/{folder}/grub.cfg on vda: starts {root} ({found}), and the system on vda was read",
        )

    @pytest.mark.parametrize("root", [f"UUID={ROOT}", "/dev/vda", "/dev/sda", "/dev/root"])
    def test_grub_that_starts_the_chosen_root_is_no_problem(self, root: str) -> None:
        machine = machine_of(vda=root_with("", **{"boot/grub/grub.cfg": menu(root)}), vdb=F2FS)
        assert machine.coverage.complete

    def test_grub_starts_another_readable_system_than_the_one_that_names_itself(self) -> None:
        stale = MemoryFileSystem({**RELEASE, "etc/fstab": b"UUID=9 / ext4\n"}, uuid=VAR)
        root = root_with("", **{"boot/grub/grub.cfg": menu(f"UUID={VAR}")})
        coverage = machine_of(vda=stale, vdb=root).coverage
        assert coverage.problems == (
            f"/boot/grub/grub.cfg on vdb: starts UUID={VAR} (vda), and the system on vdb was read",
        )

    def test_entries_of_the_boot_loader_specification_name_the_root_too(self) -> None:
        boot = MemoryFileSystem(
            {
                "grub2/grub.cfg": b"blscfg\n",
                "loader/entries/a.conf": b"linux /vmlinuz-1\noptions root=/dev/mapper/luks-1 ro\n",
            },
            uuid=OTHER,
        )
        coverage = machine_of(vda=root_with(""), vdb=boot).coverage
        assert "starts /dev/mapper/luks-1" in coverage.problems[0]

    def test_a_menu_that_cannot_be_read_is_a_problem(self) -> None:
        for broken in (Broken(), b"#" * (1 << 20), b"menuentry a {\n" * 100):
            boot = MemoryFileSystem({"grub/grub.cfg": broken}, uuid=OTHER)
            coverage = machine_of(vda=root_with(""), vdb=boot).coverage
            assert coverage.problems[0].startswith("/grub/grub.cfg on vdb: which system it starts could not")

    def test_menus_beyond_the_limit_are_problems(self) -> None:
        files = {f"{folder}/grub.cfg": menu(f"UUID={ROOT}") for folder in ("boot/grub", "boot/grub2", "grub")}
        disks = {f"vd{letter}": other(number, **files) for number, letter in enumerate("bcdefg", 10)}
        coverage = machine_of(vda=root_with(""), **disks).coverage
        assert len(coverage.problems) == 3 * 6 - MAX_GRUB_MENUS

    def test_an_unread_partition_of_a_root_type_is_a_problem(self) -> None:
        def volume(number: int, type_id: str, filesystem: MemoryFileSystem | None) -> OpenVolume:
            partition = Partition(number, 0, 1 << 20, type_id, "", "")
            reason = "" if filesystem else "f2fs is not supported yet"
            return OpenVolume("vda", 0, partition, 1 << 20, Content("x"), filesystem, True, reason)

        x86 = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
        old = volume(1, "0fc63daf-8483-4772-8e79-3d69d8477de4", root_with(""))
        assert choose_root([old, volume(2, x86, None)]).problems == (
            "vda2, not read: f2fs is not supported yet is a root by its partition type, "
            "and the system on vda1 was read",
        )
        data = volume(2, "0fc63daf-8483-4772-8e79-3d69d8477de4", None)
        assert not choose_root([volume(1, x86, root_with("")), data]).problems


class TestHiddenSoftware:
    """/srv is data, and its disk was not read; a link or a bind mount makes it software."""

    SRV = f"UUID={OTHER} /srv ext4 defaults 0 2"

    @pytest.mark.parametrize("left", [{}, {"srv/apps/": b""}], ids=["nothing below", "an empty folder below"])
    @pytest.mark.parametrize(
        "fstab", [SRV, "/dev/vdb /srv f2fs", "nas:/srv /srv nfs", "overlay /srv overlay lowerdir=/a"]
    )
    @pytest.mark.parametrize("link", [b"srv/apps", b"/srv/apps", b"/mnt/../srv/./apps", b"data/apps"])
    def test_a_link_in_place_of_a_software_folder(
        self, link: bytes, fstab: str, left: dict[str, bytes]
    ) -> None:
        root = root_with(fstab, **left)
        plain = machine_of(vda=root, vdb=F2FS)
        assert plain.coverage.complete
        files = {"opt": Link(link), "data": Link(b"/srv"), "mnt/": b"", **left}
        lines = f"UUID={ROOT} / ext4\n{fstab}\n".encode()
        linked = MemoryFileSystem({"srv/": b"", **files, **RELEASE, "etc/fstab": lines}, uuid=ROOT)
        coverage = machine_of(vda=linked, vdb=F2FS).coverage
        assert coverage.problems == ("/opt is a link into /srv, which was not read",)

    @pytest.mark.parametrize(
        "lines", [f"{SRV}\n/srv/apps /opt none bind", f"/data/apps /opt none bind\n{SRV}"]
    )
    def test_a_bind_of_what_was_left_below_the_mount(self, lines: str) -> None:
        files: dict[str, bytes | Link] = {"srv/apps/": b"", "opt/": b"", "data": Link(b"srv"), **RELEASE}
        fstab = f"UUID={ROOT} / ext4\n{lines}\n".encode()
        coverage = machine_of(vda=MemoryFileSystem({**files, "etc/fstab": fstab}, uuid=ROOT)).coverage
        assert len(coverage.problems) == 1
        assert "/apps, which lies on /srv, which was not read" in coverage.problems[0]

    def test_a_bind_of_unread_data_as_data_is_a_note(self) -> None:
        coverage = machine_of(vda=root_with(f"{self.SRV}\n/srv/a /mnt none bind", **{"srv/a/": b""})).coverage
        assert coverage.complete
        assert len(coverage.notes) == 2

    def test_a_read_mount_inside_of_an_unread_one_is_read(self) -> None:
        lines = f"UUID={ROOT} / ext4\n{self.SRV}\nUUID={VAR} /srv/apps ext4\n".encode()
        files = {"opt": Link(b"srv/apps"), "srv/apps/": b"", **RELEASE, "etc/fstab": lines}
        assert machine_of(vda=MemoryFileSystem(files, uuid=ROOT), vdb=other(2)).coverage.complete

    def test_a_linked_folder_is_told_once_and_not_again_for_the_folders_in_it(self) -> None:
        lines = f"UUID={ROOT} / ext4\n{self.SRV}\n".encode()
        files = {"var/lib": Link(b"/srv/lib"), "srv/": b"", **RELEASE, "etc/fstab": lines}
        coverage = machine_of(vda=MemoryFileSystem(files, uuid=ROOT)).coverage
        assert coverage.problems == ("/var/lib is a link into /srv, which was not read",)

    def test_links_in_a_circle_end(self) -> None:
        lines = f"UUID={ROOT} / ext4\n{self.SRV}\n".encode()
        files = {"opt": Link(b"lib"), "lib": Link(b"opt"), "srv/": b"", **RELEASE, "etc/fstab": lines}
        assert machine_of(vda=MemoryFileSystem(files, uuid=ROOT)).tree is not None


class Rotten(MemoryFileSystem):
    """A filesystem whose directories cannot be read."""

    def lookup(self, directory: int, name: bytes) -> int | None:
        raise InputError("directory block 7: checksum")


def entry(point: bytes, device: bytes = b"/dev/x", *options: str) -> MountEntry:
    return MountEntry(device, point, "ext4", options, "test")


def test_mounts_are_ordered_by_what_they_lie_in() -> None:
    entries = [
        entry(b"/a/b/c"),
        entry(b"/x", b"/a/b/src", "bind"),
        entry(b"/a"),
        entry(b"/ab"),
        entry(b"/a/b"),
    ]
    ordered = [found.point for found in in_order(entries)]
    assert ordered == [b"/a", b"/a/b", b"/a/b/c", b"/x", b"/ab"]


@pytest.mark.parametrize(
    ("point", "holds"),
    [
        (b"/", True), (b"/usr", True), (b"/usr/local", True), (b"/usrx", False), (b"/var", True),
        (b"/var/lib/docker", True), (b"/var/cache", False), (b"/boot", True), (b"/boot/efi", False),
        (b"/efi", False), (b"/lib64", True), (b"/library/x", True), (b"/home", False), (b"/srv", False),
    ],
)  # fmt: skip
def test_where_software_may_lie(point: bytes, holds: bool) -> None:
    assert may_hold_software(point) is holds
