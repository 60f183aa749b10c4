"""Why a verdict is what it is, and what a policy means, for people."""

from dataclasses import replace

import reports
from steadyfacts import NOW, TODAY, exploited, facts, high, judged, policy, scan

from undercroft.cli.render.terminal import Terminal
from undercroft.cli.render.verdicts import render_explanation, render_policy
from undercroft.steady.facts import Facts
from undercroft.steady.rules import RULES
from undercroft.usecases.fleet.verdicts.explain import Explained

PIPE = Terminal()
POLICY = "version: 1\ndefaults:\n  drifting: quarantine\n"


def explained(about: Facts, text: str = POLICY, *, verbose: bool = False, terminal: Terminal = PIPE) -> str:
    said = judged(about, text)
    return render_explanation(Explained(about.subject, said), terminal, verbose=verbose)


def test_every_rule_has_a_line_with_its_reason_and_the_line_of_the_policy() -> None:
    text = explained(facts(exploited(), high()), "version: 1\ndefaults:\n  steady:\n    fixable: {days: 3}\n")
    assert text.splitlines()[0] == "web01: drifting since 2026-03-07 12:00, a start is allowed"
    assert text.splitlines()[1].startswith("judged 2026-03-07 12:00, policy ")
    assert "FAILS     known-exploited: 1 finding known to be exploited" in text
    assert "          CVE-2026-9 in openssl" in text
    assert "with a fix for more than 3 days" in text
    assert [rule for rule in RULES if f"  {rule}: " not in text] == []


def test_ten_items_are_shown_and_the_rest_counted() -> None:
    many = facts(*(high(f"CVE-2026-{number}") for number in range(30)))
    assert explained(many).count(" in openssl\n") == 10
    assert "and 20 more; -v lists all" in explained(many)
    assert explained(many, verbose=True).count(" in openssl\n") == 30


def test_an_exception_says_until_when_and_why() -> None:
    text = POLICY + "exceptions: [{machine: '*', rule: fixable, until: 2026-03-10, reason: we know}]\n"
    shown = explained(facts(high()), text)
    assert "EXCEPTED  fixable: " in shown
    assert "by exception until 2026-03-10: we know  (policy.yaml:4, until 2026-03-11 00:00)" in shown


def test_what_a_guest_wrote_is_harmless() -> None:
    evil = facts(high(reports.EVIL, reports.EVIL), scan=scan(problems=(reports.EVIL,)))
    evil = replace(evil, subject=replace(evil.subject, name=reports.EVIL))
    for terminal in (PIPE, Terminal(60), Terminal(60, unicode=False)):
        text = explained(evil, verbose=True, terminal=terminal)
        assert all(character.isprintable() or character == "\n" for character in text)


def test_a_narrow_terminal_gets_lines_of_its_width() -> None:
    lines = explained(facts(exploited()), terminal=Terminal(60)).splitlines()
    assert max(map(len, lines)) <= 60


def test_a_policy_is_told_in_sentences() -> None:
    text = render_policy(policy(POLICY), PIPE, TODAY)
    assert text.startswith("ok: 1 file, 0 rules, 0 exceptions; policy ")
    for part in ("known-exploited findings forbidden", "drifting: quarantine", "nothing in break_glass"):
        assert part in text
    assert "any fixes" in render_policy(
        policy("version: 1\ndefaults: {steady: {fixable: allow}}"), PIPE, TODAY
    )


def test_exceptions_that_end_soon_or_have_ended_are_told() -> None:
    entry = "- {machine: web*, vulnerability: CVE-%s, until: %s, reason: because %s}\n"
    days = ("2026-03-06", "2026-04-06", "2026-04-07")
    text = "version: 1\nexceptions:\n" + "".join(entry % (day, day, day) for day in days)
    shown = render_policy(policy(text), PIPE, TODAY)
    assert "policy.yaml:3: CVE-2026-03-06 for web* ended on 2026-03-06: because 2026-03-06" in shown
    assert "ends on 2026-04-06" in shown
    assert "2026-04-07" not in shown


def test_what_may_surprise_is_told() -> None:
    said = "version: 1\nagent_away: {default: refuse}\nrules:\n- match: {name: a}\n  drifting: refuse\n"
    shown = render_policy(policy(said), Terminal(10_000), TODAY)
    assert "the rule at policy.yaml:4: unknown: allow is milder than drifting: refuse" in shown
    assert "break_glass names nobody" in shown
    assert NOW.date() == TODAY
