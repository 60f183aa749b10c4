"""What applying a firewall policy would change, and what the hosts hold, for people."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.firewallmap import listed, shown_places, shown_services
from undercroft.cli.render.fleetcells import ago
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.firewall.policy import FirewallPolicy, PeerKind
from undercroft.model.filter import FilterState
from undercroft.usecases.firewall.values import (
    Applied,
    Closed,
    FlowChange,
    Holding,
    HostHolding,
    LabelChange,
    Plan,
    Status,
)

LISTED = 8
"""Names that a line shows before it says how many more there are; -v lists all."""

_FLOWS = (
    Column("FROM", flexible=True),
    Column(""),
    Column("TO", flexible=True),
    Column("OPENS", flexible=True, vital=True, idle="-"),
    Column("CLOSES", flexible=True, vital=True, idle="-"),
    Column("RULE", flexible=True, optional=True),
)
_STAYS = (*_FLOWS[:3], Column("SERVICES", flexible=True, vital=True), _FLOWS[5])
_LABELS = (
    Column("MACHINE", flexible=True, vital=True),
    Column("HOST", flexible=True, optional=True),
    Column("WAS", flexible=True),
    Column(""),
    Column("WILL BE", flexible=True),
)
_HOSTS = (
    Column("HOST", flexible=True, vital=True),
    Column("HOLDS"),
    Column("MACHINES", right=True, optional=True),
    Column("PROVEN", optional=True),
    Column("AROUND"),
    Column("HEARD"),
)
HOLDING = {
    Holding.PROVEN: ("proven", Style.GOOD),
    Holding.QUALIFIED: ("proven, with problems", Style.WARNING),
    Holding.VOID: ("void: passed by", Style.WORST),
    Holding.AWAY: ("proven, agent away", Style.WARNING),
    Holding.HELD: ("held, not proven", Style.WARNING),
    Holding.PROBLEM: ("problem", Style.WORST),
    Holding.BEHIND: ("not yet", Style.WARNING),
    Holding.SILENT: ("never heard", Style.BAD),
}
_DASH = Span("-", Style.DIM)


def render_plan(plan: Plan, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return the plan as text for `terminal`: what stands against it first."""
    page = Page(terminal)
    page.paragraph(*_headline(plan))
    page.paragraph(span(in_force(plan.applied), Style.DIM))
    _lines(page, "CANNOT BE APPLIED", plan.against, Style.WORST)
    _flows(page, plan)
    _groups(page, plan, verbose=verbose)
    _labels(page, plan.labels, verbose=verbose)
    _closed(page, plan.closed, verbose=verbose)
    _lines(page, "PORTS", plan.ports, Style.WARNING)
    _lines(page, "PROBLEMS", plan.problems, Style.BAD)
    return page.text()


def render_firewall_policy(policy: FirewallPolicy, terminal: Terminal) -> str:
    """Return what a policy without mistakes says of the firewall, in a sentence."""
    page = Page(terminal)
    labels = words.count(len({rule.name for rule in policy.labels}), "label")
    flows = words.count(len(policy.flows), "rule")
    kept = f", which keep to {words.count(len(policy.nevers), 'never')}" if policy.nevers else ""
    page.paragraph(
        span(f"Firewall {policy.digest[:12]}: {labels}, {flows}{kept}. It is in force once it is applied:"),
        span(" undercroft firewall plan shows what that would change."),
        hang=2,
    )
    by_network = [one for one in policy.nevers if PeerKind.NETWORK in {one.source.kind, one.target.kind}]
    for place in dict.fromkeys(one.place for one in by_network):
        known = "whose addresses lie in its networks is judged by plan, apply and each host's proof"
        page.paragraph(span(f"never ({escape(place)}): {known}", Style.DIM), hang=2)
    return page.text()


def render_status(status: Status, terminal: Terminal, now: datetime) -> str:
    """Return the policy in force and what each host says of it, with the cure where it does not hold it."""
    page = Page(terminal)
    page.paragraph(span(in_force(status.applied), Style.HEADING))
    if not status.hosts:
        page.paragraph(span("The record knows no host yet; on each of them: undercroft up", Style.WARNING))
        return page.text()
    page.blank()
    page.grid(_HOSTS, [_host(host, now) for host in status.hosts])
    for host in status.hosts:
        if cure := cure_of(host):
            page.paragraph(span(escape(host.host), Style.NAME), span(": "), span(cure, Style.WARNING), hang=2)
    return page.text()


def in_force(applied: Applied | None) -> str:
    """Return which policy is in force, since when, by whom and why."""
    if applied is None:
        return "No firewall policy is in force: nothing is filtered."
    why = f": {harmless(applied.reason)}" if applied.reason else ""
    told = f"by {escape(applied.by)} on {words.minute(applied.at)} UTC{why}"
    if applied.withdrawn:
        return f"No firewall policy is in force: withdrawn ({applied.number}) {told}"
    return f"Policy {applied.number} ({applied.digest[:12]}) is in force, applied {told}"


def cure_of(host: HostHolding) -> str:
    """Return why a host does not hold the policy for sure, and what to do; "" where it does."""
    gone = (
        f"; if {escape(host.host)} is gone for good: undercroft host forget {escape(host.host)} --reason TEXT"
    )
    match host.holding:
        case Holding.PROVEN:
            return ""
        case Holding.SILENT:
            return "no agent has ever told of its filter; start one there: undercroft up"
        case Holding.BEHIND:
            held = host.state.number if host.state else 0
            had = f"policy {held}" if held else "no policy"
            cure = "if it does not answer: undercroft doctor, undercroft up"
            return f"its agent told last of {had}; {cure}{gone}"
        case Holding.AWAY:
            away = "its agent tells nothing any more: its kernel filters on, and nobody looks; on that host:"
            said = (
                f"; it said last: {harmless(host.state.problem)}" if host.state and host.state.problem else ""
            )
            return f"{away} undercroft doctor, systemctl status undercroft{gone}{said}"
        case Holding.HELD:
            return "not proven since; if that stays so, on that host: undercroft firewall prove"
        case Holding.PROBLEM | Holding.QUALIFIED | Holding.VOID:
            return harmless(host.state.problem) if host.state else ""


def _headline(plan: Plan) -> list[Span]:
    over = f"over {words.count(plan.machines, 'machine')}"
    if not plan.digest:
        return [span("Withdrawing the firewall", Style.HEADING), span(f" {over}: everything opens")]
    policy = span(f"Policy {plan.digest[:12]}", Style.HEADING)
    if not plan.filtered and plan.applied and not plan.applied.withdrawn:
        return [policy, span(f" {over}; what is in force cannot be read: listed is all that is open then")]
    if not plan.filtered:
        return [policy, span(f" {over}; nothing is filtered now, and all but what is listed closes")]
    if not plan.changes:
        return [policy, span(f" {over}: is in force already, nothing changes")]
    number = words.count(len(plan.flows), "change") if plan.flows else "no flow changes"
    return [policy, span(f" {over}: {number}")]


def _flows(page: Page, plan: Plan) -> None:
    if not plan.flows:
        return
    page.heading(span("FLOWS" if plan.filtered else "OPEN THEN", Style.HEADING))
    rows: list[Spans] = []
    for sources, targets, change in gathered_changes(plan.flows):
        rows.append(
            [
                span(_names(sources), Style.NAME),
                span(page.terminal.arrow, Style.DIM),
                span(_names(targets), Style.NAME),
                span(shown_services(change.opens), Style.GOOD) if change.opens else _DASH,
                span(shown_services(change.closes), Style.BAD) if change.closes else _DASH,
                span(escape(shown_places(change.places)), Style.DIM),
            ]
        )
    if plan.filtered:
        listed(page, _FLOWS, rows)
    else:
        listed(page, _STAYS, [[*row[:4], row[5]] for row in rows])


def gathered_changes(
    flows: Sequence[FlowChange],
) -> list[tuple[tuple[str, ...], tuple[str, ...], FlowChange]]:
    """Return changes with all their sources, then all their targets, that say the same: (from, to, one)."""
    by_target: dict[tuple[object, ...], list[FlowChange]] = {}
    for flow in flows:
        by_target.setdefault((flow.target, flow.opens, flow.closes, flow.places), []).append(flow)
    by_sources: dict[tuple[object, ...], list[FlowChange]] = {}
    for found in by_target.values():
        sources = tuple(flow.source for flow in found)
        one = found[0]
        by_sources.setdefault((sources, one.opens, one.closes, one.places), []).append(one)
    return [
        (key[0], tuple(flow.target for flow in found), found[0])  # type: ignore[misc]
        for key, found in by_sources.items()
    ]


def _groups(page: Page, plan: Plan, *, verbose: bool) -> None:
    named = {flow.source for flow in plan.flows} | {flow.target for flow in plan.flows}
    groups = [group for group in plan.groups if verbose or group.name in named]
    if not groups:
        return
    page.heading(span("MACHINES", Style.HEADING), span("  filtered alike", Style.DIM))
    for group in groups:
        page.record(
            span(escape(group.name), Style.NAME),
            span(f" ({len(group.machines):,}): "),
            span(escape(words.listed(group.machines, None if verbose else LISTED))),
            indent=2,
            hang=2,
        )


def _labels(page: Page, changes: Sequence[LabelChange], *, verbose: bool) -> None:
    if not changes:
        return
    page.heading(span("LABELS", Style.HEADING), span(f"  {words.count(len(changes), 'machine')}", Style.DIM))
    shown = changes if verbose else changes[: 2 * LISTED]
    rows: list[Spans] = [
        [
            span(escape(change.machine)),
            span(escape(change.host), Style.DIM),
            span(escape(", ".join(change.before) or "none")),
            span(page.terminal.arrow, Style.DIM),
            span(escape(", ".join(change.after) or "none"), Style.NAME),
        ]
        for change in shown
    ]
    page.grid(_LABELS, rows, indent=2)
    _more(page, len(changes) - len(shown))


def _closed(page: Page, closed: Sequence[Closed], *, verbose: bool) -> None:
    if not closed:
        return
    page.heading(
        span("CLOSED", Style.WARNING), span("  machines that will reach nobody, or nearly", Style.DIM)
    )
    by_reason: dict[str, list[str]] = {}
    for item in closed:
        by_reason.setdefault(item.problem, []).append(item.machine)
    for reason, names in by_reason.items():
        shown = words.listed(names, None if verbose else LISTED)
        page.record(span(escape(shown)), span(f": {harmless(reason)}", Style.WARNING), indent=2, hang=2)


def _lines(page: Page, heading: str, lines: Sequence[str], style: Style) -> None:
    if lines:
        page.heading(span(heading, style))
        for line in lines:
            page.record(span(harmless(line)), indent=2, hang=2)


def _more(page: Page, number: int) -> None:
    if number > 0:
        page.paragraph(span(f"and {number:,} more; -v lists all", Style.DIM), indent=2)


def _names(names: Iterable[str]) -> str:
    return escape(words.listed(tuple(names), 3))


def _host(host: HostHolding, now: datetime) -> Spans:
    word, style = HOLDING[host.holding]
    state = host.state
    return [
        span(escape(host.host)),
        span(word, style),
        span(f"{state.machines if state else host.machines:,}"),
        span(ago(state.proven_at, now)) if state and state.proven_at else _DASH,
        _around(state, now),
        span(ago(state.at, now)) if state else _DASH,
    ]


def _around(state: FilterState | None, now: datetime) -> Span:
    """Return when a host's agent looked at what could pass its table by, and how much it found."""
    if state is None or state.around_at is None:
        return _DASH
    style = Style.WORST if state.voided else Style.WARNING if state.findings else Style.PLAIN
    found = f", {words.count(state.findings, 'finding')}" if state.findings else ""
    return span(f"{ago(state.around_at, now)}{found}", style)
