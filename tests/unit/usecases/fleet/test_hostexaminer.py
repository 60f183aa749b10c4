"""An examiner of this host: from what the reader gives to a judgement under the policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import advisorydata
import pytest
from comebackdata import BEFORE, CVE, DOMAIN, FEEDS, MACHINE, NEW, NOW, PATCHED, UNPATCHED, Scene

from undercroft.errors import BusyError, NotFoundError, OperationError
from undercroft.model.comeback import Comeback
from undercroft.model.credentials import Credentials
from undercroft.model.domain import Domain, Power, Survey
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Outcome, Subject
from undercroft.steady.policy import Policy, Setting, Settings
from undercroft.usecases.fleet.orders.acting import Scene as HostScene
from undercroft.usecases.fleet.orders.examine import keep_floor
from undercroft.usecases.fleet.orders.hostexaminer import HostExaminer
from undercroft.usecases.fleet.orders.revert import check
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.reading.layers import How, Reading
from undercroft.usecases.fleet.reading.scanning import Scanned
from undercroft.usecases.fleet.verdicts.advising import Advice
from undercroft.usecases.target import MachineTarget

ADVICE = Advice(
    "mark",
    lambda machine: advisorydata.assessed(machine, *FEEDS),
    lambda machine: advisorydata.knowledge(*FEEDS),
)
SURVEY = Survey("host1", "memory:", NOW, (DOMAIN,))


@dataclass
class FakeScanner:
    """Gives back inventories by state; `asked` holds what it was asked for."""

    found: dict[str, object]
    asked: list[tuple[str, str, bool]] = field(default_factory=list)

    def scan(self, target: MachineTarget, subject: Subject, *, credentials: bool = False) -> Scanned:
        self.asked.append((subject.key, subject.state, credentials))
        found = self.found[subject.state]
        if isinstance(found, str):
            return Scanned(subject, None, None, (found,), NOW)
        reading = Reading(How.READ, found, "", None, None, (), "")
        return Scanned(subject, reading, Credentials(), (), NOW)


class Stage:
    """The scene of `comebackdata` with a real examiner over a scanner that a test decides."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.records = Scene().records
        self.scanner = FakeScanner({CURRENT: PATCHED, BEFORE.name: UNPATCHED})
        self.held: list[str] = []
        self.failure: OperationError | None = None
        self.waited_s = 0.0
        policy = Policy(settings or Settings())
        self.examiner = HostExaminer(
            self.records,
            SURVEY,
            self.scanner,
            ADVICE,
            policy,
            self.hold,
            lambda: NOW,  # type: ignore[arg-type]
            self._pause,
        )

    @contextmanager
    def hold(self, domain: Domain) -> Iterator[None]:
        if self.failure:
            raise self.failure
        self.held.append(domain.name)
        yield None

    def _pause(self, pause_s: float) -> None:
        """The other scan ends while it is waited for."""
        self.waited_s += pause_s
        if self.waited_s >= 1:
            self.failure = None

    def check(self) -> Comeback:
        return check(self.records, MACHINE, BEFORE.name, examiner=self.examiner, now=lambda: NOW)


def test_a_running_machine_is_held_for_each_look_with_its_credentials() -> None:
    stage = Stage()
    stage.check()
    assert stage.held == ["web01", "web01"]
    assert [(state, credentials) for _, state, credentials in stage.scanner.asked] == [
        (CURRENT, True),
        (BEFORE.name, True),
    ]


def test_a_machine_that_is_off_is_not_held() -> None:
    stage = Stage()
    stage.examiner.look(replace(MACHINE, domain=replace(DOMAIN, power=Power.OFF)), CURRENT)
    assert stage.held == []


def test_what_is_below_the_floor_is_judged_by_the_policys_own_rule() -> None:
    comeback = Stage().check()
    (floor,) = [result for result in comeback.judgement.results if result.rule == "floor"]
    assert (floor.outcome, floor.items) == (Outcome.FAIL, (f"{CVE} in openssl",))
    assert comeback.action is Action.REFUSE
    assert len(comeback.reasons) == 1


def test_a_machine_that_cannot_be_held_is_unknown_not_clean() -> None:
    stage = Stage()
    stage.failure = OperationError("another job holds it")
    comeback = stage.check()
    assert comeback.action is Action.REFUSE
    assert "another job holds it" in comeback.problems[0]


def test_a_state_that_cannot_be_read_is_judged_as_unread() -> None:
    stage = Stage()
    stage.scanner.found[BEFORE.name] = "vda: no filesystem"
    comeback = stage.check()
    outcomes = {result.rule: result.outcome for result in comeback.judgement.results}
    assert (outcomes["coverage"], outcomes["floor"]) == (Outcome.UNKNOWN, Outcome.UNKNOWN)
    assert comeback.unjudged


@pytest.mark.parametrize("action", list(Action))
def test_only_a_policy_that_says_so_itself_lets_the_unknown_pass(action: Action) -> None:
    assert Stage().examiner.unknown_action(MACHINE) is Action.REFUSE
    settings = Settings(unknown=Setting(action, "policy.yaml:3"))
    assert Stage(settings).examiner.unknown_action(MACHINE) is action


def test_the_floor_is_kept_once_and_without_advisories_not_at_all() -> None:
    stage = Stage()
    assert keep_floor(stage.records, "other", PATCHED, None, NOW).entries == ()
    floor = keep_floor(stage.records, "other", PATCHED, ADVICE.knowledge(PATCHED), NOW)
    assert [entry.version for entry in floor.entries] == [NEW]
    assert keep_floor(stage.records, "other", UNPATCHED, ADVICE.knowledge(UNPATCHED), NOW) == floor


def test_a_machine_is_found_by_name_uuid_and_running_id() -> None:
    scene = Scene()
    host = HostScene(scene.records, scene.fleet, Places.default({}), "", lambda: NOW, SURVEY)
    for name in (DOMAIN.name, DOMAIN.uuid, str(DOMAIN.libvirt_id)):
        assert host.machine(name).domain == DOMAIN
    with pytest.raises(NotFoundError, match="did you mean web01"):
        host.machine("web02")
    with pytest.raises(NotFoundError):
        host.machine("0")


def test_a_machine_that_another_scan_holds_is_waited_for() -> None:
    stage = Stage()
    stage.failure = BusyError("another scan is running on it")
    stage.check()
    assert stage.waited_s == 1
    assert stage.held
