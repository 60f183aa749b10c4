"""Where a name in an image's header leads, without waking an automounter.

Looking at `/net/HOST/...` mounts what HOST exports: a name that somebody wrote into an image would have the
host speak to a server of their choice, as root, and wait for it. Guarantees: below an automounter nothing is
looked at that is not mounted already. All other links and folders are followed as the kernel does.
"""

import os
import re
from pathlib import Path

MOUNTS = "/proc/self/mountinfo"
MAX_LINKS = 40
"""The kernel's own limit."""

_AUTOMOUNTER = "autofs"
_ESCAPE = re.compile(r"\\([0-7]{3})")


class QuietPaths:
    """Resolves paths by the mounts that there are now.

    Args:
        mounts: path of the kernel's list.
    """

    def __init__(self, mounts: str = "") -> None:
        self._automounters: set[str] = set()
        self._mounted: set[str] = set()
        try:
            with open(mounts or MOUNTS, encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    self._add(line)
        except OSError:
            self._automounters.add("/")  # nobody knows what a look would do

    def resolved(self, untrusted_path: str) -> str | None:
        """Return an absolute path without links, None where only a mount would tell where it leads.

        Args:
            untrusted_path: absolute, or relative to the working folder; without NUL.
        """
        path = untrusted_path if untrusted_path.startswith("/") else os.path.join(os.getcwd(), untrusted_path)
        rest, done, links = path.split("/")[::-1], "/", 0
        while rest:
            part = rest.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                done = os.path.dirname(done)
                continue
            here = os.path.join(done, part)
            if self._would_mount(done, here):
                return None
            target = _link(here) if links < MAX_LINKS else ""
            if not target:
                done = here
                continue
            links += 1
            done = "/" if target.startswith("/") else done
            rest += target.split("/")[::-1]
        return done

    def _would_mount(self, folder: str, here: str) -> bool:
        return folder in self._automounters and not self._mounted & {folder, here}

    def _add(self, line: str) -> None:
        """Take one line of mountinfo, proc_pid_mountinfo(5)."""
        fields, _, more = line.partition(" - ")
        point = _ESCAPE.sub(lambda found: chr(int(found.group(1), 8)), fields.split(" ")[4])
        (self._automounters if more.startswith(_AUTOMOUNTER + " ") else self._mounted).add(point)


def _link(path: str) -> str:
    """Return what a link says, "" for what is none."""
    try:
        return str(Path(path).readlink())
    except (OSError, ValueError):
        return ""
