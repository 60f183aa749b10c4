"""A policy from text: what each key means, and every mistake with its place."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyfacts import DAY, TODAY, policy

from undercroft.errors import InputError
from undercroft.model.finding import Severity
from undercroft.model.verdict import Action
from undercroft.steady.policy import (
    BootStance,
    ConfirmStart,
    CoverageStance,
    EndOfLifeStance,
    Need,
    Policy,
    Settings,
    Stance,
    Target,
    Unenforceable,
    UnknownSeverity,
)
from undercroft.steady.reading import check
from undercroft.steady.rules import RULES

DOCS = Path(__file__).parents[3] / "docs"
WHOLE = """\
version: 1
defaults:
  steady:
    known_exploited: allow
    fixable: {severity: low, days: 30}
    end_of_life: forbid
    scanned_within: 36h
    coverage: any
    boots_from: disks
    unknown_severity: pass
    floor: ignored
    genid: required
  drifting: quarantine
  unknown: refuse
  below_floor: refuse
  expired: quarantine
  template_start: allow
  grace: 3d
  grace_exploited: 30m
  confirm_start: always
  unenforceable: allow
  reseed: required
  retention: {snapshots: {max_age: 90d}}
"""


def problems(text: str) -> list[str]:
    return [str(problem) for problem in check([("policy.yaml", text.encode())], TODAY).problems]


def at(text: str, **target: object) -> Settings:
    return policy(text).settings(replace(Target("web01"), **target))  # type: ignore[arg-type]


def test_a_policy_that_says_nothing_is_the_built_in_one() -> None:
    assert replace(policy(), files=()) == Policy()
    assert policy().digest == Policy().digest


def test_nothing_is_refused_on_the_first_day_but_what_nobody_does_by_accident() -> None:
    settings = Settings()
    assert (settings.drifting.value, settings.unknown.value) == (Action.ALLOW, Action.ALLOW)
    assert settings.below_floor.value is Action.QUARANTINE
    assert (settings.expired.value, settings.template_start.value) == (Action.REFUSE, Action.REFUSE)


def test_every_key_of_the_settings_is_read_and_knows_its_line() -> None:
    said = policy(WHOLE).defaults
    values = {name: getattr(said, name).value for name in Settings.__dataclass_fields__}
    assert values == {
        "known_exploited": Stance.ALLOW,
        "fixable": Severity.LOW,
        "fixable_days": 30,
        "end_of_life": EndOfLifeStance.FORBID,
        "scanned_within": timedelta(hours=36),
        "coverage": CoverageStance.ANY,
        "boots_from": BootStance.DISKS,
        "unknown_severity": UnknownSeverity.PASS,
        "floor": Need.IGNORED,
        "genid": Need.REQUIRED,
        "drifting": Action.QUARANTINE,
        "unknown": Action.REFUSE,
        "below_floor": Action.REFUSE,
        "expired": Action.QUARANTINE,
        "template_start": Action.ALLOW,
        "grace": timedelta(days=3),
        "grace_exploited": timedelta(minutes=30),
        "confirm_start": ConfirmStart.ALWAYS,
        "unenforceable": Unenforceable.ALLOW,
        "reseed": Need.REQUIRED,
        "snapshots_max_age": timedelta(days=90),
    }
    lines = WHOLE.splitlines()
    for name in Settings.__dataclass_fields__:
        file, _, line = getattr(said, name).source.partition(":")
        key = {"fixable": "severity", "fixable_days": "days", "snapshots_max_age": "max_age"}.get(name, name)
        assert file == "policy.yaml"
        assert re.search(rf"\b{key}:", lines[int(line) - 1]), name
    assert policy(WHOLE).digest != policy().digest


def test_what_holds_for_the_agent_alone() -> None:
    found = policy(
        "version: 1\n"
        "agent_away: {default: quarantine, last_decision: 12h}\n"
        "break_glass: [dns01, 'gw*']\n"
        "images: {backing: [/srv/base/*.qcow2]}\n"
    )
    assert (found.agent_away.default, found.agent_away.last_decision) == (
        Action.QUARANTINE,
        timedelta(hours=12),
    )
    assert (found.break_glass, found.backing) == (("dns01", "gw*"), ("/srv/base/*.qcow2",))


def test_later_rules_win_field_by_field() -> None:
    text = """\
version: 1
rules:
  - match: {name: '*'}
    drifting: quarantine
    grace: 1d
  - match: {label: prod}
    drifting: refuse
  - match: {label: [lab, test]}
    steady: {fixable: allow}
"""
    other, prod, lab = at(text), at(text, labels=("prod",)), at(text, labels=("x", "test"))
    assert [one.drifting.value for one in (other, prod, lab)] == ["quarantine", "refuse", "quarantine"]
    assert {one.grace.value for one in (other, prod, lab)} == {timedelta(days=1)}
    assert [one.fixable.value for one in (other, prod, lab)] == [Severity.HIGH, Severity.HIGH, None]
    assert (prod.drifting.source, prod.grace.source) == ("policy.yaml:7", "policy.yaml:5")


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("name: web*", True),
        ("name: [db*, web01]", True),
        ("name: WEB01", False),
        ("label: prod", True),
        ("label: [lab, 'pr?d']", True),
        ("label: lab", False),
        ("owner: alice", True),
        ("owner: bob", False),
        ("network: [dmz, default]", True),
        ("host: host1", True),
        ("host: host2", False),
        ("name: web*, label: prod, owner: alice, network: default, host: host1", True),
        ("name: web*, label: prod, owner: bob", False),
    ],
)
def test_all_criteria_of_a_match_have_to_fit(match: str, fits: bool) -> None:
    text = f"version: 1\nrules:\n- match: {{{match}}}\n  drifting: refuse\n"
    target = Target("web01", ("prod",), "alice", ("default",), "host1")
    assert (policy(text).settings(target).drifting.value is Action.REFUSE) is fits


def test_exceptions_keep_what_they_name_and_until_when() -> None:
    text = """\
version: 1
exceptions:
  - machine: [web01, 'db*']
    vulnerability: [CVE-2026-1, CVE-2026-2]
    until: 2026-06-01
    reason: the vendor's fix breaks the driver
  - {label: lab, rule: coverage, until: 2027-03-08, reason: encrypted disk}
"""
    first, second = policy(text).exceptions
    assert (first.match.names, first.vulnerabilities, first.rule) == (
        ("web01", "db*"),
        {"CVE-2026-1", "CVE-2026-2"},
        "",
    )
    assert (str(first.until), first.reason) == ("2026-06-01", "the vendor's fix breaks the driver")
    assert (second.match.labels, second.rule, second.source) == (("lab",), "coverage", "policy.yaml:7")


ONE_LINE = [
    ("version: 2", "1:10: version: found '2'; 1 is possible"),
    ("defaults: {}", "1:1: the policy: version is missing"),
    ("- version: 1", "1:1: the policy: found a list; keys are possible: version, defaults"),
    ("just words", "1:1: the policy: found 'just words'; keys are possible"),
    ("version: 1\nversion: 1", "2:1: the policy: version stands twice, first at policy.yaml:1:1"),
    ("version: 1\nrulse: []", "2:1: the policy: found the key 'rulse'; did you mean 'rules'?"),
    ("version: 1\n? [a]\n: b", "2:3: the policy: found the key a list; possible: version"),
    ("version: 1\nrules: {}", "2:8: rules: found a mapping; a list is possible"),
    ("version: 1\nrules: [{drifting: allow}]", "2:9: rules[1]: match is missing"),
    ("version: 1\nrules: [{match: {name: a}}]", "2:9: rules[1]: says nothing about what it matches"),
    ("version: 1\nrules: [{match: {}, drifting: allow}]", "2:17: rules[1].match: names nothing"),
    ("version: 1\nrules: [{match: {name: []}, drifting: allow}]", "rules[1].match.name: found an empty list"),
    ("version: 1\nrules: [{match: {name: ''}, drifting: allow}]", "2:24: rules[1].match.name: found nothing"),
    ("version: 1\nrules: [{match: {nme: a}, drifting: allow}]", "did you mean 'name'?"),
    ("version: 1\ndefaults:", "2:10: defaults: found nothing; keys are possible"),
    ("version: 1\ndefaults: {drifting: quarantin}", "did you mean 'quarantine'? possible: allow, quarantine"),
    ("version: 1\ndefaults: {drifting: }", "2:22: defaults.drifting: found nothing; possible: allow"),
    ("version: 1\ndefaults: {drifting: [allow]}", "defaults.drifting: found a list; possible: allow"),
    ("version: 1\ndefaults: {grace: 3}", "2:19: defaults.grace: found '3'; a whole number with its unit"),
    ("version: 1\ndefaults: {grace: -3d}", "found '-3d'; a whole number with its unit"),
    ("version: 1\ndefaults: {grace: 99999d}", "found '99999d'; at most 3660d is possible"),
    ("version: 1\ndefaults: {grace: ٣d}", "a whole number with its unit"),
    ("version: 1\ndefaults: {steady: {scanned_within: 0h}}", "found no time at all"),
    ("version: 1\ndefaults: {steady: {scanned_within: 4m}}", "found 4 minutes; at least 5m is possible"),
    (
        "version: 1\nrules: [{match: {name: a}, steady: {scanned_within: 1m}}]",
        "rules[1].steady.scanned_within: found 1 min",
    ),
    ("version: 1\ndefaults: {steady: {fixable: never}}", "'allow', or keys are possible"),
    ("version: 1\ndefaults: {steady: {fixable: {severity: unknown}}}", "found 'unknown'; possible: critical"),
    ("version: 1\ndefaults: {steady: {fixable: {days: 7d}}}", "found '7d'; a whole number from 0 to 3660"),
    ("version: 1\ndefaults: {steady: {fixable: {days: 3661}}}", "found '3661'; a whole number from 0 to"),
    ("version: 1\ndefaults: {retention: {snapshots: {age: 1d}}}", "did you mean 'max_age'?"),
    ("version: 1\nagent_away: {default: no}", "2:23: agent_away.default: found 'no'; possible: allow"),
    ("version: 1\nbreak_glass: dns01", "2:14: break_glass: found 'dns01'; a list is possible"),
    ("version: 1\nimages: {backing: [base/*]}", "found 'base/*'; an absolute path is possible"),
]
EXCEPTION = [
    ("rule: fixable, until: 2026-06-01, reason: r", "names no machine"),
    ("machine: a, until: 2026-06-01, reason: r", "exactly one of vulnerability and rule"),
    ("machine: a, rule: fixable, vulnerability: C, until: 2026-06-01, reason: r", "exactly one of"),
    ("machine: a, rule: fixable, reason: r", "until is missing"),
    ("machine: a, rule: fixable, until: 2026-06-01", "reason is missing"),
    ("machine: a, rule: fixable, until: 2026-06-01, reason: ''", "reason: found nothing"),
    ("machine: a, rule: fixable, until: 2027-03-09, reason: r", "found 2027-03-09, more than a year away"),
    ("machine: a, rule: fixable, until: never, reason: r", "found 'never'; a day is possible, such as 20"),
    ("machine: a, rule: fixable, until: 20260601, reason: r", "found '20260601'; a day is possible"),
    ("machine: a, rule: fixabel, until: 2026-06-01, reason: r", "did you mean 'fixable'?"),
    ("machine: a, rule: quarantine, until: 2026-06-01, reason: r", "found 'quarantine'; possible: known-"),
]


@pytest.mark.parametrize(
    ("text", "said"),
    [*ONE_LINE, *((f"version: 1\nexceptions:\n- {{{text}}}", said) for text, said in EXCEPTION)],
)
def test_a_mistake_names_its_place_what_was_found_and_what_is_possible(text: str, said: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("policy.yaml:")
    assert said in problem


def test_all_mistakes_are_told_at_once_in_the_order_of_the_files_and_lines() -> None:
    broken = b"version: 1\nrules: [{match: {nme: a}}]\ndefaults: {grace: x}\nfoo: 1\n"
    found = check([("b.yaml", broken), ("a.yaml", b"&x"), ("c.yaml", b"")], TODAY).problems
    assert [(problem.place.file, problem.place.line) for problem in found] == [
        ("b.yaml", 2),
        ("b.yaml", 3),
        ("b.yaml", 4),
        ("a.yaml", 1),
        ("c.yaml", 1),
    ]
    with pytest.raises(InputError) as raised:
        policy("version: 1\nfoo: 1\nbar: 2")
    assert [line[:16] for line in str(raised.value).splitlines()] == ["policy.yaml:2:1:", "policy.yaml:3:1:"]


def test_several_files_are_one_policy_in_their_order() -> None:
    rule = "version: 1\nrules:\n- match: {name: '*'}\n  drifting: %s\nbreak_glass: [%s]\n"
    texts = [
        (f"{name}.yaml", (rule % (act, name)).encode()) for name, act in (("a", "refuse"), ("b", "allow"))
    ]
    found = check(texts, TODAY).policy
    assert found is not None
    assert found.settings(Target("x")).drifting.value is Action.ALLOW
    assert found.settings(Target("x")).drifting.source == "b.yaml:4"
    assert (found.break_glass, found.files) == (("a", "b"), ("a.yaml", "b.yaml"))


def test_what_one_file_says_of_all_machines_no_other_file_may_say_again() -> None:
    first = b"version: 1\ndefaults:\n  drifting: refuse\nagent_away: {default: refuse}\n"
    second = b"version: 1\nagent_away: {default: allow}\ndefaults:\n  grace: 1d\n  drifting: allow\n"
    found = check([("a.yaml", first), ("b.yaml", second)], TODAY).problems
    assert [str(problem) for problem in found] == [
        "b.yaml:2:1: agent_away: default is said already at a.yaml:4; keep one",
        "b.yaml:5:1: defaults: drifting is said already at a.yaml:3; keep one",
    ]


def test_no_file_is_no_policy() -> None:
    assert check([], TODAY).policy is None


def test_the_digest_is_of_what_is_said_and_not_of_where() -> None:
    spread = "# a comment\n\nversion: 1\ndefaults:\n    drifting:   'refuse'\n"
    assert policy(spread, "other.yaml").digest == policy("version: 1\ndefaults: {drifting: refuse}").digest
    assert policy("version: 1\ndefaults: {drifting: allow}").digest == policy().digest
    digests = {
        policy(f"version: 1\n{text}\n").digest
        for text in (
            "defaults: {grace: 1d}",
            "defaults: {grace: 1h}",
            "rules: [{match: {name: a}, grace: 1h}]",
            "rules: [{match: {label: a}, grace: 1h}]",
            "break_glass: [a]",
            "images: {backing: [/a]}",
            "agent_away: {default: refuse}",
            "exceptions: [{machine: a, rule: fixable, until: 2026-06-01, reason: r}]",
            "exceptions: [{machine: a, rule: fixable, until: 2026-06-02, reason: r}]",
        )
    }
    assert len(digests) == 9


def test_an_exception_may_be_read_again_after_its_end() -> None:
    text = "version: 1\nexceptions: [{machine: a, rule: fixable, until: 2026-06-01, reason: r}]\n"
    assert policy(text, today=TODAY + 300 * DAY).exceptions


KEYS = [
    *(
        "version",
        "defaults",
        "rules",
        "exceptions",
        "match",
        "name",
        "label",
        "steady",
        "fixable",
        "severity",
    ),
    *("days", "drifting", "grace", "machine", "rule", "until", "reason", "vulnerability", "agent_away"),
    *("default", "images", "backing", "break_glass"),
]
ANYTHING = st.recursive(
    st.sampled_from(["allow", "refuse", "1", "7d", "2026-06-01", "high", "", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(ANYTHING)
def test_any_document_is_a_policy_or_has_mistakes_with_places(document: object) -> None:
    reading = check([("a.yaml", json.dumps(document).encode())], TODAY)
    assert (reading.policy is None) is bool(reading.problems)
    assert all(str(problem).startswith("a.yaml:1:") for problem in reading.problems)


def test_the_example_in_the_documents_is_a_policy() -> None:
    path = DOCS / "policy-example.yaml"
    reading = check([(path.name, path.read_bytes())], TODAY)
    assert [str(problem) for problem in reading.problems] == []


def test_the_documents_name_every_key_and_rule() -> None:
    text = (DOCS / "POLICY.md").read_text()
    keys = {
        name for name in Settings.__dataclass_fields__ if name not in {"fixable_days", "snapshots_max_age"}
    }
    for name in (
        keys | set(RULES) | {"agent_away", "last_decision", "break_glass", "backing", "max_age", "until"}
    ):
        assert f"`{name}`" in text, name


def test_every_whole_policy_in_the_documents_is_one() -> None:
    blocks = re.findall(r"```yaml\n(version: 1\n.*?)```", (DOCS / "POLICY.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        assert problems(block) == []
