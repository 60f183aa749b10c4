"""Live systems: a root that lies in files of a disc or a stick, in one image or in layers of several.

Guarantees: looked for only where no ordinary root was found, and never in place of one on another disk that
could not be read. All layers are read or there is no root, with the reason. A choice that nothing on the
medium decides, and a layer of changes that was not applied, is a problem.

    >>> live = find_live(volumes, opener, keys)
"""

from undercroft.disks.live.root import Live, find_live

__all__ = ["Live", "find_live"]
