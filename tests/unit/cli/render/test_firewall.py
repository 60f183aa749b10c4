"""The firewall's answers for people: readable at any width, and harmless whatever names say."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from undercroft.assurance.firewall.certificate import Certificate, Counterexample, Theorem
from undercroft.assurance.firewall.examplepacket import Example
from undercroft.assurance.firewall.hostfindings import Danger, Finding
from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.firewallmap import render_map, shown_places, shown_services
from undercroft.cli.render.firewallplan import gathered_changes, in_force, render_plan, render_status
from undercroft.cli.render.firewallproof import render_proven
from undercroft.cli.render.firewallshow import render_showing, render_trace
from undercroft.cli.render.firewallsvg import render_map_svg
from undercroft.cli.render.terminal import Terminal
from undercroft.firewall.kernel import Hook
from undercroft.model.filter import FilterState
from undercroft.usecases.firewall.answers import (
    FlowMap,
    KernelHas,
    LabelReason,
    MapFlow,
    MapNever,
    Place,
    PortView,
    Reach,
    Showing,
    Step,
    Trace,
    Way,
)
from undercroft.usecases.firewall.proving import Proven
from undercroft.usecases.firewall.values import (
    Applied,
    Closed,
    FlowChange,
    Group,
    Holding,
    HostHolding,
    LabelChange,
    Plan,
    Status,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVIL = "a\x1b[31m\u202eb<c>&\n"
APPLIED = Applied(3, "d" * 64, EVIL, EVIL, NOW, withdrawn=False)
SVG = "{http://www.w3.org/2000/svg}"


def plan(**changes: object) -> Plan:
    plain = Plan(
        "e" * 64,
        APPLIED,
        True,
        3,
        (Group(EVIL, (EVIL,)),),
        (FlowChange(EVIL, "world", ("tcp/80", "tcp/443"), ("icmp",), ("policy.yaml:3",)),),
        (LabelChange(EVIL, EVIL, (), (EVIL,)),),
        (Closed(EVIL, EVIL, "no label"),),
        (f"{EVIL} on br0",),
        (f"{EVIL}: address",),
        (),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def a_map(names: int, *, flows: int = 0) -> FlowMap:
    places = tuple(Place(f"label-{number:02}", "label", number) for number in range(names))
    return FlowMap(
        1,
        "d" * 64,
        places,
        tuple(
            MapFlow(places[n % names].name, places[n * 7 % names].name, ("tcp/443",), ("policy.yaml:1",))
            for n in range(flows)
        ),
        (MapNever(places[0].name, places[-1].name, (), 1, "policy.yaml:9"),) if names > 1 else (),
    )


SHOWING = Showing(
    "uuid",
    EVIL,
    EVIL,
    1,
    True,
    "steady",
    True,
    (LabelReason(EVIL, EVIL, True), LabelReason("web", "p:1", False)),
    (EVIL,),
    (PortView("vnet1", "52:54:00:00:00:01", EVIL, (EVIL,)), PortView("", "", "x", (), EVIL)),
    (Reach(EVIL, ("tcp/1",), (EVIL,), (EVIL,)),),
    (),
    KernelHas.DIFFERENT,
    (EVIL,),
    (EVIL,),
)
TRACE = Trace(
    EVIL,
    EVIL,
    "tcp/22",
    0,
    False,
    "",
    EVIL,
    (EVIL,),
    (Way(EVIL, "kernel", "the first packet", EVIL, False, (Step("deny", 2, EVIL),)),),
    (EVIL,),
)
STATUS = Status(
    APPLIED,
    (
        HostHolding(EVIL, Holding.SILENT, 3, None),
        HostHolding("h2", Holding.PROBLEM, 3, FilterState("h2", 3, "d", 7, 3, None, EVIL, NOW)),
        HostHolding("h3", Holding.BEHIND, 3, FilterState("h3", 2, "d", 7, 3, NOW, "", NOW)),
        HostHolding("h4", Holding.PROVEN, 3, FilterState("h4", 3, "d", 7, 3, NOW, "", NOW)),
        HostHolding("h6", Holding.AWAY, 3, FilterState("h6", 3, "d", 7, 3, NOW, EVIL, NOW)),
        HostHolding(
            "h5", Holding.VOID, 3, FilterState("h5", 3, "d", 7, 3, NOW, EVIL, NOW, NOW, 2, voided=True)
        ),
    ),
)
EXAMPLE = Example(
    (Hook.PREROUTING, Hook.FORWARD), EVIL, "vnet2", bytes(range(200)), remembered=((EVIL, b""),)
)
COUNTEREXAMPLE = Proven(
    Counterexample(EVIL, EVIL, EVIL, bytes(99), EVIL, EVIL, EXAMPLE, True, False),
    (Finding(Danger.BYPASS, EVIL, EVIL, EVIL),),
    signed=False,
)
CERTIFICATE = Certificate(
    "undercroft",
    7,
    "p",
    "f",
    "b",
    9,
    (Theorem("rules", EVIL),),
    ("assumed",),
    ("not covered",),
    NOW,
    EVIL,
    True,
)
MAP = FlowMap(
    0,
    "d" * 64,
    (Place(EVIL, "label"), Place("world", "world")),
    (MapFlow(EVIL, "world", ("tcp/1",), (EVIL,)),),
    (MapNever(EVIL, "world", ("tcp/2",), 3, EVIL),),
)


def shown(terminal: Terminal) -> list[str]:
    return [
        render_plan(plan(), terminal, verbose=True),
        render_plan(plan(against=(EVIL,)), terminal),
        render_plan(plan(filtered=False, applied=None), terminal),
        render_plan(plan(digest=""), terminal),
        render_status(STATUS, terminal, NOW + timedelta(minutes=5)),
        render_showing(SHOWING, terminal, verbose=True),
        render_trace(TRACE, terminal),
        render_map(MAP, terminal),
        render_proven(COUNTEREXAMPLE, terminal),
        render_proven(Proven(CERTIFICATE, (), signed=False), terminal, verbose=True),
    ]


@pytest.mark.parametrize("width", [None, 40, 80, 200])
def test_names_that_people_gave_can_do_nothing_to_a_terminal(width: int | None) -> None:
    for text in shown(Terminal(width, color=False)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert text.endswith("\n")


@pytest.mark.parametrize("width", [80, 120])
def test_grids_and_sentences_fit_the_terminal(width: int) -> None:
    for text in shown(Terminal(width)):
        for line in text.splitlines():
            assert cell_width(line) <= width, line


def test_without_unicode_there_is_none() -> None:
    for text in shown(Terminal(80, unicode=False)):
        assert text.isascii()


def test_a_map_of_thirty_labels_fits_eighty_columns_and_hundreds_are_left_to_the_picture() -> None:
    text = render_map(a_map(30, flows=40), Terminal(80))
    rows = [line for line in text.splitlines() if re.match(r" *\d+  label-", line)]
    assert len(rows) == 30
    assert len({len(line) for line in rows}) == 1
    assert "too many for a matrix" in render_map(a_map(200), Terminal(80))
    assert "nothing passes" in render_map(FlowMap(1, "d", (), (), ()), Terminal(80))


def test_column_numbers_stand_above_their_cells() -> None:
    lines = render_map(a_map(12), Terminal(80)).splitlines()
    tens, ones = lines[2], lines[3]
    row = next(line for line in lines if line.startswith(" 1  label-00"))
    cross = row.index("✕")
    assert (tens[cross], ones[cross]) == ("1", "2")


@pytest.mark.parametrize("names", [1, 7, 12, 13, 30])
def test_no_text_of_the_picture_lies_on_another_or_outside(names: int) -> None:
    found = a_map(names, flows=names * 3)
    root = ElementTree.fromstring(render_map_svg(found))
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    boxes = []
    for text in root.iter(f"{SVG}text"):
        if "transform" in text.attrib:
            continue  # slanted heads stand side by side, a cell apart
        size = 6.6 if text.get("class") == "s" else 7.6
        length = len(text.text or "") * size
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        left = {"end": x - length, "middle": x - length / 2}.get(text.get("text-anchor", ""), x)
        boxes.append((left, y - 10, left + length, y + 3))
    assert all(
        left >= 0 and right <= width and top >= 0 and bottom <= height for left, top, right, bottom in boxes
    )
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


def test_names_in_the_picture_are_made_visible_and_then_xml() -> None:
    text = render_map_svg(MAP)
    ElementTree.fromstring(text)
    assert "\u202e" not in text
    assert "<c>" not in text
    assert "&lt;c&gt;" in text


def test_changes_that_say_the_same_are_one_line() -> None:
    flows = [
        FlowChange(source, target, ("tcp/1",), (), ("p:1",)) for source in ("a", "b") for target in ("c", "d")
    ]
    assert gathered_changes(flows) == [(("a", "b"), ("c", "d"), flows[0])]
    other = FlowChange("a", "d", ("tcp/2",), (), ("p:1",))
    assert len(gathered_changes([*flows[:3], other])) == 3


def test_services_and_places_are_short() -> None:
    assert shown_services(("icmp", "tcp/80", "tcp/443", "udp/1-9")) == "tcp/80,443, udp/1-9, icmp"
    assert shown_places(("/etc/a/policy.yaml:3", "/etc/a/policy.yaml:9", "/x/b.yaml:1")) == (
        "policy.yaml:3,9, b.yaml:1"
    )


def test_who_put_a_policy_into_force_and_why_is_told() -> None:
    assert "nothing is filtered" in in_force(None)
    told = in_force(replace(APPLIED, by="alice", reason="ticket 1"))
    assert told == f"Policy 3 ({'d' * 12}) is in force, applied by alice on 2026-03-01 12:00 UTC: ticket 1"
    assert "withdrawn (3)" in in_force(replace(APPLIED, withdrawn=True))


def test_each_host_that_does_not_hold_the_policy_has_a_cure() -> None:
    told = render_status(STATUS, Terminal(200), NOW)
    assert "start one there: undercroft up" in told
    assert "its agent told last of policy 2" in told
    assert "h4:" not in told
