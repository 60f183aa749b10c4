"""Overlays: several folders shown as one tree, the upper over the lower, as Linux' overlayfs does.

Guarantees: the merged tree shows what a mount of the same layers shows: whiteouts, opaque and renamed folders
are honoured. A layer that cannot tell them (its reader knows no extended attributes) makes the whole overlay
unread, and a file whose content lies in another layer than its metadata is unread; never is a lower layer's
file shown in place of an upper one's.

    >>> Overlay([Layer(upper, node), Layer(lower, lower.root)]).lookup(...)
"""

from undercroft.disks.overlay.filesystem import Layer, Overlay
from undercroft.disks.overlay.options import OverlayOptions, parse_options

__all__ = ["Layer", "Overlay", "OverlayOptions", "parse_options"]
