"""A guest's file that is read here and there: a database that is larger than what is wanted of it.

Guarantees: reads whole windows and keeps the last few, so that memory is bounded whatever the file's
size; a range beyond the file's end is an `InputError`, never fewer bytes.
"""

from collections import OrderedDict

from undercroft.disks.filesystem import FileKind
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError

WINDOW_BYTES = 1 << 20
MAX_WINDOWS = 24


class GuestFile:
    """A regular file of a guest by offset.

    Attributes:
        path: its path in the guest.
        size_bytes: its size.
    """

    def __init__(self, tree: GuestTree, path: bytes) -> None:
        """Look at the file.

        Raises:
            NotFoundError: it is not there.
            InputError: it is no regular file, or its metadata is malformed.
        """
        stat = tree.stat(path)
        if stat.kind is not FileKind.REGULAR:
            raise InputError(f"{text(path)} is not a regular file")
        self.path = path
        self.size_bytes = stat.size_bytes
        self._tree = tree
        self._windows: OrderedDict[int, bytes] = OrderedDict()

    def read(self, offset: int, length: int) -> bytes:
        """Return a range. Raises InputError where it leaves the file, or the file's blocks are malformed."""
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise InputError(f"bytes {offset} to {offset + length} lie beyond its {self.size_bytes} bytes")
        number, start = divmod(offset, WINDOW_BYTES)
        if start + length <= WINDOW_BYTES:
            return self._window(number)[start : start + length]
        parts = bytearray()
        while length > 0:
            part = self._window(number)[start : start + length]
            parts += part
            length -= len(part)
            number, start = number + 1, 0
        return bytes(parts)

    def _window(self, number: int) -> bytes:
        found = self._windows.get(number)
        if found is not None:
            self._windows.move_to_end(number)
            return found
        wanted = min(WINDOW_BYTES, self.size_bytes - number * WINDOW_BYTES)
        data = bytearray()
        for chunk in self._tree.chunks(self.path, number * WINDOW_BYTES):
            data += chunk
            if len(data) >= wanted:
                break
        if len(data) < wanted:
            raise InputError(f"the file ends before its size of {self.size_bytes} bytes")
        self._windows[number] = window = bytes(data[:wanted])
        if len(self._windows) > MAX_WINDOWS:
            self._windows.popitem(last=False)
        return window
