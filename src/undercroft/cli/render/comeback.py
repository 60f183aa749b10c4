"""What a revert brings back and what stands against a release: the answer first, then the worst."""

from collections.abc import Sequence

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.overview import SEVERITY_STYLES
from undercroft.cli.render.page import Column, Page, Spans, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.comeback import Comeback, CredentialReturning, Returning, Standing
from undercroft.model.verdict import Action

_LISTED = 20
_ACTIONS = {
    Action.ALLOW: ("MAY BE REVERTED", Style.GOOD),
    Action.QUARANTINE: ("INTO QUARANTINE", Style.WARNING),
    Action.REFUSE: ("REFUSED", Style.BAD),
}


def render_comeback(comeback: Comeback, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return what a revert would bring back; `verbose` lists all of it."""
    page = Page(terminal)
    taken = words.moment(comeback.created_at_s)
    age = words.age(comeback.checked_at.timestamp() - comeback.created_at_s)
    page.paragraph(
        span(escape(comeback.name), Style.HEADING),
        span(f" {terminal.arrow} "),
        span(escape(comeback.snapshot), Style.HEADING),
        span(f"  taken {taken}, {age} ago", Style.DIM),
    )
    word, style = _ACTIONS[comeback.action]
    page.paragraph(span(word, style), span(f"  {_first(comeback)}"), hang=2)
    for reason in comeback.reasons[1:]:
        page.paragraph(span(harmless(reason)), indent=2, hang=2)
    limit = None if verbose else _LISTED
    _returning(page, "FIXED, AND WOULD RETURN", comeback.returning, limit, "WOULD BE")
    _credentials(page, comeback, limit)
    _findings(page, comeback)
    _problems(page, (*comeback.problems, *comeback.credentials.problems))
    return page.text()


def render_standing(standing: Standing, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return whether a machine may leave its quarantine, and what stands against it."""
    page = Page(terminal)
    page.paragraph(
        span(escape(standing.name), Style.HEADING),
        span(f"  in quarantine since {words.minute(standing.hold.since)}: ", Style.DIM),
        span(harmless(standing.hold.reason), Style.DIM),
        hang=2,
    )
    if standing.against:
        page.paragraph(span("STAYS", Style.BAD), span(f"  {harmless(standing.against[0])}"), hang=2)
        for reason in standing.against[1:]:
            page.paragraph(span(harmless(reason)), indent=2, hang=2)
    else:
        page.paragraph(span("MAY BE RELEASED", Style.GOOD), span("  nothing stands against it"))
    _returning(
        page, "FIXED ONCE, AND HERE AGAIN", standing.returning, None if verbose else _LISTED, "INSTALLED"
    )
    _problems(page, standing.problems)
    return page.text()


def _first(comeback: Comeback) -> str:
    if comeback.reasons:
        return harmless(comeback.reasons[0])
    return "nothing that was fixed would return" if not comeback.returning else "the policy lets it pass"


def _returning(
    page: Page, heading: str, returning: Sequence[Returning], limit: int | None, installed: str
) -> None:
    """Put the vulnerabilities that were fixed, those known to be exploited marked.

    `installed` heads the column of what the state has.
    """
    if not returning:
        return
    page.heading(span(heading, Style.HEADING), span(f": {len(returning):,}"))
    shown = returning if limit is None else returning[:limit]
    page.grid(_columns(installed), [_row(item) for item in shown], indent=2)
    _more(page, len(returning) - len(shown))


def _columns(installed: str) -> Sequence[Column]:
    return (
        Column("VULNERABILITY"),
        Column("SEVERITY", idle="unknown"),
        Column("SOURCE", flexible=True, whole=True),
        Column(installed, flexible=True, whole=True),
        Column("FIXED IN", flexible=True, whole=True),
        Column(""),
    )


def _row(item: Returning) -> Spans:
    exploited = item.known_exploited_on is not None
    name = escape(item.vulnerability) if item.source else "the release goes back"
    return [
        span(name, Style.WORST if exploited else Style.PLAIN),
        span(item.severity.value, SEVERITY_STYLES[item.severity]),
        span(escape(item.source)),
        span(escape(item.installed_version)),
        span(escape(item.fixed_version), Style.GOOD),
        span("known to be exploited" if exploited else "", Style.WORST),
    ]


def _credentials(page: Page, comeback: Comeback, limit: int | None) -> None:
    """Put the accounts, keys and secrets that would count again, and how many would be gone."""
    found = comeback.credentials.returning
    if found:
        page.heading(
            span("ACCOUNTS, KEYS AND SECRETS THAT WOULD COUNT AGAIN", Style.HEADING),
            span(f": {len(found):,}"),
        )
    shown = found if limit is None else found[:limit]
    for item in shown:
        page.record(*_credential(item), indent=2, hang=2)
    _more(page, len(found) - len(shown))
    if comeback.credentials.lost:
        lost = words.count(comeback.credentials.lost, "account, key or secret", "accounts, keys or secrets")
        page.blank()
        page.paragraph(span(f"{lost} added since would be gone."))


def _credential(item: CredentialReturning) -> Spans:
    owner = f" of {escape(item.owner)}" if item.owner and item.owner != item.name else ""
    detail = f" ({escape(item.detail)})" if item.detail else ""
    return [
        span(item.kind.value, Style.WARNING),
        span(f" {escape(item.name)}{owner}", Style.HEADING),
        span(detail, Style.DIM),
        span(f": {item.change}"),
    ]


def _findings(page: Page, comeback: Comeback) -> None:
    """Put how the findings of both states differ, fixed at some time or not."""
    found = comeback.findings
    page.blank()
    if found is None:
        page.paragraph(span("How the findings differ is unknown.", Style.WARNING))
        return
    if not (found.back or found.gone):
        page.paragraph(span(f"Both states have the same {words.count(found.total, 'finding')}."))
        return
    spans = [
        span(f"The snapshot has {words.count(found.total, 'finding')}: "),
        span(f"{found.back:,} that the present state has not", Style.BAD if found.back else Style.PLAIN),
        span(f"; it is without {found.gone:,} that the present state has."),
    ]
    if found.exploited:
        names = words.listed([escape(name) for name in found.exploited], 8)
        spans += [span(" Known to be exploited: "), span(names, Style.WORST), span(".")]
    page.paragraph(*spans, hang=2)


def _problems(page: Page, problems: Sequence[str]) -> None:
    if not problems:
        return
    page.heading(span("INCOMPLETE", Style.WARNING), span("  more may come back than is shown", Style.DIM))
    for problem in problems:
        page.paragraph(span(harmless(problem)), indent=2, hang=2)


def _more(page: Page, count: int) -> None:
    if count > 0:
        page.paragraph(span(f"and {count:,} more; -v lists all", Style.DIM), indent=2)
