"""One machine for people: its verdict and why, what to do, then what it is and what became of it.

The order is that of urgency. Everything a guest or an image wrote is escaped.
"""

from collections.abc import Iterator, Sequence

from undercroft.cli.render import findings, fleetcells, machinefacts, words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.overview import SEVERITY_STYLES
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.execution import Execution
from undercroft.model.finding import Severity
from undercroft.model.verdict import Decision, Outcome, RuleResult
from undercroft.usecases.fleet.views.values import Counts, MachineView, Network, StateView

LISTED = 8
"""What a section names before it says "and N more"; -v lists all."""
_OUTCOME_STYLES = {
    Outcome.FAIL: Style.BAD,
    Outcome.UNKNOWN: Style.BAD,
    Outcome.GRACE: Style.WARNING,
    Outcome.EXCEPTED: Style.WARNING,
    Outcome.PASS: Style.GOOD,
}
_STATE_COLUMNS = (
    Column("STATE", flexible=True),
    Column("TAKEN", optional=True, idle="-"),
    Column("VERDICT"),
    Column("START", optional=True),
    Column("KEV", right=True, optional=True),
    Column("CRIT", right=True),
    Column("HIGH", right=True),
    Column("MED", right=True, optional=True),
    Column("ALL", right=True),
    Column("BACK", right=True, idle="-"),
    Column("SECRETS", right=True, optional=True),
)
_EXECUTION_COLUMNS = (
    Column("EXECUTION"),
    Column("BEGAN"),
    Column("AS"),
    Column("ENDED"),
    Column("HOST", flexible=True, optional=True),
)
_DECISION_COLUMNS = (
    Column("AT"),
    Column("ANSWER"),
    Column("BY", flexible=True, optional=True),
    Column("REASON", flexible=True, vital=True),
)
_EID_CHARACTERS = 8


def render_machine(view: MachineView, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return `view` as text; `verbose` lists every rule, finding, execution and decision that it holds."""
    page = Page(terminal)
    _headline(page, view)
    _standing(page, view, verbose=verbose)
    _problems(page, view)
    _states(page, view)
    _findings(page, view, verbose=verbose)
    _executions(page, view, verbose=verbose)
    _decisions(page, view, verbose=verbose)
    machinefacts.facts(page, view)
    machinefacts.mends(page, view)
    return page.text()


def _headline(page: Page, view: MachineView) -> None:
    row = view.current
    facts = [f"{row.power.value if row.power else 'seen'} on {escape(view.host)}"]
    facts.append(f"owner {escape(row.owner)}" if row.owner else "nobody owns it")
    if row.labels:
        facts.append(f"labels {', '.join(map(escape, row.labels))}")
    if row.expires_on:
        facts.append(f"expires {row.expires_on}")
    page.paragraph(span(escape(view.name), Style.HEADING), span(f"  {'; '.join(facts)}", Style.DIM), hang=2)
    if view.gone_at is not None:
        page.paragraph(
            span("gone ", Style.WARNING), span(f"since {words.minute(view.gone_at)}: only its record remains")
        )


def _standing(page: Page, view: MachineView, *, verbose: bool) -> None:
    """Put the verdict, the alarms, whether packets pass, and what the rules say."""
    row = view.current
    for alarm in row.alarms:
        page.paragraph(span("ALARM: ", Style.ALARM), span(harmless(alarm), Style.WORST), hang=2)
    spans = [fleetcells.verdict(row)]
    if row.since:
        spans.append(span(f" for {words.age((view.taken_at - row.since).total_seconds())}"))
    if row.action:
        spans += (span("; a start would meet: "), fleetcells.action(row))
    if row.network is not Network.NONE:
        spans += (span("; network "), fleetcells.network(row.network))
    if view.hold is not None:
        spans.append(span(f": {harmless(view.hold.reason)}"))
    page.paragraph(*spans, hang=2)
    shown = view.rules if verbose else [rule for rule in view.rules if rule.outcome is not Outcome.PASS]
    if not view.rules and row.why:
        page.paragraph(span(harmless(row.why)), indent=2, hang=2)
    for rule in shown:
        page.paragraph(*_rule(rule), indent=2, hang=4)
    if not verbose and view.rules and (passed := len(view.rules) - len(shown)):
        page.paragraph(span(f"{words.count(passed, 'rule')} passed; -v lists all", Style.DIM), indent=2)


def _rule(rule: RuleResult) -> Iterator[Span]:
    yield span(f"{rule.outcome.value:<9}", _OUTCOME_STYLES[rule.outcome])
    yield span(f"{escape(rule.rule)}: ", Style.HEADING)
    yield span(harmless(rule.reason))
    until = f", until {rule.until:%Y-%m-%d}" if rule.until else ""
    yield span(f"  ({escape(rule.source)}{until})", Style.DIM)


def _problems(page: Page, view: MachineView) -> None:
    if not view.problems:
        return
    page.heading(span("INCOMPLETE", Style.WARNING), span("  findings may be missing", Style.DIM))
    for problem in view.problems:
        page.paragraph(span(harmless(problem)), indent=2, hang=2)


def _states(page: Page, view: MachineView) -> None:
    page.blank()
    page.grid(_STATE_COLUMNS, [_state(state, current=not number) for number, state in enumerate(view.states)])
    bringing = [state.row for state in view.states[1:]]
    if bringing:
        page.paragraph(fleetcells.bringing_back(bringing, page.terminal))


def _state(state: StateView, *, current: bool) -> Spans:
    row = state.row
    back = span("-" if current else "?", Style.DIM)
    if row.brought_back is not None:
        plus = "" if row.complete else "+"
        back = span(f"{row.brought_back:,}{plus}", Style.BAD if row.brought_back else Style.DIM)
    return [
        span(escape(row.state), Style.HEADING),
        span(f"{state.taken_at:%Y-%m-%d %H:%M}" if state.taken_at else "-", Style.DIM),
        fleetcells.verdict(row),
        fleetcells.action(row),
        *_counts(state.counts),
        back,
        span("?" if state.secrets is None else f"{state.secrets:,}", Style.DIM),
    ]


def _counts(counts: Counts | None) -> Spans:
    """Return known to be exploited, critical, high, medium, all: "?" where nobody knows, "+" for at least."""
    if counts is None:
        return [span("?", Style.WARNING)] * 5
    numbers = (
        (counts.known_exploited, Style.ALARM),
        (counts.critical, SEVERITY_STYLES[Severity.CRITICAL]),
        (counts.high, SEVERITY_STYLES[Severity.HIGH]),
        (counts.medium, SEVERITY_STYLES[Severity.MEDIUM]),
        (counts.findings, Style.PLAIN),
    )
    return [_number(number, style, whole=counts.whole) for number, style in numbers]


def _number(number: int | None, style: Style, *, whole: bool) -> Span:
    if whole and number is not None:
        return span(f"{number:,}", style if number else Style.DIM)
    return span(f"{number:,}+", style) if number else span("?", Style.WARNING)


def _findings(page: Page, view: MachineView, *, verbose: bool) -> None:
    if not view.findings:
        return
    page.heading(
        span("FINDINGS", Style.HEADING), span(f"  {len(view.findings):,} in the current state", Style.DIM)
    )
    if verbose:
        for finding in view.findings:
            findings.one(page, finding)
    else:
        findings.by_source(page, view.findings, limit=LISTED)


def _executions(page: Page, view: MachineView, *, verbose: bool) -> None:
    if not view.executions:
        return
    page.heading(span("EXECUTIONS", Style.HEADING), span("  latest first", Style.DIM))
    shown = view.executions[: None if verbose else LISTED]
    page.grid(_EXECUTION_COLUMNS, [_execution(one) for one in shown], indent=2)
    _more(page, len(view.executions) - len(shown))
    for one in shown if verbose else ():
        for sentence in one.evidence:
            eid = span(f"{one.eid[:_EID_CHARACTERS]}: ", Style.DIM)
            page.paragraph(eid, span(harmless(sentence)), indent=2, hang=2)


def _execution(one: Execution) -> Spans:
    ended = (
        span("lives", Style.GOOD) if one.live else span(f"{words.minute(one.ended_at)} {escape(one.ending)}")
    )
    return [
        span(one.eid[:_EID_CHARACTERS], Style.HEADING),
        span(words.minute(one.started_at)),
        span(one.origin.value + ("" if one.certain else "?"), Style.PLAIN if one.certain else Style.WARNING),
        ended,
        span(escape(one.host), Style.DIM),
    ]


def _decisions(page: Page, view: MachineView, *, verbose: bool) -> None:
    if not view.decisions:
        return
    page.heading(span("DECISIONS", Style.HEADING), span("  latest first", Style.DIM))
    shown: Sequence[Decision] = view.decisions[: None if verbose else LISTED]
    page.grid(_DECISION_COLUMNS, [_decision(one) for one in shown], indent=2)
    _more(page, len(view.decisions) - len(shown))


def _decision(one: Decision) -> Spans:
    return [
        span(words.minute(one.at)),
        span(one.action.value, fleetcells.ACTION_STYLES[one.action]),
        span(escape(one.by), Style.DIM),
        span(harmless(one.reason)),
    ]


def _more(page: Page, number: int) -> None:
    if number > 0:
        page.paragraph(span(f"and {number:,} more; -v lists all", Style.DIM), indent=2)
