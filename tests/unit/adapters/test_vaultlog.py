"""What every log of vaults promises, asked of each implementation; then the file's own faults."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.fakes.memorylog import MemoryLog
from tests.support.faultyfiles import FaultyFiles, Killed, MemoryFiles

from undercroft.adapters.durablefiles import FolderFiles
from undercroft.adapters.vaultfile import VaultFile
from undercroft.errors import DamagedError, InputError, OperationError, StateError
from undercroft.ports.vaultlog import MAX_GROUP_BYTES, MAX_RECORD_BYTES, VaultLog

KEY = b"k" * 32


class OfFiles:
    """A log in memory files, and the same one opened again after a crash."""

    def __init__(self) -> None:
        self.files = MemoryFiles()
        self.faults = FaultyFiles(self.files)
        self.log: VaultLog = VaultFile(self.faults, KEY, room_bytes=4096)

    def again(self) -> VaultLog:
        self.files = MemoryFiles(self.files.image())
        self.faults = FaultyFiles(self.files)
        self.log = VaultFile(self.faults, KEY, room_bytes=4096)
        return self.log

    def fail(self) -> None:
        self.faults.at, self.faults.how = len(self.faults.calls) + 1, "EIO"


class OfFolder(OfFiles):
    """The same in a real folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = FolderFiles(folder)
        self.faults = FaultyFiles(self.real)
        self.log = VaultFile(self.faults, KEY, room_bytes=4096)

    def again(self) -> VaultLog:
        self.log.close()
        self.real.release()
        self.real = FolderFiles(self.folder)
        self.log = VaultFile(self.real, KEY, room_bytes=4096)
        return self.log


class OfMemory(OfFiles):
    """The fake."""

    def __init__(self) -> None:
        self.log = self.memory = MemoryLog()

    def again(self) -> VaultLog:
        self.log = self.memory = self.memory.image()
        self.memory.fail_next = False
        return self.log

    def fail(self) -> None:
        self.memory.fail_next = True


@pytest.fixture(params=["memory", "files", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OfFiles:
    made: dict[str, Callable[[], OfFiles]] = {
        "memory": OfMemory,
        "files": OfFiles,
        "folder": lambda: OfFolder(tmp_path / "vault"),
    }
    return made[request.param]()


def records(log: VaultLog) -> list[bytes]:
    return [record for group in log.read() for record in group.records]


def put(log: VaultLog, *group: bytes) -> bytes:
    log.append(group)
    return log.sync()


def test_what_was_synced_is_there_after_a_crash_in_its_order_and_groups(store: OfFiles) -> None:
    first = put(store.log, b"a", b"b")
    second = put(store.log, b"c" * MAX_RECORD_BYTES)
    log = store.again()
    assert [group.records for group in log.read()] == [(b"a", b"b"), (b"c" * MAX_RECORD_BYTES,)]
    assert [group.head for group in log.read()] == [first, second]
    assert log.head == second != first
    put(log, b"d")
    assert records(store.again())[-1] == b"d"


def test_what_was_not_synced_is_not_there(store: OfFiles) -> None:
    put(store.log, b"a")
    store.log.append([b"b"])
    assert records(store.again()) == [b"a"]


def test_a_group_that_waits_is_not_joined_by_another(store: OfFiles) -> None:
    store.log.append([b"a"])
    with pytest.raises(StateError):
        store.log.append([b"b"])
    with pytest.raises(StateError):
        store.log.snapshot([b"s"])
    store.log.sync()
    assert records(store.log) == [b"a"]


def test_what_is_too_large_or_empty_is_refused_and_leaves_the_log_as_it_was(store: OfFiles) -> None:
    too_many = [bytes(MAX_RECORD_BYTES)] * (MAX_GROUP_BYTES // MAX_RECORD_BYTES + 1)
    for group in ([], [b""], [bytes(MAX_RECORD_BYTES + 1)], too_many):
        with pytest.raises(InputError):
            store.log.append(group)
    put(store.log, b"a")
    assert records(store.again()) == [b"a"]


def test_a_sync_of_nothing_gives_the_head(store: OfFiles) -> None:
    head = put(store.log, b"a")
    assert store.log.sync() == head == store.log.head


def test_a_snapshot_stands_for_all_before_it(store: OfFiles) -> None:
    put(store.log, b"a")
    head = store.log.head
    store.log.snapshot([b"s%d" % each for each in range(3)])
    assert store.log.head != head
    put(store.log, b"b")
    assert records(store.log) == records(store.again()) == [b"s0", b"s1", b"s2", b"b"]
    store.log.snapshot([b"t"])
    assert records(store.again()) == [b"t"]


def test_equal_logs_with_other_pasts_have_other_heads(store: OfFiles) -> None:
    put(store.log, b"a")
    one = store.log.head
    put(store.log, b"a")
    assert store.log.head != one


def test_after_a_failure_the_log_takes_nothing_until_it_is_opened_anew(store: OfFiles) -> None:
    put(store.log, b"a")
    store.log.append([b"b"])
    store.fail()
    with pytest.raises(OperationError):
        store.log.sync()
    for call in (lambda: store.log.append([b"c"]), store.log.sync, lambda: store.log.snapshot([b"s"])):
        with pytest.raises(OperationError):
            call()
    log = store.again()
    assert records(log) in ([b"a"], [b"a", b"b"])
    put(log, b"d")
    assert records(store.again())[-1] == b"d"


def test_a_snapshot_that_fails_leaves_all_that_was_there(store: OfFiles) -> None:
    put(store.log, b"a")
    store.fail()
    with pytest.raises(OperationError):
        store.log.snapshot([b"s"])
    assert records(store.again()) == [b"a"]


@pytest.mark.parametrize("at", range(1, 5))
def test_a_snapshot_that_the_disk_has_no_room_for_leaves_that_room_as_it_was(at: int) -> None:
    """What was written of it would keep the disk full, and all changes refused."""
    files = MemoryFiles()
    faults = FaultyFiles(files)
    log = VaultFile(faults, KEY, room_bytes=64)
    put(log, b"a")
    faults.at, faults.how = len(faults.calls) + at, "ENOSPC"
    with pytest.raises(OperationError):
        log.snapshot([b"s" * 1_000])
    assert files.names() == ["log-000000000001"]
    put(log, b"b")
    assert records(VaultFile(files, KEY)) == [b"a", b"b"]


def test_a_closed_log_takes_nothing(store: OfFiles) -> None:
    store.log.close()
    store.log.close()
    with pytest.raises(OperationError):
        store.log.append([b"a"])


def test_it_says_how_much_room_there_is_and_has_it(store: OfFiles) -> None:
    room = store.log.reserve(10_000)
    assert room >= 10_000
    put(store.log, bytes(9_000))
    assert records(store.log) == [bytes(9_000)]


# The file's own: faults at each call that changes the disk.


def history(log: VaultLog, acknowledged: list[bytes]) -> None:
    """Groups and a snapshot in their midst; what is acknowledged is noted as soon as it is."""
    for each in range(3):
        log.reserve(64)
        put(log, b"a%d" % each, b"x" * 40)
        acknowledged += [b"a%d" % each, b"x" * 40]
    log.snapshot(list(acknowledged))
    for each in range(2):
        put(log, b"b%d" % each)
        acknowledged.append(b"b%d" % each)


def calls_of_history() -> list[str]:
    faults = FaultyFiles(MemoryFiles())
    history(VaultFile(faults, KEY, room_bytes=64), [])
    return faults.calls


@pytest.mark.parametrize("how", ["kill", "torn", "EIO", "ENOSPC", "short"])
def test_a_fault_at_any_call_loses_nothing_acknowledged(how: str) -> None:
    calls = calls_of_history()
    assert {"create", "write", "sync", "rename", "sync_names", "remove", "allocate"} == set(calls)
    for at in range(1, len(calls) + 1):
        files, acknowledged = MemoryFiles(), []
        with contextlib.suppress(Killed, OperationError):
            history(VaultFile(FaultyFiles(files, at, how), KEY, room_bytes=64), acknowledged)
        log = VaultFile(MemoryFiles(files.image()), KEY)
        found = records(log)
        assert found[: len(acknowledged)] == acknowledged, (at, how)
        assert len(found) <= len(acknowledged) + 2, (at, how)  # the group that nobody was told of
        put(log, b"on")
        assert records(log) == [*found, b"on"]
        if how == "short":
            assert len(acknowledged) == 8


def test_a_torn_group_at_any_byte_is_wiped_away_and_no_alarm() -> None:
    files = MemoryFiles()
    log = VaultFile(files, KEY)
    put(log, b"a")
    before = files.image()
    put(log, secrets.token_bytes(300))
    after = files.image()
    (name,) = after
    start = len(before[name])
    for cut in range(start, len(after[name])):
        opened = VaultFile(MemoryFiles({name: after[name][:cut]}), KEY)
        assert records(opened) == [b"a"]
        holed = bytearray(after[name])  # sectors of one write reach the disk in any order
        holed[start:cut] = bytes(cut - start)
        if cut > start:
            assert records(VaultFile(MemoryFiles({name: bytes(holed)}), KEY)) == [b"a"]


def test_what_a_torn_group_left_is_never_read_as_part_of_a_later_one() -> None:
    files = MemoryFiles()
    log = VaultFile(files, KEY, room_bytes=4096)
    log.reserve(4096)
    put(log, b"a")
    put(log, b"b" * 500)
    (name,) = files.files
    damaged = bytearray(files.image()[name])
    damaged[damaged.index(b"bbbb")] ^= 1
    torn = MemoryFiles({name: bytes(damaged)})
    log = VaultFile(torn, KEY)
    put(log, b"c")
    assert b"bb" not in torn.image()[name]
    assert records(VaultFile(MemoryFiles(torn.image()), KEY)) == [b"a", b"c"]


def test_each_altered_byte_of_a_durable_group_is_found() -> None:
    files = MemoryFiles()
    log = VaultFile(files, KEY)
    put(log, b"a" * 8)
    begun = len(files.image()["log-000000000001"])
    put(log, b"b" * 8)
    image = files.image()["log-000000000001"]
    for at in range(begun):
        altered = bytearray(image)
        altered[at] ^= 0x10
        with pytest.raises(DamagedError):
            VaultFile(MemoryFiles({"log-000000000001": bytes(altered)}), KEY)


def test_groups_exchanged_left_out_or_of_another_log_are_found() -> None:
    def made(*groups: bytes) -> tuple[bytes, list[int]]:
        files = MemoryFiles()
        log, ends = VaultFile(files, KEY), []
        ends.append(len(files.image()["log-000000000001"]))
        for group in groups:
            put(log, group)
            ends.append(len(files.image()["log-000000000001"]))
        return files.image()["log-000000000001"], ends

    data, ends = made(b"a", b"b", b"c")
    parts = [data[: ends[0]], *(data[start:end] for start, end in pairwise(ends))]
    for order in ((0, 2, 3), (0, 1, 3), (0, 2, 1, 3), (0, 1, 1, 2, 3)):
        with pytest.raises(DamagedError):
            VaultFile(MemoryFiles({"log-000000000001": b"".join(parts[each] for each in order)}), KEY)
    with pytest.raises(DamagedError):
        VaultFile(MemoryFiles({"log-000000000002": data}), KEY)
    with pytest.raises(DamagedError):
        VaultFile(MemoryFiles({"log-000000000001": data}), b"x" * 32)


def test_a_guest_cannot_write_what_looks_like_a_later_group() -> None:
    """A record that holds a whole log of a guest's own making, torn: no false alarm."""
    own = MemoryFiles()
    put(VaultFile(own, KEY), b"a")
    files = MemoryFiles()
    log = VaultFile(files, KEY)
    put(log, own.image()["log-000000000001"])
    image = files.image()["log-000000000001"]
    opened = VaultFile(MemoryFiles({"log-000000000001": image[:-1]}), KEY)
    assert records(opened) == []


def test_a_full_disk_is_seen_before_it_matters() -> None:
    faults = FaultyFiles(MemoryFiles())
    log = VaultFile(faults, KEY, room_bytes=100)
    put(log, b"a")
    faults.at, faults.how = len(faults.calls) + 1, "ENOSPC"
    assert log.reserve(10_000) < 10_000
    assert log.reserve(10_000) >= 10_000  # there is room again
    put(log, b"b")
    assert records(log) == [b"a", b"b"]


def test_the_folder_is_one_process_s_alone_and_closed_to_others(tmp_path: Path) -> None:
    files = FolderFiles(tmp_path / "vault")
    VaultFile(files, KEY)
    with pytest.raises(OperationError, match="another process"):
        FolderFiles(tmp_path / "vault")
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "vault").iterdir())
    files.release()
    FolderFiles(tmp_path / "vault").release()


_WRITER = """
import sys
from pathlib import Path
from undercroft.adapters.durablefiles import FolderFiles
from undercroft.adapters.vaultfile import VaultFile
log = VaultFile(FolderFiles(Path(sys.argv[1])), b"k" * 32)
number = sum(len(group.records) for group in log.read())
while True:
    number += 1
    if number % 50 == 0:
        log.snapshot([b"%d" % each for each in range(1, number)])
    log.append([b"%d" % number])
    log.sync()
    print(number, flush=True)
"""


def test_a_process_killed_at_any_time_has_lost_nothing_that_it_told(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(40 + secrets.randbelow(60)):
                last = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            for line in writer.stdout.read().splitlines(keepends=True):
                last = int(line) if line.endswith(b"\n") else last
        files = FolderFiles(folder)
        found = records(VaultFile(files, KEY))
        files.release()
        assert found == [b"%d" % each for each in range(1, len(found) + 1)]
        assert last <= len(found) <= last + 1
