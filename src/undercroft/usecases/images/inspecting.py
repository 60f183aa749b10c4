"""What images said of themselves: at earlier calls, and to a child that looked at others too."""

from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.fleet import FileIdentity
from undercroft.ports.imagecache import ImageCache
from undercroft.usecases.identity import Inspections, identity_key, is_small


class KeptInspections(Inspections):
    """What images said of themselves, in the cache: for as long as their files are proven to be the same."""

    def __init__(self, cache: ImageCache) -> None:
        super().__init__()
        self._cache = cache

    def find(self, identity: FileIdentity, image_format: DiskFormat | None) -> ImageInfo | None:
        """Return what the image said when it was last inspected as that format."""
        if not identity.proves:
            return None
        return super().find(identity, image_format) or self._cache.info(identity, image_format)

    def keep(self, identity: FileIdentity, image_format: DiskFormat | None, info: ImageInfo) -> None:
        """Keep what an image said; nothing where its identity proves nothing, or it said too much."""
        super().keep(identity, image_format, info)
        if is_small(info):
            self._cache.keep_info(identity, image_format, info)


class Hinted(Inspections):
    """What is known for certain, and one hint; `used` tells whether somebody took it."""

    def __init__(self, known: KeptInspections, identity: FileIdentity, info: ImageInfo) -> None:
        super().__init__()
        self._certain = known
        self._key = identity_key(identity)
        self._info = info
        self.used = False

    def find(self, identity: FileIdentity, image_format: DiskFormat | None) -> ImageInfo | None:
        """Return what is known of a file, or hinted."""
        if identity.proves and image_format is None and identity_key(identity) == self._key:
            self.used = True
            return self._info
        return self._certain.find(identity, image_format)

    def keep(self, identity: FileIdentity, image_format: DiskFormat | None, info: ImageInfo) -> None:
        """Keep what an image's own child said."""
        self._certain.keep(identity, image_format, info)
