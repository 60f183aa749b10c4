"""A run of the real vaults, with several clients at once, kills and disks put back, as a trace."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fakes.memorylog import MemoryLog
from tests.fakes.memorytpm import MemoryTpm
from tests.support.vaultlab import Host, append, increment, seal, spend

from undercroft.assurance import trace
from undercroft.channel.requests import Operation, Outcome, Request, Rests
from undercroft.errors import StateError
from undercroft.model.execution import Origin
from undercroft.vault.start import Adoption
from undercroft.vault.work import Batch

UUID = "6d6d6d6d-6d6d-6d6d-6d6d-6d6d6d6d6d6d"
MACHINE = b"m" * 16
NAMES = (b"a", b"b")


@dataclass
class Waiting:
    client: str
    call: int
    number: int
    request: Request
    batch: Batch | None = None


class Play:
    """One host, one machine. `act` does one thing and notes it; any list of acts is a valid run."""

    def __init__(self, tpm: MemoryTpm | None, client_numbers: bool = True) -> None:
        self.events: list[trace.Event] = []
        self.now = self.calls = self.eids = 0
        self.log, self.tpm = MemoryLog(), tpm
        self.images: list[MemoryLog] = []
        self.waiting: list[Waiting] = []
        self.told: list[Waiting] = []
        self.host: Host | None = None
        self.generation = 0
        self.eid = ""
        self.begin(Origin.FIRST)
        self.serve()

    def tick(self) -> int:
        self.now += 10
        return self.now

    def note(self, event: trace.Event) -> None:
        self.events.append(event)

    def begin(self, how: Origin) -> None:
        parent, self.eids = self.eid, self.eids + 1
        self.eid = f"{self.eids:032x}"
        self.note(trace.Began(self.tick(), UUID, self.eid, parent, how))
        self.number = 0
        self.waiting, self.told = [], []

    def take(self) -> None:
        if self.host is not None:
            self.host.take(execution=bytes.fromhex(self.eid))
            self.generation += 1
            self.note(trace.Seeded(self.tick(), self.eid, self.generation))
            self.note(trace.Confirmed(self.tick(), self.eid, self.generation))
            self.note(trace.Opened(self.tick(), self.eid, True))

    def serve(self) -> None:
        self.log = self.log.image()
        try:
            self.host = Host(self.log, self.tpm)
        except StateError as error:
            self.note(trace.Refused(self.tick(), str(error)))
            self.host = Host(self.log.image(), self.tpm, adoption=Adoption("lost"))
            self.log = self.host.log  # type: ignore[assignment]
            self.note(trace.Adopted(self.tick(), "lost"))
        self.note(trace.Served(self.tick(), self.host.engine.history.epoch, self.tpm is not None))
        self.images.append(self.log.image())
        self.take()

    def ask(self, what: int, name: bytes, again: int = 0) -> None:
        """A client asks; the vaults decide it now, and answer with the next group."""
        if self.host is None:
            return
        known = [each for each in (*self.waiting, *self.told) if each.request.operation != Operation.LATEST]
        if again and known:
            number, request = known[-1].number, known[-1].request
        else:
            self.number = number = self.number + 1
            request = self.request(what, name)
        self.calls += 1
        asked = Waiting(f"c{self.calls % 4}", self.calls, number, request)
        self.note(
            trace.Asked(
                self.tick(), asked.client, asked.call, self.eid, number, request.operation, request.arguments
            )
        )
        asked.batch = self.host.engine.batch(MACHINE, bytes.fromhex(self.eid), number, [request])
        self.waiting.append(asked)

    def request(self, what: int, name: bytes) -> Request:
        assert self.host is not None
        vault = self.host.engine.history.vault(MACHINE)
        number = int.from_bytes(b"\x01" + name, "big")
        if what == 3:
            head = vault.core.head(number).to_bytes(32, "big")
            return append(name, vault.core.height(number), head, b"e%d" % self.calls)
        if what == 4:
            return seal(name, vault.core.version(number), b"s%d" % self.calls)
        plain = {
            0: increment(name, 1 + self.calls % 3),
            1: spend(name),
            2: spend(name, final=True),
            5: Request(Operation.REVOKE, (name,)),
            6: Request(Operation.COUNTER, (name,)),
            7: Request(Operation.LATEST, (name, b"n" * 16)),
            8: Request(Operation.UNSEAL, (name, 0)),
            9: Request(Operation.GUARD, (name,)),
        }
        return plain[what]

    def group(self) -> None:
        if self.host is None:
            return
        self.host.group()
        self.images.append(self.log.image())
        waiting, self.waiting = self.waiting, []
        for each in reversed(waiting):
            assert each.batch is not None
            self.answer(each, each.batch.answers[0])
        self.told += waiting

    def answer(self, each: Waiting, line: Sequence[int | bytes | bool | str]) -> None:
        outcome, rests = Outcome(line[0]), Rests(line[1])
        self.note(trace.Answered(self.tick(), each.client, each.call, outcome, rests, tuple(line[2:])))

    def die(self, clean: bool, which: int = 0) -> None:
        """The service ends, the disk may be put back, and it starts again."""
        if clean and self.host is not None:
            self.group()
            self.host.stop()
        self.waiting = []
        self.note(trace.Died(self.tick(), clean))
        if which:
            self.log = self.images[which % len(self.images)]
            self.note(trace.PutBack(self.tick()))
        self.host = None
        self.serve()

    def revert(self) -> None:
        self.note(trace.Snapshotted(self.tick(), self.eid, "s", True))
        self.note(trace.Closed(self.tick(), self.eid))
        self.note(trace.Ended(self.tick(), self.eid))
        self.begin(Origin.REVERT)
        self.take()

    def act(self, act: str, one: int, other: int) -> None:
        if act == "ask":
            self.ask(one % 10, NAMES[other % 2])
        elif act == "again":
            self.ask(0, NAMES[0], again=1)
        elif act == "group":
            self.group()
        elif act == "kill":
            self.die(False)
        elif act == "stop":
            self.die(True)
        elif act == "put back":
            self.die(False, 1 + one)
        else:
            self.revert()
