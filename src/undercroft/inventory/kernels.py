"""The kernels on a disk, and the one that would start.

Guarantees: a kernel is listed by its release (`uname -r`) when its image lies in /boot or its modules
lie in /lib/modules; its package is known by dpkg's names (linux-image-RELEASE) or by who owns its files. The
default entry is GRUB's (`disks.grub`), or the newest Boot Loader Specification entry; where neither
tells, the answer is "", not a guess. FreeBSD's kernels name their release themselves (`freebsdkernels`).
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from undercroft.disks.filesystem import FileKind
from undercroft.disks.grub import (
    MAX_CONFIG_BYTES,
    MAX_ENVIRONMENT_BYTES,
    MenuEntry,
    default_entry,
    kernel_release,
    parse_bls_entry,
    parse_config,
    parse_environment,
)
from undercroft.disks.text import raw, text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory import freebsdkernels
from undercroft.inventory.database import FindOwners, nobody
from undercroft.model.inventory import Kernel

BOOT = b"/boot"
MODULE_FOLDERS = (b"/lib/modules", b"/usr/lib/modules")
BLS_ENTRIES = b"/boot/loader/entries"
GRUB_FOLDERS = (b"/boot/grub", b"/boot/grub2")

MAX_KERNELS = 500
MAX_FOLDER_ENTRIES = 20_000

_IMAGE_PREFIXES = (b"vmlinuz-", b"vmlinux-")
_NAME_RULES = ("linux-image-{}", "linux-image-unsigned-{}", "linux-modules-{}", "linux-binary-{}")


@dataclass(frozen=True, slots=True)
class Kernels:
    """Kernels by release; problems are folders and lists that could not be read."""

    kernels: tuple[Kernel, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DefaultKernel:
    """The release that would start and the guest's file that says so, "" where none does."""

    release: str = ""
    source: str = ""


def read_kernels(tree: GuestTree, packages: Collection[str], find_owners: FindOwners = nobody) -> Kernels:
    """Return the kernels in `tree`.

    Args:
        tree: the machine's files.
        packages: names of the packages that are present.
        find_owners: who owns a path; asked for kernels that bear no package's name.
    """
    problems: list[str] = []
    images: dict[bytes, bytes] = {}
    for name in _names(tree, BOOT, FileKind.REGULAR, problems):
        prefix = next((prefix for prefix in _IMAGE_PREFIXES if name.startswith(prefix)), None)
        if prefix:
            images.setdefault(name[len(prefix) :], BOOT + b"/" + name)
    freebsds, told = freebsdkernels.find_kernels(tree)
    problems += told
    images |= freebsds
    releases = dict.fromkeys(images)
    for folder in MODULE_FOLDERS:
        releases |= dict.fromkeys(_names(tree, folder, FileKind.DIRECTORY, problems))
    if len(releases) > MAX_KERNELS:
        problems.append(f"more than {MAX_KERNELS} kernels, the rest was not read")
    kept = sorted(releases)[:MAX_KERNELS]
    owners = {release: _by_name(text(release), packages) for release in kept}
    unknown = [release for release in kept if not owners[release]]
    if unknown:
        problems += _ask_owners(find_owners, unknown, images, owners)
    kernels = [Kernel(text(name), text(images.get(name, b"")), owners[name]) for name in kept]
    return Kernels(tuple(kernels), tuple(problems))


def read_default(tree: GuestTree) -> DefaultKernel:
    """Return the kernel that starts without a keypress.

    Raises:
        InputError: the boot loader's files are malformed or larger than the limits.
    """
    for folder in GRUB_FOLDERS:
        try:
            config = parse_config(tree.read(folder + b"/grub.cfg", MAX_CONFIG_BYTES))
        except NotFoundError:
            continue
        environment = _environment(tree, folder)
        entry = default_entry(config, environment)
        if config.uses_bls and (entry is None or not entry.kernel):
            return _default_bls(tree, environment.get("saved_entry", ""))
        if entry and entry.kernel:
            return DefaultKernel(_release(tree, entry.kernel), text(folder + b"/grub.cfg"))
    return _default_bls(tree, "")


def _names(tree: GuestTree, folder: bytes, kind: FileKind, problems: list[str]) -> Iterable[bytes]:
    names: list[bytes] = []
    try:
        for count, entry in enumerate(tree.entries(folder)):
            if count >= MAX_FOLDER_ENTRIES:
                raise InputError(f"more than {MAX_FOLDER_ENTRIES} files")
            found = tree.stat_entry(entry).kind if entry.kind is FileKind.UNKNOWN else entry.kind
            if found is kind:
                names.append(entry.name)
    except NotFoundError:
        pass
    except InputError as error:
        problems.append(f"kernels: {text(folder)} could not be read: {error}")
    return names


def _by_name(release: str, packages: Collection[str]) -> str:
    names = (rule.format(release) for rule in _NAME_RULES)
    return next((name for name in names if name in packages), "")


def _ask_owners(
    find_owners: FindOwners, unknown: list[bytes], images: dict[bytes, bytes], owners: dict[bytes, str]
) -> list[str]:
    """Look the kernels up that bear no package's name; lists say /lib before and after merged /usr."""
    paths = {folder + b"/" + release: release for release in unknown for folder in MODULE_FOLDERS}
    paths |= {images[release]: release for release in unknown if release in images}
    found = find_owners(paths.keys())
    for path, package in found.packages.items():
        owners[paths[path]] = package
    return found.problems


def _environment(tree: GuestTree, folder: bytes) -> dict[str, str]:
    try:
        return parse_environment(tree.read(folder + b"/grubenv", MAX_ENVIRONMENT_BYTES))
    except NotFoundError:
        return {}


def _release(tree: GuestTree, kernel: str) -> str:
    """Return the release by the kernel's file name; GRUB's path starts at its own partition's root."""
    if release := kernel_release(kernel):
        return release
    path = raw(kernel)
    for candidate in (BOOT + b"/" + path.lstrip(b"/"), b"/" + path.lstrip(b"/")):
        try:
            return kernel_release(text(tree.realpath(candidate)))
        except NotFoundError:
            continue
    return ""


def _default_bls(tree: GuestTree, saved: str) -> DefaultKernel:
    entries: list[MenuEntry] = []
    try:
        for count, entry in enumerate(tree.entries(BLS_ENTRIES)):
            if count >= MAX_KERNELS:
                raise InputError(f"{text(BLS_ENTRIES)}: more than {MAX_KERNELS} entries")
            if entry.name.endswith(b".conf"):
                content = tree.read_entry(entry, MAX_ENVIRONMENT_BYTES)
                entries.append(parse_bls_entry(content, text(entry.name[: -len(b".conf")])))
    except NotFoundError:
        return DefaultKernel()
    if not entries:
        return DefaultKernel()
    newest = max(entries, key=lambda entry: _version_key(entry.ident))
    chosen = next((entry for entry in entries if entry.ident == saved), newest)
    return DefaultKernel(_release(tree, chosen.kernel), f"{text(BLS_ENTRIES)}/{chosen.ident}.conf")


def _version_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort names by their numbers as numbers, as boot loaders sort their entries."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((1, int(part[:18]), "") if part[0] in "0123456789" else (0, 0, part) for part in parts)
