"""Machines with encrypted volumes: what is inside is mounted, under the names that the guest gives it."""

from pathlib import Path

import pytest
from diskimages import MIB, wrap_gpt
from luksmaker import PASSPHRASE, Luks1, Luks2
from lvmmaker import physical_volume
from machineimages import debian_tree, make_filesystem, packages

from undercroft.disks.keys import Key, Keys
from undercroft.disks.machine import Machine, open_machine
from undercroft.disks.source import BytesSource, DescriptorSource
from undercroft.model.disk import VolumeStatus

KEYS = (Key("*", PASSPHRASE),)
SMALL = ("-t", "ext4", "-O", "^has_journal")
ROOT_LUKS = b"0a1b2c3d-0000-4000-8000-00000000beef"
DATA_LUKS = b"0a1b2c3d-0000-4000-8000-00000000f00d"


def filesystem(folder: Path, files: dict[str, bytes]) -> bytes:
    tree = debian_tree(folder / "tree", packages(2), files)
    return make_filesystem(tree, folder / "fs", *SMALL, size_bytes=6 * MIB).read_bytes()


def data_filesystem(folder: Path) -> bytes:
    tree = folder / "data"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib" / "marker").write_bytes(b"from the encrypted volume")
    path = make_filesystem(tree, folder / "datafs", *SMALL, size_bytes=4 * MIB)
    return path.read_bytes()


def disk(folder: Path, *partitions: bytes) -> Path:
    paths = []
    for number, content in enumerate(partitions):
        path = folder / f"part{number}"
        path.write_bytes(content + bytes(-len(content) % MIB))
        paths.append(path)
    return wrap_gpt(folder / "disk", paths)


def machine(path: Path, *keys: Key) -> Machine:
    content = path.read_bytes()
    return open_machine([("vda", BytesSource(content))], keys=Keys(keys))


def read(opened: Machine, path: bytes) -> bytes:
    assert opened.tree is not None, opened.coverage.problems
    return opened.tree.read(path, 4096)


def test_a_root_within_luks_is_read_and_without_the_key_it_is_unread(tmp_path: Path) -> None:
    path = disk(tmp_path, Luks2(plain=filesystem(tmp_path, {})).build())
    opened = machine(path, *KEYS)
    assert read(opened, b"/etc/hostname") == b"web01\n"
    assert not opened.coverage.problems
    outer, inner = opened.coverage.volumes
    assert (outer.status, outer.reason) == (VolumeStatus.NOT_APPLICABLE, f"part of luks-{ROOT_LUKS.decode()}")
    assert (inner.status, inner.mounts, inner.members) == (VolumeStatus.READ, ("/",), ("vda1",))
    closed = machine(path)
    assert closed.tree is None
    assert "--key vda1=FILE" in closed.coverage.problems[0]
    wrong = machine(path, Key("vda1", b"wrong"))
    assert "vda1: luks2: the key given does not open it (1 keyslot tried)" in wrong.coverage.problems[0]


def test_lvm_inside_luks_is_read(tmp_path: Path) -> None:
    group = physical_volume({"root": filesystem(tmp_path, {})})
    opened = machine(disk(tmp_path, Luks2(plain=group, sector_bytes=4096).build()), *KEYS)
    assert read(opened, b"/etc/hostname") == b"web01\n"
    assert not opened.coverage.problems
    assert [volume.name for volume in opened.coverage.volumes][-1] == "vg/root"


def test_luks_inside_lvm_is_read_by_the_name_of_the_logical_volume(tmp_path: Path) -> None:
    encrypted = Luks1(plain=filesystem(tmp_path, {})).build()
    encrypted += bytes(-len(encrypted) % MIB)
    path = disk(tmp_path, physical_volume({"crypt": encrypted}))
    opened = machine(path, Key("vg/crypt", PASSPHRASE))
    assert read(opened, b"/etc/hostname") == b"web01\n"
    assert not opened.coverage.problems


def test_luks_inside_luks_inside_luks_ends(tmp_path: Path) -> None:
    """As deep as somebody likes to nest it: the limit is the stack's, and is told."""
    content = b"\xff" * (64 << 10)
    for number in range(10):
        uuid = b"0a1b2c3d-0000-4000-8000-%012d" % number
        content = Luks2(plain=content, uuid=uuid).build()
    opened = open_machine([("vda", BytesSource(content))], keys=Keys(KEYS))
    assert any("more than 8 deep" in volume.reason for volume in opened.coverage.volumes)


def test_a_disk_that_is_encrypted_as_a_whole_has_its_partitions_inside(tmp_path: Path) -> None:
    """QEMU's raw LUKS images: the partition table is inside."""
    path = disk(tmp_path, filesystem(tmp_path, {}))
    encrypted = Luks1(plain=path.read_bytes()).build()
    opened = open_machine([("vda", BytesSource(encrypted))], keys=Keys([Key("vda", PASSPHRASE)]))
    assert read(opened, b"/etc/hostname") == b"web01\n"


@pytest.mark.parametrize(
    ("crypttab", "mounted"),
    [
        (b"# names\ndata_crypt UUID=0a1b2c3d-0000-4000-8000-00000000f00d none luks\n", True),
        (b"data_crypt /dev/vda2 /root/key luks,discard\n", True),
        (b"data_crypt /dev/sda2 none\n", True),
        (b"other UUID=0a1b2c3d-0000-4000-8000-00000000f00d none luks\n", False),
        (b"", False),
    ],
)
def test_crypttab_names_what_fstab_mounts(crypttab: bytes, mounted: bool, tmp_path: Path) -> None:
    fstab = b"/dev/vda1 / ext4 defaults 0 1\n/dev/mapper/data_crypt /usr/local ext4 defaults 0 2\n"
    root = filesystem(tmp_path, {"etc/fstab": fstab, "etc/crypttab": crypttab, "usr/local/.k": b""})
    data = Luks2(plain=data_filesystem(tmp_path), uuid=DATA_LUKS).build()
    opened = machine(disk(tmp_path, root, data), *KEYS)
    if mounted:
        assert read(opened, b"/usr/local/lib/marker") == b"from the encrypted volume"
        assert not opened.coverage.problems
    else:
        assert any("/dev/mapper/data_crypt" in problem for problem in opened.coverage.problems)


def test_a_root_that_its_own_crypttab_names_is_the_root(tmp_path: Path) -> None:
    files = {
        "etc/fstab": b"/dev/mapper/vda2_crypt / ext4 defaults 0 1\n",
        "etc/crypttab": b"vda2_crypt UUID=" + ROOT_LUKS + b" none luks\n",
    }
    root = Luks2(plain=filesystem(tmp_path, files)).build()
    (tmp_path / "tree" / "etc" / "hostname").write_bytes(b"decoy\n")
    (tmp_path / "tree" / "etc" / "fstab").write_bytes(b"/dev/mapper/nowhere / ext4\n")
    decoy = make_filesystem(tmp_path / "tree", tmp_path / "fs", *SMALL, size_bytes=6 * MIB).read_bytes()
    opened = machine(disk(tmp_path, decoy, root), *KEYS)
    assert read(opened, b"/etc/hostname") == b"web01\n"


def test_a_damaged_second_header_is_told_beside_the_volume(tmp_path: Path) -> None:
    volume = bytearray(Luks2(plain=filesystem(tmp_path, {})).build())
    volume[0x4000 + 5000] ^= 1
    opened = machine(disk(tmp_path, bytes(volume)), *KEYS)
    assert "the second LUKS2 header is damaged" in opened.coverage.volumes[-1].reason


def test_two_volumes_with_one_uuid_are_not_taken_for_each_other(tmp_path: Path) -> None:
    own = [bytes(range(number, number + 64)) for number in (1, 2)]
    one, two = (Luks2(plain=key * 128, key=key).build() for key in own)
    keys = Keys(KEYS)
    opened = open_machine([("vda", BytesSource(one)), ("vdb", BytesSource(two))], keys=keys)
    assert dict(keys.opened) == {"vda": own[0], "vdb": own[1]}
    assert any("same name" in problem for problem in opened.coverage.problems)


def test_nothing_is_read_beyond_the_volume(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(Luks2().build()[:-100])
    with path.open("rb") as file:
        source = DescriptorSource(file.fileno(), path.stat().st_size)
        opened = open_machine([("vda", source)], keys=Keys(KEYS))
    assert opened.tree is None
