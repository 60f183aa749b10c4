"""A guest service as a process of its own, and guests that a test plays on sockets."""

import copy
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.channelpair import Guest, Repeating, helper

from undercroft.adapters.guestservice import GuestService, Watch
from undercroft.errors import OperationError

PROGRAM = [sys.executable, "-c", "from undercroft.cli import main; main()", "guest-service"]
MACHINE = "6d0e1a52-0f27-4b0e-9a3c-0a4f6ad1c001"
GENEROUS_S = 60.0


def eid(number: int) -> str:
    """An execution's id."""
    return f"{number:032x}"


def machine(number: int) -> str:
    """A machine's UUID."""
    return f"6d0e1a52-0f27-4b0e-9a3c-{number:012x}"


class ServiceProcess:
    """`undercroft guest-service` over a folder of the test's, started, killed and started anew."""

    def __init__(self, folder: Path, *options: str, tpm: str = "none", confined: bool = False) -> None:
        self.folder, self.state = folder, folder / "guest-state"
        self.socket = folder / "guest.sock"
        self.trace = folder / "trace"
        self.options = ["--tpm", tpm, "--trace", str(self.trace), *options]
        self.options += [] if confined else ["--unconfined"]
        self.process: subprocess.Popen[str] | None = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.socket))
        self.listener.listen(64)

    def start(self, *prefix: str) -> "ServiceProcess":
        """Start it with the listening socket, which outlives it; it answers once this returns."""
        places = {"UNDERCROFT_GUEST_STATE": str(self.state), "UNDERCROFT_GUEST_SOCKET": str(self.socket)}
        passed = self.listener.fileno()
        self.process = subprocess.Popen(
            [*prefix, *PROGRAM, "--socket-fd", str(passed), *self.options],
            env={**os.environ, **places},
            pass_fds=(passed,),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        end = time.monotonic() + GENEROUS_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise RuntimeError(self.process.communicate()[1])
        return self

    def _answers(self) -> bool:
        try:
            with GuestService.connect(self.socket, 0.5) as client:
                return bool(client.status())
        except OperationError:
            return False

    def client(self) -> GuestService:
        return GuestService.connect(self.socket, GENEROUS_S)

    def watch(self) -> Watch:
        return Watch(self.socket, GENEROUS_S)

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def stop(self) -> tuple[int, str]:
        """End it as systemd does; return its exit code and what it said."""
        assert self.process
        self.process.terminate()
        _, said = self.process.communicate(timeout=GENEROUS_S)
        return self.process.returncode, said

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.listener.close()


class PlayedGuest(Guest):
    """A guest's helper in the test's process, at one end of a socket; the other is handed to the service."""

    def __init__(
        self,
        service: GuestService,
        machine: str = MACHINE,
        execution: str = eid(1),
        draws: int = 1000,
        **attach: Any,
    ) -> None:
        super().__init__(draws=draws)
        self.machine, self.execution = machine, execution
        self.answers: dict[int, list[Any]] = {}
        self.seeds: list[bytes] = []
        self.generation = 0
        self.confirms = True
        self.boot_number = 1
        self.welcomes = self._met = 0
        self.attach(service, **attach)

    def attach(self, service: GuestService, **options: Any) -> None:
        """Hand a new socket over, as after QEMU was replaced or the service is back."""
        self._met = self.welcomes
        self.line, theirs = socket.socketpair()
        with theirs:
            self.fence = service.attach(self.machine, "web01", self.execution, theirs.fileno(), **options)

    def reboot(self) -> None:
        """Another kernel: it has forgotten all."""
        self.boot_number += 1
        draws = 1000 * self.boot_number
        self.session = helper.Session(helper.Standing(), bytes([self.boot_number]) * 16, Repeating(draws))
        self.session.start()
        self.push()

    def push(self) -> None:
        """Send what the session has to send."""
        data = self.sent()
        if data:
            self.line.sendall(data)

    def pump(self, wait_s: float = 0.05) -> bool:
        """Take what the host sent; answer. Whether the socket is still there."""
        if not select.select([self.line], [], [], wait_s)[0]:
            return True
        try:
            data = self.line.recv(65536)
        except ConnectionResetError:  # it died before it had read all
            return False
        for event in self.session.receive(data):
            self.events.append(event)
            if event[0] == "welcome":
                self._welcome(*event[1:])
            elif event[0] == "answers":
                for place, answer in enumerate(event[2]):
                    self.answers[event[1] + place] = answer
        self.push()
        return bool(data)

    def _welcome(self, generation: int, seed: bytes | None, following: int) -> None:
        self.welcomes += 1
        self.session.standing.next_request = max(self.session.standing.next_request, following)
        self.session.send([6, "played 1", "6.1.0", ["credit"]])
        if seed is not None:
            self.seeds.append(seed)
            self.generation = generation
            self.session.frozen = False
            if self.confirms:
                self.confirm()

    def confirm(self) -> None:
        """Say that the last seed was credited."""
        execution = bytes.fromhex(self.execution)
        tag = helper.confirmation(self.seeds[-1], self.session.machine, execution, self.generation)
        self.session.send([1, self.generation, tag, True, 64, 0, 0])
        self.push()

    def snapshot(self) -> Any:
        """The guest's memory."""
        return copy.deepcopy(self.session)

    def put_back(self, kept: Any) -> None:
        """Load what `snapshot` gave, through the monitor: the socket stays."""
        self.session = copy.deepcopy(kept)

    def until(self, done: Callable[[], Any], *others: "PlayedGuest") -> Any:
        """Pump until `done()`; return that."""
        end = time.monotonic() + GENEROUS_S
        while time.monotonic() < end:
            found = done()
            if found:
                return found
            for each in (self, *others):
                each.pump(0.01)
        raise AssertionError(f"it did not come: {self.events[-5:]}")

    def meet(self) -> "PlayedGuest":
        """Have a session open that began after the last one that was met."""
        self.until(lambda: self.session.open and self.welcomes > self._met)
        self._met = self.welcomes
        return self

    def ask(self, *requests: list[Any], first: int = 0) -> int:
        """Ask for a batch; return its first number."""
        number = first or self.session.standing.next_request
        self.session.standing.next_request = max(self.session.standing.next_request, number + len(requests))
        self.session.send([5, number, [list(each) for each in requests]])
        self.push()
        return number

    def answer(self, *requests: list[Any], first: int = 0) -> list[Any]:
        """Ask, and return the answers."""
        number = self.ask(*requests, first=first)
        numbers = range(number, number + len(requests))
        for each in numbers:
            self.answers.pop(each, None)
        self.until(lambda: all(each in self.answers for each in numbers))
        return [self.answers[each] for each in numbers]

    def close(self) -> None:
        self.line.close()

    def __del__(self) -> None:
        self.line.close()


def attached_again(guest: PlayedGuest, service: ServiceProcess) -> None:
    """What the agent does when the service is back."""
    with service.client() as client:
        guest.close()
        guest.attach(client)
    guest.meet()


def is_gone(service: ServiceProcess) -> bool:
    """Whether nobody answers."""
    try:
        GuestService.connect(service.socket, 0.5).status()
    except OperationError:
        return True
    return False
