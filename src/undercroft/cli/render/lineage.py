"""The tree of a machine's executions for people: where it is now stands at the left, below everything.

What was rolled back branches off to the right. A run of plain starts is one line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from undercroft.cli.render import lineagewords as say
from undercroft.cli.render.data import DataFormat, render_value
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.lineagewords import Told
from undercroft.cli.render.machinefacts import named_checkpoints
from undercroft.cli.render.page import Column, Page, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.lineage.alarms import Alarm
from undercroft.lineage.tree import Node, Tree
from undercroft.model.verdict import Action, Decision
from undercroft.usecases.fleet.views.values import CheckpointView

MAX_INDENT = 40
"""Columns of branches in branches; deeper ones stand beside each other."""

_COLUMNS = (
    Column("EXECUTION", flexible=True, vital=True),
    Column("BEGAN"),
    Column("ENDED"),
    Column("DECISION", flexible=True),
)

_ANSWERED = {Action.QUARANTINE: Style.WARNING, Action.REFUSE: Style.BAD}


@dataclass(frozen=True, slots=True)
class _Glyphs:
    live: str
    ended: str
    lost: str
    state: str
    refused: str
    branch: str
    rail: str
    here: str


_UNICODE = _Glyphs("●", "○", "◌", "◇", "✕", "├─", "│ ", " ◀ here")
_ASCII = _Glyphs("*", "o", ".", "+", "x", "|-", "| ", " <- here")


def render_lineage(
    tree: Tree,
    name: str,
    terminal: Terminal,
    *,
    hints: Mapping[str, str] | None = None,
    everything: bool = False,
    checkpoints: Sequence[CheckpointView] = (),
    exposed: Sequence[str] = (),
) -> str:
    """Return `tree` as text for `terminal`.

    Args:
        tree: the tree; texts in it are untrusted.
        name: the machine's.
        terminal: where the text goes.
        hints: what else to say of an execution, by eid: what a rollback took below the patch floor.
        everything: show each start, also in a long run of plain ones.
        checkpoints: the machine's, parents first; they hold no state that it could go back to.
        exposed: its snapshots with RAM whose guest did not stand still.
    """
    page = Page(terminal)
    page.paragraph(span(escape(name), Style.HEADING), span(f"  {say.summary(tree)}", Style.DIM))
    for alarm in tree.alarms:
        page.paragraph(
            span("ALARM", Style.ALARM), span(f"  {harmless(alarm.reason)}", Style.BAD), indent=2, hang=2
        )
    page.blank()
    rows = list(_rows(tree, _UNICODE if terminal.unicode else _ASCII, hints or {}, everything=everything))
    if rows:
        page.grid(_COLUMNS, rows)
    else:
        page.paragraph(span("No execution is on record yet."))
    if checkpoints:
        page.blank()
    for named, text in named_checkpoints(checkpoints):
        page.paragraph(span(f"{named}  ", Style.DIM), span(text), hang=12)
    if exposed:
        page.blank()
        names = escape(", ".join(exposed))
        page.paragraph(
            span("exposed  ", Style.WARNING),
            span(
                f"{names}: each resume of one draws the same random numbers; undercroft snapshot takes others"
            ),
            hang=9,
        )
    if any(not node.execution.certain for node in tree.nodes.values()):
        page.blank()
        page.paragraph(span("? not certain; -f json shows what it was concluded from", Style.DIM))
    return page.text()


@dataclass(frozen=True, slots=True)
class _Document:
    """The tree for programs: `executions` in order of their start, each with its place in the tree."""

    machine: str
    name: str
    roots: tuple[str, ...]
    executions: tuple[Node, ...]
    alarms: tuple[Alarm, ...]
    refusals: tuple[Decision, ...]
    checkpoints: tuple[CheckpointView, ...]
    exposed: tuple[str, ...]


def render_lineage_data(
    tree: Tree,
    name: str,
    data_format: DataFormat | str,
    checkpoints: Sequence[CheckpointView] = (),
    exposed: Sequence[str] = (),
) -> str:
    """Return `tree` for programs ("undercroft/lineage/1"), with checkpoints and exposed snapshots."""
    document = _Document(
        tree.machine,
        name,
        tree.roots,
        tuple(tree.nodes.values()),
        tree.alarms,
        tree.refusals,
        tuple(checkpoints),
        tuple(exposed),
    )
    return render_value("undercroft/lineage/1", document, data_format)


def _rows(tree: Tree, glyphs: _Glyphs, hints: Mapping[str, str], *, everything: bool) -> Iterator[Spans]:
    """Yield a row for each execution, snapshot and refusal, branches before what goes on."""
    for refused in tree.refusals:
        yield _refusal(glyphs.refused, refused)
    waiting: list[tuple[str, str, Iterator[Told]]] = [
        ("", "", say.line(tree, root, hints, everything=everything)) for root in reversed(tree.roots)
    ]
    while waiting:
        indent, rail, line = waiting.pop()
        told = next(line, None)
        if told is None:
            continue
        yield _execution(tree, told, indent, glyphs)
        yield from _below(told.last, rail, glyphs, hints)
        waiting.append((rail, rail, line))
        deeper = len(rail) < MAX_INDENT
        waiting += [
            (
                rail + glyphs.branch if deeper else rail,
                rail + glyphs.rail if deeper else rail,
                say.line(tree, child, hints, everything=everything),
            )
            for child in reversed(told.last.children)
            if child != told.last.main
        ]


def _execution(tree: Tree, told: Told, indent: str, glyphs: _Glyphs) -> Spans:
    node = told.last
    lost = say.is_lost(node.execution, node)
    mark = glyphs.live if node.execution.live else glyphs.lost if lost else glyphs.ended
    here = glyphs.here if node.here and node.execution.machine == tree.machine else ""
    style = Style.DIM if lost else Style.HEADING if here else Style.PLAIN
    answered = _ANSWERED.get(told.first.decision.action, style) if told.first.decision else style
    return [
        span(f"{indent}{mark} {say.title(told, tree.machine)}{here}", style),
        span(say.when(told.first.execution.started_at), style),
        span(say.ended(told), Style.GOOD if node.execution.live else style),
        span(say.decision(told), answered),
    ]


def _below(node: Node, rail: str, glyphs: _Glyphs, hints: Mapping[str, str]) -> Iterator[Spans]:
    """Yield the hint on an execution, what was taken in it, and what was refused after it."""
    indent = f"{rail}{glyphs.rail if node.children else '  '}"
    if hint := hints.get(node.execution.eid):
        yield [span(f"{indent}! {harmless(hint)}", Style.WARNING), span(""), span(""), span("")]
    for state in node.taken:
        yield [
            span(f"{indent}{glyphs.state} {say.taken(state)}", Style.DIM if state.gone_at else Style.NAME),
            span(say.when(state.taken_at), Style.DIM),
            span(""),
            span(""),
        ]
    for refused in node.refusals:
        yield _refusal(f"{indent}{glyphs.refused}", refused)


def _refusal(mark: str, refused: Decision) -> Spans:
    return [
        span(f"{mark} start refused", Style.BAD),
        span(say.when(refused.at), Style.DIM),
        span(""),
        span(f"refused: {harmless(refused.reason)}", Style.BAD),
    ]
