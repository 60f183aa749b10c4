"""Out of quarantine: only where a fresh look stands nothing against it, or by an override on record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from advisorydata import inventory, package
from comebackdata import NOW, PATCHED, UNPATCHED, UUID, Scene, look

from undercroft.errors import DeniedError, InputError, OperationError, StateError
from undercroft.model.channel import Reseed
from undercroft.model.execution import Execution, Origin
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Outcome, RuleResult
from undercroft.usecases.fleet.orders.examine import RELEASE_VALID, Order
from undercroft.usecases.fleet.orders.release import carry_out, check


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.put_hold()
    return scene


def standing_of(scene: Scene):
    return check(scene.records, scene.machine, examiner=scene.examiner, now=lambda: NOW)


def release(scene: Scene, standing, tmp_path: Path, **order: object) -> None:
    carry_out(scene.records, scene.taps, standing, Order("alice", NOW, **order), state=tmp_path)


def is_held(scene: Scene) -> bool:
    with scene.records.reading() as record:
        assert bool(record.holds()) == scene.taps.is_held("vnet1")
        return bool(record.holds())


def below_its_floor(scene: Scene) -> None:
    """Let the machine have been patched, and be unpatched now."""
    scene.examiner.looks[CURRENT] = look(PATCHED)
    standing_of(scene)
    scene.examiner.looks[CURRENT] = look(UNPATCHED)


def test_a_machine_above_its_floor_is_released(scene: Scene, tmp_path: Path) -> None:
    standing = standing_of(scene)
    assert standing.against == ()
    release(scene, standing, tmp_path, reason="patched")
    assert not is_held(scene)
    assert json.loads(scene.logged("release")[-1])["outcome"] == "done"
    assert '"released by alice: patched"' in scene.logged("hold")[-1]


def test_a_machine_below_its_floor_stays(scene: Scene, tmp_path: Path) -> None:
    below_its_floor(scene)
    standing = standing_of(scene)
    with pytest.raises(
        DeniedError, match=r"stays in quarantine: it is below its patch floor: it has 1 vuln.*exception"
    ):
        release(scene, standing, tmp_path, reason="please")
    assert is_held(scene)
    assert json.loads(scene.logged("release")[-1])["outcome"] == "refused"


def test_an_override_is_on_record(scene: Scene, tmp_path: Path) -> None:
    below_its_floor(scene)
    release(scene, standing_of(scene), tmp_path, reason="no time", anyway=True)
    assert not is_held(scene)
    with scene.records.reading() as record:
        intent = record.intent(UUID, "release", NOW)
    assert intent is not None
    assert (intent.overrides, intent.reason) == (True, "no time")
    assert intent.until - NOW == RELEASE_VALID


@pytest.mark.parametrize("anyway", [False, True])
def test_without_a_reason_nothing_is_released(scene: Scene, tmp_path: Path, *, anyway: bool) -> None:
    with pytest.raises(InputError, match="--reason"):
        release(scene, standing_of(scene), tmp_path, anyway=anyway)
    assert is_held(scene)


@pytest.mark.parametrize(
    "found",
    [
        OperationError("another job holds it"),
        look(None, None, "unread"),
        look(PATCHED, None, "vda2: unread"),
        look(inventory(package("openssl", "999:1"))),
    ],
    ids=["not to be opened", "nothing read", "not whole", "999:"],
)
def test_what_cannot_be_judged_stays(scene: Scene, tmp_path: Path, found) -> None:
    standing_of(scene)  # it was patched once
    scene.examiner.looks[CURRENT] = found
    with pytest.raises(DeniedError):
        release(scene, standing_of(scene), tmp_path, reason="please")
    assert is_held(scene)


def test_what_a_start_would_not_be_allowed_stays(scene: Scene, tmp_path: Path) -> None:
    scene.examiner.action = Action.QUARANTINE
    scene.examiner.results = (RuleResult("end-of-life", Outcome.FAIL, "its release has ended", "default"),)
    standing = standing_of(scene)
    assert standing.against == ("its release has ended",)
    with pytest.raises(DeniedError):
        release(scene, standing, tmp_path, reason="please")


def lives(scene: Scene) -> None:
    """Let the machine's execution be on record."""
    with scene.records.transaction() as record:
        machine = scene.machine
        (hold,) = record.holds()
        record.put_execution(
            Execution(hold.eid, UUID, machine.domain.name, machine.host, Origin.START, "", "", NOW)
        )


def test_where_its_guest_has_to_be_fresh_first_only_an_override_opens_it(
    scene: Scene, tmp_path: Path
) -> None:
    lives(scene)
    scene.examiner.fresh = True
    standing = standing_of(scene)
    assert standing.against == ("its guest has not confirmed fresh randomness: undercroft channel status",)
    with pytest.raises(DeniedError, match="fresh randomness"):
        release(scene, standing, tmp_path, reason="patched")
    release(scene, standing, tmp_path, reason="no helper in it", anyway=True)
    assert not is_held(scene)


def test_one_that_has_confirmed_in_this_execution_is_released(scene: Scene, tmp_path: Path) -> None:
    lives(scene)
    scene.examiner.fresh = True
    with scene.records.transaction() as record:
        (hold,) = record.holds()
        record.put_reseed(Reseed(hold.eid, UUID, 1, True, 64, 0, 0, 40, NOW))
    assert standing_of(scene).against == ()


def test_one_that_was_put_back_since_it_was_checked_stays(scene: Scene, tmp_path: Path) -> None:
    standing = standing_of(scene)
    assert standing.against == ()
    with scene.records.transaction() as record:
        record.put_hold(replace(standing.hold, reseed=True))
    with pytest.raises(StateError, match="check again"):
        release(scene, standing, tmp_path, reason="patched")
    assert is_held(scene)


def test_a_machine_that_is_not_held_cannot_be_released() -> None:
    with pytest.raises(StateError, match="not closed"):
        standing_of(Scene())


def test_a_hold_that_is_another_since_the_check_stays(scene: Scene, tmp_path: Path) -> None:
    standing = standing_of(scene)
    with scene.records.transaction() as record:
        record.drop_hold(UUID, "restarted", NOW)
    scene.taps.held.clear()
    with pytest.raises(StateError, match="another since"):
        release(scene, standing, tmp_path, reason="patched")


def test_a_tap_that_cannot_be_opened_stays_on_record_and_in_the_log(scene: Scene, tmp_path: Path) -> None:
    scene.taps.failure = OperationError("vnet1: no bridge")
    with pytest.raises(OperationError):
        release(scene, standing_of(scene), tmp_path, reason="patched")
    assert is_held(scene)
    assert json.loads(scene.logged("release")[-1])["outcome"] == "failed"
    with scene.records.reading() as record:
        assert record.intent(UUID, "release", NOW) is None
