"""Findings for people: those known to be exploited up front, all of them with -v."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from undercroft.advisories.orders.order import Order
from undercroft.advisories.orders.table import BY_MANAGER, DEB
from undercroft.cli.render import words
from undercroft.cli.render.escape import escape
from undercroft.cli.render.overview import SEVERITY_STYLES
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.states import Labelled, findings_of, shared_by
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.finding import Finding, FixState, Severity

_PACKAGES = 6
"""Binary packages that a finding names; they are those of one source."""


_SHORT = {
    FixState.UNDER_INVESTIGATION: "investigated",
    FixState.WILL_NOT_FIX: "will not be",
    FixState.OUT_OF_SUPPORT: "out of support",
}
"""What stands in the column FIXED IN where no finding of a source has a version to name."""
_RANK = {severity: rank for rank, severity in enumerate(Severity)}
_BY_SOURCE = (
    Column("WORST", idle=Severity.UNKNOWN.value),
    Column("SOURCE", flexible=True),
    Column("INSTALLED", flexible=True),
    Column("FIXED IN", flexible=True, vital=True),
    Column("VULNERABILITIES"),
)
_BY_SOURCE_WHOLE = tuple(replace(column, whole=column.flexible) for column in _BY_SOURCE)


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
    page.record(*_first_line(finding), indent=2, hang=4)
    packages = words.listed([escape(name) for name in finding.packages], _PACKAGES)
    page.record(*versions(finding, page.terminal), span(f"  ({packages})", Style.DIM), indent=4, hang=2)
    if finding.title:
        page.paragraph(span(escape(finding.title), Style.DIM), indent=4, hang=2)


def by_source(
    page: Page,
    found: Sequence[Finding],
    *,
    limit: int | None = None,
    whole: bool = False,
    order: Order = DEB,
) -> None:
    """Put one line for each source package; past `limit` only how many more there are.

    The worst come first: known to be exploited, then by severity, then by how many findings there are.
    `whole` never cuts a name or a version; `order` is that of the release's versions. Packages of a
    language are called by their manager ("pypi:requests") and have its order.
    """
    sources: dict[str, list[Finding]] = {}
    for finding in found:
        sources.setdefault(finding.source, []).append(finding)
    groups = sorted(sources.values(), key=_urgency)
    rows = [_source(group, order) for group in groups[:limit]]
    page.grid(_BY_SOURCE_WHOLE if whole else _BY_SOURCE, rows, indent=2)
    if limit is not None and len(groups) > limit:
        more = words.count(len(groups) - limit, "source package")
        page.paragraph(span(f"and {more} more; -v lists all", Style.DIM), indent=2)


def _urgency(group: Sequence[Finding]) -> tuple[bool, int, int]:
    """Return what orders sources; what stays equal keeps the assessment's order."""
    exploited = any(finding.known_exploited_on is not None for finding in group)
    return not exploited, min(_RANK[finding.severity] for finding in group), -len(group)


def _source(group: Sequence[Finding], order: Order) -> Spans:
    worst = min(group, key=lambda finding: _RANK[finding.severity])
    names = [escape(finding.vulnerability) for finding in group]
    order = BY_MANAGER.get(worst.source.partition(":")[0], order)
    fixed = max((finding.fixed_version for finding in group), key=order.key)
    states = {finding.fix for finding in group}
    unfixed = states.pop() if len(states) == 1 else FixState.UNFIXED
    return [
        span(worst.severity, SEVERITY_STYLES[worst.severity]),
        span(escape(worst.source), Style.HEADING),
        span(escape(worst.installed_version)),
        span(escape(fixed) or _SHORT.get(unfixed, "no fix yet"), Style.GOOD if fixed else Style.WARNING),
        span(names[0] if len(names) == 1 else f"{names[0]} +{len(names) - 1}"),
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
        case _:
            yield span(f", {words.WITHOUT_FIX[finding.fix]}", Style.WARNING)


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
    if finding.fixed_on is not None:
        facts.append(f"fixed since {finding.fixed_on}")
    if facts:
        yield span("  " + ", ".join(facts), Style.DIM)
