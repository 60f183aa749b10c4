"""From facts to a judgement.

In steps, whose numbers the code repeats:

1. The rules of the policy that match the machine give its settings.
2. Every rule answers: PASS, FAIL, or UNKNOWN where it has no answer.
3. An exception that names the rule, or all that the rule fails for, makes of a FAIL or UNKNOWN an EXCEPTED.
4. A FAIL of what passed when it was last judged becomes GRACE for as long as the policy grants, and stays
   it until then. What was never in order has no grace: a machine that is made anew gains no time by it.
   Floor, expiry and templates have none.
5. Each rule's answer meets an action; the strongest counts. A rule without an answer never meets less than
   its failure would: a guest that hides what it has installed gains nothing. Only the floor's versions that
   nobody lists are let off that in a state that goes on from where the machine was: there is no rollback
   that they could hide.
6. A quarantine that cannot be enforced becomes what the policy says of that.
7. The word: QUARANTINED where the network of a machine is closed or, at its next start, would be, else
   DRIFTING where a rule fails, else UNKNOWN where one has no answer, else STEADY. The first three are not
   steady, none of them better than another; how bad it is stands in the action.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from undercroft.model.finding import Assessment
from undercroft.model.verdict import Action, Judgement, Outcome, RuleResult, SubjectKind, Verdict
from undercroft.steady import assessed, rules, state
from undercroft.steady.assessed import Question, ends_at
from undercroft.steady.facts import Facts, FixesSeen
from undercroft.steady.policy import Match, Policy, Settings, Target, Unenforceable, Waiver

_STRENGTH = {action: number for number, action in enumerate(Action)}
_WITHOUT_GRACE = frozenset({rules.FLOOR, rules.EXPIRY, rules.TEMPLATE})
_NOT_KEPT = frozenset({Outcome.FAIL, Outcome.UNKNOWN})
# What cannot be held is told by its own reason, not the quarantine's; and that a state was put back, that a
# machine has expired or is a template says more than what is wrong with its software.
_TOLD_FIRST = frozenset({rules.ENFORCEABLE, rules.FLOOR, rules.EXPIRY, rules.TEMPLATE})


def judge(facts: Facts, policy: Policy, now: datetime, since: Judgement | None = None) -> Judgement:
    """Return what the policy says of one subject; `Judge` does the same for many, faster."""
    return Judge(policy, now).judge(facts, since)


@dataclass(frozen=True, slots=True)
class _Profile:
    """What is the same for all subjects that the same rules and exceptions match."""

    settings: Settings
    by_vulnerability: Mapping[str, Waiver]
    by_rule: Mapping[str, Waiver]


class Judge:
    """One policy at one time. It remembers what subjects have in common, and is for one thread."""

    def __init__(self, policy: Policy, now: datetime) -> None:
        """`now` has a time zone."""
        self._policy = policy
        self._now = now
        self._digest = policy.digest
        today = now.astimezone(UTC).date()
        self._waivers = [waiver for waiver in policy.exceptions if waiver.until >= today]
        self._matches: list[Match] = [
            *(rule.match for rule in policy.rules),
            *(waiver.match for waiver in self._waivers),
        ]
        self._profiles: dict[tuple[int, ...], _Profile] = {}
        # The objects are kept beside their results, or another could take the place that its id names.
        self._assessed: dict[
            tuple[int, int, int], tuple[Assessment | None, FixesSeen, dict[str, RuleResult]]
        ] = {}

    def settings(self, target: Target) -> Settings:
        """Return what the policy says about one machine."""
        return self._profile(target).settings

    def judge(self, facts: Facts, since: Judgement | None = None) -> Judgement:
        """Return the judgement.

        Args:
            facts: of one subject.
            since: what was last said of it, None for nothing: how long the verdict has been this one and
                which grace runs.
        """
        profile = self._profile(facts.target)  # 1
        found = state.results(facts, profile.settings, self._now) | self._of_assessment(facts, profile)  # 2
        before = {result.rule: result for result in since.results} if since else {}
        results = [
            self._graced(self._excepted(found[name], facts, profile), profile.settings, before.get(name))
            for name in rules.EXCEPTABLE
        ]
        action = strongest([_action(result, facts, profile.settings) for result in results])  # 5
        action, held = _enforceable(facts, profile.settings, action)  # 6
        results += [held, _quarantine(facts)]
        verdict = _verdict(facts, results, action)  # 7
        return Judgement(
            subject=facts.subject.key,
            verdict=verdict,
            action=action,
            results=tuple(results),
            policy=self._digest,
            advisories=facts.advisories,
            judged_at=self._now,
            since=since.since if since and since.verdict is verdict else self._now,
        )

    def reason(self, facts: Facts, judgement: Judgement) -> str:
        """Return the reason for the judgement's action, "" for ALLOW; `why` is the reason for its verdict."""
        if judgement.action is Action.ALLOW:
            return ""
        settings = self._profile(facts.target).settings
        for result in sorted(judgement.results, key=_place):
            if _action(result, facts, settings) is judgement.action:
                return result.reason
        return judgement.why

    def against(self, facts: Facts, judgement: Judgement) -> frozenset[str]:
        """Return the rules whose answer alone meets more than ALLOW."""
        settings = self._profile(facts.target).settings
        return frozenset(
            result.rule
            for result in judgement.results
            if _action(result, facts, settings) is not Action.ALLOW
        )

    def _profile(self, target: Target) -> _Profile:
        fitting = tuple(number for number, match in enumerate(self._matches) if match.fits(target))
        if (known := self._profiles.get(fitting)) is not None:
            return known
        first = len(self._policy.rules)
        waivers = [self._waivers[number - first] for number in fitting if number >= first]
        waivers.sort(key=ends_at)  # of several, the last to end counts
        profile = _Profile(
            self._policy.overlaid([number for number in fitting if number < first]),
            {name: waiver for waiver in waivers for name in sorted(waiver.vulnerabilities)},
            {waiver.rule: waiver for waiver in waivers if waiver.rule},
        )
        self._profiles[fitting] = profile
        return profile

    def _of_assessment(self, facts: Facts, profile: _Profile) -> dict[str, RuleResult]:
        place = id(facts.assessment), id(facts.fixes_seen), id(profile)
        if (known := self._assessed.get(place)) is not None:
            return known[2]
        question = Question(
            facts.assessment, profile.settings, profile.by_vulnerability, facts.fixes_seen, self._now
        )
        results = assessed.results(question)
        self._assessed[place] = facts.assessment, facts.fixes_seen, results
        return results

    def _excepted(self, result: RuleResult, facts: Facts, profile: _Profile) -> RuleResult:
        """Return the result under an exception that names its rule (3)."""
        waiver = profile.by_rule.get(result.rule)
        counts = result.outcome in _NOT_KEPT or (result.rule == rules.TEMPLATE and facts.template)
        if waiver is None or not counts:
            return result
        reason = f"{result.reason}; by exception until {waiver.until}: {waiver.reason}"
        return replace(
            result, outcome=Outcome.EXCEPTED, reason=reason, source=waiver.source, until=ends_at(waiver)
        )

    def _graced(self, result: RuleResult, settings: Settings, before: RuleResult | None) -> RuleResult:
        """Return the result, as GRACE where it fails and does not act yet (4)."""
        if result.outcome is not Outcome.FAIL or before is None or result.rule in _WITHOUT_GRACE:
            return result
        exploited = result.rule == rules.KNOWN_EXPLOITED
        period = (settings.grace_exploited if exploited else settings.grace).value
        until = self._now + period
        if before.outcome is Outcome.GRACE and before.until is not None:
            until = min(before.until, until)
        elif before.outcome is not Outcome.PASS:
            return result
        if period == timedelta(0) or until <= self._now:
            return result
        reason = f"{result.reason}; in grace until {until:%Y-%m-%d %H:%M}"
        return replace(result, outcome=Outcome.GRACE, reason=reason, until=until)


def strongest(actions: Sequence[Action]) -> Action:
    """Return the strongest of some actions, ALLOW for none."""
    return max(actions, key=_STRENGTH.__getitem__, default=Action.ALLOW)


def may_leave_open(judgement: Judgement) -> bool:
    """Tell whether a quarantine has interfaces that cannot be held, which the policy lets stay open."""
    return any(
        result.rule == rules.ENFORCEABLE and result.outcome is Outcome.PASS and bool(result.items)
        for result in judgement.results
    )


def _place(result: RuleResult) -> int:
    """Return how early a reason is told: what was not read comes before all that is unknown for it."""
    unknown = result.outcome is Outcome.UNKNOWN
    if result.rule in _TOLD_FIRST and not unknown:
        return 0
    if not unknown:
        return 1
    return 2 if result.rule == rules.COVERAGE else 3


def _action(result: RuleResult, facts: Facts, settings: Settings) -> Action:
    """Return what a start meets by one rule's answer (5)."""
    failure = {
        rules.FLOOR: settings.below_floor.value,
        rules.EXPIRY: settings.expired.value,
        rules.TEMPLATE: settings.template_start.value,
        rules.ENFORCEABLE: Action.REFUSE,
        rules.QUARANTINE: Action.ALLOW,  # it says what is done, not what is to be done
    }.get(result.rule, settings.drifting.value)
    match result.outcome:
        case Outcome.FAIL:
            return failure
        case Outcome.UNKNOWN:
            # The owner's words are nothing that a guest could hide.
            least = settings.drifting.value if result.rule == rules.EXPIRY else failure
            if result.rule == rules.FLOOR and facts.goes_on and result.items:
                least = Action.ALLOW
            return strongest([settings.unknown.value, least])
        case Outcome.PASS if result.rule == rules.TEMPLATE and facts.template:
            return failure
        case _:
            return Action.ALLOW


def _enforceable(facts: Facts, settings: Settings, action: Action) -> tuple[Action, RuleResult]:
    """Return the action that can be enforced, and what the rule says of it."""
    setting, interfaces = settings.unenforceable, facts.unholdable
    name = rules.ENFORCEABLE
    if action is not Action.QUARANTINE or not interfaces:
        passed = RuleResult(name, Outcome.PASS, "nothing has to be held that cannot be", setting.source)
        return action, passed
    cannot = f"it should start in quarantine, but the host cannot hold {rules.listed(interfaces)}"
    if setting.value is Unenforceable.ALLOW:
        reason = f"{cannot}, which the policy leaves open"
        return action, RuleResult(name, Outcome.PASS, reason, setting.source, interfaces)
    reason = f"{cannot}, so it is refused"
    return Action.REFUSE, RuleResult(name, Outcome.FAIL, reason, setting.source, interfaces)


def _quarantine(facts: Facts) -> RuleResult:
    if facts.in_quarantine:
        return RuleResult(rules.QUARANTINE, Outcome.FAIL, "its network is closed", "default")
    return RuleResult(rules.QUARANTINE, Outcome.PASS, "its network is not closed", "default")


def _verdict(facts: Facts, results: Sequence[RuleResult], action: Action) -> Verdict:
    outcomes = {result.outcome for result in results}
    is_machine = facts.subject.kind is SubjectKind.MACHINE
    starts_closed = is_machine and action is Action.QUARANTINE and not (facts.template or facts.running)
    if facts.in_quarantine or starts_closed:
        return Verdict.QUARANTINED
    if outcomes & {Outcome.FAIL, Outcome.GRACE}:
        return Verdict.DRIFTING
    return Verdict.UNKNOWN if Outcome.UNKNOWN in outcomes else Verdict.STEADY
