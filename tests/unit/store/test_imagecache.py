"""What is kept of images is found again by exactly the file that it is of, where it is ours alone."""

import os
import resource
import signal
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from reports import inventory, package

from undercroft.model.disk import DiskFormat, ImageInfo, Snapshot
from undercroft.model.fleet import DiskRead, FileIdentity, ReadSet
from undercroft.model.images import KeptAnswer
from undercroft.store import imagecache
from undercroft.store.imagecache import IN_MEMORY, SqliteImageCache

IDENTITY = FileIdentity("/images/\udcffweb.qcow2", 3, 14, 1 << 30, 10**18, 10**18 + 1)
INFO = ImageInfo(
    DiskFormat.QCOW2, 1 << 40, 65536, 3, (Snapshot("1", "a\0\udc80", 5, 0, 9),), "base.qcow2", "qcow2"
)
READS = ReadSet((DiskRead(0, 0, 512), DiskRead(0, 1 << 40, 4096)), (1 << 41,), "ab" * 32)
FOUND = inventory(package("\udcfe", "1"), package("bash", "2"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/private/images.db"


def filled(path: str) -> SqliteImageCache:
    cache = SqliteImageCache(path)
    cache.keep_info(IDENTITY, None, INFO)
    digest = cache.keep_inventory(FOUND, READS)
    cache.keep_answer(IDENTITY.path, "", KeptAnswer(digest, (IDENTITY,), "in", None))
    return cache


def test_what_is_kept_is_found_by_another_process_s_cache(path: str) -> None:
    filled(path).close()
    with closing(SqliteImageCache(path)) as cache:
        assert cache.problem == ""
        assert cache.info(IDENTITY, None) == INFO
        answer = cache.answer(IDENTITY.path, "")
        assert answer is not None
        assert (answer.files, answer.inputs, answer.reads) == ((IDENTITY,), "in", READS)
        assert cache.inventory(answer.inventory) == FOUND
        assert cache.answer(IDENTITY.path, "1 a") is None


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, inode=15),
        replace(IDENTITY, device=4),
        replace(IDENTITY, size_bytes=1),
        replace(IDENTITY, modified_ns=1),
        replace(IDENTITY, changed_ns=10**18 + 2),
        replace(IDENTITY, path="/images/web.qcow2"),
    ],
)
def test_a_file_that_is_not_exactly_the_same_has_nothing_kept(path: str, other: FileIdentity) -> None:
    with closing(filled(path)) as cache:
        assert cache.info(other, None) is None
        assert cache.info(IDENTITY, DiskFormat.RAW) is None


def test_a_file_that_proves_nothing_is_not_kept(path: str) -> None:
    with closing(SqliteImageCache(path)) as cache:
        cache.keep_info(replace(IDENTITY, proves=False), None, INFO)
        assert cache.info(IDENTITY, None) is None


def open_to_all(path: str) -> None:
    os.chmod(path, 0o666)


def in_an_open_folder(path: str) -> None:
    os.chmod(os.path.dirname(path), 0o777)


def of_another_program(path: str) -> None:
    Path(path).write_bytes(b"not a database" * 100)


@pytest.mark.parametrize("spoil", [open_to_all, in_an_open_folder, of_another_program])
def test_what_others_could_have_written_and_what_is_damaged_is_not_used(
    path: str, spoil: Callable[[str], None]
) -> None:
    filled(path).close()
    for leftover in Path(path).parent.glob("*-wal"):
        leftover.unlink()
    spoil(path)
    with closing(SqliteImageCache(path)) as cache:
        assert "not used as the cache of scans" in cache.problem
        assert cache.info(IDENTITY, None) is None
        cache.keep_info(IDENTITY, None, INFO)
        assert cache.info(IDENTITY, None) == INFO, "it serves this process all the same"


def test_a_row_that_holds_something_else_is_as_good_as_none(path: str) -> None:
    filled(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE info SET body = '{}'")
        database.execute("UPDATE answer SET body = '[1, 2]'")
        database.execute("UPDATE inventory SET body = x'00'")
        database.commit()
    with closing(SqliteImageCache(path)) as cache:
        assert cache.info(IDENTITY, None) is None
        assert cache.answer(IDENTITY.path, "") is None


def test_inventories_that_no_answer_needs_are_dropped(path: str) -> None:
    with closing(filled(path)) as cache:
        lost = cache.keep_inventory(inventory(package("other", "1")), None)
    with closing(SqliteImageCache(path)) as cache:
        assert cache.inventory(lost) is None
        kept = cache.answer(IDENTITY.path, "")
        assert kept is not None
        assert cache.inventory(kept.inventory) == FOUND


def test_what_was_kept_is_there_after_a_kill(path: str) -> None:
    """The child of a fork ends without a word, as a killed process does."""
    child = os.fork()
    if child == 0:
        filled(path)
        os._exit(9)
    os.waitpid(child, 0)
    with closing(SqliteImageCache(path)) as cache:
        assert cache.info(IDENTITY, None) == INFO


def test_in_memory_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    filled(IN_MEMORY).close()
    assert list(tmp_path.iterdir()) == []


def test_what_other_readers_said_is_not_given_again(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade within one version, or of a package that a reader needs: it may read more now."""
    filled(path).close()
    monkeypatch.setattr(imagecache, "readers_digest", lambda: "others")
    with closing(SqliteImageCache(path)) as cache:
        assert cache.info(IDENTITY, None) is None
        assert cache.answer(IDENTITY.path, "") is None
        digest = cache.keep_inventory(FOUND, READS)
        cache.keep_answer(IDENTITY.path, "", KeptAnswer(digest, (IDENTITY,), "in", None))
        assert cache.answer(IDENTITY.path, "") is not None


def test_a_scan_that_stands_still_holds_up_no_other(path: str) -> None:
    """As one does whose output is read page by page."""
    with closing(filled(path)) as paused, closing(SqliteImageCache(path)) as other:
        other.keep_info(replace(IDENTITY, path="/images/other.qcow2"), None, INFO)
        paused.keep_info(replace(IDENTITY, path="/images/third.qcow2"), None, INFO)
        assert (paused.problem, other.problem) == ("", "")
        assert other.info(replace(IDENTITY, path="/images/third.qcow2"), None) == INFO


HOSTILE_ROWS = [
    "UPDATE info SET body = 5",
    "UPDATE info SET body = x'ff'",
    "UPDATE info SET body = '" + "[" * 100_000 + "'",
    "UPDATE answer SET body = x'00'",
    "UPDATE answer SET body = 'null'",
    "UPDATE inventory SET reads = 'text'",
    f"UPDATE inventory SET reads = x'{zlib.compress(b'{}').hex()}'",
    f"UPDATE inventory SET reads = x'{zlib.compress(b'[1]').hex()}'",
    "UPDATE inventory SET body = 7",
    f"UPDATE inventory SET body = x'{zlib.compress(b'[]').hex()}'",
    f"UPDATE inventory SET body = x'{zlib.compress(bytes(64 << 20)).hex()}'",
    f"UPDATE packages SET body = x'{zlib.compress(b'[]').hex()}'",
    "UPDATE packages SET body = 'text'",
]


@pytest.mark.parametrize("statement", HOSTILE_ROWS, ids=range(len(HOSTILE_ROWS)))
def test_no_row_ends_a_scan_or_passes_for_what_was_read(path: str, statement: str) -> None:
    with closing(filled(path)) as cache:
        kept = cache.answer(IDENTITY.path, "")
    assert kept is not None
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()
    with closing(SqliteImageCache(path)) as cache:
        answers = (cache.info(IDENTITY, None), cache.answer(IDENTITY.path, ""))
        found = cache.inventory(kept.inventory)
    assert None in (*answers, found)
    assert found in (None, FOUND)


def test_a_full_disk_costs_what_would_be_kept_and_nothing_else(path: str) -> None:
    SqliteImageCache(path).close()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, 256 << 10))
        cache = SqliteImageCache(path)
        for number in range(2000):
            digest = cache.keep_inventory(inventory(package("bash", str(number))), READS)
            cache.keep_answer(IDENTITY.path, str(number), KeptAnswer(digest, (IDENTITY,), "in", None))
        known = cache.inventory(digest)
        os._exit(0 if "cannot be written" in cache.problem and known else 1)
    assert os.waitpid(child, 0)[1] == 0
    with closing(SqliteImageCache(path)) as cache:
        assert cache.problem == ""
        assert cache.answer(IDENTITY.path, "0") is not None
