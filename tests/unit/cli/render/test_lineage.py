"""The tree in the terminal, as data and as a picture."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from fleetdata import NOW
from lives import World
from memoryrecords import MemoryRecords

from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.lineage import render_lineage, render_lineage_data
from undercroft.cli.render.lineagesvg import render_svg
from undercroft.cli.render.terminal import Terminal
from undercroft.lineage.tree import Tree, build
from undercroft.model.execution import Execution, Origin
from undercroft.model.verdict import Action, Decision
from undercroft.usecases.fleet.views.values import CheckpointView

HOSTILE = "after <up&grade>'\"]]>\x1b[31m\u202e\x00\ufffe"


def _tree(world: World, decisions: tuple[Decision, ...] = ()) -> Tree:
    with world.records.reading() as record:
        return build(world.machines[0].uuid, record.executions(), record.states(), decisions)


@pytest.fixture
def world() -> World:
    """A machine that was upgraded, rolled back twice, and copied."""
    world = World(MemoryRecords())
    web = world.machine("web01")
    for _time in range(6):
        world.start(web)
        world.stop(web)
    world.start(web)
    snap = world.snapshot(web, "before-upgrade")
    world.stop(web)
    world.start(web)
    world.snapshot(web, HOSTILE)
    world.revert(web, snap)
    world.revert(web, snap)
    world.stop(web)
    world.start(world.clone(web, "web02"))
    world.start(web)
    return world


def test_the_way_to_here_stands_at_the_left_and_what_was_rolled_back_branches_off(world: World) -> None:
    lines = render_lineage(_tree(world), "web01", Terminal(width=80)).splitlines()
    shown = [line[:34].rstrip() for line in lines]
    assert shown == [
        "web01  12 executions, 2 running, 2",
        "",
        "EXECUTION",
        "○ first start",
        "○ 5 starts",
        "○ start",
        "│ ◇ snapshot before-upgrade",
        "├─◌ start",
        shown[8],
        "├─◌ reverted to before-upgrade",
        "○ reverted to before-upgrade",
        "├─● web02: clone of web01",
        "● start ◀ here",
    ]
    assert shown[8].startswith("│   ◇ snapshot aft")


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal_and_none_holds_what_a_guest_could_abuse(
    world: World, width: int, unicode: bool
) -> None:
    text = render_lineage(_tree(world), HOSTILE, Terminal(width=width, unicode=unicode))
    assert all(cell_width(line) <= width for line in text.splitlines())
    assert not {"\x1b", "\u202e", "\x00"} & set(text)
    assert unicode or text.isascii()


def test_all_lists_every_start(world: World) -> None:
    text = render_lineage(_tree(world), "web01", Terminal(width=120), everything=True)
    assert "5 starts" not in text
    assert text.count("○ start") == 6


def test_decisions_refusals_and_hints_are_shown(world: World) -> None:
    executions = world.executions()
    eid = next(eid for eid, known in executions.items() if known.origin is Origin.REVERT)
    known = executions[eid]
    quarantined = Decision(
        "1", known.machine, "web01", eid, Action.QUARANTINE, False, "", known.started_at, "agent"
    )
    refused = replace(quarantined, ident="2", eid="none", action=Action.REFUSE, reason="below its floor")
    tree = _tree(world, (quarantined, refused))
    text = render_lineage(tree, "web01", Terminal(width=140), hints={eid: "3 come back"})
    picture = render_svg(tree, "web01", hints={eid: "3 come back"})
    for shown in (text, picture):
        assert "quarantined" in shown
        assert "start refused" in shown
        assert "below its floor" in shown
        assert "3 come back" in shown
    assert '<circle class="ring"' in picture
    assert '<path class="no"' in picture


def test_what_is_not_certain_has_a_question_mark_and_its_evidence_in_the_data(world: World) -> None:
    web = world.machines[0]
    world.stop(web)
    world.tamper(web)
    world.start(web)
    tree = _tree(world)
    assert "start, disks changed meanwhile ?" in render_lineage(tree, "web01", Terminal(width=120))
    document = json.loads(render_lineage_data(tree, "web01", "json"))
    assert document["schema"] == "undercroft/lineage/1"
    last = document["executions"][-1]
    assert last["here"] is True
    assert last["execution"]["certain"] is False
    assert any("off, into no state" in line for line in last["execution"]["evidence"])


def test_an_empty_record_says_so() -> None:
    text = render_lineage(build("u", ()), "web01", Terminal(width=80))
    assert "No execution is on record yet." in text
    ElementTree.fromstring(render_svg(build("u", ()), "web01"))


def test_the_picture_is_one_sound_document_whatever_the_names(world: World) -> None:
    picture = render_svg(_tree(world), HOSTILE)
    root = ElementTree.fromstring(picture)
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("after <up&grade>") for text in texts)
    assert any("snapshot after <up&grade>" in text for text in texts)
    assert not {"script", "a", "image", "use", "foreignObject"} & {
        element.tag.rpartition("}")[2] for element in root.iter()
    }
    assert not {"\x1b", "\u202e", "\x00"} & set(picture)
    assert "href" not in picture


def test_equal_trees_give_equal_pictures(world: World) -> None:
    first, second = _tree(world), _tree(world)
    assert render_svg(first, "web01") == render_svg(second, "web01")


def test_deep_and_wide_trees_are_shown_without_recursion(world: World) -> None:
    like = next(iter(world.executions().values()))

    def ran(number: int, parent: int) -> Execution:
        at = like.started_at.replace(microsecond=number)
        return replace(
            like, eid=f"{number:06}", parent=f"{parent:06}", origin=Origin.REVERT, started_at=at, ended_at=at
        )

    # A comb: each execution is the first child of the one before, and the second one goes on.
    executions = [ran(number, (number - 1) // 2) for number in range(1, 4001)]
    tree = build(like.machine, executions)
    text = render_lineage(tree, "web01", Terminal(width=80))
    assert text.count("reverted") == 4000
    assert render_svg(tree, "web01").count("<circle") == 4000


def test_checkpoints_stand_below_the_tree_and_in_the_document(world: World) -> None:
    taken = (CheckpointView("nightly", "", None), CheckpointView("c2", "nightly", NOW))
    text = render_lineage(_tree(world), "web01", Terminal(width=100), checkpoints=taken)
    lines = text.splitlines()
    assert lines[-2:] == [
        "checkpoint  nightly since when is not known",
        f"checkpoint  c2 since {NOW:%Y-%m-%d %H:%M}, on nightly",
    ]
    document = json.loads(render_lineage_data(_tree(world), "web01", "json", taken))
    assert document["checkpoints"] == [
        {"name": "nightly", "parent": "", "taken_at": None},
        {"name": "c2", "parent": "nightly", "taken_at": NOW.isoformat()},
    ]
    assert "checkpoint" not in render_lineage(_tree(world), "web01", Terminal(width=100))
