"""One machine for people: its verdict and why, what to do, then what it is and what became of it.

The order is that of urgency. Everything a guest or an image wrote is escaped.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from undercroft.cli.render import findings, fleetcells, words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.overview import SEVERITY_STYLES
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.execution import Execution
from undercroft.model.finding import Severity
from undercroft.model.verdict import Decision, Outcome, RuleResult
from undercroft.usecases.fleet.views import Counts, MachineView, Network, StateView

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
    Column("READ", right=True, optional=True),
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
    _facts(page, view)
    _mends(page, view)
    return page.text()


def _headline(page: Page, view: MachineView) -> None:
    row = view.current
    words_of = [row.power.value if row.power else "", *(row.labels and [", ".join(map(escape, row.labels))])]
    facts = [f"on {escape(view.host)}", *filter(None, words_of)]
    if row.owner:
        facts.append(f"owner {escape(row.owner)}")
    if row.expires_on:
        facts.append(f"expires {row.expires_on}")
    page.paragraph(
        span(escape(view.name), Style.HEADING), span(f"  {view.uuid}  {', '.join(facts)}", Style.DIM), hang=2
    )
    if view.gone_at is not None:
        page.paragraph(
            span("gone ", Style.WARNING), span(f"since {view.gone_at:%Y-%m-%d %H:%M}: the record remains")
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
    page.grid(_STATE_COLUMNS, [_state(state, view) for state in view.states])
    bringing = [state.row for state in view.states[1:]]
    if bringing:
        page.paragraph(fleetcells.bringing_back(bringing, page.terminal))


def _state(state: StateView, view: MachineView) -> Spans:
    row = state.row
    back = span("-" if row.brought_back is None and row is view.current else "?", Style.DIM)
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
        fleetcells.age(row.scanned_at, view.taken_at),
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


def _number(number: int, style: Style, *, whole: bool) -> Span:
    if whole:
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
    if verbose:
        for one in shown:
            for sentence in one.evidence:
                page.paragraph(
                    span(f"{one.eid[:_EID_CHARACTERS]}: ", Style.DIM), span(harmless(sentence)), indent=2
                )


def _execution(one: Execution) -> Spans:
    ended = span("lives", Style.GOOD) if one.live else span(f"{_minute(one.ended_at)} {escape(one.ending)}")
    return [
        span(one.eid[:_EID_CHARACTERS], Style.HEADING),
        span(_minute(one.started_at)),
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
        span(_minute(one.at)),
        span(one.action.value, fleetcells.ACTION_STYLES[one.action]),
        span(escape(one.by), Style.DIM),
        span(harmless(one.reason)),
    ]


def _facts(page: Page, view: MachineView) -> None:
    """Put what the machine is: system, disks, interfaces, ways in, patch floor."""
    page.heading(span("MACHINE", Style.HEADING))
    for name, text in _named_facts(view):
        page.paragraph(span(f"{name:<12}", Style.DIM), span(text), indent=2, hang=12)


def _named_facts(view: MachineView) -> Iterator[tuple[str, str]]:
    yield "system", escape(view.system) or "unknown"
    for disk in view.disks:
        chain = "".join(f" on {escape(path)}" for path in disk.chain)
        yield escape(disk.target), f"{escape(disk.path) or 'no file'} ({escape(disk.format) or '?'}){chain}"
    for one in view.interfaces:
        interface = one.interface
        where = " ".join(filter(None, (interface.kind, interface.source, interface.tap)))
        holdable = "" if interface.holdable else ", cannot be held off its network"
        yield (
            "interface",
            f"{escape(interface.mac) or 'no MAC'} {escape(where)}: {one.network.value}{holdable}",
        )
    if view.credentials is not None:
        ways = view.credentials
        yield (
            "ways in",
            (
                f"{'' if ways.whole else 'at least '}{words.count(ways.logins, 'account')} with a shell, "
                f"{words.count(ways.authorized_keys, 'authorized key')}, {words.count(ways.host_keys, 'host key')}, "
                f"{words.count(ways.certificates, 'certificate')}, {words.count(ways.secrets, 'file')} with secrets"
            ),
        )
    else:
        yield "ways in", "not read yet"
    yield "patch floor", words.count(view.floor, "source package") if view.floor else "none yet"
    marks = [text for text, holds in _marks(view) if holds]
    if view.tainted:
        marks.append(f"tainted: {', '.join(map(escape, view.tainted))}")
    yield "definition", ", ".join(marks)
    yield "on record", f"since {_minute(view.first_seen)}, last surveyed {_minute(view.last_seen)}"


def _marks(view: MachineView) -> Iterator[tuple[str, bool]]:
    yield "transient", not view.persistent
    yield "persistent", view.persistent
    yield "autostart", view.autostart
    yield "genid", view.genid
    yield "no genid", not view.genid


def _mends(page: Page, view: MachineView) -> None:
    if not view.mends:
        return
    page.heading(span("WHAT HELPS", Style.HEADING))
    for mend in view.mends:
        page.paragraph(
            span(harmless(mend.problem)), span(f"  {escape(mend.command)}", Style.NAME), indent=2, hang=4
        )


def _more(page: Page, number: int) -> None:
    if number > 0:
        page.paragraph(span(f"and {number:,} more; -v lists all", Style.DIM), indent=2)


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "?"
