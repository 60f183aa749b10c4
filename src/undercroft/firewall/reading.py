"""The firewall's part of a policy, from the same files as the rest; or everything that is wrong with it.

    labels:    {web: {machines: "web*"}, quarantine: {verdict: quarantined}}
    services:  {postgres: tcp/5432}
    addresses: {web01: 10.0.0.7, patch-mirror: [192.0.2.10, "2001:db8::10"]}
    firewall:  [{from: web, to: db, allow: [postgres, icmp], log: true}]
    never:     [{from: quarantine, to: "*", except: patch-mirror, hops: 3}]
    ports:     {machines: [vnet], uplinks: [eth0], others: denied}
    vlans:     {router: [10, 20]}
    firewall_log: {packets: 10, per: second, burst: 20, group: 5}
    firewall_drift: repair
    firewall_openings: 1000

Keys of other parts are left to who reads them. Names may be used before the line, or the file, that gives
them; what two files say is one policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from undercroft.errors import InputError
from undercroft.firewall.labelling import label_rules
from undercroft.firewall.never import Contradiction, contradictions
from undercroft.firewall.peers import Names, peer_of, service_list
from undercroft.firewall.policy import (
    MAX_HOPS,
    FirewallPolicy,
    Flow,
    LabelRule,
    NamedAddresses,
    Never,
    Peer,
    Service,
)
from undercroft.firewall.settings import Settings
from undercroft.firewall.shapes import name, networks
from undercroft.firewall.vlanreading import VlanReader
from undercroft.steady import nodes
from undercroft.steady.nodes import Node, Place, Problem, UnreadableError, read
from undercroft.steady.shapes import Checker, possible

MAX_RULES = 10_000
"""Of flows and of nevers, before and after each list of peers was taken apart."""
_Made = TypeVar("_Made", Flow, Never)


@dataclass(frozen=True, slots=True)
class FirewallReading:
    """A policy, or None and what is wrong, in the order of the files and lines."""

    policy: FirewallPolicy | None
    problems: tuple[Problem, ...] = ()


def load_firewall(texts: Sequence[tuple[str, bytes]]) -> FirewallPolicy:
    """Return the policy. Raises InputError with one line for each mistake; the argument is `check`'s."""
    reading = check(texts)
    if reading.policy is None:
        raise InputError("\n".join(map(str, reading.problems)))
    return reading.policy


def check(texts: Sequence[tuple[str, bytes]]) -> FirewallReading:
    """Return the policy with nothing wrong, or all mistakes, or where it allows what may never be.

    Args:
        texts: name and bytes of each file, in their order.
    """
    reader = _Reader()
    for file, data in texts:
        try:
            node = read(file, data)
        except UnreadableError as error:
            reader.checker.problems.append(error.problem)
            continue
        if isinstance(node, nodes.Mapping):
            reader.file(node)
    policy = reader.policy()
    problems = reader.checker.problems
    if not problems:
        problems = [_problem(found) for found in contradictions(policy)]
    order = {file: number for number, (file, _) in enumerate(texts)}
    problems.sort(key=lambda item: (order.get(item.place.file, 0), item.place.line, item.place.column))
    return FirewallReading(None, tuple(problems)) if problems else FirewallReading(policy)


def _problem(found: Contradiction) -> Problem:
    file, _, line = found.never.place.rpartition(":")
    return Problem(Place(file, int(line), 1), str(found))


@dataclass(slots=True)
class _Rule:
    """A flow or a `Never` as it stands; its names are looked up when all files have been read."""

    what: str
    place: Place
    said: dict[str, Node] = field(default_factory=dict)


class _Reader:
    """Gathers what the files say."""

    def __init__(self) -> None:
        self.checker = Checker()
        self._names = Names()
        self._labels: list[LabelRule] = []
        self._addresses: dict[str, NamedAddresses] = {}
        self._services: list[tuple[str, Node]] = []
        self._flows: list[_Rule] = []
        self._nevers: list[_Rule] = []
        self._settings = Settings(self.checker)
        self._vlans = VlanReader(self.checker)

    def file(self, node: nodes.Mapping) -> None:
        """Read one file."""
        handlers: dict[str, Callable[[Node], None]] = {
            "labels": lambda value: self._labels.extend(label_rules(self.checker, value)),
            "services": self._read_services,
            "addresses": self._read_addresses,
            "firewall": partial(self._read_rules, self._flows, "firewall"),
            "never": partial(self._read_rules, self._nevers, "never"),
            "vlans": self._vlans.read,
            **self._settings.handlers,
        }
        for key, value in node.pairs:
            if isinstance(key, nodes.Scalar) and key.text in handlers:
                handlers[key.text](value)

    def policy(self) -> FirewallPolicy:
        """Return the policy; only whole where the checker noted nothing."""
        names = self._names
        names.labels |= {rule.name for rule in self._labels}
        names.addresses |= self._addresses
        for said, node in self._services:
            names.services[said] = service_list(self.checker, node, f"services.{said}", Names())
        return FirewallPolicy(
            labels=tuple(self._labels),
            flows=self._each(self._flows, self._flow),
            nevers=self._each(self._nevers, self._never),
            addresses=tuple(self._addresses.values()),
            ports=self._settings.ports,
            log=self._settings.log,
            drift=self._settings.drift,
            openings_per_s=self._settings.openings_per_s,
            vlans=self._vlans.grants({*names.labels, *names.addresses}),
        )

    def _each(self, rules: list[_Rule], made: Callable[[_Rule], list[_Made]]) -> tuple[_Made, ...]:
        """Return what the rules come to: one for each pair of a source and a target."""
        found: list[_Made] = []
        for rule in rules:
            found += made(rule)
            if len(found) > MAX_RULES:
                pairs = f"more than {MAX_RULES:,} pairs of a source and a target up to here"
                self.checker.note(rule.place, f"{rule.what}: {pairs}; use labels")
                break
        return tuple(found)

    def _read_services(self, node: Node) -> None:
        if not isinstance(node, nodes.Mapping):
            self.checker.mapping(node, "services", {})
            return
        for key, value in node.pairs:
            said = name(self.checker, key, "services")
            if said and said in dict(self._services):
                self.checker.note(key.place, f"services: {said} stands twice; keep one")
            elif said:
                self._services.append((said, value))

    def _read_addresses(self, node: Node) -> None:
        if not isinstance(node, nodes.Mapping):
            self.checker.mapping(node, "addresses", {})
            return
        for key, value in node.pairs:
            said = name(self.checker, key, "addresses")
            found = networks(self.checker, value, f"addresses.{said}")
            if said and said in self._addresses:
                first = self._addresses[said].place
                self.checker.note(key.place, f"addresses: {said} stands already at {first}; keep one")
            elif said:
                self._addresses[said] = NamedAddresses(said, found, key.place.source)

    def _read_rules(self, rules: list[_Rule], what: str, node: Node) -> None:
        for number, item in enumerate(self.checker.sequence(node, what), 1):
            if len(rules) == MAX_RULES:
                self.checker.note(item.place, f"{what}: more than {MAX_RULES:,} rules; use labels")
                return
            rules.append(rule := _Rule(f"{what}[{number}]", item.place))
            keys = ("from", "to", "allow", "log") if what == "firewall" else _NEVER_KEYS
            required = ("from", "to", "allow") if what == "firewall" else ("from", "to")
            self.checker.mapping(
                item, rule.what, {key: partial(self._keep, rule, key) for key in keys}, required=required
            )

    def _keep(self, rule: _Rule, key: str, node: Node, _: Place) -> None:
        rule.said[key] = node

    def _flow(self, rule: _Rule) -> list[Flow]:
        if not rule.said.keys() >= {"from", "to", "allow"}:
            return []
        services = service_list(self.checker, rule.said["allow"], f"{rule.what}.allow", self._names)
        log = "log" in rule.said and self._flag(rule.said["log"], f"{rule.what}.log")
        sources, targets = self._peers(rule, "from"), self._peers(rule, "to")
        return [
            Flow(source, target, services, log, rule.place.source) for source in sources for target in targets
        ]

    def _never(self, rule: _Rule) -> list[Never]:
        if not rule.said.keys() >= {"from", "to"}:
            return []
        services: tuple[Service, ...] = ()
        if "services" in rule.said:
            services = service_list(self.checker, rule.said["services"], f"{rule.what}.services", self._names)
        hops = 1
        if "hops" in rule.said:
            node = rule.said["hops"]
            hops = self.checker.whole_number(node, f"{rule.what}.hops", MAX_HOPS) or 0
            if hops == 0 and isinstance(node, nodes.Scalar) and node.text == "0":
                self.checker.note(node.place, f"{rule.what}.hops: found 0; 1 is possible, a direct flow")
        exceptions = tuple(self._peers(rule, "except")) if "except" in rule.said else ()
        sources, targets = self._peers(rule, "from"), self._peers(rule, "to")
        return [
            Never(source, target, exceptions, services, hops, rule.place.source)
            for source in sources
            for target in targets
        ]

    def _peers(self, rule: _Rule, key: str) -> list[Peer]:
        node, what = rule.said[key], f"{rule.what}.{key}"
        items = node.items if isinstance(node, nodes.Sequence) else (node,)
        if not items:
            self.checker.note(node.place, f"{what}: found an empty list; leave the rule out")
        return [peer for item in items if (peer := peer_of(self.checker, item, what, self._names))]

    def _flag(self, node: Node, what: str) -> bool:
        text = node.text if isinstance(node, nodes.Scalar) else ""
        if text not in {"true", "false"}:
            self.checker.note(node.place, f"{what}: found {text[:64]!r}; {possible(text, ['true', 'false'])}")
        return text == "true"


_NEVER_KEYS = ("from", "to", "except", "services", "hops")
