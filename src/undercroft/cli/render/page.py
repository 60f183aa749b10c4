"""Lines of styled text, wrapped to a width, and columns that line up.

A page is built from spans (a text and what it means); colours are added last, so that every width is
counted on what is seen. Texts from a guest pass `escape` before they become spans.

    page = Page(Terminal(width=80))
    page.paragraph(span("2 findings", Style.BAD), span(" in web01"), indent=2)
    write(page.text())
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.terminal import Style, Terminal

GAP = 2
"""Blanks between two columns."""
MIN_COLUMN = 8
"""What a flexible column keeps."""

_PIECES = re.compile(r" +|[^ ]+")


class Span(NamedTuple):
    """A piece of text and what it means."""

    text: str
    style: Style = Style.PLAIN


Spans = Sequence[Span]
Word = list[Span]


def span(text: object, style: Style = Style.PLAIN) -> Span:
    """Return `text` as a span."""
    return Span(str(text), style)


class Keep(Enum):
    """Which part of a text that is too long stays."""

    ENDS = "ends"
    HEAD = "head"
    TAIL = "tail"


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a grid is laid out.

    Attributes:
        heading: its title, "" for none.
        right: aligned to the right, as numbers are.
        flexible: gives way, cut in the middle, when the line is too long.
        vital: gives way only when all other flexible columns have.
        whole: a text that is longer than a column that gave way pushes its row instead of being cut.
        idle: what its cells say as a rule; where all of them do and the line is too long, the column goes.
        optional: goes when the line is too long all the same, the leftmost first.
    """

    heading: str
    right: bool = False
    flexible: bool = False
    vital: bool = False
    whole: bool = False
    idle: str = ""
    optional: bool = False


class Page:
    """Text in the making. `text` gives it out, ending with a newline unless it is empty."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._lines: list[str] = []

    def text(self) -> str:
        """Return everything that was put on the page."""
        return "".join(f"{line}\n" for line in self._lines)

    def blank(self) -> None:
        """Leave one empty line, none at the top or after another."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def heading(self, *spans: Span) -> None:
        """Start a section."""
        self.blank()
        self.paragraph(*spans)

    def paragraph(self, *spans: Span, indent: int = 0, hang: int = 0) -> None:
        """Put `spans` as one paragraph; the lines after its first are indented by `hang` more."""
        width = self.terminal.text_width
        if indent + sum(cell_width(text) for text, _ in spans) <= width:
            self._put(indent, spans)
            return
        for number, line in enumerate(_wrap(spans, width - indent, width - indent - hang)):
            self._put(indent + (hang if number else 0), line)

    def record(self, *spans: Span, indent: int = 0, hang: int = 0) -> None:
        """Put `spans` as a paragraph that stays one line in a file or a pipe, for grep."""
        if self.terminal.width is None:
            self._put(indent, spans)
        else:
            self.paragraph(*spans, indent=indent, hang=hang)

    def grid(
        self, columns: Sequence[Column], rows: Sequence[Spans], indent: int = 0, *, without: str = ""
    ) -> None:
        """Put `rows` below their headings; the flexible columns give way where the width is too small.

        `without` is the heading of a column that is left out, "" for none.
        """
        widths = self._widths(columns, rows)
        kept = self._kept(columns, rows, widths, indent)
        kept = [number for number in kept if not without or columns[number].heading != without]
        columns = [columns[number] for number in kept]
        rows = [[row[number] for number in kept] for row in rows]
        widths = [widths[number] for number in kept]
        self._narrow(columns, widths, indent)
        if any(column.heading for column in columns):
            self._row(columns, [Span(column.heading, Style.DIM) for column in columns], widths, indent)
        for row in rows:
            self._row(columns, row, widths, indent)

    def _put(self, indent: int, spans: Iterable[Span]) -> None:
        shown = [span for span in spans if span.text]
        runs = groupby(shown, key=attrgetter("style"))
        line = "".join(self.terminal.paint("".join(text for text, _ in run), style) for style, run in runs)
        self._lines.append((" " * indent + line).rstrip())

    def _widths(self, columns: Sequence[Column], rows: Sequence[Spans]) -> list[int]:
        return [
            max([cell_width(column.heading), *(cell_width(row[number].text) for row in rows)])
            for number, column in enumerate(columns)
        ]

    def _excess(self, widths: Sequence[int], indent: int) -> int:
        """Return by how many columns a row is too long; a pipe takes any."""
        if self.terminal.width is None:
            return 0
        return indent + sum(widths) + GAP * (len(widths) - 1) - self.terminal.width

    def _kept(
        self, columns: Sequence[Column], rows: Sequence[Spans], widths: Sequence[int], indent: int
    ) -> list[int]:
        """Return the columns that stay: where the line is too long, what says nothing goes first."""
        kept = list(range(len(columns)))
        if self._excess(widths, indent) > 0:
            kept = [number for number in kept if not _is_idle(columns[number], number, rows)]
        least = [_least(column, width) for column, width in zip(columns, widths, strict=True)]
        for number in [number for number in kept if columns[number].optional]:
            if self._excess([least[other] for other in kept], indent) > 0:
                kept.remove(number)
        return kept

    def _narrow(self, columns: Sequence[Column], widths: list[int], indent: int) -> None:
        """Take from the widest flexible columns what is too much, down to their headings."""
        excess = self._excess(widths, indent)
        least = [_least(column, width) for column, width in zip(columns, widths, strict=True)]
        for vital in (False, True):
            giving = [n for n, column in enumerate(columns) if column.flexible and column.vital is vital]
            while excess > 0 and (wide := [number for number in giving if widths[number] > least[number]]):
                widths[max(wide, key=lambda number: widths[number])] -= 1
                excess -= 1

    def _row(self, columns: Sequence[Column], row: Spans, widths: Sequence[int], indent: int) -> None:
        cells: list[Span] = []
        used = start = 0
        for column, (text, style), width in zip(columns, row, widths, strict=True):
            shown = text if column.whole else cut(text, width, self.terminal.ellipsis)
            gap = max(start - used, GAP if start else 0)  # a text that pushed its row is made up for here
            left = max(width - cell_width(shown), 0) if column.right else 0
            cells += (Span(" " * (gap + left)), Span(shown, style))
            used += gap + left + cell_width(shown)
            start += width + GAP
        self._put(indent, cells)


def _least(column: Column, width: int) -> int:
    """Return what is left of a column of `width` that gave way: its heading at least."""
    return min(width, max(MIN_COLUMN, cell_width(column.heading))) if column.flexible else width


def _is_idle(column: Column, number: int, rows: Sequence[Spans]) -> bool:
    return bool(column.idle) and all(row[number].text == column.idle for row in rows)


def cut(text: str, width: int, ellipsis: str = "…", *, keep: Keep = Keep.ENDS) -> str:
    """Return `text` in at most `width` columns, without its middle, or what `keep` leaves out."""
    if cell_width(text) <= width:
        return text
    room = width - cell_width(ellipsis)
    if room < 2:
        return _head(text, width)
    tail = {Keep.ENDS: room // 2, Keep.HEAD: 0, Keep.TAIL: room}[keep]
    return _head(text, room - tail) + ellipsis + _head(text[::-1], tail)[::-1]


def _head(text: str, width: int) -> str:
    end = used = 0
    while end < len(text) and used + cell_width(text[end]) <= width:
        used += cell_width(text[end])
        end += 1
    return text[:end]


def _wrap(spans: Iterable[Span], first_width: int, width: int) -> Iterator[Spans]:
    """Yield the lines of `spans`: broken at blanks, and inside words that no line can hold."""
    line: list[Span] = []
    room = first_width
    for blanks, word in _words(spans):
        for number, piece in enumerate(_pieces(word, max(min(first_width, width), 1))):
            before = Span("") if number else blanks
            length = sum(cell_width(text) for text, _ in piece)
            if line and len(before.text) + length > room:
                yield line
                line, room, before = [], width, Span("")
            line += (before, *piece)
            room -= len(before.text) + length
    if line:
        yield line


def _pieces(word: Word, width: int) -> Iterator[Word]:
    """Yield `word` in pieces of at most `width` columns; nearly always it is one."""
    while sum(cell_width(text) for text, _ in word) > width:
        head, word = _split(word, width)
        yield head
    yield word


def _words(spans: Iterable[Span]) -> Iterator[tuple[Span, Word]]:
    """Yield each word, which may run over several spans, with the blanks before it."""
    blanks, word = Span(""), list[Span]()
    for text, style in spans:
        for piece in _PIECES.findall(text):
            if piece[0] != " ":
                word.append(Span(piece, style))
                continue
            if word:
                yield blanks, word
                blanks, word = Span(""), []
            blanks = Span(blanks.text + piece, style)
    if word:
        yield blanks, word


def _split(word: Word, width: int) -> tuple[Word, Word]:
    """Return the first `width` columns of `word` (at least one character) and the rest."""
    head: Word = []
    for number, (text, style) in enumerate(word):
        part = _head(text, width)
        if not part and not head:
            part = text[:1]
        head.append(Span(part, style))
        width -= cell_width(part)
        if len(part) < len(text):
            return head, [Span(text[len(part) :], style), *word[number + 1 :]]
    return head, []
