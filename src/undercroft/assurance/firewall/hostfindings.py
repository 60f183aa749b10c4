"""What a finding about the table's surroundings is, and what it does to a certificate."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Danger(StrEnum):
    """What a finding means for the proof, worst first.

    BYPASS: packets can pass a machine's port without the table. REWRITE: they can be changed, so that what
    was judged is not what arrives. ASSUMPTION: something that the proof assumes is not so. UNKNOWN: it could
    not be told. COPY: traffic can be read by others. DISTURBANCE: a machine can disturb others' network.
    """

    BYPASS = "bypass"
    REWRITE = "rewrite"
    ASSUMPTION = "assumption"
    UNKNOWN = "unknown"
    COPY = "copy"
    DISTURBANCE = "disturbance"

    @property
    def voids(self) -> bool:
        """True where the table's proof then says nothing about what the host does: no certificate."""
        return self in {Danger.BYPASS, Danger.REWRITE, Danger.ASSUMPTION}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that could defeat the filter.

    Attributes:
        danger: how.
        thing: what it is about, as tools name it.
        found: what was found there.
        cure: what to do.
    """

    danger: Danger
    thing: str
    found: str
    cure: str


def folded(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings of which each is told once, worst first: "port vnet0 and 41 more" where they are alike.

    The cure is the first one's; for the others it is the same with their names.
    """
    order = list(Danger)
    groups: dict[tuple[Danger, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda one: (order.index(one.danger), one.thing)):
        groups.setdefault((finding.danger, finding.found), []).append(finding)
    return tuple(
        replace(first, thing=f"{first.thing} and {len(rest)} more", cure=f"{first.cure}; the others alike")
        if rest
        else first
        for first, *rest in groups.values()
    )
