"""What the states of one machine are called, and what they have in common.

A machine may have hundreds of snapshots that say the same; reports name a fact once, with the states
that share it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from undercroft.cli.render.escape import cell_width, escape
from undercroft.cli.render.page import Keep, Span, cut
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.finding import Finding
from undercroft.model.report import CURRENT, ScanReport, StateReport
from undercroft.usecases.diff import only_in

_NAMED = 3
"""States that a line names before it says "and N more"."""
_LABEL_SHARE = 4
"""A label takes at most one fourth of a line."""


class Labelled(NamedTuple):
    """A state and what it is called in this report: escaped, unique, and short enough for a column."""

    label: str
    state: StateReport


def labelled(states: Sequence[StateReport], terminal: Terminal) -> list[Labelled]:
    """Return the states with labels: the name, and the snapshot's ID where the name is not unique.

    A snapshot that is named "current" gets its ID too, so that it can't pass for the current state.
    """
    seen = Counter(state.name for state in states)
    labels = [
        f"{escape(state.name)} (ID {escape(state.ident)})"
        if state.ident and (seen[state.name] > 1 or state.name in ("", CURRENT))
        else escape(state.name)
        for state in states
    ]
    if terminal.width is not None:
        labels = _shortened(labels, [state.ident for state in states], terminal)
    return [Labelled(*pair) for pair in zip(labels, states, strict=True)]


def _shortened(labels: Sequence[str], idents: Sequence[str], terminal: Terminal) -> list[str]:
    """Return labels that fit a column, cut where they stay distinct: in the middle, the end or the start."""
    width, ellipsis = (terminal.width or 0) // _LABEL_SHARE, terminal.ellipsis
    for keep in Keep:
        short = [cut(label, width, ellipsis, keep=keep) for label in labels]
        if len(set(short)) == len(labels):
            return short
    return [
        f"{cut(label, width - len(ident) - 5, ellipsis)} (ID {ident})" if cell_width(label) > width else label
        for label, ident in zip(labels, map(escape, idents), strict=True)
    ]


def names_of(labels: Sequence[str], total: int) -> str:
    """Return the states in words: "all states", or the first few by name."""
    if len(labels) == total > 1:
        return "all states"
    if len(labels) <= _NAMED + 1:
        return ", ".join(labels)
    return f"{', '.join(labels[:_NAMED])} and {len(labels) - _NAMED:,} more states"


def shared_by(labels: Sequence[str], states: Sequence[Labelled]) -> Iterator[Span]:
    """Yield which states a fact is about; with a single state nobody needs to be told."""
    if len(states) > 1:
        yield Span(f"  [{names_of(labels, len(states))}]", Style.DIM)


def brought_back(report: ScanReport, snapshot: StateReport) -> tuple[Finding, ...] | None:
    """Return the findings of `snapshot` that the current state does not have: what a revert brings back.

    None where the report has no assessed current state, or the snapshot was not assessed: nobody knows.
    """
    current = next((state for state in report.states if not state.ident), None)
    if current is None or current.assessment is None or snapshot.assessment is None:
        return None
    return only_in(snapshot, current)


def findings_of(state: StateReport) -> tuple[Finding, ...]:
    """Return the findings of a state, none where it was not assessed."""
    return state.assessment.findings if state.assessment else ()
