"""Whatever a guest sends, also inside sealed frames: a value, or InputError; and both sides read alike."""

import contextlib

import pytest
from channelpair import Guest, Host, helper, meet
from hypothesis import given, settings
from hypothesis import strategies as some

from undercroft.channel import cbor, cobs, frames
from undercroft.channel.messages import read_message
from undercroft.channel.requests import read_request
from undercroft.channel.seen import Seen
from undercroft.errors import InputError

KEYS = some.integers(-(1 << 63), (1 << 64) - 1) | some.text(max_size=8)
SCALARS = KEYS | some.binary(max_size=300) | some.booleans() | some.none()
VALUES = some.recursive(
    SCALARS,
    lambda inner: some.lists(inner, max_size=6) | some.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)
BATCHES = some.lists(some.lists(SCALARS, max_size=5), max_size=70)
MESSAGES = VALUES | some.builds(
    lambda kind, rest: [kind, *rest], some.integers(-1, 8), some.lists(SCALARS | BATCHES, max_size=7)
)
MEETINGS = max(30, settings.default.max_examples // 3)  # two key exchanges in each
PARSERS = [cbor.decode, cobs.decode, read_message, Seen.decode]
FRAME_PARSERS = [frames.read_answer, frames.read_reason, frames.read_versions]


def deep(value, depth=0):
    """How deep arrays and maps lie in each other."""
    members = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return depth if members is None else max((deep(each, depth + 1) for each in members), default=depth + 1)


@given(VALUES)
def test_a_value_comes_back_from_either_side_as_it_was(value):
    if deep(value) > cbor.MAX_DEPTH:
        with pytest.raises(InputError):
            cbor.encode(value)
        return
    encoded = cbor.encode(value)
    assert helper.pack(value) == encoded
    assert cbor.decode(encoded) == helper.unpack(encoded) == value


@given(some.binary(max_size=200) | VALUES.filter(lambda value: deep(value) < 9).map(cbor.encode), some.data())
def test_both_sides_take_the_same_encodings_and_each_has_one_value(encoded, data):
    untrusted = bytearray(encoded)
    for _ in range(data.draw(some.integers(0, 3)) if untrusted else 0):
        untrusted[data.draw(some.integers(0, len(untrusted) - 1))] = data.draw(some.integers(0, 255))
    try:
        value = cbor.decode(bytes(untrusted))
    except InputError:
        with pytest.raises(helper.MalformedError):
            helper.unpack(bytes(untrusted))
        return
    assert helper.unpack(bytes(untrusted)) == value
    assert cbor.encode(value) == bytes(untrusted)


@given(some.binary(max_size=600))
def test_every_parser_returns_or_raises_input_error(untrusted):
    for parse in PARSERS:
        with contextlib.suppress(InputError):
            parse(untrusted)
    for parse in FRAME_PARSERS:
        with contextlib.suppress(InputError):
            parse(b"\x02" + untrusted)


@given(MESSAGES)
def test_every_message_is_read_or_refused(value):
    with contextlib.suppress(InputError):
        read_message(cbor.encode(value))
    with contextlib.suppress(InputError):
        read_request(value)


@given(
    some.lists(some.binary(max_size=400) | some.sampled_from([b"\0", b"\xff" * 255, b"\x01\x00"]), max_size=8)
)
def test_both_readers_find_the_same_frames_however_the_bytes_are_cut(chunks):
    reader, lines, whole = cobs.Reader(), helper.Lines(), cobs.Reader()
    found = [frame for chunk in chunks for frame in reader.feed(chunk)]
    assert found == [frame for chunk in chunks for frame in lines.feed(chunk)] == whole.feed(b"".join(chunks))
    for frame in found:
        assert cobs.decode(cobs.encode(frame)[:-1]) == frame


@given(some.binary(min_size=3, max_size=2000))
def test_a_frame_comes_back_as_it_was(frame):
    line = cobs.encode(frame)
    assert line == helper.stuff(frame)
    assert line.count(b"\0") == 1
    assert cobs.decode(line[:-1]) == helper.unstuff(line[:-1]) == frame


@settings(max_examples=MEETINGS)
@given(some.lists(MESSAGES, max_size=6))
def test_a_hostile_guest_with_the_keys_can_say_what_it_likes(values):
    host, guest = Host(), Guest()
    meet(host, guest)
    for value in values:
        with contextlib.suppress(InputError):
            cbor.encode(value)
            host.take(guest.say(value))
    assert len(host.session._heads) < 3


@settings(max_examples=MEETINGS)
@given(some.lists(some.binary(max_size=300), max_size=5), some.integers(0, 5))
def test_no_bytes_make_a_session_raise_and_the_next_begins_all_the_same(chunks, kind):
    host, guest = Host(), Guest()
    meet(host, guest)
    for chunk in chunks:
        host.take(chunk + b"\0" + cobs.encode(bytes((kind, 1, 1)) + chunk))
        guest.take(chunk)
    host.take(b"\0")
    guest.take(b"\0")
    meet(host, guest)
    assert host.session.is_open
    assert guest.session.open
