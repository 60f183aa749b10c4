"""From inside a child: what a reader that has been taken over can reach. Each attack has its control."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import hostile_jobs
import pytest

from undercroft.errors import DeniedError, InputError
from undercroft.sandbox import launcher
from undercroft.sandbox.conversation import Conversation
from undercroft.sandbox.limits import Limits
from undercroft.sandbox.reader import SandboxedReader

SUPPORT = Path(hostile_jobs.__file__).parent
INTERPRETER = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
CONTROL = """
import json, sys
sys.path.insert(0, {support!r})
from undercroft.sandbox.inprocess import InProcessReader
job, arguments, descriptors = json.loads(sys.argv[1])
print(json.dumps(InProcessReader(jobs_module="hostile_jobs").call(job, arguments, descriptors)))
"""
needs_x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")


@pytest.fixture(scope="module")
def reader() -> Iterator[SandboxedReader]:
    with launcher.start(limits=Limits(wall_s=10), jobs_module="hostile_jobs") as started:
        yield started


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"the image's first bytes")
    return path


@contextlib.contextmanager
def opened(path: Path | str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def confined(reader: SandboxedReader, job: str, arguments: Mapping, descriptors: Sequence[int] = ()) -> str:
    """What the attack came to in the sandbox: its answer, or the text of the error that ended it."""
    try:
        return str(reader.call(job, arguments, descriptors))
    except InputError as error:
        return str(error)


def unconfined(job: str, arguments: Mapping, descriptors: Sequence[int] = ()) -> str:
    """What the same attack comes to in a process without the sandbox."""
    program = CONTROL.format(support=str(SUPPORT))
    finished = subprocess.run(
        [sys.executable, "-c", program, json.dumps([job, arguments, [*descriptors]])],
        pass_fds=descriptors, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return finished.stdout.strip().strip('"') or finished.stderr


def assert_walled(
    reader: SandboxedReader, job: str, arguments: Mapping, descriptors: Sequence[int] = ()
) -> None:
    """The attack escapes without the sandbox, and meets the filter within it."""
    assert unconfined(job, arguments, descriptors) == hostile_jobs.ESCAPED
    result = confined(reader, job, arguments, descriptors)
    assert result == "EPERM" or "a system call that the sandbox forbids" in result, result


@pytest.mark.parametrize(
    "job",
    ["make_socket", "fork", "thread", "executable_memory", "make_executable", "memory_file", "block_signals"],
)
def test_a_child_cannot_make_more_of_itself(reader: SandboxedReader, job: str) -> None:
    assert_walled(reader, job, {})


def test_a_child_cannot_reach_a_listener_on_the_hosts_loopback(reader: SandboxedReader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert_walled(reader, "connect_loopback", {"port": listener.getsockname()[1]})


def test_a_child_cannot_reach_an_abstract_unix_socket(reader: SandboxedReader) -> None:
    name = f"undercroft-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        assert_walled(reader, "connect_abstract", {"name": name})


def test_a_passed_socket_reaches_nobody_but_its_peer(reader: SandboxedReader) -> None:
    name = f"undercroft-test-datagram-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as victim,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as passed,
    ):
        victim.bind("\0" + name)
        assert_walled(reader, "send_elsewhere", {"name": name}, [passed.fileno()])
        assert victim.recv(100) == b"escaped"  # the control's
        with pytest.raises(BlockingIOError):
            victim.recv(100, socket.MSG_DONTWAIT)


def test_a_passed_socket_reaches_its_peer(reader: SandboxedReader) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"reply")
        assert reader.call("converse", {}, [theirs.fileno()]) == "reply"
        assert ours.recv(100) == b"question"


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/", os.__file__])
def test_a_child_cannot_open_files(reader: SandboxedReader, path: str) -> None:
    assert_walled(reader, "open_file", {"path": path})


def test_a_child_cannot_open_the_image_by_its_path(reader: SandboxedReader, image: Path) -> None:
    assert_walled(reader, "open_file", {"path": str(image)})
    assert_walled(reader, "list_folder", {"path": str(image.parent)})


def test_a_folder_does_not_enter_the_sandbox(reader: SandboxedReader, tmp_path: Path) -> None:
    for flags in (os.O_RDONLY, os.O_PATH):
        with opened(tmp_path, flags) as folder, pytest.raises(DeniedError, match="only files, block devices"):
            reader.call("echo", {}, [folder])


def test_a_child_cannot_execute(reader: SandboxedReader) -> None:
    assert_walled(reader, "execute", {"program": INTERPRETER})


WRITES = ["write_image", "write_image_in_place", "truncate_image", "map_image_writable"]


@pytest.mark.parametrize("job", WRITES)
def test_a_writable_file_is_refused_by_the_host(reader: SandboxedReader, image: Path, job: str) -> None:
    for flags in (os.O_RDWR, os.O_WRONLY):
        with opened(image, flags) as descriptor, pytest.raises(DeniedError, match="reading only"):
            reader.call(job, {}, [descriptor])


@pytest.mark.parametrize("job", WRITES)
def test_a_child_cannot_write_to_a_file_that_slipped_in_writable(
    reader: SandboxedReader, image: Path, job: str
) -> None:
    with opened(image, os.O_RDWR) as descriptor:
        before = image.read_bytes()
        assert unconfined(job, {}, [descriptor]) == hostile_jobs.ESCAPED
        assert image.read_bytes() != before
        image.write_bytes(before)
        os.lseek(descriptor, 0, os.SEEK_SET)
        control = reader._process.control  # past the host's own check
        with (
            Conversation(control, job, {}, [descriptor], Limits(), streaming=False) as conversation,
            pytest.raises(InputError, match="forbids"),
        ):
            conversation.frame()
    assert image.read_bytes() == before


def test_what_one_child_may_write_to_no_later_child_may(reader: SandboxedReader, image: Path) -> None:
    """Filters are kept by descriptors' numbers: a file under the number of an earlier job's socket."""
    before = image.read_bytes()
    for _ in range(2):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"reply")
            assert reader.call("converse", {}, [theirs.fileno()]) == "reply"
        with (
            opened(image, os.O_RDWR) as descriptor,
            Conversation(
                reader._process.control, "write_image_in_place", {}, [descriptor], Limits(), streaming=False
            ) as conversation,
            pytest.raises(InputError, match="forbids"),
        ):
            conversation.frame()
    assert image.read_bytes() == before


def test_a_child_cannot_kill_or_trace_its_server_or_siblings(reader: SandboxedReader) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.ExitStack() as stack:
        control = reader._process.control
        sibling = stack.enter_context(
            Conversation(control, "wait_for_peer", {}, [theirs.fileno()], Limits(), streaming=False)
        )
        sibling_pid = int(str(reader.call("process_id", {}, []))) - 1
        for job in ("trace", "kill"):
            for pid in (1, sibling_pid):
                victim = stack.enter_context(subprocess.Popen(["sleep", "60"]))
                stack.callback(victim.kill)
                assert unconfined(job, {"pid": victim.pid}) == hostile_jobs.ESCAPED
                assert "forbids" in confined(reader, job, {"pid": pid})
        ours.sendall(b"!")
        assert sibling.frame() == (b"A", b'"!"')


def test_a_child_holds_its_own_descriptors_and_its_answer_only(reader: SandboxedReader, image: Path) -> None:
    with opened(image, os.O_RDONLY) as first, opened(image, os.O_RDONLY) as second:
        numbers = reader.call("open_descriptors", {}, [first, second])
        assert isinstance(numbers, list)
        assert len(numbers) == 3
        # The control also finds standard input, output and error.
        assert len(json.loads(unconfined("open_descriptors", {}, [first, second]))) >= 5


def test_a_child_cannot_read_another_jobs_files(reader: SandboxedReader, image: Path) -> None:
    arguments = {"marker": "image's first"}
    ours, theirs = socket.socketpair()
    answers = []
    with ours, theirs, opened(image, os.O_RDONLY) as descriptor:
        owner = threading.Thread(
            target=lambda: answers.append(
                reader.call("search_descriptors", arguments, [descriptor, theirs.fileno()])
            )
        )
        owner.start()
        found_by_others = [reader.call("search_descriptors", arguments, []) for _ in range(5)]
        ours.sendall(b"!")
        owner.join()
        assert found_by_others == [0] * 5
        assert answers == [1]
    with opened(image, os.O_RDONLY) as descriptor, opened(os.devnull, os.O_RDONLY) as other:
        # The control: another's file in the same process, which the job was not given.
        assert unconfined("search_descriptors", arguments, [descriptor, other]) == "1"


RAW = {
    "open": 2, "poll": 7, "rt_sigaction": 13, "rt_sigprocmask": 14, "pwrite64": 18,
    "writev": 20, "pipe": 22, "dup": 32, "dup2": 33, "nanosleep": 35, "setitimer": 38, "socket": 41,
    "sendmsg": 46, "recvmsg": 47, "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58, "kill": 62,
    "fcntl": 72, "ftruncate": 77, "chdir": 80, "umask": 95, "getrlimit": 97, "ptrace": 101, "getuid": 102,
    "personality": 135, "prctl": 157, "setrlimit": 160, "gettid": 186, "sched_setaffinity": 203,
    "io_setup": 206, "timer_create": 222, "tgkill": 234, "inotify_init": 253, "unshare": 272, "splice": 275,
    "eventfd": 284, "timerfd_create": 283, "prlimit64": 302, "process_vm_readv": 310, "seccomp": 317,
    "memfd_create": 319, "execveat": 322, "userfaultfd": 323, "copy_file_range": 326, "pkey_mprotect": 329,
    "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438,
    "landlock_create_ruleset": 444, "never-a-call": 1000,
}  # fmt: skip


@needs_x86_64
@pytest.mark.parametrize(("name", "number"), RAW.items())
def test_a_system_call_by_number_ends_the_child(reader: SandboxedReader, name: str, number: int) -> None:
    # Arguments that no call takes: without a filter the caller lives on, with EINVAL, EBADF or EFAULT.
    arguments = {"number": number, "arguments": [-1, -1, -1, -1, -1, -1]}
    if name != "vfork":  # whose child would go on in the caller's stack
        assert "sandbox" not in unconfined("raw", arguments)
    result = confined(reader, "raw", arguments)
    assert result == "EPERM" if name == "open" else "a system call that the sandbox forbids" in result


@needs_x86_64
def test_the_32_bit_table_ends_the_child(reader: SandboxedReader) -> None:
    if unconfined("int80", {}) != hostile_jobs.ESCAPED:
        pytest.skip("this kernel has no 32-bit system calls")
    assert "forbids" in confined(reader, "int80", {})


@needs_x86_64
def test_the_x32_table_ends_the_child(reader: SandboxedReader) -> None:
    arguments = {"number": 0x40000000 | 39, "arguments": []}
    assert unconfined("raw", arguments) in {hostile_jobs.ESCAPED, "ENOSYS"}
    assert "forbids" in confined(reader, "raw", arguments)


def test_the_sandboxes_own_view_has_no_host_files_and_cannot_be_written(tmp_path: Path) -> None:
    """Bubblewrap's wall alone, as the unfiltered server sees it: run at the import of a job module."""
    module = tmp_path / "looking_around.py"
    module.write_text(
        "import errno, os, socket\n"
        "def attempt(function, *arguments):\n"
        "    try: function(*arguments)\n"
        "    except OSError as error: return errno.errorcode[error.errno]\n"
        "    return 'escaped'\n"
        "seen = {\n"
        "    'root': sorted(os.listdir('/')), 'passwd': attempt(os.stat, '/etc/passwd'),\n"
        "    'proc': attempt(os.stat, '/proc'), 'write': attempt(os.mkdir, '/new'),\n"
        "    'write_module': attempt(os.open, __file__, os.O_RDWR), 'uid': os.getuid(), 'gid': os.getgid(),\n"
        "    'pid': os.getpid(), 'environment': dict(os.environ),\n"
        "    'network': [name for _, name in socket.if_nameindex()],\n"
        "}\n" + "JOBS = {'seen': lambda context: seen}\nSTREAMS = {}\nprepare = lambda arguments: None\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with launcher.start(jobs_module="looking_around") as reader:
            seen = reader.call("seen", {}, [])
    finally:
        sys.path.remove(str(tmp_path))
    assert isinstance(seen, dict)
    assert "home" not in seen["root"]
    assert "etc" not in seen["root"]
    assert (seen["passwd"], seen["proc"]) == ("ENOENT", "ENOENT")
    assert (seen["write"], seen["write_module"]) == ("EROFS", "EROFS")
    assert (seen["uid"], seen["gid"], seen["pid"]) == (65534, 65534, 1)
    assert seen["network"] == ["lo"]
    assert not set(seen["environment"]) - {"PWD", "LC_CTYPE"}
    assert stat.S_ISREG(os.stat("/etc/passwd").st_mode)  # the control: the host has what the sandbox lacks
