"""What a policy says beside its rules: what bridge ports are, what is logged, what a foreign change meets.

    ports:          {machines: [vnet], uplinks: [eth0], others: denied}
    firewall_log:   {packets: 10, per: second, burst: 20, group: 5}
    firewall_drift: repair
    firewall_openings: 1000

Several files may say parts of it; two that say the same part contradict each other, even with equal values.
"""

from collections.abc import Callable, Mapping
from functools import partial

from undercroft.firewall.policy import (
    MAX_OPENINGS_PER_S,
    Drift,
    FirewallPolicy,
    LogRate,
    OtherPorts,
    Ports,
)
from undercroft.firewall.shapes import device
from undercroft.steady import nodes
from undercroft.steady.nodes import Node, Place
from undercroft.steady.shapes import Checker, possible

MAX_LOGGED = 100_000
MAX_GROUP = 65_535
"""NFLOG groups have 16 bits."""
_SPANS_S = {"second": 1, "minute": 60, "hour": 3600}


class Settings:
    """Gathers them; only whole where the checker noted nothing."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._said: dict[str, Place] = {}
        self._ports: dict[str, object] = {}
        self._log: dict[str, int] = {}
        self.drift = Drift.REPAIR
        self.openings_per_s = FirewallPolicy().openings_per_s

    @property
    def handlers(self) -> Mapping[str, Callable[[Node], None]]:
        """Key of a policy -> what reads its value."""
        return {
            "ports": self._read_ports,
            "firewall_log": self._read_log,
            "firewall_drift": self._read_drift,
            "firewall_openings": self._read_openings,
        }

    @property
    def ports(self) -> Ports:
        """Which bridge ports are what."""
        return Ports(**self._ports)  # type: ignore[arg-type]

    @property
    def log(self) -> LogRate:
        """What is told of denials."""
        return LogRate(**self._log)

    def _once(self, what: str, place: Place) -> None:
        first = self._said.setdefault(what, place)
        if first is not place:
            self._checker.note(place, f"{what} is said already at {first}; keep one")

    def _read_ports(self, node: Node) -> None:
        checker = self._checker

        def devices(key: str, item: Node, place: Place) -> None:
            self._once(f"ports.{key}", place)
            items = item.items if isinstance(item, nodes.Sequence) else (item,)
            found = (device(checker, one, f"ports.{key}") for one in items)
            self._ports[key] = tuple(text for text in found if text)

        def others(item: Node, place: Place) -> None:
            self._once("ports.others", place)
            self._ports["others"] = checker.choice(item, "ports.others", OtherPorts)

        shapes = {key: partial(devices, key) for key in ("machines", "uplinks")}
        checker.mapping(node, "ports", shapes | {"others": others})

    def _read_log(self, node: Node) -> None:
        checker = self._checker

        def number(key: str, highest: int, item: Node, place: Place) -> None:
            self._once(f"firewall_log.{key}", place)
            self._log[key] = checker.whole_number(item, f"firewall_log.{key}", highest) or 0

        def per(item: Node, place: Place) -> None:
            self._once("firewall_log.per", place)
            text = item.text if isinstance(item, nodes.Scalar) else ""
            if text not in _SPANS_S:
                checker.note(
                    item.place, f"firewall_log.per: found {text[:64]!r}; {possible(text, list(_SPANS_S))}"
                )
            self._log["per_s"] = _SPANS_S.get(text, 1)

        limits = {"packets": MAX_LOGGED, "burst": MAX_LOGGED, "group": MAX_GROUP}
        shapes = {key: partial(number, key, highest) for key, highest in limits.items()}
        checker.mapping(node, "firewall_log", shapes | {"per": per})

    def _read_drift(self, node: Node) -> None:
        self._once("firewall_drift", node.place)
        self.drift = self._checker.choice(node, "firewall_drift", Drift) or Drift.REPAIR

    def _read_openings(self, node: Node) -> None:
        what = "firewall_openings"
        self._once(what, node.place)
        found = self._checker.whole_number(node, what, MAX_OPENINGS_PER_S)
        if found == 0:
            self._checker.note(node.place, f"{what}: found 0, with which nothing can be opened; leave it out")
        self.openings_per_s = found or self.openings_per_s
