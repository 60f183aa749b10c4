"""An fstab is read as libmount reads it, mount units as systemd does; any bytes give a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.fstab import MAX_ENTRIES, MountEntry, merge, normalize, parse_fstab

DEBIAN = b"""# /etc/fstab: static file system information.
#
# <file system> <mount point>   <type>  <options>       <dump>  <pass>
# / was on /dev/vda1 during installation
UUID=6e9a1c52-0b5e-4d6f-9a3c-1f2d3e4c5b6a /               ext4    errors=remount-ro 0       1
# swap was on /dev/vda5 during installation
UUID=11111111-0b5e-4d6f-9a3c-1f2d3e4c5b6a none            swap    sw              0       0
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0
"""
UBUNTU_CLOUD = b"""LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,commit=30,errors=remount-ro\t0 1
LABEL=BOOT\t/boot\text4\tdefaults\t0 2
LABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1
"""


def entry(line: bytes) -> MountEntry:
    (found,) = parse_fstab(line).entries
    return found


def test_debians_fstab_is_read() -> None:
    root, swap, cdrom = parse_fstab(DEBIAN).entries
    assert (root.device, root.point, root.fs_type) == (
        b"UUID=6e9a1c52-0b5e-4d6f-9a3c-1f2d3e4c5b6a",
        b"/",
        "ext4",
    )
    assert root.place == "/etc/fstab line 5"
    assert swap.point == b""
    assert (cdrom.automatic, cdrom.fs_type) == (False, "udf,iso9660")
    assert not parse_fstab(DEBIAN).problems


def test_ubuntus_cloud_fstab_is_read() -> None:
    assert [found.point for found in parse_fstab(UBUNTU_CLOUD).entries] == [b"/", b"/boot", b"/boot/efi"]


def test_octal_escapes_are_undone_in_device_and_mount_point() -> None:
    found = entry(rb"/dev/disk/by-label/my\040disk /mnt/with\040space\134\011 ext4 defaults 0 0")
    assert found.device == b"/dev/disk/by-label/my disk"
    assert found.point == b"/mnt/with space\\\t"


def test_two_fields_are_enough_and_one_is_a_problem() -> None:
    assert entry(b"/dev/vda1 /mnt").fs_type == "auto"
    table = parse_fstab(b"/dev/vda1\n/dev/vdb1 relative ext4\n/dev/vdc1 /ok ext4\n")
    assert [found.point for found in table.entries] == [b"/ok"]
    assert table.problems == (
        "/etc/fstab line 1: one field, needs at least a device and a mount point",
        "/etc/fstab line 2: the mount point relative is not an absolute path",
    )


@pytest.mark.parametrize(
    ("options", "automatic"),
    [(b"defaults", True), (b"noauto", False), (b"noauto,x-systemd.automount", True), (b"nofail", True)],
)
def test_noauto_is_not_mounted_at_boot_unless_an_automount_does_it(options: bytes, automatic: bool) -> None:
    assert entry(b"/dev/vda1 /mnt ext4 " + options).automatic is automatic


def test_binds_are_known_by_option_and_by_type() -> None:
    assert entry(b"/srv/opt /opt none bind 0 0").is_bind
    assert entry(b"/srv/opt /opt none rbind,ro 0 0").is_bind
    assert not entry(b"/dev/vda1 /opt ext4 defaults 0 0").is_bind


def test_points_are_normalized() -> None:
    assert entry(b"/dev/vda1 //var/./lib/../log/ ext4").point == b"/var/log"
    assert normalize(b"/../..") == b"/"


def test_more_entries_than_the_limit_are_a_problem() -> None:
    table = parse_fstab(b"".join(b"/dev/vda1 /mnt/%d ext4\n" % number for number in range(MAX_ENTRIES + 5)))
    assert len(table.entries) == MAX_ENTRIES
    assert table.problems == (
        f"/etc/fstab line {MAX_ENTRIES + 1}: more than {MAX_ENTRIES} entries, the rest was not read",
    )


def test_a_field_that_is_too_long_is_a_problem() -> None:
    table = parse_fstab(b"/dev/vda1 /" + b"x" * 5000 + b" ext4")
    assert not table.entries
    assert "more than 4096 bytes" in table.problems[0]


def test_a_unit_replaces_the_fstab_line_and_inherits_its_start() -> None:
    unit = MountEntry(b"/dev/vdz", b"/opt/app", "ext4", (), "opt-app.mount", automatic=False)
    table = merge(parse_fstab(b"/dev/vdb /opt/app ext4\n"), (unit,))
    assert [(found.device, found.automatic) for found in table.entries] == [(unit.device, True)]
    (alone,) = merge(parse_fstab(b""), (unit,)).entries
    assert not alone.automatic


def test_the_first_of_two_lines_for_one_point_wins_and_the_second_is_told() -> None:
    table = merge(parse_fstab(b"/dev/vdb /opt ext4\n/dev/vdc /opt ext4\n"), ())
    assert [found.device for found in table.entries] == [b"/dev/vdb"]
    assert table.notes == ("/etc/fstab line 2: /opt is mounted by /etc/fstab line 1",)


@given(st.binary(max_size=400) | st.text("UUID=/ \\0123#\t\nvarswap,bind", max_size=200).map(str.encode))
def test_any_bytes_give_entries_and_problems(untrusted: bytes) -> None:
    table = merge(parse_fstab(untrusted), ())
    for found in table.entries:
        assert found.point.startswith(b"/")
        assert b"/../" not in found.point + b"/"


def test_a_nullfs_of_freebsd_is_a_bind_and_its_swap_has_no_point() -> None:
    lines = b"/usr/ports /jail/ports nullfs ro 0 0\n/dev/ada0p3 none swap sw 0 0\n/dev/ada0p2 / ufs rw 1 1\n"
    binds = [(entry.point, entry.is_bind) for entry in parse_fstab(lines).entries]
    assert binds == [(b"/jail/ports", True), (b"", False), (b"/", False)]
