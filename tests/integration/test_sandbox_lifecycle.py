"""Start, parallel jobs and end: nothing is left behind, whoever dies first."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile_jobs
import pytest

from undercroft.errors import InputError, OperationError
from undercroft.sandbox import launcher
from undercroft.sandbox.limits import Limits
from undercroft.sandbox.reader import SandboxedReader

SUPPORT = Path(hostile_jobs.__file__).parent


@pytest.fixture
def reader() -> Iterator[SandboxedReader]:
    with launcher.start(limits=Limits(wall_s=10), jobs_module="hostile_jobs") as started:
        started.call("echo", {}, [])
        yield started


def descendants(pid: int) -> list[int]:
    """Every live or dead process below `pid`."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(word) for thread in threads for word in (thread / "children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(below for child in children for below in descendants(child))]


def state(pid: int) -> str:
    """The kernel's letter for a process, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "still not so"
        time.sleep(0.01)


def server_of(reader: SandboxedReader) -> int:
    """Bubblewrap's only child."""
    (server,) = [pid for pid in descendants(reader._process._pid) if state(pid)][:1]
    return server


def test_a_start_returns_before_the_server_is_up() -> None:
    began_at = time.monotonic()
    with launcher.start(jobs_module="hostile_jobs") as reader:
        started_s = time.monotonic() - began_at
        reader.call("echo", {}, [])
        assert started_s < (time.monotonic() - began_at) / 2


def test_a_sandbox_that_is_never_used_ends_at_once() -> None:
    began_at = time.monotonic()
    reader = launcher.start(jobs_module="hostile_jobs")
    bubblewrap = reader._process._pid
    reader.close()
    reader.close()
    assert not state(bubblewrap)
    assert time.monotonic() - began_at < 2
    with pytest.raises(OperationError, match="is closed"):
        reader.call("echo", {}, [])


def test_two_hundred_jobs_leave_no_descriptor_and_no_zombie(reader: SandboxedReader) -> None:
    server = server_of(reader)
    ours, servers = len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{server}/fd"))
    for number in range(200):
        match number % 4:
            case 0:
                with pytest.raises(InputError):
                    reader.call("leave", {}, [])
            case 1:
                next(reader.stream("endless", {}, []))
            case _:
                assert reader.call("echo", {"number": number}, []) == {"number": number}
    eventually(lambda: descendants(server) == [])
    assert len(os.listdir("/proc/self/fd")) == ours
    eventually(lambda: len(os.listdir(f"/proc/{server}/fd")) <= servers)


def test_jobs_run_in_parallel_from_threads(reader: SandboxedReader) -> None:
    def work(number: int) -> bool:
        if number % 5 == 0:
            with pytest.raises(InputError, match="SIGSEGV"):
                reader.call("crash", {}, [])
            return True
        return reader.call("echo", {"number": number}, []) == {"number": number}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(100)))


def test_a_long_job_does_not_hold_up_another(reader: SandboxedReader) -> None:
    ours, theirs = socket.socketpair()
    answers = []
    with ours, theirs:
        waiting = threading.Thread(
            target=lambda: answers.append(reader.call("wait_for_peer", {}, [theirs.fileno()]))
        )
        waiting.start()
        assert reader.call("echo", {"in": "between"}, []) == {"in": "between"}
        assert not answers
        ours.sendall(b"!")
        waiting.join()
    assert answers == ["!"]


def test_a_dead_server_fails_the_operation_and_all_later_ones(reader: SandboxedReader) -> None:
    errors = []

    def spin() -> None:
        with pytest.raises(OperationError, match="the sandbox's reader is gone") as caught:
            reader.call("spin", {}, [])
        errors.append(caught.value)

    running = threading.Thread(target=spin)
    running.start()
    server = server_of(reader)
    eventually(lambda: len(descendants(server)) == 1)
    (child,) = descendants(server)
    os.kill(server, signal.SIGKILL)
    running.join()
    assert errors
    eventually(lambda: state(child) in {"", "Z"})
    for _ in range(2):
        with pytest.raises(OperationError, match="the sandbox's reader is gone"):
            reader.call("echo", {}, [])


def test_closing_ends_a_job_that_runs(reader: SandboxedReader) -> None:
    errors = []

    def spin() -> None:
        with pytest.raises(OperationError) as caught:
            reader.call("spin", {}, [])
        errors.append(caught.value)

    running = threading.Thread(target=spin)
    running.start()
    server = server_of(reader)
    eventually(lambda: len(descendants(server)) == 1)
    (child,) = descendants(server)
    reader.close()
    running.join()
    assert errors
    eventually(lambda: state(child) in {"", "Z"})


def test_a_job_that_nobody_waits_for_is_killed(reader: SandboxedReader) -> None:
    assert reader.call("answer_and_stay", {}, []) is True
    server = server_of(reader)
    eventually(lambda: descendants(server) == [], seconds=2)


HOST = f"""
import os, sys, time
sys.path.insert(0, {str(SUPPORT)!r})
from undercroft.sandbox import launcher
reader = launcher.start(jobs_module="hostile_jobs")
reader.call("echo", {{}}, [])
if sys.argv[1] == "forked":
    if (pid := os.fork()) == 0:
        time.sleep(60)  # holds a copy of the control socket, which the server then does not see closed
        os._exit(0)
    print(pid, flush=True)
else:
    print(0, flush=True)
reader.call("spin", {{}}, [])
"""


@pytest.mark.parametrize("host_is", ["alone", "forked"])
def test_a_host_that_is_killed_leaves_no_process_behind(host_is: str) -> None:
    host = subprocess.Popen([sys.executable, "-c", HOST, host_is], stdout=subprocess.PIPE)
    with host:
        assert host.stdout is not None
        copy = int(host.stdout.readline())
        try:
            eventually(lambda: len(set(descendants(host.pid)) - {copy}) == 3)  # bubblewrap, server, child
            left = set(descendants(host.pid)) - {copy}
            host.kill()
            eventually(lambda: all(state(pid) in {"", "Z"} for pid in left))
            assert not copy or state(copy) == "S"
        finally:
            host.kill()
            if copy:
                os.kill(copy, signal.SIGKILL)


def test_a_job_module_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_jobs.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        launcher.start(jobs_module="broken_jobs") as reader,
        pytest.raises(
            OperationError, match="did not start: ModuleNotFoundError: No module named 'no_such_module'"
        ),
    ):
        reader.call("echo", {}, [])
