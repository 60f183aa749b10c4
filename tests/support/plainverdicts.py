"""What a policy says, written a second time in the plainest way, to compare with.

It knows one machine, a policy as a dict as in YAML, and no places. It shares no code with `steady`.
"""

from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

ORDER = ["allow", "quarantine", "refuse"]
SEVERITIES = ["critical", "high", "medium", "low", "negligible"]
FIELDS = {
    "drifting": "allow",
    "unknown": "allow",
    "below_floor": "quarantine",
    "expired": "refuse",
    "template_start": "refuse",
    "grace": "0d",
    "grace_exploited": "0d",
    "unenforceable": "refuse",
}
STEADY = {
    "known_exploited": "forbid",
    "end_of_life": "extended",
    "scanned_within": "24h",
    "coverage": "whole",
    "boots_from": "any",
    "unknown_severity": "fail",
    "floor": "required",
    "genid": "ignored",
    "severity": "high",
    "days": "7",
}


def settings(policy: dict[str, Any], name: str, labels: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {**FIELDS, **STEADY}
    layers = [policy.get("defaults", {})]
    for rule in policy.get("rules", ()):
        match = rule["match"]
        by_name = "name" not in match or fnmatchcase(name, match["name"])
        by_label = "label" not in match or any(fnmatchcase(label, match["label"]) for label in labels)
        if by_name and by_label:
            layers.append(rule)
    for layer in layers:
        found |= {key: value for key, value in layer.items() if key in FIELDS}
        steady = dict(layer.get("steady", {}))
        fixable = steady.pop("fixable", {})
        found |= {"severity": "allow"} if fixable == "allow" else fixable
        found |= steady
    return found


def span(text: str) -> timedelta:
    return timedelta(**{{"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[text[-1]]: int(text[:-1])})


def answers(facts: Any, policy: dict[str, Any], now: datetime, before: dict[str, Any]) -> dict[str, str]:
    """Return "pass", "fail", "unknown", "grace" or "excepted" for each rule that an exception may name."""
    say = settings(policy, facts.target.name, facts.target.labels)
    today = now.astimezone(UTC).date()
    active = [
        item
        for item in policy.get("exceptions", ())
        if date.fromisoformat(item["until"]) >= today and fnmatchcase(facts.target.name, item["machine"])
    ]
    waived = {item["vulnerability"] for item in active if "vulnerability" in item}
    out: dict[str, str] = {}
    known = facts.assessment
    found = list(known.findings) if known else []
    catalog = bool(known) and any(
        one.name == "kev" and not one.stale and now <= one.valid_until for one in known.feeds
    )

    def put(rule: str, against: list[Any], unknown: bool) -> None:
        standing = [one for one in against if one.vulnerability not in waived]
        if standing:
            out[rule] = "fail"
        elif unknown:
            out[rule] = "unknown"
        else:
            out[rule] = "excepted" if against else "pass"

    def overdue(one: Any) -> bool:
        if one.fix.value != "fixable":
            return False
        if one.fixed_on:
            start = datetime(one.fixed_on.year, one.fixed_on.month, one.fixed_on.day, tzinfo=UTC)
        elif (one.source, one.vulnerability) in facts.fixes_seen:
            start = facts.fixes_seen[one.source, one.vulnerability]
        else:
            return True
        return now > start + timedelta(days=int(say["days"]))

    out["known-exploited"] = "pass"
    if say["known_exploited"] == "forbid":
        put("known-exploited", [one for one in found if one.known_exploited_on], not catalog)
    out["fixable"] = out["severity"] = "pass"
    if say["severity"] != "allow":
        bad = SEVERITIES[: SEVERITIES.index(say["severity"]) + 1]
        put("fixable", [one for one in found if one.severity.value in bad and overdue(one)], known is None)
        if say["unknown_severity"] == "fail":
            unrated = [one for one in found if one.severity.value == "unknown" and overdue(one)]
            put("severity", unrated, known is None)
    out["end-of-life"] = end_of_life(known, say["end_of_life"], today)
    scan = facts.scan
    out["scanned"] = "unknown"
    if scan and now - scan.scanned_at <= span(say["scanned_within"]):
        out["scanned"] = "pass"
    out["coverage"] = "pass"
    if not scan or not scan.inventory or (scan.problems and say["coverage"] == "whole"):
        out["coverage"] = "unknown"
    if facts.beside and say["boots_from"] == "disks":
        out["coverage"] = "unknown"
    out["advisories"] = "pass"
    if (
        known is None
        or known.problems
        or any(not one.stale and one.valid_until < now for one in known.feeds)
        or (say["known_exploited"] == "forbid" and not catalog)
    ):
        out["advisories"] = "unknown"
    out["floor"] = "pass"
    if say["floor"] == "required":
        if facts.below_floor:
            out["floor"] = "fail"
        elif facts.has_floor and (not scan or not scan.inventory or known is None or facts.floor_unproven):
            out["floor"] = "unknown"
    out["genid"] = "fail" if facts.genid is False and say["genid"] == "required" else "pass"
    out["ownership"] = "unknown" if facts.ownership_problem else "pass"
    out["expiry"] = "fail" if facts.expires_on and facts.expires_on <= today else "pass"
    if facts.ownership_problem:
        out["expiry"] = "unknown"
    runs = facts.template and facts.running and say["template_start"] != "allow"
    out["template"] = "fail" if runs else "pass"
    for item in active:
        rule = item.get("rule", "")
        if out.get(rule) in {"fail", "unknown"} or (rule == "template" and facts.template):
            out[rule] = "excepted"
    for rule, answer in out.items():
        if answer == "fail" and rule not in {"floor", "expiry", "template"} and rule in before:
            old = before[rule]
            until = now + span(say["grace_exploited" if rule == "known-exploited" else "grace"])
            if old.outcome.value == "grace":
                until = min(until, old.until)
            if old.outcome.value in {"pass", "grace"} and until > now:
                out[rule] = "grace"
    return out


def end_of_life(known: Any, say: str, today: date) -> str:
    if say == "allow":
        return "pass"
    if known is None or known.end_of_life.ends_on is None:
        return "unknown"
    last = known.end_of_life.ends_on
    if say == "extended":
        last = max(last, known.end_of_life.extended_ends_on or last)
    return "pass" if today <= last else "fail"


def scan_known(facts: Any) -> bool:
    """Whether the state could be compared with the floor."""
    return bool(facts.scan and facts.scan.inventory and facts.assessment is not None)


def verdict(facts: Any, policy: dict[str, Any], now: datetime, before: dict[str, Any]) -> tuple[str, str]:
    """Return the word and the action."""
    say = settings(policy, facts.target.name, facts.target.labels)
    out = answers(facts, policy, now, before)
    own = {"floor": "below_floor", "expiry": "expired", "template": "template_start"}
    met = ["allow"]
    for rule, answer in out.items():
        if answer == "fail":
            met.append(say[own.get(rule, "drifting")])
        if answer == "unknown" and rule == "floor" and facts.goes_on and scan_known(facts):
            met.append(say["unknown"])
        elif answer == "unknown":
            met += [say["unknown"], say["drifting" if rule == "expiry" else own.get(rule, "drifting")]]
    if facts.template and out["template"] == "pass":
        met.append(say["template_start"])
    action = max(met, key=ORDER.index)
    open_wide = action == "quarantine" and bool(facts.unholdable) and say["unenforceable"] == "refuse"
    if open_wide:
        action = "refuse"
    is_machine = facts.subject.kind.value == "machine" and not facts.template
    if facts.in_quarantine or (action == "quarantine" and is_machine and not facts.running):
        return "quarantined", action
    if open_wide or {"fail", "grace"} & set(out.values()):
        return "drifting", action
    return ("unknown" if "unknown" in out.values() else "steady"), action
