"""A guest service that is killed at chosen system calls, and its disk as each kill left it.

strace kills it before the n-th call of a kind takes place: the product knows nothing of it. Three stretches
of a life are counted apart, as threads are counted each for itself: from its beginning until it serves, while
a guest asks, and from SIGTERM on. Its folder and its TPM go on from life to life.
"""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.guesthost import GENEROUS_S, MACHINE, PlayedGuest, ServiceProcess, eid
from tests.support.softwaretpm import SoftwareTpm

from undercroft.adapters.tracefile import TraceFile, read_traces
from undercroft.assurance import trace
from undercroft.assurance.tracecheck import check
from undercroft.channel.requests import Operation, Outcome, Rests
from undercroft.errors import OperationError
from undercroft.model.execution import Origin

START, SERVE, END = "start", "serve", "end"
CALLS = ("pwrite64", "fdatasync", "fsync", "renameat", "unlinkat", "fallocate", "write", "sendto")
"""Whatever changes the disk (pwrite64 to fallocate) or the TPM (write), or tells anybody (write, sendto)."""

INCREMENT, SPEND = 1, 3
OK, REFUSED, ANCHORED = 0, 1, 2
COUNTER = b"counter"


class GoneError(Exception):
    """The service was killed."""


class AskingGuest(PlayedGuest):
    """A guest that finds out that nobody is there any more."""

    def pump(self, wait_s: float = 0.05) -> bool:
        try:
            if super().pump(wait_s):
                return True
        except OSError as error:
            raise GoneError from error
        raise GoneError

    def push(self) -> None:
        try:
            super().push()
        except OSError as error:
            raise GoneError from error


@dataclass(frozen=True)
class Kill:
    """Where a life ends: before the call `at` (from 1) of its kind, in a stretch of the life."""

    stretch: str
    call: str
    at: int


@dataclass
class Told:
    """What guests were told so far, and may rely on; the execution that asked last."""

    values: set[int] = field(default_factory=set)
    final: set[bytes] = field(default_factory=set)
    execution: str = ""

    def copy(self) -> "Told":
        return Told(set(self.values), set(self.final), self.execution)


@dataclass(frozen=True)
class Moment:
    """A kill, folder and TPM as it left them, what was told until then, and the trace."""

    kill: Kill
    image: Path
    tpm: Path
    told: Told
    traced: bytes


class Lives:
    """One host: a folder and a software TPM (None for none) over many lives of the service."""

    def __init__(self, folder: Path, chip: SoftwareTpm | None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.chip = folder, chip
        self.service = ServiceProcess(folder, tpm=chip.tcti if chip else "none")
        self.told = Told()
        self.moments: list[Moment] = []
        self.trace = TraceFile(self.service.trace)
        self._lives = self._calls = 0

    def live(self, kill: Kill) -> bool:
        """Live until a kill; whether it came to that. A life before its guest is let in has to be served."""
        self._lives += 1
        if kill.stretch == START:
            reached = self._start(*_strace(kill))
        else:
            self._start()
            with self._tracer(kill) if kill.stretch == SERVE else _Nothing():
                reached = self._asks()
            if kill.stretch == END:
                with self._tracer(kill):
                    reached = self.service.stop()[0] != 0
        self.end(clean=kill.stretch == END and not reached)
        if reached:
            self.note(kill)
        return reached

    def end(self, *, clean: bool = False) -> None:
        """Kill what still lives, hear its last words, and clear the TPM of its keys."""
        process = self.service.process
        if process is not None and process.stderr is not None and not process.stderr.closed:
            if process.poll() is None:
                for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                    os.kill(int(each), signal.SIGKILL)  # what strace has started
            self.service.kill()
        if process is not None:
            self.trace.write(trace.Died(self.trace.now_ns(), clean))
            self.service.process = None
        if self.chip is not None:  # as the kernel's resource manager does for who is no more
            subprocess.run(["tpm2_flushcontext", "-t", "-T", self.chip.tcti], check=True, capture_output=True)

    def close(self) -> None:
        self.end()
        self.trace.close()
        self.service.close()

    def put_back(self, image: Path, after: Moment | None) -> None:
        """Put an image of the folder back at some later moment: TPM and trace are what they were then."""
        shutil.rmtree(self.service.state, ignore_errors=True)
        _copied(image, self.service.state)
        if self.chip is not None and after is not None:
            self.chip.stop()
            self.chip.put_back(after.tpm)
            self.chip.start()
            self.service.trace.write_bytes(after.traced)
        self.trace.write(trace.PutBack(self.trace.now_ns()))

    def image(self, name: str) -> Path:
        """Keep the folder as it is."""
        return _copied(self.service.state, self.folder / name)

    def note(self, kill: Kill) -> None:
        """Keep the moment."""
        assert self.chip is not None
        name = f"{len(self.moments)}"
        tpm, traced = self.chip.copy_state(f"kept-{name}"), self.service.trace.read_bytes()
        self.moments.append(Moment(kill, self.image(f"image-{name}"), tpm, self.told.copy(), traced))

    def begins(self, told: Told) -> bool:
        """Whether a start serves; asserts that nothing that was told is contradicted then."""
        self.told = told.copy()
        self._lives += 1
        self._start(served=False)
        with self.service.client() as client:
            served = client.status()["state"] == "serving"
        if served:
            assert self._asks(only_checks=True) is False
        self.end()
        assert check(read_traces([self.service.trace])) == []
        return served

    def _start(self, *prefix: str, served: bool = True) -> bool:
        """Start it; whether it was killed before it answered."""
        try:
            self.service.start(*prefix)
        except RuntimeError:
            assert prefix
            return True
        if served:
            try:
                with self.service.client() as client:
                    status = client.status()
            except OperationError:
                assert prefix
                return True
            assert status["state"] == "serving", status["problem"]
        return False

    def _asks(self, *, only_checks: bool = False) -> bool:
        """Be a guest in an execution of its own; whether the service was killed meanwhile."""
        told, number = self.told, self._lives
        how = Origin.START if told.execution else Origin.FIRST
        self.trace.write(trace.Began(self.trace.now_ns(), MACHINE, eid(number), told.execution, how))
        told.execution = eid(number)
        try:
            with self.service.client() as client:
                guest = AskingGuest(client, MACHINE, eid(number)).meet()
            spent = sorted(told.final)
            for at in range(0, len(spent), 32):
                for answer in self._ask(guest, *([SPEND, token, True] for token in spent[at : at + 32])):
                    assert answer[0] == REFUSED, "a value that was spent for good was spent again"
            self._increment(guest)
            for each in range(0 if only_checks else 2):
                token = b"token %d-%d" % (number, each)
                (answer,) = self._ask(guest, [SPEND, token, True])
                assert answer[:2] == [OK, ANCHORED if self.chip else 1]
                told.final.add(token)
                self._increment(guest)
        except (GoneError, OperationError):
            return True
        return False

    def _ask(self, guest: AskingGuest, *requests: list[Any]) -> list[Any]:
        """Ask for a batch, on record."""
        first, client, record = guest.session.standing.next_request, guest.execution, self.trace
        for at, (operation, *arguments) in enumerate(requests):
            who = (client, self._calls + at, guest.execution, first + at)
            record.write(trace.Asked(record.now_ns(), *who, Operation(operation), tuple(arguments)))
        begun, self._calls = self._calls, self._calls + len(requests)
        answers = guest.answer(*requests)
        for at, (outcome, rests, *values) in enumerate(answers):
            told = (Outcome(outcome), Rests(rests), tuple(values))
            record.write(trace.Answered(record.now_ns(), client, begun + at, *told))
        return answers

    def _increment(self, guest: AskingGuest) -> None:
        (answer,) = self._ask(guest, [INCREMENT, COUNTER, 1])
        assert answer[0] == OK
        assert answer[2] > max(self.told.values, default=0), "a value came again"
        self.told.values.add(answer[2])

    def _tracer(self, kill: Kill) -> "_Tracer":
        assert self.service.process
        return _Tracer(self.service.process.pid, kill)


class _Nothing:
    """Nobody traces."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class _Tracer:
    """strace at a process that runs: it is there when the block begins, and gone when it ends."""

    def __init__(self, pid: int, kill: Kill) -> None:
        self._command = [*_strace(kill), "-p", str(pid)]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        line = self._process.stderr.readline()
        assert "attached" in line, line  # to all threads: one line for them

    def __exit__(self, *error: object) -> None:
        self._process.kill()  # the kernel lets go of who still lives; strace itself may wait for ever
        self._process.communicate(timeout=GENEROUS_S)


def _strace(kill: Kill) -> list[str]:
    inject = f"inject={kill.call}:signal=KILL:when={kill.at}"
    return ["strace", "-f", "-o", "/dev/null", "-e", f"trace={kill.call}", "-e", inject]


def _copied(source: Path, target: Path) -> Path:
    """Copy a folder of plain files; zeros at their ends take no room."""
    target.mkdir(mode=0o700)
    for file in source.iterdir():
        data = file.read_bytes()
        with open(target / file.name, "wb") as copy:
            copy.write(data.rstrip(b"\0"))
            copy.truncate(len(data))
    return target
