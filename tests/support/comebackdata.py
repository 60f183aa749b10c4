"""A machine with a snapshot from before a patch, and an examiner whose answers a test decides.

scene = Scene()
comeback = scene.check()
scene.carry_out(comeback)
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import advisorydata
from advisorydata import DSA, MIRROR, TRACKER, inventory, listed, package, statement
from memoryfleet import MemoryFleet
from memoryrecords import MemoryRecords

from undercroft.advisories.knowledge import Knowledge
from undercroft.errors import UndercroftError
from undercroft.model.comeback import Comeback
from undercroft.model.credentials import Account, Credentials, Key
from undercroft.model.domain import Domain, DomainSnapshot, Interface, Power, Survey
from undercroft.model.fleet import Floor, HeldTap, Hold, MachineRecord
from undercroft.model.inventory import Inventory
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Judgement, RuleResult, Verdict
from undercroft.steady.rules import FLOOR
from undercroft.usecases.fleet.orders.examine import Look, Order, Said
from undercroft.usecases.fleet.orders.revert import carry_out, check

NOW = datetime(2026, 3, 7, 12, tzinfo=UTC)
UUID = "0a0b0c0d-0000-4000-8000-000000000001"
OLD, NEW = "3.0.14-1~deb12u2", "3.0.15-1~deb12u1"
CVE = "CVE-2024-5535"
FEEDS = (
    (TRACKER, [statement(TRACKER, "openssl", CVE, NEW)]),
    (DSA, [statement(DSA, "openssl", CVE, NEW, advisory="DSA-1-1")]),
    (MIRROR, [listed("openssl", NEW), listed("openssl", OLD, suite="bookworm")]),
)
PATCHED, UNPATCHED = inventory(package("openssl", NEW)), inventory(package("openssl", OLD))
ADMIN = Account("admin", 0, "/bin/bash", "set", 19_000)
LEFT = Account("left", 1000, "/bin/bash", "set", 19_000)
LEFT_KEY = Key(
    "authorized", "left", "ssh-ed25519", "SHA256:left", "/home/left/.ssh/authorized_keys", "left@laptop"
)
BEFORE = DomainSnapshot("before-upgrade", "", 1_700_000_000, "running", "internal", current=True)
DOMAIN = Domain(
    UUID,
    "web01",
    Power.RUNNING,
    libvirt_id=7,
    interfaces=(Interface("52:54:00:00:00:01", "network", "default", "virbr0", "vnet1"),),
    snapshots=(BEFORE,),
)
MACHINE = MachineRecord("host1", DOMAIN, NOW, NOW)


def look(machine: Inventory | None, credentials: Credentials | None = None, *problems: str) -> Look:
    """Return what was seen of a state."""
    assessment = None if machine is None else advisorydata.assessed(machine, *FEEDS)
    return Look(machine, credentials or Credentials((ADMIN,)), assessment, problems, NOW)


@dataclass
class FakeExaminer:
    """Answers as it is told; `seen` holds the states that it was asked for."""

    looks: dict[str, Look | UndercroftError]
    action: Action = Action.ALLOW
    verdict: Verdict = Verdict.STEADY
    results: tuple[RuleResult, ...] = ()
    unknown: Action = Action.REFUSE
    against: frozenset[str] = frozenset({FLOOR})
    seen: list[str] = field(default_factory=list)
    fresh: bool = False

    def look(self, machine: MachineRecord, state: str) -> Look:
        self.seen.append(state)
        found = self.looks[state]
        if isinstance(found, UndercroftError):
            raise found
        return found

    def knowledge(self, inventory: Inventory) -> Knowledge | None:
        return advisorydata.knowledge(*FEEDS)

    def judge(self, machine: MachineRecord, state: str, look: Look | None, floor: Floor) -> Said:
        found = Judgement(state, self.verdict, self.action, self.results, "5e", "a", NOW, NOW)
        return Said(found, found.why, self.against)

    def wants_fresh(self, machine: MachineRecord) -> bool:
        return self.fresh

    def unknown_action(self, machine: MachineRecord) -> Action:
        return self.unknown


@dataclass
class FakeTaps:
    """Taps in memory."""

    held: set[str] = field(default_factory=set)
    failure: UndercroftError | None = None

    def hold(self, tap: str) -> HeldTap:
        self.held.add(tap)
        return HeldTap(tap, "virbr0")

    def open_tap(self, held: HeldTap) -> None:
        if self.failure:
            raise self.failure
        self.held.discard(held.tap)

    def is_held(self, tap: str) -> bool:
        return tap in self.held


class Scene:
    """The machine, patched since its snapshot was taken: in a record, on a hypervisor, under an examiner."""

    def __init__(self, domain: Domain = DOMAIN) -> None:
        self.machine = replace(MACHINE, domain=domain)
        self.fleet = MemoryFleet([domain])
        self.records = MemoryRecords(lambda: NOW)
        self.examiner = FakeExaminer(
            {CURRENT: look(PATCHED), BEFORE.name: look(UNPATCHED, Credentials((ADMIN, LEFT), (LEFT_KEY,)))}
        )
        self.taps = FakeTaps({"vnet1"})
        self.told: list[str] = []
        self.waited_s: list[float] = []
        with self.records.transaction() as record:
            record.put_survey(Survey("host1", "memory:", NOW, (domain,)))

    def put_hold(self) -> Hold:
        """Put the machine into quarantine."""
        hold = Hold(UUID, "ab" * 16, (HeldTap("vnet1", "virbr0"),), "below its floor", NOW, pending=False)
        with self.records.transaction() as record:
            record.put_hold(hold)
        return hold

    def check(self, snapshot: str = BEFORE.name) -> Comeback:
        """Return what a revert would bring back."""
        return check(self.records, self.machine, snapshot, examiner=self.examiner, now=lambda: NOW)

    def carry_out(self, comeback: Comeback, *, paused: bool = False, **order: object) -> None:
        """Revert; what it tells stays in `told`, how long it would have waited in `waited_s`."""
        carry_out(
            self.records,
            self.fleet,
            comeback,
            Order("alice", NOW, **order),
            paused=paused,
            tell=self.told.append,
            pause=self.waited_s.append,
        )

    @property
    def reverts(self) -> list[str]:
        """The snapshots that libvirt was told to revert to."""
        return [argument for method, _, argument in self.fleet.calls if method == "revert"]

    def logged(self, kind: str) -> list[str]:
        """The bodies of the log's entries of one kind."""
        with self.records.reading() as record:
            return [entry.body for entry in record.log_entries() if entry.kind == kind]
