"""Whatever a guest writes is visible, harmless, and can be turned back."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.cli.render.escape import (
    MAX_MARKS,
    cell_width,
    escape,
    harmless,
    harmless_lines,
    unescape,
)

anything = st.text(st.characters(exclude_categories=()), max_size=60)
"""Every code point, lone surrogates included."""
nasty = st.text(
    st.sampled_from(
        "a\\x\x1b\x00\x7f\x9b\u202e\u2066\u200b\u200d\ufeff\u2028\u0301\u0489\ufe0f\u3164\udc80\udcff\ud800é漢"
    ),
    max_size=40,
)
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(anything | nasty)
def test_no_control_bidi_or_invisible_character_survives(text: str) -> None:
    for shown in (escape(text), harmless(text)):
        assert not {unicodedata.category(character) for character in shown} & HARMFUL
        assert not any(
            unicodedata.bidirectional(character) in {"RLE", "RLO", "LRE", "LRO", "PDF"} for character in shown
        )
        shown.encode("utf-8")


@given(anything | nasty)
def test_escaping_is_reversible(text: str) -> None:
    assert unescape(escape(text)) == text


@given(nasty, nasty)
def test_two_texts_never_look_the_same(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(anything | nasty)
def test_marks_cannot_pile_up_or_join_what_stands_before(text: str) -> None:
    run = MAX_MARKS  # what is printed before the text ends in a character without marks left
    for character in escape(text):
        run = run + 1 if unicodedata.category(character) == "Mn" else 0
        assert run <= MAX_MARKS


@given(st.binary(max_size=40))
def test_undecodable_bytes_come_back(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    assert unescape(escape(text)).encode("utf-8", "surrogateescape") == raw


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web01", "web01"),
        ("a\\b", "a\\\\b"),
        ("\x1b[2J", "\\u001B[2J"),
        ("\udcff", "\\xFF"),
        ("gpj.exe\u202e", "gpj.exe\\u202E"),
        ("zero\u200bwidth", "zero\\u200Bwidth"),
        ("\U000e0041", "\\U000E0041"),
        ("no\u00a0break", "no\\u00A0break"),
        ("Zürich", "Zürich"),
        ("漢字", "漢字"),
        ("e\u0301", "e\u0301"),
        ("e\u0301\u0301\u0301", "e\u0301\u0301\\u0301"),
        ("\u0301e", "\\u0301e"),
    ],
)
def test_escapes_are_those_that_are_documented(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_markup_of_rich_is_only_text() -> None:
    assert escape("[bold red]x[/]") == "[bold red]x[/]"


def test_a_message_keeps_its_lines_and_none_but_its_first_begins_a_line() -> None:
    assert harmless_lines("a\nb\x1b[2J") == "a\n  b\\u001B[2J"
    assert harmless_lines("a\r\x0bb\u2028c\x85d").count("\n") == 0
    forged = harmless_lines('disk of evil\naudit-head {"number": 9}\nundercroft: error: all is well')
    assert [line[:2] for line in forged.split("\n")] == ["di", "  ", "  "]


@given(st.text())
def test_no_line_of_a_message_moves_the_cursor(text: str) -> None:
    lines = harmless_lines(text).split("\n")
    assert lines == [harmless(lines[0]), *map(harmless, lines[1:])]
    assert all(line.startswith("  ") for line in lines[1:])


def test_messages_keep_their_backslashes() -> None:
    assert harmless("a\\b\x1b") == "a\\b\\u001B"


@pytest.mark.parametrize(("text", "width"), [("web01", 5), ("漢字", 4), ("e\u0301", 1), ("→", 1), ("", 0)])
def test_width_is_counted_in_columns(text: str, width: int) -> None:
    assert cell_width(text) == width
