"""The question that a policy is asked about one packet, and the answer. See `meaning`."""

from dataclasses import dataclass
from enum import StrEnum

from undercroft.firewall.classes import Labels

Tuple = tuple[bytes, bytes, int, bytes, bytes]
"""Source, target, protocol, source port, target port of a packet."""


class PathKind(StrEnum):
    """The ways that a frame can go over a bridge."""

    FORWARD = "forward"
    TO_HOST = "to-host"
    FROM_HOST = "from-host"


@dataclass(frozen=True, slots=True)
class Path:
    """The way of one frame.

    Attributes:
        kind: from port to port, to the host's own stack, or from it.
        source: the bridge port that it came in by; "" from the host.
        target: the bridge port that it leaves by; "" to the host.
        source_kind, target_kind: what has made these devices, "tun" for a tap; "" for hardware.
        routed: the labels of the machine that sent it to the host to be routed; None from the host itself
            or from outside.
    """

    kind: PathKind
    source: str = ""
    target: str = ""
    routed: Labels | None = None
    source_kind: str = ""
    target_kind: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What has passed before and has not timed out yet.

    Attributes:
        answers: tuples of answers, of flows in which there has been one.
        tries: the same of what nobody has answered yet, opened by machines and the host.
        knocks: the same, opened from outside.
        echoes: source, target and identifier of answers to echo requests.
        pieces: source, target, protocol and identification of packets whose first fragment has passed.
        asked: MACs that have asked for an address.
        connection: what conntrack says, "established", "related" or ""; None where the host has none.
    """

    answers: frozenset[Tuple] = frozenset()
    tries: frozenset[Tuple] = frozenset()
    knocks: frozenset[Tuple] = frozenset()
    echoes: frozenset[tuple[bytes, bytes, bytes]] = frozenset()
    pieces: frozenset[tuple[bytes, bytes, int, bytes]] = frozenset()
    asked: frozenset[bytes] = frozenset()
    connection: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a packet.

    Attributes:
        accept: it passes.
        reason: why, in a few words.
        place: the flow of the policy that allows it, "" where none was asked or none does.
        remember: what follows for later packets: names of `Remembered`'s fields, with one entry each.
    """

    accept: bool
    reason: str
    place: str = ""
    remember: tuple[tuple[str, object], ...] = ()
