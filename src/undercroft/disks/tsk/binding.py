"""pytsk3 behind two calls: a source as its image, and its errors as ours.

Guarantees: an error of the source itself (a bad sector, a damaged cluster of the image) comes back as that
error and not as the library's; every error of the library is an `InputError` that begins with "ntfs".
"""

from collections.abc import Callable
from typing import Any, TypeVar

from undercroft.disks.source import MAX_READ_BYTES, BlockSource
from undercroft.errors import InputError, UnsupportedError

try:  # loaded with this module, since a reader's child can import nothing
    import pytsk3
except ImportError:
    pytsk3 = None

CURE = "NTFS needs pytsk3: pip install 'undercroft[windows]'"
MAX_ERROR_CHARS = 300

constants: Any = pytsk3
"""The library's numbers, by their names."""

Answer = TypeVar("Answer")


class Library:
    """One open filesystem of the library.

    Attributes:
        handle: pytsk3's FS_Info.
    """

    def __init__(self, source: BlockSource) -> None:
        """Open an NTFS. Raises InputError where the library finds none."""
        if pytsk3 is None:
            raise UnsupportedError(CURE)
        self._failure: list[InputError] = []
        self._image = _image(source, self._failure)
        self.handle = self.ask(
            lambda: pytsk3.FS_Info(self._image, offset=0, type=pytsk3.TSK_FS_TYPE_NTFS_DETECT)
        )

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """Return what `call` of the library gives. Raises InputError in place of its errors."""
        self._failure.clear()
        try:
            answer = call()
        except (OSError, RuntimeError, OverflowError, ValueError, TypeError, AttributeError) as error:
            if self._failure:
                raise self._failure[0] from error
            raise InputError(f"ntfs {' '.join(str(error).split())[:MAX_ERROR_CHARS]}") from error
        if self._failure:
            raise self._failure[0]
        return answer


def _image(source: BlockSource, failure: list[InputError]) -> Any:
    """Return `source` as an image of the library's; its errors are kept in `failure`."""

    class Image(pytsk3.Img_Info):  # type: ignore[misc] # the library has no types
        def __init__(self) -> None:
            super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

        def read(self, offset: int, size: int) -> bytes:
            length = min(size, source.size_bytes - offset, MAX_READ_BYTES)
            if offset < 0 or length <= 0:
                return b""
            try:
                return source.read(offset, length)
            except InputError as error:
                failure.append(error)
                return b""

        def get_size(self) -> int:
            return source.size_bytes

    return Image()
