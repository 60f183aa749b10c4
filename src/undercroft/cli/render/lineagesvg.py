"""The tree of a machine's executions as a picture for a report: one self-contained SVG file.

Time flows downwards, a row for each execution, snapshot and refusal. The line at the left leads to where the
machine is now; what was rolled back branches off and is grey. The same tree gives the same bytes. Texts are
escaped twice: what a guest or an administrator wrote is made visible, then made XML. There is no script, no
link and no other file in it (SVG 1.1, 5.3: it may be shown as an image).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from xml.sax.saxutils import escape as to_xml

from undercroft.cli.render import lineagewords as say
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.lineagewords import Told
from undercroft.cli.render.page import Keep, cut
from undercroft.lineage.tree import Tree
from undercroft.model.execution import Origin
from undercroft.model.verdict import Action

ROW = 26
LANE = 24
MARGIN = 20
TOP = 74
MAX_LANES = 16
"""More branches side by side than this share the last lane."""
TITLE_CHARS = 56
_CHAR = 7.1
_WHEN, _ENDED = 128, 138

_STYLE = """
.card{fill:#ffffff;stroke:#d5d9e0}.h{font:600 16px system-ui,sans-serif;fill:#1b2230}
text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1b2230}.dim{fill:#6a7383}text.lost{fill:#949cab}
.good{fill:#1a7f43}.warn{fill:#a15c00}.bad{fill:#c0262d}.b{font-weight:600}
path{fill:none;stroke:#2f6fde;stroke-width:2.2}path.lost{stroke:#c3c8d1}path.copy{stroke-dasharray:4 3}
.dot{fill:#ffffff;stroke:#2f6fde;stroke-width:2.2}.dot.lost{stroke:#c3c8d1}.dot.live{fill:#1a7f43;stroke:#1a7f43}
.ring{fill:none;stroke:#e08a00;stroke-width:2}.snap{fill:#7a4fd0}.snap.lost{fill:#c9bfe3}
.no{stroke:#c0262d;stroke-width:2.4}.now{fill:#e9f1ff}
@media(prefers-color-scheme:dark){.card{fill:#171b22;stroke:#333b48}.h,text{fill:#e4e8ef}.dim{fill:#98a2b3}
text.lost{fill:#6d7686}.good{fill:#4cc37c}.warn{fill:#e5a23c}.bad{fill:#f2777c}path,.dot{stroke:#6ea1ff}
.dot{fill:#171b22}path.lost,.dot.lost{stroke:#4a5363}.dot.live{fill:#4cc37c;stroke:#4cc37c}.now{fill:#1f2a3d}}
"""


@dataclass(slots=True)
class _Row:
    """One row: where it stands, and what is written on it. `kind`: "execution", "state" or "refused"."""

    at: datetime
    order: tuple[int, int]
    kind: str
    line: int
    told: Told | None
    title: str
    when: str
    ended: str = ""
    decision: str = ""
    state: str = ""
    number: int = 0


@dataclass(slots=True)
class _Line:
    """One line of executions, and the line and the row that it branches off from, -1 for none."""

    rows: list[_Row]
    parent: int
    off: _Row | None
    lost: bool
    lane: int = 0


def render_svg(tree: Tree, name: str, *, hints: Mapping[str, str] | None = None) -> str:
    """Return `tree` as an SVG document.

    Args:
        tree: the tree; texts in it are untrusted.
        name: the machine's.
        hints: what else to say of an execution, by eid.
    """
    lines = _lines(tree, hints or {})
    rows = sorted((row for line in lines for row in line.rows), key=lambda row: (row.at, row.order))
    for number, row in enumerate(rows):
        row.number = number
    lanes = _give_lanes(lines)
    text_x = MARGIN + lanes * LANE + 14
    width = int(text_x + TITLE_CHARS * _CHAR + _WHEN + _ENDED + 110)
    top = TOP + 20 * len(tree.alarms)
    height = top + ROW * max(len(rows), 1) + 34
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{to_xml(escape(name))}: {to_xml(say.summary(tree))}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        _text(MARGIN, 30, cut(escape(name), TITLE_CHARS), "h"),
        _text(MARGIN, 50, say.summary(tree), "dim"),
        *(
            _text(MARGIN, 72 + 20 * number, f"ALARM: {cut(harmless(alarm.reason), 120)}", "bad b")
            for number, alarm in enumerate(tree.alarms)
        ),
        *_now(rows, top, width),
        *(_edges(line, lines, top) for line in sorted(lines, key=lambda line: not line.lost)),
        *(piece for row in rows for piece in _marks(row, lines[row.line], top)),
        *(piece for row in rows for piece in _texts(row, lines[row.line], text_x, top)),
        _text(MARGIN, height - 14, _legend(tree), "dim"),
        "</svg>",
    ]
    return "\n".join(piece for piece in pieces if piece) + "\n"


def _lines(tree: Tree, hints: Mapping[str, str]) -> list[_Line]:
    """Return the lines, each after the one that it branches off from."""
    lines: list[_Line] = []
    if tree.refusals:
        early = _Line([], -1, None, lost=True)
        lines.append(early)
        early.rows += [
            _Row(refused.at, (0, number), "refused", 0, None, say.refusal(refused), say.when(refused.at))
            for number, refused in enumerate(tree.refusals)
        ]
    waiting: list[tuple[str, int, _Row | None]] = [(root, -1, None) for root in reversed(tree.roots)]
    while waiting:
        eid, parent, off = waiting.pop()
        number = len(lines)
        line = _Line([], parent, off, lost=not tree.nodes[eid].kept)
        lines.append(line)
        for told in say.line(tree, eid, hints, everything=False):
            below = list(_rows_below(told, number))
            begun = _execution_row(tree, told, number, hints)
            line.rows += [begun, *below]
            from_states = {row.state: row for row in below if row.state}
            branches = [child for child in told.last.children if child != told.last.main]
            waiting += [
                (child, number, from_states.get(tree.nodes[child].execution.state, begun))
                for child in reversed(branches)
            ]
    return lines


def _execution_row(tree: Tree, told: Told, line: int, hints: Mapping[str, str]) -> _Row:
    execution = told.first.execution
    hint = hints.get(execution.eid, "")
    title = say.title(told, tree.machine) + (f", {harmless(hint)}" if hint else "")
    return _Row(
        execution.started_at,
        (line, 0),
        "execution",
        line,
        told,
        title,
        say.when(execution.started_at),
        say.ended(told),
        say.decision(told),
    )


def _rows_below(told: Told, line: int) -> Iterator[_Row]:
    node = told.last
    for state in node.taken:
        at = max(state.taken_at, node.execution.started_at)
        yield _Row(
            at, (line, 1), "state", line, told, say.taken(state), say.when(state.taken_at), state=state.key
        )
    for refused in node.refusals:
        yield _Row(refused.at, (line, 2), "refused", line, told, say.refusal(refused), say.when(refused.at))


def _give_lanes(lines: list[_Line]) -> int:
    """Give each line the leftmost lane that is free for as long as it is; return how many there are."""
    ends: list[int] = []
    for line in sorted(lines, key=lambda line: line.off.number if line.off else line.rows[0].number):
        begin = line.off.number if line.off else line.rows[0].number
        last = max(row.number for row in line.rows)
        own = lines[line.parent].lane + 1 if line.parent >= 0 else 0
        free = [lane for lane in range(own, len(ends)) if ends[lane] < begin]
        line.lane = min(free[0] if free else max(len(ends), own), MAX_LANES - 1)
        ends += [-1] * (line.lane + 1 - len(ends))
        ends[line.lane] = max(ends[line.lane], last)
    return max(len(ends), 1)


def _place(row: _Row, line: _Line, top: int) -> tuple[int, int]:
    return MARGIN + 8 + line.lane * LANE, top + ROW * row.number + ROW // 2


def _edges(line: _Line, lines: list[_Line], top: int) -> str:
    """Return the line itself, and the curve from where it branches off."""
    begin_x, begin_y = _place(line.rows[0], line, top)
    end = max((row for row in line.rows if row.kind != "refused"), key=lambda row: row.number, default=None)
    lost = " lost" if line.lost else ""
    path = f"M{begin_x} {begin_y}"
    if line.off is not None:
        x, y = _place(line.off, lines[line.parent], top)
        turn = y + ROW
        path = f"M{x} {y}C{x} {turn} {begin_x} {y} {begin_x} {turn}V{begin_y}"
    if end is None:
        return ""
    first = line.rows[0].told
    copy = " copy" if first and first.first.execution.origin is Origin.CLONE and line.off else ""
    main = f'<path class="edge{lost}" d="M{begin_x} {begin_y}V{_place(end, line, top)[1]}"/>'
    return f'<path class="edge{lost}{copy}" d="{path}"/>{main}' if line.off else main


def _marks(row: _Row, line: _Line, top: int) -> Iterator[str]:
    x, y = _place(row, line, top)
    lost = " lost" if _lost(row) else ""
    if row.kind == "refused":
        yield f'<path class="no" d="M{x - 5} {y - 5}L{x + 5} {y + 5}M{x + 5} {y - 5}L{x - 5} {y + 5}"/>'
    elif row.kind == "state":
        diamond = f"{x},{y - 6} {x + 6},{y} {x},{y + 6} {x - 6},{y}"
        yield f'<polygon class="snap{lost}" points="{diamond}"/>'
    elif row.told:
        node = row.told.first
        live = " live" if node.execution.live else ""
        if node.decision and node.decision.action is Action.QUARANTINE:
            yield f'<circle class="ring" cx="{x}" cy="{y}" r="9"/>'
        yield f'<circle class="dot{lost}{live}" cx="{x}" cy="{y}" r="5.5"/>'


def _texts(row: _Row, line: _Line, text_x: int, top: int) -> Iterator[str]:
    y = _place(row, line, top)[1] + 4
    style = "bad" if row.kind == "refused" else "lost" if _lost(row) else ""
    here = " b" if row.told and row.kind == "execution" and row.told.last.here else ""
    yield _text(text_x, y, cut(row.title, TITLE_CHARS, keep=Keep.HEAD), f"{style}{here}")
    x = text_x + TITLE_CHARS * _CHAR
    yield _text(x, y, row.when, style or "dim")
    ended = "good" if row.ended == "running" else style or "dim"
    yield _text(x + _WHEN, y, row.ended, ended)
    answered = {"quarantined": "warn b", "refused": "bad b"}.get(row.decision, style or "dim")
    yield _text(x + _WHEN + _ENDED, y, row.decision, answered)


def _now(rows: list[_Row], top: int, width: int) -> Iterator[str]:
    """Yield the band behind the rows where machines are now."""
    for row in rows:
        if row.kind == "execution" and row.told and row.told.last.here:
            y = top + ROW * row.number + 1
            yield f'<rect class="now" x="8" y="{y}" width="{width - 16}" height="{ROW - 2}" rx="5"/>'


def _lost(row: _Row) -> bool:
    return row.told is not None and say.is_lost(row.told.last.execution, row.told.last)


def _legend(tree: Tree) -> str:
    parts = [
        "grey: rolled back",
        "band: where it is now",
        "diamond: snapshot or save",
        "ring: quarantined",
        "cross: refused",
    ]
    if any(not node.execution.certain for node in tree.nodes.values()):
        parts.append("?: not certain")
    return " \u00b7 ".join(parts)


def _text(x: float, y: float, text: str, style: str) -> str:
    if not text:
        return ""
    return f'<text class="{style.strip()}" x="{x:.0f}" y="{y:.0f}">{to_xml(text)}</text>'
