"""One guest's sessions over hours that pass at once: when they begin, what a quiesce holds back, bounds."""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator, Sequence

import pytest
from tests.support.channelpair import BOOT, EID, MACHINE, helper
from tests.support.channelpair import Guest as Helper

from undercroft.channel.requests import Request
from undercroft.errors import StateError
from undercroft.guestservice.guest import BEGINS, HELD_S, MAX_IN_FLIGHT, Guest
from undercroft.guestservice.keep import Confirmation, Kept
from undercroft.guestservice.link import Link
from undercroft.guestservice.naming import Who

DRAWS = itertools.count(5_000, 1_000)


class Surroundings:
    """A service that answers nothing by itself, and remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.asked: list[tuple[int, int, Sequence[Request]]] = []
        self._seeds, self._time = itertools.count((1 << 40) + 1), itertools.count(1_000)

    def random(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)

    def microseconds(self) -> int:
        return next(self._time)

    def next_generation(self) -> int:
        return next(self._seeds)

    def next_request(self, guest: Guest) -> int:
        return 1

    def ask(self, guest: Guest, first: int, requests: Sequence[Request]) -> None:
        self.asked.append((guest.session_number(), first, requests))

    def keep(self, guest: Guest) -> None:
        guest.kept.seen = guest.seen

    def confirm(self, guest: Guest, confirmed: Confirmation | None) -> None:
        guest.kept.confirmed = confirmed

    def tell(self, guest: Guest, event: str, fields: dict[str, object]) -> None:
        self.events.append((event, fields))

    def seeded(self, guest: Guest, generation: int) -> None: ...

    def told(self) -> list[str]:
        return [event for event, _ in self.events]


class Play:
    """A guest of the service, the helper at its other end, and the time."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.around, self.now = Surroundings(), 100.0
        self.theirs, ours = socket.socketpair()
        self.theirs.setblocking(False)
        self.kept = kept or Kept(0, MACHINE, EID)
        self.guest = Guest(Who(MACHINE, EID, "web01"), Link(ours), self.kept, self.around, self.now)
        self.helper = Helper()
        self.seeds: list[bytes] = []
        self.begun = 0

    def carry(self) -> None:
        """Carry bytes both ways until nobody says anything more."""
        while True:
            self.guest.link.flush()
            try:
                data = self.theirs.recv(1 << 20)
            except BlockingIOError:
                return
            self.count(data)
            before = len(self.helper.events)
            answer = self.helper.take(data)
            for event in self.helper.events[before:]:
                if event[0] == "welcome" and event[2] is not None:
                    self.seeds.append(event[2])
            self.guest.receive(answer, self.now)

    def say(self, *message: object) -> None:
        self.guest.receive(self.helper.say(list(message)), self.now)
        self.carry()

    def confirm(self) -> None:
        generation = next(e[1] for e in reversed(self.helper.events) if e[0] == "welcome" and e[2])
        self.say(1, generation, helper.confirmation(self.seeds[-1], MACHINE, EID, generation), True, 64, 0, 0)

    def swallow(self) -> None:
        """QEMU takes what was sent, and the guest, which is paused, does not."""
        self.guest.link.flush()
        with contextlib.suppress(BlockingIOError):
            self.count(self.theirs.recv(1 << 20))

    def count(self, data: bytes) -> None:
        """Count the hellos in it."""
        self.begun += sum(frame[0] == helper.HELLO for frame in helper.Lines().feed(b"\0" + data))

    def ticks(self, count: int, *, carried: bool = True, swallowed: bool = False) -> None:
        for _ in range(count):
            self.now += 1
            self.guest.tick(self.now)
            if carried:
                self.carry()
            if swallowed:
                self.swallow()


@pytest.fixture
def play() -> Iterator[Play]:
    made = Play()
    made.guest.start()
    made.carry()
    made.confirm()
    yield made
    made.theirs.close()
    made.guest.link.close()


def goes_on(play: Play, made: Helper) -> None:
    """The helper starts anew."""
    play.helper = made
    made.session.start()
    play.guest.receive(made.sent(), play.now)
    play.carry()


def restarted(play: Play) -> None:
    made = Helper(play.helper.session.boot, draws=next(DRAWS))
    made.session.standing = play.helper.session.standing
    goes_on(play, made)


def test_a_guest_that_rebooted_has_seeds_until_its_new_boot_has_confirmed_one(play: Play) -> None:
    restarted(play)
    assert len(play.seeds) == 1, "what was confirmed holds for its boot"
    goes_on(play, Helper(b"c" * 16, draws=next(DRAWS)))
    assert len(play.seeds) == 2, "a generator that began anew"
    assert play.guest.told["confirmed"]["generation"] == (1 << 40) + 1, "what opened for it stays open"
    restarted(play)
    assert len(play.seeds) == 3
    play.confirm()
    assert play.guest.told["confirmed"]["generation"] == (1 << 40) + 3
    restarted(play)
    assert len(play.seeds) == 3
    assert play.guest.is_open
    assert "rewound" not in play.around.told()


@pytest.mark.parametrize(("boot", "seeds"), [(None, 1), (b"c" * 16, 1), (BOOT, 0)])
def test_a_service_that_starts_anew_gives_a_seed_unless_this_very_boot_has_confirmed(
    boot: bytes | None, seeds: int
) -> None:
    confirmed = Confirmation(1 << 40, True, 128, 0, 0, 77, boot)
    made = Play(Kept(0, MACHINE, EID, confirmed=confirmed))
    with made.theirs, contextlib.closing(made.guest.link):
        made.guest.start()
        made.carry()
        assert len(made.seeds) == seeds
        assert made.guest.is_open


def test_a_guest_that_asks_to_begin_for_ever_gets_a_session_a_second(play: Play) -> None:
    play.begun = 0
    for _ in range(100):
        play.helper.session.asked = 0
        play.helper.session.start()
        play.guest.receive(play.helper.sent(), play.now)
        play.carry()
    assert play.begun <= BEGINS
    play.ticks(10)
    assert play.guest.is_open


def test_pings_that_are_answered_keep_a_session_for_hours(play: Play) -> None:
    play.begun = 0
    play.ticks(3_600)
    assert (play.begun, play.guest.is_open) == (0, True)


def test_a_quiesced_guest_that_is_silent_is_left_alone_and_not_for_ever(play: Play) -> None:
    play.begun = 0
    number = play.guest.quiesce(play.now)
    play.carry()
    play.say(3, number, True, 5, "signals")
    assert play.guest.state == "quiesced"
    play.ticks(int(HELD_S) - 1, carried=False, swallowed=True)
    assert "silent" not in play.around.told()
    assert play.begun == 0, "no hello, with whose seed it would thaw"
    seeds = len(play.seeds)
    play.ticks(2)
    assert len(play.seeds) == seeds + 1


def test_control_a_guest_that_is_not_quiesced_gets_another_session_when_it_is_silent(play: Play) -> None:
    play.begun = 0
    play.ticks(6, carried=False, swallowed=True)
    assert "silent" in play.around.told()
    assert play.begun >= 1


def test_while_nobody_takes_what_was_sent_no_hellos_pile_up(play: Play) -> None:
    before = len(play.guest.link.out)
    play.ticks(500, carried=False)
    assert len(play.guest.link.out) - before < 4_096


def test_a_guest_that_takes_its_time_to_freeze_is_waited_for_and_not_for_ever(play: Play) -> None:
    number = play.guest.quiesce(play.now)
    play.guest.link.flush()
    for _ in range(10):
        play.ticks(1, carried=False)
    assert "silent" not in play.around.told()
    play.carry()
    play.say(3, number, True, 5, "signals")
    assert play.guest.state == "quiesced"
    play.guest.again()
    play.carry()
    play.guest.quiesce(play.now)
    play.ticks(20, carried=False, swallowed=True)
    assert "silent" in play.around.told()


def test_what_thaws_before_again_was_not_held(play: Play) -> None:
    number = play.guest.quiesce(play.now)
    play.carry()
    play.say(3, number, True, 5, "signals")
    play.say(4, number, 5)
    assert play.guest.again() is False


def test_an_answer_to_another_quiesce_counts_for_nothing(play: Play) -> None:
    number = play.guest.quiesce(play.now)
    play.carry()
    play.say(3, number + 1, True, 5, "signals")
    assert "quiesced" not in play.around.told()
    assert play.guest.again() is False


def test_at_most_so_many_requests_wait_and_answers_of_an_earlier_session_are_dropped(play: Play) -> None:
    for batch in range(3):
        play.say(5, 1 + 40 * batch, [[13]] * 40)
    assert sum(len(requests) for _, _, requests in play.around.asked) <= MAX_IN_FLIGHT
    answered = [event for event in play.helper.events if event[0] == "answers"]
    assert [answer[0] for event in answered for answer in event[2]] == [5] * 80
    number, first, requests = play.around.asked[0]
    play.guest.again()
    play.carry()
    play.guest.answer(number, first, [(0, 1, "late")] * len(requests))
    play.carry()
    assert len([event for event in play.helper.events if event[0] == "answers"]) == 2


def test_an_answer_that_comes_after_the_link_went_to_another_execution_is_not_sent(play: Play) -> None:
    play.say(5, 1, [[13]])
    number, first, _ = play.around.asked[0]
    play.guest.end()
    play.guest.answer(number, first, [(0, 1, "late")])
    assert not play.guest.link.out


def test_who_leaves_every_frame_untaken_is_begun_with_anew(play: Play) -> None:
    play.begun = 0
    number = play.guest.session_number()
    for count in range(400):  # answers that the guest never takes
        play.guest.answer(number, 1 + count, [(0, 1, 1)])
        play.guest.link.flush()
    assert play.guest.session_number() != number
    assert len(play.guest.link.out) < 1 << 20


def test_after_a_proof_no_session_begins_whatever_comes(play: Play) -> None:
    kept = play.helper.copy()
    play.say(2, 1)
    play.helper = kept
    play.say(2, 1)
    assert play.around.told()[-1] == "rewound"
    play.begun = 0
    play.helper.session.start()
    play.guest.receive(play.helper.sent(), play.now)
    play.ticks(20)
    assert (play.begun, play.guest.state) == (0, "rewound")
    with pytest.raises(StateError):
        play.guest.quiesce(play.now)
    later = Play(play.kept)
    later.guest.start()
    later.carry()
    assert (later.begun, later.around.told()) == (0, ["rewound"])
    later.theirs.close()
    later.guest.link.close()
