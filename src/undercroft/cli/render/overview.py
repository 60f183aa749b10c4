"""The grid of states: one row each, counts that line up, columns that fit the width.

A "!" before a name marks an incomplete state. Its counts are those of what could be read: "4+", and "?"
in place of 0, since nobody can say that there is none.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from undercroft.cli.render import words
from undercroft.cli.render.escape import cell_width
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
    """One column: its headings, and when it goes (the highest number first, 0 never)."""

    heading: str
    short: str
    goes: int = 0
    right: bool = True


_FIELDS = (
    _Field("TAKEN", "TAKEN", goes=2, right=False),
    _Field("EXPLOITED", "KEV"),
    _Field("CRITICAL", "CRIT"),
    _Field("HIGH", "HIGH"),
    _Field("MEDIUM", "MED"),
    _Field("LOW", "LOW"),
    _Field("NEGLIGIBLE", "NEGL", goes=3),
    _Field("UNKNOWN", "UNKN"),
    _Field("FIXABLE", "FIX"),
    _Field("OUTDATED", "OLD", goes=4),
    _Field("PACKAGES", "PKGS", goes=5),
    _Field("COVERAGE", "COVERAGE", goes=6, right=False),
)


def overview(page: Page, states: Sequence[Labelled]) -> None:
    """Put one row for each of `states` on `page`."""
    rows = [_cells(state) for _, state in states]
    name_width = max(cell_width(name) for name, _ in states)
    fields = list(range(len(_FIELDS)))
    width = page.terminal.width
    short = width is not None and _width(fields, rows, short=False) + name_width > width
    while width is not None and _width(fields, rows, short=short) + name_width > width:
        least = max(fields, key=lambda number: _FIELDS[number].goes)
        if not _FIELDS[least].goes:
            break
        fields.remove(least)
    page.grid(
        [
            Column(""),
            Column("STATE"),
            *(Column(_heading(number, short=short), right=_FIELDS[number].right) for number in fields),
        ],
        [
            [
                _mark(state),
                Span(name, Style.HEADING),
                *(_fitted(row[number], short=short) for number in fields),
            ]
            for (name, state), row in zip(states, rows, strict=True)
        ],
    )


def _heading(number: int, *, short: bool) -> str:
    return _FIELDS[number].short if short else _FIELDS[number].heading


def _fitted(cell: Span, *, short: bool) -> Span:
    """Return `cell`, a time without its hours where columns are short."""
    return Span(cell.text[:10], cell.style) if short else cell


def _width(fields: Sequence[int], rows: Sequence[Sequence[Span]], *, short: bool) -> int:
    widths = [
        max(
            len(_heading(number, short=short)), *(len(_fitted(row[number], short=short).text) for row in rows)
        )
        for number in fields
    ]
    return 1 + GAP + sum(GAP + width for width in widths)


def _mark(state: StateReport) -> Span:
    return Span("", Style.PLAIN) if state.complete else Span("!", Style.WARNING)


def _cells(state: StateReport) -> list[Span]:
    number = _number if state.complete else _at_least
    packages = number(len(state.inventory.packages) if state.inventory else 0, Style.PLAIN)
    outdated = number(len(state.assessment.outdated) if state.assessment else 0, Style.WARNING)
    taken = Span(words.moment(state.created_at_s) if state.ident else "-", Style.DIM)
    return [taken, *_finding_counts(state, number), outdated, packages, _coverage(state)]


def _finding_counts(state: StateReport, number: Callable[[int, Style], Span]) -> list[Span]:
    findings = state.assessment.findings if state.assessment else ()
    severities = Counter(finding.severity for finding in findings)
    exploited = sum(finding.known_exploited_on is not None for finding in findings)
    fixable = sum(finding.fix is FixState.FIXABLE for finding in findings)
    return [
        number(exploited, Style.ALARM),
        *(number(severities[severity], SEVERITY_STYLES[severity]) for severity in Severity),
        number(fixable, Style.PLAIN),
    ]


def _coverage(state: StateReport) -> Span:
    if state.inventory is None:
        return Span("unread", Style.BAD)
    return Span("complete", Style.GOOD) if state.complete else Span("incomplete", Style.WARNING)


def _number(number: int, style: Style) -> Span:
    return Span(f"{number:,}", style if number else Style.DIM)


def _at_least(number: int, style: Style) -> Span:
    return Span(f"{number:,}+", style) if number else Span("?", Style.WARNING)
