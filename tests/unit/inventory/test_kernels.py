"""Kernels on the disk, who owns them, and which one would start."""

import pytest
from memorymachines import Broken, Link, MemoryFileSystem, tree_of

from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError
from undercroft.inventory.kernels import DefaultKernel, Kernels, read_default, read_kernels
from undercroft.inventory.owners import find_owners
from undercroft.model.inventory import Kernel

MENU = b"set default=0\nmenuentry a {\n linux /vmlinuz-6.1.0-28-amd64 root=UUID=x\n}\n"
OWN_KERNEL = b"/.\n/boot\n/boot/vmlinuz-6.6.6-own\n/lib/modules/6.6.6-own\n"


def kernels_in(tree: GuestTree) -> Kernels:
    """Ask dpkg's lists for the kernels that bear no package's name."""
    return read_kernels(tree, set(), lambda wanted: find_owners(tree, wanted))


def test_kernels_are_found_by_image_and_by_modules_and_owned_by_name() -> None:
    tree = tree_of(
        {
            "boot/vmlinuz-6.1.0-28-amd64": b"",
            "boot/initrd.img-6.1.0-28-amd64": b"",
            "boot/vmlinuz.old": Link(b"vmlinuz-6.1.0-28-amd64"),
            "lib/modules/6.1.0-28-amd64/modules.dep": b"",
            "lib/modules/6.1.0-25-amd64/updates/x.ko": b"",
        }
    )
    found = read_kernels(tree, {"linux-image-6.1.0-28-amd64", "bash"})
    assert found.kernels == (
        Kernel("6.1.0-25-amd64", "", ""),
        Kernel("6.1.0-28-amd64", "/boot/vmlinuz-6.1.0-28-amd64", "linux-image-6.1.0-28-amd64"),
    )
    assert not found.problems


def test_a_kernel_of_another_name_is_owned_by_the_list_that_holds_it() -> None:
    files = {"boot/vmlinuz-6.6.6-own": b"", "lib": Link(b"usr/lib"), "usr/lib/modules/6.6.6-own/x": b""}
    owned = tree_of({**files, "var/lib/dpkg/info/own-kernel:amd64.list": OWN_KERNEL})
    assert kernels_in(owned).kernels == (Kernel("6.6.6-own", "/boot/vmlinuz-6.6.6-own", "own-kernel"),)
    assert read_kernels(tree_of(files), set()).kernels[0].package == ""


def test_a_list_that_cannot_be_read_is_a_problem_because_its_kernel_looks_unowned() -> None:
    tree = tree_of({"boot/vmlinuz-1-x": b"", "var/lib/dpkg/info/a.list": Broken()})
    assert kernels_in(tree).problems[0].startswith("/var/lib/dpkg/info/a.list could not be read: ")


@pytest.mark.parametrize("folder", ["boot/grub", "boot/grub2"])
def test_grubs_default_is_the_default(folder: str) -> None:
    assert read_default(tree_of({f"{folder}/grub.cfg": MENU})) == DefaultKernel(
        "6.1.0-28-amd64", f"/{folder}/grub.cfg"
    )


def test_a_link_in_place_of_a_kernel_is_followed_on_a_separate_boot_partition_too() -> None:
    menu = b"menuentry a {\n linux /vmlinuz root=/dev/vda2\n}\n"
    tree = tree_of({"boot/": b""})
    boot = MemoryFileSystem({"grub/grub.cfg": menu, "vmlinuz": Link(b"vmlinuz-5.10"), "vmlinuz-5.10": b""})
    tree.mount(b"/boot", boot)
    assert read_default(tree).release == "5.10"
    whole = tree_of(
        {"boot/grub/grub.cfg": menu, "vmlinuz": Link(b"boot/vmlinuz-5.9"), "boot/vmlinuz-5.9": b""}
    )
    assert read_default(whole).release == "5.9"


def test_entries_of_the_boot_loader_specification_are_ordered_by_version_unless_one_is_saved() -> None:
    files = {
        f"boot/loader/entries/abc-{version}.conf": f"linux /vmlinuz-{version}\n".encode()
        for version in ("5.14.0-9", "5.14.0-427", "5.14.0-70")
    }
    files["boot/grub2/grub.cfg"] = b"blscfg\n"
    assert read_default(tree_of(files)).release == "5.14.0-427"
    files["boot/grub2/grubenv"] = b"# GRUB Environment Block\nsaved_entry=abc-5.14.0-70\n"
    assert read_default(tree_of(files)) == DefaultKernel(
        "5.14.0-70", "/boot/loader/entries/abc-5.14.0-70.conf"
    )


def test_no_boot_loader_is_no_answer_and_a_broken_one_is_an_error() -> None:
    assert read_default(tree_of({"boot/": b""})) == DefaultKernel()
    with pytest.raises(InputError):
        read_default(tree_of({"boot/grub/grub.cfg": Broken()}))


def test_a_folder_that_cannot_be_listed_is_a_problem() -> None:
    class Rotten(MemoryFileSystem):
        def entries(self, directory: int):  # type: ignore[no-untyped-def]  # a generator that fails
            raise InputError("directory block 7: checksum")

    tree = GuestTree(Rotten({"boot/vmlinuz-1": b"", "lib/modules/1/x": b""}))
    assert read_kernels(tree, set()).problems == (
        "kernels: /boot could not be read: directory block 7: checksum",
        "kernels: /lib/modules could not be read: directory block 7: checksum",
    )
