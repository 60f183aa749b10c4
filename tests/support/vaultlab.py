"""A host's vaults on any log, driven as the guest service does."""

import os
from collections.abc import Callable, Iterable

from undercroft.channel.requests import Operation, Request
from undercroft.ports.tpm import Tpm
from undercroft.ports.vaultlog import VaultLog
from undercroft.vault import answers
from undercroft.vault.engine import Engine
from undercroft.vault.keeping import Keeping
from undercroft.vault.start import Adoption, start, stop
from undercroft.vault.work import AnswerLine

MACHINE = b"m" * 16
KEY = b"k" * 32


def increment(name: bytes, count: int = 1) -> Request:
    return Request(Operation.INCREMENT, (name, count))


def spend(name: bytes, *, final: bool = False) -> Request:
    return Request(Operation.SPEND, (name, final))


def append(name: bytes, height: int, head: bytes, entry: bytes) -> Request:
    return Request(Operation.APPEND, (name, height, head, entry))


def seal(name: bytes, version: int, content: bytes) -> Request:
    return Request(Operation.SEAL, (name, version, content))


class Host:
    """An engine with its log and TPM: `ask` sends a batch, makes the group durable, and gives the answers."""

    def __init__(
        self,
        log: VaultLog,
        tpm: Tpm | None = None,
        *,
        clock: Callable[[], int] = lambda: 1_000_000,
        adoption: Adoption | None = None,
        above: int = 0,
        snapshot_bytes: int = 1 << 26,
        execution: bytes = b"e1",
    ) -> None:
        self.log, self.tpm, self.execution = log, tpm, execution
        keep = Keeping(KEY, os.urandom)
        self.engine: Engine = start(
            log,
            tpm,
            keep,
            clock=clock,
            random=os.urandom,
            adoption=adoption,
            above=above,
            snapshot_bytes=snapshot_bytes,
        )

    def take(self, machine: bytes = MACHINE, execution: bytes = b"", *, forked: bool = False) -> int:
        answer = self.engine.take(machine, execution or self.execution, forked=forked)
        self.group()
        return answer

    def group(self) -> None:
        work = self.engine.close_group()
        work.run(self.log, self.tpm)
        self.engine.release(work)

    def ask(
        self, *requests: Request, first: int = 0, machine: bytes = MACHINE, execution: bytes = b""
    ) -> list[AnswerLine]:
        number = first or self.engine.next_request(machine)
        batch = self.engine.batch(machine, execution or self.execution, number, requests)
        self.group()
        return batch.answers

    def stop(self) -> None:
        while self.engine.waits:
            self.group()
        stop(self.engine, self.log, self.tpm)

    def state(self) -> list[bytes]:
        """All that the vaults hold, as records, with nothing of the host's own in it."""
        return [part for vault in self.engine.history.vaults.values() for part in vault.dump()]


def begun(log: VaultLog, tpm: Tpm | None = None, **options: object) -> Host:
    """A host whose machine's execution holds the fence."""
    host = Host(log, tpm, **options)  # type: ignore[arg-type]
    assert host.take() == answers.DONE
    return host


def outcomes(lines: Iterable[AnswerLine]) -> list[int]:
    return [int(line[0]) for line in lines]
