"""Any bytes on a disc give files or an InputError, within limits of time and memory."""

import os
import resource
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from diskimages import run
from extmutants import digest_tree, judge
from mutants import Family, mutate

from undercroft.disks.filesystem import FileKind
from undercroft.disks.iso9660 import Iso9660, layout, open_filesystem
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UnsupportedError

MEMORY_LIMIT_BYTES = 512 << 20
TIME_LIMIT_S = 10
MAX_WRONG_SHARE = 0.35
"""The format has no checksums: names, modes, owners and times stand there once, or unchecked."""

pytestmark = pytest.mark.skipif(not shutil.which("genisoimage"), reason="needs genisoimage")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("iso9660")
    tree = folder / "tree"
    random = Random(5)
    for number in range(60):
        path = tree / f"folder-{number % 7}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(random.choice((0, 30, 5000))))
    deep = tree.joinpath(*(f"d{number}" for number in range(10)))
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("deep")
    (tree / "link").symlink_to("folder-1/file-1")
    (tree / "long").symlink_to("/" + "x" * 100 + "/" + "y" * 90)
    found = {}
    for kind, options in (("rock-ridge", ("-R",)), ("joliet", ("-J", "-D")), ("plain", ("-D",))):
        run("genisoimage", "-quiet", *options, "-o", folder / kind, tree)
        found[kind] = (folder / kind).read_bytes()
    return found


def areas(image: bytes) -> tuple[tuple[int, int], ...]:
    """Return where descriptors, directories and continuations lie: what a walk reads before any content."""
    places: list[tuple[int, int]] = []

    class Recorder(BytesSource):
        def read(self, offset: int, length: int) -> bytes:
            places.append((offset, length))
            return super().read(offset, length)

    filesystem = open_filesystem(Recorder(image))
    pending = [filesystem.root]
    while pending:
        for _, node, kind in filesystem.entries(pending.pop()):
            filesystem.stat(node)
            if kind is FileKind.DIRECTORY:
                pending.append(node)
    return tuple(sorted({place for place in places if place[1] > 1}))


def worker() -> None:
    """Judge mutants under a limit of memory, in a process of its own."""
    path, first, count = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    image = Path(path).read_bytes()
    family = Family(Path(path).name, image, areas(image), "raw")
    expected, refused = digest_tree(image, open_filesystem)  # type: ignore[arg-type] # the same protocol
    assert not refused
    outcomes: Counter[str] = Counter()
    for seed in range(int(first), int(first) + int(count)):
        outcomes[judge(mutate(family, seed), expected, open_filesystem)] += 1  # type: ignore[arg-type] # as above
    sys.stdout.write(" ".join(f"{name}={number}" for name, number in sorted(outcomes.items())))


def campaign(images: dict[str, bytes], folder: Path, count: int) -> dict[str, Counter[str]]:
    found = {}
    for kind, image in images.items():
        path = folder / kind
        path.write_bytes(image)
        program = f"import sys; sys.path[:0] = {sys.path!r}; import test_iso9660_hostile as t; t.worker()"
        command = [sys.executable, "-c", program, str(path), "0", str(count)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S * count,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        pairs = (pair.split("=") for pair in done.stdout.split(" "))
        found[kind] = Counter({name: int(number) for name, number in pairs})
        assert set(found[kind]) <= {"same", "refused", "wrong"}, done.stdout
        assert found[kind]["wrong"] <= MAX_WRONG_SHARE * count, found
    return found


def test_a_few_mutants_end_with_an_answer(images: dict[str, bytes], tmp_path: Path) -> None:
    assert campaign(images, tmp_path, 12).keys() == images.keys()


@pytest.mark.timeout(1500)
@pytest.mark.soak
def test_a_thousand_mutants_end_with_an_answer(images: dict[str, bytes], tmp_path: Path) -> None:
    sys.stderr.write(f"{campaign(images, tmp_path, 1000)}\n")  # the shares in docs/ROBUSTNESS.md


def walk(filesystem: Iso9660) -> dict[bytes, int]:
    """Return the node of each path; a directory is entered once."""
    found: dict[bytes, int] = {}
    pending, seen = [(b"", filesystem.root)], {filesystem.root}
    while pending:
        path, folder = pending.pop()
        for name, node, kind in filesystem.entries(folder):
            found[path + b"/" + name] = node
            if kind is FileKind.DIRECTORY and node not in seen:
                seen.add(node)
                pending.append((path + b"/" + name, node))
    return found


def both(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def patched(image: bytes, place: int, data: bytes) -> bytes:
    return image[:place] + data + image[place + len(data) :]


DESCRIPTOR = 16 * layout.SECTOR_BYTES


@pytest.mark.parametrize(
    ("offset", "data", "reason"),
    [
        (1, b"XX001", "no primary volume descriptor"),
        (80, b"\1\0\0\0\0\0\0\2", "disagrees"),
        (128, b"\0\1\1\0", "blocks of 256 bytes"),
        (156, b"\x10", "a record of 16 bytes"),
        (158, b"\xff\xff\0\0\0\0\xff\xff", "beyond the end"),
        (158, b"\1\0\0\0\0\0\0\2", "disagree in the two byte orders"),
        (181, b"\0", "its root is no directory"),
    ],
)
def test_a_descriptor_that_contradicts_itself_is_refused(
    images: dict[str, bytes], offset: int, data: bytes, reason: str
) -> None:
    with pytest.raises(InputError, match=f"^iso9660.*{reason}"):
        open_filesystem(BytesSource(patched(images["plain"], DESCRIPTOR + offset, data)))


def test_a_disc_that_is_cut_off_says_so(images: dict[str, bytes]) -> None:
    filesystem = open_filesystem(BytesSource(images["plain"][:-20_000]))
    assert "what lies beyond cannot be read" in filesystem.problems[0]


def test_a_folder_that_leads_back_to_the_root_is_the_root(images: dict[str, bytes]) -> None:
    image = images["plain"]
    filesystem = open_filesystem(BytesSource(image))
    place = image.index(b"FOLDER_1", filesystem.root) - layout.RECORD_BYTES
    block = filesystem.root // layout.SECTOR_BYTES
    looped = open_filesystem(BytesSource(patched(image, place + 2, both(block))))
    assert looped.lookup(looped.root, b"folder_1") == looped.root
    assert len(walk(looped)) < 200


def test_a_deep_folder_that_leads_to_itself_ends_a_walk(images: dict[str, bytes]) -> None:
    image = images["rock-ridge"]
    filesystem = open_filesystem(BytesSource(image))
    place = image.index(b"CL\x0c\x01")
    block = filesystem.root // layout.SECTOR_BYTES
    looped = open_filesystem(BytesSource(patched(image, place + 4, both(block))))
    assert filesystem.root in walk(looped).values()


def test_continuations_in_a_circle_are_refused(images: dict[str, bytes]) -> None:
    image = images["rock-ridge"]
    place = image.index(b"CE\x1c\x01", image.index(b"NM\x09\x01\0long"))
    block, _, offset, _, size, _ = struct.unpack_from("<I4sI4sI4s", image, place + 4)
    area = block * layout.SECTOR_BYTES + offset
    circle = b"CE\x1c\x01" + image[place + 4 : place + 28]
    with pytest.raises(InputError, match=r"iso9660 .*goes on more than 32 times"):
        open_filesystem(BytesSource(patched(image, area, circle.ljust(size, b"\0"))))


def test_a_file_in_several_extents_is_one_file(images: dict[str, bytes]) -> None:
    """Two files that lie one behind the other become one by the flag that says that more follows."""
    image = images["plain"]
    filesystem = open_filesystem(BytesSource(image))
    nodes = walk(filesystem)
    pairs = zip(sorted(nodes.items()), sorted(nodes.items())[1:], strict=False)
    first, second = next(
        (one, other)
        for one, other in pairs
        if one[1] in range(other[1] - 60, other[1])
        and min(filesystem.stat(each[1]).size_bytes for each in (one, other)) > 2048
        and all(filesystem.stat(each[1]).kind is FileKind.REGULAR for each in (one, other))
    )
    contents = filesystem.read(first[1], 1 << 20)[:2048], filesystem.read(second[1], 1 << 20)
    image = patched(image, first[1] + 10, both(2048))
    image = patched(image, first[1] + 25, b"\x80")
    joined = open_filesystem(BytesSource(image))
    found = walk(joined)
    assert first[0] not in found
    assert found[second[0]] == first[1]
    assert joined.stat(first[1]).size_bytes == 2048 + len(contents[1])
    for start in (0, 5, 2047, 2048, 2500):
        assert b"".join(joined.chunks(first[1], start)) == b"".join(contents)[start:]
    odd = open_filesystem(BytesSource(patched(image, first[1] + 10, both(2047))))
    with pytest.raises(InputError, match="an extent of 2047 bytes in its middle"):
        odd.stat(first[1])


def test_extents_beyond_the_end_and_interleaved_files_are_refused(images: dict[str, bytes]) -> None:
    image = images["plain"]
    node = walk(open_filesystem(BytesSource(image)))[b"/folder_1/file_1"]
    far = open_filesystem(BytesSource(patched(patched(image, node + 2, both(1 << 30)), node + 10, both(5))))
    with pytest.raises(InputError, match=r"^iso9660 file .* beyond the end"):
        far.read(node, 10)
    woven = open_filesystem(BytesSource(patched(image, node + 26, b"\1\1")))
    with pytest.raises(UnsupportedError, match="interleaved"):
        woven.read(node, 1 << 20)


def test_what_zisofs_compresses_is_unread(images: dict[str, bytes]) -> None:
    image = images["rock-ridge"]
    node = walk(open_filesystem(BytesSource(image)))[b"/folder-1/file-1"]
    place = image.index(b"TF", node)
    field = b"ZF\x10\x01pz\x04\x0f" + both(77)
    packed = open_filesystem(BytesSource(patched(image, place, field + bytes(image[place + 2] - 16))))
    assert packed.stat(node).size_bytes == 77
    with pytest.raises(UnsupportedError, match="zisofs"):
        packed.read(node, 1 << 20)
