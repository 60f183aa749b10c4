"""Overlays: several folders shown as one tree, the upper over the lower, as Linux' overlayfs does.

Guarantees: the merged tree shows what a mount of the same layers shows: whiteouts, opaque and renamed folders
are honoured. A layer that cannot tell them (its reader knows no extended attributes) makes the whole overlay
unread, and a file whose content lies in another layer than its metadata is unread; never is a lower layer's
file shown in place of an upper one's.

    >>> Overlay([Layer(upper, node), Layer(lower, lower.root)]).lookup(...)
"""

from undercroft.disks.formats import Level
from undercroft.disks.overlay.filesystem import Layer, Overlay
from undercroft.disks.overlay.options import OverlayOptions, parse_options

TITLE, LEVEL = "overlays", Level.PARTLY
READS = (
    "those that an fstab or a mount unit names: whiteouts, opaque and renamed folders; "
    "not: content in another layer than its metadata (metacopy), layers of data alone"
)
"""For the table of what is read."""

__all__ = ["LEVEL", "READS", "TITLE", "Layer", "Overlay", "OverlayOptions", "parse_options"]
