"""What is read, as a table for people, made from the tables in the code: README cannot say what they do not.

    python tools/formats.py            # print it
    python tools/formats.py --write    # put it in its place in README.md

A format that gets a line in one of the tables below gets one here. A test compares the two.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from undercroft.advisories.families import FAMILIES
from undercroft.advisories.feeds.registry import ACCEPTED
from undercroft.disks import detect, magics
from undercroft.disks import overlay as overlays
from undercroft.disks.formats import FILESYSTEMS, Level
from undercroft.disks.images import IMAGES
from undercroft.disks.live.kinds import KINDS
from undercroft.disks.stack import SETS
from undercroft.inventory.databases import DATABASES
from undercroft.inventory.languages import ECOSYSTEMS

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- formats: made by tools/formats.py -->\n"
END = "<!-- end of formats -->\n"
_KIND = re.compile(r'(?:Content\(\s*|^    \()"([a-z0-9-]+)"', re.MULTILINE)
"""What the detector calls the contents of volumes, in its source."""


class Line(NamedTuple):
    """One format: what it is called, how much of it is read ("" where that is no question), and what."""

    title: str
    level: str
    reads: str


OVERLAYS = Line(overlays.TITLE, overlays.LEVEL, overlays.READS)


def table() -> str:
    """Return the whole table in Markdown, as it stands in README."""
    groups = (
        ("Image files", _merged(Line(one.title, one.level, one.reads) for one in IMAGES)),
        ("Volumes", [Line(one.title, one.level, one.reads) for one in SETS]),
        ("Filesystems", [*(Line(one.title, one.level, one.reads) for one in FILESYSTEMS), _recognized()]),
        ("Roots of several", [OVERLAYS, *(Line(one.title, one.level, one.reads) for one in KINDS)]),
        ("Packages", [Line(one.title, one.level, one.reads) for one in (*DATABASES, *ECOSYSTEMS)]),
        ("Advisories", list(_families())),
        ("Feeds", [Line(", ".join(sorted(ACCEPTED, key=str.lower)), "", "told from their content")]),
    )
    lines = ["| | read | what of it |", "|---|---|---|"]
    for heading, rows in groups:
        lines.append(f"| **{heading}** | | |")
        lines += [f"| {_cell(row.title)} | {row.level} | {_cell(row.reads)} |" for row in rows]
    return "".join(f"{line}\n" for line in lines)


def placed(text: str) -> str:
    """Return README's text with the table in its place. Raises ValueError where there is none."""
    before, found, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"README.md has no place for the table: {BEGIN.strip()} ... {END.strip()}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _merged(lines: Iterator[Line]) -> list[Line]:
    """Return lines with those that are only recognized, and of which no more is to be said, as one."""
    listed = list(lines)
    named = [line.title for line in listed if line.level == Level.NAMED]
    whole = [line for line in listed if line.level != Level.NAMED]
    unread = "reported as unread, with the way to convert them"
    return [*whole, *([Line(", ".join(named), Level.NAMED, unread)] if named else [])]


def _recognized() -> Line:
    """Return the contents of volumes whose magic is known and which nothing reads."""
    kinds = {kind for module in (magics, detect) for kind in _KIND.findall(inspect.getsource(module))}
    read = {one.kind for one in FILESYSTEMS} | {kind for one in SETS for kind in one.kinds}
    return Line(
        ", ".join(sorted(kinds - read - set(detect.NOT_APPLICABLE))), Level.NAMED, "reported as unread"
    )


def _families() -> Iterator[Line]:
    """Yield the distributions, those whose publishers mean the same by what they say on one line."""
    by_meaning: dict[tuple[str, str], list[str]] = {}
    for family in FAMILIES:
        by_meaning.setdefault((family.level, family.meaning), []).append(family.title)
    for (level, meaning), titles in by_meaning.items():
        yield Line(", ".join(titles), level, meaning)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Print the table, or write it."""
    if sys.argv[1:] == ["--write"]:
        README.write_text(placed(README.read_text("utf-8")), "utf-8")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        sys.stdout.write(table())


if __name__ == "__main__":
    main()
