"""Labels of machines, and the classes that they make: machines with the same labels are filtered alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from undercroft.errors import StateError
from undercroft.firewall.marks import MAX_CLASS
from undercroft.firewall.policy import FirewallPolicy
from undercroft.model.execution import Origin
from undercroft.model.verdict import Verdict
from undercroft.steady.policy import Target

Labels = frozenset[str]


@dataclass(frozen=True, slots=True)
class Classes:
    """Sets of labels with their numbers, from 1; a number never changes while its set is in use."""

    numbers: Mapping[Labels, int] = field(default_factory=dict)

    def number(self, labels: Labels) -> int:
        """Return the number of a set of labels.

        Raises:
            StateError: it has none; `assigned` gives it one.
        """
        try:
            return self.numbers[labels]
        except KeyError:
            named = ", ".join(sorted(labels)) or "none"
            raise StateError(
                f"labels {named}: no class has them; the policy has to be applied anew"
            ) from None

    def ordered(self) -> list[tuple[int, Labels]]:
        """Return numbers and labels, by number."""
        return sorted((number, labels) for labels, number in self.numbers.items())


class Labeller:
    """Tells the labels that a policy gives to machines; to be made once for many of them."""

    def __init__(self, policy: FirewallPolicy) -> None:
        """Take a policy: its label rules, and the names of `addresses` that some rule is about.

        A name that none is about tells its machine from nobody: thousands of machines whose addresses the
        policy names are filtered alike.
        """
        self._policy = policy
        self._names = frozenset(named.name for named in policy.addresses) & _labels_in_rules(policy)

    def labels(self, target: Target, verdict: Verdict | None, origin: Origin | None = None) -> Labels:
        """Return the labels of one machine.

        Args:
            target: the machine's name, owner, metadata labels, networks and host: the host's word, and no
                guest's.
            verdict: what was judged of it last, None for nothing.
            origin: how its present execution began, None where it has none or nobody knows.

        Returns:
            Its labels; of a quarantined machine that some rule quarantines, the labels of such rules alone.
        """
        quarantine: set[str] = set()
        labels = {target.name} & self._names
        for rule in self._policy.labels:
            if rule.verdicts and verdict not in rule.verdicts:
                continue
            if rule.origins and origin not in rule.origins:
                continue
            if rule.match.fits(target):
                is_of_quarantine = rule.quarantines and verdict is Verdict.QUARANTINED
                (quarantine if is_of_quarantine else labels).add(rule.name)
        if verdict is Verdict.QUARANTINED:
            return frozenset(quarantine)
        return frozenset(labels)


def labels_of(
    policy: FirewallPolicy, target: Target, verdict: Verdict | None, origin: Origin | None = None
) -> Labels:
    """Return the labels of one machine, as `Labeller.labels` does."""
    return Labeller(policy).labels(target, verdict, origin)


def _labels_in_rules(policy: FirewallPolicy) -> Labels:
    """Return the labels that flows, nevers and grants are about."""
    peers = [peer for flow in policy.flows for peer in (flow.source, flow.target)]
    for never in policy.nevers:
        peers += [never.source, never.target, *never.exceptions]
    return frozenset(peer.label for peer in peers) | {grant.label for grant in policy.vlans}


def assigned(previous: Classes, label_sets: Iterable[Labels]) -> Classes:
    """Return classes for these sets of labels; those of `previous` keep their numbers, gone ones are free.

    Args:
        previous: what the kernel has now.
        label_sets: of all machines, any number of times.

    Raises:
        StateError: more sets than a mark has numbers.
    """
    wanted = set(label_sets)
    numbers = {labels: number for labels, number in previous.numbers.items() if labels in wanted}
    used = set(numbers.values())
    # A number that has just become free is not given out at once: packets on their way bear it still.
    recent = set(previous.numbers.values())
    free = (number for number in range(1, MAX_CLASS + 1) if number not in used and number not in recent)
    for labels in sorted(wanted - numbers.keys(), key=sorted):
        number = next(free, 0)
        if not number:
            raise StateError(f"{len(wanted):,} different sets of labels; at most {MAX_CLASS:,} are possible")
        numbers[labels] = number
    return Classes(numbers)
