"""Jobs of a reader that has been taken over: each tries one thing that a child must not be able to do.

They run under the sandbox, where they must fail, and under `InProcessReader`, where they must succeed:
a test of a wall proves nothing where the attack would have failed anyway. An attack answers with what
it got; where the wall answers with an error, the errno's name.
"""

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from undercroft.model.schema import Json
from undercroft.sandbox.context import JobContext

ESCAPED = "escaped"
LIBC = ctypes.CDLL(None, use_errno=True)


def _machine_code(code: bytes) -> int:
    """Return the address of `code` in executable memory, mapped while the server still may."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    _PAGES.append(page)
    return ctypes.addressof(ctypes.c_char.from_buffer(page))


_PAGES: list[mmap.mmap] = []
# push rbx; mov eax, 20 (getpid of the 32-bit table); int 0x80; pop rbx; ret
INT80_GETPID = (
    _machine_code(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3") if os.uname().machine == "x86_64" else 0
)


def attack(function: Callable[[JobContext], object]) -> Callable[[JobContext], Json]:
    """Answer ESCAPED (or what the attack returns), or the errno's name where it met a wall."""

    def job(context: JobContext) -> Json:
        try:
            found = function(context)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return ESCAPED if found is None else str(found)

    return job


def _text(context: JobContext, name: str) -> str:
    return str(context.arguments[name])


def _number(context: JobContext, name: str) -> int:
    value = context.arguments[name]
    assert isinstance(value, int)
    return value


def raw(context: JobContext) -> Json:
    """Make one system call by number with up to six integers; answer its result or the errno's name."""
    arguments = context.arguments["arguments"]
    assert isinstance(arguments, list)
    words = [ctypes.c_long(int(str(word))) for word in arguments]
    result = LIBC.syscall(ctypes.c_long(_number(context, "number")), *words)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else ESCAPED


def int80(context: JobContext) -> None:
    assert ctypes.CFUNCTYPE(ctypes.c_int)(INT80_GETPID)() > 0


def make_socket(context: JobContext) -> None:
    socket.socket().close()


def connect_loopback(context: JobContext) -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", _number(context, "port")))


def connect_abstract(context: JobContext) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + _text(context, "name"))


def send_elsewhere(context: JobContext) -> None:
    """Use a passed datagram socket to reach somebody whom the host never named."""
    sender = socket.socket(fileno=context.descriptors[0])
    sender.sendto(ESCAPED.encode(), "\0" + _text(context, "name"))


def open_file(context: JobContext) -> None:
    os.close(os.open(_text(context, "path"), os.O_RDONLY))


def list_folder(context: JobContext) -> None:
    os.listdir(_text(context, "path"))


def fork(context: JobContext) -> None:
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def thread(context: JobContext) -> None:
    worker = threading.Thread(target=lambda: None)
    worker.start()
    worker.join()


def execute(context: JobContext) -> None:
    program = _text(context, "program")
    os.execv(program, [program, "-c", f"print({ESCAPED!r})"])


def write_image(context: JobContext) -> None:
    os.pwrite(context.descriptors[0], ESCAPED.encode(), 0)


def write_image_in_place(context: JobContext) -> None:
    os.write(context.descriptors[0], ESCAPED.encode())


def truncate_image(context: JobContext) -> None:
    os.ftruncate(context.descriptors[0], 1)


def map_image_writable(context: JobContext) -> None:
    with mmap.mmap(context.descriptors[0], 7) as view:
        view[:7] = ESCAPED.encode()


def kill(context: JobContext) -> None:
    os.kill(_number(context, "pid"), signal.SIGKILL)


def trace(context: JobContext) -> None:
    """PTRACE_SEIZE (0x4206) a process."""
    if LIBC.ptrace(0x4206, _number(context, "pid"), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def executable_memory(context: JobContext) -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


def make_executable(context: JobContext) -> None:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if LIBC.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, 7) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def memory_file(context: JobContext) -> None:
    os.close(os.memfd_create("hoard"))


def block_signals(context: JobContext) -> None:
    """Would outlive the timers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGXCPU})


def open_descriptors(context: JobContext) -> Json:
    """Answer with the number of every open descriptor."""
    return [number for number in range(1024) if _kind(number) != "closed"]


def search_descriptors(context: JobContext) -> Json:
    """Answer with how many open files hold the marker; wait for the host's word first, if asked to."""
    if context.descriptors:
        os.read(context.descriptors[-1], 1)
    marker = _text(context, "marker").encode()
    found = 0
    for number in range(1024):
        if _kind(number) == "file":
            found += marker in os.pread(number, 4096, 0)
    return found


def _kind(number: int) -> str:
    """Tell a file from a socket without fstat, which the C library makes of a call that takes a path."""
    try:
        os.lseek(number, 0, os.SEEK_CUR)
    except OSError as error:
        return "stream" if error.errno == errno.ESPIPE else "closed"
    return "file"


def echo(context: JobContext) -> Json:
    return dict(context.arguments)


def read_file(context: JobContext) -> Json:
    return os.pread(context.descriptors[0], 4096, 0).decode("utf-8", "surrogateescape")


def converse(context: JobContext) -> Json:
    """Ask the other end of a passed socket, as an NBD client does, and answer with its reply."""
    with socket.socket(fileno=context.descriptors[0]) as peer:
        peer.sendall(b"question")
        return peer.recv(100).decode()


def process_id(context: JobContext) -> Json:
    return os.getpid()


def allocate(context: JobContext) -> Json:
    return len(bytearray(_number(context, "bytes")))


def hoard_memory(context: JobContext) -> Json:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))


def hoard_small_objects(context: JobContext) -> Json:
    hoard: list[object] = []
    while True:
        hoard.append([[]])


def hoard_descriptors(context: JobContext) -> Json:
    return [os.dup(context.descriptors[0]) for _ in range(100)]


def spin(context: JobContext) -> Json:
    while True:
        pass


def recurse(context: JobContext) -> Json:
    return recurse(context)


def wait_for_peer(context: JobContext) -> Json:
    return os.read(context.descriptors[0], 1).decode()


def crash(context: JobContext) -> Json:
    return ctypes.string_at(0).decode()


def leave(context: JobContext) -> Json:
    os._exit(7)


def fail(context: JobContext) -> Json:
    """Raise the named error of undercroft.errors, or a builtin one."""
    from undercroft import errors  # noqa: PLC0415 - loaded long before

    name = _text(context, "name")
    kind = getattr(errors, name, None) or {"KeyError": KeyError, "OSError": OSError}[name]
    raise kind(context.arguments.get("message", "no such thing"))


def answer_of(context: JobContext) -> Json:
    return "x" * _number(context, "length")


def send_raw(context: JobContext) -> Json:
    """Write the bytes `hex` to the answer socket in place of frames, one per `pause_s` if given; leave."""
    data = bytes.fromhex(_text(context, "hex"))
    pause_s = float(str(context.arguments.get("pause_s", 0)))
    answer = _answer_descriptor(context)
    for start in range(0, len(data), 1 if pause_s else len(data) or 1):
        os.write(answer, data[start : start + (1 if pause_s else len(data))])
        _work(pause_s)
    os._exit(0)


def answer_and_stay(context: JobContext) -> Json:
    """Answer like an honest child, then go on for ever."""
    os.write(_answer_descriptor(context), struct.pack(">cI", b"A", 4) + b"true")
    return spin(context)


def _answer_descriptor(context: JobContext) -> int:
    sockets = [n for n in range(1024) if n not in context.descriptors and _kind(n) == "stream"]
    assert len(sockets) == 1
    return sockets[0]


def count(context: JobContext) -> Iterator[bytes]:
    for number in range(_number(context, "pieces")):
        yield str(number).encode()


def pieces_of(context: JobContext) -> Iterator[bytes]:
    yield bytes(_number(context, "length"))


def paced(context: JobContext) -> Iterator[bytes]:
    """Yield ten pieces of `bytes`, `pause_s` of work apart."""
    for _ in range(10):
        _work(float(str(context.arguments["pause_s"])))
        yield bytes(_number(context, "bytes"))


def _work(seconds: float) -> None:
    """Wait without the sleep that a child may not have."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def fail_midway(context: JobContext) -> Iterator[bytes]:
    yield b"first"
    fail(context)


def endless(context: JobContext) -> Iterator[bytes]:
    while True:
        yield b"more"


def stream_raw(context: JobContext) -> Iterator[bytes]:
    send_raw(context)
    yield b""


def spin_midway(context: JobContext) -> Iterator[bytes]:
    yield b"first"
    spin(context)


ATTACKS: Mapping[str, Callable[[JobContext], Json]] = {
    function.__name__: attack(function)
    for function in (
        int80, make_socket, connect_loopback, connect_abstract, send_elsewhere, open_file, list_folder, fork,
        thread, execute, write_image, write_image_in_place, truncate_image, map_image_writable, kill, trace,
        executable_memory, make_executable, memory_file, block_signals,
    )
}  # fmt: skip


def prepare(arguments: Mapping[str, Json]) -> None:
    """Nothing to prepare."""
    del arguments


JOBS: Mapping[str, Callable[[JobContext], Json]] = {
    **ATTACKS,
    **{
        function.__name__: function
        for function in (
            raw, open_descriptors, search_descriptors, echo, read_file, converse, process_id, allocate,
            hoard_memory, hoard_small_objects, hoard_descriptors, spin, recurse, wait_for_peer, crash, leave,
            fail, answer_of, send_raw, answer_and_stay,
        )
    },
}  # fmt: skip

STREAMS: Mapping[str, Callable[[JobContext], Iterator[bytes]]] = {
    function.__name__: function
    for function in (count, pieces_of, paced, fail_midway, endless, stream_raw, spin_midway)
}
