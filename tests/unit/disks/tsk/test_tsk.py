"""NTFS through The Sleuth Kit: as the tools that made it say, damage told, crashes contained."""

import hashlib
import os
import random
import resource
import signal
from collections import Counter
from collections.abc import Callable

import pytest
from databasemutants import areas_of
from diskimages import MIB, make_raw, run
from mutants import Family, mutate

from undercroft.disks import tsk
from undercroft.disks.filesystem import FileKind, FileSystem
from undercroft.disks.source import BlockSource, BytesSource
from undercroft.disks.tsk import binding
from undercroft.disks.tsk.ntfslog import log_is_clean
from undercroft.errors import InputError, UnsupportedError

pytest.importorskip("pytsk3", reason="needs pytsk3, the extra `windows`")

MUTANTS = int(os.environ.get("UNDERCROFT_DATABASE_MUTANTS", "16"))
"""`make soak` may ask for more."""

MEMORY_LIMIT_BYTES = 512 << 20
TIME_LIMIT_S = 10
CONTENT = random.Random(3).randbytes(700_000)


@pytest.fixture(scope="module")
def ntfs(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An NTFS with a long file, a short one, and one with a hole."""
    folder = tmp_path_factory.mktemp("ntfs")
    image = make_raw(folder / "image", 4 * MIB)
    run("mkntfs", "-q", "-F", "-c", "4096", "-L", "Windows", image)
    (folder / "long").write_bytes(CONTENT)
    (folder / "short").write_bytes(b"short")
    run("ntfscp", "-f", image, folder / "long", "Long.bin")
    run("ntfscp", "-f", image, folder / "short", "short.txt")
    return image.read_bytes()


def node_of(filesystem: FileSystem, *names: bytes) -> int:
    node: int | None = filesystem.root
    for name in names:
        assert node is not None
        node = filesystem.lookup(node, name)
    assert node is not None
    return node


def test_ntfs_files_are_read_whole_and_from_the_middle_whatever_the_case_of_their_name(ntfs: bytes) -> None:
    filesystem = tsk.open_filesystem(BytesSource(ntfs))
    node = node_of(filesystem, b"LONG.BIN")
    assert filesystem.read(node, MIB) == CONTENT
    assert b"".join(filesystem.chunks(node, 123_457)) == CONTENT[123_457:]
    assert filesystem.stat(node).size_bytes == len(CONTENT)
    assert filesystem.stat(node).kind is FileKind.REGULAR
    assert filesystem.read(node_of(filesystem, b"short.txt"), 10) == b"short"
    assert filesystem.lookup(filesystem.root, b"missing") is None
    assert getattr(filesystem, "problems", None) == ()
    with pytest.raises(InputError, match="700000 bytes, the limit is 100"):
        filesystem.read(node, 100)


def test_without_the_library_the_volume_is_unread_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, ntfs: bytes
) -> None:
    monkeypatch.setattr(binding, "pytsk3", None)
    with pytest.raises(UnsupportedError, match=r"needs pytsk3: pip install 'undercroft\[windows\]'"):
        tsk.open_filesystem(BytesSource(ntfs))


def read_long(source: BlockSource) -> bytes:
    filesystem = tsk.open_filesystem(source)
    return filesystem.read(node_of(filesystem, b"Long.bin"), MIB)


class BadSector:
    """A source that cannot give what lies behind its first 64 KiB."""

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        if offset + length > 64 << 10:
            raise InputError("disk vda: bad sector")
        return self._data[offset : offset + length]


def test_an_error_of_the_disk_is_told_as_the_disk_told_it(ntfs: bytes) -> None:
    source: BlockSource = BadSector(ntfs)
    with pytest.raises(InputError, match="bad sector"):
        read_long(source)


def test_a_volume_that_is_marked_dirty_says_so(ntfs: bytes) -> None:
    start = _volume_flags(ntfs)
    dirty = bytearray(ntfs)
    dirty[start] |= 1
    filesystem = tsk.open_filesystem(BytesSource(bytes(dirty)))
    assert getattr(filesystem, "problems", None) == (
        "ntfs the volume is marked dirty: it is read as it stands",
    )


def _volume_flags(image: bytes) -> int:
    """Return where the flags of $VOLUME_INFORMATION lie, by a walk over the record of $Volume."""
    cluster = image[13] * 512
    record = int.from_bytes(image[48:56], "little") * cluster + 3 * 1024
    at = record + int.from_bytes(image[record + 20 : record + 22], "little")
    while int.from_bytes(image[at : at + 4], "little") != 0x70:
        at += int.from_bytes(image[at + 4 : at + 8], "little")
    return at + int.from_bytes(image[at + 20 : at + 22], "little") + 10


def _restart_page(lsn: int, in_use: int, flags: int) -> bytes:
    area = lsn.to_bytes(8, "little") + bytes(4) + in_use.to_bytes(2, "little") + flags.to_bytes(2, "little")
    return (b"RSTR".ljust(24, b"\0") + (48).to_bytes(2, "little")).ljust(48, b"\0") + area.ljust(4048, b"\0")


@pytest.mark.parametrize(
    ("log", "clean"),
    [
        (b"\xff" * 8192, True),
        (b"CHKD".ljust(8192, b"\0"), True),
        (_restart_page(5, 0xFFFF, 0) * 2, True),
        (_restart_page(5, 0, 2) * 2, True),
        (_restart_page(5, 0, 0) * 2, False),
        (_restart_page(5, 0xFFFF, 0) + _restart_page(6, 0, 0), False),
        (_restart_page(6, 0xFFFF, 0) + _restart_page(5, 0, 0), True),
        (b"RSTR".ljust(24, b"\0") + b"\xff" * 8168, False),
        (bytes(8192), False),
        (b"", False),
    ],
)
def test_a_log_is_clean_where_its_newest_restart_page_says_so(log: bytes, clean: bool) -> None:
    assert log_is_clean(log) is clean


def digest_of(image: bytes) -> str:
    """Return a digest of all that is read, "refused" where something could not be."""
    digest = hashlib.sha256()
    try:
        filesystem = tsk.open_filesystem(BytesSource(image))
        if getattr(filesystem, "problems", ()):
            return "refused"
        pending, seen = [filesystem.root], {filesystem.root}
        while pending:
            for name, node, _ in sorted(filesystem.entries(pending.pop())):
                if name.startswith(b"$") or len(seen) > 1000:
                    continue
                stat = filesystem.stat(node)
                digest.update(repr((name, stat.kind, stat.size_bytes)).encode())
                if stat.kind is FileKind.REGULAR:
                    digest.update(filesystem.read(node, 64 * MIB))
                elif node not in seen:
                    seen.add(node)
                    pending.append(node)
    except InputError:
        return "refused"
    return digest.hexdigest()


def contained(job: Callable[[], str]) -> str:
    """Run a job in a child with a reader's limits; how it died stands in place of its answer."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(TIME_LIMIT_S)
        try:
            os.write(writing, job().encode())
        except BaseException as error:
            os.write(writing, f"raised {error!r}"[:300].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = answer.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return told or f"died of {signal.Signals(-status).name}"


def outcomes_of(image: bytes, name: str, count: int) -> Counter[str]:
    expected = digest_of(image)
    areas = [area for area in areas_of(image) if image[area[0] : area[0] + area[1]] not in CONTENT]
    family = Family(name, image, tuple(areas), "raw")
    outcomes = Counter[str]()
    for seed in range(count):
        told = contained(lambda number=seed: digest_of(mutate(family, number)))  # type: ignore[misc] # bound at once
        word = "same" if told == expected else "wrong" if len(told) == 64 else told
        outcomes[word] += 1
    return outcomes


def test_mutants_end_in_an_answer_or_with_the_death_of_their_child_alone(ntfs: bytes) -> None:
    outcomes = outcomes_of(ntfs, "ntfs", MUTANTS)
    assert not [word for word in outcomes if word.startswith("raised")], outcomes
    assert outcomes["died of SIGALRM"] == 0, outcomes


@pytest.mark.soak
def test_a_thousand_mutants(ntfs: bytes) -> None:
    outcomes = outcomes_of(ntfs, "ntfs", 1000)
    assert not [word for word in outcomes if word.startswith("raised")], outcomes
