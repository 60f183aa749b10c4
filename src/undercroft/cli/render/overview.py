"""The grid of states: one row each, counts that line up, columns that fit the width.

A "!" before a name marks an incomplete state. A count that is only a lower bound has a "+", and stands as
"?" in place of 0, since nobody can say that there is none. COVERAGE and PACKAGES speak of the disk alone;
ADVISORIES, which shows up where it has something to say, of what was known to judge it by.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from undercroft.advisories.asked import knows_exploited, knows_severities, knows_unfixed
from undercroft.cli.render import words
from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.known import (
    advisories_whole,
    disk_read,
    nothing_read,
)
from undercroft.cli.render.page import GAP, Column, Page, Span
from undercroft.cli.render.states import Labelled
from undercroft.cli.render.terminal import Style
from undercroft.model.finding import FixState, Severity
from undercroft.model.report import StateReport

SEVERITY_STYLES: Mapping[Severity, Style] = {
    Severity.CRITICAL: Style.WORST,
    Severity.HIGH: Style.BAD,
    Severity.MEDIUM: Style.WARNING,
    Severity.LOW: Style.PLAIN,
    Severity.NEGLIGIBLE: Style.DIM,
    Severity.UNKNOWN: Style.WARNING,
}


@dataclass(frozen=True, slots=True)
class _Field:
    """One column: its headings, and when it goes where the line is too long (the highest number first).

    `idle` is what its cells say as a rule: where all of them do, the column goes before any other. 0 in
    `goes` means that it goes only then.
    """

    heading: str
    short: str
    goes: int = 0
    right: bool = True
    idle: frozenset[str] = frozenset()


_NONE = frozenset({"0", "?"})
_COMPLETE = frozenset({"complete"})
_JUDGED = frozenset({"complete", "-"})
_DAY = 10
"""Characters of a date without its time."""
_FIELDS = (
    _Field("TAKEN", "TAKEN", goes=2, right=False),
    _Field("EXPLOITED", "KEV"),
    _Field("CRITICAL", "CRIT", idle=_NONE),
    _Field("HIGH", "HIGH", idle=_NONE),
    _Field("MEDIUM", "MED", idle=_NONE),
    _Field("LOW", "LOW", idle=_NONE),
    _Field("NEGLIGIBLE", "NEGL", goes=3, idle=_NONE),
    _Field("UNKNOWN", "UNKN", idle=frozenset({"0"})),
    _Field("FIXABLE", "FIX"),
    _Field("OUTDATED", "OLD", goes=4, idle=frozenset({"0"})),
    _Field("PACKAGES", "PKGS", goes=5),
    _Field("COVERAGE", "COVERAGE", goes=6, right=False, idle=_COMPLETE),
    _Field("ADVISORIES", "ADVISORIES", goes=7, right=False, idle=_JUDGED),
)
_ADVISORIES = len(_FIELDS) - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the grid: a state under the name that it is shown by."""

    name: str
    mark: Span
    cells: tuple[Span, ...]


def row(name: str, state: StateReport) -> Row:
    """Return the row of `state`; it holds texts alone, so that the state itself need not be kept."""
    return Row(name, _mark(state), tuple(_cells(state)))


def overview(page: Page, states: Sequence[Labelled]) -> None:
    """Put one row for each of `states` on `page`."""
    grid(page, [row(name, state) for name, state in states], "STATE")


def grid(page: Page, shown: Sequence[Row], heading: str) -> None:
    """Put `shown` on `page`, at least one row; `heading` stands above their names."""
    rows: list[Sequence[Span]] = [one.cells for one in shown]
    fields = [n for n in range(len(_FIELDS)) if n != _ADVISORIES or not _is_idle(n, rows)]
    room = page.terminal.width
    if room is not None:
        room -= max(cell_width(one.name) for one in shown)
    short = room is not None and _width(fields, rows, short=False) > room
    if room is not None and short:
        rows = _shortened(rows)
        fields = _fitting(fields, rows, room)
    page.grid(
        [
            Column(""),
            Column(heading),
            *(Column(_heading(number, short=short), right=_FIELDS[number].right) for number in fields),
        ],
        [
            [one.mark, Span(one.name, Style.HEADING), *(cells[number] for number in fields)]
            for one, cells in zip(shown, rows, strict=True)
        ],
    )


def _fitting(fields: list[int], rows: Sequence[Sequence[Span]], room: int) -> list[int]:
    """Return the fields that fit into `room` columns: those that say nothing go first."""
    idle = [number for number in reversed(fields) if _is_idle(number, rows)]
    others = sorted((n for n in fields if n not in idle and _FIELDS[n].goes), key=lambda n: -_FIELDS[n].goes)
    for least in (*idle, *others):
        if _width(fields, rows, short=True) <= room:
            break
        fields = [number for number in fields if number != least]
    return fields


def _is_idle(number: int, rows: Iterable[Sequence[Span]]) -> bool:
    return all(row[number].text in _FIELDS[number].idle for row in rows)


def _shortened(rows: Sequence[Sequence[Span]]) -> list[Sequence[Span]]:
    """Return `rows` with days in place of times, unless a day has several snapshots."""
    days = [row[0].text[:_DAY] for row in rows if row[0].text != "-"]
    if len(set(days)) < len(days):
        return [list(row) for row in rows]
    return [[Span(row[0].text[:_DAY], row[0].style), *row[1:]] for row in rows]


def _heading(number: int, *, short: bool) -> str:
    return _FIELDS[number].short if short else _FIELDS[number].heading


def _width(fields: Sequence[int], rows: Sequence[Sequence[Span]], *, short: bool) -> int:
    widths = [
        max(len(_heading(number, short=short)), *(len(row[number].text) for row in rows)) for number in fields
    ]
    return 1 + GAP + sum(GAP + width for width in widths)


def _mark(state: StateReport) -> Span:
    return Span("", Style.PLAIN) if state.complete else Span("!", Style.WARNING)


def _cells(state: StateReport) -> list[Span]:
    packages = len(state.inventory.packages) if state.inventory else 0
    outdated = len(state.assessment.outdated) if state.assessment else 0
    taken = Span(words.moment(state.created_at_s) if state.ident else "-", Style.DIM)
    return [
        taken,
        *_finding_counts(state),
        _counter(exact=state.complete)(outdated, Style.WARNING),
        _counter(exact=disk_read(state))(packages, Style.PLAIN),
        _coverage(state),
        _advisories(state),
    ]


def _finding_counts(state: StateReport) -> list[Span]:
    """Return the counts of findings, each exact only where a source that would know more was asked."""
    findings = state.assessment.findings if state.assessment else ()
    feeds = state.assessment.feeds if state.assessment else ()
    severities = Counter(finding.severity for finding in findings)
    exploited = sum(finding.known_exploited_on is not None for finding in findings)
    fixable = sum(finding.fix is FixState.FIXABLE for finding in findings)
    whole = state.complete and knows_unfixed(feeds)
    rated = _counter(exact=whole and knows_severities(feeds))
    ranks = [rank for rank in Severity if rank is not Severity.UNKNOWN]
    return [
        _counter(exact=state.complete and knows_exploited(feeds))(exploited, Style.ALARM),
        *(rated(severities[rank], SEVERITY_STYLES[rank]) for rank in ranks),
        _counter(exact=whole)(severities[Severity.UNKNOWN], SEVERITY_STYLES[Severity.UNKNOWN]),
        _counter(exact=state.complete)(fixable, Style.PLAIN),
    ]


def _coverage(state: StateReport) -> Span:
    if state.inventory is None or (nothing_read(state) and state.inventory.os is None):
        return Span("unread", Style.BAD)
    return Span("complete", Style.GOOD) if disk_read(state) else Span("incomplete", Style.WARNING)


def _advisories(state: StateReport) -> Span:
    """Return how well the advisories could judge what was read; nobody asks where nothing was."""
    if nothing_read(state) or advisories_whole(state):
        return Span("complete" if advisories_whole(state) else "-", Style.DIM)
    return Span("incomplete" if state.assessment and state.assessment.findings else "unknown", Style.WARNING)


def _counter(*, exact: bool) -> Callable[[int, Style], Span]:
    return _number if exact else _at_least


def _number(number: int, style: Style) -> Span:
    return Span(f"{number:,}", style if number else Style.DIM)


def _at_least(number: int, style: Style) -> Span:
    return Span(f"{number:,}+", style) if number else Span("?", Style.WARNING)
