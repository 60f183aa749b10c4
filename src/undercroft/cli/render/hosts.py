"""The hosts of one record, for people."""

from collections.abc import Sequence
from datetime import datetime

from undercroft.cli.render.escape import escape
from undercroft.cli.render.firewallplan import HOLDING
from undercroft.cli.render.fleetcells import ago
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.usecases.fleet.views.values import HostRow

_COLUMNS = (
    Column("HOST", flexible=True, vital=True),
    Column("AGENT"),
    Column("MACHINES", right=True),
    Column("RUNNING", right=True, optional=True),
    Column("POLICY", right=True, idle="-"),
    Column("FIREWALL", idle="-"),
)
_DASH = Span("-", Style.DIM)


def render_hosts(rows: Sequence[HostRow], terminal: Terminal, now: datetime, here: str) -> str:
    """Return a row for each host, and what may be done about those that are silent.

    Args:
        rows: by name.
        terminal: where the text goes.
        now: with a time zone.
        here: the name of this host.
    """
    page = Page(terminal)
    if not rows:
        page.paragraph(span("The record knows no host yet; on each of them: undercroft up", Style.WARNING))
        return page.text()
    page.grid(_COLUMNS, [_row(row, now) for row in rows])
    for row in rows:
        if row.silent:
            cure = "undercroft up" if row.host == here else f"undercroft host forget {row.host} --reason TEXT"
            when = "to start it: " if row.host == here else "if the host is gone for good: "
            page.paragraph(
                span(escape(row.host), Style.NAME),
                span(f": its agent is silent; {when}{escape(cure)}", Style.WARNING),
                hang=2,
            )
    return page.text()


def _row(row: HostRow, now: datetime) -> Spans:
    word, style = HOLDING[row.filter] if row.filter else _DASH
    said = "stopped" if row.stopped else "heard"
    heard = f"{said} {ago(row.heard_at, now)}" if row.heard_at else "never heard"
    return [
        span(escape(row.host)),
        span(heard, Style.WARNING if row.silent else Style.PLAIN),
        span(f"{row.machines:,}"),
        span(f"{row.running:,}"),
        span(f"{row.policy:,}") if row.policy else _DASH,
        span(word, style),
    ]
