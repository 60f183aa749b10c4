"""Where text goes: how wide it is, whether it shows colour, and which glyphs it has.

Colours are the terminal's own sixteen, so that they fit a light and a dark background; every meaning
that a colour carries also stands in words.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO

MIN_WIDTH = 40
"""Narrower terminals get lines that they must wrap themselves."""

PIPE_TEXT_WIDTH = 120
"""Sentences that go to a file or a pipe; tables there are as wide as they need to be."""


class Style(StrEnum):
    """What a text means, by its SGR parameters (ECMA-48, 8.3.117)."""

    PLAIN = ""
    HEADING = "1"
    DIM = "2"
    GOOD = "32"
    WARNING = "33"
    BAD = "31"
    WORST = "1;31"
    ALARM = "1;97;41"
    NAME = "36"


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the place that text goes to can show.

    Attributes:
        width: columns; None for a file or a pipe, where no column is cut: grep sees names and versions whole.
        color: whether SGR sequences are understood and wanted.
        unicode: whether characters beyond ASCII can be encoded.
    """

    width: int | None = None
    color: bool = False
    unicode: bool = True

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> "Terminal":
        """Return what `stream` can show; NO_COLOR and TERM=dumb turn colours off, COLUMNS sets the width."""
        is_terminal = stream.isatty()
        color = is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        encoding = (stream.encoding or "ascii").lower().replace("-", "")
        return cls(_width(stream, environment, is_terminal), color, encoding.startswith("utf"))

    def paint(self, text: str, style: Style) -> str:
        """Return `text` in `style`, unchanged where colours are off."""
        if not self.color or not style or not text:
            return text
        return f"\x1b[{style}m{text}\x1b[0m"

    @property
    def text_width(self) -> int:
        """Columns that free text is laid out to; a pager shows what a pipe gets."""
        return PIPE_TEXT_WIDTH if self.width is None else self.width

    @property
    def arrow(self) -> str:
        """Between an old and a new version."""
        return "→" if self.unicode else "->"

    @property
    def ellipsis(self) -> str:
        """In place of what was cut."""
        return "…" if self.unicode else "..."

    @property
    def rule(self) -> str:
        """What a line is drawn with."""
        return "─" if self.unicode else "-"


def _width(stream: TextIO, environment: Mapping[str, str], is_terminal: bool) -> int | None:
    columns = environment.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and 0 < int(columns) < 10_000:
        return max(int(columns), MIN_WIDTH)
    if not is_terminal:
        return None
    try:
        return max(os.get_terminal_size(stream.fileno()).columns, MIN_WIDTH)
    except OSError:
        return 80


def write(text: str, stream: TextIO | None = None) -> None:
    """Write `text` to `stream` (stdout), escaping what its encoding lacks instead of failing halfway."""
    target = stream or sys.stdout
    encoding = target.encoding or "ascii"
    target.write(text.encode(encoding, "backslashreplace").decode(encoding))
