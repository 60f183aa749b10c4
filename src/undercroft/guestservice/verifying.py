"""Reads the whole log again, from the disk, in a process of its own: no guest waits for it.

The process is a copy of this one, made between two groups, so that it knows where the log ends, what its
head is there, and what the TPM held then; it closes everything but the log and the pipe to its parent, and
ends with it. Where the start was refused, the log is opened for that alone.
"""

import contextlib
import json
import os
import resource
import signal
from collections.abc import Callable

from undercroft.adapters.prctl import end_with_parent
from undercroft.adapters.vaultfile import VaultFile
from undercroft.errors import OperationError, StateError, UndercroftError
from undercroft.guestservice.comparing import Reading, compared, read_tpm
from undercroft.guestservice.loop import READ
from undercroft.guestservice.service import Service
from undercroft.vault.history import History

MAX_SECONDS = 1_800
_MAX_ANSWER_BYTES = 60_000
Answer = dict[str, object]


class Verifying:
    """One verification at a time."""

    def __init__(self, service: Service) -> None:
        """Take whose log it is."""
        self._service = service
        self._child = 0
        self._pipe = -1
        self._said = b""
        self._reply: Callable[[Answer], None] | None = None

    def begin(self, reply: Callable[[Answer], None]) -> None:
        """Begin; `reply` is called with `{"ok": ...}` once the process has ended.

        What it says: `fits`, `problem` ("" where all fits), `groups`, `records`, `bytes`, `head`, `epoch`,
        `machines`, and what `comparing.compared` says of the TPM.

        Raises StateError where one is under way.
        """
        if self._reply is not None:
            raise StateError("the log is being verified already: ask again when that is done")
        self._reply = reply
        self._service.groups.between(self._begin)

    def _begin(self) -> None:
        """Read the TPM, and let a copy of this process read the log."""
        vaults = self._service.vaults
        reading, log, reopened = read_tpm(vaults), vaults.log, None
        if log is None:
            try:
                log = reopened = vaults.reopened()
            except UndercroftError as error:
                self._answer(nothing(reading.problem or str(error), reading))
                return
        self._fork(log, reading)
        if reopened is not None:
            with contextlib.suppress(OperationError):
                reopened.close()

    def _fork(self, log: VaultFile, reading: Reading) -> None:
        end, begin = os.pipe2(os.O_CLOEXEC)
        self._said = b""
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(end)
                self._run(begin, log, reading)
            finally:
                os._exit(1)
        os.close(begin)
        self._pipe = end
        self._service.loop.watch(end, READ, self._hear)

    def _run(self, pipe: int, log: VaultFile, reading: Reading) -> None:
        """Be the copy."""
        end_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.nice(10)
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
        self._service.loop.forget_all()
        answer = json.dumps(self._read(log, reading)).encode()
        os.write(pipe, answer[:_MAX_ANSWER_BYTES])
        os._exit(0)

    def _read(self, log: VaultFile, reading: Reading) -> Answer:
        history, found = History(), nothing("", reading)
        groups = records = 0
        head = b""
        try:
            for group in log.read():
                history.replay((group,))
                groups, records, head = groups + 1, records + len(group.records), group.head
        except UndercroftError as error:
            return found | {"problem": str(error), "groups": groups, "records": records}
        found |= compared(history, reading)
        engine = self._service.vaults.engine
        if groups and head != log.head:
            found["problem"] = "the log on the disk is not the one that was written: its last head is another"
        elif engine is not None and history.epoch != engine.history.epoch:
            found["problem"] = (
                f"the log on the disk is of epoch {history.epoch}, and {engine.history.epoch} is served"
            )
        return found | {
            "fits": not found["problem"],
            "groups": groups,
            "records": records,
            "bytes": log.grown_bytes,
            "head": log.head.hex(),
            "epoch": history.epoch,
            "machines": len(history.vaults),
        }

    def _hear(self, mask: int) -> None:
        data = os.read(self._pipe, 65_536)
        self._said += data
        if data or self._reply is None:
            return
        del mask
        self._service.loop.unwatch(self._pipe)
        os.close(self._pipe)
        _, status = os.waitpid(self._child, 0)
        if status == 0:
            self._answer(json.loads(self._said))
            return
        problem = f"the process that read the log ended ({status}): see its limits and memory"
        self._answer(nothing(problem, Reading("", None, b"", "")))

    def _answer(self, answer: Answer) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply({"ok": answer})


def nothing(problem: str, reading: Reading) -> Answer:
    """Return the answer of a verification that has read nothing of the log."""
    return {
        "fits": False,
        "problem": problem,
        "groups": 0,
        "records": 0,
        "bytes": 0,
        "head": "",
        "epoch": 0,
        "machines": 0,
        "tpm": reading.name or "none",
        "counter": reading.counter,
        "logged_counter": None,
        "index": reading.held.hex(),
        "logged_index": "",
    }
