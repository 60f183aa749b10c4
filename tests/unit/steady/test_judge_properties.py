"""What holds for any facts and any policy: it is never milder for knowing less, or for something worse."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import plainverdicts
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyfacts import DAY, MACHINE, NOW, SUPPORTED, TODAY, assessment, facts, feed, finding, policy, scan

from undercroft.model.finding import EndOfLife, Finding, FixState, Severity
from undercroft.model.verdict import Action, Judgement, Outcome, Subject, SubjectKind, Verdict
from undercroft.steady.facts import Facts
from undercroft.steady.judge import Judge, judge
from undercroft.steady.policy import Policy, Target
from undercroft.steady.rules import EXCEPTABLE, RULES

SOURCES = ("openssl", "zlib")
NAMES = ("CVE-1", "CVE-2", "CVE-3")
DAYS = st.sampled_from([TODAY - days * DAY for days in (400, 8, 7, 6, 0, -3)])
TIMES = st.sampled_from([NOW - days * DAY for days in (10, 7, 1, 0)] + [NOW - timedelta(hours=1)])
SPANS = st.sampled_from(["0d", "1h", "24h", "3d"])
ACTIONS = st.sampled_from(["allow", "quarantine", "refuse"])
SUBJECTS = (
    MACHINE,
    Subject("snapshot:1:old", SubjectKind.SNAPSHOT, "web01@old", "host1", "1", "old"),
    Subject("template:1", SubjectKind.TEMPLATE, "golden", "host1", "1"),
)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


FINDINGS = st.builds(
    finding,
    st.sampled_from(NAMES),
    st.sampled_from(SOURCES),
    severity=st.sampled_from(Severity),
    fix=st.sampled_from(FixState),
    fixed_on=st.none() | DAYS,
    known_exploited_on=st.none() | DAYS,
)
FEEDS = st.lists(
    st.builds(
        feed,
        st.sampled_from(["kev", "debian-tracker"]),
        stale=st.booleans(),
        valid_until=st.sampled_from([NOW - DAY, NOW, NOW + DAY, NOW + 9 * DAY]),
    ),
    max_size=3,
).map(tuple)
ENDS = st.builds(EndOfLife, st.none() | DAYS, st.none() | DAYS, st.just("supported"))
PROBLEMS = st.sampled_from([(), ("p",)])
ASSESSMENTS = st.builds(
    lambda found, **changes: assessment(*found, **changes),
    st.lists(FINDINGS, max_size=4),
    feeds=FEEDS | st.just((feed(), feed("kev"))),
    end_of_life=ENDS | st.just(SUPPORTED),
    problems=PROBLEMS,
)
SCANS = st.builds(scan, inventory=st.sampled_from(["i", "i", ""]), problems=PROBLEMS, scanned_at=TIMES)
SEEN = st.dictionaries(st.tuples(st.sampled_from(SOURCES), st.sampled_from(NAMES)), TIMES, max_size=3)
FACTS = st.builds(
    facts,
    subject=st.sampled_from(SUBJECTS),
    target=st.builds(Target, st.sampled_from(["web01", "db01"]), st.sampled_from([(), ("prod",)])),
    scan=st.none() | SCANS,
    assessment=st.none() | ASSESSMENTS,
    fixes_seen=SEEN,
    ownership_problem=st.sampled_from(["", "", "bad date"]),
    expires_on=st.none() | DAYS,
    template=st.booleans(),
    genid=st.none() | st.booleans(),
    unholdable=st.sampled_from([(), ("user",)]),
    has_floor=st.booleans(),
    below_floor=st.sampled_from([(), ("CVE-1 in zlib",)]),
    floor_unproven=st.sampled_from([(), ("zlib",)]),
    goes_on=st.booleans(),
    beside=st.sampled_from([(), ("the cdrom in sda",)]),
    in_quarantine=st.booleans(),
    running=st.booleans(),
)
ORDERLY = st.builds(facts, expires_on=st.just(TODAY + DAY))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "drifting": ACTIONS,
    "unknown": ACTIONS,
    "below_floor": ACTIONS,
    "expired": ACTIONS,
    "template_start": ACTIONS,
    "grace": SPANS,
    "grace_exploited": SPANS,
    "unenforceable": st.sampled_from(["refuse", "allow"]),
    "steady": optional(
        known_exploited=st.sampled_from(["forbid", "allow"]),
        fixable=st.just("allow")
        | optional(
            severity=st.sampled_from(["critical", "high", "low"]), days=st.sampled_from(["0", "7", "30"])
        ),
        end_of_life=st.sampled_from(["forbid", "extended", "allow"]),
        scanned_within=st.sampled_from(["1h", "24h", "30d"]),
        coverage=st.sampled_from(["whole", "any"]),
        boots_from=st.sampled_from(["disks", "any"]),
        unknown_severity=st.sampled_from(["fail", "pass"]),
        floor=st.sampled_from(["required", "ignored"]),
        genid=st.sampled_from(["required", "ignored"]),
    ),
}
RULE = st.builds(
    lambda match, drifting, rest: {"match": match, "drifting": drifting, **rest},
    st.sampled_from([{"name": "web*"}, {"label": "prod"}, {"name": "*", "label": "p*"}]),
    ACTIONS,
    optional(**FIELDS),
)
EXCEPTION = st.builds(
    lambda what, machine, days: {
        **what,
        "machine": machine,
        "until": (TODAY + days * DAY).isoformat(),
        "reason": "r",
    },
    st.sampled_from(
        [{"vulnerability": name} for name in NAMES] + [{"rule": name} for name in EXCEPTABLE],
    ),
    st.sampled_from(["*", "web*", "db01"]),
    st.integers(-2, 3),
)
POLICIES = st.fixed_dictionaries(
    {"version": st.just("1")},
    optional={
        "defaults": optional(**FIELDS),
        "rules": st.lists(RULE, max_size=2),
        "exceptions": st.lists(EXCEPTION, max_size=3),
    },
)
STRENGTH = list(Action).index


def read(document: dict[str, Any]) -> Policy:
    return policy(json.dumps(document))


def earlier(about: Facts, by: Policy, ago: timedelta) -> Judgement:
    return judge(about, by, NOW - ago)


def no_milder(worse: Judgement, better: Judgement) -> None:
    assert STRENGTH(worse.action) >= STRENGTH(better.action)
    if better.verdict is not Verdict.STEADY:
        assert worse.verdict is not Verdict.STEADY


AGO = st.sampled_from([timedelta(hours=1), DAY, 4 * DAY])


@settings(max_examples=max(400, settings.default.max_examples), deadline=None)
@given(FACTS, POLICIES, st.none() | FACTS | ORDERLY, AGO)
def test_a_second_account_of_the_rules_comes_to_the_same(about, document, before, ago) -> None:
    by = read(document)
    since = earlier(replace(before, target=about.target), by, ago) if before else None
    said = judge(about, by, NOW, since)
    old = {item.rule: item for item in since.results} if since else {}
    found = {item.rule: item.outcome.value for item in said.results if item.rule in EXCEPTABLE}
    assert found == plainverdicts.answers(about, document, NOW, old)
    assert (said.verdict.value, said.action.value) == plainverdicts.verdict(about, document, NOW, old)


@settings(deadline=None)
@given(FACTS, POLICIES, st.none() | FACTS, AGO)
def test_a_judgement_is_a_function_and_explains_itself(about, document, before, ago) -> None:
    by = read(document)
    since = earlier(before, by, ago) if before else None
    said = judge(about, by, NOW, since)
    assert said == judge(about, by, NOW, since) == Judge(read(document), NOW).judge(about, since)
    assert tuple(item.rule for item in said.results) == RULES
    assert all(item.reason for item in said.results)
    assert bool(said.why) is (said.verdict is not Verdict.STEADY)
    assert bool(Judge(by, NOW).reason(about, said)) is (said.action is not Action.ALLOW)
    kept = since is not None and since.verdict is said.verdict
    assert said.since == (since.since if kept and since else NOW)


@settings(deadline=None)
@given(st.lists(FACTS, min_size=2, max_size=6), SEEN, POLICIES)
def test_what_a_judge_remembers_changes_nothing(many: list[Facts], seen, document) -> None:
    by = read(document)
    shared = many[0].assessment
    for about in list(many):
        many += [replace(about, assessment=shared), replace(about, assessment=shared, fixes_seen=seen)]
    judging = Judge(by, NOW)
    assert [judging.judge(one) for one in many] == [judge(one, by, NOW) for one in many]


@settings(deadline=None)
@given(FACTS, POLICIES)
def test_what_is_unknown_is_never_steady(about: Facts, document) -> None:
    said = judge(about, read(document), NOW)
    if any(item.outcome is Outcome.UNKNOWN for item in said.results):
        assert said.verdict is not Verdict.STEADY


@settings(deadline=None)
@given(FACTS, FINDINGS, POLICIES, st.none() | ORDERLY)
def test_one_more_finding_is_no_milder(about: Facts, more: Finding, document, before) -> None:
    by = read(document)
    since = earlier(before, by, DAY) if before else None
    base = about.assessment or assessment()
    less = replace(about, assessment=base)
    worse = replace(about, assessment=replace(base, findings=(*base.findings, more)))
    no_milder(judge(worse, by, NOW, since), judge(less, by, NOW, since))


@settings(deadline=None)
@given(FACTS, POLICIES, st.none() | ORDERLY, st.sampled_from(["scan", "assessment", "inventory", "problems"]))
def test_knowing_less_is_no_milder(about: Facts, document, before, lost: str) -> None:
    by = read(document)
    since = earlier(before, by, DAY) if before else None
    if about.scan is None:
        about = replace(about, scan=scan())
    match lost:
        case "scan":  # what was not read has no assessment, and nothing of it is below the floor
            has_floor = about.has_floor or bool(about.below_floor)
            about = replace(about, has_floor=has_floor)
            worse = replace(about, scan=None, assessment=None, below_floor=(), floor_unproven=())
        case "assessment":
            about = replace(about, has_floor=about.has_floor or bool(about.below_floor))
            worse = replace(about, assessment=None, below_floor=(), floor_unproven=())
        case "inventory":
            worse = replace(about, scan=replace(about.scan, inventory=""))
        case _:
            worse = replace(about, scan=replace(about.scan, problems=(*about.scan.problems, "more")))
    no_milder(judge(worse, by, NOW, since), judge(about, by, NOW, since))


@settings(deadline=None)
@given(FACTS, POLICIES, st.none() | ORDERLY, st.sampled_from([timedelta(minutes=1), DAY, 9 * DAY, 500 * DAY]))
def test_time_alone_is_no_milder(about: Facts, document, before, later: timedelta) -> None:
    by = read(document)
    since = earlier(before, by, DAY) if before else None
    first = judge(about, by, NOW, since)
    no_milder(judge(about, by, NOW + later, first), first)
    no_milder(judge(about, by, NOW + later, since), first)


@settings(deadline=None)
@given(FACTS, POLICIES, st.sampled_from([timedelta(minutes=1), DAY, 40 * DAY]))
def test_an_older_scan_is_no_milder(about: Facts, document, older: timedelta) -> None:
    by = read(document)
    about = replace(about, scan=about.scan or scan())
    worse = replace(about, scan=replace(about.scan, scanned_at=about.scan.scanned_at - older))
    no_milder(judge(worse, by, NOW), judge(about, by, NOW))


@settings(deadline=None)
@given(FACTS, POLICIES, st.integers(0, 2), st.sampled_from([DAY, 40 * DAY]))
def test_an_older_feed_or_one_fewer_catalog_is_no_milder(about: Facts, document, number: int, older) -> None:
    by = read(document)
    base = about.assessment or assessment()
    feeds = base.feeds or (feed(), feed("kev"))
    number %= len(feeds)
    about = replace(about, assessment=replace(base, feeds=feeds))
    aged = replace(feeds[number], valid_until=feeds[number].valid_until - older)
    for changed in ((aged,), ()):
        left = (*feeds[:number], *changed, *feeds[number + 1 :])
        if not changed and feeds[number].name != "kev":
            continue  # which feeds there have to be is the assessment's own business: it has a problem then
        if not changed and not feeds[number].stale and feeds[number].valid_until < NOW:
            continue  # without an outdated catalog beside a current one there is one problem fewer
        no_milder(judge(replace(about, assessment=replace(base, feeds=left)), by, NOW), judge(about, by, NOW))


@settings(deadline=None)
@given(FACTS, POLICIES, EXCEPTION)
def test_an_exception_changes_the_answer_that_it_names_and_no_other(
    about: Facts, document, exception
) -> None:
    without = judge(about, read(document), NOW)
    more = {**document, "exceptions": [*document.get("exceptions", ()), exception]}
    said = judge(about, read(more), NOW)
    named = {exception["rule"]} if "rule" in exception else {"known-exploited", "fixable", "severity"}
    for before, after in zip(without.results, said.results, strict=True):
        if before.rule in EXCEPTABLE and before.rule not in named:
            assert before == after
        if before.outcome is Outcome.PASS and before.rule in named - {"template"}:
            assert after.outcome is Outcome.PASS
    assert STRENGTH(said.action) <= STRENGTH(without.action)


SEEN_BY_ALL: dict[tuple[str, str], Any] = {}


def test_the_assessment_that_a_thousand_clones_share_is_walked_once() -> None:

    class Counted(tuple):
        walks = 0

        def __iter__(self):
            Counted.walks += 1
            return super().__iter__()

    findings = Counted(finding(f"CVE-2026-{number}") for number in range(500))
    shared = replace(assessment(), findings=findings)
    by = policy("version: 1\nrules: [{match: {name: 'web*'}, drifting: refuse}]\n")
    judging = Judge(by, NOW)
    clones = [
        facts(assessment=shared, target=Target(f"web{number:04}"), fixes_seen=SEEN_BY_ALL)
        for number in range(1000)
    ]
    said = [judging.judge(one) for one in clones]
    assert {one.verdict for one in said} == {Verdict.STEADY}
    assert Counted.walks < 10
