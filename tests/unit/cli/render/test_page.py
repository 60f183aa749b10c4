"""Lines fit the width, columns line up, and nothing is lost in a pipe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.page import Column, Keep, Page, Span, cut, span
from undercroft.cli.render.terminal import Style, Terminal

texts = st.text(st.sampled_from("ab 漢e\u0301-"), max_size=60)
spans = st.lists(st.builds(Span, texts, st.sampled_from(Style)), max_size=6)


@given(spans, st.integers(40, 100), st.integers(0, 8), st.integers(0, 8))
def test_no_line_of_a_paragraph_is_wider_than_the_terminal(given_spans, width, indent, hang) -> None:
    page = Page(Terminal(width=width))
    page.paragraph(*given_spans, indent=indent, hang=hang)
    assert all(cell_width(line) <= width for line in page.text().splitlines())


@given(spans, st.integers(40, 100))
def test_wrapping_loses_no_character_but_blanks(given_spans, width) -> None:
    page = Page(Terminal(width=width))
    page.paragraph(*given_spans, hang=2)
    written = "".join(text for text, _ in given_spans)
    assert "".join(page.text().split()) == "".join(written.split())


@given(spans, st.integers(40, 100))
def test_colours_change_nothing_but_colours(given_spans, width) -> None:
    plain, coloured = Page(Terminal(width=width)), Page(Terminal(width=width, color=True))
    plain.paragraph(*given_spans)
    coloured.paragraph(*given_spans)
    assert [
        line.rstrip() for line in without_colours(coloured.text()).splitlines()
    ] == plain.text().splitlines()


def without_colours(text: str) -> str:
    for style in Style:
        text = text.replace(f"\x1b[{style}m", "")
    return text.replace("\x1b[0m", "")


def test_a_pipe_gets_sentences_that_a_pager_can_show_and_records_on_one_line() -> None:
    page = Page(Terminal())
    page.paragraph(span("word " * 200))
    assert max(len(line) for line in page.text().splitlines()) <= 120
    records = Page(Terminal())
    records.record(span("word " * 200))
    assert len(records.text().splitlines()) == 1


def test_what_is_never_cut_pushes_its_row_and_the_next_columns_make_up_for_it() -> None:
    page = Page(Terminal(width=40))
    columns = [Column("FROM", flexible=True, whole=True), Column("TO", flexible=True), Column("N")]
    page.grid(columns, [[span("1" * 30), span("2"), span("a")], [span("3"), span("4" * 30), span("b")]])
    _, pushed, other = page.text().splitlines()
    assert pushed.split() == ["1" * 30, "2", "a"]
    assert len(other) == 40


def test_a_column_that_says_the_same_of_all_goes_only_where_the_line_is_too_long() -> None:
    columns = [Column("NAME"), Column("STATUS", idle="installed")]
    shown = {}
    for width in (40, 80):
        page = Page(Terminal(width=width))
        page.grid(columns, [[span("x" * 38), span("installed")]])
        shown[width] = page.text()
    assert "STATUS" not in shown[40]
    assert "STATUS" in shown[80]


def test_a_word_that_no_line_can_hold_is_broken() -> None:
    page = Page(Terminal(width=40))
    page.paragraph(span("x" * 100))
    assert [len(line) for line in page.text().splitlines()] == [40, 40, 20]


def test_columns_line_up_and_numbers_stand_right() -> None:
    page = Page(Terminal(width=80))
    page.grid([Column("NAME"), Column("N", right=True)], [[span("a"), span(1)], [span("漢字"), span(100)]])
    assert page.text() == "NAME    N\na       1\n漢字  100\n"


def test_flexible_columns_give_way_and_others_do_not() -> None:
    page = Page(Terminal(width=40))
    page.grid([Column("PATH", flexible=True), Column("N")], [[span("/" + "x" * 60 + "/end"), span("keep")]])
    line = page.text().splitlines()[1]
    assert len(line) == 40
    assert line.endswith("/end  keep")
    assert "…" in line


def test_ascii_terminals_get_ascii() -> None:
    page = Page(Terminal(width=40, unicode=False))
    page.grid([Column("PATH", flexible=True)], [[span("x" * 60)]])
    assert page.text().isascii()


@pytest.mark.parametrize(
    ("keep", "shown"), [(Keep.ENDS, "night…-0400"), (Keep.HEAD, "nightly-20…"), (Keep.TAIL, "…05-01-0400")]
)
def test_a_text_is_cut_where_it_is_asked_to(keep: Keep, shown: str) -> None:
    assert cut("nightly-2025-05-01-0400", 11, keep=keep) == shown


@given(texts, st.integers(1, 70), st.sampled_from(Keep))
def test_what_is_cut_fits(text: str, width: int, keep: Keep) -> None:
    assert cell_width(cut(text, width, keep=keep)) <= width


def test_blank_lines_never_double() -> None:
    page = Page(Terminal())
    page.blank()
    page.heading(span("ONE"))
    page.blank()
    page.blank()
    page.heading(span("TWO"))
    assert page.text() == "ONE\n\nTWO\n"


def test_a_vital_column_gives_way_only_after_the_others() -> None:
    page = Page(Terminal(width=40))
    columns = [Column("FROM", flexible=True), Column("TO", flexible=True, vital=True)]
    page.grid(columns, [[span("1" * 20), span("2" * 25)], [span("3" * 20), span("4" * 25)]])
    first, second = page.text().splitlines()[1].split()
    assert (len(first), second) == (13, "2" * 25)
