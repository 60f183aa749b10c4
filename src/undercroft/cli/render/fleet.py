"""The fleet for people: how it stands in a few lines, then a row for each machine, worst first.

Snapshots are one line below their machine, which says what going back would bring back. Where a terminal is
narrow, columns that say the same of every machine go first; a reason is cut at its end. No row wraps.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from undercroft.cli.render import fleetcells, words
from undercroft.cli.render.escape import cell_width, escape
from undercroft.cli.render.page import GAP, Keep, Page, Span, Spans, cut, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.verdict import SubjectKind
from undercroft.usecases.fleet.views.values import FleetRow, FleetView

_HEADINGS = {
    SubjectKind.MACHINE: "MACHINE",
    SubjectKind.TEMPLATE: "TEMPLATE",
    SubjectKind.IMAGE: "IMAGE OF NO MACHINE",
    SubjectKind.SNAPSHOT: "SNAPSHOT",
}
_PLURALS = {SubjectKind.IMAGE: "images of no machine"}
_SINGULARS = {SubjectKind.IMAGE: "image of no machine"}
_NAME_SHARE = 6
_NAME_COLUMNS = 20
"""A name takes at most so many columns, or one sixth of the line where that is more."""
_WHY_COLUMNS = 34
"""What a reason gets before any column that may go stays."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One column; the one with the lowest `goes` goes first where the line is too long, 0 never goes."""

    heading: str
    goes: int = 0


_FIELDS = (
    _Field("VERDICT"),
    _Field("SINCE"),
    _Field("POWER", 5),
    _Field("NETWORK", 6),
    _Field("START", 4),
    _Field("OWNER", 3),
    _Field("EXPIRES", 2),
    _Field("READ", 1),
    _Field("HOST", 7),
)


class _Line(NamedTuple):
    """One row, or with `below` a line of its own under one."""

    kind: SubjectKind
    alarm: bool
    name: str
    cells: Spans
    why: Span
    below: bool = False


def render_fleet(
    view: FleetView, rows: Sequence[FleetRow], terminal: Terminal, *, snapshots: bool = False
) -> str:
    """Return the fleet as text.

    Args:
        view: all of it, for the lines at the top.
        rows: what is to be shown, in the view's order.
        terminal: where the text goes.
        snapshots: a row for each snapshot instead of a line for all of a machine's.
    """
    page = Page(terminal)
    _standing(page, view, rows)
    heads, below = _folded(rows)
    lines = [
        line
        for kind in _HEADINGS
        for row in heads
        if row.kind is kind
        for line in _lines(row, below.get(_home(row), ()), view, terminal, snapshots=snapshots)
    ]
    if lines:
        _Grid(page, view, lines).put()
    return page.text()


def _standing(page: Page, view: FleetView, rows: Sequence[FleetRow]) -> None:
    """Put the numbers of the whole fleet, how old they are, and what is wrong with them."""
    page.paragraph(*(list(_tally(view, SubjectKind.MACHINE)) or [span("no machine on record")]))
    others = [tally for kind in list(SubjectKind)[1:] if (tally := list(_tally(view, kind)))]
    joined = [part for number, tally in enumerate(others) for part in (span("; " if number else ""), *tally)]
    if joined:
        page.paragraph(*joined)
    as_of = f"{view.as_of:%Y-%m-%d %H:%M}, " if view.as_of else ""
    as_of += fleetcells.ago(view.as_of, view.taken_at)
    heard = fleetcells.ago(view.agent_heard_at, view.taken_at)
    word = "stopped" if view.agent_stopped else "heard"
    shown = f"; {len(rows):,} of {len(view.rows):,} match" if len(rows) < len(view.rows) else ""
    page.paragraph(span(f"surveyed {as_of}; agent {word} {heard}{shown}", Style.DIM))
    if view.behind:
        page.paragraph(
            span("warning: ", Style.WARNING),
            span("the record may be behind: nobody has written it lately; is `undercroft up` running?"),
        )


def _tally(view: FleetView, kind: SubjectKind) -> Iterator[Span]:
    """Yield how many there are of a kind, by verdict, worst first; nothing where there are none."""
    verdicts = Counter(row.verdict for row in view.rows if row.kind is kind)
    total = sum(verdicts.values())
    if not total:
        return
    style = Style.HEADING if kind is SubjectKind.MACHINE else Style.PLAIN
    yield span(words.count(total, _SINGULARS.get(kind, kind.value), _PLURALS.get(kind, "")), style)
    separator = ": "
    for verdict, style in fleetcells.VERDICT_STYLES.items():
        if verdicts[verdict]:
            yield span(separator)
            yield span(f"{verdicts[verdict]:,} {verdict}", style)
            separator = ", "


def unfolded(rows: Sequence[FleetRow]) -> tuple[FleetRow, ...]:
    """Return the rows that the table shows by themselves where no snapshot has one below its machine."""
    return tuple(_folded(rows)[0])


def _folded(rows: Sequence[FleetRow]) -> tuple[list[FleetRow], Mapping[str, list[FleetRow]]]:
    """Return the rows that stand by themselves, and the snapshots below them."""
    present = {_home(row) for row in rows if row.kind is not SubjectKind.SNAPSHOT and row.machine}
    heads, below = [], dict[str, list[FleetRow]]()
    for row in rows:
        if row.kind is SubjectKind.SNAPSHOT and _home(row) in present:
            below.setdefault(_home(row), []).append(row)
        else:
            heads.append(row)
    return heads, below


def _home(row: FleetRow) -> str:
    return f"{row.machine} {row.host}" if row.machine else row.subject


def _lines(
    row: FleetRow, below: Sequence[FleetRow], view: FleetView, terminal: Terminal, *, snapshots: bool
) -> Iterator[_Line]:
    """Yield a row and what stands below it."""
    yield _line(row, escape(row.name), row.kind, view, terminal)
    if snapshots:
        for snapshot in below:
            yield _line(snapshot, f"  @{escape(snapshot.state)}", row.kind, view, terminal)
    elif below:
        yield _Line(row.kind, False, "", (), fleetcells.bringing_back(below, terminal), below=True)


def _line(row: FleetRow, name: str, kind: SubjectKind, view: FleetView, terminal: Terminal) -> _Line:
    if terminal.width is not None:
        keep = Keep.ENDS if row.machine else Keep.TAIL
        name = cut(name, max(_NAME_COLUMNS, terminal.width // _NAME_SHARE), terminal.ellipsis, keep=keep)
    now = view.taken_at
    cells = (
        fleetcells.verdict(row),
        fleetcells.age(row.since, now),
        fleetcells.power(row),
        fleetcells.network(row.network),
        fleetcells.action(row),
        fleetcells.owner(row, terminal),
        fleetcells.expiry(row, now),
        fleetcells.age(row.scanned_at, now),
        span(escape(row.host), Style.DIM),
    )
    return _Line(kind, bool(row.alarms), name, cells, fleetcells.reason(row))


class _Grid:
    """All rows, in columns that line up through all kinds."""

    def __init__(self, page: Page, view: FleetView, lines: Sequence[_Line]) -> None:
        self._page = page
        self._terminal = page.terminal
        self._lines = lines
        rows = [line for line in lines if not line.below]
        headings = {line.kind for line in rows}
        self._mark = any(line.alarm for line in rows)
        self._name = max(
            *(cell_width(line.name) for line in rows), *(len(_HEADINGS[kind]) for kind in headings)
        )
        self._widths = [
            max(len(field.heading), *(cell_width(line.cells[number].text) for line in rows))
            for number, field in enumerate(_FIELDS)
        ]
        self._fields = self._fitting(rows, several=len(view.hosts) > 1)

    def put(self) -> None:
        """Put them, each kind under its heading."""
        kind: SubjectKind | None = None
        for line in self._lines:
            if line.kind is not kind:
                kind = line.kind
                self._page.blank()
                heads = [span(field.heading, Style.DIM) for field in _FIELDS]
                self._put(_Line(kind, False, _HEADINGS[kind], heads, span("WHY", Style.DIM)), Style.DIM)
            if line.below:
                corner = "└ " if self._terminal.unicode else "- "
                indent = 2 * self._mark + 2
                text = self._cut(line.why, (self._terminal.width or 0) - indent - len(corner))
                self._page.record(span(corner, Style.DIM), text, indent=indent)
            else:
                self._put(line, Style.HEADING)

    def _put(self, line: _Line, style: Style) -> None:
        spans = [span("! " if line.alarm else "  ", Style.ALARM if line.alarm else Style.PLAIN)]
        spans = spans if self._mark else []
        spans += self._padded(span(line.name, style), self._name)
        for number in self._fields:
            spans += self._padded(line.cells[number], self._widths[number])
        self._page.record(*spans, self._cut(line.why, self._room(self._fields)))

    @staticmethod
    def _padded(cell: Span, width: int) -> Spans:
        return cell, span(" " * (width - cell_width(cell.text) + GAP))

    def _cut(self, why: Span, room: int) -> Span:
        if self._terminal.width is None:
            return why
        return Span(cut(why.text, room, self._terminal.ellipsis, keep=Keep.HEAD), why.style)

    def _fitting(self, rows: Sequence[_Line], *, several: bool) -> list[int]:
        """Return the fields that leave enough room for the reasons; those that say nothing go first."""
        fields = [number for number, field in enumerate(_FIELDS) if several or field.heading != "HOST"]
        if self._terminal.width is None:
            return fields
        wanted = min(max(cell_width(line.why.text) for line in rows), _WHY_COLUMNS)
        idle = {number for number in fields if len({line.cells[number].text for line in rows}) < 2}
        going = sorted(fields, key=lambda number: (number not in idle, _FIELDS[number].goes))
        for number in going:
            if self._room(fields) >= wanted:
                break
            if _FIELDS[number].goes:
                fields.remove(number)
        return fields

    def _room(self, fields: Sequence[int]) -> int:
        """Return how many columns are left for the reasons."""
        used = 2 * self._mark + self._name + GAP + sum(self._widths[number] + GAP for number in fields)
        return max((self._terminal.width or 0) - used, 1)
