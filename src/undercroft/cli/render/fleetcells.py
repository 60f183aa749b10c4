"""What the fleet's rows say, cell by cell: the same in every table that shows them."""

from collections.abc import Sequence
from datetime import datetime

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.page import Span, cut
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.domain import Power
from undercroft.model.verdict import Action, Verdict
from undercroft.usecases.fleet.views.values import FleetRow, Network

VERDICT_STYLES = {
    Verdict.QUARANTINED: Style.WORST,
    Verdict.UNKNOWN: Style.BAD,
    Verdict.DRIFTING: Style.WARNING,
    Verdict.STEADY: Style.GOOD,
}
"""Worst first."""
ACTION_STYLES = {Action.ALLOW: Style.PLAIN, Action.QUARANTINE: Style.WARNING, Action.REFUSE: Style.BAD}
NETWORK_STYLES = {
    Network.OPEN: Style.PLAIN,
    Network.PENDING: Style.WARNING,
    Network.CLOSED: Style.BAD,
    Network.NONE: Style.DIM,
}
_NOTHING = Span("-", Style.DIM)
_OWNER_COLUMNS = 12
_SNAPSHOT_COLUMNS = 24


def verdict(row: FleetRow) -> Span:
    """Return the verdict."""
    return Span(row.verdict.value, VERDICT_STYLES[row.verdict])


def age(moment: datetime | None, now: datetime) -> Span:
    """Return how long ago that was: "3 h", "-" for never."""
    return Span(words.age((now - moment).total_seconds()), Style.DIM) if moment else _NOTHING


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago that was in a sentence: "3 h ago", "just now", "never"."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    return f"{words.age(seconds)} ago" if seconds >= 60 else "just now"


def power(row: FleetRow) -> Span:
    """Return whether it runs, "-" for what cannot."""
    if row.power is None:
        return _NOTHING
    return Span(row.power.value, Style.PLAIN if row.power is Power.RUNNING else Style.DIM)


def network(state: Network) -> Span:
    """Return whether packets pass, "-" where none could."""
    return _NOTHING if state is Network.NONE else Span(state.value, NETWORK_STYLES[state])


def action(row: FleetRow) -> Span:
    """Return what a start would meet, "-" before the first verdict."""
    return Span(row.action.value, ACTION_STYLES[row.action]) if row.action else _NOTHING


def owner(row: FleetRow, terminal: Terminal) -> Span:
    """Return whose it is."""
    text = escape(row.owner)
    if terminal.width is not None:
        text = cut(text, _OWNER_COLUMNS, terminal.ellipsis)
    return Span(text) if text else _NOTHING


def expiry(row: FleetRow, now: datetime) -> Span:
    """Return the first day on which it may not start any more."""
    if row.expires_on is None:
        return _NOTHING
    return Span(str(row.expires_on), Style.BAD if row.expires_on <= now.date() else Style.DIM)


def reason(row: FleetRow) -> Span:
    """Return why a row stands as it does: an alarm before all, then what a snapshot brings back."""
    texts = [f"ALARM: {alarm}" for alarm in row.alarms]
    if row.brought_back:
        texts.append(f"would bring back {_findings(row)}")
    if row.why:
        texts.append(row.why)
    style = Style.DIM if row.verdict is Verdict.STEADY and not row.alarms else Style.PLAIN
    return Span(harmless("; ".join(texts)), Style.WORST if row.alarms else style)


def bringing_back(snapshots: Sequence[FleetRow], terminal: Terminal) -> Span:
    """Return in one line what going back to one of these snapshots of a machine would bring back."""
    number = words.count(len(snapshots), "snapshot")
    known = [row for row in snapshots if row.brought_back is not None]
    bad = sorted((row for row in known if row.brought_back), key=lambda row: -(row.brought_back or 0))
    parts = []
    if len(bad) == 1:
        name = cut(escape(bad[0].state), _SNAPSHOT_COLUMNS, terminal.ellipsis)
        parts.append(f"{name} would bring back {_findings(bad[0])}")
    elif bad:
        parts.append(f"{len(bad):,} would bring back up to {_findings(bad[0])}")
    if len(known) < len(snapshots):
        unknown = f"{len(snapshots) - len(known):,} not known"
        parts.append(unknown if known else "what would come back is not known")
    if not parts:
        return Span(f"{number}: nothing would come back", Style.DIM)
    return Span(f"{number}: {'; '.join(parts)}", Style.BAD if bad else Style.WARNING)


def _findings(row: FleetRow) -> str:
    return f"{'' if row.complete else 'at least '}{words.count(row.brought_back or 0, 'finding')}"
