"""The files that may hold credentials, read within limits; what goes wrong is noted and left out.

Guarantees: a missing file gives nothing, as the guest's own programs would find nothing there; every other
reason not to have it (damage, size, a pipe in its place) is a problem.
"""

from collections.abc import Iterator

from undercroft.disks.filesystem import FileKind
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree, WalkLimits
from undercroft.errors import InputError, NotFoundError

MAX_PROBLEMS = 50
MAX_SHOWN_CHARS = 300

MAX_ALL_BYTES = 64 << 20
MAX_LOOKS = 100_000
"""Files and folders that are asked for, there or not: some seconds of work at the most."""


class Finder:
    """A guest's tree with a list of what could not be had from it."""

    def __init__(self, tree: GuestTree) -> None:
        self.tree = tree
        self._problems: dict[str, None] = {}
        self._more = 0
        self._bytes_left = MAX_ALL_BYTES
        self._looks_left = MAX_LOOKS
        self._is_over = False

    @property
    def problems(self) -> tuple[str, ...]:
        """The first problems, each once, and how many more there were."""
        more = (f"and {self._more} more of this kind",) if self._more else ()
        return (*self._problems, *more)

    def problem(self, text: str) -> None:
        """Note what is missing."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems[text[:MAX_SHOWN_CHARS]] = None
        else:
            self._more += 1

    def read(self, path: bytes, limit: int) -> bytes | None:
        """Return a file of at most `limit` bytes, links followed; None where there is none to be had."""
        if not self._may_look(path):
            return None
        try:
            content = self.tree.read(path, limit)
        except NotFoundError:
            return None
        except InputError as error:
            self.problem(f"{text(path)} could not be read: {error}")
            return None
        self._bytes_left -= len(content)
        return content

    def is_missing(self, path: bytes) -> bool:
        """Return whether there is no such file; False where the disk does not let that be told."""
        try:
            return not self.tree.exists(path)
        except InputError:
            return False

    def names(self, folder: bytes, limit: int) -> list[bytes]:
        """Return the names in a folder, sorted; none where it is missing, not all where it has too many."""
        found: list[bytes] = []
        if not self._may_look(folder):
            return found
        try:
            for entry in self.tree.entries(folder):
                if len(found) >= limit:
                    self.problem(f"{text(folder)}: more than {limit} files, the rest was not looked at")
                    break
                found.append(entry.name)
        except NotFoundError:
            pass
        except InputError as error:
            self.problem(f"{text(folder)} could not be read: {error}")
        return sorted(found)

    def files_below(self, folder: bytes, limits: WalkLimits) -> Iterator[bytes]:
        """Yield the paths of the regular files below a folder; links are not followed."""
        try:
            for path, entry in self.tree.walk(folder, limits):
                kind = entry.kind
                if kind is FileKind.UNKNOWN:
                    kind = self.tree.stat_entry(entry).kind
                if kind is FileKind.REGULAR:
                    yield path
        except NotFoundError:
            pass
        except InputError as error:
            self.problem(f"{text(folder)} was not searched whole: {error}")

    def is_filled(self, path: bytes) -> bool:
        """Return whether there is a regular file with something in it, links followed."""
        if not self._may_look(path):
            return False
        try:
            stat = self.tree.stat(path)
        except NotFoundError:
            return False
        except InputError as error:
            self.problem(f"{text(path)} could not be looked at: {error}")
            return False
        return stat.kind is FileKind.REGULAR and stat.size_bytes > 0

    def _may_look(self, path: bytes) -> bool:
        """Return whether there is any budget left; the first path without one is told."""
        if self._looks_left > 0 and self._bytes_left > 0:
            self._looks_left -= 1
            return True
        if not self._is_over:
            self._is_over = True
            limits = f"{MAX_LOOKS} files or {MAX_ALL_BYTES} bytes"
            self.problem(f"from {text(path)} on nothing was read: over the limit of {limits}")
        return False
