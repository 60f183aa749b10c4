"""Malformed and hostile qcow2 images: InputError, within limits of time and memory, and no other file."""

import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from random import Random

import diskimages
import pytest
from diskimages import MIB, opened, read_in_steps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from undercroft.disks import qcow2
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UndercroftError, UnsupportedError

CLUSTER = 4096
KINDS: dict[str, tuple[dict[str, str | int], bool]] = {
    "v3": ({"cluster_size": CLUSTER}, False),
    "v2": ({"cluster_size": CLUSTER, "compat": "0.10"}, True),
    "extended": ({"cluster_size": "16k", "extended_l2": "on", "compression_type": "zstd"}, True),
}

VERSION, BACKING_OFFSET, BACKING_SIZE, CLUSTER_BITS, SIZE, CRYPT = 4, 8, 16, 20, 24, 32
L1_ENTRIES, L1_OFFSET, SNAPSHOTS, SNAPSHOTS_OFFSET = 36, 40, 60, 64
INCOMPATIBLE, HEADER_LENGTH, COMPRESSION = 72, 100, 104


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small sound images with two snapshots each."""
    folder = tmp_path_factory.mktemp("sound")
    raw = diskimages.make_varied_raw(folder / "raw", MIB)
    made = {}
    for kind, (options, compressed) in KINDS.items():
        image = diskimages.make_qcow2(raw, folder / kind, options, compressed=compressed)
        diskimages.take_snapshot(image, "one")
        diskimages.qemu_io(image, "write -P 1 64k 100k", "write -z 256k 64k")
        diskimages.take_snapshot(image, "two")
        diskimages.qemu_io(image, "write -P 2 96k 10k")
        made[kind] = image.read_bytes()
    return made


@pytest.fixture
def sound(images: dict[str, bytes]) -> bytes:
    return images["v3"]


def patched(image: bytes, changes: dict[int, bytes]) -> BytesSource:
    data = bytearray(image)
    for offset, change in changes.items():
        data[offset : offset + len(change)] = change
    return BytesSource(bytes(data))


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def number(image: bytes, offset: int) -> int:
    return int.from_bytes(image[offset : offset + 8], "big")


def read_all(source: BytesSource) -> None:
    """Go through everything that the reader offers of an image."""
    states = [None, *(each.ident for each in qcow2.inspect(source).snapshots)]
    for state in states:
        disk = qcow2.open_image(source, snapshot=state)
        for offset in range(0, min(disk.size_bytes, 2 * MIB), 50_000):
            disk.read(offset, min(50_000, disk.size_bytes - offset))


def test_the_sound_images_read(images: dict[str, bytes]) -> None:
    for image in images.values():
        read_all(BytesSource(image))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({CLUSTER_BITS: u32(8)}, "clusters of 2\\^8 bytes are out of range"),
        ({CLUSTER_BITS: u32(22)}, "clusters of 2\\^22 bytes are out of range"),
        ({CLUSTER_BITS: u32(0xFFFFFFFF)}, "are out of range"),
        ({L1_ENTRIES: u32(0xFFFFFFFF)}, "4294967295 entries are over the limit of 4194304"),
        ({L1_ENTRIES: u32(0)}, "0 entries are too few for a disk of 1048576 bytes"),
        ({L1_OFFSET: u64(CLUSTER + 8)}, "offset 4104 is not at a cluster's start"),
        ({L1_OFFSET: u64(1 << 40)}, "L1 table at 1099511627776 lies beyond the end of the file"),
        ({L1_OFFSET: u64(0xFFFFFFFFFFFFF000)}, "lies beyond the end of the file"),
        ({SIZE: u64((1 << 64) - 512)}, "entries are too few"),
        ({HEADER_LENGTH: u32(72)}, "a header of 72 bytes is out of range"),
        ({HEADER_LENGTH: u32(0xFFFFFFF8)}, "is out of range"),
        ({112: u32(0xE2792ACA) + u32(0xFFFFFFF0)}, "header extension 0xe2792aca of 4294967280 bytes passes"),
        ({112: u32(0x12345678) + u32(CLUSTER)}, "header extension 0x12345678 of 4096 bytes passes"),
        ({BACKING_OFFSET: u64(2048), BACKING_SIZE: u32(1024)}, "backing name of 1024 bytes at 2048"),
        ({BACKING_OFFSET: u64(1 << 63), BACKING_SIZE: u32(8)}, "backing name of 8 bytes at"),
        ({INCOMPATIBLE: u64(2)}, "is marked corrupt; run `qemu-img check"),
        ({INCOMPATIBLE: u64(8)}, "compression type 0 contradicts its feature bit"),
        ({COMPRESSION: b"\x01"}, "compression type 1 contradicts its feature bit"),
        ({INCOMPATIBLE: u64(16)}, "extended L2 entries need clusters of 16 KiB or more"),
        ({SNAPSHOTS: u32(0xFFFFFFFF)}, "4294967295 snapshots are over the limit of 65536"),
        ({SNAPSHOTS: u32(65_536)}, "snapshot entry .* (lies beyond|are over the limit|is not its own)"),
        ({SNAPSHOTS_OFFSET: u64(8)}, "snapshot table at 8 does not start with a cluster"),
        ({SNAPSHOTS_OFFSET: u64(1 << 60)}, "beyond"),
    ],
)
def test_a_hostile_header_is_refused_with_its_reason(
    changes: dict[int, bytes], message: str, sound: bytes
) -> None:
    with pytest.raises(InputError, match=message):
        read_all(patched(sound, changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({VERSION: u32(1)}, "qcow2 version 1 is not supported"),
        ({VERSION: u32(4)}, "qcow2 version 4 is not supported"),
        ({CRYPT: u32(3)}, "encryption method 3 is not known"),
        ({COMPRESSION: b"\x02"}, "compression type 2 is not supported"),
        ({INCOMPATIBLE: u64(1 << 40 | 1 << 63)}, "not known here: bit 40, bit 63"),
    ],
)
def test_what_this_version_does_not_know_is_unsupported(
    changes: dict[int, bytes], message: str, sound: bytes
) -> None:
    for look in (qcow2.inspect, qcow2.open_image):
        with pytest.raises(UnsupportedError, match=message):
            look(patched(sound, changes))


def test_an_unknown_feature_is_named_as_the_image_names_it_and_escaped(sound: bytes) -> None:
    table = b"\0\x21" + b"time\x1b[31m travel".ljust(46, b"\0")
    changes = {112: u32(0x6803F857) + u32(len(table)) + table, INCOMPATIBLE: u64(1 << 33)}
    with pytest.raises(UnsupportedError, match=r"bit 33 \('time\\x1b\[31m travel'\)"):
        qcow2.inspect(patched(sound, changes))


def test_a_backing_name_right_behind_the_header_is_no_extension(images: dict[str, bytes]) -> None:
    """Old images have no extensions, and a name there must not be parsed as one."""
    changes = {72: b"/images/base.img", BACKING_OFFSET: u64(72), BACKING_SIZE: u32(16)}
    info = qcow2.inspect(patched(images["v2"], changes))
    assert (info.backing_name, info.backing_format) == ("/images/base.img", "")


@pytest.mark.parametrize("length", [0, 3, 4, 50, 71, 72, 100, 103, 104, 4096, 8192, 20_000])
def test_an_image_cut_anywhere_is_refused(length: int, sound: bytes) -> None:
    with pytest.raises(InputError):
        read_all(BytesSource(sound[:length]))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (1 << 63 | 3 * CLUSTER | 512, "malformed table entry"),
        (3 * CLUSTER | 1 << 57, "malformed table entry"),
        (3 * CLUSTER | 4, "malformed table entry"),
        (1 << 40, "lies beyond the end of its file"),
        (1 << 62 | 1 << 40, "compressed cluster at 1099511627776 lies beyond the end of the file"),
        (1 << 62 | 1, "compressed cluster at 1 is damaged"),
        (1 << 62 | (1 << 61) | 1, "beyond the end of the file|is damaged"),
    ],
)
def test_a_hostile_cluster_entry_is_refused_with_its_guest_offset(
    entry: int, message: str, sound: bytes
) -> None:
    l2_offset = number(sound, number(sound, L1_OFFSET)) & ~(1 << 63)
    disk = qcow2.open_image(patched(sound, {l2_offset + 8: u64(entry)}), name="web01")
    disk.read(0, CLUSTER)
    with pytest.raises(InputError, match=rf"^web01: .*({message}).*`qemu-img check`"):
        disk.read(CLUSTER, 512)
    with pytest.raises(InputError, match=message):
        disk.read(0, 8 * CLUSTER)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (512, "malformed L1 entry"),
        (CLUSTER | 1, "malformed L1 entry"),
        (CLUSTER | 1 << 60, "malformed L1 entry"),
        (1 << 50, "L2 table at .* beyond the end of the file"),
    ],
)
def test_a_hostile_table_entry_is_refused_and_never_read_as_zeros(
    entry: int, message: str, sound: bytes
) -> None:
    disk = qcow2.open_image(patched(sound, {number(sound, L1_OFFSET): u64(entry)}))
    for offset, length in ((0, 512), (700_000, 300_000)):
        with pytest.raises(InputError, match=message):
            disk.read(offset, length)


def test_an_l1_table_that_is_its_own_l2_table_reads_as_in_qemu(sound: bytes, tmp_path: Path) -> None:
    """The table is two levels deep whatever it says, so a loop ends after two steps."""
    l1_offset = number(sound, L1_OFFSET)
    source = patched(sound, {l1_offset: u64(l1_offset)})
    image = tmp_path / "image.qcow2"
    image.write_bytes(source.read(0, source.size_bytes))
    expected = diskimages.to_raw(image, tmp_path / "expected.raw").read_bytes()
    assert expected.startswith(u64(l1_offset))
    assert read_in_steps(qcow2.open_image(source), 5000) == expected


def test_two_guest_clusters_that_share_a_compressed_cluster_both_read_it(images: dict[str, bytes]) -> None:
    image = images["v2"]
    l2_offset = number(image, number(image, L1_OFFSET)) & ~(1 << 63)
    entries = [number(image, l2_offset + 8 * index) for index in range(CLUSTER // 8)]
    packed = next(index for index, entry in enumerate(entries) if entry >> 62 & 1)
    disk = qcow2.open_image(patched(image, {l2_offset + 8 * (packed + 1): u64(entries[packed])}))
    cluster = disk.read(packed * CLUSTER, CLUSTER)
    assert any(cluster)
    assert disk.read(packed * CLUSTER, 2 * CLUSTER) == 2 * cluster


def test_a_data_file_cluster_at_another_place_is_refused_as_in_qemu(tmp_path: Path) -> None:
    raw = diskimages.make_raw(tmp_path / "raw", MIB, {0: b"first", 64 << 10: b"second"})
    data_file = tmp_path / "data"
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2", {"data_file": str(data_file)}).read_bytes()
    l2_offset = number(image, number(image, L1_OFFSET)) & ~(1 << 63)
    for entry, message in (
        (1 << 63 | 64 << 10, "lies at 65536 of the data file"),
        (1 << 62, "is compressed"),
    ):
        with opened(data_file) as data:
            disk = qcow2.open_image(patched(image, {l2_offset: u64(entry)}), data_file=data)
            assert disk.read(64 << 10, 6) == b"second"
            with pytest.raises(InputError, match=message):
                disk.read(0, 5)


@pytest.mark.parametrize("bitmap", [1 << 32 | 1, 0xFFFFFFFF_FFFFFFFF])
def test_contradictory_subclusters_are_refused(bitmap: int, images: dict[str, bytes]) -> None:
    image = images["extended"]
    l2_offset = number(image, number(image, L1_OFFSET)) & ~(1 << 63)
    entry = l2_offset + 16 * (96 // 16)  # written by qemu-io: a standard cluster with subclusters
    assert not number(image, entry) >> 62 & 1
    disk = qcow2.open_image(patched(image, {entry + 8: u64(bitmap)}))
    with pytest.raises(InputError, match="contradictory subcluster bitmap"):
        disk.read(96 << 10, 512)


def test_a_zero_cluster_in_a_version_2_image_is_refused_as_in_qemu(images: dict[str, bytes]) -> None:
    image = images["v2"]
    l2_offset = number(image, number(image, L1_OFFSET)) & ~(1 << 63)
    with pytest.raises(InputError, match="zero cluster, which version 2 does not have"):
        qcow2.open_image(patched(image, {l2_offset: u64(1)})).read(0, 512)


@pytest.mark.parametrize(
    ("field", "value"), [(12, b"\xff\xff"), (14, b"\xff\xff"), (36, u32(0xFFFFFFFF)), (36, u32(1025))]
)
def test_a_snapshot_entry_that_passes_its_table_is_refused(field: int, value: bytes, sound: bytes) -> None:
    table = number(sound, SNAPSHOTS_OFFSET)
    with pytest.raises(InputError, match="snapshot entry 0"):
        qcow2.inspect(patched(sound[: table + CLUSTER], {table + field: value}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, u64(8), "L1 table: its offset 8 is not"),
        (0, u64(1 << 50), "L1 table at 1125899906842624 lies beyond"),
        (8, u32(0xFFFFFFFF), "over the limit"),
        (8, u32(0), "too few"),
        (48, u64(1 << 62), "too few"),
    ],
)
def test_a_snapshot_with_a_hostile_table_is_refused_and_the_current_state_reads(
    field: int, value: bytes, message: str, sound: bytes
) -> None:
    source = patched(sound, {number(sound, SNAPSHOTS_OFFSET) + field: value})
    assert len(qcow2.inspect(source).snapshots) == 2
    read_in_steps(qcow2.open_image(source), MIB)
    read_in_steps(qcow2.open_image(source, snapshot="2"), MIB)
    with pytest.raises(InputError, match=message):
        qcow2.open_image(source, snapshot="1")


def test_a_file_that_ends_within_its_last_cluster_reads_as_in_qemu(tmp_path: Path) -> None:
    raw = diskimages.make_raw(tmp_path / "raw", MIB, {0: Random(5).randbytes(MIB)})
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2")
    whole = image.stat().st_size
    with image.open("r+b") as file:
        file.truncate(whole - 1000)
    expected = diskimages.to_raw(image, tmp_path / "expected.raw").read_bytes()
    assert expected != raw.read_bytes()
    with opened(image) as source:
        diskimages.assert_reads_as(qcow2.open_image(source), expected)
    with image.open("r+b") as file:
        file.truncate(whole - (64 << 10))
    with opened(image) as source, pytest.raises(InputError, match=r"lies beyond the end of its file"):
        read_in_steps(qcow2.open_image(source), 4096)


def test_65536_snapshots_are_listed_in_linear_time(sound: bytes) -> None:
    entry = struct.pack(">QIHHIIQII", 0, 1, 5, 4, 1, 0, 0, 0, 16) + u64(0) + u64(MIB)
    table = b"".join((entry + b"%05dname" % index).ljust(72, b"\0") for index in range(65_536))
    padded = sound.ljust(-(-len(sound) // CLUSTER) * CLUSTER, b"\0")
    source = patched(padded + table, {SNAPSHOTS: u32(65_536), SNAPSHOTS_OFFSET: u64(len(padded))})
    started = time.monotonic()
    snapshots = qcow2.inspect(source).snapshots
    assert time.monotonic() - started < 5
    assert (len(snapshots), snapshots[-1].ident, snapshots[-1].name) == (65_536, "65535", "name")


@pytest.mark.parametrize("idents", [(b"1", b"1"), (b"", b"2")])
def test_an_id_that_is_not_one_snapshots_own_is_refused(sound: bytes, idents: tuple[bytes, bytes]) -> None:
    padded = sound.ljust(-(-len(sound) // CLUSTER) * CLUSTER, b"\0")
    entries = [
        struct.pack(">QIHHIIQII", 0, 1, len(ident), 4, 1, 0, 0, 0, 0) + ident + b"name" for ident in idents
    ]
    table = b"".join(entry.ljust(-(-len(entry) // 8) * 8, b"\0") for entry in entries)
    source = patched(padded + table, {SNAPSHOTS: u32(2), SNAPSHOTS_OFFSET: u64(len(padded))})
    with pytest.raises(InputError, match="is not its own"):
        qcow2.inspect(source)


def test_a_snapshot_table_of_huge_names_is_refused(sound: bytes) -> None:
    entry = struct.pack(">QIHHIIQII", 0, 1, 0xFFFF, 0xFFFF, 1, 0, 0, 0, 0)
    padded = sound.ljust(-(-len(sound) // CLUSTER) * CLUSTER, b"\0")
    names = [b"%03d" % number for number in range(100)]
    table = b"".join((entry + name).ljust(len(entry) + 2 * 0xFFFF + 2, b"x") for name in names)
    source = patched(padded + table, {SNAPSHOTS: u32(100), SNAPSHOTS_OFFSET: u64(len(padded))})
    with pytest.raises(InputError, match="snapshot table is over the limit of 8388608 bytes"):
        qcow2.inspect(source)


def mutated(image: bytes, random: Random) -> bytes:
    """Change a few numbers of an image where its metadata lies."""
    data = bytearray(image)
    l1_offset = number(image, L1_OFFSET)
    l2_offset = number(image, l1_offset) & 0x00FFFFFFFFFFFE00
    areas = ((0, 112), (0, 1024), (number(image, SNAPSHOTS_OFFSET), 200), (l1_offset, 16), (l2_offset, 4096))
    for _ in range(random.randint(1, 4)):
        start, length = random.choice(areas)
        offset = start + random.randrange(length)
        if random.random() < 0.5:
            data[offset] ^= 1 << random.randrange(8)
        else:
            offset = offset // 8 * 8
            data[offset : offset + 8] = u64(
                random.choice((0, 1, 0xFFFFFFFFFFFFFFFF, 1 << 62, 1 << 63, len(image), l1_offset, l2_offset))
            )
    return bytes(data[: len(image)])


@settings(max_examples=300, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 1 << 32))
def test_a_mutated_image_reads_or_raises_our_errors_only(
    kind: str, seed: int, images: dict[str, bytes]
) -> None:
    try:
        read_all(BytesSource(mutated(images[kind], Random(seed))))
    except UndercroftError:
        return


def run_python(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


MEMORY_SCRIPT = """
    import os, resource, sys
    import zlib, zstandard
    from undercroft.disks import qcow2
    from undercroft.disks.source import DescriptorSource

    size, limit, step = (int(each) for each in sys.argv[2:5])
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    source = DescriptorSource(descriptor, os.fstat(descriptor).st_size)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
    disk = qcow2.open_image(source)
    assert disk.size_bytes == size
    for offset in range(0, size, step):
        disk.read(offset, 4096)
    try:
        bytearray(limit + (8 << 20))
    except MemoryError:
        print("held")
"""


def test_memory_stays_bounded_over_tables_and_compressed_clusters_of_any_size(tmp_path: Path) -> None:
    """The last lines of the script are the control: the limit does hold there."""
    huge = diskimages.create_qcow2(tmp_path / "huge.qcow2", 1 << 50)  # an L1 table of 16 MiB
    assert run_python(MEMORY_SCRIPT, huge, 1 << 50, 12 * MIB, 1 << 37) == "held\n"
    mapped = diskimages.create_qcow2(
        tmp_path / "mapped.qcow2", 8 << 30, {"cluster_size": 4096, "preallocation": "metadata"}
    )  # 16 MiB of L2 tables, all of them read
    assert run_python(MEMORY_SCRIPT, mapped, 8 << 30, 12 * MIB, 2 * MIB) == "held\n"
    raw = diskimages.make_raw(tmp_path / "raw", 48 * MIB, {at * MIB: b"x" for at in range(48)})
    for compression in ("zlib", "zstd"):
        image = diskimages.make_qcow2(
            raw,
            tmp_path / f"{compression}.qcow2",
            {"cluster_size": "2M", "compression_type": compression},
            compressed=True,
        )
        assert run_python(MEMORY_SCRIPT, image, 48 * MIB, 24 * MIB, MIB) == "held\n"


def test_a_compression_bomb_takes_no_more_memory_than_a_cluster(tmp_path: Path) -> None:
    import zlib  # noqa: PLC0415 - only this test makes bombs

    import zstandard  # noqa: PLC0415

    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    bombs = {
        "zlib": packer.compress(bytes(100 * MIB)) + packer.flush(),
        "zstd": zstandard.ZstdCompressor().compress(bytes(1 << 30)),  # its frame claims 1 GiB
    }
    for compression, bomb in bombs.items():
        image = diskimages.make_qcow2(
            diskimages.make_raw(tmp_path / "raw", MIB, {0: b"x"}),
            tmp_path / compression,
            {"compression_type": compression},
            compressed=True,
        )
        data = image.read_bytes()
        padded = data.ljust(-(-len(data) // 512) * 512, b"\0")
        l2_offset = number(data, number(data, L1_OFFSET)) & ~(1 << 63)
        sectors = min(255, len(bomb) // 512)
        entry = 1 << 62 | sectors << 54 | len(padded)
        image.write_bytes(patched(padded + bomb, {l2_offset: u64(entry)}).read(0, len(padded) + len(bomb)))
        assert run_python(MEMORY_SCRIPT, image, MIB, 8 * MIB, 64 << 10) == "held\n"


NAMES_SCRIPT = """
    import json, sys
    from undercroft.disks import qcow2
    from undercroft.disks.source import BytesSource
    from undercroft.errors import InputError

    image, secret = open(sys.argv[1], "rb").read(), sys.argv[2]
    opened = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    info = qcow2.inspect(BytesSource(image))
    disk = qcow2.open_image(BytesSource(image))
    try:
        disk.read(0, 512)
    except InputError as error:
        message = str(error)
    seen = list(opened)
    open(secret, "rb").close()
    print(json.dumps([info.backing_name, info.data_file_name, message, seen, opened]))
"""


@pytest.mark.parametrize("form", ["absolute", "parent", "neighbour", "json"])
def test_a_planted_backing_name_is_a_value_and_no_file_is_opened(form: str, tmp_path: Path) -> None:
    """Two controls: the hook sees a real open, and qemu-img does disclose the file through this image."""
    import json  # noqa: PLC0415 - only the tests of names speak JSON

    folder = tmp_path / "images"
    folder.mkdir()
    secret = (folder if form == "neighbour" else tmp_path) / "secret"
    secret.write_bytes(b"the host's secret".ljust(512, b"!"))
    planted = {
        "absolute": str(secret),
        "parent": "../secret",
        "neighbour": "secret",
        "json": f'json:{{"driver": "raw", "file.driver": "file", "file.filename": "{secret}"}}',
    }[form]
    image = diskimages.create_qcow2(folder / "image.qcow2", MIB)
    diskimages.run("qemu-img", "rebase", "-u", "-b", planted, "-F", "raw", image)
    assert diskimages.to_raw(image, tmp_path / "disclosed").read_bytes().startswith(b"the host's secret")

    name, data_file, message, opened_files, with_control = json.loads(run_python(NAMES_SCRIPT, image, secret))
    assert (name, data_file) == (planted, "")
    assert repr(planted) in message
    assert opened_files == []
    assert with_control == [str(secret)]


def test_a_planted_data_file_name_is_a_value_and_no_file_is_opened(tmp_path: Path) -> None:
    import json  # noqa: PLC0415 - only the tests of names speak JSON

    secret = diskimages.make_raw(tmp_path / "secret", MIB, {0: b"the host's secret"})
    other = diskimages.make_raw(tmp_path / "other", MIB)
    image = diskimages.make_qcow2(
        secret, tmp_path / "image.qcow2", {"data_file": str(other), "data_file_raw": "on"}
    )
    diskimages.run("qemu-img", "amend", "-o", f"data_file={secret}", image)
    assert diskimages.to_raw(image, tmp_path / "disclosed").read_bytes().startswith(b"the host's secret")
    _, data_file, message, opened_files, with_control = json.loads(run_python(NAMES_SCRIPT, image, secret))
    assert data_file == str(secret)
    assert repr(str(secret)) in message
    assert opened_files == []
    assert with_control == [str(secret)]
