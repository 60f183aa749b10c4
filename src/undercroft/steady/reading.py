"""From the texts of a policy to the policy, or to everything that is wrong with it.

Several files are one policy: their rules and lists follow each other in the order of the files; what can
be said once (`defaults`, `agent_away`) may be spread over them, but nothing may be said twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

from undercroft.errors import InputError
from undercroft.model.verdict import Action
from undercroft.steady.nodes import Node, Place, Problem, UnreadableError, read
from undercroft.steady.policy import AgentAway, Match, Policy, Rule, Setting, Settings, Waiver
from undercroft.steady.rules import EXCEPTABLE
from undercroft.steady.settingsreader import Handler, SettingsReader
from undercroft.steady.shapes import Checker, possible

MAX_EXCEPTION_DAYS = 366
MAX_FILES = 1000
FIREWALL_KEYS = (
    "labels",
    "services",
    "addresses",
    "firewall",
    "never",
    "ports",
    "firewall_log",
    "firewall_drift",
    "firewall_openings",
    "vlans",
)
"""Keys of the same files that `firewall.reading` reads."""

_VERSION = "1"
_MATCH_FIELDS = {
    "name": "names",
    "label": "labels",
    "owner": "owners",
    "network": "networks",
    "host": "hosts",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A policy, or None and what is wrong, in the order of the files and lines."""

    policy: Policy | None
    problems: tuple[Problem, ...] = ()


def load_policy(texts: Sequence[tuple[str, bytes]], today: date) -> Policy:
    """Return the policy. Raises InputError with one line for each mistake; the arguments are `check`'s."""
    reading = check(texts, today)
    if reading.policy is None:
        raise InputError("\n".join(map(str, reading.problems)))
    return reading.policy


def check(texts: Sequence[tuple[str, bytes]], today: date) -> Reading:
    """Return the policy with nothing wrong, or everything that is wrong.

    Args:
        texts: name and bytes of each file, in their order; at least one.
        today: exceptions may reach a year from here.
    """
    reader = _Reader(today)
    names = [name for name, _ in texts]
    if not texts:
        reader.checker.note(Place("policy", 1, 1), "no file; a policy is one file or a folder of *.yaml")
    if len(texts) > MAX_FILES:
        reader.checker.note(Place(names[0], 1, 1), f"{len(texts)} files; at most {MAX_FILES} are possible")
        texts = ()
    for name, data in texts:
        try:
            node = read(name, data)
        except UnreadableError as error:
            reader.checker.problems.append(error.problem)
            continue
        if node is None:
            reader.checker.note(
                Place(name, 1, 1), f"found nothing; a policy begins with 'version: {_VERSION}'"
            )
        else:
            reader.file(node)
    if reader.checker.problems:
        order = {name: number for number, name in enumerate(names)}
        problems = sorted(
            reader.checker.problems,
            key=lambda problem: (order.get(problem.place.file, 0), problem.place.line, problem.place.column),
        )
        return Reading(None, tuple(problems))
    return Reading(replace(reader.policy(), files=tuple(names)))


class _Reader:
    """Gathers what the files say."""

    def __init__(self, today: date) -> None:
        self.checker = Checker()
        self._today = today
        self._defaults: dict[str, Setting[Any]] = {}
        self._rules: list[Rule] = []
        self._exceptions: list[Waiver] = []
        self._away: dict[str, Setting[Any]] = {}
        self._break_glass: list[str] = []
        self._backing: list[str] = []

    def policy(self) -> Policy:
        """Return the policy; only whole where the checker noted nothing."""
        away = {name: said.value for name, said in self._away.items()}
        return Policy(
            defaults=replace(Settings(), **self._defaults),
            rules=tuple(self._rules),
            exceptions=tuple(self._exceptions),
            agent_away=replace(AgentAway(), **away),
            break_glass=tuple(self._break_glass),
            backing=tuple(self._backing),
        )

    def file(self, node: Node) -> None:
        """Read one file."""
        handlers = {
            "version": self._version,
            "defaults": self._read_defaults,
            "rules": self._read_rules,
            "exceptions": self._read_exceptions,
            "agent_away": self._agent_away,
            "break_glass": self._read_break_glass,
            "images": self._images,
            **dict.fromkeys(FIREWALL_KEYS, _left_to_the_firewall),
        }
        self.checker.mapping(node, "the policy", handlers, required=["version"])

    def _version(self, node: Node, _: Place) -> None:
        text = self.checker.text(node, "version", _VERSION)
        if text is not None and text != _VERSION:
            self.checker.note(node.place, f"version: found {text!r}; {_VERSION} is possible")

    def _read_defaults(self, node: Node, _: Place) -> None:
        reader = SettingsReader(self.checker, "defaults")
        self.checker.mapping(node, "defaults", reader.handlers())
        self._once("defaults", self._defaults, dict(reader.overrides), node)

    def _once(
        self, what: str, known: dict[str, Setting[Any]], said: dict[str, Setting[Any]], node: Node
    ) -> None:
        """Take over what one file says, unless another file has said it."""
        for name in known.keys() & said.keys():
            line = int(said[name].source.rpartition(":")[2])
            place = replace(node.place, line=line, column=1)
            self.checker.note(place, f"{what}: {name} is said already at {known[name].source}; keep one")
        known |= said

    def _read_rules(self, node: Node, _: Place) -> None:
        for number, item in enumerate(self.checker.sequence(node, "rules"), 1):
            what = f"rules[{number}]"
            reader = SettingsReader(self.checker, what)
            matches: list[Match] = []
            handlers: dict[str, Handler] = {
                "match": partial(self._match, f"{what}.match", matches),
                **reader.handlers(),
            }
            before = len(self.checker.problems)
            self.checker.mapping(item, what, handlers, required=["match"])
            if len(self.checker.problems) == before and not reader.overrides:
                self.checker.note(item.place, f"{what}: says nothing about what it matches; add a field")
            if matches:
                self._rules.append(Rule(matches[0], reader.overrides, item.place.source))

    def _match(self, what: str, matches: list[Match], node: Node, _: Place) -> None:
        found: dict[str, tuple[str, ...]] = {}
        patterns = "a text with * and ?, or a list of them,"
        before = len(self.checker.problems)
        self.checker.mapping(
            node,
            what,
            {
                key: partial(self._patterns, f"{what}.{key}", patterns, found, field)
                for key, field in _MATCH_FIELDS.items()
            },
        )
        if not found and len(self.checker.problems) == before:
            self.checker.note(node.place, f"{what}: names nothing; to match every machine, say name: '*'")
        matches.append(Match(**found))

    def _patterns(
        self, what: str, possible: str, found: dict[str, tuple[str, ...]], field: str, node: Node, _: Place
    ) -> None:
        found[field] = self.checker.texts(node, what, possible)

    def _read_exceptions(self, node: Node, _: Place) -> None:
        for number, item in enumerate(self.checker.sequence(node, "exceptions"), 1):
            self._exception(f"exceptions[{number}]", item)

    def _exception(self, what: str, item: Node) -> None:
        checker, said = self.checker, dict[str, Any]()
        last = self._today + timedelta(days=MAX_EXCEPTION_DAYS)

        def keep(key: str, value: object) -> None:
            said[key] = value

        checker.mapping(
            item,
            what,
            {
                "machine": lambda node, _: keep("names", checker.texts(node, f"{what}.machine")),
                "label": lambda node, _: keep("labels", checker.texts(node, f"{what}.label")),
                "vulnerability": lambda node, _: keep("cves", checker.texts(node, f"{what}.vulnerability")),
                "rule": lambda node, _: keep("rule", self._rule_name(f"{what}.rule", node)),
                "until": lambda node, _: keep("until", checker.day(node, f"{what}.until", last)),
                "reason": lambda node, _: keep("reason", checker.text(node, f"{what}.reason")),
            },
            required=["until", "reason"],
        )
        if not said.keys() & {"names", "labels"}:
            checker.note(item.place, f"{what}: names no machine; machine or label is needed, '*' is possible")
        if len(said.keys() & {"cves", "rule"}) != 1:
            checker.note(item.place, f"{what}: exactly one of vulnerability and rule is needed")
        if checker.problems:
            return
        self._exceptions.append(
            Waiver(
                match=Match(names=said.get("names", ()), labels=said.get("labels", ())),
                rule=said.get("rule", ""),
                vulnerabilities=frozenset(said.get("cves", ())),
                until=said["until"],
                reason=said["reason"],
                source=item.place.source,
            )
        )

    def _rule_name(self, what: str, node: Node) -> str:
        name = self.checker.text(node, what, "the name of a rule")
        if name is not None and name not in EXCEPTABLE:
            self.checker.note(node.place, f"{what}: found {name!r}; {possible(name, EXCEPTABLE)}")
        return name or ""

    def _agent_away(self, node: Node, _: Place) -> None:
        said: dict[str, Setting[Any]] = {}
        checker = self.checker

        def keep(key: str, value: object, place: Place) -> None:
            said[key] = Setting(value, place.source)

        checker.mapping(
            node,
            "agent_away",
            {
                "default": lambda item, place: keep(
                    "default", checker.choice(item, "agent_away.default", Action), place
                ),
                "last_decision": lambda item, place: keep(
                    "last_decision", checker.duration(item, "agent_away.last_decision"), place
                ),
            },
        )
        self._once("agent_away", self._away, said, node)

    def _read_break_glass(self, node: Node, _: Place) -> None:
        for item in self.checker.sequence(node, "break_glass"):
            self._break_glass += self.checker.texts(item, "break_glass", "the name of a machine")

    def _images(self, node: Node, _: Place) -> None:
        self.checker.mapping(node, "images", {"backing": self._read_backing})

    def _read_backing(self, node: Node, _: Place) -> None:
        for item in self.checker.sequence(node, "images.backing"):
            path = self.checker.text(item, "images.backing", "an absolute path, with * and ?,")
            if path is not None and not path.startswith("/"):
                self.checker.note(item.place, f"images.backing: found {path!r}; an absolute path is possible")
            self._backing += [path] if path else []


def _left_to_the_firewall(_node: Node, _place: Place) -> None:
    """Take note of nothing."""
