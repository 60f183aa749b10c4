"""Mutated bytes at the small helper of C under sanitizers: on the line, before frames are stuffed, and inside
the seal. A mistake that a sanitizer finds ends its process.

`make soak` runs a long campaign with other mutants each time.
"""

import os
import random
from functools import partial

import pytest
import reseedhelper
from bytemistakes import with_mistakes
from channelpair import Host

from undercroft.channel import cbor, cobs
from undercroft.channel import session as session_module
from undercroft.channel.messages import Pong
from undercroft.channel.session import Ready

pytestmark = pytest.mark.skipif(bool(reseedhelper.missing()), reason=reseedhelper.missing())
SAID = [
    [2, 1],
    [3, 4],
    [5, 1, [[0, 1, 7], [1, 0, "no"], [0, 2, b"blob" * 100]]],
    [5, 7, [{1: 2, "a": [None, True, -5]}]],
    [2, {"deep": [[[[[[1]]]]]]}],
]
EDGES = [
    b"\0",
    b"\xff",
    b"\x9a\xff\xff\xff\xff",
    b"\x5b" + b"\xff" * 8,
    b"\x81" * 9,
    b"\x7f",
    b"\xf9\0\0",
    b"\xa1",
]
COSTLY = [
    b"\x99\x10\x00" + b"\x80" * 4096,
    b"\x99\x0f\xff" + (b"\x8f" + b"\x80" * 15) * 4095,
    b"\xb9\x0f\xff" + b"".join(cbor.encode(key) + b"\x80" for key in range(4095)),
    b"\x82\x02\x79\xfe\x00" + "ü".encode() * 32_512,
    b"\x81" * 65_000,
]
CHUNKS = [b"\0" * 65_536, b"\1" * 65_536, b"\1\0" * 32_768, b"\2\5\0" * 21_845, b"\xff" * 200_000]
mutate = partial(with_mistakes, edges=EDGES)


def sealed(host: Host, encoded: bytes) -> bytes:
    """Return a frame of the host's whose message is any bytes at all."""
    encode = session_module.cbor.encode
    session_module.cbor.encode = lambda value: value
    try:
        return host.session._sealed(encoded)
    finally:
        session_module.cbor.encode = encode


def meet(host: Host, probe: reseedhelper.Probe, seed: bytes | None = None) -> None:
    events = host.take(probe.receive(b"\0" + host.session.begin()))
    assert any(isinstance(each, Ready) for each in events)
    host.take(probe.receive(host.session.welcome(5, seed, 1)))


def pings(host: Host, probe: reseedhelper.Probe) -> None:
    """Require that a session works."""
    meet(host, probe)
    host.take(probe.receive(host.session.ping()))
    assert isinstance(host.said()[-1], Pong)


def play(draw: random.Random, probe: reseedhelper.Probe, folder) -> None:
    """One session, with mutants in it; it must end in a session that works."""
    probe.ask(b"T", draw.randbytes(4096))
    for each in ("standing", "frozen"):
        (folder / each).unlink(missing_ok=True)
    probe.begin(folder)
    host = Host(draws=draw.randrange(1 << 20))
    if draw.random() < 0.5:
        hello = host.session.begin()
        frame = mutate(draw, cobs.decode(hello[1:-1]))
        probe.receive(mutate(draw, hello) if draw.random() < 0.5 else b"\0" + cobs.encode(frame + b"end"))
    meet(host, probe, draw.choice([None, b"s" * 32]))
    for _ in range(20):
        if not (host.session.is_open and probe.state().open):
            break
        where, message = draw.randrange(4), cbor.encode(draw.choice(SAID))
        if where == 0:
            told = mutate(draw, sealed(host, message))
        elif where == 1:
            told = cobs.encode(mutate(draw, cobs.decode(sealed(host, message)[:-1]))[:65_000] + b"end")
        elif where == 2:
            told = sealed(host, mutate(draw, message))
        else:
            told = sealed(host, message) + draw.randbytes(draw.randrange(60))
        host.take(probe.receive(told))
    pings(host, probe)


@pytest.fixture(scope="module")
def probe():
    with reseedhelper.Probe() as probe:
        yield probe


def test_no_mutant_costs_more_than_its_session(probe, tmp_path):
    for seed in range(80):
        play(random.Random(seed), probe, tmp_path)


@pytest.mark.parametrize("encoded", COSTLY, ids=lambda encoded: f"{encoded[:3].hex()} {len(encoded)}")
def test_the_largest_values_cost_no_more_than_their_session(probe, tmp_path, encoded):
    probe.begin(tmp_path)
    host = Host()
    meet(host, probe)
    host.take(probe.receive(sealed(host, encoded[:65_471])))
    pings(host, probe)


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: chunk[:3].hex())
def test_the_worst_lines_cost_no_more_than_their_session(probe, tmp_path, chunk):
    probe.begin(tmp_path)
    host = Host()
    meet(host, probe)
    probe.receive(chunk)
    pings(host, probe)


def records(draw: random.Random) -> bytes:
    """Return a record of what is frozen, with mistakes in it."""
    whole = b"quiesce 7\ngroup /a/b\nstop 12 3456\nfirst /a\ncount 3\n" + b"group " + b"g" * 300 + b"\n"
    return mutate(draw, whole * draw.randrange(1, 4) + b"x" * draw.choice((0, 10_000)))


def test_no_file_of_its_own_harms_a_helper_that_starts(probe, tmp_path):
    for seed in range(50):
        draw = random.Random(seed)
        (tmp_path / "frozen").write_bytes(records(draw))
        (tmp_path / "standing").write_bytes(mutate(draw, b"b" * 16 + bytes(240)))
        (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/self/mountinfo").write_bytes(
            mutate(
                draw, b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" + b"m" * draw.choice((0, 9000))
            )
        )
        probe.begin(tmp_path)
        host = Host()
        meet(host, probe)
        host.take(probe.receive(sealed(host, cbor.encode([3, 1]))))
        meet(host, probe, b"s" * 32)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_no_mutant_of_a_long_campaign_costs_more_than_its_session(probe, tmp_path):
    begun = random.SystemRandom().randrange(1 << 40)
    for seed in range(begun, begun + int(os.environ.get("UNDERCROFT_RESEED_MUTANTS", "20000"))):
        try:
            play(random.Random(seed), probe, tmp_path)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
