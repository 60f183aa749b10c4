"""Read every regular file of an image with the product's readers, then the same ranges with bare pread.

Prints bytes, files, seconds of the readers, seconds of pread. The second is the limit: the same bytes from
the page cache, at places that are known in advance.
"""

import os
import sys
import time

from undercroft.disks import ext4, qcow2
from undercroft.disks.filesystem import FileKind
from undercroft.disks.partitions import read_table
from undercroft.disks.source import DescriptorSource, SliceSource


class Recorder(DescriptorSource):
    """A source that remembers what was read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ranges = []

    def read(self, offset, length):
        self.ranges.append((length, offset))
        return super().read(offset, length)


def main(path):
    descriptor = os.open(path, os.O_RDONLY)
    recorder = Recorder(descriptor, os.path.getsize(path))
    _read_all(recorder)
    size, files, seconds = _read_all(DescriptorSource(descriptor, os.path.getsize(path)))
    started = time.perf_counter()
    for length, offset in recorder.ranges:
        os.pread(descriptor, length, offset)
    print(size, files, seconds, time.perf_counter() - started)


def _read_all(source):
    """Return bytes, files and seconds."""
    disk = qcow2.open_image(source)
    root = read_table(disk).partitions[0]
    started = time.perf_counter()
    filesystem = ext4.open_filesystem(SliceSource(disk, root.start_bytes, root.size_bytes))
    files = size = 0
    pending = [filesystem.root]
    while pending:
        for _name, node, kind in filesystem.entries(pending.pop()):
            if kind is FileKind.DIRECTORY:
                pending.append(node)
            elif kind is FileKind.REGULAR:
                files += 1
                for chunk in filesystem.chunks(node):
                    size += len(chunk)
    return size, files, time.perf_counter() - started


main(sys.argv[1])
