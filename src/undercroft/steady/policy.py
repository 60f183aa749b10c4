"""What an administrator demands of machines, as values. docs/POLICY.md explains every one of them.

The defaults are for the first day: they say what is steady and refuse nothing for it, so that a fleet can
be looked at before anything is enforced. Only what nobody does by accident acts at once: a start from below
the machine's own patch floor, past its expiry, or of a template.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

from undercroft.model.finding import Severity
from undercroft.model.schema import Json
from undercroft.model.verdict import Action

Value_co = TypeVar("Value_co", covariant=True)

DEFAULT = "default"
"""Source of what no file says."""


class Stance(StrEnum):
    """Whether a policy minds."""

    FORBID = "forbid"
    ALLOW = "allow"


class EndOfLifeStance(StrEnum):
    """Which releases are taken. EXTENDED: also one that only LTS or ESM still supports."""

    FORBID = "forbid"
    EXTENDED = "extended"
    ALLOW = "allow"


class CoverageStance(StrEnum):
    """How much of a disk has to be read."""

    WHOLE = "whole"
    ANY = "any"


class BootStance(StrEnum):
    """What a machine may run: what its disks hold, which scans read, or anything that its definition has."""

    DISKS = "disks"
    ANY = "any"


class UnknownSeverity(StrEnum):
    """What a severity that no source gives counts as: the worst, or nothing."""

    FAIL = "fail"
    PASS = "pass"  # noqa: S105 - no password


class Need(StrEnum):
    """Whether something has to be there."""

    REQUIRED = "required"
    IGNORED = "ignored"


class ConfirmStart(StrEnum):
    """When taps stay closed until it is seen how a machine began. AUTO: where a state could be loaded."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Unenforceable(StrEnum):
    """What happens to a machine that should be quarantined and has an interface that cannot be held."""

    REFUSE = "refuse"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Setting(Generic[Value_co]):
    """One value and where it was said: "policy.yaml:12", or `DEFAULT`."""

    value: Value_co
    source: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a policy says about one machine.

    Attributes:
        known_exploited: of findings that are known to be exploited, fixable or not.
        fixable: from which severity on a fix has to be installed, None for no severity.
        fixable_days: for how many days a fix may be missing once the release offers it.
        end_of_life: which releases are taken.
        scanned_within: how old a scan may be.
        coverage: how much of the disks has to be read.
        boots_from: what it may run.
        unknown_severity: what a severity that no source gives counts as under `fixable`.
        floor: whether a state may lack what its machine once had.
        genid: whether a machine's definition has to have `<genid/>`.
        drifting: what a start meets when a rule fails for which nothing else is said.
        unknown: the same where a rule has no answer; never milder than what its failure would meet.
        below_floor, expired, template_start: the same for one rule each.
        grace: how long a machine that was in order may fail before it is acted upon.
        grace_exploited: the same for known-exploited findings.
        confirm_start: when taps stay closed until it is seen how a machine began.
        unenforceable: for interfaces that cannot be held.
        reseed: whether taps stay closed until the guest has confirmed fresh randomness.
        snapshots_max_age: how old snapshots may get, None for any age.
    """

    known_exploited: Setting[Stance] = Setting(Stance.FORBID)
    fixable: Setting[Severity | None] = Setting(Severity.HIGH)
    fixable_days: Setting[int] = Setting(7)
    end_of_life: Setting[EndOfLifeStance] = Setting(EndOfLifeStance.EXTENDED)
    scanned_within: Setting[timedelta] = Setting(timedelta(hours=24))
    coverage: Setting[CoverageStance] = Setting(CoverageStance.WHOLE)
    boots_from: Setting[BootStance] = Setting(BootStance.ANY)
    unknown_severity: Setting[UnknownSeverity] = Setting(UnknownSeverity.FAIL)
    floor: Setting[Need] = Setting(Need.REQUIRED)
    genid: Setting[Need] = Setting(Need.IGNORED)
    drifting: Setting[Action] = Setting(Action.ALLOW)
    unknown: Setting[Action] = Setting(Action.ALLOW)
    below_floor: Setting[Action] = Setting(Action.QUARANTINE)
    expired: Setting[Action] = Setting(Action.REFUSE)
    template_start: Setting[Action] = Setting(Action.REFUSE)
    grace: Setting[timedelta] = Setting(timedelta(0))
    grace_exploited: Setting[timedelta] = Setting(timedelta(0))
    confirm_start: Setting[ConfirmStart] = Setting(ConfirmStart.AUTO)
    unenforceable: Setting[Unenforceable] = Setting(Unenforceable.REFUSE)
    reseed: Setting[Need] = Setting(Need.IGNORED)
    snapshots_max_age: Setting[timedelta | None] = Setting(None)


@dataclass(frozen=True, slots=True)
class Target:
    """What rules and exceptions are matched with; the host's words, no guest's.

    `name` is the machine's name, for an image of no machine its path. `networks` are names of libvirt
    networks and bridges.
    """

    name: str
    labels: tuple[str, ...] = ()
    owner: str = ""
    networks: tuple[str, ...] = ()
    host: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Which machines are meant: every criterion that is given has to fit; patterns are fnmatch's."""

    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def fits(self, target: Target) -> bool:
        """Tell whether all criteria fit; without any, all machines do."""
        pairs = (
            (self.names, (target.name,)),
            (self.labels, target.labels),
            (self.owners, (target.owner,)),
            (self.networks, target.networks),
            (self.hosts, (target.host,)),
        )
        return all(not patterns or _any_fits(patterns, values) for patterns, values in pairs)


def _any_fits(patterns: Sequence[str], values: Sequence[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns for value in values)


Overrides = Mapping[str, Setting[Any]]
"""Fields of `Settings` that something says, by name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said of some machines; later rules win, field by field."""

    match: Match
    overrides: Overrides
    source: str


@dataclass(frozen=True, slots=True)
class Waiver:
    """An exception: one rule or some vulnerabilities do not count for some machines, until a day.

    Attributes:
        match: by name and label.
        rule: the rule that does not count, "" where vulnerabilities are named.
        vulnerabilities: those that do not count, () where a rule is named.
        until: the last day on which it counts, in UTC.
        reason: for people.
        source: where it stands.
    """

    match: Match
    rule: str
    vulnerabilities: frozenset[str]
    until: date
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class AgentAway:
    """What the hook does while no agent answers.

    Attributes:
        default: for a machine without a last decision that counts.
        last_decision: how long the agent's last decision counts.
    """

    default: Action = Action.ALLOW
    last_decision: timedelta = timedelta(hours=72)


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy.

    Attributes:
        defaults: for every machine.
        rules: in order.
        exceptions: in order.
        agent_away: for the hook alone.
        break_glass: names of machines (patterns) that start even then.
        backing: patterns of paths that may serve as backing files beside what libvirt names.
        files: names of the files that it was read from; () for the built-in one.
    """

    defaults: Settings = Settings()
    rules: tuple[Rule, ...] = ()
    exceptions: tuple[Waiver, ...] = ()
    agent_away: AgentAway = AgentAway()
    break_glass: tuple[str, ...] = ()
    backing: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def settings(self, target: Target) -> Settings:
        """Return what holds for one machine."""
        return self.overlaid([number for number, rule in enumerate(self.rules) if rule.match.fits(target)])

    def overlaid(self, numbers: Sequence[int]) -> Settings:
        """Return the defaults with the rules of these numbers over them, in this order."""
        said: dict[str, Setting[Any]] = {}
        for number in numbers:
            said |= self.rules[number].overrides
        return replace(self.defaults, **said)

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal over what it says; not over where it says so, nor over comments."""
        document = _canonical(replace(self, files=()))
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> Json:
    """Return `value` without its sources, as JSON whose text is the same for the same policy."""
    match value:
        case Setting(value=inner):
            return _canonical(inner)
        case None | bool() | int() | str():
            return value
        case timedelta():
            return int(value.total_seconds())
        case date():
            return value.isoformat()
        case frozenset():
            return [*sorted(map(str, value))]
        case tuple() | list():
            return [_canonical(item) for item in value]
        case dict():
            return {str(name): _canonical(item) for name, item in value.items()}
        case _:
            names = [field.name for field in fields(value) if field.name != "source"]  # type: ignore[arg-type]
            return {name: _canonical(getattr(value, name)) for name in names}
