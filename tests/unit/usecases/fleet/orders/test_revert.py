"""A guarded revert: what would come back, the decision, and what happens to the running guest."""

import itertools
import json
import math
from contextlib import suppress
from dataclasses import replace

import comebackdata
import pytest
from advisorydata import inventory, package
from comebackdata import BEFORE, CVE, DOMAIN, NEW, NOW, OLD, PATCHED, UNPATCHED, UUID, Scene, look

from undercroft.errors import (
    BusyError,
    DeniedError,
    InputError,
    NotFoundError,
    OperationError,
    StateError,
    UnsupportedError,
)
from undercroft.model.comeback import CredentialKind
from undercroft.model.domain import Power
from undercroft.model.report import CURRENT
from undercroft.model.schema import encode
from undercroft.model.verdict import Action, Outcome, RuleResult, Verdict
from undercroft.usecases.fleet.orders.examine import Order
from undercroft.usecases.fleet.orders.revert import carry_out


@pytest.fixture
def scene() -> Scene:
    return Scene()


def intent_of(scene: Scene):
    with scene.records.reading() as record:
        return record.intent(UUID, "revert", NOW)


def test_what_was_fixed_and_what_was_taken_away_would_come_back(scene: Scene) -> None:
    comeback = scene.check()
    (item,) = comeback.returning
    assert (item.vulnerability, item.installed_version, item.floor_version) == (CVE, OLD, NEW)
    assert comeback.findings is not None
    assert (comeback.findings.total, comeback.findings.back, comeback.findings.fixable) == (1, 1, 1)
    assert [(found.kind, found.name) for found in comeback.credentials.returning] == [
        (CredentialKind.ACCOUNT, "left"),
        (CredentialKind.AUTHORIZED_KEY, "SHA256:left"),
    ]
    assert comeback.action is Action.REFUSE
    assert comeback.reasons == ("it would bring back 1 vulnerability that was fixed",)


def test_a_comeback_is_json(scene: Scene) -> None:
    assert json.loads(json.dumps(encode(scene.check())))["action"] == "refuse"


def test_below_the_floor_is_refused_and_the_running_guest_untouched(scene: Scene) -> None:
    comeback = scene.check()
    with pytest.raises(DeniedError, match=r"web01: not reverted to 'before-upgrade': .*--anyway"):
        scene.carry_out(comeback)
    assert scene.reverts == []
    assert scene.fleet.domain(UUID).libvirt_id == DOMAIN.libvirt_id
    (body,) = scene.logged("revert")
    assert json.loads(body)["outcome"] == "refused"


def test_control_libvirt_itself_reverts_below_the_floor(scene: Scene) -> None:
    scene.fleet.revert(UUID, BEFORE.name)
    assert scene.fleet.domain(UUID).libvirt_id != DOMAIN.libvirt_id


def test_a_machine_that_never_had_the_patch_may_go_back(scene: Scene) -> None:
    scene.examiner.looks[CURRENT] = look(UNPATCHED)
    comeback = scene.check()
    assert (comeback.action, comeback.reasons, comeback.returning) == (Action.ALLOW, (), ())
    scene.carry_out(comeback)
    assert scene.reverts == [BEFORE.name]


def test_what_was_fixed_after_the_last_scan_counts(scene: Scene) -> None:
    with scene.records.reading() as record:
        assert record.floor(UUID).entries == ()
    assert scene.check().action is Action.REFUSE
    with scene.records.reading() as record:
        assert [entry.version for entry in record.floor(UUID).entries] == [NEW]
    assert len(scene.logged("floor")) == 1
    scene.check()
    assert len(scene.logged("floor")) == 1, "the same state raises it once"


def test_a_machine_whose_present_state_is_lost_is_held_to_the_floor_on_record(scene: Scene) -> None:
    scene.check()
    scene.examiner.looks[CURRENT] = OperationError("vda: no filesystem")
    comeback = scene.check()
    assert comeback.action is Action.REFUSE
    assert comeback.returning
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    comeback = scene.check()
    assert comeback.action is Action.ALLOW, "what snapshots are kept for"
    assert comeback.problems == ("the present state: vda: no filesystem",)


def test_a_machine_of_which_nothing_was_ever_read_is_not_judged(scene: Scene) -> None:
    scene.examiner.looks = {CURRENT: OperationError("gone"), BEFORE.name: look(UNPATCHED)}
    comeback = scene.check()
    assert comeback.action is Action.REFUSE
    assert "never read" in comeback.reasons[0]


def test_an_override_needs_a_reason_and_goes_on_record_before_libvirt_is_asked(scene: Scene) -> None:
    comeback = scene.check()
    with pytest.raises(InputError, match="--reason"):
        scene.carry_out(comeback, anyway=True, reason=" ")
    assert scene.reverts == []
    intents: list = []
    scene.fleet.on_start = lambda _domain, _way: intents.append(intent_of(scene))
    scene.carry_out(comeback, anyway=True, reason="lost the database")
    (found,) = intents
    assert (found.state, found.by, found.reason, found.overrides) == (
        BEFORE.name,
        "alice",
        "lost the database",
        True,
    )
    assert json.loads(scene.logged("revert")[-1])["outcome"] == "done"
    with scene.records.reading() as record:
        assert record.intent(UUID, "revert", found.until) is not None
        assert record.intent(UUID, "revert", found.until.replace(year=2027)) is None


def test_anyway_where_nothing_stands_against_it_overrides_nothing_and_counts_for_no_other_start(
    scene: Scene,
) -> None:
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    intents: list = []
    scene.fleet.on_start = lambda _domain, _way: intents.append(intent_of(scene))
    scene.carry_out(scene.check(), anyway=True)
    (found,) = intents
    assert (found.state, found.overrides) == (BEFORE.name, False)
    assert intent_of(scene) is None


def test_a_quarantine_is_carried_out(scene: Scene) -> None:
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    scene.examiner.action, scene.examiner.verdict = Action.QUARANTINE, Verdict.DRIFTING
    scene.examiner.results = (RuleResult("end-of-life", Outcome.FAIL, "its release has ended", "default"),)
    comeback = scene.check()
    assert (comeback.action, comeback.reasons) == (Action.QUARANTINE, ("its release has ended",))
    scene.carry_out(comeback)
    assert scene.reverts == [BEFORE.name]


def test_what_the_policy_refuses_is_refused_though_it_is_above_the_floor(scene: Scene) -> None:
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    scene.examiner.action = Action.REFUSE
    with pytest.raises(DeniedError):
        scene.carry_out(scene.check())


@pytest.mark.parametrize("outcome", [Outcome.EXCEPTED, Outcome.PASS])
def test_a_policy_that_lets_the_floor_pass_lets_the_revert_pass(scene: Scene, outcome: Outcome) -> None:
    scene.examiner.results = (RuleResult("floor", outcome, "an exception", "policy.yaml:3"),)
    comeback = scene.check()
    assert comeback.action is Action.ALLOW
    assert comeback.returning, "it is shown all the same"


@pytest.mark.parametrize(
    "found",
    [
        OperationError("two snapshots bear the name"),
        look(None, None, "vda2: unread"),
        look(PATCHED, None, "vda2: unread"),
        replace(look(PATCHED), assessment=None),
    ],
    ids=["not to be opened", "nothing read", "not whole", "not assessed"],
)
def test_what_cannot_be_judged_is_refused_unless_the_policy_says_else(scene: Scene, found) -> None:
    scene.examiner.looks[BEFORE.name] = found
    comeback = scene.check()
    assert comeback.action is Action.REFUSE
    assert comeback.problems
    scene.examiner.unknown = Action.ALLOW
    assert scene.check().action is Action.ALLOW


def test_999_in_the_snapshots_database_does_not_pass_as_patched(scene: Scene) -> None:
    scene.examiner.looks[BEFORE.name] = look(inventory(package("openssl", "999:1")))
    comeback = scene.check()
    assert (comeback.returning, comeback.unproven) == ((), ("openssl",))
    assert comeback.action is Action.REFUSE


def test_999_in_the_present_state_does_not_lift_the_floor(scene: Scene) -> None:
    scene.examiner.looks[CURRENT] = look(inventory(package("openssl", "999:1")))
    assert scene.check().returning == ()
    with scene.records.reading() as record:
        assert record.floor(UUID).entries == ()


def test_a_snapshot_that_libvirt_lacks_is_not_found_with_those_that_it_has(scene: Scene) -> None:
    with pytest.raises(NotFoundError, match=r"no snapshot 'nightly'.*'before-upgrade'"):
        scene.check("nightly")


def test_a_snapshot_that_was_taken_anew_since_the_check_is_not_reverted_to(scene: Scene) -> None:
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    comeback = scene.check()
    scene.fleet.change(replace(DOMAIN, snapshots=(replace(BEFORE, created_at_s=BEFORE.created_at_s + 9),)))
    with pytest.raises(StateError, match="check again"):
        scene.carry_out(comeback)
    assert scene.reverts == []


def test_a_revert_that_fails_in_libvirt_leaves_no_intent_and_says_so(scene: Scene) -> None:
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    comeback = scene.check()

    def refuse(_domain, _way) -> None:
        raise OperationError("revert to external snapshot not supported yet")

    scene.fleet.on_start = refuse
    with pytest.raises(OperationError, match="not supported yet"):
        scene.carry_out(comeback)
    assert intent_of(scene) is None
    last = json.loads(scene.logged("revert")[-1])
    assert (last["outcome"], last["detail"]) == ("failed", "revert to external snapshot not supported yet")


def test_a_machine_may_be_left_paused(scene: Scene) -> None:
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    scene.carry_out(scene.check(), paused=True)
    assert scene.fleet.domain(UUID).power is Power.PAUSED


def test_both_states_are_read_anew(scene: Scene) -> None:
    scene.check()
    assert scene.examiner.seen == [CURRENT, BEFORE.name]


def test_an_answer_without_credentials_says_that_it_is_not_whole(scene: Scene) -> None:
    scene.examiner.looks[BEFORE.name] = replace(look(PATCHED), credentials=None)
    comeback = scene.check()
    assert comeback.credentials.problems == ("then: accounts and keys could not be read",)
    assert comebackdata.LEFT not in comeback.credentials.returning


def test_what_the_policy_says_of_the_floor_is_not_said_twice(scene: Scene) -> None:
    scene.examiner.action = Action.QUARANTINE
    scene.examiner.results = (RuleResult("floor", Outcome.FAIL, "it lacks what it had", "default"),)
    assert scene.check().reasons == ("it would bring back 1 vulnerability that was fixed",)


class Failing:
    """A record whose database fails at the nth transaction that writes."""

    def __init__(self, records, number: int) -> None:
        self._records = records
        self._left = number

    def transaction(self):
        self._left -= 1
        if self._left == 0:
            raise OperationError("disk full")
        return self._records.transaction()

    def reading(self):
        return self._records.reading()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_database_that_fails_at_any_point_leaves_no_revert_off_the_record(
    scene: Scene, number: int
) -> None:
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    comeback = scene.check()
    with suppress(OperationError):
        carry_out(Failing(scene.records, number), scene.fleet, comeback, Order("alice", NOW))
    assert len(scene.reverts) <= len(scene.logged("revert"))
    assert (number == 1) == (scene.reverts == [])


def test_a_refusal_that_cannot_be_logged_is_no_revert(scene: Scene) -> None:
    comeback = scene.check()
    with pytest.raises(OperationError):
        carry_out(Failing(scene.records, 1), scene.fleet, comeback, Order("alice", NOW))
    assert scene.reverts == []


def test_a_snapshot_that_is_called_like_the_present_state_is_never_judged_in_its_place() -> None:
    hidden = replace(BEFORE, name=CURRENT)
    scene = Scene(replace(DOMAIN, snapshots=(hidden,)))
    with pytest.raises(UnsupportedError, match=r"cannot be told from .*--rename"):
        scene.check(CURRENT)
    assert scene.examiner.seen == []
    assert scene.reverts == []


def held(scene: Scene, monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    """Have a scan hold the machine for the next tries."""
    revert, tries = scene.fleet.revert, itertools.count()

    def refused(uuid: str, snapshot: str, *, paused: bool = False) -> None:
        if next(tries) < times:
            raise BusyError("machine web01: a scan holds its disks")
        revert(uuid, snapshot, paused=paused)

    monkeypatch.setattr(scene.fleet, "revert", refused)


def test_a_revert_waits_for_the_scan_that_holds_the_machine(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.examiner.looks[CURRENT] = look(UNPATCHED)
    held(scene, monkeypatch, 3)
    scene.carry_out(scene.check())
    assert scene.reverts == [BEFORE.name]
    assert scene.told == ["web01: waiting for the scan that holds its disks to end, at most 20 s"]
    assert len(scene.waited_s) == 3
    assert json.loads(scene.logged("revert")[-1])["outcome"] == "done"


def test_a_revert_gives_up_on_a_scan_that_does_not_end_with_the_guest_untouched(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.examiner.looks[CURRENT] = look(UNPATCHED)
    held(scene, monkeypatch, math.inf)
    with pytest.raises(BusyError, match="a scan holds its disks"):
        scene.carry_out(scene.check())
    assert scene.reverts == []
    assert sum(scene.waited_s) < 20
    assert json.loads(scene.logged("revert")[-1])["outcome"] == "failed"
    assert intent_of(scene) is None
