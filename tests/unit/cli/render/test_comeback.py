"""What a revert brings back, as people and programs see it; whatever a guest wrote is escaped."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import fleetdata
import jsonschema
import pytest
from comebackdata import BEFORE, CVE, PATCHED, UNPATCHED, Scene, look
from memoryrecords import MemoryRecords
from reports import EVIL

from undercroft.cli.render.comeback import render_comeback, render_standing
from undercroft.cli.render.data import render_value, render_values
from undercroft.cli.render.retention import render_removal, render_retention
from undercroft.cli.render.terminal import Terminal
from undercroft.errors import OperationError
from undercroft.model.comeback import (
    Comeback,
    CredentialKind,
    CredentialReturning,
    CredentialsBack,
    Returning,
)
from undercroft.model.report import CURRENT
from undercroft.model.retention import KeptKey, KeptSecret
from undercroft.steady.policy import Policy, Setting, Settings
from undercroft.usecases.fleet.orders.release import check as check_release
from undercroft.usecases.fleet.orders.retention import review

SCHEMAS = Path(__file__).parents[4] / "docs/schema"
WIDE, NARROW = Terminal(100), Terminal(60)


def checked(text: str, schema: str) -> Any:
    """Return a document that is what its JSON Schema documents."""
    document = json.loads(text)
    documented = json.loads((SCHEMAS / f"{schema}-v1.json").read_text())
    for place in (documented, *documented["$defs"].values()):
        if place["type"] == "object":
            place["additionalProperties"] = False
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(documented, format_checker=checker).validate(document)
    return document


@pytest.fixture
def comeback() -> Comeback:
    return Scene().check()


def test_the_answer_comes_first_then_what_would_return_then_who_would(comeback: Comeback) -> None:
    lines = render_comeback(comeback, WIDE).splitlines()
    assert lines[1] == "REFUSED  it would bring back 1 vulnerability that was fixed"
    text = "\n".join(lines)
    assert text.index(CVE) < text.index("account left") < text.index("authorized key SHA256:left of left")
    assert "The snapshot has 1 finding: 1 that the present state has not" in text


def test_known_exploited_ones_are_marked_in_words(comeback: Comeback) -> None:
    exploited = replace(comeback.returning[0], known_exploited_on=date(2024, 1, 1))
    assert "known to be exploited" in render_comeback(replace(comeback, returning=(exploited,)), WIDE)


def test_a_release_that_goes_back_says_so(comeback: Comeback) -> None:
    back = Returning("", "", "debian:11", "debian:12", "debian:12")
    assert "the release goes back" in render_comeback(replace(comeback, returning=(back,)), WIDE)


def test_a_long_list_is_shortened_unless_all_is_asked_for(comeback: Comeback) -> None:
    many = replace(comeback, returning=comeback.returning * 30)
    assert "and 10 more; -v lists all" in render_comeback(many, WIDE)
    assert render_comeback(many, WIDE, verbose=True).count(CVE) == 30


def test_what_was_not_read_is_never_shown_as_nothing() -> None:
    scene = Scene()
    scene.examiner.looks[BEFORE.name] = OperationError("the sandbox died")
    text = render_comeback(scene.check(), WIDE)
    assert "REFUSED  it cannot be judged: the sandbox died" in text
    assert "How the findings differ is unknown." in text
    assert "INCOMPLETE" in text


def test_a_revert_that_may_be_done_says_so() -> None:
    scene = Scene()
    scene.examiner.looks[BEFORE.name] = look(PATCHED)
    text = render_comeback(scene.check(), WIDE)
    assert "MAY BE REVERTED  nothing that was fixed would return" in text
    assert "Both states have the same 0 findings." in text


@pytest.mark.parametrize("terminal", [WIDE, NARROW, Terminal()])
def test_nothing_that_a_guest_wrote_reaches_the_terminal(comeback: Comeback, terminal: Terminal) -> None:
    found = tuple(CredentialReturning(kind, EVIL, EVIL, "was removed", EVIL) for kind in CredentialKind)
    hostile = replace(
        comeback,
        snapshot=EVIL,
        returning=(replace(comeback.returning[0], source=EVIL, installed_version=EVIL),),
        credentials=CredentialsBack(found, 1, (EVIL,)),
        reasons=(EVIL, EVIL),
        problems=(EVIL,),
    )
    texts = [
        render_comeback(hostile, terminal, verbose=True),
        render_value("undercroft/comeback/1", hostile, "json"),
        render_value("undercroft/comeback/1", hostile, "yaml"),
    ]
    checked(render_value("undercroft/comeback/1", hostile, "json", complete=False), "comeback")
    for text in texts:
        assert not set(text) & {"\x1b", "\u202e", "\udcff"}
        assert "evil" in text


def test_the_document_for_programs_has_everything(comeback: Comeback) -> None:
    document = checked(render_value("undercroft/comeback/1", comeback, "json", complete=True), "comeback")
    assert document["complete"]
    assert document["action"] == "refuse"
    assert document["returning"][0]["vulnerability"] == CVE
    assert document["credentials"]["returning"][0]["name"] == "left"


def test_a_standing_says_what_stands_against_a_release() -> None:
    scene = Scene()
    scene.put_hold()

    def text() -> str:
        found = check_release(
            scene.records, scene.machine, examiner=scene.examiner, now=lambda: scene.machine.last_seen
        )
        checked(render_value("undercroft/standing/1", found, "json"), "standing")
        return render_standing(found, WIDE)

    assert "MAY BE RELEASED" in text()
    scene.examiner.looks[CURRENT] = look(UNPATCHED)
    assert "STAYS  it is below its patch floor: it has 1 vulnerability that was fixed" in text()


@pytest.fixture
def kept():
    records = MemoryRecords()
    fleetdata.fill(records)
    policy = Policy(Settings(snapshots_max_age=Setting(timedelta(days=30), "policy.yaml:2")))
    return review(records, policy, fleetdata.NOW)


def test_snapshots_past_their_age_come_first(kept) -> None:
    lines = render_retention(kept, WIDE).splitlines()
    assert lines[0] == "6 snapshots, 2 past the policy's age"
    assert [line.split()[0] for line in lines[3:5]] == ["db01@clean", "web01@installed"]


def test_what_was_not_read_of_a_snapshot_is_a_question_mark(kept) -> None:
    (row,) = [line for line in render_retention(kept, WIDE).splitlines() if line.startswith("app01@warm ")]
    assert row.split()[-3:] == ["?", "?", "host1"]


def test_keys_that_open_and_secrets_that_only_the_snapshot_has_are_named(kept) -> None:
    one = replace(
        kept[0],
        keys=(KeptKey("deploy", "SHA256:d", only_here=True, opens=("root on db01",)),),
        secrets=(KeptSecret(EVIL, EVIL, only_here=True),),
        problems=(EVIL,),
    )
    text = render_retention((one,), NARROW)
    assert "lets in as root on db01" in text
    assert not set(text) & {"\x1b", "\u202e", "\udcff"}
    document = render_values("undercroft/retention/1", "snapshots", (one, *kept), "json", past=1)
    assert checked(document, "retention")["snapshots"][0]["keys"][0]["opens"] == ["root on db01"]


def test_a_removal_names_what_hangs_on_the_snapshot_first(kept) -> None:
    text = render_removal((replace(kept[0], children=("later",), lives=("ab" * 16,)),), WIDE)
    assert "later was taken from it, and stays" in text
    assert f"a live execution began from it: {'ab' * 16}" in text


def test_a_fleet_without_snapshots_says_so() -> None:
    assert render_retention((), WIDE) == "No snapshot is on record.\n"
