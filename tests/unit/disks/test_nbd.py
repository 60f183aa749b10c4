"""The NBD client against real servers, and against servers that break the protocol."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Thread

import diskimages
import pytest
from diskimages import MIB, assert_reads_as

from undercroft.disks.nbd import NbdSource
from undercroft.errors import InputError

SIZE_BYTES = 6 * MIB + 512
INFO_EXPORT = struct.pack(">HQH", 0, MIB, 1)
MAGIC_REPLY = 0x0003E889045565A9


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diskimages.make_varied_raw(tmp_path_factory.mktemp("nbd") / "disk.raw", SIZE_BYTES)


def connected(path: Path, server: "subprocess.Popen[bytes]") -> socket.socket:
    """Connect as soon as the server listens."""
    deadline = time.monotonic() + 20
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.02)
        else:
            return client


@pytest.fixture(scope="module", params=["qemu-nbd", "qemu-storage-daemon"])
def server(request: pytest.FixtureRequest, raw: Path) -> "Iterator[Callable[[], socket.socket]]":
    path = raw.parent / request.param
    commands = {
        "qemu-nbd": ["-r", "-f", "raw", "-x", "vda", "-e", "8", "-t", "-k", str(path), str(raw)],
        "qemu-storage-daemon": [
            *("--blockdev", f"driver=file,node-name=disk,filename={raw},read-only=on"),
            *("--nbd-server", f"addr.type=unix,addr.path={path},max-connections=8"),
            *("--export", "type=nbd,id=export,node-name=disk,name=vda,writable=off"),
        ],
    }
    process = subprocess.Popen([request.param, *commands[request.param]])
    try:
        yield lambda: connected(path, process)
    finally:
        process.terminate()
        process.wait(10)


def test_an_export_reads_as_its_file(server: Callable[[], socket.socket], raw: Path) -> None:
    with server() as client:
        assert_reads_as(NbdSource(client.fileno(), "vda"), raw.read_bytes())


def test_a_read_past_the_end_or_of_an_unknown_export_raises(server: Callable[[], socket.socket]) -> None:
    with server() as client:
        source = NbdSource(client.fileno(), "vda")
        for offset, length in ((SIZE_BYTES, 1), (SIZE_BYTES - 1, 2), (-1, 1), (0, 1 << 40)):
            with pytest.raises(InputError, match="NBD export 'vda'"):
                source.read(offset, length)
        assert source.read(SIZE_BYTES, 0) == b""
    with server() as client, pytest.raises(InputError, match=r"'vdb'.*the server refuses it"):
        NbdSource(client.fileno(), "vdb")


def test_small_neighbouring_reads_cost_one_round_trip(server: Callable[[], socket.socket], raw: Path) -> None:
    with server() as client:
        source = NbdSource(client.fileno(), "vda")
        expected = raw.read_bytes()
        for offset in range(0, 65_536, 256):
            assert source.read(offset, 256) == expected[offset : offset + 256]
        assert source._cookie == 1


def test_the_client_needs_no_system_call_but_read_and_write_on_its_descriptor(
    server: Callable[[], socket.socket], tmp_path: Path
) -> None:
    """Seen from outside by strace, between two marks that the process writes."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    script = tmp_path / "client.py"
    script.write_text(
        "import os, sys\n"
        "from undercroft.disks.nbd import NbdSource\n"
        "os.write(2, b'begin')\n"
        "NbdSource(0, 'vda').read(0, 3 << 20)\n"
        "os.write(2, b'end')\n"
    )
    trace = tmp_path / "trace"
    with server() as client:
        command = ["strace", "-o", str(trace), sys.executable, str(script)]
        done = subprocess.run(command, stdin=client.fileno(), capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().split('"begin"', 1)[1].split('"end"', 1)[0].splitlines()[1:-1]
    calls = {line.split(",")[0] for line in lines} - {"brk(NULL)"}
    others = {
        call
        for call in calls
        if not call.startswith(("read(0", "write(0", "brk(", "mmap(", "munmap(", "mremap("))
    }
    assert {"read(0", "write(0"} <= calls
    assert not others


def test_the_cache_of_blocks_is_bounded(server: Callable[[], socket.socket], raw: Path) -> None:
    with server() as client:
        source = NbdSource(client.fileno(), "vda", max_cached_blocks=3)
        expected = raw.read_bytes()
        for offset in (0, 70_000, 140_000, 210_000, 0, 280_000, 0):
            assert source.read(offset, 100) == expected[offset : offset + 100]
            assert len(source._blocks) <= 3
        assert source._cookie == 6


def greeting(flags: int = 3) -> bytes:
    return b"NBDMAGICIHAVEOPT" + struct.pack(">H", flags)


def reply(kind: int, data: bytes = b"", option: int = 7, magic: int = MAGIC_REPLY) -> bytes:
    return struct.pack(">QIII", magic, option, kind, len(data)) + data


SOUND = greeting() + reply(3, INFO_EXPORT) + reply(1)


def scripted(answer: bytes) -> Iterator[int]:
    """Give a descriptor whose other end sends `answer` and then hangs up."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            try:
                theirs.sendall(answer)
                theirs.shutdown(socket.SHUT_WR)
                while theirs.recv(65_536):
                    pass
            except OSError:
                return

    thread = Thread(target=serve)
    thread.start()
    try:
        yield ours.fileno()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "hung up"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not offer the fixed newstyle"),
        (greeting(0), "does not offer the fixed newstyle"),
        (b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\0\0", "does not offer the fixed newstyle"),
        (greeting() + reply(1), "does not tell the export's size"),
        (greeting() + reply(3, INFO_EXPORT) * 100, "gives more than 16 replies"),
        (greeting() + reply(3, INFO_EXPORT, magic=1), "handshake breaks the protocol"),
        (greeting() + reply(3, INFO_EXPORT, option=6), "handshake breaks the protocol"),
        (greeting() + struct.pack(">QIII", MAGIC_REPLY, 7, 3, 1 << 31), "handshake breaks the protocol"),
        (
            greeting() + reply((1 << 31) + 6, b"no \x1b[31msuch"),
            r"refuses it \(error 6\): 'no \\x1b\[31msuch'",
        ),
        (greeting() + reply(3, struct.pack(">HIII", 3, 0, 0, 0)) + reply(1), "requests of 0 to 0 bytes"),
        (
            greeting() + reply(3, struct.pack(">HIII", 3, 1, 1, 4096)) + reply(1),
            "requests of 1 to 4096 bytes",
        ),
        (SOUND, "hung up"),
        (SOUND + struct.pack(">IIQ", 0x67446698, 0, 9) + bytes(MIB), "breaks the protocol"),
        (SOUND + struct.pack(">IIQ", 0x668E33EF, 0, 1) + bytes(MIB), "breaks the protocol"),
        (SOUND + struct.pack(">IIQ", 0x67446698, 5, 1), "reading 65536 bytes at 0 failed: server error 5"),
        (SOUND + struct.pack(">IIQ", 0x67446698, 0, 1) + bytes(1000), "hung up"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_an_input_error(answer: bytes, message: str) -> None:
    for descriptor in scripted(answer):
        with pytest.raises(InputError, match=message):
            NbdSource(descriptor, "vda").read(0, 512)


@pytest.mark.parametrize("seed", range(40))
def test_random_answers_are_an_input_error(seed: int) -> None:
    random = Random(seed)
    answer = bytearray(SOUND + random.randbytes(100_000))
    for _ in range(3):
        answer[random.randrange(len(SOUND))] = random.randrange(256)
    for descriptor in scripted(bytes(answer)):
        with pytest.raises(InputError):
            NbdSource(descriptor, "vda").read(0, MIB + (1 << 20))


def test_a_descriptor_that_is_no_socket_is_an_input_error(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(InputError, match="the connection failed: Is a directory"):
            NbdSource(descriptor, "vda")
    finally:
        os.close(descriptor)
