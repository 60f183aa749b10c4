"""Whether the log of an NTFS ($LogFile) is clean, by its two restart pages.

Follows ntfs-3g's logfile.c (`ntfs_is_logfile_clean`): a log that was never used, or that chkdsk emptied, is
clean; one in use is clean where no client is in it, or where it says that the volume is.
"""

import struct

PAGE_BYTES = 4096
NO_CLIENT = 0xFFFF
VOLUME_IS_CLEAN = 0x0002


def log_is_clean(untrusted: bytes) -> bool:
    """Return whether the log's first pages say so; what cannot be made sense of is not clean."""
    if untrusted and untrusted.count(b"\xff") == len(untrusted):
        return True
    newest = None
    for start in (0, PAGE_BYTES):
        page = untrusted[start : start + PAGE_BYTES]
        if page[:4] == b"CHKD":
            return True
        if page[:4] != b"RSTR" or len(page) < PAGE_BYTES:
            continue
        (offset,) = struct.unpack_from("<H", page, 24)
        if offset + 16 > 510:  # the area's head lies before the first sector's end, where fixups begin
            continue
        lsn, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, offset)
        if newest is None or lsn > newest[0]:
            newest = (lsn, in_use, flags)
    return newest is not None and (newest[1] == NO_CLIENT or bool(newest[2] & VOLUME_IS_CLEAN))
