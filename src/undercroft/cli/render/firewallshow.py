"""One machine as the firewall sees it, and a traced flow, for people."""

from collections.abc import Sequence

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.firewallmap import listed, shown_places, shown_services
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.usecases.firewall.answers import KernelHas, PortView, Reach, Showing, Trace, Way

_LISTED = 6
_REACH = (
    Column("WHO", flexible=True, vital=True),
    Column("SERVICES", flexible=True, vital=True),
    Column("MACHINES", flexible=True, optional=True),
    Column("RULE", flexible=True),
)
_PORTS = (
    Column("TAP"),
    Column("MAC"),
    Column("NETWORK", flexible=True),
    Column("ADDRESSES", flexible=True, vital=True, whole=True),
)
_KERNEL = {
    KernelHas.SAME: ("has exactly these addresses and this port", Style.GOOD),
    KernelHas.DIFFERENT: ("has something else", Style.WORST),
    KernelHas.UNKNOWN: ("not looked at", Style.DIM),
}
_DASH = Span("-", Style.DIM)


def render_showing(view: Showing, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return one machine as text for `terminal`: what is wrong with it first."""
    page = Page(terminal)
    page.paragraph(*_headline(view))
    for problem in view.problems:
        page.paragraph(span("! ", Style.WARNING), span(harmless(problem), Style.WARNING), indent=2, hang=2)
    _labels(page, view, verbose=verbose)
    page.heading(span("PORTS", Style.HEADING))
    if rows := [row for port in view.ports for row in _port_rows(port)]:
        page.grid(_PORTS, rows, indent=2)
    else:
        page.paragraph(span("none"), indent=2)
    word, style = _KERNEL[view.kernel]
    page.paragraph(span("kernel: "), span(word, style), indent=2)
    for line in view.differences:
        page.paragraph(span(harmless(line), style), indent=4, hang=2)
    _reach(page, "MAY OPEN", view.reaches, verbose=verbose)
    _reach(page, "MAY BE OPENED BY", view.reached_by, verbose=verbose)
    return page.text()


def render_trace(trace: Trace, terminal: Terminal) -> str:
    """Return a traced flow as text for `terminal`: the answer, why, and the way."""
    page = Page(terminal)
    page.paragraph(
        span("allowed" if trace.allowed else "denied", Style.GOOD if trace.allowed else Style.WORST),
        span(f"  {escape(trace.source)} "),
        span(terminal.arrow),
        span(f" {escape(trace.target)}  {trace.service}", Style.HEADING),
    )
    page.paragraph(span(harmless(trace.reason)), indent=2, hang=2)
    policy = f"applied policy {trace.policy}" if trace.policy else "a policy that is not applied"
    page.paragraph(span(policy, Style.DIM), indent=2)
    for note in trace.notes:
        page.paragraph(span("! ", Style.WARNING), span(harmless(note), Style.WARNING), indent=2, hang=2)
    if trace.nearest:
        page.heading(span("NEAREST RULES", Style.HEADING))
        for line in trace.nearest:
            page.record(span(escape(line)), indent=2, hang=2)
    for way in trace.ways:
        _way(page, way)
    return page.text()


def _headline(view: Showing) -> list[Span]:
    policy = f"applied policy {view.policy}" if view.policy else "a policy that is not applied"
    state = [f"on {escape(view.host)}", "running" if view.running else "off"]
    spans = [span(escape(view.name), Style.HEADING), span(f"  {', '.join(state)}; {policy}", Style.DIM)]
    if view.quarantined:
        spans += [span("  "), span("quarantined", Style.WORST)]
    return spans


def _labels(page: Page, view: Showing, *, verbose: bool) -> None:
    page.heading(span("LABELS", Style.HEADING))
    if not view.labels:
        page.paragraph(span("none", Style.WARNING), indent=2)
    for reason in view.labels:
        told = "" if reason.counts else "  not while it is quarantined"
        page.record(
            span(escape(reason.label), Style.NAME if reason.counts else Style.DIM),
            span(f"  {escape(reason.place)}{told}", Style.DIM),
            indent=2,
        )
    if view.alike:
        shown = words.listed(view.alike, None if verbose else _LISTED)
        page.record(span(f"filtered like it: {escape(shown)}", Style.DIM), indent=2, hang=2)


def _port_rows(port: PortView) -> list[Spans]:
    """Return a port's lines: one for each address, so that none of them is cut."""
    found = port.addresses or ("none",)
    addresses = [span(escape(address)) for address in found]
    if port.unfiltered:
        addresses = [span(harmless(port.unfiltered), Style.BAD)]
    first = [span(escape(port.tap) or "-"), span(escape(port.mac) or "-"), span(escape(port.network))]
    return [[*(first if number == 0 else [span("")] * 3), cell] for number, cell in enumerate(addresses)]


def _reach(page: Page, heading: str, found: Sequence[Reach], *, verbose: bool) -> None:
    page.heading(span(heading, Style.HEADING))
    if not found:
        page.paragraph(span("nobody" if heading != "MAY OPEN" else "nothing"), indent=2)
        return
    rows: list[Spans] = [
        [
            span(escape(item.name), Style.NAME),
            span(shown_services(item.services)),
            span(escape(words.listed(item.machines, None if verbose else 3)), Style.DIM)
            if item.machines
            else _DASH,
            span(escape(shown_places(item.places)), Style.DIM),
        ]
        for item in found
    ]
    listed(page, _REACH, rows)


def _way(page: Page, way: Way) -> None:
    table = "the kernel's table" if way.table == "kernel" else "the table as compiled"
    page.heading(
        span(way.packet.upper(), Style.HEADING),
        span(f"  on {escape(way.host)}, {escape(way.path)}: "),
        span("passes" if way.accept else "dropped", Style.GOOD if way.accept else Style.BAD),
        span(f"  ({table})", Style.DIM),
    )
    width = max((len(f"{step.chain} {step.number}") for step in way.steps), default=0)
    for step in way.steps:
        page.record(
            span(f"{f'{step.chain} {step.number}':<{width}}", Style.NAME),
            span(f"  {escape(step.rule)}", Style.DIM),
            indent=2,
            hang=width + 2,
        )
