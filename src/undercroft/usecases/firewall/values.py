"""What `plan`, `apply` and `status` find, for whoever shows it. Texts of hosts and people are as they are."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from undercroft.model.filter import FilterState


@dataclass(frozen=True, slots=True)
class Group:
    """Machines that are filtered alike, before a change and after it.

    Attributes:
        name: their labels joined with "+"; where these change, both: "web, was db".
        machines: their names, sorted.
    """

    name: str
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlowChange:
    """What opens and closes from one side to another: a `Group`'s name, "world", "host" or a network.

    `places`: where the new policy allows what is open then.
    """

    source: str
    target: str
    opens: tuple[str, ...]
    closes: tuple[str, ...]
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelChange:
    """One machine whose labels change."""

    machine: str
    host: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """A machine that will reach nobody, or nearly: it has no label, or no address."""

    machine: str
    host: str
    problem: str


@dataclass(frozen=True, slots=True)
class Applied:
    """The policy that is in force by the record: who put it there, when and why.

    `withdrawn`: there was one, and nothing is filtered since then.
    """

    number: int
    digest: str
    by: str
    reason: str
    at: datetime
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a policy would change.

    Attributes:
        digest: of that policy, "" for a withdrawal.
        applied: the one in force, None before the first.
        filtered: something is filtered now. Where nothing is, everything is open, and `opens` of `flows` is
            what stays open.
        machines: how many there are.
        groups: of machines that are filtered alike, by name.
        flows: what changes, by group; () for a withdrawal, which opens everything.
        labels: machines whose labels change; before the first policy none has any.
        closed: machines that nobody reaches then.
        ports: bridge ports, and taps, that the policy does not name, with what that means.
        problems: of the fleet: addresses that two claim, what could not be told.
        against: why it cannot be applied; a contradiction names a flow.
    """

    digest: str
    applied: Applied | None
    filtered: bool
    machines: int
    groups: tuple[Group, ...]
    flows: tuple[FlowChange, ...]
    labels: tuple[LabelChange, ...]
    closed: tuple[Closed, ...]
    ports: tuple[str, ...]
    problems: tuple[str, ...]
    against: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """True where something would be filtered otherwise, now or for machines to come."""
        before = self.applied.digest if self.applied and self.filtered else ""
        return before != self.digest or bool(self.labels)


class Holding(StrEnum):
    """What a host's agent says of the policy in force.

    PROVEN: its kernel's table is the policy, and that was proven since it was applied. QUALIFIED: the same,
    and something of a machine, of the table since, or of what is around it is wrong or could not be told: it
    says what. VOID: the same, and something around the table defeats it. AWAY: either of the
    first two, when its agent was last heard. HELD: it holds it, not proven since. PROBLEM: it says why it may
    not hold it. BEHIND: it told last of an earlier one. SILENT: nothing was ever heard.
    """

    PROVEN = "proven"
    QUALIFIED = "qualified"
    VOID = "void"
    AWAY = "away"
    HELD = "held"
    PROBLEM = "problem"
    BEHIND = "behind"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class HostHolding:
    """One host, as its agent said last. `machines`: how many the record has there."""

    host: str
    holding: Holding
    machines: int
    state: FilterState | None


@dataclass(frozen=True, slots=True)
class Status:
    """The policy in force, None before the first, and the hosts by name."""

    applied: Applied | None
    hosts: tuple[HostHolding, ...]
