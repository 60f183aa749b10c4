"""A verdict rule by rule, and a policy in a few sentences."""

from collections.abc import Iterator
from datetime import date, timedelta

from undercroft.cli.render import words
from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.fleetcells import ACTION_STYLES, VERDICT_STYLES
from undercroft.cli.render.page import Page, Span, span
from undercroft.cli.render.terminal import Style, Terminal
from undercroft.model.verdict import Action, Outcome, RuleResult
from undercroft.steady.durations import words as span_words
from undercroft.steady.policy import Policy, Settings, Waiver
from undercroft.usecases.fleet.verdicts.explain import Explained

LISTED = 10
"""Items that a rule shows before it says how many more there are; -v lists all."""
ENDING_DAYS = 30
"""Exceptions that end within this are told."""

_OUTCOMES = {
    Outcome.FAIL: ("FAILS", Style.BAD),
    Outcome.UNKNOWN: ("UNKNOWN", Style.BAD),
    Outcome.GRACE: ("IN GRACE", Style.WARNING),
    Outcome.EXCEPTED: ("EXCEPTED", Style.WARNING),
    Outcome.PASS: ("passes", Style.GOOD),
}
_STARTS = {
    Action.ALLOW: "a start is allowed",
    Action.QUARANTINE: "a start is quarantined",
    Action.REFUSE: "a start is refused",
}
_OUTCOME_COLUMNS = max(len(word) for word, _ in _OUTCOMES.values())


def render_explanation(explained: Explained, terminal: Terminal, *, verbose: bool = False) -> str:
    """Return why the verdict is what it is: each rule with its reason, source and what it rests on."""
    subject, judgement = explained.subject, explained.judgement
    page = Page(terminal)
    page.paragraph(
        span(f"{escape(subject.name)}: ", Style.HEADING),
        span(judgement.verdict.value, VERDICT_STYLES[judgement.verdict]),
        span(f" since {judgement.since:%Y-%m-%d %H:%M}, "),
        span(_STARTS[judgement.action], ACTION_STYLES[judgement.action]),
    )
    advisories = f", advisories {escape(judgement.advisories)}" if judgement.advisories else ""
    rested_on = f"policy {escape(judgement.policy[:12])}{advisories}"
    page.paragraph(span(f"judged {judgement.judged_at:%Y-%m-%d %H:%M}, {rested_on}", Style.DIM))
    page.blank()
    for result in judgement.results:
        _rule(page, result, verbose=verbose)
    return page.text()


def _rule(page: Page, result: RuleResult, *, verbose: bool) -> None:
    word, style = _OUTCOMES[result.outcome]
    page.record(
        span(f"{word:<{_OUTCOME_COLUMNS}}", style),
        span(f"  {escape(result.rule)}: ", Style.HEADING),
        span(harmless(result.reason)),
        span(f"  ({_source(result)})", Style.DIM),
        hang=_OUTCOME_COLUMNS + 2,
    )
    if result.outcome is Outcome.PASS and not verbose:
        return
    shown = result.items if verbose or len(result.items) <= LISTED + 1 else result.items[:LISTED]
    for item in shown:
        page.record(span(harmless(item)), indent=_OUTCOME_COLUMNS + 4)
    if left := len(result.items) - len(shown):
        page.paragraph(span(f"and {left:,} more; -v lists all", Style.DIM), indent=_OUTCOME_COLUMNS + 4)


def _source(result: RuleResult) -> str:
    until = f", until {result.until:%Y-%m-%d %H:%M}" if result.until else ""
    return f"{escape(result.source)}{until}"


def render_policy(policy: Policy, terminal: Terminal, today: date) -> str:
    """Return what a policy without mistakes means, and which exceptions need attention."""
    page = Page(terminal)
    parts = (
        words.count(len(policy.files), "file"),
        words.count(len(policy.rules), "rule"),
        words.count(len(policy.exceptions), "exception"),
    )
    page.paragraph(span("ok", Style.GOOD), span(f": {', '.join(parts)}; policy {policy.digest[:12]}"))
    page.blank()
    for sentence in _meaning(policy.defaults):
        page.paragraph(span(sentence), hang=2)
    for sentence in _away(policy):
        page.paragraph(span(sentence), hang=2)
    for warning in _warnings(policy):
        page.paragraph(span("note: ", Style.WARNING), span(warning), hang=2)
    for waiver in sorted(policy.exceptions, key=lambda waiver: (waiver.until, waiver.source)):
        if waiver.until <= today + timedelta(days=ENDING_DAYS):
            page.paragraph(*_ending(waiver, today), hang=2)
    return page.text()


def _meaning(settings: Settings) -> Iterator[str]:
    severity = settings.fixable.value
    days = words.count(settings.fixable_days.value, "day")
    fixes = (
        f"no fix of severity {severity} or worse missing for more than {days}" if severity else "any fixes"
    )
    yield (
        f"Steady by default: known-exploited findings {_taken(settings.known_exploited.value)}, {fixes}, "
        f"end of life {_taken(settings.end_of_life.value)}, scanned within "
        f"{span_words(settings.scanned_within.value)}, coverage {settings.coverage.value}, patch floor "
        f"{settings.floor.value}, <genid/> {settings.genid.value}, unknown severity: "
        f"{settings.unknown_severity.value}."
    )
    yield (
        f"A start meets by default: drifting: {settings.drifting.value}, unknown: {settings.unknown.value}, "
        f"below its floor: {settings.below_floor.value}, expired: {settings.expired.value}, a template: "
        f"{settings.template_start.value}; grace {span_words(settings.grace.value)}, for known-exploited "
        f"findings {span_words(settings.grace_exploited.value)}."
    )


def _taken(stance: str) -> str:
    return {"forbid": "forbidden", "allow": "allowed", "extended": "forbidden (LTS and ESM count)"}[stance]


def _away(policy: Policy) -> Iterator[str]:
    away = policy.agent_away
    names = words.listed([escape(name) for name in policy.break_glass], LISTED)
    yield (
        f"Without an agent: its last decision for {span_words(away.last_decision)}, "
        f"then {away.default.value}; "
        f"{f'always: {names}' if names else 'nothing in break_glass'}."
    )


def _warnings(policy: Policy) -> Iterator[str]:
    """Yield what is no mistake and may still surprise."""
    strength = list(Action).index
    places = [("defaults", policy.defaults)]
    places += [
        (f"the rule at {escape(rule.source)}", policy.overlaid([n])) for n, rule in enumerate(policy.rules)
    ]
    for place, settings in places:
        drifting, unknown = settings.drifting, settings.unknown
        if strength(unknown.value) < strength(drifting.value):
            yield (
                f"{place}: unknown: {unknown.value} is milder than drifting: {drifting.value}; the latter "
                "counts for both, or a guest could hide what it has installed"
            )
    if policy.agent_away.default is not Action.ALLOW and not policy.break_glass:
        yield (
            f"agent_away.default is {policy.agent_away.default.value} and break_glass names nobody: after a "
            "power loss this host's own name servers and gateways may wait for the agent"
        )


def _ending(waiver: Waiver, today: date) -> Iterator[Span]:
    ended = waiver.until < today
    what = waiver.rule or words.listed(sorted(waiver.vulnerabilities), 3)
    who = words.listed([*waiver.match.names, *waiver.match.labels], 3)
    when = f"ended on {waiver.until}" if ended else f"ends on {waiver.until}"
    yield span("exception ", Style.WARNING)
    yield span(f"{escape(waiver.source)}: {harmless(what)} for {harmless(who)} ")
    yield span(when, Style.BAD if ended else Style.WARNING)
    yield span(f": {harmless(waiver.reason)}")
