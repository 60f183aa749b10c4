"""What a writable layer over a root that cannot be written hides: it is told, since it is not read.

Guarantees: a root on squashfs is never called whole without a word of the layer that a guest may lay over
it. Where another volume holds the folders of such a layer (overlayfs' upper and work directories, as live
systems and appliances name them), what was read may not be what the guest sees, which is a problem.
"""

from collections.abc import Sequence

from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError

READ_ONLY_KINDS = frozenset({"squashfs", "overlay", "iso9660"})
_LAYERS = ((b"upper", b"work"), (b"rw", b"work"), (b"upperdir", b"workdir"), (b"overlay", b"ovlwork"))
"""Pairs of folders side by side: OpenWrt and initramfs-tools, live-boot, Raspberry Pi OS, dracut."""


def layers_over(
    root: OpenVolume, volumes: Sequence[OpenVolume], *, is_live: bool = False
) -> tuple[list[str], list[str]]:
    """Return (problems, notes) of what may lie over `root`; both are empty for one that can be written.

    Args:
        root: of the machine.
        volumes: that may hold such a layer and were not applied.
        is_live: the root lies in files of a medium, whatever its format.
    """
    if root.kind not in READ_ONLY_KINDS and not is_live:
        return [], []
    over = [volume for volume in volumes if volume is not root and _holds_a_layer(volume)]
    if not over:
        note = f"{root.name}: the root is {root.kind}; what a guest keeps over it in memory is on no disk"
        return [], [note]
    names = ", ".join(volume.name for volume in over)
    return [
        f"{names}: holds the layer that the guest writes over its root on {root.name}; it was not applied, so"
        " what it changed is not in this inventory"
    ], []


def _holds_a_layer(volume: OpenVolume) -> bool:
    """Whether it has such a pair of folders; one that cannot be asked may have them."""
    filesystem = volume.filesystem
    if filesystem is None:
        return False
    try:
        return any(
            all(filesystem.lookup(filesystem.root, name) is not None for name in pair) for pair in _LAYERS
        )
    except InputError:
        return True
