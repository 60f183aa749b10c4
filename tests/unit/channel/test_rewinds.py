"""A guest whose memory is put back within an execution is proven rewound; nothing else proves it.

`copy` of a guest is a snapshot of its memory: its randomness, keys, counts and standing come back with it.
"""

import itertools
import random

import pytest
from channelpair import BOOT, EID, Guest, Host, helper, meet, ping

from undercroft.channel.frames import Standing
from undercroft.channel.messages import Pong, Requests
from undercroft.channel.seen import MAX_FORMER_BOOTS, Proof, Seen, judge_answer, opened
from undercroft.channel.session import Broken, Message, Ready
from undercroft.errors import StateError


def found(host: Host) -> list[Proof]:
    return [each.proof for each in host.rewinds()]


def test_a_guest_that_was_put_back_and_speaks_first_is_proven_rewound():
    host, guest = Host(), Guest()
    meet(host, guest)
    ping(host, guest)
    snapshot = guest.copy()
    ping(host, guest)
    (event,) = host.take(snapshot.say([5, 1, [[3, b"token", False]]]))
    assert event.proof is Proof.NUMBER
    assert event.seen == Seen(BOOT, 1000, 2, 3)
    assert event.found == Standing(EID, 1000, 2, 2)
    assert str(event) == (
        "the guest was put back: a sealed frame has a number that was seen before; it was at session 1000, "
        "2 sent, 3 taken, and is at session 1000, 2 sent, 2 taken"
    )
    assert not [each for each in host.said() if isinstance(each, Requests)]
    assert not host.take(snapshot.say([2, 1])), "nothing of that session counts any more"


def test_a_guest_that_says_the_very_same_again_is_proven_rewound():
    host, guest = Host(), Guest()
    meet(host, guest)
    snapshot = guest.copy()
    first, again = guest.say([2, 1]), snapshot.say([2, 1])
    assert first == again
    host.take(first)
    host.take(again)
    assert found(host) == [Proof.NUMBER]


def test_a_guest_that_was_put_back_and_is_asked_first_is_proven_rewound_by_where_it_stands():
    host, guest = Host(), Guest()
    meet(host, guest)
    ping(host, guest)
    snapshot = guest.copy()
    ping(host, guest)
    (event,) = ping(host, snapshot)
    assert isinstance(event, Broken)
    meet(host, snapshot)
    assert found(host) == [Proof.STANDING]


def test_a_load_of_what_an_execution_before_was_is_proven_though_its_boot_was_never_seen_in_this_one():
    """Yesterday's snapshot, loaded through the monitor into the machine that was started today."""
    yesterday, guest = Host(eid=b"y" * 16), Guest(boot=b"0" * 16)
    meet(yesterday, guest)
    snapshot = guest.copy()
    host, today = Host(), Guest()
    meet(host, today)
    ping(host, today)
    meet(host, snapshot)
    assert found(host) == [Proof.OTHER]


def test_a_boot_that_is_forgotten_among_many_is_known_by_where_it_stands():
    host, guests = Host(), [Guest(boot=bytes([each]) * 16) for each in range(MAX_FORMER_BOOTS + 9)]
    for guest in guests:
        meet(host, guest)
    assert not host.rewinds()
    meet(host, guests[0])
    assert found(host) == [Proof.OTHER]


def test_reboots_whose_helpers_answered_in_vain_are_no_rewind():
    """An answer is lost with the power, the next boot answers again; also when the host's clock is back."""
    host = Host()
    meet(host, Guest(boot=b"0" * 16))
    for each in range(1, 5):
        guest = Guest(boot=bytes([each]) * 16)
        guest.take(host.session.begin())
        guest.take(host.session.begin())
        meet(host, guest)
        host = Host(host.session.seen, draws=each + 2)
    assert not host.rewinds()


def test_without_what_was_seen_the_same_guest_passes_for_another():
    host, guest = Host(), Guest()
    meet(host, guest)
    ping(host, guest)
    snapshot = guest.copy()
    ping(host, guest)
    unaware = Host(draws=9)
    assert [type(each) for each in meet(unaware, snapshot)] == [Ready]
    aware = Host(host.session.seen, draws=9)
    meet(aware, guest.copy())
    assert not aware.rewinds()
    aware = Host(host.session.seen, draws=10)
    snapshot.session.standing.eid, snapshot.session.standing.serial = EID, 1000
    snapshot.session.standing.sent, snapshot.session.standing.taken = 1, 2
    meet(aware, snapshot)
    assert found(aware) == [Proof.STANDING]


def test_a_guest_that_was_put_back_to_another_session_of_the_execution_is_proven_rewound():
    host, guest = Host(), Guest()
    meet(host, guest)
    snapshot = guest.copy()
    meet(host, guest)
    ping(host, guest)
    for _ in range(3):
        ping(host, snapshot)
    assert isinstance(host.events[-1], Broken), "three frames that it cannot read"
    meet(host, snapshot)
    assert found(host) == [Proof.STANDING]


def test_a_guest_that_was_put_back_to_before_any_session_is_proven_rewound():
    host, guest = Host(), Guest()
    snapshot = guest.copy()
    meet(host, guest)
    assert not ping(host, snapshot), "its reader has not seen the end of a frame yet"
    (event,) = ping(host, snapshot)
    assert isinstance(event, Broken)
    meet(host, snapshot)
    assert found(host) == [Proof.STANDING]


def test_a_guest_that_was_put_back_to_an_earlier_execution_is_proven_rewound():
    before, guest = Host(eid=b"e" * 16, draws=70), Guest()
    meet(before, guest)
    ping(before, guest)
    snapshot = guest.copy()
    host = Host()
    assert [type(each) for each in meet(host, guest)] == [Ready]
    ping(host, guest)
    meet(host, snapshot)
    assert found(host) == [Proof.STANDING]


def test_a_guest_that_answers_one_hello_twice_is_proven_rewound():
    host, guest = Host(), Guest()
    snapshot = guest.copy()
    hello = host.session.begin()
    host.take(guest.take(hello))
    guest.take(host.session.welcome(1, None, 1))
    host.take(snapshot.take(hello))
    assert found(host) == [Proof.ANSWER]


def test_a_guest_that_was_put_back_over_a_reboot_is_proven_rewound():
    host, guest = Host(), Guest()
    meet(host, guest)
    snapshot = guest.copy()
    rebooted = Guest(b"c" * 16)
    meet(host, rebooted)
    assert not host.rewinds()
    ping(host, snapshot)
    meet(host, snapshot)
    assert found(host) == [Proof.BOOT]


def test_a_guest_that_took_fewer_frames_than_before_is_proven_rewound():
    host, guest = Host(), Guest()
    meet(host, guest)
    ping(host, guest)
    guest.session.standing.taken -= 1
    host.take(guest.say([2, 5]))
    assert found(host) == [Proof.HEAD]


def test_reboots_prove_nothing_and_the_guest_is_let_in_again():
    host = Host()
    for boot in range(5):
        guest = Guest(bytes([boot]) * 16)
        guest.session.start()
        host.take(guest.sent())
        assert [type(each) for each in meet(host, guest)] == [Ready]
        assert ping(host, guest)[-1] == Message(Pong(boot + 1))
    assert not host.rewinds()
    assert host.session.seen.former == tuple(bytes([boot]) * 16 for boot in range(4))


def test_a_reboot_that_draws_what_the_one_before_drew_proves_nothing():
    host = Host()
    meet(host, Guest(b"1" * 16, draws=5))
    meet(host, Guest(b"2" * 16, draws=5))
    assert not host.rewinds()


def test_a_helper_that_is_killed_at_any_point_and_started_anew_proves_nothing(tmp_path):
    host, guest = Host(), Guest()
    page = str(tmp_path / "standing")
    for turn in range(12):
        guest = Guest(draws=turn)
        guest.session.standing = helper.Page(page, BOOT)
        if turn % 4 == 0:
            guest.take(host.session.begin())  # the answer is lost
            continue
        meet(host, guest)
        if turn % 4 == 1:
            continue  # killed before it said anything
        ping(host, guest)
        if turn % 4 == 2:
            guest.say([2, 9])  # killed when it was sealed, before it was sent
        else:
            guest.take(host.session.ping())  # killed before its pong went out
    assert not host.rewinds()
    assert not [event for event in host.events if isinstance(event, Broken)]


def test_a_torn_standing_is_read_from_the_slot_that_is_whole(tmp_path):
    path = tmp_path / "standing"
    page = helper.Page(str(path), BOOT)
    page.eid = EID
    for count in range(1, 6):
        page.sent = count
        page.keep()
    torn = bytearray(path.read_bytes())
    torn[64 + 40] ^= 0xFF  # the fifth turn is the first slot's
    path.write_bytes(torn)
    assert helper.Page(str(path), BOOT).sent == 4


def test_a_standing_of_another_boot_or_of_another_size_is_none(tmp_path):
    path = tmp_path / "standing"
    page = helper.Page(str(path), BOOT)
    page.eid, page.sent = EID, 4
    page.keep()
    assert helper.Page(str(path), BOOT).value() == [EID, 0, 4, 0]
    assert helper.Page(str(path), b"c" * 16).value() is None
    path.write_bytes(b"short")
    assert helper.Page(str(path), BOOT).value() is None


def test_frames_that_were_lost_with_a_socket_prove_nothing():
    host, guest = Host(), Guest()
    meet(host, guest)
    ping(host, guest)
    guest.say([2, 8])  # never arrives
    host.session.ping()  # never arrives
    again = Host(host.session.seen, draws=5)
    assert [type(each) for each in meet(again, guest)] == [Ready]


def test_answers_that_were_lost_prove_nothing():
    host, guest = Host(), Guest()
    meet(host, guest)
    ping(host, guest)
    for _ in range(3):
        guest.take(host.session.begin())
    assert [type(each) for each in meet(host, guest)] == [Ready]
    assert not host.rewinds()


def test_a_host_that_lost_what_it_kept_proves_nothing_though_its_clock_went_back():
    host, guest = Host(), Guest()
    for _ in range(5):
        meet(host, guest)
    fresh = Host(draws=500)
    assert [type(each) for each in meet(fresh, guest)] == [Ready]
    ping(fresh, guest)
    meet(fresh, guest)
    assert not fresh.rewinds()


def test_after_a_proof_the_guest_goes_on_in_another_execution_or_not_at_all():
    host, guest = Host(), Guest()
    meet(host, guest)
    snapshot = guest.copy()
    ping(host, guest)
    host.take(snapshot.say([2, 1]))
    restarted = Host(Seen.decode(host.session.seen.encode()))
    for each in (host, restarted):
        with pytest.raises(StateError, match="another execution"):
            each.session.begin()
    other = Host(eid=b"o" * 16, draws=40)
    assert [type(each) for each in meet(other, snapshot)] == [Ready]
    again = snapshot.copy()
    ping(other, snapshot)
    other.take(again.say([2, 1]))
    assert found(other) == [Proof.NUMBER]


def test_former_boots_are_bounded():
    seen = None
    for boot in range(MAX_FORMER_BOOTS + 9):
        seen = opened(seen, boot.to_bytes(16, "big"), boot)
    assert seen.former == tuple(boot.to_bytes(16, "big") for boot in range(8, MAX_FORMER_BOOTS + 8))


def points():
    counts = (0, 3, 4)
    return list(itertools.product((4, 5), counts, counts))


@pytest.mark.parametrize(("serial", "sent", "taken"), points())
def test_a_standing_is_a_proof_exactly_where_it_is_behind(serial, sent, taken):
    seen = Seen(BOOT, 4, received=3, acknowledged=3)
    behind = serial == 4 and (sent < 3 or taken < 3)
    judged = judge_answer(seen, BOOT, EID, Standing(EID, serial, sent, taken))
    assert judged is (Proof.STANDING if behind else None)


def play(seed: int) -> None:
    """A random life of a guest: pings, requests, lost bytes, sessions, reboots; and at last a load."""
    draw = random.Random(seed)
    host, guest, boots = Host(), Guest((0).to_bytes(16, "big")), 1
    meet(host, guest)
    snapshot, moved = guest.copy(), False
    for _ in range(draw.randrange(4, 40)):
        act = draw.randrange(8)
        if act < 4 and host.session.is_open:
            moved |= bool(ping(host, guest))
        elif act == 4 and host.session.is_open:
            moved |= bool(host.take(guest.say([5, 1, [[2, b"c"]]])))
        elif act == 5 and host.session.is_open:
            _ = host.session.ping() if draw.random() < 0.5 else guest.say([2, 1])  # lost on its way
        elif act == 6:
            meet(host, guest)
            moved = True
        else:
            snapshot, moved = guest.copy(), False
            if draw.random() < 0.2:
                guest, boots, moved = Guest(boots.to_bytes(16, "big")), boots + 1, True
                meet(host, guest)
        if not host.session.is_open:
            meet(host, guest)
            moved = True
    assert not host.rewinds(), seed
    for _ in range(5):  # the load, and what the host then does once a second
        if host.rewinds():
            break
        silent = host.session.is_open and not ping(host, snapshot) and host.session.unanswered >= 3
        if silent or not host.session.is_open:
            meet(host, snapshot)
    assert bool(host.rewinds()) == moved, seed


@pytest.mark.parametrize("seed", range(30))
def test_over_any_life_a_load_is_proven_if_anything_was_counted_since_and_nothing_else_is(seed):
    play(seed)


@pytest.mark.soak
def test_over_many_lives_a_load_is_proven_and_nothing_else_is():
    for seed in range(1_000, 5_000):
        play(seed)
