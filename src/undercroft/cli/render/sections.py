"""The parts of a scan's table that are not about findings: systems, packages, volumes, feeds.

Each puts a section on a page, each fact once with the states that share it, and nothing where there is
nothing to say.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.known import disk_read, nothing_read
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.states import Labelled, shared_by
from undercroft.cli.render.terminal import Style
from undercroft.model.disk import Volume, VolumeStatus
from undercroft.model.finding import EndOfLife, FeedStatus
from undercroft.model.inventory import Inventory
from undercroft.model.report import StateReport

_VOLUME_STYLES = {
    VolumeStatus.READ: Style.GOOD,
    VolumeStatus.UNREAD: Style.BAD,
    VolumeStatus.NOT_APPLICABLE: Style.DIM,
}
_OUTDATED_COLUMNS = (
    Column("PACKAGE", flexible=True),
    Column("INSTALLED", flexible=True),
    Column("NEWEST", flexible=True),
    Column("SUITE", flexible=True),
)
_UNASSESSED_COLUMNS = (
    Column("PACKAGE", flexible=True),
    Column("VERSION", flexible=True),
    Column("WHY", flexible=True),
)
_KERNELS = 4
_LISTED = 8
"""Names that a line gives before it says "and N more"."""

_VOLUME_COLUMNS = (
    Column("VOLUME"),
    Column("CONTENT"),
    Column("SIZE", right=True),
    Column("MOUNTS", flexible=True),
    Column("STATUS", flexible=True),
    Column("REASON", flexible=True),
)


def systems(page: Page, states: Sequence[Labelled]) -> None:
    """Put each operating system with its end of life, and the kernels that lie on its disk."""
    read = [
        (label, state, state.inventory)
        for label, state in states
        if state.inventory and (state.inventory.os or state.inventory.packages)
    ]
    if not read:
        return
    page.heading(span("SYSTEM", Style.HEADING))
    ends = words.grouped(
        (label, (system(inventory), state.assessment.end_of_life if state.assessment else None))
        for label, state, inventory in read
    )
    for (name, end), labels in ends:
        _fact(page, labels, states, [span(name), *(_support(end) if end else ())])
    whole = [label for label, state, _ in read if disk_read(state)]
    if whole:
        _fact(
            page, whole, states, [span("coverage complete: all that may hold software was read", Style.GOOD)]
        )
    for found, labels in words.grouped((label, kernels(inventory)) for label, _, inventory in read):
        _fact(page, labels, states, [span(found)])


def packages(page: Page, states: Sequence[Labelled]) -> None:
    """Put what is outdated, what nobody vouches for and what no package owns, a few names of each."""
    groups = words.grouped(
        (label, fact)
        for describe in (_outdated, _unassessed, _unowned)
        for label, state in states
        if (fact := describe(state))
    )
    if not groups:
        return
    page.heading(span("PACKAGES", Style.HEADING))
    for (kind, names), labels in groups:
        _fact(page, labels, states, [span(kind, Style.WARNING), span(f": {names}")])


def notes(page: Page, states: Sequence[Labelled]) -> None:
    """Put what limits the assessment, volumes that were left aside, and what the user's VEX took away."""
    assessed = [(label, state.assessment) for label, state in states if state.assessment]
    said = words.grouped((label, harmless(note)) for label, state in states for note in state_notes(state))
    aside = words.grouped(
        (label, words.listed([escape(finding.vulnerability) for finding in assessment.suppressed], 8))
        for label, assessment in assessed
        if assessment.suppressed
    )
    if not said and not aside:
        return
    page.heading(span("NOTES", Style.HEADING))
    for note, labels in said:
        _fact(page, labels, states, [span(note)])
    for names, labels in aside:
        _fact(page, labels, states, [span(f"set aside by your OpenVEX documents: {names}")])


def state_notes(state: StateReport) -> Iterator[str]:
    """Yield what limits an answer without making it incomplete: volumes left aside, what was not asked."""
    if state.inventory and not nothing_read(state):
        for volume in state.inventory.coverage.volumes:
            if volume.status is VolumeStatus.UNREAD and not volume.mounts:
                yield f"{volume.name} was not read: {volume.reason}"
    if state.assessment:
        yield from state.assessment.notes


def all_notes(state: StateReport) -> tuple[str, ...]:
    """Return every note of a state, what the reader did on the way included, each once."""
    reading = state.inventory.coverage.notes if state.inventory else ()
    return tuple(dict.fromkeys((*state_notes(state), *reading)))


def package_lists(page: Page, states: Sequence[Labelled]) -> None:
    """Put every outdated and every unassessed package; states with the same ones share a list."""
    assessed = [(label, state.assessment) for label, state in states if state.assessment]
    for outdated, labels in words.grouped((label, assessment.outdated) for label, assessment in assessed):
        if outdated:
            page.heading(span("OUTDATED", Style.HEADING), *shared_by(labels, states))
            rows = [
                (item.package, item.installed_version, item.candidate_version, item.suite)
                for item in outdated
            ]
            page.grid(_OUTDATED_COLUMNS, [[span(escape(text)) for text in row] for row in rows], indent=2)
    for unassessed, labels in words.grouped((label, assessment.unassessed) for label, assessment in assessed):
        if unassessed:
            page.heading(span("UNASSESSED", Style.HEADING), *shared_by(labels, states))
            why = [(escape(item.package), escape(item.version), harmless(item.reason)) for item in unassessed]
            page.grid(_UNASSESSED_COLUMNS, [[span(text) for text in row] for row in why], indent=2)


def volumes(page: Page, states: Sequence[Labelled]) -> None:
    """Put every volume and what became of it; states with the same volumes share one grid."""
    groups = words.grouped(
        (label, (state.inventory.coverage.volumes, state.inventory.coverage.notes))
        for label, state in states
        if state.inventory
    )
    for (found, notes), labels in groups:
        page.heading(span("VOLUMES", Style.HEADING), *shared_by(labels, states))
        if found:
            page.grid(_VOLUME_COLUMNS, [_volume(volume) for volume in found], indent=2)
        for note in notes:
            page.paragraph(span(harmless(note), Style.DIM), indent=2, hang=2)


def feeds(page: Page, statuses: Sequence[FeedStatus], now: datetime) -> None:
    """Put the advisories' sources and their age in one paragraph."""
    if not statuses:
        return
    parts = [span("Advisories: ", Style.DIM)]
    for number, feed in enumerate(statuses):
        style = Style.WARNING if feed.stale else Style.DIM
        too_old = ", too old" if feed.stale else ""
        age = (
            f"{since(feed.published_at, now)} old"
            if feed.published_at
            else f"fetched {since(feed.fetched_at, now)} ago"
        )
        parts.append(span(", " if number else "", Style.DIM))
        parts.append(span(f"{escape(feed.name)} ({age}{too_old})", style))
    page.paragraph(*parts, hang=2)


def since(moment: datetime | None, now: datetime) -> str:
    """Return how long ago `moment` was: "3 h", "" for none."""
    return words.age((_aware(now) - _aware(moment)).total_seconds()) if moment else ""


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _fact(page: Page, labels: Sequence[str], states: Sequence[Labelled], spans: Spans) -> None:
    page.paragraph(*spans, *shared_by(labels, states), indent=2, hang=2)


def system(inventory: Inventory) -> str:
    """Return the machine's name, its operating system and how many packages it has, in words."""
    host = f"{escape(inventory.hostname)}: " if inventory.hostname else ""
    if inventory.os is None:
        return host + "unknown operating system"
    name = escape(inventory.os.name or f"{inventory.os.ident} {inventory.os.version}".strip())
    return f"{host}{name}, {words.count(len(inventory.packages), 'package')}"


def _support(end: EndOfLife) -> Iterator[Span]:
    last = max((day for day in (end.ends_on, end.extended_ends_on) if day), default=None)
    match end.state:
        case "supported":
            extended = f", extended support until {end.extended_ends_on}" if end.extended_ends_on else ""
            yield span(f", supported until {end.ends_on}{extended}")
        case "extended":
            yield span(", extended support only", Style.WARNING)
            yield span(f", until {end.extended_ends_on} (regular support ended {end.ends_on})")
        case "ended":
            yield span(f", END OF LIFE since {last}: no security updates", Style.BAD)
        case _:
            yield span(", end of life unknown", Style.WARNING)


def kernels(inventory: Inventory) -> str:
    """Return the kernels on the disk, the one that starts next and the one that ran last, in words."""
    releases = [escape(kernel.release) for kernel in inventory.kernels]
    on_disk = f"{words.count(len(releases), 'kernel')} on the disk: {words.listed(releases, _KERNELS)}"
    starts, ran = escape(inventory.boot.default_release), escape(inventory.boot.last_run_release)
    parts = [on_disk if releases else "no kernel on the disk"]
    if starts and starts == ran:
        parts.append(f"{starts} starts next and ran last")
    else:
        parts.append(f"{starts} starts next" if starts else "which one starts next is unknown")
        parts.append(f"{ran} ran last" if ran else "no log tells which one ran last")
    return "; ".join(parts if releases or starts or ran else parts[:1])


def _outdated(state: StateReport) -> tuple[str, str] | None:
    outdated = state.assessment.outdated if state.assessment else ()
    names = [escape(item.package) for item in outdated]
    return (f"{len(names):,} outdated", words.listed(names, _LISTED)) if names else None


def _unassessed(state: StateReport) -> tuple[str, str] | None:
    unassessed = state.assessment.unassessed if state.assessment else ()
    names = [escape(item.package) for item in unassessed]
    kind = f"{words.count(len(names), 'package')} that no source vouches for"
    return (kind, words.listed(names, _LISTED)) if names else None


def _unowned(state: StateReport) -> tuple[str, str] | None:
    number = state.inventory.unowned_executables if state.inventory else 0
    if not number or state.inventory is None:
        return None
    more = ", ..." if number > len(state.inventory.unowned_examples) else ""
    names = ", ".join(map(escape, state.inventory.unowned_examples[:3])) + more
    return f"{words.count(number, 'executable')} that no package owns", names


def _volume(volume: Volume) -> Spans:
    return [
        span(escape(volume.name)),
        span(escape(volume.content)),
        span(words.size(volume.size_bytes)),
        span(words.listed([escape(path) for path in volume.mounts]) or "-"),
        span(volume.status, _VOLUME_STYLES[volume.status]),
        span(harmless(volume.reason), Style.DIM),
    ]
