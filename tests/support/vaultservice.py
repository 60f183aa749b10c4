"""The guest service as a process of its own, and guests that ask it with the helper's own session."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.channelpair import helper

from undercroft.adapters.guestservice import GuestService
from undercroft.errors import OperationError

MACHINE = "11111111-2222-4333-8444-555555555555"
LIMIT_S = 60.0
_CODE = "import sys; from undercroft.cli import main; sys.argv[0] = 'undercroft'; main()"


class NoAnswerError(Exception):
    """The service is no more, or lets the guest wait."""


class ServiceProcess:
    """A guest service over a folder; its socket lies in a short path of its own.

    `wrapped` is what its command is started with: strace, say.
    """

    def __init__(self, state: Path, tpm: str = "none", trace: Path | None = None) -> None:
        self.state, self.tpm, self.trace = state, tpm, trace
        self._place = tempfile.TemporaryDirectory(prefix="uc-")
        self.address = Path(self._place.name) / "s"
        self.process: subprocess.Popen[bytes] | None = None
        self.said = Path(self._place.name) / "said"

    def begin(self, wrapped: Sequence[str] = ()) -> None:
        """Start it and wait for nothing."""
        self.address.unlink(missing_ok=True)
        command = [*wrapped, sys.executable, "-c", _CODE, "guest-service"]
        command += ["--state", str(self.state), "--tpm", self.tpm]
        command += ["--trace", str(self.trace)] if self.trace else []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(
                command, env=environment | {"UNDERCROFT_GUEST_SOCKET": str(self.address)}, stderr=said
            )

    def start(self, wrapped: Sequence[str] = ()) -> "GuestService":
        """Start it; return a client once it answers. Raises NoAnswerError where it ends before."""
        self.begin(wrapped)
        return self.client()

    def client(self) -> GuestService:
        """Return a client once the service answers. Raises NoAnswerError where it ends before."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                client = GuestService.connect(self.address, LIMIT_S)
                client.status()
            except OperationError:
                if self.process is None or self.process.poll() is not None:
                    raise NoAnswerError(self.words) from None
                time.sleep(0.01)
            else:
                return client
        raise NoAnswerError(f"no answer in {LIMIT_S} s: {self.words}")

    @property
    def words(self) -> str:
        """What it said on stderr."""
        return self.said.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; return its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(LIMIT_S)
        self.process = None
        return code

    def close(self) -> None:
        """End it and remove what is its own, but for its folder."""
        self.stop(signal.SIGKILL)
        self._place.cleanup()


class ServiceGuest:
    """A guest that waits for what it asks; `answers` are lists: outcome, what it rests on, values."""

    def __init__(
        self,
        client: GuestService,
        execution: str,
        machine: str = MACHINE,
        *,
        forked: bool = False,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.line, theirs = socket.socketpair()
        self.line.settimeout(limit_s)
        self.session = helper.Session(helper.Standing(), b"b" * 16)
        self.number = 0
        with theirs:
            self.holds = client.attach(machine, "web01", execution, theirs.fileno(), forked=forked)
        while not self.number:
            for event in self._receive():
                if event[0] == "welcome":
                    self.number = event[3]

    def ask(self, *requests: list) -> list[list]:
        """Ask for a batch; return the answers. Raises NoAnswerError."""
        first, self.number = self.number, self.number + len(requests)
        self.session.send([5, first, list(requests)])
        self._send()
        found: dict[int, list] = {}
        while len(found) < len(requests):
            for event in self._receive():
                if event[0] == "answers":
                    found |= {event[1] + at: answer for at, answer in enumerate(event[2])}
        return [found[first + at] for at in range(len(requests))]

    def close(self) -> None:
        self.line.close()

    def _receive(self) -> list[tuple]:
        try:
            data = self.line.recv(1 << 16)
        except OSError as error:
            raise NoAnswerError(str(error)) from error
        if not data:
            raise NoAnswerError("the service has closed the line")
        events = self.session.receive(data)
        self._send()
        return events

    def _send(self) -> None:
        try:
            self.line.sendall(self.session.out)
        except OSError as error:
            raise NoAnswerError(str(error)) from error
        del self.session.out[:]
