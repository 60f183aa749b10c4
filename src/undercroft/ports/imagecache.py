"""What is kept of images from one scan to the next."""

from typing import Protocol

from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.fleet import FileIdentity, ReadSet
from undercroft.model.images import KeptAnswer
from undercroft.model.inventory import Inventory


class ImageCache(Protocol):
    """Kept answers; what is lost costs a reading. May be used by several threads.

    It finds, and judges nothing: whether an answer still holds is for whoever asks. Nothing here raises for a
    cache that cannot be read or written: it then knows nothing.
    """

    def info(self, identity: FileIdentity, image_format: DiskFormat | None) -> ImageInfo | None:
        """Return what the file of exactly this identity said of itself, opened as that format."""
        ...

    def keep_info(self, identity: FileIdentity, image_format: DiskFormat | None, info: ImageInfo) -> None:
        """Keep what a file said of itself; its identity has to prove."""
        ...

    def answer(self, path: str, state: str) -> KeptAnswer | None:
        """Return the last answer about a state of the image at a path; "" is the current state."""
        ...

    def keep_answer(self, path: str, state: str, answer: KeptAnswer) -> None:
        """Keep an answer in place of the one before; its inventory has to be kept already."""
        ...

    def inventory(self, digest: str) -> Inventory | None:
        """Return a kept inventory."""
        ...

    def keep_inventory(self, inventory: Inventory, reads: ReadSet | None) -> str:
        """Keep an inventory and what proves it; return its digest."""
        ...
