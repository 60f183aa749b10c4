"""The vaults of a host, for people. What guests named is escaped; what they sealed is never shown."""

from collections.abc import Iterable, Iterator, Sequence

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.page import Column, Page, Span, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.vaulthome import VaultHome
from undercroft.usecases.vaults.values import (
    Blob,
    Contents,
    Counter,
    Entry,
    Holder,
    Key,
    Ledger,
    ServiceState,
    Summary,
    Verification,
)

LISTED = 8
"""What is listed of each kind where no kind was named."""

_VOIDS = 8
_HEAD_DIGITS = 16
_COLUMNS = (
    Column("MACHINE", flexible=True, vital=True),
    Column("FENCE", flexible=True),
    Column("COUNTERS", right=True),
    Column("SPENT", right=True),
    Column("LEDGERS", right=True, idle="0"),
    Column("BLOBS", right=True, idle="0"),
    Column("REVOKED", right=True, idle="0"),
    Column("KEYS", right=True, idle="0"),
    Column("KEPT", right=True, optional=True),
)
_NAME = Column("", flexible=True, vital=True, whole=True)
_TITLES = {
    "counters": "COUNTERS",
    "spent": "SPENT",
    "ledgers": "LEDGERS",
    "blobs": "SEALED BLOBS",
    "revoked": "REVOKED",
    "keys": "SIGNING KEYS",
    "executions": "HELD THE FENCE",
}


def render_vaults(
    state: ServiceState, rows: Sequence[Summary], terminal: Terminal, others: Iterable[tuple[str, str]] = ()
) -> str:
    """Return how the service stands, a row for each vault, and which machines' vaults other hosts keep.

    Args:
        state: of the service.
        rows: the vaults that are here.
        terminal: where it is shown.
        others: what machines without a vault here are called, and which host keeps theirs.
    """
    page = Page(terminal)
    _state(page, state)
    if rows:
        page.blank()
        page.grid(_COLUMNS, [_row(one) for one in rows])
    else:
        page.paragraph(span("No machine has a vault here yet: the first guest that is attached gets one."))
    stale = "; what is here of it is not served"
    told = [(one.name or one.machine, one.elsewhere, stale) for one in rows if one.elsewhere]
    told += [(name, host, "") for name, host in others]
    for name, host, more in sorted(told):
        text = f": its vault is kept by {escape(host)}{more}"
        page.paragraph(span(escape(name), Style.NAME), span(text, Style.WARNING), hang=2)
    return page.text()


def render_vault(found: Contents, state: ServiceState, terminal: Terminal, *, kind: str = "") -> str:
    """Return a vault: who holds its fence, what its answers rest on, and what it has."""
    page, one = Page(terminal), found.summary
    shown = escape(one.name) or one.machine
    page.paragraph(span(shown, Style.HEADING), span(f"  {one.machine}" if one.name else "", Style.DIM))
    if one.elsewhere:
        text = f"kept by {escape(one.elsewhere)} by the record: what is here is not served"
        page.paragraph(span(text, Style.WARNING), indent=2, hang=2)
    page.paragraph(*_fence(one), indent=2, hang=2)
    page.paragraph(
        span(f"{words.count(one.names, 'name')}, {words.size(one.kept_bytes)} sealed or in ledgers"), indent=2
    )
    page.paragraph(*_rests(state), indent=2, hang=2)
    _voids(page, state, indent=2)
    for each, entries in found.entries.items():
        count = getattr(one, each)
        page.heading(span(f"{_TITLES[each]}", Style.HEADING), span(f"  {count:,}", Style.DIM))
        if entries:
            page.grid(_entry_columns(entries[0]), [list(_entry(entry)) for entry in entries], indent=2)
        if len(entries) < count and not kind:
            more = f"and {count - len(entries):,} more: undercroft vault show {_reference(one)} {each}"
            page.paragraph(span(more, Style.DIM), indent=2)
    return page.text()


def render_verification(found: Verification, state: ServiceState, terminal: Terminal) -> str:
    """Return what was checked, with what each came to, and what is to be done where it does not fit."""
    page = Page(terminal)
    page.paragraph(span("the log: "), _read(found), hang=2)
    if found.groups:
        page.paragraph(span(f"head {found.head}", Style.DIM), indent=2)
    _against_tpm(page, found)
    if found.problem:
        page.paragraph(span("does not fit: ", Style.BAD), span(harmless(found.problem)), hang=2)
    elif state.unprotected:
        page.paragraph(span("not protected: ", Style.WARNING), span(harmless(state.unprotected)), hang=2)
    else:
        page.paragraph(span("all fits", Style.GOOD))
    return page.text()


def render_loss(found: Verification, terminal: Terminal) -> str:
    """Return what an adoption gives up, before it is asked for."""
    page = Page(terminal)
    page.paragraph(span(harmless(found.problem), Style.BAD), hang=2)
    page.paragraph(span("An adoption goes on with the log that is on the disk now. It gives up:"))
    since = f"the log ends in epoch {found.epoch}"
    if found.starts_lost:
        starts = words.count(found.starts_lost, "start")
        since += f", and the TPM has counted {starts} of which it knows nothing"
    page.paragraph(span(f"- what was acknowledged and is not in it ({since})"), indent=2, hang=2)
    for lost in (
        "one-time values that were spent since then can be spent again, final ones too",
        "what was revoked since then counts as valid again: revoke it anew",
        "ledgers' entries and sealed versions of that time are gone; whoever asks for such a version is told",
    ):
        page.paragraph(span(f"- {lost}"), indent=2, hang=2)
    page.paragraph(
        span("Counters repeat nothing: they go on in an epoch above all others. A backup of the folder"),
        span(" that is newer, put back first, loses less."),
    )
    return page.text()


def render_move(name: str, home: VaultHome, here: str, terminal: Terminal) -> str:
    """Return what is given up where a machine's vault gets another home, before it is asked for.

    Args:
        name: the machine's.
        home: of its vault until now.
        here: the host that is to keep it.
        terminal: where it is shown.
    """
    page = Page(terminal)
    kept = f"the vault of {escape(name)} is kept by {escape(home.host)}"
    page.paragraph(span(f"{kept}, and {escape(here)} would go on without what is in it:", Style.BAD), hang=2)
    for lost in (
        f"one-time values that were spent on {escape(home.host)} can be spent again, final ones too",
        "what was revoked there counts as valid here: revoke it anew",
        "ledgers, sealed blobs and signing keys of it are not here; keys that are asked for are others",
        "what this host gave out before, if it ever kept this vault, is all that it knows",
    ):
        page.paragraph(span(f"- {lost}"), indent=2, hang=2)
    above = max(home.epoch, home.above)
    page.paragraph(
        span(f"Counters repeat nothing: they go on above epoch {above}. ")
        if above
        else span("In which epochs it was served is not on record: counters may repeat. ", Style.BAD),
        span("Where that host lives, bring the machine back there: its vault is as it was."),
    )
    return page.text()


def _state(page: Page, state: ServiceState) -> None:
    tpm = "no TPM" if state.unprotected else f"TPM at {escape(state.tpm)}"
    saved = "" if state.unprotected else f", {state.writes:,} writes to it saved up"
    page.paragraph(span(f"epoch {state.epoch}", Style.HEADING), span(f", {tpm}{saved}"))
    page.paragraph(*_rests(state), indent=2, hang=2)
    _voids(page, state, indent=2)


def _rests(state: ServiceState) -> Iterator[Span]:
    yield span("an acknowledgement rests on ")
    yield span(harmless(state.rests), Style.WARNING if state.unprotected else Style.PLAIN)


def _voids(page: Page, state: ServiceState, indent: int) -> None:
    if not state.voids:
        return
    latest = [str(epoch) for epoch in reversed(state.voids)]
    which = f"epoch {latest[0]}" if len(latest) == 1 else f"epochs {words.listed(latest, _VOIDS)}"
    page.paragraph(
        span(f"without an end: {which}; ", Style.WARNING),
        span("what they acknowledged after their last anchor is void where the log does not have it"),
        indent=indent,
        hang=2,
    )


def _read(found: Verification) -> Span:
    """Return what could be read of the log."""
    if not found.head:
        return span("could not be read to its end", Style.BAD)
    if not found.groups:
        return span("empty", Style.WARNING)
    much = f"{words.count(found.groups, 'group')} with {words.count(found.records, 'record')}"
    much += f" in {words.size(found.bytes)}"
    return span(f"{much}, each with a head that fits the one before, up to epoch {found.epoch}")


def _against_tpm(page: Page, found: Verification) -> None:
    """Put counter and index beside what the log says of them."""
    if found.counter is None or found.logged_counter is None:
        what = "no TPM counts its epochs" if found.tpm == "none" else "not compared"
        page.paragraph(span(f"the TPM: {what}", Style.WARNING))
        return
    fits = found.counter == found.logged_counter
    page.paragraph(
        span("the TPM's counter: "),
        span(f"{found.counter:,}", Style.PLAIN if fits else Style.BAD),
        span(", as the log has it" if fits else f", and the log has {found.logged_counter:,}"),
    )
    fits = found.index == found.logged_index
    page.paragraph(
        span("the TPM's index: "),
        span(f"{found.index[:_HEAD_DIGITS]}...", Style.PLAIN if fits else Style.BAD),
        span(", as the log has it" if fits else f", and the log has {found.logged_index[:_HEAD_DIGITS]}..."),
    )


def _row(one: Summary) -> Spans:
    fence = f"{one.holder[:8]}" if one.holder else "-"
    return [
        span(escape(one.name) or one.machine),
        span(
            fence if one.lives or not one.holder else f"{fence} (ended)",
            Style.PLAIN if one.lives else Style.DIM,
        ),
        *(span(f"{count:,}") for count in (one.counters, one.spent, one.ledgers, one.blobs)),
        *(span(f"{count:,}") for count in (one.revoked, one.keys)),
        span(words.size(one.kept_bytes), Style.DIM),
    ]


def _fence(one: Summary) -> Iterator[Span]:
    if not one.holder:
        yield span("nobody holds the fence: no execution has asked for it yet", Style.WARNING)
        return
    yield span("the fence: ")
    yield span(one.holder, Style.NAME)
    ended = ", which has ended: nobody changes anything until another takes it"
    yield span("" if one.lives else ended, Style.WARNING)


def _reference(one: Summary) -> str:
    """Return how the machine is named on a command line that can be copied."""
    return one.machine


def _entry_columns(entry: Entry) -> tuple[Column, ...]:
    number = Column("", right=True)
    match entry:
        case Counter():
            return (_NAME, number)
        case Ledger():
            return (_NAME, number, Column(""), Column("", right=True, optional=True))
        case Blob():
            return (_NAME, number, Column("", right=True))
        case Key():
            return (_NAME, Column(""), Column(""))
        case Holder():
            return (Column("", right=True), Column(""))
    return (_NAME,)


def _entry(entry: Entry) -> Iterator[Span]:
    match entry:
        case Holder():
            yield from (span(f"{entry.number:,}", Style.DIM), span(entry.execution))
            return
        case _:
            yield span(escape(entry.name))
    match entry:
        case Counter():
            yield span(entry.value)
        case Ledger():
            yield span(f"height {entry.height:,}")
            yield span(f"head {entry.head[:_HEAD_DIGITS]}...", Style.DIM)
            yield span(words.size(entry.entry_bytes), Style.DIM)
        case Blob():
            yield span(f"version {entry.version}")
            yield span(words.size(entry.kept_bytes), Style.DIM)
        case Key():
            yield span(escape(entry.algorithm) + (", revoked" if entry.revoked else ""))
            yield span(escape(entry.public), Style.DIM)
