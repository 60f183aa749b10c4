"""Internal snapshots read as qemu-img converts them, each with its own table and size."""

import shutil
from pathlib import Path

import diskimages
import pytest
from diskimages import MIB, assert_reads_as, opened

from undercroft.disks import qcow2
from undercroft.disks.source import BytesSource
from undercroft.errors import NotFoundError

SIZE_BYTES = 6 * MIB + 3 * 512


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diskimages.make_varied_raw(tmp_path_factory.mktemp("raw") / "varied.raw", SIZE_BYTES)


@pytest.fixture(scope="module", params=["v2", "v3", "extended"])
def image(request: pytest.FixtureRequest, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, dict[str, str | int]] = {
        "v2": {"compat": "0.10", "cluster_size": 4096},
        "v3": {},
        "extended": {"extended_l2": "on"},
    }
    image = tmp_path_factory.mktemp("snapshots") / "image.qcow2"
    diskimages.make_qcow2(raw, image, options[request.param], compressed=request.param == "v3")
    diskimages.take_snapshot(image, "before upgrade")
    diskimages.qemu_io(image, "write -P 1 1M 100k", "write -P 2 3000k 2k", "discard 5M 128k")
    diskimages.take_snapshot(image, "zweiter \N{SNOWMAN}")
    diskimages.qemu_io(image, "write -P 3 1M 50k", "write -z 4M 64k")
    return image


def test_snapshots_are_listed_in_order(image: Path) -> None:
    with opened(image) as source:
        snapshots = qcow2.inspect(source).snapshots
    assert [(each.ident, each.name) for each in snapshots] == [
        ("1", "before upgrade"),
        ("2", "zweiter \N{SNOWMAN}"),
    ]
    assert all(each.size_bytes == SIZE_BYTES and each.vm_state_bytes == 0 for each in snapshots)
    assert all(each.created_at_s > 1_600_000_000 for each in snapshots)


@pytest.mark.parametrize("ident", ["1", "2", None])
def test_snapshots_read_as_qemu_converts_them(ident: str | None, image: Path, tmp_path: Path) -> None:
    expected = diskimages.to_raw(image, tmp_path / "expected.raw", snapshot_id=ident).read_bytes()
    with opened(image) as source:
        assert_reads_as(qcow2.open_image(source, snapshot=ident), expected)


def test_snapshots_that_do_not_exist_are_not_found(image: Path) -> None:
    with opened(image) as source, pytest.raises(NotFoundError, match="no snapshot with the ID '7'"):
        qcow2.open_image(source, snapshot="7")


def test_snapshots_keep_their_size_when_the_disk_is_resized_after(raw: Path, tmp_path: Path) -> None:
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2", {"cluster_size": 4096})
    diskimages.take_snapshot(image, "small")
    diskimages.run("qemu-img", "resize", "-q", image, str(SIZE_BYTES + 9 * MIB))
    diskimages.qemu_io(image, f"write -P 5 {SIZE_BYTES + 8 * MIB} 64k")
    diskimages.take_snapshot(image, "large")
    diskimages.run("qemu-img", "resize", "-q", "--shrink", image, str(2 * MIB))
    with opened(image) as source:
        sizes = [each.size_bytes for each in qcow2.inspect(source).snapshots]
    assert sizes == [SIZE_BYTES, SIZE_BYTES + 9 * MIB]
    for name, ident in (("small", "1"), ("large", "2")):
        reverted = Path(shutil.copy(image, tmp_path / "reverted.qcow2"))
        diskimages.run("qemu-img", "snapshot", "-a", name, reverted)
        expected = diskimages.to_raw(reverted, tmp_path / "expected.raw").read_bytes()
        with opened(image) as source:
            assert_reads_as(qcow2.open_image(source, snapshot=ident), expected)


def test_snapshots_of_an_overlay_read_through_its_backing_file(raw: Path, tmp_path: Path) -> None:
    image = diskimages.create_qcow2(tmp_path / "image.qcow2", SIZE_BYTES, backing=raw, backing_format="raw")
    diskimages.take_snapshot(image, "untouched")
    diskimages.qemu_io(image, f"write -P 6 0 {4 * MIB}")
    with opened(image) as source, opened(raw) as backing:
        assert_reads_as(qcow2.open_image(source, snapshot="1", backing=backing), raw.read_bytes())


def test_an_old_snapshot_without_a_size_borrows_that_of_the_disk_and_ends_in_zeros(tmp_path: Path) -> None:
    """Old versions of QEMU wrote no size; an L1 table that is shorter than the grown disk's is sound then."""
    content = bytes(range(1, 129)) * 512
    raw = diskimages.make_raw(tmp_path / "raw", len(content), {0: content})
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2", {"cluster_size": 512})
    diskimages.take_snapshot(image, "old")
    diskimages.run("qemu-img", "resize", "-q", image, str(MIB))
    diskimages.qemu_io(image, f"write -P 9 0 {MIB}")
    data = bytearray(image.read_bytes())
    entry = int.from_bytes(data[64:72], "big")
    extra_bytes = int.from_bytes(data[entry + 36 : entry + 40], "big")
    names = data[entry + 40 + extra_bytes : entry + 40 + extra_bytes + 4]
    data[entry + 36 : entry + 44] = bytes(4) + names
    source = BytesSource(bytes(data))
    assert [(each.name, each.size_bytes) for each in qcow2.inspect(source).snapshots] == [("old", MIB)]
    assert_reads_as(qcow2.open_image(source, snapshot="1"), content + bytes(MIB - len(content)))
