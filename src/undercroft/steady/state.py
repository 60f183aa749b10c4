"""The rules about one subject itself: how it was read, its floor, its definition, its owner's words."""

from datetime import UTC, datetime

from undercroft.model.verdict import Action, Outcome, RuleResult
from undercroft.steady import durations, rules
from undercroft.steady.facts import Facts
from undercroft.steady.policy import DEFAULT, BootStance, CoverageStance, Need, Setting, Settings


def results(facts: Facts, settings: Settings, now: datetime) -> dict[str, RuleResult]:
    """Return the results by rule."""
    found = (
        _scanned(facts, settings, now),
        _coverage(facts, settings),
        _floor(facts, settings),
        _genid(facts, settings),
        _ownership(facts),
        _expiry(facts, settings, now),
        _template(facts, settings),
    )
    return {result.rule: result for result in found}


def _scanned(facts: Facts, settings: Settings, now: datetime) -> RuleResult:
    name, setting = rules.SCANNED, settings.scanned_within
    if facts.scan is None:
        return _result(name, Outcome.UNKNOWN, "it was never read", setting)
    # The moment and not its age: a reason that changes by itself would be a new judgement every hour.
    read, asked = f"{facts.scan.scanned_at:%Y-%m-%d %H:%M}", durations.words(setting.value)
    if now - facts.scan.scanned_at > setting.value:
        reason = f"it was last read on {read}, longer ago than the {asked} that the policy asks for"
        return _result(name, Outcome.UNKNOWN, reason, setting)
    return _result(name, Outcome.PASS, f"it was read on {read}; the policy asks for {asked}", setting)


def _coverage(facts: Facts, settings: Settings) -> RuleResult:
    name, setting = rules.COVERAGE, settings.coverage
    if facts.scan is None:
        return _result(name, Outcome.UNKNOWN, "it was never read", setting)
    problems = facts.scan.problems
    if not facts.was_read:
        reason = problems[0] if problems else "nothing of it could be read"
        return _result(name, Outcome.UNKNOWN, reason, setting, problems)
    if facts.beside and settings.boots_from.value is BootStance.DISKS:
        reason = f"it may run what no disk of it holds: {rules.listed(facts.beside)}"
        return _result(name, Outcome.UNKNOWN, reason, settings.boots_from, facts.beside)
    if not problems:
        also = f"; not {rules.listed(facts.beside)}, which it may run too" if facts.beside else ""
        return _result(name, Outcome.PASS, f"all of its disks that may hold software was read{also}", setting)
    if setting.value is CoverageStance.ANY:
        reason = f"it was not read whole, which the policy accepts: {problems[0]}"
        return _result(name, Outcome.PASS, reason, setting, problems)
    return _result(name, Outcome.UNKNOWN, f"it was not read whole: {problems[0]}", setting, problems)


def _floor(facts: Facts, settings: Settings) -> RuleResult:
    name, setting = rules.FLOOR, settings.floor
    below = facts.below_floor
    if setting.value is Need.IGNORED:
        reason = (
            f"{rules.count(len(below), 'fix', 'fixes')} that it had are missing, which the policy ignores"
        )
        return _result(name, Outcome.PASS, reason, setting, below)
    if below:
        reason = f"it lacks what the machine had fixed: {rules.listed(below)}"
        return _result(name, Outcome.FAIL, reason, setting, below)
    if not facts.has_floor:
        return _result(name, Outcome.PASS, "the machine has no patch floor yet", setting)
    if not facts.was_read or facts.assessment is None:
        reason = "it could not be compared with the machine's patch floor"
        return _result(name, Outcome.UNKNOWN, reason, setting)
    if facts.floor_unproven:
        unproven = rules.listed(facts.floor_unproven)
        reason = f"no trusted source lists the installed version of {unproven}, so it proves no fix"
        return _result(name, Outcome.UNKNOWN, reason, setting, facts.floor_unproven)
    return _result(name, Outcome.PASS, "it has all that the machine had fixed", setting)


def _genid(facts: Facts, settings: Settings) -> RuleResult:
    name, setting = rules.GENID, settings.genid
    if facts.genid is None:
        return _result(name, Outcome.PASS, "it has no definition of its own", setting)
    if facts.genid:
        return _result(name, Outcome.PASS, "its definition has <genid/>", setting)
    missing = "its definition has no <genid/>, so its guest is not told of a restore (--mend genid mends it)"
    if setting.value is Need.IGNORED:
        return _result(name, Outcome.PASS, f"{missing}; the policy ignores it", setting)
    return _result(name, Outcome.FAIL, missing, setting)


def _ownership(facts: Facts) -> RuleResult:
    if facts.ownership_problem:
        reason = (
            f"its metadata cannot be read, so owner, labels and expiry are unknown: {facts.ownership_problem}"
        )
        return RuleResult(rules.OWNERSHIP, Outcome.UNKNOWN, reason, DEFAULT, (facts.ownership_problem,))
    owner = facts.target.owner
    return RuleResult(rules.OWNERSHIP, Outcome.PASS, f"owned by {owner}" if owner else "no owner", DEFAULT)


def _expiry(facts: Facts, settings: Settings, now: datetime) -> RuleResult:
    name, setting = rules.EXPIRY, settings.expired
    if facts.ownership_problem:
        return _result(name, Outcome.UNKNOWN, "when it expires is unknown", setting)
    if facts.expires_on is None:
        return _result(name, Outcome.PASS, "it does not expire", setting)
    if facts.expires_on <= now.astimezone(UTC).date():
        return _result(name, Outcome.FAIL, f"it expired on {facts.expires_on}", setting)
    return _result(name, Outcome.PASS, f"it expires on {facts.expires_on}", setting)


def _template(facts: Facts, settings: Settings) -> RuleResult:
    name, setting = rules.TEMPLATE, settings.template_start
    if not facts.template:
        return _result(name, Outcome.PASS, "it is no template", setting)
    if facts.running and setting.value is not Action.ALLOW:
        return _result(name, Outcome.FAIL, "it is a template, and runs", setting)
    meets = {
        Action.ALLOW: "may start",
        Action.QUARANTINE: "starts in quarantine",
        Action.REFUSE: "does not start",
    }
    return _result(name, Outcome.PASS, f"it is a template, which {meets[setting.value]}", setting)


def _result(
    name: str, outcome: Outcome, reason: str, setting: Setting[object], items: tuple[str, ...] = ()
) -> RuleResult:
    return RuleResult(name, outcome, reason, setting.source, items)
