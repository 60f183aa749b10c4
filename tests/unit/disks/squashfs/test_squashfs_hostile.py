"""Any bytes in a squashfs give files or an InputError, within limits of time and memory."""

import resource
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from diskimages import run
from mutants import Family, mutate
from readermutants import view

from undercroft.disks.source import BytesSource
from undercroft.disks.squashfs import metadata, open_filesystem
from undercroft.errors import InputError

MEMORY_LIMIT_BYTES = 512 << 20
READ_LIMIT_BYTES = 16 << 20
TIME_LIMIT_S = 10


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("squashfs")
    tree = folder / "tree"
    random = Random(5)
    for number in range(60):
        path = tree / f"folder-{number % 7}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(random.choice((0, 30, 5000))) + b"text " * random.randrange(4000))
    (tree / "link").symlink_to("folder-1/file-1")
    found = {}
    for kind, options in (("gzip", ""), ("xz", ""), ("zstd", ""), ("plain", "-noI -noD -noF")):
        comp = "gzip" if kind == "plain" else kind
        image = folder / kind
        run(
            "mksquashfs", tree, image, "-quiet", "-no-progress", "-comp", comp, "-b", "4096", *options.split()
        )
        found[kind] = image.read_bytes()
    return found


def judge(kind: str, image: bytes, first: int, count: int) -> Counter[str]:
    """Return the outcomes of mutants of superblock and metadata; data has no checksum, and is left alone."""
    table = struct.unpack_from("<Q", image, 64)[0]
    areas = ((0, 96), (table, len(image) - table))
    expected, refused = view("squashfs", image)
    assert not refused
    outcomes: Counter[str] = Counter()
    for seed in range(first, first + count):
        mutant = mutate(Family(f"squashfs-{kind}", image, areas, "raw"), seed)
        try:
            found, problems = view("squashfs", mutant)
        except InputError:
            outcomes["refused"] += 1
            continue
        outcomes["refused" if problems else "same" if found == expected else "wrong"] += 1
    return outcomes


def worker() -> None:
    """Judge mutants under a limit of memory, in a process of its own."""
    path, first, count = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    outcomes = judge(Path(path).name, Path(path).read_bytes(), int(first), int(count))
    sys.stdout.write(" ".join(f"{name}={number}" for name, number in sorted(outcomes.items())))


def campaign(images: dict[str, bytes], folder: Path, count: int) -> dict[str, str]:
    found = {}
    for kind, image in images.items():
        path = folder / kind
        path.write_bytes(image)
        program = f"import sys; sys.path[:0] = {sys.path!r}; import test_squashfs_hostile as t; t.worker()"
        command = [sys.executable, "-c", program, str(path), "0", str(count)]
        environment = {"PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S * count,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        found[kind] = done.stdout
    return found


def test_a_few_mutants_end_with_an_answer(images: dict[str, bytes], tmp_path: Path) -> None:
    assert campaign(images, tmp_path, 40).keys() == images.keys()


@pytest.mark.timeout(1500)
@pytest.mark.soak
def test_a_thousand_mutants_end_with_an_answer(images: dict[str, bytes], tmp_path: Path) -> None:
    found = campaign(images, tmp_path, 1000)
    sys.stderr.write(f"{found}\n")  # the shares in docs/ROBUSTNESS.md


def patched(image: bytes, offset: int, layout: str, value: int) -> bytes:
    changed = bytearray(image)
    struct.pack_into(f"<{layout}", changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "reason"),
    [
        (0, "I", 1, "there is none"),
        (12, "I", 3, "blocks of 3 bytes"),
        (22, "H", 31, "blocks of"),
        (16, "I", 0xFFFFFFFF, "fragments"),
        (26, "H", 0, "0 ids"),
        (28, "H", 3, "version 3.0 is not supported"),
        (20, "H", 77, "compression 77"),
        (32, "Q", 0xFFFF_FFFF_FFFF, "outside the table of inodes"),
        (40, "Q", 1 << 50, "do not lie"),
        (64, "Q", 1 << 50, "do not lie"),
        (80, "Q", 1 << 50, "fragments lies outside"),
    ],
)
def test_a_superblock_that_contradicts_itself_is_refused(
    images: dict[str, bytes], offset: int, layout: str, value: int, reason: str
) -> None:
    with pytest.raises(InputError, match=f"^squashfs.*{reason}"):
        open_filesystem(BytesSource(patched(images["gzip"], offset, layout, value)))


def test_a_block_that_unpacks_to_more_than_it_may_is_refused(images: dict[str, bytes]) -> None:
    bomb = zlib.compress(bytes(1 << 20), 9)[: metadata.BLOCK_BYTES]
    image = bytearray(images["gzip"])
    (table,) = struct.unpack_from("<Q", image, 64)
    image[table : table + 2 + len(bomb)] = struct.pack("<H", len(bomb)) + bomb
    image += bytes(1 << 16)
    struct.pack_into("<Q", image, 40, len(image))
    with pytest.raises(InputError, match="does not unpack to at most 8192 bytes"):
        open_filesystem(BytesSource(bytes(image)))
