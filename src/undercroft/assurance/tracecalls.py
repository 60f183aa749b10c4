"""What was asked in a trace and how that ended, with what a disk that was put back may have lost of it.

Everything acknowledged up to the last anchor survives a disk that is put back, or the start is refused. An
anchor is: a start with a TPM (its extension covers the log as it was), an end as it should be, and the moment
at which a final spend was asked for that was answered `anchored`, as its group follows all that was answered
before. What came after it is void: it may be there or not. After an adoption all before it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from undercroft.assurance import trace
from undercroft.channel.requests import Operation, Outcome, Rests
from undercroft.errors import InputError

CHANGES = frozenset(
    (Operation.INCREMENT, Operation.SPEND, Operation.APPEND, Operation.SEAL, Operation.REVOKE)
)


@dataclass(frozen=True, slots=True)
class Call:
    """Something that was asked, and its answer if one came.

    Attributes:
        machine: whose vault it is.
        asked: the question.
        answered: None where no answer came: it may have taken place.
    """

    machine: str
    asked: trace.Asked
    answered: trace.Answered | None

    @property
    def name(self) -> bytes:
        """The name that it is about, b"" for none."""
        first = self.asked.arguments[0] if self.asked.arguments else b""
        return first if isinstance(first, bytes) else b""

    @property
    def begin_ns(self) -> int:
        """Before this it did not take place."""
        return self.asked.at_ns

    @property
    def end_ns(self) -> int:
        """After this it was known; only of a call that was answered."""
        assert self.answered is not None
        return self.answered.at_ns

    @property
    def granted(self) -> bool:
        """Whether it was answered `OK`."""
        return self.answered is not None and self.answered.outcome is Outcome.OK

    @property
    def request(self) -> tuple[Operation, tuple[trace.Value, ...]]:
        """What tells this request from another of the same number."""
        return self.asked.operation, self.asked.arguments

    def value(self, at: int) -> int:
        """Return a number of the answer. Raises InputError where it has none at that place."""
        values = self.answered.values if self.answered is not None else ()
        if len(values) <= at or type(values[at]) is not int:
            raise InputError(f"an answer to {self.asked.operation.name} has no number where one belongs")
        return int(values[at])


def calls(events: Sequence[trace.Event]) -> list[Call]:
    """Return all calls of a trace in the order in which they were asked.

    Raises:
        InputError: a call is there twice or answered unasked, or its execution never began.
    """
    machines = {event.eid: event.machine for event in events if isinstance(event, trace.Began)}
    asked: dict[tuple[str, int], trace.Asked] = {}
    answered: dict[tuple[str, int], trace.Answered] = {}
    for event in events:
        if isinstance(event, trace.Asked):
            if (event.client, event.call) in asked:
                raise InputError(f"call {event.call} of {event.client:.60} is asked twice in the trace")
            if event.eid not in machines:
                raise InputError(f"execution {event.eid} asks in the trace, and never began")
            asked[event.client, event.call] = event
        elif isinstance(event, trace.Answered):
            key = event.client, event.call
            if key not in asked or key in answered:
                raise InputError(f"call {event.call} of {event.client:.60} is answered unasked, or twice")
            answered[key] = event
    return [Call(machines[each.eid], each, answered.get(key)) for key, each in asked.items()]


class Losses:
    """What may be lost of what was acknowledged: disks put back, and losses that were adopted."""

    def __init__(self, events: Sequence[trace.Event], found: Sequence[Call]) -> None:
        """Take a trace and its calls."""
        self.adopted = [event.at_ns for event in events if isinstance(event, trace.Adopted)]
        self.put_back = [event.at_ns for event in events if isinstance(event, trace.PutBack)]
        anchors = sorted((*_starts_and_ends(events), *_finals(found)))
        self._voids = [
            (max((anchor for anchor in anchors if anchor < at), default=0), at) for at in self.put_back
        ]

    def holds(self, call: Call, at_ns: int) -> bool:
        """Whether what was granted is to be there at that moment, and is not void."""
        end_ns = call.end_ns
        if any(end_ns <= adopted <= at_ns for adopted in self.adopted):
            return False
        if call.answered is not None and call.answered.rests is Rests.ANCHORED:
            return True
        return not any(anchor < end_ns <= at <= at_ns for anchor, at in self._voids)

    def rolled(self, from_ns: int, to_ns: int) -> bool:
        """Whether a disk was put back between."""
        return any(from_ns <= at <= to_ns for at in self.put_back)


def _starts_and_ends(events: Sequence[trace.Event]) -> Iterator[int]:
    tpm = False
    for event in events:
        if isinstance(event, trace.Served):
            tpm = event.tpm
        if tpm and (isinstance(event, trace.Served) or (isinstance(event, trace.Died) and event.clean)):
            yield event.at_ns


def _finals(found: Sequence[Call]) -> Iterator[int]:
    for call in found:
        if call.answered is not None and call.answered.rests is Rests.ANCHORED:
            yield call.begin_ns
