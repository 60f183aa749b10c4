"""Snapshots and what they keep, for people: those past their age first."""

from collections.abc import Iterator, Sequence

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.page import Column, Page, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.retention import KeptSnapshot

_LISTED = 6
_COLUMNS = (
    Column("SNAPSHOT", flexible=True, whole=True),
    Column("TAKEN", optional=True),
    Column("AGE", right=True),
    Column("LIMIT", right=True, idle="none"),
    Column("ONLY HERE", right=True),
    Column("OPENS", right=True),
    Column("HOST", optional=True),
)


def render_retention(kept: Sequence[KeptSnapshot], terminal: Terminal, *, verbose: bool = False) -> str:
    """Return a row for each snapshot and what stands out; `verbose` names everything that they hold."""
    page = Page(terminal)
    if not kept:
        page.paragraph(span("No snapshot is on record."))
        return page.text()
    in_order = sorted(kept, key=lambda one: not one.past)
    past = sum(one.past for one in kept)
    page.paragraph(
        span(words.count(len(kept), "snapshot"), Style.HEADING),
        span(f", {past:,} past the policy's age", Style.BAD if past else Style.PLAIN),
    )
    page.blank()
    page.grid(_COLUMNS, [_row(one) for one in in_order])
    for one in in_order:
        details(page, one, limit=None if verbose else _LISTED, everything=verbose)
    return page.text()


def render_removal(kept: Sequence[KeptSnapshot], terminal: Terminal) -> str:
    """Return what a removal takes away and what hangs on it, before it is asked for."""
    page = Page(terminal)
    for one in kept:
        page.paragraph(
            span("remove "), span(_name(one), Style.HEADING), span(f"  {_age(one)} old", Style.DIM)
        )
        for child in one.children:
            page.paragraph(span(f"{escape(child)} was taken from it, and stays"), indent=2)
        for eid in one.lives:
            page.paragraph(
                span("a live execution began from it: ", Style.WARNING), span(escape(eid)), indent=2
            )
    return page.text()


def details(page: Page, one: KeptSnapshot, *, limit: int | None, everything: bool) -> None:
    """Put what only a snapshot holds, what its keys open and why that may not be all."""
    lines = list(_held(one, everything=everything))
    if not lines and not one.problems:
        return
    page.heading(span(_name(one), Style.HEADING))
    for line in lines[:limit]:
        page.record(*line, indent=2, hang=2)
    if limit is not None and len(lines) > limit:
        page.paragraph(span(f"and {len(lines) - limit:,} more; -v lists all", Style.DIM), indent=2)
    for problem in one.problems:
        page.paragraph(span("unknown: ", Style.WARNING), span(harmless(problem)), indent=2, hang=2)


def _held(one: KeptSnapshot, *, everything: bool) -> Iterator[Spans]:
    for key in one.keys:
        if key.opens or key.only_here or everything:
            where = words.listed([escape(place) for place in key.opens], 4)
            yield [
                span("key ", Style.WARNING),
                span(f"{escape(key.fingerprint)} of {escape(key.owner)}"),
                span(f" lets in as {where}" if where else "", Style.WORST),
                span("" if key.only_here else "  (the machine still has it)", Style.DIM),
            ]
    for secret in one.secrets:
        if secret.only_here or everything:
            yield [
                span(f"{escape(secret.kind)} ", Style.WARNING),
                span(escape(secret.path)),
                span("" if secret.only_here else "  (the machine still has it)", Style.DIM),
            ]


def _row(one: KeptSnapshot) -> Spans:
    unknown = bool(one.problems)
    only = sum(secret.only_here for secret in one.secrets) + sum(key.only_here for key in one.keys)
    opens = sum(bool(key.opens) for key in one.keys)
    limit = "none" if one.limit_s is None else words.age(one.limit_s)
    return [
        span(_name(one)),
        span(words.minute(one.created_at), Style.DIM),
        span(_age(one), Style.BAD if one.past else Style.PLAIN),
        span(limit, Style.DIM),
        span(_counted(only, unknown=unknown), Style.WARNING if only or unknown else Style.DIM),
        span(_counted(opens, unknown=unknown), Style.BAD if opens else Style.DIM),
        span(escape(one.host), Style.DIM),
    ]


def _counted(number: int, *, unknown: bool) -> str:
    """Return a count, "?" where nothing was seen of what may be there."""
    if not unknown:
        return f"{number:,}"
    return f"{number:,}+" if number else "?"


def _name(one: KeptSnapshot) -> str:
    return f"{escape(one.machine_name)}@{escape(one.name)}"


def _age(one: KeptSnapshot) -> str:
    return words.age(one.age_s)
