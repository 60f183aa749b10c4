"""Read every regular file of an image with the product's readers; print bytes, files and seconds."""

import os
import sys
import time

from undercroft.disks import ext4, qcow2
from undercroft.disks.filesystem import FileKind
from undercroft.disks.partitions import read_table
from undercroft.disks.source import DescriptorSource, SliceSource


def main(path):
    descriptor = os.open(path, os.O_RDONLY)
    disk = qcow2.open_image(DescriptorSource(descriptor, os.path.getsize(path)))
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
    print(size, files, time.perf_counter() - started)


main(sys.argv[1])
