"""The small helper of C (guest/reseed.c): built as it is shipped, and with what finds its mistakes.

program = static(folder)                the program for a guest
with Probe(folder) as probe:            its inside in a process of its own, under sanitizers
    probe.begin(folder); probe.receive(host.session.begin())
"""

import hashlib
import shutil
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "reseed"
SOURCE = ROOT / "guest" / "reseed.c"
BUILD = ROOT / "tools" / "build-reseed"
PROBE = Path(__file__).with_name("reseedprobe.c")
SANITIZERS = (
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
)
_WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")
_STATE = struct.Struct("=16s32s32sQQQQQ4B4x")


def missing() -> str:
    """Return why the helper cannot be built here, "" when it can."""
    return "" if shutil.which("cc") else "needs a C compiler: apt-get install gcc libc6-dev"


def static() -> Path:
    """Build the program as it is shipped; return its path."""
    return _built("undercroft-reseed", lambda target: ["sh", str(BUILD), str(target)])


def shared_object() -> Path:
    """Build the inside as a shared library; return its path."""
    return _built("reseedprobe.so", lambda target: _compiler(target, "-O1", "-shared", "-fPIC"))


def _compiler(target: Path, *options: str) -> list[str]:
    return ["cc", *_WARNINGS, *options, "-o", str(target), str(PROBE)]


def _built(name: str, command: Callable[[Path], list[str]]) -> Path:
    """Return what is built of these very sources by this very command; it is built once and kept."""
    key = hashlib.sha256(repr((command(Path(name)), shutil.which("musl-gcc"))).encode())
    for source in (SOURCE, PROBE, BUILD):
        key.update(source.read_bytes())
    path = CACHE / key.hexdigest()[:16] / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            subprocess.run(command(Path(folder, name)), check=True)
            Path(folder, name).rename(path)
    return path


@dataclass(frozen=True, slots=True)
class State:
    """What the helper knows of its session."""

    eid: bytes
    host_head: bytes
    head: bytes
    serial: int
    sent: int
    taken: int
    next_request: int
    known: int
    open: bool
    keyed: bool
    frozen: bool
    credits: int


class Probe:
    """The helper's inside. Any mistake that a sanitizer finds ends the process, and with it the test."""

    def __init__(self) -> None:
        program = _built("reseedprobe", lambda target: _compiler(target, *SANITIZERS))
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Probe":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; raises AssertionError where it has ended itself."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(60) == 0

    def ask(self, what: bytes, data: bytes = b"") -> bytes:
        """Do one thing, see reseedprobe.c."""
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write(what + struct.pack("=I", len(data)) + data)
        process.stdin.flush()
        size = process.stdout.read(4)
        assert len(size) == 4, f"the helper ended with {process.wait(60)}"
        return process.stdout.read(struct.unpack("=I", size)[0])

    def begin(self, folder: Path, boot: bytes = b"b" * 16) -> None:
        """Start a helper over a folder that is both its state's and its kernel."""
        path = folder / "proc/sys/kernel/random/boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{uuid.UUID(bytes=boot)}\n")
        assert self.ask(b"B", str(folder).encode()) == b"\1"

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the port; return what the helper sends."""
        return self.ask(b"R", data)

    def state(self) -> State:
        """Return what it knows."""
        *rest, is_open, keyed, frozen, credits_ = _STATE.unpack(self.ask(b"Q"))
        return State(*rest, bool(is_open), bool(keyed), bool(frozen), credits_)
