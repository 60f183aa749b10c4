"""ISO 9660 with Rock Ridge or Joliet: discs, and the images that live systems and installers come in.

Guarantees: shows the tree that Linux shows (Rock Ridge where there is one, else Joliet, else plain names in
lower case). What it reads is bounded by named limits; any bytes give answers or `InputError` that begins with
"iso9660". The format has no checksums; its numbers stand there in both byte orders, and where the two
disagree that is an error.
"""

from undercroft.disks.iso9660.filesystem import Iso9660, open_filesystem

__all__ = ["Iso9660", "open_filesystem"]
