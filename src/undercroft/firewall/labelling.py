"""Which machines have which labels, read from a policy's `labels`.

labels:
  web: {machines: "web*", owner: [shop, "team-*"]}
  quarantine: {verdict: quarantined}
  restored: {origin: [restore, revert]}
"""

from functools import partial

from undercroft.firewall.policy import LabelRule
from undercroft.firewall.shapes import name
from undercroft.model.execution import Origin
from undercroft.model.verdict import Verdict
from undercroft.steady import nodes
from undercroft.steady.nodes import Node, Place
from undercroft.steady.policy import Match
from undercroft.steady.shapes import Checker, Choice

_MATCH_FIELDS = {
    "machines": "names",
    "owner": "owners",
    "label": "labels",
    "network": "networks",
    "host": "hosts",
}


def label_rules(checker: Checker, node: Node) -> list[LabelRule]:
    """Return the rules of a `labels` mapping, in order; a label may have one, or a list of them."""
    if not isinstance(node, nodes.Mapping):
        checker.mapping(node, "labels", {})
        return []
    rules: list[LabelRule] = []
    for key, value in node.pairs:
        label = name(checker, key, "labels")
        items = value.items if isinstance(value, nodes.Sequence) else (value,)
        if label and not items:
            checker.note(value.place, f"labels.{label}: found an empty list; leave the label out")
        rules += [_rule(checker, label, item) for item in items if label]
    return rules


def _rule(checker: Checker, label: str, node: Node) -> LabelRule:
    what = f"labels.{label}"
    patterns: dict[str, tuple[str, ...]] = {}
    verdicts: list[Verdict] = []
    origins: list[Origin] = []

    def pattern(key: str, item: Node, _: Place) -> None:
        patterns[_MATCH_FIELDS[key]] = checker.texts(item, f"{what}.{key}", "a text with * and ?, or a list,")

    def verdict(item: Node, _: Place) -> None:
        verdicts.extend(_choices(checker, item, f"{what}.verdict", Verdict))

    def origin(item: Node, _: Place) -> None:
        origins.extend(_choices(checker, item, f"{what}.origin", Origin))

    before = len(checker.problems)
    keys = {"verdict": verdict, "origin": origin} | {key: partial(pattern, key) for key in _MATCH_FIELDS}
    checker.mapping(node, what, keys)
    if not (patterns or verdicts or origins) and len(checker.problems) == before:
        checker.note(node.place, f"{what}: names no machine; to mean every one, say machines: '*'")
    return LabelRule(label, Match(**patterns), tuple(verdicts), node.place.source, tuple(origins))


def _choices(checker: Checker, node: Node, what: str, choices: type[Choice]) -> list[Choice]:
    """Return one word of an enumeration or a list of them, each once."""
    items = node.items if isinstance(node, nodes.Sequence) else (node,)
    if not items:
        words = ", ".join(item.value for item in choices)
        checker.note(node.place, f"{what}: found an empty list; possible: {words}")
    found = [choice for item in items if (choice := checker.choice(item, what, choices))]
    return list(dict.fromkeys(found))
