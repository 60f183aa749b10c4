"""Sessions of both sides with what a line may do to them: cut, mixed with junk, stale, replayed, flooded."""

import dataclasses
import hashlib
import random

import pytest
from channelpair import BOOT, EID, MACHINE, Guest, Host, helper, meet, ping

from undercroft.channel import cobs, frames
from undercroft.channel.keys import Direction, TagError
from undercroft.channel.messages import (
    About,
    Answers,
    Confirmed,
    Ping,
    Pong,
    Quiesce,
    Quiesced,
    Requests,
    Thawed,
)
from undercroft.channel.requests import Answer, Operation, Outcome, Request, Rests, read_request
from undercroft.channel.seen import Seen
from undercroft.channel.session import MAX_UNTAKEN, Broken, Message, Ready
from undercroft.errors import InputError, StateError

SEED = b"s" * 32


def test_a_session_carries_every_message_of_both_sides():
    host, guest = Host(), Guest()
    (ready,) = meet(host, guest, SEED, generation=9, following=3)
    assert ready == Ready(BOOT, None, False, ready.nonces)
    host.take(guest.say([6, "helper 1", "6.1.0", ["credit"]]))
    host.take(guest.say([1, 9, b"t" * 32, True, 64, 2, 1]))
    host.take(guest.say([5, 3, [[1, b"n", 5], [3, b"t", True], [13]]]))
    host.take(guest.take(host.session.seal(Quiesce(4)) + host.session.ping()))
    host.take(guest.say([3, 4, True, 12, "groups"]) + guest.say([4, 4, 12]))
    guest.take(
        host.session.seal(Answers(3, (Answer(Outcome.OK, Rests.SYNCED, (5,)), Answer(Outcome.REFUSED))))
    )
    asked = (
        Request(Operation.INCREMENT, (b"n", 5)),
        Request(Operation.SPEND, (b"t", True)),
        Request(Operation.STATUS, ()),
    )
    assert host.said() == [
        About("helper 1", "6.1.0", ("credit",)),
        Confirmed(9, b"t" * 32, True, 64, 2, 1),
        Requests(3, asked),
        Pong(1),
        Quiesced(4, True, 12, "groups"),
        Thawed(4, 12),
    ]
    assert guest.events == [("welcome", 9, SEED, 3), ("quiesce", 4), ("answers", 3, [[0, 1, 5], [1, 0]])]
    assert host.session.dropped == 0


def test_a_session_works_when_its_bytes_come_one_by_one_and_with_junk_before_them():
    host, guest = Host(), Guest()
    draw = random.Random(1)
    junk = [draw.randbytes(draw.randrange(1, 300)) for _ in range(8)]
    for each in junk:
        host.take(each)
        guest.session.receive(each)
    guest.sent()
    for byte in host.session.begin():
        guest.session.receive(bytes((byte,)))
    events = [host.take(bytes((byte,))) for byte in guest.sent()]
    assert [type(each) for event in events for each in event] == [Ready]
    for byte in host.session.welcome(1, SEED, 1):
        guest.session.receive(bytes((byte,)))
    assert guest.session.open
    for byte in host.session.ping():
        guest.session.receive(bytes((byte,)))
    for byte in guest.sent():
        host.take(bytes((byte,)))
    assert host.said() == [Pong(1)]


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_frame_that_was_cut_off_costs_the_session_and_the_next_begins(lost):
    host, guest = Host(), Guest()
    meet(host, guest)
    cut = guest.say([2, 1])[:-lost]
    assert not host.take(cut)
    whole = guest.say([2, 2])
    host.take(whole)  # a part of it may have been eaten by the cut one
    host.take(guest.say([2, 3]))
    assert [type(each) for each in host.breaks()] == [Broken]
    assert not host.rewinds()
    assert [type(each) for each in meet(host, guest)] == [Ready]
    assert ping(host, guest) == [Message(Pong(1))]


def test_bytes_of_an_earlier_session_do_not_reach_the_next_one():
    host, guest = Host(), Guest()
    meet(host, guest)
    stale = guest.say([5, 1, [[1, b"stale", 1]]]) + guest.say([2, 77])
    hello = host.session.begin()
    answer = guest.take(hello)
    events = host.take(stale + answer + stale)
    assert [type(each) for each in events] == [Ready]
    guest.take(host.session.welcome(1, None, 1))
    assert not host.take(stale)
    assert not host.said()
    assert host.session.dropped == 6


def test_an_answer_to_an_earlier_hello_opens_nothing():
    host, guest = Host(), Guest()
    late = guest.take(host.session.begin())
    host.session.begin()
    assert not host.take(late)
    assert host.session.dropped == 1


def test_the_key_alone_keeps_a_stale_answer_out_even_where_its_nonce_were_right():
    host, guest = Host(), Guest()
    late = guest.take(host.session.begin())
    host.session.begin()
    frame = cobs.decode(late[1:-1])
    told = frames.read_answer(frame)
    forged = frame.replace(told.echo, host.session._hello.nonce)
    (event,) = host.take(b"\0" + cobs.encode(forged))
    assert event == Broken("the tag of the guest's answer does not fit: it was cut off or altered")


def test_a_stale_seed_is_not_taken_by_the_session_that_follows():
    host, guest = Host(), Guest()
    host.take(guest.take(host.session.begin()))
    stale = host.session.welcome(1, SEED, 1)
    host.take(guest.take(host.session.begin()))
    guest.take(stale)
    assert not guest.events
    guest.take(host.session.welcome(2, b"t" * 32, 1))
    assert guest.events == [("welcome", 2, b"t" * 32, 1)]


def test_a_replayed_frame_of_the_hosts_is_taken_once():
    host, guest = Host(), Guest()
    meet(host, guest)
    frame = host.session.seal(Quiesce(1))
    guest.take(frame + frame + frame)
    assert guest.events.count(("quiesce", 1)) == 1
    assert ping(host, guest) == [Message(Pong(1))]


def test_a_frame_that_is_missing_ends_the_session_on_either_side():
    host, guest = Host(), Guest()
    meet(host, guest)
    guest.say([2, 1])
    assert host.take(guest.say([2, 2])) == [Broken("the guest's frame 1 is missing")]
    meet(host, guest)
    host.session.seal(Ping(1))
    (event,) = host.take(guest.take(host.session.seal(Ping(2))))
    assert event == Broken("the guest asks to begin again: a frame of the host's is missing")


@pytest.mark.parametrize("at", [0, 1, 8, 9, 24, 25, 40, -1])
def test_a_sealed_frame_with_one_bit_altered_is_dropped(at):
    host, guest = Host(), Guest()
    meet(host, guest)
    frame = bytearray(cobs.decode(guest.say([2, 1])[:-1]))
    frame[at] ^= 1
    host.take(cobs.encode(bytes(frame)))
    assert not host.said()
    assert not host.rewinds()


def test_what_a_guest_says_in_a_frame_that_is_no_message_ends_the_session_without_its_text():
    host, guest = Host(), Guest()
    meet(host, guest)
    (event,) = host.take(guest.say([99, "\x1b[2J"]))
    assert event == Broken("the guest's frame 1 is no message: there is no message 99")
    assert not host.take(guest.say([2, 1]))


def test_a_guest_that_has_taken_frames_that_were_never_sent_ends_its_session():
    host, guest = Host(), Guest()
    meet(host, guest)
    guest.session.standing.taken += 1
    assert host.take(guest.say([2, 1])) == [Broken("the guest has taken frames that were never sent")]


def test_a_guest_with_another_head_ends_its_session():
    host, guest = Host(), Guest()
    meet(host, guest)
    guest.session.host_head = hashlib.sha256(b"other").digest()
    assert host.take(guest.say([2, 1])) == [Broken("the guest has taken frames that were never sent")]


def test_a_guest_that_takes_nothing_is_sent_no_more_than_is_bounded():
    host, guest = Host(), Guest()
    meet(host, guest)
    for _ in range(MAX_UNTAKEN - 1):
        host.session.ping()
    assert host.session.unanswered == MAX_UNTAKEN - 1
    with pytest.raises(StateError, match="untaken"):
        host.session.ping()


def test_pings_without_a_sign_of_life_are_counted_until_there_is_one():
    host, guest = Host(), Guest()
    meet(host, guest)
    lines = [host.session.ping() for _ in range(3)]
    assert host.session.unanswered == 3
    host.take(guest.take(lines[0]))
    assert host.session.unanswered == 0
    host.session.ping()
    host.session.begin()
    assert host.session.unanswered == 0


def test_what_is_kept_of_a_guest_that_takes_all_stays_small():
    host, guest = Host(), Guest()
    meet(host, guest)
    for _ in range(1000):
        ping(host, guest)
    assert len(host.session._heads) <= 2
    assert len(guest.session.heads) <= 2


def test_nothing_is_sealed_before_the_guest_has_answered_nor_after_the_end():
    host, guest = Host(), Guest()
    with pytest.raises(StateError):
        host.session.seal(Ping(1))
    with pytest.raises(StateError):
        host.session.welcome(1, None, 1)
    meet(host, guest)
    with pytest.raises(StateError):
        host.session.welcome(1, None, 1)
    host.take(guest.say([99]))
    with pytest.raises(StateError):
        host.session.ping()


def test_a_message_that_is_too_large_is_refused_and_the_session_goes_on():
    host, guest = Host(), Guest()
    meet(host, guest)
    large = tuple(Answer(Outcome.OK, Rests.SYNCED, (b"x" * 32_000,)) for _ in range(3))
    with pytest.raises(InputError):
        host.session.seal(Answers(1, large))
    assert ping(host, guest) == [Message(Pong(1))]


def test_the_largest_blob_passes_in_both_directions():
    host, guest = Host(), Guest()
    meet(host, guest)
    blob = b"\0" * 32_768
    host.take(guest.say([5, 1, [[6, b"name", 0, blob]]]))
    assert host.said()[-1].requests[0].arguments == (b"name", 0, blob)
    guest.take(host.session.seal(Answers(1, (Answer(Outcome.OK, Rests.SYNCED, (1, blob)),))))
    assert guest.events[-1] == ("answers", 1, [[0, 1, 1, blob]])


def test_a_guest_of_another_version_says_so():
    host, guest = Host(), Guest()
    hello = dataclasses.replace(host.session._hello or frames.Hello(MACHINE, EID, 1, b"n" * 16, b"k" * 32))
    other = hello.frame().replace(b"\x81\x01", b"\x81\x18\x63", 1)
    host.session.begin()
    (event,) = host.take(guest.take(b"\0" + cobs.encode(other)))
    assert event.reason == "the guest's helper speaks other versions (1): renew the helper"


def test_a_helper_that_starts_asks_for_a_session_though_the_host_believes_in_one():
    host, guest = Host(), Guest()
    meet(host, guest)
    new = Guest()
    new.session.standing = guest.session.standing
    new.session.start()
    (event,) = host.take(new.sent())
    assert event == Broken("the guest asks to begin again: its helper has started")
    assert [type(each) for each in meet(host, new)] == [Ready]


def test_a_guest_that_asks_again_and_again_is_heard_once_until_a_session_begins():
    host, guest = Host(), Guest()
    meet(host, guest)
    again = b"\0" + cobs.encode(b"\x03\x81\x00")
    assert len(host.take(again * 1000)) == 1
    assert not host.take(again * 1000)
    host.session.begin()
    assert len(host.take(again * 1000)) == 1


def test_a_guest_without_a_session_asks_for_one_and_does_not_flood():
    host, guest, stranger = Host(), Guest(), Guest()
    meet(host, guest)
    asked = [stranger.take(host.session.ping()) for _ in range(40)]
    assert [bool(each) for each in asked].count(True) == 3
    host.take(b"\0")
    assert host.take(next(filter(None, asked))) == [
        Broken(f"the guest asks to begin again: {frames.REASONS[3]}")
    ]


def test_the_guest_takes_no_first_message_but_a_welcome_with_its_nonce():
    for message in ([2, 1], [1, b"x" * 16, 1, None, 1]):
        host, guest = Host(), Guest()
        host.take(guest.take(host.session.begin()))
        (event,) = host.take(guest.take(host.session._sealed(message)))
        assert isinstance(event, Broken)
        assert not guest.session.open


def test_the_same_number_with_another_text_tells_nothing_of_the_two_texts():
    one, two = b"spend the token A" * 3, b"spend the token B" * 3
    difference = bytes(a ^ b for a, b in zip(one, two, strict=True))
    direction = Direction(b"m" * 32, b"s" * 32)

    def crossed(seal):
        first, second = seal(one), seal(two)
        return bytes(a ^ b for a, b in zip(first, second, strict=True))

    def by_number_alone(text):  # the control: what a stream of key and number gives to who listens
        stream = hashlib.shake_256(b"s" * 32 + bytes(8)).digest(len(text))
        return bytes(a ^ b for a, b in zip(text, stream, strict=True))

    assert crossed(by_number_alone) == difference
    assert crossed(lambda text: direction.seal(b"\x05", 1, text)[16:]) != difference
    assert direction.open(b"\x05", 1, direction.seal(b"\x05", 1, one)) == one
    with pytest.raises(TagError):
        direction.open(b"\x05", 2, direction.seal(b"\x05", 1, one))


def test_two_guests_that_draw_the_same_have_different_keys():
    one, two = Host(draws=1), Host(draws=50)
    twins = Guest(draws=5), Guest(draws=5)
    meet(one, twins[0], SEED)
    meet(two, twins[1], SEED)
    assert twins[0].session.nonce == twins[1].session.nonce
    assert twins[0].session.mine != twins[1].session.mine
    assert not two.take(twins[0].say([2, 1]))


def test_an_execution_in_which_the_same_is_drawn_has_keys_of_its_own():
    one, two = Host(draws=1), Host(draws=1, eid=b"e" * 16)
    twins = Guest(draws=5), Guest(draws=5)
    meet(one, twins[0])
    meet(two, twins[1])
    assert twins[0].session.mine != twins[1].session.mine


def test_repr_shows_no_secret():
    host, guest = Host(), Guest()
    meet(host, guest)
    assert "\\x" not in repr(host.session._keys)
    assert repr(host.session._keys.from_host) == "Direction()"


def test_what_was_seen_is_kept_as_bytes_and_nothing_else_is_read_back():
    seen = Seen(BOOT, 5, 6, 7, (b"c" * 16, b"d" * 16))
    assert Seen.decode(seen.encode()) == seen
    for cut in range(len(seen.encode())):
        with pytest.raises(InputError):
            Seen.decode(seen.encode()[:cut])


def test_a_chunk_of_nothing_but_zeros_or_of_short_runs_is_nothing():
    host = Host()
    host.session.begin()
    assert not host.take(b"\0" * 65_536)
    assert not host.take(b"\1" * 200_000)
    assert not host.take(b"\1" * 200_000 + b"\0")
    assert host.session._reader._begun == b""


def test_a_frame_that_never_ends_is_kept_no_longer_than_a_frame_may_be():
    for reader in (cobs.Reader(), helper.Lines()):
        reader.feed(b"\0")
        for _ in range(50):
            reader.feed(b"\1" * 10_000)
            assert len(getattr(reader, "_begun", getattr(reader, "held", b""))) <= cobs.MAX_ENCODED_BYTES
        assert reader.feed(b"\0\4abc\0") == [b"abc"]


@pytest.mark.parametrize(
    "untrusted", [[1, b"name", True], [3, b"token", 1], [1, b"name", b"1"], [1, True, 1]]
)
def test_a_truth_value_is_no_number_and_a_number_no_truth_value(untrusted):
    with pytest.raises(InputError):
        read_request(untrusted)


def test_a_guest_that_was_put_back_learns_it_from_what_the_host_has_taken():
    host, guest = Host(), Guest()
    meet(host, guest)
    snapshot = guest.copy()
    host.take(guest.say([2, 1]))
    (event,) = ping(host, snapshot)
    assert event == Broken(f"the guest asks to begin again: {frames.REASONS[2]}")


def test_the_guest_makes_no_session_of_a_key_that_gives_no_secret():
    guest = Guest()
    hello = frames.Hello(MACHINE, EID, 1, b"n" * 16, bytes(32)).frame()
    asked = guest.take(b"\0" + cobs.encode(hello))
    assert cobs.decode(asked.strip(b"\0")) == bytes((frames.AGAIN,)) + b"\x81\x03"
    assert not guest.session.keys


def test_helper_and_host_agree_on_the_longest_frame():
    frame = b"\xff" * cobs.MAX_FRAME_BYTES
    line = cobs.encode(frame)
    assert helper.stuff(frame) == line
    assert len(line) == cobs.MAX_ENCODED_BYTES + 1 == helper.MAX_LINE_BYTES + 1
    reader, lines = cobs.Reader(), helper.Lines()
    for piece in (b"\0", line, b"\2" + line, line):
        assert reader.feed(piece) == lines.feed(piece)
    with pytest.raises(InputError):
        cobs.encode(frame + b"x")
