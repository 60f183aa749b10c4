"""The exFAT reader against what exfat-fuse wrote and reads back, and against the kernel of a guest."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import exfatimages
import extimages
import guestfsanswers
import pytest
from diskimages import MIB, make_raw, opened, run, wrap_gpt
from filetrees import contents_whatever_case
from guestfsanswers import Asked

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.exfat import open_filesystem
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.opening import open_volumes

pytestmark = pytest.mark.skipif(bool(exfatimages.missing()), reason=exfatimages.missing() or "-")

FEATURES = (
    (),
    pytest.param(("-c", "512"), marks=pytest.mark.soak),
    ("-c", "4K", "-L", "DATEN"),
    pytest.param(("-c", "128K"), marks=pytest.mark.soak),
)
FRAGMENTED = """
for i in $(seq 40); do head -c 5000 '{tree}/large' > "gap$i"; done
for i in $(seq 1 2 39); do rm "gap$i"; done
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files whose names exFAT can hold; without links, which it has not."""
    root = extimages.make_tree(tmp_path_factory.mktemp("source") / "tree")
    for path in root.iterdir():
        if path.is_symlink() or path.is_fifo():
            path.unlink()
    shutil.rmtree(root / "names")
    names = root / "Größe"
    names.mkdir()
    for name in ("𝄞 clef", "x" * 255, "trailing.dots...", "sixteen characte", "fifteen charact", "ÄÖÜß"):
        (names / name).write_text(name)
    return root


def contents(root: Path) -> dict[str, str]:
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        found[name] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def seen(filesystem: FileSystem) -> dict[str, str]:
    return contents_whatever_case(filesystem, lambda name: name.swapcase() if "ß" not in name else name)


@pytest.mark.parametrize("options", FEATURES, ids=" ".join)
def test_every_file_equals_what_another_implementation_was_given(
    options: tuple[str, ...], tree: Path, tmp_path: Path
) -> None:
    image = exfatimages.make(tmp_path / "image", *options, size_bytes=128 * MIB)
    script = f"{FRAGMENTED.format(tree=tree)}cp -r '{tree}/.' .\nrm gap*\nrm many/*7\n"
    exfatimages.fill(image, script)
    expected = {
        name: digest
        for name, digest in contents(tree).items()
        if not (name.startswith("many/") and name.endswith("7"))
    }
    with opened(image) as source:
        content = detect(source)
        filesystem = formats.open_filesystem(content, source)
        assert (content.kind, filesystem.content, getattr(filesystem, "problems", None)) == (
            "exfat",
            "exfat",
            (),
        )
        assert filesystem.label == ("DATEN" if "-L" in options else "")
        assert seen(filesystem) == expected
    with opened(image) as source:
        (volume,) = open_volumes([("sdb", source)]).volumes
        if filesystem.label:
            assert find_volumes(parse_device(b"LABEL=DATEN"), [volume]) == [volume]
    uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", image).strip().lower()
    assert content.uuid == filesystem.uuid == uuid


def test_a_large_file_is_read_from_any_place(tree: Path, tmp_path: Path) -> None:
    image = exfatimages.make(tmp_path / "image", "-c", "4K", size_bytes=32 * MIB)
    exfatimages.fill(image, f"{FRAGMENTED.format(tree=tree)}cp '{tree}/large' .")
    content = (tree / "large").read_bytes()
    with opened(image) as source:
        filesystem = open_filesystem(source)
        node = filesystem.lookup(filesystem.root, b"LARGE")
        assert node is not None
        for start in (0, 1, 4095, 4096, 70_000, 1_000_001, len(content) - 1, len(content), len(content) + 9):
            assert b"".join(filesystem.chunks(node, start)) == content[start:]


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(guestfsanswers.missing()), reason=guestfsanswers.missing() or "-")
def test_the_kernel_of_a_guest_reads_and_writes_the_same(tree: Path, tmp_path: Path) -> None:
    volume = exfatimages.make(tmp_path / "volume", "-c", "4K", size_bytes=64 * MIB)
    exfatimages.fill(volume, f"{FRAGMENTED.format(tree=tree)}cp -r '{tree}/.' .")
    disk = wrap_gpt(tmp_path / "disk", [volume])
    with opened(volume) as source:
        ours = seen(open_filesystem(source))
    # Linux takes the dots off a name that it looks up, and does not find what another system named so.
    names = [name for name, digest in ours.items() if digest != "folder" and not name.endswith(".")]
    theirs = guestfsanswers.digests(Asked(disk), names, limit_s=600)
    assert theirs == {name: ours[name] for name in names}
    # What the kernel itself writes: a file that ends before its length, whose last clusters hold old bytes.
    written = make_raw(tmp_path / "written", 32 * MIB)
    script = (
        "run : mkfs exfat /dev/sda : mount /dev/sda / : fill 255 3000000 /old : rm /old : "
        "write /late begin : truncate-size /late 2000000 : mkdir /Folder : write /Folder/file text"
    )
    environment = {**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    done = subprocess.run(
        ["guestfish", "--format=raw", "-a", written, *script.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    with opened(written) as source:
        filesystem = open_filesystem(source)
        late = filesystem.lookup(filesystem.root, b"late")
        assert late is not None
        assert filesystem.read(late, 4 * MIB) == b"begin".ljust(2_000_000, b"\0")
        assert "Folder/file" in seen(filesystem)
    sys.stderr.write(f"{len(names)} files equal\n")
