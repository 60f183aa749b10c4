"""What the boot loader's menus on a machine's volumes say is the root.

Guarantees: every GRUB menu on a readable filesystem is asked, whether its answer is readable or not;
a menu that cannot be read is a problem. Where a menu takes its entries from Boot Loader Specification
files, each of them may start, and each is an answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from undercroft.disks.grub import (
    MAX_CONFIG_BYTES,
    MAX_ENVIRONMENT_BYTES,
    MenuEntry,
    default_entry,
    parse_bls_entry,
    parse_config,
    parse_environment,
)
from undercroft.disks.text import raw, text
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError, NotFoundError

MAX_GRUB_MENUS = 16
"""Menus are up to 512 KiB, and a machine has one or two."""

MAX_BLS_FILES = 500

_GRUB_FOLDERS = (b"/boot/grub", b"/boot/grub2", b"/grub", b"/grub2")


@dataclass(frozen=True, slots=True)
class RootArgument:
    """A `root=` that starts without a keypress: untrusted value and mount options, the menu that says so."""

    device: bytes
    menu: str
    options: tuple[str, ...] = ()


@dataclass(slots=True)
class BootMenus:
    """All answers in the order of the volumes, and the menus that gave none."""

    roots: list[RootArgument] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_menus(volumes: Sequence[OpenVolume]) -> BootMenus:
    """Return what the menus on `volumes` start. Malformed and unreadable ones become problems."""
    menus = BootMenus()
    count = 0
    for volume in volumes:
        if volume.filesystem is None:
            continue
        tree = GuestTree(volume.filesystem)
        for folder in _GRUB_FOLDERS:
            menu = f"{text(folder)}/grub.cfg on {volume.name}"
            try:
                config = tree.read(folder + b"/grub.cfg", MAX_CONFIG_BYTES)
                count += 1
                if count > MAX_GRUB_MENUS:
                    raise InputError(f"it is one of more than {MAX_GRUB_MENUS} menus")
                for entry in _default_entries(config, tree, folder):
                    root = RootArgument(raw(entry.root), menu, tuple(entry.root_flags.split(",")))
                    if entry.root and root not in menus.roots:
                        menus.roots.append(root)
            except NotFoundError:
                continue
            except InputError as error:
                menus.problems.append(f"{menu}: which system it starts could not be read: {error}")
    return menus


def _default_entries(config: bytes, tree: GuestTree, folder: bytes) -> list[MenuEntry]:
    """Return the default entry, or all that it may be."""
    parsed = parse_config(config)
    try:
        environment = parse_environment(tree.read(folder + b"/grubenv", MAX_ENVIRONMENT_BYTES))
    except NotFoundError:
        environment = {}
    entry = default_entry(parsed, environment)
    if parsed.uses_bls and (entry is None or not entry.kernel):
        return list(_bls_entries(tree, folder.rpartition(b"/")[0] + b"/loader/entries"))
    return [entry] if entry else []


def _bls_entries(tree: GuestTree, folder: bytes) -> Iterator[MenuEntry]:
    try:
        for entry in islice(tree.entries(folder), MAX_BLS_FILES):
            if entry.name.endswith(b".conf"):
                yield parse_bls_entry(tree.read_entry(entry, MAX_ENVIRONMENT_BYTES), text(entry.name))
    except NotFoundError:
        return
