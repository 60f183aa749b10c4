"""What a disk's path leads to, so that two names of one image are known to be one.

libvirt names a disk by the path that its definition has. A symbolic link, a hard link, a bind mount and a
second device node are other names of the same bytes. This is asked of the host's kernel beside libvirt, as
root and following links as libvirt does. It opens nothing.
"""

import os
import stat
import threading
from collections.abc import Callable

PATIENCE_S = 2.0


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


class ImageFiles:
    """Asks what paths lead to, and never for longer than it may take: a mount whose server is gone hangs.

    While an answer is out nothing else is asked: one thread hangs at most. One survey at a time.

    Args:
        ask: what is asked of a path.
        patience_s: how long an answer is waited for.
    """

    def __init__(self, ask: Callable[[str], str] = image_identity, patience_s: float = PATIENCE_S) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._hanging: threading.Thread | None = None

    def identity(self, path: str) -> str:
        """Return `image_identity` of a path, "" also where the answer does not come."""
        if self._hanging is not None and self._hanging.is_alive():
            return ""
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(self._ask(path)), daemon=True)
        thread.start()
        thread.join(self._patience_s)
        self._hanging = thread
        return found[0] if found else ""
