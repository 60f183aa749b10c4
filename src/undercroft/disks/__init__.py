"""Guest disks read from outside: images, snapshots, partitions and filesystems, as bytes and files.

Guarantees: nothing is written, booted or mounted; every size that an image states is bounded by a
named limit before it is used; what is malformed raises `InputError`, what is well-formed but beyond
this version raises `UnsupportedError`, and neither ever comes out as "empty". Names found in an image
(backing files, data files) are returned as values and never opened.

Takes block sources (`source.BlockSource`): a descriptor, another layer, an NBD export, bytes in a test.
Gives images (`qcow2`, `raw`), partitions (`partitions`), filesystems (`filesystem.FileSystem`, one
folder or file per format) and a machine's whole tree (`tree.GuestTree`).
"""
