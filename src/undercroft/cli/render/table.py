"""A scan for people: one row per state, then what needs attention, each thing once.

The order is that of urgency: known to be exploited, what a revert brings back, what was not read,
systems without support, packages. Where nothing could be read at all, the cause comes first.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from undercroft.advisories.asked import knows_unfixed
from undercroft.advisories.families import order_of
from undercroft.advisories.releases import known_release
from undercroft.cli.render import findings, sections, words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.known import (
    advisories_whole,
    causes,
    disk_read,
    nothing_read,
)
from undercroft.cli.render.overview import overview
from undercroft.cli.render.page import Page, Span, span
from undercroft.cli.render.states import Labelled, brought_back, findings_of, labelled, names_of, shared_by
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.finding import Finding
from undercroft.model.report import DiskReport, ScanReport

UNREAD = "unread"
"""The format of a disk that could not be opened."""
LISTED = 8
"""What a section names before it says "and N more"; -v lists all."""


def render(report: ScanReport, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return `report` as text for `terminal`.

    Args:
        report: what a scan found; every text in it is untrusted.
        terminal: where the text goes.
        verbose: list every finding, package and volume that the summary counts.
    """
    page = Page(terminal)
    states = labelled(report.states, terminal)
    _machine(page, report)
    unread = bool(states) and all(nothing_read(state) for _, state in states)
    if unread:
        _problems(page, report, states)
    page.blank()
    if states:
        overview(page, states)
        _nothing_known(page, report)
    findings.exploited(page, states, limit=LISTED)
    _reverts(page, report, states)
    if not unread:
        _problems(page, report, states)
    if states and not verbose:
        _first_state(page, states)
    sections.systems(page, states)
    sections.packages(page, states)
    sections.notes(page, states)
    if verbose:
        sections.package_lists(page, states)
        sections.volumes(page, states)
        findings.listing(page, states)
    page.blank()
    sections.feeds(page, report.feeds, report.scanned_at)
    return page.text()


def _machine(page: Page, report: ScanReport) -> None:
    as_of = f", advisories as of {report.as_of}" if report.as_of else ""
    page.paragraph(
        span(escape(report.machine), Style.HEADING),
        span(
            f"  {words.count(len(report.states), 'state')}, {report.scanned_at:%Y-%m-%d %H:%M}{as_of}",
            Style.DIM,
        ),
    )
    for disk in report.disks:
        page.paragraph(*_disk(disk), indent=2, hang=2)
    for warning in report.warnings:
        page.paragraph(span("warning: ", Style.WARNING), span(harmless(warning)), indent=2, hang=2)
    if not report.sandboxed:
        page.paragraph(
            span("warning: ", Style.WARNING), span("read without the sandbox (--no-sandbox)"), indent=2
        )


def _disk(disk: DiskReport) -> Iterator[Span]:
    if not disk.size_bytes and disk.format == UNREAD:
        yield span(f"{escape(disk.name)}  {escape(disk.path)}")
        yield span("  unread", Style.WARNING)
        return
    source = f"{escape(disk.format)} ({escape(disk.format_source)})"
    chain = "".join(f" on {escape(path)}" for path in disk.chain)
    yield span(f"{escape(disk.name)}  {escape(disk.path)}")
    yield span(f"  {source}, {words.size(disk.size_bytes)}{chain}", Style.DIM)
    if disk.unstable:
        yield span("  changed while it was read", Style.WARNING)


def _nothing_known(page: Page, report: ScanReport) -> None:
    """Put that nothing was found, where that is an answer; without a tracker it is one only of fixes."""
    if not report.complete or any(findings_of(state) for state in report.states):
        return
    if all(state.assessment and knows_unfixed(state.assessment.feeds) for state in report.states):
        page.paragraph(span("No known vulnerabilities.", Style.GOOD))
    else:
        page.paragraph(
            span("No known vulnerability that has a fix.", Style.GOOD),
            span(" What is not fixed yet is unknown: no security tracker was asked."),
        )


def _reverts(page: Page, report: ScanReport, states: Sequence[Labelled]) -> None:
    """Put a sentence for each group of snapshots that brings the same findings back."""
    snapshots = [(label, state, brought_back(report, state)) for label, state in states if state.ident]
    if not snapshots or len(snapshots) == len(states):  # no current state to compare with
        return
    page.heading(span("REVERTING", Style.HEADING))
    by_key = {_key(found or ()): found or () for _, _, found in snapshots}
    groups = words.grouped(
        (label, (_key(found or ()), state.complete and found is not None))
        for label, state, found in snapshots
    )
    for (key, whole), names in groups:
        page.paragraph(*_revert(by_key[key], names_of(names, len(states)), whole=whole), indent=2, hang=2)
    if any(not state.ident and not state.complete for _, state in states):
        page.paragraph(
            span("The current state is incomplete, and so is this comparison.", Style.WARNING), indent=2
        )


def _key(found: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    """Return what tells groups of findings apart; hashing thousands of whole findings takes too long."""
    return tuple((finding.vulnerability, finding.source) for finding in found)


def _revert(found: Sequence[Finding], names: str, *, whole: bool) -> Iterator[Span]:
    if not found:
        what = " brings back nothing that is known." if whole else " may bring back what could not be seen."
        yield from (span("Going back to "), span(names, Style.HEADING), span(what))
        return
    yield from (span("Going back to "), span(names, Style.HEADING), span(" brings back "))
    yield span(f"{'' if whole else 'at least '}{words.count(len(found), 'finding')}", Style.BAD)
    exploited = [escape(finding.vulnerability) for finding in found if finding.known_exploited_on is not None]
    if exploited:
        yield span(f", {len(exploited):,} known to be exploited: ")
        yield span(words.listed(exploited, LISTED), Style.WORST)
    sources = Counter(escape(finding.source) for finding in found)
    most = [f"{source} ({number:,})" for source, number in sources.most_common()]
    yield span(f"{';' if exploited else ''} in {words.count(len(sources), 'source package')}: ")
    yield span(f"{words.listed(most, LISTED)}.")


def _first_state(page: Page, states: Sequence[Labelled]) -> None:
    """Put what to upgrade in the first state, the current one unless another was asked for."""
    label, state = states[0]
    if found := findings_of(state):
        page.heading(span("FINDINGS", Style.HEADING), *shared_by([label], states))
        release = known_release(state.inventory) if state.inventory else ""
        findings.by_source(page, found, limit=LISTED, order=order_of(release))


def _problems(page: Page, report: ScanReport, states: Sequence[Labelled]) -> None:
    """Put each problem once, with the states that have it."""
    groups = words.grouped((label, harmless(problem)) for label, state in states for problem in causes(state))
    if not groups and report.complete:
        return
    page.heading(span("INCOMPLETE", Style.WARNING), span(f"  {_lacking(report)}", Style.DIM))
    for problem, labels in groups:
        page.paragraph(
            span(f"{names_of(labels, len(states))}: ", Style.HEADING), span(problem), indent=2, hang=2
        )


def _lacking(report: ScanReport) -> str:
    """Return which of the two is incomplete: what was read of the disks, or what judges it."""
    disks = all(disk_read(state) for state in report.states)
    advisories = all(advisories_whole(state) or nothing_read(state) for state in report.states)
    if all(nothing_read(state) for state in report.states):
        return "no package could be read"
    if disks:
        return "the disks were read whole; the advisories are not, so findings may be missing"
    if advisories:
        return "the disks were not read whole, so packages and findings may be missing"
    return "neither the disks nor the advisories are whole, so packages and findings may be missing"
