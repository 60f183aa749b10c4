"""The map of a policy as a picture: one self-contained SVG file, in the style of the lineage's.

A matrix: rows are sources, columns targets; a blue cell is allowed, with its services where they fit, a red
cross is what may never be, grey is denied. The same map gives the same bytes. No script, no link, no other
file (SVG 1.1, 5.3: it may be shown as an image). Texts are made visible, then made XML.
"""

from collections.abc import Iterator
from xml.sax.saxutils import escape as to_xml

from undercroft.cli.render.escape import cell_width, escape
from undercroft.cli.render.firewallmap import never_pairs, shown_services
from undercroft.cli.render.page import Keep, cut
from undercroft.usecases.firewall.answers import FlowMap, MapFlow, MapNever

MARGIN = 20
TOP = 62
WIDE_UP_TO = 12
"""Up to this many names a cell has room for services; beyond it is a square."""
NAME_CHARS = 26
_CHAR = 7.4
_SMALL_CHAR = 6.5
_CELL_CHARS = 15
_WIDE, _LINE, _SQUARE = 112, 14, 26
_MAX_LINES = 3

_STYLE = """
.card{fill:#ffffff;stroke:#d5d9e0}.h{font:600 16px system-ui,sans-serif;fill:#1b2230}
text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#1b2230}.dim{fill:#6a7383}.b{font-weight:600}
.s{font-size:11px;fill:#0d3f96}.no{fill:#f3f4f7}.yes{fill:#d7e5ff;stroke:#2f6fde}.self{fill:#e9ebef}
.never{fill:#fdebec;stroke:#e3a1a5}.some{fill:#d7e5ff;stroke:#c0262d;stroke-dasharray:4 3}
path{fill:none;stroke:#c0262d;stroke-width:2}.dot{fill:#2f6fde}
@media(prefers-color-scheme:dark){.card{fill:#171b22;stroke:#333b48}.h,text{fill:#e4e8ef}.dim{fill:#98a2b3}
.s{fill:#cfe0ff}.no{fill:#1e232c}.self{fill:#262c37}.yes{fill:#1f3a6b;stroke:#6ea1ff}
.never{fill:#3a2125;stroke:#7d3d43}.some{fill:#1f3a6b;stroke:#f2777c}path{stroke:#f2777c}.dot{fill:#6ea1ff}}
"""


def render_map_svg(found: FlowMap) -> str:
    """Return the map as an SVG document; names in it are untrusted."""
    wide = len(found.places) <= WIDE_UP_TO
    cell_width_px = _WIDE if wide else _SQUARE
    cells = {(flow.source, flow.target): flow for flow in found.flows}
    nevers = never_pairs(found.nevers)
    lines = max([2, *(len(_lines(flow)) for flow in cells.values())]) if wide else 1
    cell_height = 12 + _LINE * lines if wide else _SQUARE
    names = [cut(escape(place.name), NAME_CHARS, keep=Keep.HEAD) for place in found.places]
    name_px = int(max([40, *(cell_width(name) * _CHAR + 34 for name in names)]))
    head_px = 24 if wide and _all_fit(names) else int(name_px * 0.72) + 10
    left, top = MARGIN + name_px, TOP + head_px
    tail = 20 if wide and _all_fit(names) else int(name_px * 0.72)
    width = max(left + cell_width_px * len(names) + MARGIN + tail, 520)
    height = top + cell_height * len(names) + 44
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{to_xml(_title(found))}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        _text(MARGIN, 30, "Who may talk to whom", "h"),
        _text(MARGIN, 50, _title(found), "dim"),
        *_heads(names, left, top, cell_width_px, slanted=not (wide and _all_fit(names))),
    ]
    for row, (place, name) in enumerate(zip(found.places, names, strict=True)):
        y = top + row * cell_height
        pieces.append(_row_name(name, left, y + cell_height / 2))
        for column, other in enumerate(found.places):
            pair = place.name, other.name
            pieces += _cell(
                (left + column * cell_width_px, y, cell_width_px, cell_height),
                cells.get(pair),
                nevers.get(pair),
                pair,
                wide=wide,
            )
    pieces += [*_legend(found, height - 18), "</svg>"]
    return "\n".join(piece for piece in pieces if piece) + "\n"


def _all_fit(names: list[str]) -> bool:
    return all(cell_width(name) * _CHAR <= _WIDE - 8 for name in names)


def _title(found: FlowMap) -> str:
    policy = f"policy {found.policy}" if found.policy else f"policy {found.digest[:12]}, not applied"
    return f"from each row to each column; {policy}"


def _heads(names: list[str], left: int, top: int, cell_px: int, *, slanted: bool) -> Iterator[str]:
    for number, name in enumerate(names):
        middle = left + number * cell_px + cell_px / 2
        if slanted:
            place = f"translate({middle:.0f} {top - 8}) rotate(-45)"
            yield f'<text class="b" transform="{place}">{to_xml(name)}</text>'
        else:
            yield f'<text class="b" text-anchor="middle" x="{middle:.0f}" y="{top - 8}">{to_xml(name)}</text>'


def _row_name(name: str, left: int, middle: float) -> str:
    return f'<text class="b" text-anchor="end" x="{left - 10}" y="{middle + 4:.0f}">{to_xml(name)}</text>'


def _cell(
    box: tuple[int, int, int, int],
    flow: MapFlow | None,
    never: MapNever | None,
    pair: tuple[str, str],
    *,
    wide: bool,
) -> Iterator[str]:
    x, y, width, height = box
    both = flow is not None and never is not None
    kind = "some" if both else "yes" if flow else "never" if never else "self" if pair[0] == pair[1] else "no"
    yield (
        f'<rect class="{kind}" x="{x + 2}" y="{y + 2}" width="{width - 4}" height="{height - 4}" rx="4">'
        f"<title>{to_xml(_told(flow, never, pair))}</title></rect>"
    )
    middle_x, middle_y = x + width / 2, y + height / 2
    if flow and wide:
        lines = _lines(flow)
        first = middle_y + 4 - (len(lines) - 1) * _LINE / 2
        for number, line in enumerate(lines):
            yield (
                f'<text class="s" text-anchor="middle" x="{middle_x:.0f}" y="{first + number * _LINE:.0f}">'
                f"{to_xml(line)}</text>"
            )
    elif flow:
        yield f'<circle class="dot" cx="{middle_x:.0f}" cy="{middle_y:.0f}" r="5"/>'
    elif never:
        a, b = middle_x - 5, middle_x + 5
        c, d = middle_y - 5, middle_y + 5
        yield f'<path d="M{a:.0f} {c:.0f}L{b:.0f} {d:.0f}M{b:.0f} {c:.0f}L{a:.0f} {d:.0f}"/>'


def _lines(flow: MapFlow) -> list[str]:
    """Return the services in at most `_MAX_LINES` lines of a cell's width."""
    parts = shown_services(flow.services, 3).replace(" and ", " +").replace(" more", "").split(", ")
    lines = [cut(part, _CELL_CHARS, keep=Keep.HEAD) for part in parts]
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], f"+{len(parts) - _MAX_LINES + 1} more"]
    return lines


def _told(flow: MapFlow | None, never: MapNever | None, pair: tuple[str, str]) -> str:
    source, target = map(escape, pair)
    says = [f"{source} to {target}: "]
    says.append(f"{shown_services(flow.services)} ({escape(', '.join(flow.places))})" if flow else "denied")
    if never:
        what = shown_services(never.services) or "anything"
        says.append(f"; never {what} ({escape(never.place)})")
    return "".join(says)


def _legend(found: FlowMap, y: int) -> Iterator[str]:
    """Yield what the cells mean; the swatches stand before their words."""
    x = MARGIN
    entries = [("yes", "allowed"), ("never", "never"), ("no", "denied")]
    if {(f.source, f.target) for f in found.flows} & {(n.source, n.target) for n in found.nevers}:
        entries.insert(1, ("some", "allowed, some of it never"))
    for kind, word in entries:
        yield f'<rect class="{kind}" x="{x}" y="{y - 10}" width="14" height="12" rx="3"/>'
        if kind == "never":
            yield f'<path d="M{x + 4} {y - 7}L{x + 10} {y - 1}M{x + 10} {y - 7}L{x + 4} {y - 1}"/>'
        yield _text(x + 20, y, word, "dim")
        x += int(20 + len(word) * _CHAR + 22)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.0f}" y="{y:.0f}">{to_xml(text)}</text>' if text else ""
