"""The way between two states for people: what a revert brings back first, then packages."""

from collections.abc import Sequence

from undercroft.cli.render import findings
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.cli.render.words import count, listed
from undercroft.model.diff import PackageChange, StateDiff
from undercroft.model.finding import Finding

_LISTED = 8
_COLUMNS = (
    Column("PACKAGE", flexible=True, whole=True),
    Column("ARCH"),
    Column("MANAGER"),
    Column("FROM", flexible=True, whole=True),
    Column(""),
    Column("TO", flexible=True, whole=True),
)


def render_diff(diff: StateDiff, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return `diff` as text for `terminal`; `verbose` lists each finding with its advisories."""
    page = Page(terminal)
    page.paragraph(
        span(escape(diff.from_name), Style.HEADING),
        span(f" {terminal.arrow} "),
        span(escape(diff.to_name), Style.HEADING),
    )
    _findings(
        page, diff, diff.findings_lost, f"Going back to {escape(diff.from_name)} brings back", verbose=verbose
    )
    if diff.findings_gained:
        _findings(
            page, diff, diff.findings_gained, f"Going to {escape(diff.to_name)} brings in", verbose=verbose
        )
    if diff.problems:
        page.heading(
            span("INCOMPLETE", Style.WARNING), span("  findings and packages may be missing", Style.DIM)
        )
        for problem in diff.problems:
            page.paragraph(span(harmless(problem)), indent=2, hang=2)
    _packages(page, diff)
    return page.text()


def _findings(page: Page, diff: StateDiff, found: Sequence[Finding], sentence: str, *, verbose: bool) -> None:
    """Put the sentence on `found`, then those known to be exploited, with `verbose` all of them."""
    page.blank()
    if not found:
        known = " that is known" if diff.complete else " that could be seen"
        page.paragraph(span(f"{sentence} nothing{known}."))
        return
    least = "" if diff.complete else "at least "
    exploited = [escape(finding.vulnerability) for finding in found if finding.known_exploited_on is not None]
    spans = [span(f"{sentence} "), span(least + count(len(found), "finding"), Style.BAD)]
    if exploited:
        spans += [span(f", {len(exploited):,} known to be exploited: ")]
        spans += [span(listed(exploited, _LISTED), Style.WORST)]
    page.paragraph(*spans, span("."), hang=2)
    if verbose:
        for finding in found:
            findings.one(page, finding)
    else:
        findings.by_source(page, found, whole=True)


def _packages(page: Page, diff: StateDiff) -> None:
    """Put the changed packages, each kind under its heading."""
    kinds = (
        ("UPGRADED", diff.upgraded, Style.GOOD),
        ("DOWNGRADED", diff.downgraded, Style.BAD),
        ("CHANGED", diff.changed, Style.PLAIN),
        ("ADDED", diff.added, Style.PLAIN),
        ("REMOVED", diff.removed, Style.PLAIN),
    )
    if not any(changes for _, changes, _ in kinds):
        page.blank()
        page.paragraph(span("The same packages in the same versions."))
    without = "" if len(diff.managers) > 1 else "MANAGER"
    for heading, changes, style in kinds:
        if changes:
            page.heading(span(heading, Style.HEADING), span(f": {len(changes):,}"))
            rows = [_change(change, style, page.terminal) for change in changes]
            page.grid(_COLUMNS, rows, indent=2, without=without)


def _change(change: PackageChange, style: Style, terminal: Terminal) -> Spans:
    both = change.from_version and change.to_version
    return [
        span(escape(change.name)),
        span(escape(change.architecture), Style.DIM),
        span(escape(change.manager), Style.DIM),
        span(escape(change.from_version)),
        Span(terminal.arrow if both else ""),
        span(escape(change.to_version), style),
    ]
