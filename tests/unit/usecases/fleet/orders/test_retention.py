"""Snapshots past their age: listed from the record, removed by an explicit command only."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from comebackdata import BEFORE, DOMAIN, NOW, UUID, Scene

from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.model.credentials import Credentials, Secret
from undercroft.model.domain import DomainSnapshot, Survey
from undercroft.model.fleet import Scan
from undercroft.steady.policy import Policy, Setting, Settings
from undercroft.usecases.fleet.orders.examine import Order
from undercroft.usecases.fleet.orders.retention import chosen, remove, review

POLICY = Policy(Settings(snapshots_max_age=Setting(timedelta(days=90), "policy.yaml:2")))
CHILD = DomainSnapshot("later", BEFORE.name, BEFORE.created_at_s + 60, "running", "internal")


@pytest.fixture
def scene() -> Scene:
    scene = Scene(replace(DOMAIN, snapshots=(BEFORE, CHILD)))
    with scene.records.transaction() as record:
        digest = record.put_credentials(Credentials(secrets=(Secret("/root/token", "token"),)))
        for key, found in (
            (f"machine:{UUID}", record.put_credentials(Credentials())),
            (f"snapshot:{UUID}:{BEFORE.name}", digest),
        ):
            record.put_scan(Scan(key, "", "", found, "", "", (), (), NOW))
    return scene


def order(reason: str = "past 90 days") -> Order:
    return Order("alice", NOW, reason)


def test_the_record_says_which_are_past_and_what_only_they_hold(scene: Scene) -> None:
    before, later = review(scene.records, POLICY, NOW)
    assert (before.past, before.children) == (True, ("later",))
    assert [(secret.path, secret.only_here) for secret in before.secrets] == [("/root/token", True)]
    assert later.problems


def test_one_machine_is_named_by_name_or_uuid(scene: Scene) -> None:
    assert review(scene.records, POLICY, NOW, "web01") == review(scene.records, POLICY, NOW, UUID)
    with pytest.raises(NotFoundError, match="web02: no machine"):
        review(scene.records, POLICY, NOW, "web02")


def test_a_review_removes_nothing(scene: Scene) -> None:
    review(scene.records, POLICY, NOW)
    assert scene.fleet.calls == []


def test_children_are_removed_before_their_parents_and_each_is_on_record(scene: Scene) -> None:
    kept = review(scene.records, POLICY, NOW)
    remove(scene.records, scene.fleet, chosen(kept, [BEFORE.name, "later"], "web01"), order())
    assert [argument for _, _, argument in scene.fleet.calls] == ["later", BEFORE.name]
    lines = [json.loads(body) for body in scene.logged("retention")]
    assert [(line["snapshot"], line["outcome"]) for line in lines] == [
        ("later", "ordered"),
        ("later", "removed"),
        (BEFORE.name, "ordered"),
        (BEFORE.name, "removed"),
    ]
    assert lines[0]["by"] == "alice"


def test_a_name_that_nobody_has_removes_nothing(scene: Scene) -> None:
    with pytest.raises(NotFoundError, match="it has: 'before-upgrade', 'later'"):
        chosen(review(scene.records, POLICY, NOW), ["later", "never"], "web01")


def test_without_a_reason_nothing_is_removed(scene: Scene) -> None:
    with pytest.raises(InputError, match="--reason"):
        remove(scene.records, scene.fleet, review(scene.records, POLICY, NOW), order(" "))
    assert scene.fleet.calls == []


def test_a_snapshot_that_was_taken_anew_is_not_removed(scene: Scene) -> None:
    kept = review(scene.records, POLICY, NOW)
    anew = replace(CHILD, created_at_s=CHILD.created_at_s + 9)
    scene.fleet.change(replace(DOMAIN, snapshots=(BEFORE, anew)))
    with pytest.raises(StateError, match="look again"):
        remove(scene.records, scene.fleet, chosen(kept, ["later"], "web01"), order())
    assert scene.fleet.calls == []


def test_a_removal_that_fails_stops_and_is_on_record(scene: Scene) -> None:
    kept = chosen(review(scene.records, POLICY, NOW), ["later", BEFORE.name], "web01")
    scene.fleet.fail("no libvirtd here")
    with pytest.raises(OperationError):
        remove(scene.records, scene.fleet, kept, order())
    assert json.loads(scene.logged("retention")[-1])["outcome"] == "failed"


def test_a_machine_that_is_gone_has_no_snapshots_to_remove(scene: Scene) -> None:
    with scene.records.transaction() as record:
        record.put_survey(Survey("host1", "memory:", NOW, ()))
    assert review(scene.records, POLICY, NOW) == ()
