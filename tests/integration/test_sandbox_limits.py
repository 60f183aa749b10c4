"""What a child may use up and say: memory, time, sizes, the protocol. One that dies takes no other along."""

import contextlib
import json
import os
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from undercroft.errors import InputError, NotFoundError, OperationError, UnsupportedError
from undercroft.model.disk import ImageInfo
from undercroft.model.schema import decode
from undercroft.sandbox import launcher
from undercroft.sandbox.inprocess import InProcessReader
from undercroft.sandbox.limits import MIB, Limits
from undercroft.sandbox.reader import SandboxedReader
from undercroft.sandbox.wire import MAX_DATA_BYTES, MAX_REQUEST_BYTES

TIGHT = Limits(memory_bytes=128 * MIB, cpu_s=20, wall_s=1.5, answer_bytes=1 * MIB)
PATIENT = Limits(memory_bytes=128 * MIB, cpu_s=1, stream_cpu_s=2, wall_s=60)


@pytest.fixture(scope="module")
def reader() -> Iterator[SandboxedReader]:
    """One sandbox for all tests of this file: each hostile child leaves it fit for the next."""
    with launcher.start(limits=TIGHT, jobs_module="hostile_jobs") as started:
        yield started
        assert started.call("echo", {"still": "here"}, []) == {"still": "here"}


@pytest.fixture(scope="module")
def patient() -> Iterator[SandboxedReader]:
    """One that has time enough for the other limits to be reached first, however busy the machine is."""
    with launcher.start(limits=PATIENT, jobs_module="hostile_jobs") as started:
        yield started


@pytest.fixture
def inprocess() -> InProcessReader:
    return InProcessReader(jobs_module="hostile_jobs")


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    started_at = time.monotonic()
    yield
    assert time.monotonic() - started_at < seconds


@pytest.fixture
def silent_peer() -> Iterator[int]:
    """A connected socket whose other end never says a word."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs.fileno()


def frame(kind: bytes, body: bytes, length: int | None = None) -> str:
    return (struct.pack(">cI", kind, len(body) if length is None else length) + body).hex()


def test_an_allocation_over_the_limit_fails_and_would_not_without_it(
    patient: SandboxedReader, inprocess: InProcessReader
) -> None:
    arguments = {"bytes": 2 * PATIENT.memory_bytes}
    assert inprocess.call("allocate", arguments, []) == 2 * PATIENT.memory_bytes
    with pytest.raises(InputError, match="needs more than 128 MB of memory"):
        patient.call("allocate", arguments, [])
    assert patient.call("allocate", {"bytes": PATIENT.memory_bytes // 4}, []) == PATIENT.memory_bytes // 4


@pytest.mark.parametrize("job", ["hoard_memory", "hoard_small_objects"])
def test_memory_ends_at_its_limit(patient: SandboxedReader, job: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="needs more than 128 MB of memory"):
        patient.call(job, {}, [])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10  # KiB: the host's own


def test_processor_time_ends_at_its_limit(patient: SandboxedReader) -> None:
    with pytest.raises(InputError, match="needs more than 1 s of processor time"):
        patient.call("spin", {}, [])
    pieces = patient.stream("spin_midway", {}, [])
    assert next(pieces) == b"first"
    with pytest.raises(InputError, match="needs more than 2 s of processor time"):
        next(pieces)


def test_waiting_ends_at_its_limit(reader: SandboxedReader, silent_peer: int) -> None:
    with within(3), pytest.raises(InputError, match=r"needs more than 1\.5 s"):
        reader.call("wait_for_peer", {}, [silent_peer])


def test_the_host_stops_waiting_even_for_a_child_whose_timer_failed(
    reader: SandboxedReader, silent_peer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undercroft.sandbox.conversation.BELT_S", -1.0)  # before the child's own timer
    with within(1), pytest.raises(InputError, match=r"needs more than 1\.5 s"):
        reader.call("wait_for_peer", {}, [silent_peer])


def test_descriptors_cannot_be_hoarded(reader: SandboxedReader, inprocess: InProcessReader) -> None:
    with open(os.devnull, "rb") as null:
        copies = inprocess.call("hoard_descriptors", {}, [null.fileno()])
        assert isinstance(copies, list)
        assert len(copies) == 100
        for copy in copies:
            assert isinstance(copy, int)
            os.close(copy)
    with open(__file__, "rb") as file, pytest.raises(InputError, match="forbids"):
        reader.call("hoard_descriptors", {}, [file.fileno()])


def test_endless_recursion_is_an_error_of_the_input(
    reader: SandboxedReader, inprocess: InProcessReader
) -> None:
    for either in (reader, inprocess):
        with pytest.raises(InputError, match="nested too deeply"):
            either.call("recurse", {}, [])


def test_an_answer_up_to_the_limit_arrives(reader: SandboxedReader) -> None:
    length = TIGHT.answer_bytes - 2  # the quotation marks
    assert reader.call("answer_of", {"length": length}, []) == "x" * length
    with pytest.raises(InputError, match="bytes, over 1048576"):
        reader.call("answer_of", {"length": length + 1}, [])


def test_a_claimed_length_is_not_believed(reader: SandboxedReader) -> None:
    with within(1), pytest.raises(InputError, match="4294967295 bytes, the limit is 1048576"):
        reader.call("send_raw", {"hex": frame(b"A", b"[]", length=0xFFFFFFFF)}, [])


@pytest.mark.parametrize(
    ("hex_bytes", "message"),
    [
        (frame(b"?", b"garbage"), "outside its protocol"),
        (frame(b"D", b"a piece where an answer was asked for"), "outside its protocol"),
        (frame(b"Z", b""), "outside its protocol"),
        (b"\x00".hex() * 64, "outside its protocol"),
        (frame(b"A", b"{not json"), "no JSON"),
        (frame(b"A", b"[" * 20_000), "no JSON"),
        (frame(b"A", b"9" * 20_000), "no JSON"),
        (frame(b"A", '"ü"'.encode()), "no JSON"),
        (frame(b"A", '{"a":1}'.encode("utf-16")), "no JSON"),
        (frame(b"A", b""), "no JSON"),
        (frame(b"A", b"[]", length=100), "died with exit code 0"),
        (frame(b"A", b"")[:6], "died with exit code 0"),
        ("", "died with exit code 0"),
        (frame(b"F", b"SystemExit\nbye"), "unknown kind"),
        (frame(b"F", b"\xff\xff"), "malformed"),
        (frame(b"F", b"InputError\n\xff"), "malformed"),
        (frame(b"F", b"InputError\n" + b"x" * 5000), "the limit is 4096"),
    ],
)
def test_an_answer_outside_the_protocol_is_an_error_of_the_input(
    reader: SandboxedReader, hex_bytes: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reader.call("send_raw", {"hex": hex_bytes}, [])


def test_an_answer_that_drips_is_cut_off(reader: SandboxedReader) -> None:
    answer = frame(b"A", json.dumps("x" * 100).encode())
    with within(4), pytest.raises(InputError, match="needs more than 1"):
        reader.call("send_raw", {"hex": answer, "pause_s": 0.05}, [])


def test_a_child_that_stays_after_its_answer_is_ended(reader: SandboxedReader) -> None:
    with within(1):
        assert reader.call("answer_and_stay", {}, []) is True


def test_an_answer_of_wrong_types_stops_at_the_schema(reader: SandboxedReader) -> None:
    answer = reader.call("echo", {"format": "qcow2", "size_bytes": "huge"}, [])
    with pytest.raises(InputError, match="answer"):
        decode(ImageInfo, answer)


@pytest.mark.parametrize(
    ("job", "message"), [("crash", "died by SIGSEGV"), ("leave", "died with exit code 7")]
)
def test_a_child_that_dies_says_how(reader: SandboxedReader, job: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reader.call(job, {}, [])


def test_a_job_that_does_not_exist_is_the_hosts_fault(
    reader: SandboxedReader, inprocess: InProcessReader
) -> None:
    for either in (reader, inprocess):
        with pytest.raises(OperationError, match="no job named nothing"):
            either.call("nothing", {}, [])
        with pytest.raises(OperationError, match="no job named nothing"):
            list(either.stream("nothing", {}, []))


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("InputError", InputError, "no such thing"),
        ("UnsupportedError", UnsupportedError, "no such thing"),
        ("NotFoundError", NotFoundError, "no such thing"),
        ("OperationError", OperationError, "no such thing"),
        ("DeniedError", OperationError, "no such thing"),  # not a job's to say
        ("KeyError", InputError, r"KeyError at hostile_jobs\.py:\d+; please report"),
        ("OSError", InputError, "cannot be read: no such thing"),
    ],
)
def test_errors_of_a_job_arrive_the_same_with_and_without_the_sandbox(
    reader: SandboxedReader, inprocess: InProcessReader, name: str, kind: type[Exception], text: str
) -> None:
    for either in (reader, inprocess):
        with pytest.raises(kind, match=text) as caught:
            either.call("fail", {"name": name}, [])
        assert type(caught.value) is kind


def test_an_errors_text_is_cut_and_keeps_undecodable_bytes(reader: SandboxedReader) -> None:
    with pytest.raises(InputError) as caught:
        reader.call("fail", {"name": "InputError", "message": "\udcff" + "\U0001f512" * 5000}, [])
    assert str(caught.value).startswith("\udcff\U0001f512")
    assert len(str(caught.value)) <= 1000


def test_undecodable_bytes_survive_an_answer(reader: SandboxedReader, inprocess: InProcessReader) -> None:
    name = b"caf\xe9\x00\x1b[31m".decode("utf-8", "surrogateescape")
    for either in (reader, inprocess):
        assert either.call("echo", {"name": name}, []) == {"name": name}


def test_arguments_have_a_limit(reader: SandboxedReader) -> None:
    fits = "x" * (MAX_REQUEST_BYTES - 1024)
    assert reader.call("echo", {"name": fits}, []) == {"name": fits}
    with pytest.raises(InputError, match=f"the limit is {MAX_REQUEST_BYTES}"):
        reader.call("echo", {"name": "x" * MAX_REQUEST_BYTES}, [])


def test_a_closed_descriptor_is_refused(reader: SandboxedReader) -> None:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    with pytest.raises(InputError, match="is not open"):
        reader.call("echo", {}, [number])


def test_a_job_reads_the_file_that_it_was_given(
    reader: SandboxedReader, inprocess: InProcessReader, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content \xff")
    for either in (reader, inprocess):
        with open(path, "rb") as file:
            assert either.call("read_file", {}, [file.fileno()]) == "content \udcff"


def test_a_stream_arrives_in_order(reader: SandboxedReader, inprocess: InProcessReader) -> None:
    for either in (reader, inprocess):
        assert list(either.stream("count", {"pieces": 500}, [])) == [b"%d" % n for n in range(500)]


def test_a_large_piece_arrives_in_pieces_of_a_mebibyte(
    reader: SandboxedReader, inprocess: InProcessReader
) -> None:
    for either in (reader, inprocess):
        pieces = [len(piece) for piece in either.stream("pieces_of", {"length": MAX_DATA_BYTES * 2 + 1}, [])]
        assert pieces == [MAX_DATA_BYTES, MAX_DATA_BYTES, 1]


def test_a_stream_that_fails_midway_raises_after_what_it_sent(
    reader: SandboxedReader, inprocess: InProcessReader
) -> None:
    for either in (reader, inprocess):
        pieces = either.stream("fail_midway", {"name": "NotFoundError"}, [])
        assert next(pieces) == b"first"
        with pytest.raises(NotFoundError):
            next(pieces)


@pytest.mark.parametrize(
    ("hex_bytes", "message"),
    [
        (frame(b"D", b"whole") + frame(b"D", b"torn", length=5), "died"),
        (frame(b"D", b"whole"), "died"),  # an end that was not announced is not an end
        (frame(b"D", b"whole") + frame(b"A", b"[]"), "outside its protocol"),
        (frame(b"D", b"whole") + frame(b"D", b"", length=MAX_DATA_BYTES + 1), "the limit is 1048576"),
        (frame(b"D", b"whole") + frame(b"Z", b"more"), "the limit is 0"),
    ],
)
def test_a_stream_that_is_cut_off_never_looks_whole(
    reader: SandboxedReader, hex_bytes: str, message: str
) -> None:
    pieces = reader.stream("stream_raw", {"hex": hex_bytes}, [])
    assert next(pieces) == b"whole"
    with pytest.raises(InputError, match=message):
        next(pieces)


def test_a_stream_that_stops_sending_ends_at_its_limit(reader: SandboxedReader) -> None:
    pieces = reader.stream("spin_midway", {}, [])
    assert next(pieces) == b"first"
    with within(5), pytest.raises(InputError, match="needs more than 1"):
        next(pieces)


def test_a_stream_may_take_long_while_it_gives_much(reader: SandboxedReader) -> None:
    assert sum(map(len, reader.stream("paced", {"bytes": 1 * MIB, "pause_s": 0.2}, []))) == 10 * MIB


def test_a_stream_that_drips_is_cut_off(reader: SandboxedReader) -> None:
    with within(4), pytest.raises(InputError, match=r"needs more than 1\.5 s"):
        list(reader.stream("paced", {"bytes": 1, "pause_s": 0.4}, []))


def test_a_slow_consumer_does_not_end_a_stream(reader: SandboxedReader) -> None:
    pieces = reader.stream("pieces_of", {"length": 8 * MAX_DATA_BYTES}, [])
    next(pieces)
    time.sleep(TIGHT.wall_s + 0.3)
    assert sum(map(len, pieces)) == 7 * MAX_DATA_BYTES


def test_a_stream_can_be_left(reader: SandboxedReader) -> None:
    pieces = reader.stream("endless", {}, [])
    assert next(pieces) == b"more"
    pieces.close()  # type: ignore[attr-defined]  # the port says Iterator; both readers give generators
    assert reader.call("echo", {}, []) == {}
