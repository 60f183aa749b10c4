"""The rules that rest on what the advisories say: the same for all machines with the same software.

An exception for a vulnerability takes its findings out of these rules, visibly. Where the advisories cannot
answer, the rule that says so is `advisories`; the others add what they know to be missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from undercroft.advisories.asked import knows_exploited
from undercroft.model.finding import Assessment, Finding, FixState, Severity
from undercroft.model.verdict import Outcome, RuleResult
from undercroft.steady import rules
from undercroft.steady.facts import FixesSeen
from undercroft.steady.policy import (
    EndOfLifeStance,
    Setting,
    Settings,
    Stance,
    UnknownSeverity,
    Waiver,
)

_RANK = {severity: number for number, severity in enumerate(Severity)}  # UNKNOWN is the last
_NOT_COMPARED = "it was not compared with any advisories"
_NO_CATALOG = (
    "there is no current catalog of known exploited vulnerabilities: undercroft feeds update kev, or "
    "known_exploited: allow where none can be had"
)


def ends_at(waiver: Waiver) -> datetime:
    """Return the moment from which an exception counts no more: the end of its last day, in UTC."""
    return datetime.combine(waiver.until, time(), UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Question:
    """What these rules are asked about.

    Attributes:
        assessment: None where there is none.
        settings: of the policy.
        waived: exceptions that count, by vulnerability.
        fixes_seen: for fixes that nobody dates.
        now: with a time zone.
    """

    assessment: Assessment | None
    settings: Settings
    waived: Mapping[str, Waiver]
    fixes_seen: FixesSeen
    now: datetime

    @property
    def findings(self) -> Sequence[Finding]:
        """What is known to be wrong."""
        return self.assessment.findings if self.assessment else ()


def results(question: Question) -> dict[str, RuleResult]:
    """Return the results by rule."""
    found = (
        _known_exploited(question),
        _fixable(question),
        _severity(question),
        _end_of_life(question),
        _advisories(question),
    )
    return {result.rule: result for result in found}


def _known_exploited(question: Question) -> RuleResult:
    name, setting = rules.KNOWN_EXPLOITED, question.settings.known_exploited
    found = [finding for finding in question.findings if finding.known_exploited_on]
    if setting.value is Stance.ALLOW:
        reason = f"{rules.count(len(found), 'finding')} known to be exploited, which the policy allows"
        return _result(name, Outcome.PASS, reason, setting, found)
    unknown = ""
    if question.assessment is None:
        unknown = _NOT_COMPARED
    elif not _has_catalog(question.assessment, question.now):
        unknown = _NO_CATALOG
    return _judged(question, name, setting, found, "known to be exploited", unknown)


def _has_catalog(assessment: Assessment, now: datetime) -> bool:
    return knows_exploited(feed for feed in assessment.feeds if now <= feed.valid_until)


def _fixable(question: Question) -> RuleResult:
    name, setting = rules.FIXABLE, question.settings.fixable
    if setting.value is None:
        return _result(name, Outcome.PASS, "the policy asks for no fixes", setting)
    worst = _RANK[setting.value]
    rated = [finding for finding in question.findings if _RANK[finding.severity] <= worst]
    overdue = _overdue(question, rated)
    days = rules.count(question.settings.fixable_days.value, "day")
    what = f"of severity {setting.value} or worse, with a fix for more than {days}"
    unknown = _NOT_COMPARED if question.assessment is None else ""
    return _judged(question, name, setting, overdue, what, unknown)


def _severity(question: Question) -> RuleResult:
    name, setting = rules.SEVERITY, question.settings.unknown_severity
    unrated = [finding for finding in question.findings if finding.severity is Severity.UNKNOWN]
    overdue = _overdue(question, unrated)
    if question.settings.fixable.value is None:
        return _result(name, Outcome.PASS, "the policy asks for no fixes", question.settings.fixable)
    if setting.value is UnknownSeverity.PASS:
        reason = f"{rules.count(len(overdue), 'finding')} of unknown severity, which the policy lets pass"
        return _result(name, Outcome.PASS, reason, setting, overdue)
    days = rules.count(question.settings.fixable_days.value, "day")
    what = f"whose severity no source gives, with a fix for more than {days}"
    unknown = _NOT_COMPARED if question.assessment is None else ""
    return _judged(question, name, setting, overdue, what, unknown)


def _overdue(question: Question, findings: Sequence[Finding]) -> list[Finding]:
    """Return those whose fix has been missing for longer than the policy allows, or nobody knows how long."""
    limit = timedelta(days=question.settings.fixable_days.value)
    overdue = []
    for finding in findings:
        if finding.fix is not FixState.FIXABLE:
            continue
        since = (
            datetime.combine(finding.fixed_on, time(), UTC)
            if finding.fixed_on
            else question.fixes_seen.get((finding.source, finding.vulnerability))
        )
        if since is None or question.now - since > limit:
            overdue.append(finding)
    return overdue


def _judged(
    question: Question,
    name: str,
    setting: Setting[object],
    found: Sequence[Finding],
    what: str,
    unknown: str,
) -> RuleResult:
    """Return FAIL where a finding stands, else UNKNOWN, else EXCEPTED where exceptions cover what was found.

    Args:
        question: with the exceptions.
        name: of the rule.
        setting: the rule's.
        found: what speaks against the machine.
        what: what is wrong with them.
        unknown: why there may be more, "" when there is none.
    """
    standing = [finding for finding in found if finding.vulnerability not in question.waived]
    covered = [finding for finding in found if finding.vulnerability in question.waived]
    if standing:
        also = f"; {len(covered):,} more by exception" if covered else ""
        reason = f"{rules.count(len(standing), 'finding')} {what}: {rules.listed(_items(standing))}{also}"
        return _result(name, Outcome.FAIL, reason, setting, standing)
    if unknown:
        return _result(name, Outcome.UNKNOWN, unknown, setting, covered)
    if covered:
        waiver = min((question.waived[finding.vulnerability] for finding in covered), key=ends_at)
        number = rules.count(len(covered), "finding")
        reason = f"{number} {what}, by exception until {waiver.until}: {waiver.reason}"
        return RuleResult(
            name, Outcome.EXCEPTED, reason, waiver.source, tuple(_items(covered)), ends_at(waiver)
        )
    return _result(name, Outcome.PASS, f"no finding {what}", setting)


def _end_of_life(question: Question) -> RuleResult:
    name, setting = rules.END_OF_LIFE, question.settings.end_of_life
    if setting.value is EndOfLifeStance.ALLOW:
        return _result(name, Outcome.PASS, "the policy takes releases past their end of life", setting)
    if question.assessment is None:
        return _result(name, Outcome.UNKNOWN, _NOT_COMPARED, setting)
    end, today = question.assessment.end_of_life, question.now.astimezone(UTC).date()
    if end.ends_on is None:
        return _result(
            name, Outcome.UNKNOWN, "until when its release gets security updates is unknown", setting
        )
    if today <= end.ends_on:
        return _result(name, Outcome.PASS, f"its release is supported until {end.ends_on}", setting)
    if end.extended_ends_on and today <= end.extended_ends_on:
        accepted = setting.value is EndOfLifeStance.EXTENDED
        reason = f"its release has extended support only, until {end.extended_ends_on}"
        return _result(name, Outcome.PASS if accepted else Outcome.FAIL, reason, setting)
    last = end.extended_ends_on or end.ends_on
    return _result(name, Outcome.FAIL, f"its release gets no security updates since {last}", setting)


def _advisories(question: Question) -> RuleResult:
    name, setting = rules.ADVISORIES, Setting(None)
    assessment = question.assessment
    if assessment is None:
        return _result(name, Outcome.UNKNOWN, _NOT_COMPARED, setting)
    problems = list(assessment.problems)
    problems += [
        f"{feed.name} was valid until {feed.valid_until:%Y-%m-%d %H:%M}: undercroft feeds update"
        for feed in assessment.feeds
        if not feed.stale and question.now > feed.valid_until  # stale ones are problems already
    ]
    # A finding of an older catalog would else turn "no answer" into a failure that has a grace.
    is_asked = question.settings.known_exploited.value is Stance.FORBID
    if is_asked and not _has_catalog(assessment, question.now):
        problems.append(_NO_CATALOG)
    if problems:
        return RuleResult(name, Outcome.UNKNOWN, problems[0], setting.source, tuple(problems))
    return _result(name, Outcome.PASS, "the advisories have an answer to everything", setting)


def _result(
    name: str, outcome: Outcome, reason: str, setting: Setting[object], found: Sequence[Finding] = ()
) -> RuleResult:
    return RuleResult(name, outcome, reason, setting.source, tuple(_items(found)))


def _items(found: Sequence[Finding]) -> list[str]:
    return [f"{finding.vulnerability} in {finding.source}" for finding in found]
