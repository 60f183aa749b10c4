"""The way between two states, for people."""

from dataclasses import replace

import reports
from reports import inventory, package, state, vulnerable

from undercroft.cli.render.diff import render_diff
from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.terminal import Terminal
from undercroft.usecases.diff import diff_states

DIFF = diff_states(vulnerable(), state(), from_name="web01@before-upgrade", to_name="web01")


def test_what_a_revert_brings_back_stands_first() -> None:
    lines = render_diff(DIFF, Terminal()).splitlines()
    assert lines[0] == "web01@before-upgrade → web01"
    assert lines[2] == (
        "Going back to web01@before-upgrade brings back 5 findings, 1 known to be exploited: CVE-2023-4911."
    )


def test_changed_packages_are_listed_with_both_versions() -> None:
    text = render_diff(DIFF, Terminal())
    assert "UPGRADED: 2" in text
    assert "libc6    amd64  2.36-9+deb12u1  →  2.36-9+deb12u3" in text
    assert "DOWNGRADED" not in text


def test_the_manager_is_named_where_there_are_several() -> None:
    before, after = (
        inventory(package("six", "1"), replace(package("six", version), manager="pypi", architecture=""))
        for version in ("1", "2")
    )
    text = render_diff(diff_states(state(inventory=before), state(inventory=after)), Terminal())
    assert "  PACKAGE  ARCH  MANAGER  FROM     TO\n  six            pypi     1     →  2\n" in text
    assert "MANAGER" not in render_diff(DIFF, Terminal())


def test_a_downgrade_says_what_it_brings_in() -> None:
    text = render_diff(diff_states(state(), vulnerable()), Terminal())
    assert "DOWNGRADED: 2" in text
    assert "Going to before-upgrade brings in 5 findings" in text
    assert "Going back to current brings back nothing that is known." in text


def test_an_incomplete_side_is_never_called_harmless() -> None:
    broken = state("broken", "2", inventory=None, assessment=None, problems=("vda: no L2 table",))
    text = render_diff(diff_states(broken, state()), Terminal())
    assert "brings back nothing that could be seen." in text
    assert "broken: vda: no L2 table" in text
    partial = replace(vulnerable(), problems=("vda3 was not read",))
    assert "brings back at least 5 findings" in render_diff(diff_states(partial, state()), Terminal())


def test_equal_states_say_so() -> None:
    assert "The same packages in the same versions." in render_diff(diff_states(state(), state()), Terminal())


def test_verbose_lists_each_finding() -> None:
    text = render_diff(DIFF, Terminal(80), verbose=True)
    assert "Looney" in text
    assert all(cell_width(line) <= 80 for line in text.splitlines())


def test_names_of_states_are_escaped() -> None:
    evil = diff_states(vulnerable(reports.EVIL), state())
    assert not set("\x1b\u202e\udcff") & set(render_diff(evil, Terminal(80)))
