"""What happened in a run, as values: the events that a trace has.

The guest service, tests and clients write what they did and saw, the agent's record tells the rest.
`tracecheck` replays it against the invariants of the models (docs/MODELS.md), `linearizable` looks for an
order of what was asked at once.

`tracelines` makes lines of JSON of them and reads these, `adapters.tracefile` writes files.

Moments are of one clock for all who write, in nanoseconds (CLOCK_MONOTONIC is one, until the host boots
again). What a moment is of stands with each event: an event that others must not come before is noted before
it takes place, one that others must not come after is noted after it, so that two events in the wrong order
were in the wrong order.
"""

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from undercroft.channel.requests import Operation, Outcome, Rests
from undercroft.model.execution import Origin

Value: TypeAlias = int | bytes | bool | str
"""What a request's argument or an answer's value may be; an argument is no text."""


@dataclass(frozen=True, slots=True)
class Began:
    """An execution of a machine began. Noted before its guest runs.

    Attributes:
        machine: its UUID.
        eid: 32 hexadecimal digits.
        parent: the execution that it goes on from, "" for none or unknown.
        how: where it comes from.
        state: name of the snapshot or image that it began from, "" for none.
        quiesced: whether that was taken while all of the guest but its helper was frozen.
    """

    at_ns: int
    machine: str
    eid: str
    parent: str
    how: Origin
    state: str = ""
    quiesced: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution ended. Noted after its guest has stopped, or after a rewind was proven."""

    at_ns: int
    eid: str


@dataclass(frozen=True, slots=True)
class Snapshotted:
    """A state was taken of an execution. Noted after it was; `quiesced` as in `Began`."""

    at_ns: int
    eid: str
    name: str
    quiesced: bool


@dataclass(frozen=True, slots=True)
class Seeded:
    """An execution was given a seed of this generation. Noted before it was sent."""

    at_ns: int
    eid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A guest has proven that its kernel took the seed. Noted after the proof was checked."""

    at_ns: int
    eid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The agent has put on record that a guest has confirmed. Noted after."""

    at_ns: int
    eid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Released:
    """An administrator let this execution out, whatever stands against it. Noted before it opens."""

    at_ns: int
    eid: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The ports of an execution were opened; `gated`: its policy requires a seed first. Noted before."""

    at_ns: int
    eid: str
    gated: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The ports of an execution were closed. Noted after."""

    at_ns: int
    eid: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A client asked for something. Noted before it was sent.

    Attributes:
        client: who asks; each has names of its own for its calls.
        call: tells this client's calls apart; one that is asked again under its number is another call.
        eid: the execution in which the client runs.
        number: of the request within the execution; 0 where the client does not see it.
        operation: what is asked.
        arguments: as `channel.requests` has them.
    """

    at_ns: int
    client: str
    call: int
    eid: str
    number: int
    operation: Operation
    arguments: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """A client got the answer to a call. Noted after it came; a call without one may have taken place."""

    at_ns: int
    client: str
    call: int
    outcome: Outcome
    rests: Rests
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """The guest service serves in an epoch, counted by a TPM or not. Noted before its first answer."""

    at_ns: int
    epoch: int
    tpm: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A start of the guest service was refused: it answers nothing. Noted after that is known."""

    at_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Died:
    """The guest service's process is gone; `clean`: it ended its epoch first. Noted after it is gone."""

    at_ns: int
    clean: bool


@dataclass(frozen=True, slots=True)
class PutBack:
    """The disk of the host's vaults was put back to an earlier image. Noted after, while no service runs."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """An administrator adopted the loss, and the service serves after it. Noted before the `Served`."""

    at_ns: int
    reason: str


Event: TypeAlias = (
    Began
    | Ended
    | Snapshotted
    | Seeded
    | Confirmed
    | Recorded
    | Released
    | Opened
    | Closed
    | Asked
    | Answered
    | Served
    | Refused
    | Died
    | PutBack
    | Adopted
)

KINDS: Final[Mapping[str, type[Event]]] = MappingProxyType(
    {each.__name__.lower(): each for each in typing.get_args(Event)}
)
"""The word of each event on its line."""
