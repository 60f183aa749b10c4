"""Malformed vmdk, vhd, vhdx, vdi and OVA files: an error that names the thing, within limits."""

import io
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import containerimages
import diskimages
import pytest
from containerimages import QEMU_IMAGES
from diskimages import MIB

from undercroft.disks import ova, vdi, vhd, vhdx, vmdk
from undercroft.disks.images import Beside, inspect, open_image
from undercroft.disks.ova.archive import members
from undercroft.disks.source import BytesSource
from undercroft.disks.vmdk import descriptor
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.disk import DiskFormat

KINDS = ("vmdk", "vmdk-stream", "vhd", "vhdx", "vdi")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One image of each kind, of the same varied content."""
    folder = tmp_path_factory.mktemp("images")
    raw = diskimages.make_varied_raw(folder / "varied.raw", 3 * MIB)
    return {
        kind: containerimages.make(kind, raw, folder / f"image.{containerimages.suffix(kind)}").read_bytes()
        for kind in KINDS
    }


def read_all(kind: str, data: bytes) -> bytes:
    image_format = DiskFormat(QEMU_IMAGES[kind][0])
    source = BytesSource(data)
    inspect(image_format, source)
    disk = open_image(image_format, source, Beside())
    return b"".join(
        disk.read(offset, min(MIB, disk.size_bytes - offset)) for offset in range(0, disk.size_bytes, MIB)
    )


def changed(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_image_is_never_read_whole(kind: str, images: dict[str, bytes]) -> None:
    data = images[kind]
    for part in (0, 1, 100, 512, 4096, len(data) // 2, len(data) - 65_536 - 4096):
        with pytest.raises(InputError):
            read_all(kind, data[: max(0, part)])


VMDK_FIELDS = {
    "version 4": (4, "<I", 4, "version 4 is not supported"),
    "unknown flag": (8, "<I", 1 << 5 | 3, "flags that are not known"),
    "no capacity": (12, "<Q", 0, "capacity of 0 sectors is out of range"),
    "huge capacity": (12, "<Q", 1 << 50, "is out of range"),
    "no grain": (20, "<Q", 0, "grains of 0 sectors"),
    "huge grain": (20, "<Q", 1 << 40, "are out of range"),
    "odd grain": (20, "<Q", 100, "grains of 100 sectors"),
    "huge descriptor": (36, "<Q", 1 << 40, "a descriptor of"),
    "no entries": (44, "<I", 0, "grain tables of 0 entries"),
    "many entries": (44, "<I", 1 << 31, "are out of range"),
    "copy beyond the end": (48, "<Q", 1 << 40, "lies beyond the end"),
    "directory beyond the end": (56, "<Q", 1 << 40, "lies beyond the end"),
    "no footer": (56, "<Q", (1 << 64) - 1, "has no footer"),
    "line ends": (73, "<4s", b"\n \n\n", "line ends were changed"),
    "compression": (77, "<H", 2, "compression 2 is not supported"),
}


@pytest.mark.parametrize("field", VMDK_FIELDS)
def test_a_vmdk_header_out_of_range_is_named(field: str, images: dict[str, bytes]) -> None:
    offset, form, value, message = VMDK_FIELDS[field]
    with pytest.raises(InputError, match=message):
        read_all("vmdk", changed(images["vmdk"], offset, struct.pack(form, value)))


def test_a_grain_table_that_differs_from_its_copy_is_refused(images: dict[str, bytes]) -> None:
    data = images["vmdk"]
    (directory,) = struct.unpack_from("<Q", data, 56)
    (table,) = struct.unpack_from("<I", data, directory * 512)
    first, second = struct.unpack_from("<II", data, table * 512)
    damaged = changed(data, table * 512, struct.pack("<II", second, first))
    with pytest.raises(InputError, match="grain table 0 differs from its copy"):
        read_all("vmdk", damaged)


def test_a_compressed_grain_at_anothers_place_is_refused(images: dict[str, bytes]) -> None:
    data = images["vmdk-stream"]
    directories = struct.unpack_from("<QQ", data, 48)
    for directory in directories:
        (table,) = struct.unpack_from("<I", data, directory * 512)
        entries = list(struct.unpack_from("<512I", data, table * 512))
        used = [index for index, entry in enumerate(entries) if entry > 1]
        entries[used[0]], entries[used[1]] = entries[used[1]], entries[used[0]]
        data = changed(data, table * 512, struct.pack("<512I", *entries))
    with pytest.raises(InputError, match="bears the marker of another"):
        read_all("vmdk-stream", data)


def test_a_grain_that_unpacks_to_more_than_a_grain_is_refused() -> None:
    grain = 128 * 512
    image = bytearray(containerimages.stream_with_footer(b"x" * grain))
    bomb = zlib.compress(bytes(1000 * grain))
    place = 128 * 512
    struct.pack_into("<QI", image, place, 0, len(bomb))
    body = bytes(image[:place]) + struct.pack("<QI", 0, len(bomb)) + bomb
    start = len(body) + -len(body) % 512
    rest = bytes(image[place + 512 :])
    moved = (start - place) // 512 - 1
    whole = bytearray(body.ljust(start, b"\0") + rest)
    footer = len(whole) - 1024
    (directory,) = struct.unpack_from("<Q", whole, footer + 56)
    struct.pack_into("<Q", whole, footer + 56, directory + moved)
    (table,) = struct.unpack_from("<I", whole, (directory + moved) * 512)
    struct.pack_into("<I", whole, (directory + moved) * 512, table + moved)
    with pytest.raises(InputError, match=r"compressed grain 0 .*(does not end|out of range)"):
        vmdk.open_image(BytesSource(bytes(whole))).read(0, 512)


DESCRIPTORS = {
    "a malformed extent": ('RW x FLAT "a" 0', "malformed extent"),
    "an extent without a file": ("RW 8 FLAT", "without a file"),
    "a name that QEMU cuts": (f'RW 8 SPARSE "{"./" * 254}evil/../clean"', "whose name QEMU would cut"),
    "a name with a line end": ('RW 8 SPARSE "evil\r/../clean"', "whose name QEMU would cut"),
    "an extent that may not be read": ('NOACCESS 8 FLAT "a" 0', "is NOACCESS, which QEMU leaves out"),
    "a device": ('RW 8 VMFSRDM "a"', "the kind VMFSRDM are not supported"),
    "seSparse": ('RW 8 SESPARSE "a"', "the kind SESPARSE are not supported"),
    "COWD": ('RW 8 VMFSSPARSE "a"', "the kind VMFSSPARSE are not supported"),
    "a huge disk": (f'RW {10**17} FLAT "a" 0', "are over the limit"),
    "two parents": ("parentCID=00000001", "says parentCID twice"),
    "no extents": ("", "has no extents"),
    "many extents": ('RW 1 FLAT "a" 0\n' * 4097, "has over 4096 extents"),
}


@pytest.mark.parametrize("case", DESCRIPTORS)
def test_a_descriptor_that_is_not_understood_is_refused(case: str) -> None:
    lines, message = DESCRIPTORS[case]
    text = f"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n{lines}\n"
    with pytest.raises(InputError, match=message):
        vmdk.inspect(BytesSource(text.encode()))


def test_a_parent_that_is_not_named_is_refused() -> None:
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=00000002\nRW 1 FLAT "a" 0\n'
    with pytest.raises(InputError, match="has a parent with the CID 00000002, and does not name it"):
        vmdk.inspect(BytesSource(text))


def test_a_descriptor_over_the_limit_is_refused() -> None:
    with pytest.raises(InputError, match="descriptor of over"):
        vmdk.inspect(BytesSource(descriptor.MAGIC.ljust(descriptor.MAX_DESCRIPTOR_BYTES + 1)))


def test_extents_of_esx_are_named() -> None:
    for magic, title in ((b"COWD", "COWD"), (b"\xbe\xba\xfe\xca\0\0\0\0", "seSparse")):
        with pytest.raises(UnsupportedError, match=title):
            vmdk.inspect(BytesSource(magic.ljust(4096, b"\0")))


def test_an_extent_of_another_size_than_its_descriptor_says_is_refused(images: dict[str, bytes]) -> None:
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\nRW 9 SPARSE "a"\n'
    with pytest.raises(InputError, match="its descriptor says 4608"):
        vmdk.open_image(BytesSource(text), extents=[BytesSource(images["vmdk"])])
    with pytest.raises(InputError, match="lie beyond the disk's end"):
        vmdk.open_image(
            BytesSource(text.replace(b'SPARSE "a"', b'FLAT "a" 0')), extents=[BytesSource(b"short")]
        )


def test_a_vhd_whose_footer_and_copy_differ_is_refused(images: dict[str, bytes]) -> None:
    data = bytearray(images["vhd"])
    data[-512 + 68] ^= 1
    with pytest.raises(InputError, match="its footer is damaged, the checksum is wrong"):
        vhd.inspect(BytesSource(bytes(data)))
    data = bytearray(images["vhd"])
    data[68] ^= 1
    with pytest.raises(InputError, match="differs from the copy at its start"):
        vhd.inspect(BytesSource(bytes(data)))


def test_a_fixed_vhd_that_begins_as_a_dynamic_one_is_refused(
    images: dict[str, bytes], tmp_path: Path
) -> None:
    """Its guest would choose the sectors, and a parent, for itself; and QEMU would believe it."""
    dynamic = images["vhd"]
    raw = diskimages.make_varied_raw(tmp_path / "varied.raw", -(-len(dynamic) // MIB) * MIB)
    fixed = containerimages.make("vhd-fixed", raw, tmp_path / "fixed.vhd").read_bytes()
    planted = dynamic + fixed[len(dynamic) :]
    with pytest.raises(InputError, match="ends as a fixed vhd image does and begins as a dynamic one"):
        vhd.open_image(BytesSource(planted))
    whole, started = tmp_path / "planted.vhd", tmp_path / "started.raw"
    whole.write_bytes(planted)
    diskimages.run("qemu-img", "convert", "-f", "vpc", "-O", "raw", whole, started)
    assert started.read_bytes()[: 64 << 10] != planted[: 64 << 10], "the control: what QEMU's guest would get"


@pytest.mark.parametrize("which", [0, 1])
def test_a_vhdx_with_one_damaged_header_is_read_by_the_other(which: int, images: dict[str, bytes]) -> None:
    data = images["vhdx"]
    place = (1 << 16, 1 << 17)[which]
    damaged = changed(data, place + 100, b"x")
    assert read_all("vhdx", damaged) == read_all("vhdx", data)
    with pytest.raises(InputError, match="both of its headers are damaged"):
        read_all("vhdx", changed(damaged, (1 << 17, 1 << 16)[which] + 100, b"x"))


def test_a_vhdx_with_damaged_region_tables_is_refused(images: dict[str, bytes]) -> None:
    once = changed(images["vhdx"], (192 << 10) + 20, b"x")
    assert read_all("vhdx", once) == read_all("vhdx", images["vhdx"])
    with pytest.raises(InputError, match="both of its region tables are damaged"):
        read_all("vhdx", changed(once, (256 << 10) + 20, b"x"))


def test_a_vhdx_whose_log_is_lost_is_refused(images: dict[str, bytes]) -> None:
    """Its tables may be old: what was in the log is nowhere else."""
    data = bytearray(images["vhdx"])
    for start in (1 << 16, 1 << 17):
        data[start + 48 : start + 64] = b"l" * 16
        containerimages.seal_vhdx(data, start, 4096)
    with pytest.raises(InputError, match="its log is not empty and cannot be replayed"):
        vhdx.inspect(BytesSource(bytes(data)))


def _forged_log(data: bytes, ident: bytes, make: "object") -> bytes:
    image = bytearray(data)
    for start in (1 << 16, 1 << 17):
        image[start + 48 : start + 64] = ident
        containerimages.seal_vhdx(image, start, 4096)
    image[1 << 20 : 2 << 20] = make()  # type: ignore[operator]
    return bytes(image)


def test_a_log_of_entries_that_overlap_costs_bounded_time(images: dict[str, bytes]) -> None:
    ident = b"l" * 16

    def log() -> bytes:
        entry = struct.pack("<4sIIIQII16sQQ", b"loge", 0, 1 << 20, 0, 1, 0, 0, ident, 0, 0)
        return entry.ljust(4096, b"\0") * 256

    with pytest.raises(InputError, match="entries that overlap"):
        vhdx.inspect(BytesSource(_forged_log(images["vhdx"], ident, log)))


def test_a_log_of_sequences_without_an_end_costs_bounded_time(images: dict[str, bytes]) -> None:
    ident = b"l" * 16

    def log() -> bytes:
        out = bytearray()
        for number in range(256):
            tail = 0 if number else 4096 * 255
            entry = bytearray(
                struct.pack("<4sIIIQII16sQQ", b"loge", 0, 4096, tail, number + 1, 0, 0, ident, 0, 0)
            )
            entry += bytes(4096 - len(entry))
            if number == 128:
                entry[0:4] = b"torn"
            else:
                containerimages.seal_vhdx(entry, 0, 4096)
            out += entry
        return bytes(out)

    with pytest.raises(InputError, match="too many sequences"):
        vhdx.inspect(BytesSource(_forged_log(images["vhdx"], ident, log)))


def test_a_log_that_zeroes_everything_costs_bounded_memory(images: dict[str, bytes]) -> None:
    ident = b"l" * 16

    def log() -> bytes:
        entry = bytearray(struct.pack("<4sIIIQII16sQQ", b"loge", 0, 4096, 0, 1, 1, 0, ident, 0, 0))
        entry += struct.pack("<4sIQQQ", b"zero", 0, 1 << 50, 0, 1)
        entry += bytes(4096 - len(entry))
        containerimages.seal_vhdx(entry, 0, 4096)
        return bytes(entry).ljust(1 << 20, b"\0")

    with pytest.raises(InputError, match="zeroes 1125899906842624 bytes, over the limit"):
        vhdx.inspect(BytesSource(_forged_log(images["vhdx"], ident, log)))


VDI_FIELDS = {
    "version": (68, "<I", 0x00020001, "version 2.1 is not supported"),
    "kind": (76, "<I", 3, "kind 3, which is not supported"),
    "map": (340, "<I", 100, "do not begin with sectors"),
    "data": (344, "<I", 512, "overlaps what lies beside it"),
    "sector": (360, "<I", 4096, "do not begin with sectors"),
    "size": (368, "<Q", 1 << 60, "do not fit a disk"),
    "block": (376, "<I", 3000, "blocks of 3000 bytes are out of range"),
    "extra": (380, "<I", 100, "100 bytes before each block"),
    "blocks": (384, "<I", 0xFFFFFFFF, "do not fit a disk"),
    "parent": (424, "<16s", b"p" * 16, "contradicts its parent"),
}


@pytest.mark.parametrize("field", VDI_FIELDS)
def test_a_vdi_header_out_of_range_is_named(field: str, images: dict[str, bytes]) -> None:
    offset, form, value, message = VDI_FIELDS[field]
    with pytest.raises(InputError, match=message):
        vdi.inspect(BytesSource(changed(images["vdi"], offset, struct.pack(form, value))))


def test_a_block_beyond_the_file_is_refused(images: dict[str, bytes]) -> None:
    data = images["vdi"]
    (table,) = struct.unpack_from("<I", data, 340)
    with pytest.raises(InputError, match="block 0 is the file's block 9999, beyond its end"):
        read_all("vdi", changed(data, table, struct.pack("<I", 9999)))


def _tar(*members: tuple[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("form", [0, 1, 2], ids=["ustar", "GNU", "pax"])
def test_members_of_all_kinds_of_tar_lie_where_they_are(form: int) -> None:
    long_name = "folder/" * 20 + "machine.ovf" if form else "machine.ovf"
    data = _tar((long_name, b"envelope"), ("disk\u00e4.vmdk", b"disk" * 1000), form=form)
    found = {member.name: member for member in members(BytesSource(data), "a")}
    assert set(found) == {long_name, "disk\u00e4.vmdk"}
    for name, content in ((long_name, b"envelope"), ("disk\u00e4.vmdk", b"disk" * 1000)):
        member = found[name]
        assert data[member.offset : member.offset + member.size_bytes] == content


def test_a_damaged_tar_header_is_refused() -> None:
    data = _tar(("machine.ovf", b"<Envelope/>"), ("disk.vmdk", b"disk"))
    with pytest.raises(InputError, match="its checksum is wrong"):
        ova.inspect(BytesSource(changed(data, 1024 + 125, b"7")))


ENVELOPES = {
    "entities": ('<!DOCTYPE Envelope [<!ENTITY a "aaaa">]><Envelope>&a;</Envelope>', "document type"),
    "another document": ("<domain/>", "has no OVF envelope"),
    "no codec": ('<?xml version="1.0" encoding="x-none"?><Envelope/>', "in the encoding 'x-none'"),
    "many bytes": ('<?xml version="1.0" encoding="shift_jis"?><Envelope/>', "in the encoding 'shift_jis'"),
    "a codec of Python's": ('<?xml version="1.0" encoding="idna"?><Envelope/>', "in the encoding 'idna'"),
    "no text": ('<?xml version="1.0" encoding="zip"?><Envelope/>', "in the encoding 'zip'"),
    "malformed": ("<Envelope", "malformed"),
    "deep": ("<Envelope>" + "<a>" * 100, "too many elements"),
    "wide": ("<Envelope>" + "<a/>" * 100_001 + "</Envelope>", "too many elements"),
    "a disk of no file": ('<Envelope><Disk fileRef="x"/></Envelope>', "which it does not name"),
    "one file twice": ('<Envelope><File id="a" href="b"/><File id="a" href="c"/></Envelope>', "twice"),
}


@pytest.mark.parametrize("case", ENVELOPES)
def test_an_envelope_that_is_not_understood_is_refused(case: str) -> None:
    text, message = ENVELOPES[case]
    with pytest.raises(InputError, match=message):
        ova.inspect(BytesSource(_tar(("machine.ovf", text.encode()))))


def test_compressed_and_split_disks_of_an_envelope_are_named() -> None:
    for attribute, told in (
        ('compression="gzip"', "compressed with 'gzip'"),
        ('chunkSize="1000"', "several pieces"),
    ):
        text = f'<Envelope><File id="a" href="d" {attribute}/><Disk fileRef="a" format="vmdk"/></Envelope>'
        (disk,) = ova.inspect(BytesSource(_tar(("machine.ovf", text.encode())))).disks
        assert told in disk.problem


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="has two members of the name 'a'"):
        ova.inspect(BytesSource(_tar(("machine.ovf", b"<Envelope/>"), ("a", b"1"), ("a", b"2"))))


MUTANTS = """
import random, resource, sys
from pathlib import Path
from undercroft.disks.images import Beside, inspect, open_image
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
image, kind = Path(sys.argv[1]).read_bytes(), DiskFormat(sys.argv[2])
seed, count = sys.argv[3], int(sys.argv[4])
for number in range(count):
    rng = random.Random(f"{seed}:{number}")
    data = bytearray(image)
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.randrange(min(len(data), rng.choice((4 << 20, 4096, 4096))))
        length = rng.choice((1, 4, 8, 64))
        data[place : place + length] = rng.choice((bytes(8), b"\\xff" * 8, rng.randbytes(8)))
    source = BytesSource(bytes(data))
    try:
        inspect(kind, source)
        disk = open_image(kind, source, Beside())
        for offset in range(0, min(disk.size_bytes, 64 << 20), 1 << 20):
            disk.read(offset, min(1 << 20, disk.size_bytes - offset))
    except InputError:
        pass
"""


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_is_an_answer_or_an_input_error_within_limits(
    kind: str, images: dict[str, bytes], tmp_path: Path
) -> None:
    image = tmp_path / "image"
    image.write_bytes(images[kind])
    image_format = QEMU_IMAGES[kind][0]
    done = subprocess.run(
        [sys.executable, "-c", MUTANTS, str(image), image_format, kind, "40"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("kind", "field", "form"), [("vdi", 340, "<I"), ("vhd", 512 + 16, ">Q")])
def test_two_blocks_of_a_disk_in_one_place_are_refused(
    kind: str, field: int, form: str, images: dict[str, bytes]
) -> None:
    data = images[kind]
    (table,) = struct.unpack_from(form, data, field)
    with pytest.raises(InputError, match="has blocks of the disk that overlap in the file"):
        read_all(kind, changed(data, table + 4, data[table : table + 4]))


def test_a_dynamic_vhd_that_lost_its_footer_in_a_crash_is_read_by_its_copy(images: dict[str, bytes]) -> None:
    data = images["vhd"]
    assert read_all("vhd", data[:-512]) == read_all("vhd", data)
