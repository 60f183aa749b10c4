"""The events of a run as lines, and back; what is no event is refused."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.adapters.tracefile import TraceFile, read_traces
from undercroft.assurance import trace, tracelines
from undercroft.channel.requests import Operation, Outcome, Rests
from undercroft.errors import InputError, OperationError
from undercroft.model.execution import Origin

MACHINE = "00000000-0000-4000-8000-000000000001"
EID, PARENT = "a" * 32, "b" * 32
EVENTS: tuple[trace.Event, ...] = (
    trace.Began(1, MACHINE, EID, "", Origin.FIRST),
    trace.Began(2, MACHINE, PARENT, EID, Origin.REVERT, "before", True),
    trace.Ended(3, EID),
    trace.Snapshotted(4, EID, "before", True),
    trace.Seeded(5, EID, 1 << 40),
    trace.Confirmed(6, EID, 1 << 40),
    trace.Recorded(6, EID, 1 << 40),
    trace.Released(6, EID),
    trace.Opened(7, EID, True),
    trace.Closed(8, EID),
    trace.Asked(9, "c1", 1, EID, 0, Operation.SPEND, (b"token", True)),
    trace.Asked(10, "c1", 2, EID, 3, Operation.INCREMENT, (b"\x00\xff", 7)),
    trace.Answered(11, "c1", 1, Outcome.REFUSED, Rests.NOTHING, ("the value was spent before",)),
    trace.Answered(12, "c1", 2, Outcome.OK, Rests.SYNCED, (1 << 41,)),
    trace.Answered(13, "c1", 2, Outcome.OK, Rests.SYNCED, (True, b"")),
    trace.Served(14, 2, True),
    trace.Refused(15, "the counter is not that of the log"),
    trace.Died(16, False),
    trace.PutBack(17),
    trace.Adopted(18, "disk lost"),
)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_event_is_read_back_as_it_was_with_the_types_of_its_values(event: trace.Event) -> None:
    [read] = tracelines.read([tracelines.line(event)])
    assert read == event
    if isinstance(read, trace.Answered) and isinstance(event, trace.Answered):
        assert [type(each) for each in read.values] == [type(each) for each in event.values]


def test_each_kind_of_event_is_among_those_tried() -> None:
    assert {type(each) for each in EVENTS} == set(trace.KINDS.values())


def test_events_are_ordered_by_their_moments_and_else_as_they_came() -> None:
    lines = [tracelines.line(each) for each in (trace.Died(5, True), trace.PutBack(2), trace.Refused(2, "x"))]
    assert [type(each) for each in tracelines.read(lines)] == [trace.PutBack, trace.Refused, trace.Died]


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        tracelines.line(EVENTS[2])[:-1],
        b'{"event":"ended","at_ns":1}\n',
        b'{"event":"ended","at_ns":1,"eid":"%s","more":1}\n' % (b"a" * 32),
        b'{"event":"ended","at_ns":1,"at_ns":1,"eid":"%s"}\n' % (b"a" * 32),
        b'{"event":"ended","at_ns":-1,"eid":"%s"}\n' % (b"a" * 32),
        b'{"event":"ended","at_ns":true,"eid":"%s"}\n' % (b"a" * 32),
        b'{"event":"ended","at_ns":1.0,"eid":"%s"}\n' % (b"a" * 32),
        b'{"event":"ended","at_ns":1,"eid":"%s"}\n' % (b"A" * 32),
        b'{"event":["ended"],"at_ns":1,"eid":"%s"}\n' % (b"a" * 32),
        b'{"event":"died","at_ns":1,"clean":1}\n',
        b'{"event":"later","at_ns":1}\n',
        b'{"event":"refused","at_ns":1,"reason":"%s"}\n' % (b"x" * 1001),
        b"[" * 100_000 + b"\n",
        b"\xff\n",
    ],
)
def test_what_is_no_event_is_refused_and_not_left_out(untrusted: bytes) -> None:
    with pytest.raises(InputError, match="line 2"):
        tracelines.read([tracelines.line(EVENTS[0]), untrusted])


def _asked(**changes: object) -> bytes:
    plain = json.loads(tracelines.line(EVENTS[9]))
    return json.dumps({**plain, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": 99},
        {"operation": True},
        {"operation": {}},
        {"arguments": [{"hex": "00"}]},
        {"arguments": [{"hex": "00"}, True]},
        {"arguments": ["name", 1]},
        {"arguments": [{"hex": "FF"}, 1]},
        {"arguments": [{"hex": "0"}, 1]},
        {"arguments": [{"hex": "00", "x": 1}, 1]},
        {"arguments": {}},
        {"machine": "1"},
    ],
)
def test_a_request_that_no_guest_could_ask_is_refused(changes: dict[str, object]) -> None:
    assert tracelines.read([_asked()])
    with pytest.raises(InputError):
        tracelines.read([_asked(**changes)])


@given(st.binary(max_size=200))
def test_any_line_is_an_event_or_an_input_error(untrusted: bytes) -> None:
    with contextlib.suppress(InputError):
        tracelines.read([untrusted])


def test_what_no_reader_takes_is_not_written() -> None:
    for event in (
        trace.Ended(1, "x"),
        trace.Ended(-1, EID),
        trace.Refused(1, "x" * 1001),
        trace.Asked(1, "c", 1, EID, 1, Operation.SPEND, (b"",)),
        trace.Answered(1, "c", 1, Outcome.OK, Rests.SYNCED, (1 << 63,)),
    ):
        with pytest.raises(InputError):
            tracelines.line(event)


def test_several_files_are_one_trace_and_a_torn_end_is_told(tmp_path: Path) -> None:
    with TraceFile(tmp_path / "a") as one, TraceFile(tmp_path / "b") as two:
        one.write(trace.Ended(one.now_ns(), EID))
        two.write(trace.Died(two.now_ns(), True))
        one.write(trace.PutBack(one.now_ns()))
    paths = [tmp_path / "a", tmp_path / "b"]
    assert [type(each) for each in read_traces(paths)] == [trace.Ended, trace.Died, trace.PutBack]
    with (tmp_path / "b").open("ab") as torn:
        torn.write(tracelines.line(EVENTS[0])[:20])
    with pytest.raises(InputError, match="torn"):
        read_traces(paths)
    with pytest.raises(OperationError):
        read_traces([tmp_path / "none"])
    with pytest.raises(OperationError):
        TraceFile(tmp_path / "none" / "a")
