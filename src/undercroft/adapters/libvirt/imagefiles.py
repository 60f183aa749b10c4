"""What a disk's path leads to, so that two names of one image are known to be one.

libvirt names a disk by the path that its definition has. A symbolic link, a hard link, a bind mount and a
second device node are other names of the same bytes. This is asked of the host's kernel beside libvirt, as
root and following links as libvirt does. It opens nothing.
"""

import os
import stat


def image_identity(path: str) -> str:
    """Return what a path leads to: "file DEVICE:INODE" or "block MAJOR:MINOR".

    "" where it cannot be told: no such file, a folder on the way that cannot be entered, or neither a file
    nor a block device. Two mounts of one network filesystem may number their devices apart.
    """
    if not path.startswith("/"):
        return ""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    if stat.S_ISBLK(found.st_mode):
        return f"block {os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    return f"file {found.st_dev}:{found.st_ino}" if stat.S_ISREG(found.st_mode) else ""
