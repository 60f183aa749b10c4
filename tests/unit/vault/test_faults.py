"""The vaults against a model in dictionaries, while their disk fails and their process dies."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.memorytpm import MemoryTpm
from tests.support.faultyfiles import FaultyFiles, Killed, MemoryFiles
from tests.support.vaultlab import KEY, Host, append, increment, seal, spend

from undercroft.adapters.vaultfile import VaultFile
from undercroft.channel.requests import Operation, Outcome, Request
from undercroft.errors import OperationError
from undercroft.vault import engine
from undercroft.vault.keeping import log_key
from undercroft.vault.work import AnswerLine

NAMES = [b"a", b"b"]


@pytest.fixture(autouse=True, scope="module")
def _small_room() -> Iterator[None]:
    """Less room is taken from the disk beforehand: it is copied at each start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_GROUP_BYTES", 32_768)
        patch.setattr(engine, "MARGIN_BYTES", 1_024)
        yield


OPERATIONS = st.sampled_from(["increment", "spend", "final", "append", "seal", "revoke"])
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(OPERATIONS, st.sampled_from(NAMES)), min_size=1, max_size=4),
        st.one_of(st.just(0), st.integers(1, 12)),
        st.sampled_from(["kill", "torn", "EIO", "ENOSPC", "short"]),
    ),
    min_size=1,
    max_size=8,
)


@dataclass
class Model:
    """What was acknowledged; nothing that was not may contradict it."""

    values: dict[bytes, list[int]] = field(default_factory=dict)
    spent: set[bytes] = field(default_factory=set)
    revoked: set[bytes] = field(default_factory=set)
    ledgers: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    blobs: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def take(self, request: Request, line: AnswerLine) -> None:
        """Check a success against all before it, and note it."""
        name = request.arguments[0]
        assert isinstance(name, bytes)
        if request.operation == Operation.INCREMENT:
            assert int(line[2]) > max(self.values.get(name, [0]))
            self.values.setdefault(name, []).append(int(line[2]))
        elif request.operation == Operation.SPEND:
            assert name not in self.spent
            assert line[1] == (2 if request.arguments[1] else 1)
            self.spent.add(name)
        elif request.operation == Operation.REVOKE:
            self.revoked.add(name)
        elif request.operation == Operation.APPEND:
            assert int(line[2]) > self.ledgers.get(name, (0, b""))[0]
            self.ledgers[name] = int(line[2]), bytes(line[3])  # type: ignore[arg-type]
        else:
            assert int(line[2]) > self.blobs.get(name, (0, b""))[0]
            self.blobs[name] = int(line[2]), request.arguments[2]  # type: ignore[assignment]


class World:
    """Disk, TPM, and a process that is started again whenever it ended."""

    def __init__(self) -> None:
        self.files, self.tpm, self.model = MemoryFiles(), MemoryTpm(), Model()
        self.start()

    def start(self) -> None:
        self.files = MemoryFiles(self.files.image())
        self.faults = FaultyFiles(self.files)
        log = VaultFile(self.faults, log_key(KEY), room_bytes=512)
        self.host = Host(log, self.tpm, snapshot_bytes=600)
        self.host.take()

    def request(self, what: str, name: bytes) -> Request:
        vault = self.host.engine.history.vault(b"m" * 16)
        if what in ("spend", "final"):
            return spend(name, final=what == "final")
        if what == "append":
            [latest] = self.host.ask(Request(Operation.LATEST, (name, b"n" * 16)))
            return append(name, int(latest[2]), bytes(latest[3]), b"entry")  # type: ignore[arg-type]
        if what == "seal":
            version = vault.core.version(int.from_bytes(b"\x01" + name, "big"))
            return seal(name, version, b"content of %d" % version)
        return increment(name) if what == "increment" else Request(Operation.REVOKE, (name,))

    def ask(self, requests: list[Request], at: int, how: str) -> None:
        first = self.host.engine.next_request(b"m" * 16)
        self.faults.at, self.faults.how = (len(self.faults.calls) + at if at else 0), how
        try:
            answers = self.host.ask(*requests, first=first)
        except (Killed, OperationError):
            answers = []
        if not answers or self.host.engine.failed or self.faults.at < 0:
            answers = self.ended(requests, first, answers)
        self.faults.at = 0
        for request, line in zip(requests, answers, strict=True):
            if line[0] == Outcome.OK:
                self.model.take(request, line)

    def ended(self, requests: list[Request], first: int, told: list[AnswerLine]) -> list[AnswerLine]:
        """Start again, and ask the same with the same numbers: what was told before is told again."""
        self.start()
        again = self.host.ask(*requests, first=first)
        for before, now in zip(told, again, strict=False):
            assert before[0] != Outcome.OK or before[2:] == now[2:]
        return again

    def check(self) -> None:
        """All that was acknowledged is there."""
        model = self.model
        for name in NAMES:
            asked = (
                Request(Operation.COUNTER, (name,)),
                Request(Operation.GUARD, (name,)),
                Request(Operation.LATEST, (name, b"n" * 16)),
                Request(Operation.UNSEAL, (name, 0)),
            )
            counter, guard, latest, unsealed = self.host.ask(*asked)
            assert int(counter[2]) == max(model.values.get(name, [0]))
            assert guard[2] is (name not in model.revoked)
            assert latest[2:4] == model.ledgers.get(name, (0, bytes(32)))
            if name in model.blobs:
                assert unsealed[2:] == model.blobs[name]
        spent = self.host.engine.history.vault(b"m" * 16).core.spent.names
        assert spent == {int.from_bytes(b"\x01" + name, "big") for name in model.spent}


@settings(max_examples=30)  # each starts the vaults a dozen times
@given(STEPS)
def test_faults_of_the_disk_and_kills_lose_nothing_acknowledged_and_repeat_nothing(
    steps: list[tuple[list[tuple[str, bytes]], int, str]],
) -> None:
    world = World()
    for operations, at, how in steps:
        world.ask([world.request(what, name) for what, name in operations], at, how)
        world.check()
    world.start()
    world.check()
