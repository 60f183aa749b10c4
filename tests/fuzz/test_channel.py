"""Mutated frames at both sides of a session, on the line, before they are stuffed, and inside the seal.

Each mutant has to cost its sender no more than the session; none may cost more memory or processor time
than is written here. `make soak` runs a long campaign with other mutants each time.
"""

import random
import time
import tracemalloc
from functools import partial

import pytest
from bytemistakes import with_mistakes
from channelpair import Guest, Host, helper, meet

from undercroft.channel import cbor, cobs
from undercroft.channel.messages import Answers, Quiesce
from undercroft.channel.requests import Answer, Outcome, Rests

MAX_PEAK_BYTES = 8 << 20
MAX_CPU_S = 0.5
SAID = [
    [1, 9, b"t" * 32, True, 64, 2, 1],
    [2, 1],
    [3, 4, True, 12, "groups"],
    [4, 4, 12],
    [
        5,
        1,
        [[1, b"name", 5], [3, b"token", True], [4, b"l", 3, b"h" * 32, b"entry"], [5, b"l", b"n" * 16], [13]],
    ],
    [5, 7, [[6, b"s", 1, b"d" * 700], [7, b"s", 0], [8, b"k", b"d" * 32], [12, 64]]],
    [6, "helper 1", "6.1.0-56", ["credit", "hwrng"]],
]
COSTLY = [
    b"\x99\x10\x00" + b"\x80" * 4096,
    b"\x98\x0f" + b"\x8f" + b"\x80" * 15 * 200,
    b"\x99\x0f\xff" + (b"\x8f" + b"\x80" * 15) * 4095,
    b"\xb9\x0f\xff" + b"".join(cbor.encode(key) + b"\x80" for key in range(4095)),
    b"\x83\x05\x01\x98\x40" + b"\x83\x01\x41a\x01" * 64,
    b"\x81" * 65_000,
    b"\x9b" + b"\xff" * 8,
    b"\x5a\x7f\xff\xff\xff",
]
EDGES = [b"\0", b"\xff", b"\x9a\xff\xff\xff\xff", b"\x5b" + b"\xff" * 8, b"\x81" * 9, b"\x7f", b"\xf9\0\0"]
mutate = partial(with_mistakes, edges=EDGES)


def sealed(guest: Guest, encoded: bytes) -> bytes:
    """Return a frame of this guest's whose message is any bytes at all."""
    pack, helper.pack = helper.pack, lambda value: value
    try:
        return guest.say(encoded)
    finally:
        helper.pack = pack


def play(draw: random.Random) -> None:
    """One session, with a mutant somewhere; it must end in a session that works."""
    host, guest = Host(), Guest()
    if draw.random() < 0.2:
        host.take(mutate(draw, guest.take(mutate(draw, host.session.begin()))))
    meet(host, guest)
    for _ in range(20):
        if not (host.session.is_open and guest.session.open):
            break
        where = draw.randrange(4)
        message = cbor.encode(draw.choice(SAID))
        if where == 0:
            host.take(mutate(draw, sealed(guest, message)))
        elif where == 1:
            frame = cobs.decode(sealed(guest, message)[:-1])
            host.take(cobs.encode(mutate(draw, frame)[: cobs.MAX_FRAME_BYTES] + b"end"))
        elif where == 2:
            host.take(sealed(guest, mutate(draw, message)))
        else:
            told = draw.choice([Quiesce(4), Answers(1, (Answer(Outcome.OK, Rests.SYNCED, (1,)),) * 9)])
            guest.take(mutate(draw, host.session.seal(told)))
    if host.session.seen and host.session.seen.proven:
        return  # a mutant of a number may say that it was put back: that is the guest's own doing
    host.take(b"\0")
    guest.take(b"\0")
    meet(host, guest)
    assert host.session.is_open
    assert guest.session.open


def measured(run) -> None:
    """Run twice, once for the time and once for the memory that it may cost."""
    begun = time.thread_time()
    run()
    assert time.thread_time() - begun < MAX_CPU_S
    tracemalloc.start()
    try:
        run()
        assert tracemalloc.get_traced_memory()[1] < MAX_PEAK_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoded", COSTLY, ids=lambda encoded: f"{encoded[:3].hex()} {len(encoded)}")
def test_the_costliest_values_cost_a_bounded_time_and_memory(encoded):
    def run():
        host, guest = Host(), Guest()
        meet(host, guest)
        host.take(sealed(guest, encoded[:65_471]))
        assert host.said() or host.breaks()

    measured(run)


@pytest.mark.parametrize(
    "chunk",
    [
        b"\0" * 65_536,
        b"\1" * 65_536,
        b"\1\0" * 32_768,
        b"\2\5\0" * 21_845,
        b"\2\2\0" * 21_845,
        b"\xff" * 65_536,
    ],
    ids=lambda chunk: chunk[:3].hex(),
)
def test_the_costliest_chunks_cost_a_bounded_time_and_memory(chunk):
    host, guest = Host(), Guest()
    meet(host, guest)
    measured(lambda: host.take(chunk))
    host.take(b"\0")
    meet(host, guest)
    assert host.session.is_open


def test_no_mutant_costs_more_than_its_session():
    for seed in range(100):
        play(random.Random(seed))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_no_mutant_of_a_long_campaign_costs_more_than_its_session():
    begun = random.SystemRandom().randrange(1 << 40)
    for seed in range(begun, begun + 20_000):
        try:
            measured(lambda seed=seed: play(random.Random(seed)))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
