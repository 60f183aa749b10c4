"""Random lives of a machine's verdicts against a model of what they must be.

Advisories appear, change and grow old, fixes get dates, packages are patched, claimed in versions that no
index lists, and rolled back; scans are made and miss something, snapshots are taken; policies, exceptions and
graces come and go, and time passes. Each is followed by a round, now and then several by one. After each
round every state's verdict, action and time are compared, and what each rule says and until when.
"""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from memoryrecords import MemoryRecords
from recordvalues import UUID, domain, identity, inventory, reads, scan, subject, survey
from verdictmodel import CURRENT, HOUR, LISTED, NEW_AFTER, Flaw, Look, Model, Wanted

from undercroft.advisories.knowledge import Knowledge
from undercroft.model.domain import Power
from undercroft.model.finding import (
    Assessment,
    EndOfLife,
    FeedStatus,
    Finding,
    FixState,
    Severity,
    Unassessed,
)
from undercroft.model.fleet import Hold
from undercroft.model.inventory import Inventory, Package
from undercroft.model.verdict import Judgement, Subject, SubjectKind
from undercroft.steady.reading import load_policy
from undercroft.usecases.fleet.verdicts.advising import Advice
from undercroft.usecases.fleet.verdicts.floors import Reached, raise_floors
from undercroft.usecases.fleet.verdicts.judging import Judging

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCES = ("openssl", "zlib")
NAMES = ("CVE-2026-1", "CVE-2026-2")
CLAIMED = 99
RELEASE = "debian:12"
KEY = f"machine:{UUID}"
ACTIONS = st.sampled_from(["allow", "quarantine", "refuse"])
SPANS = st.sampled_from([0, 24, 72, 72])
FLAWS = st.tuples(st.sampled_from(SOURCES), st.sampled_from(NAMES))
EXCEPTED = st.sampled_from([NAMES[0], "fixable", "floor", "advisories"])


class Verdicts(RuleBasedStateMachine):
    """One machine. `disk`: what it has; `kept`: what its snapshots hold; `keys`: of all that is judged."""

    @initialize()
    def begin(self) -> None:
        self.model = Model(BEGIN)
        self.records = MemoryRecords(lambda: self.model.now)
        self.judging = Judging(self.records, lambda: self.model.now)
        self.disk = dict.fromkeys(SOURCES, 1)
        self.kept: dict[str, dict[str, int]] = {}
        self.keys = {CURRENT: KEY}
        self.edition = 0
        self.judged = False
        with self.records.transaction() as record:
            record.put_survey(survey(domain(1)))
            record.put_subject(subject(KEY, machine=UUID))
        self.paused = False
        self._issue()
        self._read(CURRENT, whole=True)

    @rule(
        about=FLAWS,
        fixed=st.integers(0, 4),
        severity=st.sampled_from(["high", "high", "low", "unknown"]),
        days_ago=st.none() | st.integers(0, 12),
        exploited=st.booleans(),
    )
    def advisory(
        self, about: tuple[str, str], fixed: int, severity: str, days_ago: int | None, exploited: bool
    ) -> None:
        dated = None if days_ago is None else self.model.now.date() - timedelta(days=days_ago)
        self.model.flaws[about] = Flaw(fixed, severity, dated if fixed else None, exploited)
        self._issue()

    @rule(withdrawn=st.none() | FLAWS)
    def issue_again(self, withdrawn: tuple[str, str] | None) -> None:
        if withdrawn is not None:
            self.model.flaws.pop(withdrawn, None)
        self._issue()

    def _issue(self) -> None:
        self.edition += 1
        self.model.issued = self.model.now
        self.judged = False

    @rule(source=st.sampled_from(SOURCES), version=st.sampled_from([*LISTED, CLAIMED]), read=st.booleans())
    def install(self, source: str, version: int, read: bool) -> None:
        self.disk = {**self.disk, source: version}
        if read:
            self._read(CURRENT, whole=True)

    @rule(number=st.integers(0, 2))
    def take_snapshot(self, number: int) -> None:
        name = f"s{number}"
        self.kept[name] = self.disk
        self.keys[name] = f"snapshot:{UUID}:{name}"
        made = Subject(self.keys[name], SubjectKind.SNAPSHOT, name, "host1", UUID, name)
        with self.records.transaction() as record:
            record.put_subject(made)
        self.judged = False

    @rule(data=st.data(), read=st.booleans())
    def revert(self, data: st.DataObject, read: bool) -> None:
        if self.kept:
            self.disk = self.kept[data.draw(st.sampled_from(sorted(self.kept)))]
            if read:
                self._read(CURRENT, whole=True)

    @rule(data=st.data(), whole=st.booleans())
    def read(self, data: st.DataObject, whole: bool) -> None:
        self._read(data.draw(st.sampled_from([CURRENT, *sorted(self.keys)])), whole=whole)

    def _read(self, state: str, *, whole: bool) -> None:
        versions = self.disk if state == CURRENT else self.kept[state]
        self.model.seen[state] = Look(versions, self.model.now, whole)
        problems = () if whole else ("vdb was not read",)
        with self.records.transaction() as record:
            number = sum(version * 100**place for place, version in enumerate(versions.values()))
            digest, software = record.put_inventory(_inventory(versions), reads(number))
            found = scan(self.keys[state], digest, software=software, files=(identity(number),))
            record.put_scan(replace(found, scanned_at=self.model.now, problems=problems))
        self.judged = False

    @rule(
        days=st.sampled_from([0, 2, 7]),
        grace=SPANS,
        grace_exploited=SPANS,
        drifting=ACTIONS,
        unknown=ACTIONS,
        below_floor=ACTIONS,
    )
    def policy(
        self, days: int, grace: int, grace_exploited: int, drifting: str, unknown: str, below_floor: str
    ) -> None:
        excepted = self.model.wanted.excepted
        spans = grace * HOUR, grace_exploited * HOUR
        self.model.wanted = Wanted(days, *spans, drifting, unknown, below_floor, excepted)
        self.judged = False

    @rule(what=st.none() | EXCEPTED, days=st.integers(0, 5))
    def except_for_days(self, what: str | None, days: int) -> None:
        """Add an exception, or take all of them back."""
        last = self.model.now.date() + timedelta(days=days)
        self.model.wanted.excepted = [*self.model.wanted.excepted, (what, last)][-4:] if what else []
        self.judged = False

    @rule(running=st.booleans(), closed=st.sampled_from([False, False, True]))
    def run(self, running: bool, closed: bool) -> None:
        self.model.running, self.model.closed = running, closed
        with self.records.transaction() as record:
            power = Power.RUNNING if running else Power.OFF
            record.put_survey(survey(domain(1, power=power), at=self.model.now))
            if closed:
                record.put_hold(Hold(UUID, "", (), "r", self.model.now, pending=False))
            else:
                record.drop_hold(UUID, "r", self.model.now)
        self.judged = False

    @rule(hours=st.sampled_from([1, 12, 23, 25, 48, 73, 200]), anew=st.booleans())
    def wait(self, hours: int, anew: bool) -> None:
        """Let time pass; the agent may have begun anew since."""
        self.model.now += hours * HOUR
        self.judged = False
        if anew:
            self.judging = Judging(self.records, lambda: self.model.now)

    @rule(yes=st.sampled_from([False, False, True]))
    def pause(self, yes: bool) -> None:
        self.paused = yes

    def _round(self) -> None:
        advised = Advice(self._mark(), self._assess, lambda _: _index())
        policy = load_policy([("policy.yaml", self._policy().encode())], self.model.now.date())
        with self.records.reading() as record:
            current = record.scan(KEY)
        assert current is not None
        reached = Reached(UUID, current.software, current.scanned_at)
        raise_floors(self.records, [reached], advised.knowledge)
        self.judging.everything(policy, advised)
        self.model.round(list(self.keys))
        self.judged = True

    @invariant()
    def verdicts_are_the_models(self) -> None:
        if getattr(self, "paused", True) or self.judged:
            return
        self._round()
        with self.records.reading() as record:
            found = record.judgements()
            floor = {entry.source: entry.version for entry in record.floor(UUID).entries}
        assert floor == {source: f"1.{version}" for source, version in self.model.floor.items()}
        for state, key in self.keys.items():
            _compare(found[key], state, self.model)

    def _mark(self) -> str:
        return f"{self.edition}@{self._stale()}@{self.model.now:%Y-%m-%d}"

    def _stale(self) -> bool:
        return self.model.issued is None or self.model.now > self.model.issued + NEW_AFTER

    def _assess(self, about: Inventory) -> Assessment:
        """Say what the advisories know, as matching would."""
        versions = {package.source: package for package in about.packages}
        found = tuple(
            _finding(versions[source], name, flaw)
            for (source, name), flaw in self.model.flaws.items()
            if not flaw.fixed or int(versions[source].version.removeprefix("1.")) < flaw.fixed
        )
        unlisted = tuple(
            Unassessed(package.name, package.version, "no index lists it")
            for package in about.packages
            if package.version == f"1.{CLAIMED}"
        )
        issued = self.model.issued or BEGIN
        feeds = tuple(
            FeedStatus(name, str(self.edition), issued, issued, issued + NEW_AFTER, 1, stale=self._stale())
            for name in ("debian-tracker", "kev")
        )
        problems = ("the advisories are stale",) if self._stale() else ()
        lifetime = EndOfLife(date(2030, 1, 1), date(2032, 1, 1), "supported")
        return Assessment(found, (), unlisted, lifetime, feeds, problems)

    def _policy(self) -> str:
        wanted = self.model.wanted
        return json.dumps(
            {
                "version": "1",
                "defaults": {
                    "drifting": wanted.drifting,
                    "unknown": wanted.unknown,
                    "below_floor": wanted.below_floor,
                    "grace": f"{wanted.grace // HOUR}h",
                    "grace_exploited": f"{wanted.grace_exploited // HOUR}h",
                    "steady": {"fixable": {"severity": "high", "days": str(wanted.days)}},
                },
                "exceptions": [
                    {
                        ("vulnerability" if what in NAMES else "rule"): what,
                        "machine": "*",
                        "until": last.isoformat(),
                        "reason": "r",
                    }
                    for what, last in wanted.excepted
                ],
            }
        )


def _compare(found: Judgement, state: str, model: Model) -> None:
    said = model.said[state]
    rules = {one.rule: (one.outcome.value, one.until) for one in found.results if one.rule in said.rules}
    assert rules == said.rules, state
    told = found.verdict.value, found.action.value, found.since
    assert told == (said.word, said.action, said.since), state


def _inventory(versions: dict[str, int]) -> Inventory:
    packages = (
        Package("dpkg", source, f"1.{version}", "amd64", source, f"1.{version}")
        for source, version in versions.items()
    )
    return replace(inventory(0), packages=tuple(packages))


def _index() -> Knowledge:
    """Return the release's index: all versions but the one that only a guest claims."""
    listed = tuple(("bookworm", f"1.{version}") for version in LISTED)
    return Knowledge(RELEASE, archive=dict.fromkeys(SOURCES, listed), has_index=True)


def _finding(package: Package, name: str, flaw: Flaw) -> Finding:
    return Finding(
        vulnerability=name,
        packages=(package.name,),
        source=package.source,
        installed_version=package.version,
        fixed_version=f"1.{flaw.fixed}" if flaw.fixed else "",
        fix=FixState.FIXABLE if flaw.fixed else FixState.UNFIXED,
        severity=Severity(flaw.severity),
        severity_source="",
        advisories=(),
        feeds=(),
        fixed_on=flaw.dated,
        known_exploited_on=BEGIN.date() if flaw.exploited else None,
    )


class TestVerdicts(Verdicts.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        max_examples=max(150, settings.default.max_examples),
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no mistake
    )
