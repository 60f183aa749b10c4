"""What a run of the real thing did that it must not."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that a trace breaks.

    Attributes:
        invariant: of `models.INVARIANTS`, or "Linearizable".
        at_ns: the moment in the trace.
        text: what was found, one line; names of a vault in hexadecimal.
    """

    invariant: str
    at_ns: int
    text: str
