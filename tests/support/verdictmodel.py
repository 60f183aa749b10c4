"""What becomes of one machine's verdicts, told a second time in the plainest way, to compare with.

It knows versions as numbers, a policy as a handful of values, and what it said itself the last time. It
shares no code with `steady`, `lineage` or the use cases. What it cannot say is left out of what is played.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

CURRENT = "current"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BAD = ("critical", "high")
NEW_AFTER = 3 * DAY
"""So long an edition of the advisories is believed."""
STRONGER = ("allow", "quarantine", "refuse")
LISTED = range(1, 7)
"""Versions that the release's index lists; a guest may claim others."""


@dataclass
class Flaw:
    """One advisory. `fixed`: from which version on, 0 for no fix; `dated`: since when the fix is offered."""

    fixed: int
    severity: str
    dated: date | None
    exploited: bool


@dataclass
class Wanted:
    """A policy. `excepted`: (vulnerability or rule, last day)."""

    days: int = 7
    grace: timedelta = timedelta(0)
    grace_exploited: timedelta = timedelta(0)
    drifting: str = "allow"
    unknown: str = "allow"
    below_floor: str = "quarantine"
    excepted: list[tuple[str, date]] = field(default_factory=list)


@dataclass
class Said:
    """A verdict: its word, what a start meets, since when, and each rule's answer with its end."""

    word: str
    action: str
    since: datetime
    rules: dict[str, tuple[str, datetime | None]]


@dataclass
class Look:
    """What was read of a state: versions by source, when, and whether all of it."""

    versions: dict[str, int]
    at: datetime
    whole: bool


@dataclass
class Model:
    """One machine, its snapshots, and the world around it."""

    now: datetime
    flaws: dict[tuple[str, str], Flaw] = field(default_factory=dict)
    issued: datetime | None = None
    wanted: Wanted = field(default_factory=Wanted)
    seen: dict[str, Look] = field(default_factory=dict)
    floor: dict[str, int] = field(default_factory=dict)
    offered: dict[tuple[str, str], datetime] = field(default_factory=dict)
    running: bool = False
    closed: bool = False
    said: dict[str, Said] = field(default_factory=dict)

    def round(self, states: list[str]) -> None:
        """Judge everything: the floor rises first, and what has no date is dated by today."""
        if CURRENT in self.seen:
            for source, version in self.seen[CURRENT].versions.items():
                if version in LISTED:
                    self.floor[source] = max(version, self.floor.get(source, 0))
        for look in self.seen.values():
            for about, flaw in self.flaws.items():
                if self._has(look, about) and flaw.fixed and flaw.dated is None:
                    self.offered.setdefault(about, self.now)
        self.said = {state: self._verdict(state) for state in states}

    def _has(self, look: Look, about: tuple[str, str]) -> bool:
        flaw = self.flaws[about]
        return not flaw.fixed or look.versions[about[0]] < flaw.fixed

    def _verdict(self, state: str) -> Said:
        before = self.said.get(state)
        rules = {
            rule: self._softened(rule, against, unknown, before)
            for rule, (against, unknown) in self._against(state).items()
        }
        met = ["allow"]
        for rule, (answer, _) in rules.items():
            failure = self.wanted.below_floor if rule == "floor" else self.wanted.drifting
            if answer == "fail":
                met.append(failure)
            if answer == "unknown":
                met.append(self.wanted.unknown)
                # A machine whose versions nobody lists went on from where it was: that is no rollback.
                if rule != "floor" or state != CURRENT:
                    met.append(failure)
        action = max(met, key=STRONGER.index)
        answers = {answer for answer, _ in rules.values()}
        word = "steady"
        if state == CURRENT and (self.closed or (action == "quarantine" and not self.running)):
            word = "quarantined"
        elif answers & {"fail", "grace"}:
            word = "drifting"
        elif "unknown" in answers:
            word = "unknown"
        since = before.since if before and before.word == word else self.now
        return Said(word, action, since, rules)

    def _against(self, state: str) -> dict[str, tuple[list[str], bool]]:
        """Return for each rule the vulnerabilities against the state, and whether it has no answer."""
        look = self.seen.get(state)
        if look is None:
            nothing: tuple[list[str], bool] = [], True
            names = ("known-exploited", "fixable", "severity", "end-of-life", "scanned", "coverage")
            return dict.fromkeys((*names, "advisories"), nothing) | {"floor": ([], bool(self.floor))}
        found = [about for about in self.flaws if self._has(look, about)]
        believed = self.issued is not None and self.now <= self.issued + NEW_AFTER
        overdue = [about for about in found if self._overdue(about)]
        back = [
            name for source, name in found if 0 < self.flaws[source, name].fixed <= self.floor.get(source, 0)
        ]
        claims = any(
            version not in LISTED and version > self.floor[source] > 0
            for source, version in look.versions.items()
            if source in self.floor
        )
        return {
            "known-exploited": ([n for s, n in found if self.flaws[s, n].exploited], not believed),
            "fixable": ([n for s, n in overdue if self.flaws[s, n].severity in BAD], False),
            "severity": ([n for s, n in overdue if self.flaws[s, n].severity == "unknown"], False),
            "scanned": ([], self.now - look.at > DAY),
            "coverage": ([], not look.whole),
            "advisories": ([], not believed),
            "floor": (["*"] if back else [], not back and claims),
        }

    def _overdue(self, about: tuple[str, str]) -> bool:
        flaw = self.flaws[about]
        if not flaw.fixed:
            return False
        start = self.offered.get(about)
        if flaw.dated:
            start = datetime(flaw.dated.year, flaw.dated.month, flaw.dated.day, tzinfo=UTC)
        return start is None or self.now > start + self.wanted.days * DAY

    def _softened(
        self, rule: str, against: list[str], unknown: bool, before: Said | None
    ) -> tuple[str, datetime | None]:
        """Return a rule's answer after exceptions and grace, and when that ends."""
        ends: dict[str, datetime] = {}
        for what, last in self.wanted.excepted:
            end = datetime(last.year, last.month, last.day, tzinfo=UTC) + DAY
            if self.now < end:
                ends[what] = max(end, ends.get(what, end))
        standing = [name for name in against if name not in ends]
        answer = "fail" if standing else "unknown" if unknown else "excepted" if against else "pass"
        if answer in {"fail", "unknown"} and rule in ends:
            return "excepted", ends[rule]
        if answer == "excepted":
            return answer, min(ends[name] for name in against)
        if answer != "fail" or rule == "floor" or before is None or rule not in before.rules:
            return answer, None
        granted = self.wanted.grace_exploited if rule == "known-exploited" else self.wanted.grace
        was, until = before.rules[rule]
        end = self.now + granted
        if was == "grace" and until is not None:
            end = min(end, until)
        return ("grace", end) if was in {"pass", "grace"} and end > self.now else (answer, None)
