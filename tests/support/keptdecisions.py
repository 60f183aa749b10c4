"""A host's kept decisions with a record and a clock, for tests of what becomes of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from types import SimpleNamespace
from typing import Any, cast

from memoryrecords import MemoryRecords
from recordvalues import decision, judgement

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import LastDecision
from undercroft.agent.host import Host
from undercroft.agent.rounds import Rounds
from undercroft.model.verdict import Action
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.starts.admission import Means, follow_judgement, keep_decision
from undercroft.usecases.fleet.verdicts.judging import Basis

_UUIDS = "6d0f5d5e-0000-4000-8000-"
UUID = f"{_UUIDS}{1:012x}"
KEY = f"machine:{UUID}"
VALID = timedelta(hours=72)
MINUTE = timedelta(minutes=1)


class Kept:
    """A host's kept decisions, its record, and a clock that the test turns.

    Attributes:
        now: the clock.
        last: the decision that was put last.
        policy: the one that holds.
    """

    def __init__(self, root: Path) -> None:
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.state = root / "state"
        hookfiles.prepare_folders(self.state)
        nothing = cast("Any", None)
        clock: Callable[[], datetime] = lambda: self.now  # noqa: E731 - read at each call
        records = MemoryRecords()
        self.means = Means(
            records, nothing, nothing, nothing, self._basis, nothing, clock, "host1", self.state
        )
        self.last = decision()
        self.policy = Policy()
        self._count = 0

    def _basis(self) -> Basis:
        return Basis(self.policy, "")

    @property
    def path(self) -> Path:
        """Where the first machine's decision is kept."""
        return self.state / "decisions" / f"{UUID}.json"

    def put(self, action: Action, number: int = 1, by: str = "agent") -> None:
        """Decide a start, on record only."""
        self._count += 1
        self.now += MINUTE
        machine = f"{_UUIDS}{number:012x}"
        self.last = decision(f"{self._count:032x}", machine=machine, action=action, at=self.now, by=by)
        with self.means.records.transaction() as record:
            record.put_decision(self.last)

    def start(self, action: Action, number: int = 1) -> None:
        """Decide a start, on record and in the file."""
        self.put(action, number)
        keep_decision(self.means, self.last, VALID)

    def judge(self, action: Action, valid: timedelta = VALID) -> None:
        """Let the file follow a judgement of the first machine."""
        self.now += MINUTE
        follow_judgement(self.means, judgement(KEY, action=action, at=self.now), valid)

    def read(self) -> LastDecision:
        """Return what is kept of the first machine."""
        return hookfiles.read_decision(self.state, UUID)


class Agent:
    """The rounds of one agent over the kept decisions of a host."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.problems: list[str] = []
        self.host = SimpleNamespace(
            means=kept.means,
            policy=SimpleNamespace(policy=SimpleNamespace(agent_away=SimpleNamespace(last_decision=VALID))),
            problem=lambda what, error: self.problems.append(f"{what}: {error}"),
        )
        self.rounds = Rounds(cast("Host", self.host), lambda: False, lambda: None, lambda: None)

    def round(self, *actions: Action) -> None:
        """Judge the machine, and more of its kind beside it."""
        self.kept.now += MINUTE
        keys = [KEY, *(f"{KEY[:-12]}{number:012x}" for number in range(2, len(actions) + 1))]
        found = {key: judgement(key, action=action) for key, action in zip(keys, actions, strict=True)}
        self.rounds._follow(found)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow, whoever writes it: the kernel's own refusal in the middle of a write."""
    soft, hard = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, (soft, hard))
