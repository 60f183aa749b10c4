"""What a machine may run that none of its disks holds."""

from xml.etree import ElementTree

import pytest

from undercroft.adapters.libvirt.boot_xml import MAX_NAMED, runs_beside

_QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


def beside(inside: str, attributes: str = "") -> tuple[str, ...]:
    return runs_beside(ElementTree.fromstring(f"<domain {attributes}>{inside}</domain>"))


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("<os><kernel>/boot/vmlinuz</kernel></os>", "a kernel of the host"),
        ("<os><boot dev='hd'/><boot dev='network'/></os>", "what the network gives it"),
        (
            "<devices><interface type='bridge'><boot order='1'/></interface></devices>",
            "what the network gives it",
        ),
        (
            "<devices><disk device='cdrom'><source file='/x.iso'/><target dev='sda'/></disk></devices>",
            "the cdrom in sda",
        ),
        ("<devices><hostdev mode='subsystem' type='scsi'/></devices>", "a scsi device of the host"),
        ("<devices><filesystem type='mount'/></devices>", "a folder of the host"),
    ],
)
def test_what_no_disk_holds_is_named(inside: str, words: str) -> None:
    assert beside(inside) == (words,)


def test_arguments_of_qemu_that_give_it_something_to_run_are_named() -> None:
    argument = "<qemu:commandline><qemu:arg value='{}'/></qemu:commandline>"
    for value in ("-loadvm", "--drive", "-kernel=/x"):
        assert "qemu:commandline" in beside(argument.format(value), _QEMU)[0]
    assert beside(argument.format("-name"), _QEMU) == ()


def test_disks_and_empty_drives_are_nothing_beside() -> None:
    disks = (
        "<devices><disk device='disk'><source file='/x.qcow2'/><target dev='vda'/></disk>"
        "<disk device='cdrom'><target dev='sda'/></disk></devices><os><boot dev='hd'/></os>"
    )
    assert beside(disks) == ()


def test_a_definition_with_very_many_is_cut_and_says_so() -> None:
    drives = "".join(
        f"<disk device='cdrom'><source file='/x'/><target dev='sd{number}'/></disk>" for number in range(40)
    )
    found = beside(f"<devices>{drives}</devices>")
    assert (len(found), found[-1]) == (MAX_NAMED + 1, "24 more")
