"""Findings for people: those known to be exploited up front, all of them with -v."""

from collections.abc import Iterator, Sequence

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape
from undercroft.cli.render.overview import SEVERITY_STYLES
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.states import Labelled, findings_of, shared_by
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.finding import Finding, FixState

_PACKAGES = 6
"""Binary packages that a finding names; they are those of one source."""


_COMPACT_COLUMNS = (
    Column("SEVERITY"),
    Column("VULNERABILITY"),
    Column("SOURCE", flexible=True),
    Column("INSTALLED", flexible=True),
    Column("FIXED", flexible=True),
    Column(""),
)


def exploited(page: Page, states: Sequence[Labelled], *, limit: int) -> None:
    """Put the findings known to be exploited, each once with the states that have it."""
    groups = words.grouped(
        (label, finding)
        for label, state in states
        for finding in findings_of(state)
        if finding.known_exploited_on is not None
    )
    if not groups:
        return
    page.heading(
        span(" KNOWN TO BE EXPLOITED " if page.terminal.color else "KNOWN TO BE EXPLOITED", Style.ALARM)
    )
    for finding, labels in groups[:limit]:
        page.paragraph(
            span(escape(finding.vulnerability), Style.WORST),
            span(f"  {finding.severity}  ", SEVERITY_STYLES[finding.severity]),
            *versions(finding, page.terminal),
            *shared_by(labels, states),
            indent=2,
            hang=2,
        )
    if len(groups) > limit:
        page.paragraph(span(f"and {len(groups) - limit:,} more; -v lists all", Style.DIM), indent=2)


def listing(page: Page, states: Sequence[Labelled]) -> None:
    """Put every finding; states with the same findings share one list."""
    groups = words.grouped((label, state.assessment.findings) for label, state in states if state.assessment)
    for found, labels in groups:
        page.heading(span("FINDINGS", Style.HEADING), span(f": {len(found):,}"), *shared_by(labels, states))
        for finding in found:
            one(page, finding)


def one(page: Page, finding: Finding) -> None:
    """Put one finding: what it is, which packages have it and what fixes it, and its title."""
    page.paragraph(*_first_line(finding), indent=2, hang=4)
    packages = words.listed([escape(name) for name in finding.packages], _PACKAGES)
    page.paragraph(*versions(finding, page.terminal), span(f"  ({packages})", Style.DIM), indent=4, hang=2)
    if finding.title:
        page.paragraph(span(escape(finding.title), Style.DIM), indent=4, hang=2)


def compact(page: Page, found: Sequence[Finding]) -> None:
    """Put one line for each finding."""
    page.grid(_COMPACT_COLUMNS, [_compact(finding) for finding in found], indent=2)


def _compact(finding: Finding) -> Spans:
    fixed = {FixState.UNFIXED: "-", FixState.NEEDS_SUBSCRIPTION: f"{finding.fixed_version} (subscription)"}
    return [
        span(finding.severity, SEVERITY_STYLES[finding.severity]),
        span(escape(finding.vulnerability), Style.HEADING),
        span(escape(finding.source)),
        span(escape(finding.installed_version)),
        span(escape(fixed.get(finding.fix, finding.fixed_version)), Style.GOOD),
        span("exploited" if finding.known_exploited_on else "", Style.WORST),
    ]


def versions(finding: Finding, terminal: Terminal) -> Iterator[Span]:
    """Yield the source package, what is installed and what fixes it."""
    yield span(f"{escape(finding.source)} {escape(finding.installed_version)}")
    match finding.fix:
        case FixState.FIXABLE:
            yield span(f" {terminal.arrow} ")
            yield span(escape(finding.fixed_version), Style.GOOD)
        case FixState.NEEDS_SUBSCRIPTION:
            yield span(
                f", fixed in {escape(finding.fixed_version)} only with an extended subscription",
                Style.WARNING,
            )
        case FixState.UNFIXED:
            yield span(", no fix yet", Style.WARNING)


def _first_line(finding: Finding) -> Iterator[Span]:
    yield span(f"{finding.severity:<10}", SEVERITY_STYLES[finding.severity])
    yield span(f"  {escape(finding.vulnerability):<16}", Style.HEADING)
    if finding.known_exploited_on is not None:
        yield span("  ")
        yield span(f"exploited since {finding.known_exploited_on}", Style.WORST)
    advisories = [escape(name) for name in finding.advisories if name != finding.vulnerability]
    facts = [words.listed(advisories, 3)] if advisories else []
    if finding.severity_source:
        facts.append(f"severity by {escape(finding.severity_source)}")
    if finding.exploit_probability is not None:
        facts.append(f"EPSS {finding.exploit_probability:.1%}")
    if finding.published_on is not None:
        facts.append(str(finding.published_on))
    if facts:
        yield span("  " + ", ".join(facts), Style.DIM)
