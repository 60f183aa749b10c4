"""Which of the kernels on a disk would run, against which of them are fixed.

A package manager installs a fixed kernel beside the old one; it protects nobody until it boots. Findings
are about every kernel on the disk. What is said here is which of them matter: the one that boots by
default and the one that ran last.
"""

from collections.abc import Iterator

from undercroft.advisories.orders.order import Order
from undercroft.advisories.orders.table import DEB
from undercroft.model.inventory import Inventory, Kernel, Package


def problems(inventory: Inventory) -> Iterator[str]:
    """Yield each kernel that would run and that no package owns: no advisory can be matched with it."""
    kernels = {kernel.release: kernel for kernel in inventory.kernels if kernel.image}
    for verb, release in _running(inventory):
        kernel = kernels.get(release)
        if kernel is not None and _package(inventory, kernel) is None:
            yield f"kernel {release} {verb}, and no package owns it: its vulnerabilities are unknown"


def notes(inventory: Inventory, order: Order = DEB) -> Iterator[str]:
    """Yield each kernel that would run although a newer one is installed, or that is gone.

    `order` is that of the kernels' packages.
    """
    key = order.key
    owned = [
        (kernel, package)
        for kernel in inventory.kernels
        if kernel.image and (package := _package(inventory, kernel)) is not None
    ]
    if not owned:
        return
    newest, newest_package = max(owned, key=lambda pair: key(pair[1].version))
    versions = {kernel.release: package.version for kernel, package in owned}
    on_disk = {kernel.release for kernel in inventory.kernels if kernel.image}
    for verb, release in _running(inventory):
        if release not in on_disk:
            yield f"kernel {release} {verb}, and is not on the disk"
        elif release in versions and key(versions[release]) < key(newest_package.version):
            yield (
                f"kernel {release} ({versions[release]}) {verb}, although {newest.release} "
                f"({newest_package.version}) is installed"
            )


def _running(inventory: Inventory) -> Iterator[tuple[str, str]]:
    boot = inventory.boot
    if boot.default_release:
        yield "boots by default", boot.default_release
    if boot.last_run_release:
        yield "ran last", boot.last_run_release


def _package(inventory: Inventory, kernel: Kernel) -> Package | None:
    return next((package for package in inventory.packages if package.name == kernel.package), None)
