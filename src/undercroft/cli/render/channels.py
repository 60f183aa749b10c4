"""How machines stand beneath their guests, for people: worst first."""

from collections.abc import Sequence
from datetime import datetime

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.fleetcells import ago
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.usecases.fleet.views.channels import summary
from undercroft.usecases.fleet.views.values import ChannelRow, Protection

STYLES = {
    Protection.REWOUND: Style.ALARM,
    Protection.UNPROTECTED: Style.BAD,
    Protection.NO_HELPER: Style.WARNING,
    Protection.NO_CHANNEL: Style.WARNING,
    Protection.UNREACHABLE: Style.WARNING,
    Protection.WAITING: Style.WARNING,
    Protection.UNKNOWN: Style.WARNING,
    Protection.SILENT: Style.WARNING,
    Protection.PROTECTED: Style.GOOD,
    Protection.OFF: Style.DIM,
}
CURES = {
    Protection.REWOUND: "it was put back inside its process: undercroft lineage",
    Protection.UNPROTECTED: "its kernel refuses the seed: update undercroft-guest, and look at its log",
    Protection.NO_HELPER: "install and start undercroft-guest in it",
    Protection.NO_CHANNEL: "undercroft channel enable",
    Protection.UNREACHABLE: "somebody else may have its channel open; the agent tries again",
    Protection.UNKNOWN: "is `undercroft up` running?",
}
_COLUMNS = (
    Column("MACHINE", flexible=True, vital=True),
    Column("STANDS"),
    Column("CONFIRMED", idle="-"),
    Column("GENERATION", right=True, optional=True, idle="-"),
    Column("HELPER", flexible=True, optional=True, idle="-"),
    Column("GENID"),
    Column("HOST", flexible=True, optional=True),
)
_DASH = Span("-", Style.DIM)
_NAMED = 6


def genid_word(row: ChannelRow) -> tuple[str, Style]:
    """Return what `<genid/>` gives a guest, in a word or two."""
    if not row.genid:
        return "none", Style.WARNING
    if row.driver is None:
        return "driver unknown", Style.DIM
    return ("driver", Style.GOOD) if row.driver else ("no driver", Style.WARNING)


def vault_elsewhere(row: ChannelRow) -> str:
    """Return in words that another host keeps a machine's vault, and what helps."""
    return (
        f"its vault is kept by {escape(row.elsewhere)}, and refused here: bring the machine back there; "
        "undercroft vault adopt goes on without"
    )


def render_channels(rows: Sequence[ChannelRow], terminal: Terminal, now: datetime) -> str:
    """Return a row for each machine, and what helps those that are not protected."""
    page = Page(terminal)
    if not rows:
        page.paragraph(span("no machine on record", Style.WARNING))
        return page.text()
    counts = summary(rows)
    parts = [span(f"{words.count(len(rows), 'machine')}: ")]
    for number, (word, count) in enumerate(counts.items()):
        parts += [span(", " if number else ""), span(f"{count:,} {word}", STYLES[word])]
    page.paragraph(*parts)
    page.grid(_COLUMNS, [_row(row, now) for row in rows])
    for word, cure in CURES.items():
        named = [row for row in rows if row.protection is word]
        if named:
            names = ", ".join(escape(row.name) for row in named[:_NAMED])
            more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
            page.paragraph(span(f"{word}: ", STYLES[word]), span(f"{names}{more}: {cure}"), hang=2)
    for row in rows:
        if row.problem:
            page.paragraph(span(escape(row.name), Style.NAME), span(f": {harmless(row.problem)}"), hang=2)
        if row.elsewhere:
            page.paragraph(span(escape(row.name), Style.NAME), span(f": {vault_elsewhere(row)}"), hang=2)
    return page.text()


def _row(row: ChannelRow, now: datetime) -> Spans:
    word, style = genid_word(row)
    return [
        span(escape(row.name)),
        span(row.protection.value, STYLES[row.protection]),
        span(ago(row.confirmed_at, now)) if row.confirmed_at else _DASH,
        span(str(row.generation)) if row.generation else _DASH,
        span(escape(row.helper)) if row.helper else _DASH,
        span(word, style),
        span(escape(row.host), Style.DIM),
    ]
