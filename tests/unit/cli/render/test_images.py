"""The table of many images: the worst first, each problem once, and nothing in it that moves a cursor."""

import json
from dataclasses import replace

import pytest
import reports
from reports import assessment, finding, report, state

from undercroft.cli.render.images import Overview, end_line, image_line
from undercroft.cli.render.terminal import Terminal
from undercroft.model.finding import Severity
from undercroft.model.images import ImageReport, LeftOut, Role

LOW = report(state(assessment=assessment(finding(severity=Severity.LOW))))
HIGH = report(state(assessment=assessment(finding(severity=Severity.HIGH))))
UNREAD = report(state(inventory=None, assessment=None, problems=("broken",)))
PIPE = Terminal()


def image(path: str, scan: object = LOW, role: Role = Role.MACHINE) -> ImageReport:
    return ImageReport(path, role, scan)  # type: ignore[arg-type]


def shown(*images: ImageReport, left_out: tuple[LeftOut, ...] = (), terminal: Terminal = PIPE) -> str:
    table = Overview(terminal)
    for one in images:
        table.add(one)
    return table.text(left_out)


def test_the_worst_comes_first_and_what_is_unread_before_what_is_harmless() -> None:
    text = shown(image("/p/a", LOW), image("/p/b", UNREAD), image("/p/c", HIGH))
    places = [text.index(f" {name} ") for name in ("c", "b", "a")]
    assert places == sorted(places)


def test_a_problem_that_many_share_is_told_once() -> None:
    text = shown(*(image(f"/p/clone{number:04}", UNREAD) for number in range(500)))
    assert text.count("broken") == 1
    assert "clone0000, clone0001, clone0002 and 497 more: broken" in text


def test_long_lists_say_how_much_more_there_is() -> None:
    left = tuple(LeftOut(f"/p/{number:03}.txt", "no disk image") for number in range(50))
    text = shown(image("/p/a"), left_out=(*left, LeftOut("/p/z", "a link", unread=True)))
    assert "and 42 more; -v lists them" in text
    assert text.index("/p/z" if "/p/z" in text else "z: a link") < text.index("000.txt"), "what matters first"


@pytest.mark.parametrize(
    "terminal", [PIPE, Terminal(width=80, color=True), Terminal(width=40, unicode=False)]
)
def test_names_and_messages_move_no_cursor(terminal: Terminal) -> None:
    evil = replace(
        UNREAD, states=(replace(UNREAD.states[0], problems=(reports.EVIL,)),), warnings=(reports.EVIL,)
    )
    text = shown(
        image(f"/p/{reports.EVIL}", evil), left_out=(LeftOut(reports.EVIL, reports.EVIL),), terminal=terminal
    )
    assert "evil\x1b" not in text
    plain = text.replace("\x1b[", "") if terminal.color else text
    assert all(character == "\n" or character.isprintable() for character in plain)
    line = image_line(image(reports.EVIL, evil), "json")
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(end_line(1, 1, (LeftOut(reports.EVIL, reports.EVIL),), "json", complete=False))


def test_no_image_is_a_table_all_the_same() -> None:
    assert "0 images" in shown()
