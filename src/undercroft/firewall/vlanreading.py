"""Which VLANs machines of a label may use, read from a policy's `vlans`.

vlans: {router: [10, 20], web: 10}
"""

from collections.abc import Collection, Iterable

from undercroft.firewall.policy import MAX_VLAN, VlanGrant
from undercroft.firewall.shapes import name
from undercroft.steady import nodes
from undercroft.steady.nodes import Node, Place
from undercroft.steady.shapes import Checker, possible


class VlanReader:
    """Gathers the grants of all files; only whole where the checker noted nothing."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._found: dict[str, tuple[Place, tuple[int, ...]]] = {}

    def read(self, node: Node) -> None:
        """Read the value of one `vlans`."""
        if not isinstance(node, nodes.Mapping):
            self._checker.mapping(node, "vlans", {})
            return
        for key, value in node.pairs:
            label = name(self._checker, key, "vlans")
            if label and label in self._found:
                first = self._found[label][0]
                self._checker.note(key.place, f"vlans: {label} stands already at {first}; keep one")
            elif label:
                self._found[label] = key.place, self._ids(value, f"vlans.{label}")

    def grants(self, labels: Collection[str]) -> tuple[VlanGrant, ...]:
        """Return the grants in order; the labels are all that the policy gives."""
        for label, (place, _) in self._found.items():
            if label not in labels:
                self._checker.note(
                    place, f"vlans: found {label!r}, no label; {possible(label, sorted(labels))}"
                )
        return tuple(VlanGrant(label, ids, place.source) for label, (place, ids) in self._found.items())

    def _ids(self, node: Node, what: str) -> tuple[int, ...]:
        items: Iterable[Node] = node.items if isinstance(node, nodes.Sequence) else (node,)
        if isinstance(node, nodes.Sequence) and not node.items:
            self._checker.note(node.place, f"{what}: found an empty list; leave the label out")
        before = len(self._checker.problems)
        found = [self._checker.whole_number(item, what, MAX_VLAN) for item in items]
        if 0 in found and len(self._checker.problems) == before:
            self._checker.note(node.place, f"{what}: found 0, which is no VLAN; 1 to {MAX_VLAN} are possible")
        return tuple(sorted({one for one in found if one}))
