"""A volume group on one physical volume with linear volumes, made by hand: label, area, text.

For tests of what lies on or under LVM; LVM's own tests have images of its own tools.
"""

import struct
import zlib
from collections.abc import Mapping
from itertools import pairwise

EXTENT_BYTES = 1 << 20
DATA_BYTES = 1 << 20
"""Where extents begin: label and metadata lie before."""

AREA_OFFSET, AREA_BYTES = 4096, (1 << 20) - 4096


def physical_volume(volumes: Mapping[str, bytes], group: str = "vg") -> bytes:
    """Return a physical volume; each volume's content is a whole number of extents."""
    start, parts, pieces = 0, [], []
    for number, (name, content) in enumerate(volumes.items()):
        extents = len(content) // EXTENT_BYTES
        assert extents * EXTENT_BYTES == len(content)
        parts.append(
            f'{name} {{\nid = "{_uuid(f"lv{number}")}"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\n'
            f"segment_count = 1\nsegment1 {{\nstart_extent = 0\nextent_count = {extents}\n"
            f'type = "striped"\nstripe_count = 1\nstripes = ["pv0", {start}]\n}}\n}}\n'
        )
        pieces.append(content)
        start += extents
    text = (
        f'{group} {{\nid = "{_uuid("vg")}"\nseqno = 2\nformat = "lvm2"\n'
        'status = ["RESIZEABLE", "READ", "WRITE"]\n'
        f"flags = []\nextent_size = {EXTENT_BYTES // 512}\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n"
        f'physical_volumes {{\npv0 {{\nid = "{_uuid("pv")}"\ndevice = "/dev/vda2"\nstatus = ["ALLOCATABLE"]\n'
        f"flags = []\ndev_size = {(DATA_BYTES + start * EXTENT_BYTES) // 512}\n"
        f"pe_start = {DATA_BYTES // 512}\n"
        f"pe_count = {start}\n}}\n}}\nlogical_volumes {{\n{''.join(parts)}}}\n}}\n"
        'contents = "Text Format Volume Group"\nversion = 1\ndescription = ""\ncreation_host = "h"\n'
        "creation_time = 1\n"
    ).encode() + b"\0"
    head = bytearray(DATA_BYTES)
    size_bytes = DATA_BYTES + start * EXTENT_BYTES
    label = struct.pack("<II8s", 0, 32, b"LVM2 001")[4:]  # offset of the header, type
    header = _uuid("pv").replace("-", "").encode() + struct.pack(
        "<QQQQQQQQQ", size_bytes, DATA_BYTES, 0, 0, 0, AREA_OFFSET, AREA_BYTES, 0, 0
    )
    sector = bytearray(512)
    sector[20 : 20 + len(label)] = label
    sector[32 : 32 + len(header)] = header
    sector[:20] = struct.pack("<8sQI", b"LABELONE", 1, _crc(bytes(sector[20:])))
    head[512:1024] = sector
    location = struct.pack("<QQII", 512, len(text), _crc(text), 0) + bytes(24)
    area = struct.pack("<16sIQQ", b" LVM2 x[5A%r0N*>", 1, AREA_OFFSET, AREA_BYTES) + location
    area = area.ljust(508, b"\0")
    head[AREA_OFFSET : AREA_OFFSET + 512] = struct.pack("<I", _crc(area)) + area
    head[AREA_OFFSET + 512 : AREA_OFFSET + 512 + len(text)] = text
    return bytes(head) + b"".join(pieces)


def _crc(data: bytes) -> int:
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _uuid(seed: str) -> str:
    letters = (seed * 32)[:32]
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(letters[a:b] for a, b in pairwise(cuts))
