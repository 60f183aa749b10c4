"""An examiner of this host: from what the reader gives to a judgement under the policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import advisorydata
import pytest
from advisorydata import inventory, package
from comebackdata import BEFORE, CVE, DOMAIN, FEEDS, MACHINE, NEW, NOW, PATCHED, UNPATCHED, Scene

from undercroft.errors import BusyError, NotFoundError, OperationError
from undercroft.model.comeback import Comeback, Standing
from undercroft.model.credentials import Credentials
from undercroft.model.domain import Domain, Power, Survey
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import Hold, Scan
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Outcome, Subject
from undercroft.steady.policy import Match, Need, Policy, Setting, Settings, Stance, Waiver
from undercroft.usecases.fleet.orders import release
from undercroft.usecases.fleet.orders.acting import Scene as HostScene
from undercroft.usecases.fleet.orders.examine import keep_floor
from undercroft.usecases.fleet.orders.hostexaminer import HostExaminer
from undercroft.usecases.fleet.orders.revert import check
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.reading.layers import How, Reading
from undercroft.usecases.fleet.reading.scanning import Scanned
from undercroft.usecases.fleet.verdicts.advising import Advice
from undercroft.usecases.fleet.verdicts.facts import GOES_ON
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

    def __init__(self, settings: Settings | None = None, policy: Policy | None = None) -> None:
        self.records = Scene().records
        self.scanner = FakeScanner({CURRENT: PATCHED, BEFORE.name: UNPATCHED})
        self.held: list[str] = []
        self.failure: OperationError | None = None
        self.waited_s = 0.0
        policy = policy or Policy(settings or Settings())
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


UNLISTED = inventory(package("openssl", "999:1"))
LENIENT = Settings(
    unknown=Setting(Action.ALLOW, "policy.yaml:3"),
    known_exploited=Setting(Stance.ALLOW),
    fixable=Setting(None),
    drifting=Setting(Action.ALLOW),
)
IGNORED = replace(LENIENT, floor=Setting(Need.IGNORED))
WAIVED = Waiver(Match(), "floor", frozenset(), NOW.date(), "built here", "policy.yaml:9")


def patched_to_what_nobody_lists(stage: Stage, origin: Origin | None) -> Standing:
    """Let a held machine that began so have had a floor, and an unlisted version now; check its release."""
    stage.scanner.found[CURRENT] = UNLISTED
    keep_floor(stage.records, DOMAIN.uuid, PATCHED, ADVICE.knowledge(PATCHED), NOW)
    with stage.records.transaction() as record:
        if origin is not None:
            record.put_execution(Execution("ab" * 16, DOMAIN.uuid, "web01", "host1", origin, "", "", NOW))
        record.put_hold(Hold(DOMAIN.uuid, "ab" * 16, (), "held", NOW, pending=False))
    return release.check(stage.records, MACHINE, examiner=stage.examiner, now=lambda: NOW)


@pytest.mark.parametrize("origin", [*Origin, None])
def test_an_unlisted_version_stands_against_a_release_as_the_lineage_tells_it(origin: Origin | None) -> None:
    """As for the agent's own look (`starting`): this morning's patch goes on, and a rollback does not."""
    standing = patched_to_what_nobody_lists(Stage(LENIENT), origin)
    if origin in GOES_ON:
        assert (standing.judgement.action, standing.against) == (Action.ALLOW, ())
    else:
        assert standing.judgement.action is Action.QUARANTINE
        assert standing.against == (
            "openssl: in a version that the machine is not known to have had, and no index lists it",
        )


def test_an_execution_of_another_host_or_one_that_is_over_tells_nothing_of_what_runs_here() -> None:
    for change in ({"host": "host2"}, {"ended_at": NOW, "ending": "stopped"}):
        stage = Stage(LENIENT)
        begun = Execution("cd" * 16, DOMAIN.uuid, "web01", "host1", Origin.START, "", "", NOW)
        with stage.records.transaction() as record:
            record.put_execution(replace(begun, **change))  # type: ignore[arg-type]
        assert patched_to_what_nobody_lists(stage, None).against


@pytest.mark.parametrize(
    "policy", [Policy(IGNORED), Policy(LENIENT, exceptions=(WAIVED,))], ids=["ignored", "exception"]
)
def test_where_the_floor_does_not_count_an_unlisted_version_stands_against_nothing(policy: Policy) -> None:
    stage = Stage(policy=policy)
    standing = patched_to_what_nobody_lists(stage, Origin.REVERT)
    assert (standing.judgement.action, standing.against) == (Action.ALLOW, ())
    stage.scanner.found |= {CURRENT: PATCHED, BEFORE.name: UNLISTED}
    comeback = stage.check()
    assert comeback.unproven == ("openssl",), "it is told all the same"
    assert not [problem for problem in comeback.problems if "no index lists it" in problem]
    assert not [reason for reason in comeback.reasons if "no index lists it" in reason]


def test_a_snapshot_with_an_unlisted_version_meets_what_its_start_would() -> None:
    """`unknown: allow` does not lift what a state below the floor meets."""
    stage = Stage(LENIENT)
    stage.scanner.found[BEFORE.name] = UNLISTED
    comeback = stage.check()
    assert comeback.action is comeback.judgement.action is Action.QUARANTINE
    assert "no trusted source lists the installed version of openssl" in comeback.reasons[0]
    assert Stage().check().action is Action.REFUSE, "control"


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


def test_what_it_reads_is_on_record_with_its_credentials() -> None:
    stage = Stage()
    stage.check()
    with stage.records.reading() as record:
        for key in (f"machine:{DOMAIN.uuid}", f"snapshot:{DOMAIN.uuid}:{BEFORE.name}"):
            scan = record.scan(key)
            assert scan is not None
            assert scan.scanned_at == NOW
            assert record.credentials(scan.credentials) == Credentials()


def test_what_the_agent_has_read_since_stays_on_record() -> None:
    stage = Stage()
    later = Scan(f"machine:{DOMAIN.uuid}", "", "", "", "", "", (), (), NOW + timedelta(seconds=1))
    with stage.records.transaction() as record:
        record.put_scan(later)
    stage.check()
    with stage.records.reading() as record:
        assert record.scan(later.subject) == later
