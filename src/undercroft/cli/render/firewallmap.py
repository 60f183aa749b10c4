"""The map of a policy for people: a matrix of who may talk to whom, and the services below it.

Rows are sources, columns targets. A column bears the number of its row, written downwards, so that thirty
labels fit a terminal of 80 columns.
"""

import os
from collections.abc import Sequence

from undercroft.cli.render import words
from undercroft.cli.render.escape import cell_width, escape
from undercroft.cli.render.page import GAP, Column, Page, Span, Spans, cut, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.usecases.firewall.answers import FlowMap, MapNever, Place

MAX_NAME_COLUMNS = 24
_SERVICES = 6
_TARGETS = 5
_TOLD = frozenset({"OPENS", "CLOSES"})
"""Headings that a sentence needs."""
_Said = tuple[tuple[str, ...], tuple[str, ...]]
"""Services, and the rules that allow them."""
_PROTOCOLS = ("tcp", "udp", "sctp", "icmp")
_COLUMNS = (
    Column("FROM", flexible=True),
    Column(""),
    Column("TO", flexible=True),
    Column("MAY OPEN", flexible=True, vital=True),
    Column("RULE", flexible=True, optional=True),
)


def render_map(found: FlowMap, terminal: Terminal) -> str:
    """Return the map as text for `terminal`; a matrix that is too wide is left out, the list stays."""
    page = Page(terminal)
    number = f"applied policy {found.policy}" if found.policy else "a policy that is not applied"
    page.paragraph(span("Who may talk to whom", Style.HEADING), span(f"  {number}", Style.DIM))
    page.blank()
    if not found.places:
        page.paragraph(span("The policy names nobody: nothing passes to or from machines."))
        return page.text()
    _matrix(page, found)
    _flows(page, found)
    _nevers(page, found)
    return page.text()


def shown_services(services: Sequence[str], limit: int = _SERVICES) -> str:
    """Return services for a cell: those of one protocol together, "tcp/80,443, icmp"."""
    by_protocol: dict[str, list[str]] = {}
    for service in services:
        protocol, _, ports = service.partition("/")
        by_protocol.setdefault(protocol, []).append(ports)
    ordered = sorted(by_protocol.items(), key=lambda item: _PROTOCOLS.index(item[0]))
    return ", ".join(
        f"{protocol}/{words.listed(ports, limit).replace(', ', ',')}" if ports != [""] else protocol
        for protocol, ports in ordered
    )


def listed(page: Page, columns: Sequence[Column], rows: Sequence[Spans]) -> None:
    """Put rows as a grid where it fits, else each as a sentence: of a flow nothing is cut."""
    widths = [max(cell_width(row[number].text) for row in rows) for number in range(len(columns))]
    if page.terminal.width is None or 2 + sum(widths) + GAP * (len(widths) - 1) <= page.terminal.width:
        page.grid(columns, rows, indent=2)
        return
    for row in rows:
        told = [row[0]]
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell.text and cell.text != "-":
                heading = f"{column.heading.lower()} " if column.heading in _TOLD else ""
                told += (span(f"  {heading}"), cell)
        page.paragraph(*told, indent=2, hang=4)


def shown_places(places: Sequence[str]) -> str:
    """Return where a policy says something, for a cell: files by their own names, "policy.yaml:12,14"."""
    lines: dict[str, list[str]] = {}
    for place in places:
        file, _, line = place.rpartition(":")
        lines.setdefault(os.path.basename(file), []).append(line)
    return ", ".join(f"{file}:{words.listed(found, 2).replace(', ', ',')}" for file, found in lines.items())


def _matrix(page: Page, found: FlowMap) -> None:
    terminal = page.terminal
    flows = {(flow.source, flow.target) for flow in found.flows}
    nevers = {(never.source, never.target) for never in found.nevers if not never.services}
    partly = {(never.source, never.target) for never in found.nevers} - nevers
    names = [cut(escape(place.name), MAX_NAME_COLUMNS, terminal.ellipsis) for place in found.places]
    name_width = max(map(cell_width, names))
    digits = len(str(len(names)))
    before = digits + 2 + name_width + 1
    room = (terminal.width or 10_000) - before
    gap = " " if 2 * len(names) <= room else ""
    if len(names) * (len(gap) + 1) > room:
        page.paragraph(span(f"{len(names)} names: too many for a matrix here; --svg draws it", Style.DIM))
        return
    for digit in range(digits):
        numbers = [f"{number:>{digits}}"[digit] for number in range(1, len(names) + 1)]
        page.record(span(" " * before), span("".join(gap + number for number in numbers), Style.DIM))
    dot, cross, half, none = ("●", "✕", "◐", "·") if terminal.unicode else ("*", "x", "+", ".")
    for row, (place, name) in enumerate(zip(found.places, names, strict=True), 1):
        cells: list[Span] = []
        for other in found.places:
            pair = place.name, other.name
            if pair in flows and pair in partly:
                cell = Span(half, Style.WARNING)
            elif pair in flows:
                cell = Span(dot, Style.GOOD)
            elif pair in nevers or pair in partly:
                cell = Span(cross, Style.BAD)
            else:
                cell = Span(none, Style.DIM)
            cells += (span(gap), cell)
        label = span(name + " " * (name_width - cell_width(name)), _style(place))
        page.record(span(f"{row:>{digits}}  ", Style.DIM), label, span(" "), *cells)
    legend = [f"{dot} allowed", f"{cross} never", f"{none} denied"]
    if flows & partly:
        legend.insert(1, f"{half} some services never")
    page.paragraph(span(f"row: from, column: to; {', '.join(legend)}", Style.DIM))


def _flows(page: Page, found: FlowMap) -> None:
    page.heading(span("ALLOWED", Style.HEADING), span("  all else is denied", Style.DIM))
    if not found.flows:
        page.paragraph(span("nothing"), indent=2)
        return
    order = [place.name for place in found.places]
    places = {place.name: place for place in found.places}
    by_source: dict[tuple[str, _Said], list[str]] = {}
    for flow in found.flows:
        by_source.setdefault((flow.source, (flow.services, flow.places)), []).append(flow.target)
    alike: dict[tuple[tuple[str, ...], _Said], list[str]] = {}
    for (source, what), targets in sorted(by_source.items(), key=lambda item: order.index(item[0][0])):
        alike.setdefault((tuple(sorted(targets, key=order.index)), what), []).append(source)
    rows: list[Spans] = [
        [
            _named([places[name] for name in sources]),
            span(page.terminal.arrow, Style.DIM),
            _named([places[name] for name in targets]),
            span(shown_services(services)),
            span(escape(shown_places(rules)), Style.DIM),
        ]
        for (targets, (services, rules)), sources in alike.items()
    ]
    listed(page, _COLUMNS, rows)


def _nevers(page: Page, found: FlowMap) -> None:
    if not found.nevers:
        return
    page.heading(span("NEVER", Style.HEADING))
    groups: dict[tuple[str, tuple[str, ...], int, str], list[str]] = {}
    for never in found.nevers:
        groups.setdefault((never.place, never.services, never.hops, never.source), []).append(never.target)
    for (place, services, hops, source), targets in groups.items():
        what = f": {shown_services(services)}" if services else ""
        over = f", over up to {hops} flows" if hops > 1 else ""
        page.paragraph(
            span(escape(source), Style.NAME),
            span(f" {page.terminal.arrow} "),
            span(escape(words.listed(targets, 8))),
            span(f"{what}{over}"),
            span(f"  {escape(shown_places([place]))}", Style.DIM),
            indent=2,
            hang=2,
        )


def _named(places: Sequence[Place]) -> Span:
    names = [
        place.name if place.machines is None else f"{place.name} ({place.machines:,})" for place in places
    ]
    return span(escape(words.listed(names, _TARGETS)), _style(places[0]))


def _style(place: Place) -> Style:
    return Style.NAME if place.kind == "label" else Style.PLAIN


def never_pairs(nevers: Sequence[MapNever]) -> dict[tuple[str, str], MapNever]:
    """Return the strictest `MapNever` of each pair: one for all services before one for some."""
    found: dict[tuple[str, str], MapNever] = {}
    for never in sorted(nevers, key=lambda item: bool(item.services)):
        found.setdefault((never.source, never.target), never)
    return found
