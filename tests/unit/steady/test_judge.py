"""Each rule by itself, what follows from it, and who may be excepted for how long."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from steadyfacts import (
    DAY,
    FEEDS,
    MACHINE,
    NOW,
    TODAY,
    assessment,
    exploited,
    facts,
    feed,
    finding,
    high,
    judged,
    policy,
    result,
    scan,
)

from undercroft.model.finding import EndOfLife, FixState, Severity
from undercroft.model.verdict import Action, Outcome, Subject, SubjectKind, Verdict
from undercroft.steady.facts import Facts
from undercroft.steady.judge import Judge
from undercroft.steady.rules import RULES

QUARANTINE = "version: 1\ndefaults:\n  drifting: quarantine\n  unknown: quarantine\n"
REFUSE = "version: 1\ndefaults: {drifting: refuse}\n"


def outcome(about: Facts, rule: str, text: str = "version: 1\n") -> Outcome:
    return result(judged(about, text), rule).outcome


def steady(text: str) -> str:
    return f"version: 1\ndefaults:\n  steady: {{{text}}}\n"


def test_a_machine_in_order_is_steady_and_every_rule_says_so() -> None:
    said = judged(facts())
    assert (said.verdict, said.action, said.why) == (Verdict.STEADY, Action.ALLOW, "")
    assert tuple(item.rule for item in said.results) == RULES
    assert {item.outcome for item in said.results} == {Outcome.PASS}
    assert all(item.reason for item in said.results)
    assert (said.subject, said.policy, said.advisories) == (MACHINE.key, policy().digest, "mark")
    assert (said.judged_at, said.since) == (NOW, NOW)


def test_a_machine_that_was_never_read_is_unknown() -> None:
    said = judged(facts(scan=None, assessment=None, has_floor=False))
    assert (said.verdict, said.action) == (Verdict.UNKNOWN, Action.ALLOW)
    unknown = {item.rule for item in said.results if item.outcome is Outcome.UNKNOWN}
    expected = {"known-exploited", "fixable", "severity", "end-of-life", "scanned", "coverage", "advisories"}
    assert unknown == expected
    assert said.why


@pytest.mark.parametrize(
    ("about", "text", "expected"),
    [
        (exploited(), "known_exploited: forbid", Outcome.FAIL),
        (exploited(), "known_exploited: allow", Outcome.PASS),
        (finding(), "known_exploited: forbid", Outcome.PASS),
    ],
)
def test_what_is_known_to_be_exploited_fails_with_or_without_a_fix(about, text: str, expected) -> None:
    assert outcome(facts(about), "known-exploited", steady(text)) is expected


def test_without_a_current_catalog_nobody_knows_what_is_exploited() -> None:
    for feeds in ((feed(),), (feed(), feed("kev", stale=True)), (feed(), feed("kev", valid_until=NOW - DAY))):
        about = facts(assessment=assessment(feeds=feeds))
        said = judged(about)
        assert said.verdict is Verdict.UNKNOWN
        assert result(said, "known-exploited").outcome is Outcome.UNKNOWN
        assert "undercroft feeds update kev" in said.why
    assert (
        judged(facts(assessment=assessment(feeds=(feed(),))), steady("known_exploited: allow")).verdict
        is Verdict.STEADY
    )


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (high(), Outcome.FAIL),
        (high(severity=Severity.CRITICAL), Outcome.FAIL),
        (finding(), Outcome.PASS),
        (high(fix=FixState.UNFIXED, fixed_on=None), Outcome.PASS),
        (high(fix=FixState.NEEDS_SUBSCRIPTION), Outcome.PASS),
        (high(fixed_on=TODAY - 6 * DAY), Outcome.PASS),
        (high(fixed_on=TODAY - 7 * DAY), Outcome.FAIL),
        (high(fixed_on=None), Outcome.FAIL),
        (high(fixed_on=None, published_on=TODAY), Outcome.FAIL),
        (high(fixed_on=TODAY, published_on=date(2020, 1, 1)), Outcome.PASS),
    ],
)
def test_a_fix_counts_from_the_day_on_which_the_release_offered_it(about, expected: Outcome) -> None:
    assert outcome(facts(about), "fixable") is expected


def test_a_fix_that_nobody_dates_counts_from_when_it_was_first_seen() -> None:
    undated = facts(high(fixed_on=None))
    for age, expected in ((6 * DAY, Outcome.PASS), (8 * DAY, Outcome.FAIL)):
        seen = {("openssl", "CVE-2026-1"): NOW - age, ("zlib", "CVE-2026-1"): NOW}
        assert outcome(replace(undated, fixes_seen=seen), "fixable") is expected


def test_the_severity_and_the_days_are_the_policys() -> None:
    about = facts(finding(fixed_on=TODAY - 3 * DAY))
    assert outcome(about, "fixable", steady("fixable: {severity: medium, days: 2}")) is Outcome.FAIL
    assert outcome(about, "fixable", steady("fixable: {severity: medium, days: 4}")) is Outcome.PASS
    assert outcome(facts(high()), "fixable", steady("fixable: allow")) is Outcome.PASS


def test_a_severity_that_no_source_gives_never_passes_unless_the_policy_says_so() -> None:
    about = facts(finding(severity=Severity.UNKNOWN))
    said = judged(about, steady("fixable: {severity: critical}"))
    assert said.verdict is Verdict.DRIFTING
    assert "whose severity no source gives" in result(said, "severity").reason
    assert judged(about, steady("unknown_severity: pass")).verdict is Verdict.STEADY
    recent = facts(finding(severity=Severity.UNKNOWN, fixed_on=TODAY))
    assert judged(recent).verdict is Verdict.STEADY, (
        "it counts as high, and as little as high before its time"
    )


@pytest.mark.parametrize(
    ("ends_on", "extended", "stance", "expected"),
    [
        (TODAY, None, "forbid", Outcome.PASS),
        (TODAY - DAY, None, "extended", Outcome.FAIL),
        (TODAY - DAY, TODAY, "extended", Outcome.PASS),
        (TODAY - DAY, TODAY, "forbid", Outcome.FAIL),
        (TODAY - 2 * DAY, TODAY - DAY, "extended", Outcome.FAIL),
        (TODAY - DAY, None, "allow", Outcome.PASS),
        (None, None, "extended", Outcome.UNKNOWN),
    ],
)
def test_end_of_life_is_told_by_the_day_of_the_judgement(ends_on, extended, stance: str, expected) -> None:
    old = assessment(end_of_life=EndOfLife(ends_on, extended, "supported"))
    assert outcome(facts(assessment=old), "end-of-life", steady(f"end_of_life: {stance}")) is expected


@pytest.mark.parametrize(
    ("changes", "rule", "text"),
    [
        ({"scan": scan(scanned_at=NOW - timedelta(hours=25))}, "scanned", "version: 1\n"),
        ({"scan": scan(problems=("vda2 is encrypted",))}, "coverage", "version: 1\n"),
        ({"scan": scan(inventory="", problems=("no disk",))}, "coverage", steady("coverage: any")),
        ({"assessment": assessment(problems=("no advisories for debian 12",))}, "advisories", "version: 1\n"),
        (
            {"assessment": assessment(feeds=(*FEEDS, feed("epss", valid_until=NOW - DAY)))},
            "advisories",
            REFUSE,
        ),
        ({"ownership_problem": "no such date: 2026-13-01"}, "ownership", "version: 1\n"),
        ({"floor_unproven": ("openssl",)}, "floor", "version: 1\n"),
    ],
)
def test_what_nobody_knows_is_unknown_and_never_steady(changes, rule: str, text: str) -> None:
    said = judged(facts(**changes), text)
    assert result(said, rule).outcome is Outcome.UNKNOWN
    assert said.verdict in {Verdict.UNKNOWN, Verdict.QUARANTINED}
    assert said.why


def test_a_disk_that_was_read_in_part_is_enough_where_the_policy_says_so() -> None:
    assert judged(facts(scan=scan(problems=("p",))), steady("coverage: any")).verdict is Verdict.STEADY


def test_a_state_below_the_floor_is_quarantined_on_the_first_day() -> None:
    said = judged(facts(below_floor=("CVE-2024-1 in openssl",)))
    assert (said.verdict, said.action) == (Verdict.QUARANTINED, Action.QUARANTINE)
    assert result(said, "floor").items == ("CVE-2024-1 in openssl",)
    assert judged(facts(below_floor=("x",)), steady("floor: ignored")).verdict is Verdict.STEADY


def test_a_state_that_hides_what_it_has_does_not_pass_the_floor() -> None:
    unread = facts(scan=None, assessment=None)
    assert judged(unread).action is Action.QUARANTINE
    assert judged(replace(unread, has_floor=False)).action is Action.ALLOW, "control: a new machine"


def test_a_missing_genid_is_told_and_fails_where_it_is_required() -> None:
    about = facts(genid=False)
    assert "no <genid/>" in result(judged(about), "genid").reason
    assert judged(about).verdict is Verdict.STEADY
    assert judged(about, steady("genid: required")).verdict is Verdict.DRIFTING
    assert judged(facts(genid=None), steady("genid: required")).verdict is Verdict.STEADY


def test_a_machine_does_not_start_from_its_expiry_on() -> None:
    assert judged(facts(expires_on=TODAY + DAY)).action is Action.ALLOW
    said = judged(facts(expires_on=TODAY))
    assert (said.verdict, said.action, said.why) == (
        Verdict.DRIFTING,
        Action.REFUSE,
        "it expired on 2026-03-07",
    )


def test_a_template_is_judged_by_what_it_holds_and_does_not_start() -> None:
    subject = Subject("template:1", SubjectKind.TEMPLATE, "golden", "host1", "1")
    about = facts(subject=subject, template=True)
    said = judged(about)
    assert (said.verdict, said.action, said.why) == (Verdict.STEADY, Action.REFUSE, "")
    assert Judge(policy(), NOW).reason(about, said) == "it is a template, which does not start"
    assert judged(replace(about, running=True)).verdict is Verdict.DRIFTING
    waived = "exceptions: [{machine: web01, rule: template, until: 2026-04-01, reason: built today}]\n"
    assert judged(about, f"version: 1\n{waived}").action is Action.ALLOW


@pytest.mark.parametrize(
    ("drifting", "unknown", "expected"),
    [
        ("allow", "allow", "allow"),
        ("allow", "refuse", "refuse"),
        ("refuse", "allow", "refuse"),
        ("quarantine", "refuse", "refuse"),
        ("refuse", "quarantine", "refuse"),
    ],
)
def test_hiding_what_is_installed_never_meets_less_than_what_is_hidden(drifting, unknown, expected) -> None:
    text = f"version: 1\ndefaults: {{drifting: {drifting}, unknown: {unknown}}}\n"
    hidden = facts(scan=scan(problems=("the package database is damaged",)))
    assert judged(hidden, text).action == expected


def test_a_failure_is_drifting_whatever_else_is_unknown_and_the_strongest_action_counts() -> None:
    about = facts(high(), scan=scan(problems=("vda2 is encrypted",)))
    said = judged(about, "version: 1\ndefaults: {drifting: quarantine, unknown: refuse}\n")
    assert (said.verdict, said.action) == (Verdict.DRIFTING, Action.REFUSE)
    assert "severity high" in said.why
    reason = Judge(policy("version: 1\ndefaults: {drifting: quarantine, unknown: refuse}\n"), NOW).reason(
        about, said
    )
    assert reason == "it was not read whole: vda2 is encrypted", "the refusal has its own reason"


def test_what_was_not_read_is_the_reason_before_all_that_is_unknown_for_it() -> None:
    text = "version: 1\ndefaults: {unknown: refuse}\n"
    about = facts(scan=scan(problems=("vda: disk.qcow2: not there",)))
    about = replace(about, assessment=None)
    reason = Judge(policy(text), NOW).reason(about, judged(about, text))
    assert reason == "it was not read whole: vda: disk.qcow2: not there"


def test_a_state_that_was_put_back_is_refused_for_that_first_and_for_a_doubt_about_it_last() -> None:
    text = "version: 1\ndefaults: {drifting: refuse, unknown: refuse, below_floor: refuse}\n"
    put_back = facts(high(), below_floor=("CVE-2024-1 in openssl",))
    reason = Judge(policy(text), NOW).reason(put_back, judged(put_back, text))
    assert reason == "it lacks what the machine had fixed: CVE-2024-1 in openssl"
    doubtful = facts(high(), floor_unproven=("openssl",))
    reason = Judge(policy(text), NOW).reason(doubtful, judged(doubtful, text))
    assert "severity high" in reason


def test_what_cannot_be_held_is_refused_where_it_should_be_quarantined() -> None:
    open_wide = facts(high(), unholdable=("user 52:54:00:00:00:01",))
    said = judged(open_wide, QUARANTINE)
    assert (said.verdict, said.action) == (Verdict.DRIFTING, Action.REFUSE)
    reason = Judge(policy(QUARANTINE), NOW).reason(open_wide, said)
    assert "cannot hold user 52:54:00:00:00:01, so it is refused" in reason
    assert judged(replace(open_wide, unholdable=()), QUARANTINE).action is Action.QUARANTINE, "control"
    assert judged(open_wide, QUARANTINE + "  unenforceable: allow\n").action is Action.QUARANTINE
    assert judged(facts(unholdable=("user",)), QUARANTINE).verdict is Verdict.STEADY


def test_a_quarantine_on_record_is_the_verdict_and_its_end_is_in_the_action() -> None:
    said = judged(facts(in_quarantine=True))
    assert (said.verdict, said.why) == (Verdict.QUARANTINED, "its network is closed")
    assert said.action is Action.ALLOW, "a start would be allowed: nothing keeps it in quarantine"
    assert judged(facts(high(), in_quarantine=True), QUARANTINE).action is Action.QUARANTINE


def test_a_snapshot_says_what_its_revert_would_meet() -> None:
    subject = Subject("snapshot:1:old", SubjectKind.SNAPSHOT, "web01@old", "host1", "1", "old")
    said = judged(facts(high(), subject=subject), QUARANTINE)
    assert (said.verdict, said.action) == (Verdict.DRIFTING, Action.QUARANTINE)


def test_every_result_names_the_line_of_the_policy() -> None:
    said = judged(facts(high()), "version: 1\ndefaults:\n  steady:\n    fixable:\n      severity: high\n")
    assert result(said, "fixable").source == "policy.yaml:5"
    assert result(said, "known-exploited").source == "default"


# Exceptions


def excepting(what: str, until: str = "2026-03-10", machine: str = "web01", name: str = "machine") -> str:
    entry = f"- {{{name}: '{machine}', {what}, until: {until}, reason: we know}}"
    return f"version: 1\ndefaults: {{drifting: refuse}}\nexceptions:\n{entry}\n"


def test_an_excepted_vulnerability_is_shown_and_does_not_count_until_the_end_of_its_day() -> None:
    text = excepting("vulnerability: CVE-2026-1")
    said = judged(facts(high()), text)
    assert (said.verdict, said.action) == (Verdict.STEADY, Action.ALLOW)
    found = result(said, "fixable")
    assert (found.outcome, found.source) == (Outcome.EXCEPTED, "policy.yaml:4")
    assert found.items == ("CVE-2026-1 in openssl",)
    assert "we know" in found.reason
    last = NOW.replace(day=10, hour=23)
    fresh = {"feeds": tuple(feed(one.name, valid_until=NOW + 30 * DAY) for one in FEEDS)}
    later = facts(assessment=assessment(high(), **fresh), scan=scan(scanned_at=last))
    assert judged(later, text, now=last).verdict is Verdict.STEADY
    assert found.until == last.replace(hour=0) + DAY
    assert judged(later, text, now=last + timedelta(hours=1)).action is Action.REFUSE


@pytest.mark.parametrize(
    ("text", "covers"),
    [
        (excepting("vulnerability: CVE-2026-1"), True),
        (excepting("vulnerability: [CVE-2026-2, CVE-2026-1]", machine="web*"), True),
        (excepting("vulnerability: CVE-2026-1", machine="prod", name="label"), True),
        (excepting("vulnerability: CVE-2026-2"), False),
        (excepting("vulnerability: CVE-2026-1", machine="db*"), False),
        (excepting("vulnerability: CVE-2026-1", machine="lab", name="label"), False),
        (excepting("vulnerability: CVE-2026-1", until="2026-03-06"), False),
        (excepting("rule: fixable"), True),
        (excepting("rule: severity"), False),
        (excepting("rule: fixable", until="2026-03-06"), False),
    ],
)
def test_an_exception_covers_what_it_names_and_nothing_else(text: str, covers: bool) -> None:
    assert (judged(facts(high()), text).action is Action.ALLOW) is covers


def test_findings_beside_the_excepted_one_still_count() -> None:
    found = result(
        judged(facts(high(), high("CVE-2026-2")), excepting("vulnerability: CVE-2026-1")), "fixable"
    )
    assert (found.outcome, found.items) == (Outcome.FAIL, ("CVE-2026-2 in openssl",))
    assert "1 more by exception" in found.reason


def test_an_exception_for_one_rule_does_not_make_an_unread_machine_steady() -> None:
    unread = facts(scan=None, assessment=None, has_floor=False)
    said = judged(unread, excepting("rule: coverage"))
    assert result(said, "coverage").outcome is Outcome.EXCEPTED
    assert (said.verdict, said.action) == (Verdict.UNKNOWN, Action.REFUSE)


def test_an_exception_does_not_stand_in_for_a_catalog_that_is_not_there() -> None:
    about = facts(assessment=assessment(exploited("CVE-2026-1"), feeds=(feed(),)))
    found = result(judged(about, excepting("vulnerability: CVE-2026-1")), "known-exploited")
    assert (found.outcome, found.items) == (Outcome.UNKNOWN, ("CVE-2026-1 in openssl",))


@pytest.mark.parametrize("what", ["vulnerability: CVE-2026-1", "rule: fixable"])
def test_of_two_exceptions_the_one_that_ends_last_counts(what: str) -> None:
    entries = "".join(
        f"- {{machine: '*', {what}, until: 2026-03-{day}, reason: r}}\n" for day in (10, 20, 15)
    )
    found = result(judged(facts(high()), f"version: 1\nexceptions:\n{entries}"), "fixable")
    assert (found.outcome, found.source, found.until) == (
        Outcome.EXCEPTED,
        "policy.yaml:4",
        NOW.replace(day=21, hour=0),
    )


# Grace

GRACE = "version: 1\ndefaults: {drifting: quarantine, grace: 3d}\n"


def fresh(at, *findings) -> Facts:
    until = tuple(replace(one, valid_until=at + DAY) for one in FEEDS)
    return facts(assessment=assessment(*findings, feeds=until), scan=scan(scanned_at=at))


def test_a_new_drift_acts_after_the_grace_and_not_before() -> None:
    before = judged(fresh(NOW), GRACE)
    first = judged(fresh(NOW + DAY, high()), GRACE, now=NOW + DAY, since=before)
    assert (first.verdict, first.action) == (Verdict.DRIFTING, Action.ALLOW)
    assert result(first, "fixable").until == NOW + 4 * DAY
    assert "in grace until 2026-03-11" in first.why
    second = judged(fresh(NOW + 3 * DAY, high()), GRACE, now=NOW + 3 * DAY, since=first)
    assert (second.action, second.since) == (Action.ALLOW, NOW + DAY)
    third = judged(fresh(NOW + 4 * DAY, high()), GRACE, now=NOW + 4 * DAY, since=second)
    assert (third.verdict, third.action) == (Verdict.QUARANTINED, Action.QUARANTINE)
    fourth = judged(fresh(NOW + 5 * DAY, high()), GRACE, now=NOW + 5 * DAY, since=third)
    assert fourth.action is Action.QUARANTINE, "the grace does not begin again"
    assert fourth.since == NOW + 4 * DAY


def test_a_machine_that_is_made_anew_gains_no_grace() -> None:
    assert judged(fresh(NOW, high()), GRACE).action is Action.QUARANTINE
    unread = judged(facts(scan=None, assessment=None, has_floor=False), GRACE)
    assert judged(fresh(NOW, high()), GRACE, since=unread).action is Action.QUARANTINE


@pytest.mark.parametrize(
    ("about", "extra", "action"),
    [
        (fresh(NOW, exploited()), "", Action.QUARANTINE),
        (fresh(NOW, exploited()), ", grace_exploited: 1h", Action.ALLOW),
        (replace(fresh(NOW), below_floor=("x",)), "", Action.QUARANTINE),
        (replace(fresh(NOW), expires_on=TODAY), "", Action.REFUSE),
    ],
)
def test_what_cannot_wait_has_no_grace(about: Facts, extra: str, action: Action) -> None:
    text = f"version: 1\ndefaults: {{drifting: quarantine, grace: 3d{extra}}}\n"
    assert judged(about, text, since=judged(fresh(NOW), text)).action is action


def test_a_longer_grace_does_not_lengthen_one_that_runs() -> None:
    first = judged(fresh(NOW, high()), GRACE, since=judged(fresh(NOW), GRACE))
    longer = GRACE.replace("3d", "30d")
    later = judged(fresh(NOW + 3 * DAY, high()), longer, now=NOW + 3 * DAY, since=first)
    assert later.action is Action.QUARANTINE


def test_the_verdict_keeps_its_date_until_it_changes() -> None:
    first = judged(facts())
    second = judged(facts(), now=NOW + timedelta(hours=1), since=first)
    assert (second.since, second.judged_at) == (NOW, NOW + timedelta(hours=1))
    third = judged(facts(high()), now=NOW + timedelta(hours=2), since=second)
    assert third.since == NOW + timedelta(hours=2)


def test_the_reasons_of_a_machine_that_nothing_happens_to_do_not_change_with_the_hour() -> None:
    first = judged(facts(high(fixed_on=TODAY - 2 * DAY)))
    later = judged(facts(high(fixed_on=TODAY - 2 * DAY)), now=NOW + timedelta(hours=5), since=first)
    assert replace(later, judged_at=NOW) == first
