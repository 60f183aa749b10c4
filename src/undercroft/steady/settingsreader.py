"""The keys of `defaults` and of a rule: from nodes to fields of `Settings`."""

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from undercroft.model.finding import Severity
from undercroft.model.verdict import Action
from undercroft.steady import nodes
from undercroft.steady.durations import words
from undercroft.steady.nodes import Node, Place
from undercroft.steady.policy import (
    BootStance,
    ConfirmStart,
    CoverageStance,
    EndOfLifeStance,
    Need,
    Overrides,
    Setting,
    Stance,
    Unenforceable,
    UnknownSeverity,
)
from undercroft.steady.shapes import Checker

MAX_FIXABLE_DAYS = 3660
MIN_SCANNED_WITHIN = timedelta(minutes=5)
"""What the agent can keep: it looks every minute who is to be read, from half of this on."""

Handler = Callable[[Node, Place], None]

_STEADY_CHOICES: dict[str, type[StrEnum]] = {
    "known_exploited": Stance,
    "end_of_life": EndOfLifeStance,
    "coverage": CoverageStance,
    "boots_from": BootStance,
    "unknown_severity": UnknownSeverity,
    "floor": Need,
    "genid": Need,
}
_CHOICES: dict[str, type[StrEnum]] = {
    "drifting": Action,
    "unknown": Action,
    "below_floor": Action,
    "expired": Action,
    "template_start": Action,
    "confirm_start": ConfirmStart,
    "unenforceable": Unenforceable,
    "reseed": Need,
}


class _RatedSeverity(StrEnum):
    """Severities that a policy can ask for: all that somebody gave."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NEGLIGIBLE = "negligible"


class SettingsReader:
    """Collects the fields that one mapping gives; `overrides` holds them afterwards."""

    def __init__(self, checker: Checker, what: str) -> None:
        self._checker = checker
        self._what = what
        self._said: dict[str, Setting[Any]] = {}

    @property
    def overrides(self) -> Overrides:
        """What was said, by field of `Settings`."""
        return self._said

    def handlers(self) -> dict[str, Handler]:
        """Return what reads each key."""
        handlers: dict[str, Handler] = {"steady": self._steady}
        for name, choices in _CHOICES.items():
            handlers[name] = partial(self._choice, name, name, choices)
        for name in ("grace", "grace_exploited"):
            handlers[name] = partial(self._duration, name, name)
        handlers["retention"] = self._retention
        return handlers

    def _say(self, field: str, value: object, place: Place) -> None:
        self._said[field] = Setting(value, place.source)

    def _choice(self, field: str, key: str, choices: type[StrEnum], node: Node, place: Place) -> None:
        value = self._checker.choice(node, f"{self._what}.{key}", choices)
        if value is not None:
            self._say(field, value, place)

    def _duration(self, field: str, key: str, node: Node, place: Place) -> None:
        value = self._checker.duration(node, f"{self._what}.{key}")
        if value is not None:
            self._say(field, value, place)

    def _steady(self, node: Node, _: Place) -> None:
        handlers: dict[str, Handler] = {
            name: partial(self._choice, name, f"steady.{name}", choices)
            for name, choices in _STEADY_CHOICES.items()
        }
        handlers["fixable"] = self._fixable
        handlers["scanned_within"] = self._scanned_within
        self._checker.mapping(node, f"{self._what}.steady", handlers)

    def _scanned_within(self, node: Node, place: Place) -> None:
        what = f"{self._what}.steady.scanned_within"
        span = self._checker.duration(node, what)
        if span == timedelta(0):
            self._checker.note(node.place, f"{what}: found no time at all, which no scan meets; 24h is usual")
        elif span is not None and span < MIN_SCANNED_WITHIN:
            least = int(MIN_SCANNED_WITHIN.total_seconds() // 60)
            self._checker.note(
                node.place,
                f"{what}: found {words(span)}; at least {least}m is possible, since reading a running machine"
                " holds it and machines take turns; 24h is usual",
            )
        elif span is not None:
            self._say("scanned_within", span, place)

    def _fixable(self, node: Node, place: Place) -> None:
        what = f"{self._what}.steady.fixable"
        if isinstance(node, nodes.Scalar) and node.text == Stance.ALLOW:
            self._say("fixable", None, place)
            return
        if not isinstance(node, nodes.Mapping):
            self._checker.note(
                node.place, f"{what}: 'allow', or keys are possible: {{severity: high, days: 7}}"
            )
            return
        self._checker.mapping(
            node, what, {"severity": partial(self._severity, what), "days": partial(self._days, what)}
        )

    def _severity(self, what: str, node: Node, place: Place) -> None:
        rated = self._checker.choice(node, f"{what}.severity", _RatedSeverity)
        if rated is not None:
            self._say("fixable", Severity(rated.value), place)

    def _days(self, what: str, node: Node, place: Place) -> None:
        days = self._checker.whole_number(node, f"{what}.days", MAX_FIXABLE_DAYS)
        if days is not None:
            self._say("fixable_days", days, place)

    def _retention(self, node: Node, _: Place) -> None:
        what = f"{self._what}.retention"
        self._checker.mapping(node, what, {"snapshots": self._snapshots})

    def _snapshots(self, node: Node, _: Place) -> None:
        key = "retention.snapshots.max_age"
        handler = partial(self._duration, "snapshots_max_age", key)
        self._checker.mapping(node, f"{self._what}.retention.snapshots", {"max_age": handler})
