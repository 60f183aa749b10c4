"""A real guest without Python, loaded from one snapshot twice: with the small helper's seeds, and without."""

import os

import pytest
import reseedguest
from channelpair import EID, MACHINE, Host
from reseedguest import ReseedGuest

from undercroft.channel.keys import confirmation
from undercroft.channel.messages import Confirmed, Pong, Quiesce, Quiesced, Thawed

pytestmark = [
    pytest.mark.skipif(bool(reseedguest.missing()), reason=reseedguest.missing()),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("reseed"),
]
DRAWS = 4
KINDS = ("DRAW", "HWRNG")


@pytest.fixture
def guest(tmp_path):
    guest = ReseedGuest(tmp_path)
    yield guest
    guest.close()


def draws(guest, length, after=0):
    """Return what was drawn, kind by kind, but for the first `after` of each."""
    return [guest.drawn(kind, length, after + DRAWS)[after:] for kind in KINDS]


def seeded(guest, generation):
    """Give a seed; return what the guest confirmed."""
    seed = os.urandom(32)
    guest.meet(seed, generation)
    (confirmed,) = guest.until(lambda: guest.said(Confirmed))
    assert confirmed.tag == confirmation(seed, MACHINE, guest.host.session.eid, generation)
    return confirmed


def control(guest, most=6):
    """Load a snapshot twice, without a seed; return both draws.

    The kernel of a guest that has just booted draws a new key by itself every few seconds. The snapshot is
    taken right after such a one, and again where the guest came to the next before it drew (the longer it
    runs, the longer that takes), or where it had none of its device's bytes in store at that moment.
    """
    for number in range(most):
        guest.host = Host(eid=EID)
        seeded(guest, 3 + number)
        guest.order(f"savevm bare{number}")
        bare = [draws(guest, guest.load(f"bare{number}", bytes([each]) * 16)) for each in range(2)]
        if all(first[0] == again[0] for first, again in zip(*bare, strict=True)):
            break
    return bare


def test_two_loads_of_one_snapshot_draw_the_same_without_a_seed_and_nothing_the_same_with_one(guest):
    confirmed = seeded(guest, 3)
    assert (confirmed.credited, confirmed.drained, confirmed.hooks, confirmed.failed) == (True, 128, 1, 0)
    assert "HOOK 3" in guest.serial.read_text(errors="replace")

    bare = control(guest)
    assert bare[0][0][0] == bare[1][0][0], "the kernel's generator says again what it said"
    assert bare[0][1][0] == bare[1][1][0], "the virtual one has bytes in store"

    guest.host = Host(eid=EID)
    guest.meet(os.urandom(32), 20)
    guest.line.send(guest.host.session.seal(Quiesce(1)))
    (quiesced,) = guest.until(lambda: guest.said(Quiesced))
    assert (quiesced.frozen, quiesced.text) == (True, "groups and signals")
    guest.order("savevm frozen")
    found = set()
    for number in range(2):
        length = guest.load("frozen", bytes([16 + number]) * 16)
        assert seeded(guest, 21 + number).credited
        assert guest.said(Thawed)
        for drawn in draws(guest, length, after=1):  # it may have had the first in hand when it froze
            assert not found.intersection(drawn)
            found.update(drawn)
    guest.line.send(guest.host.session.ping())
    guest.until(lambda: guest.said(Pong))
    assert len(found) == 2 * len(KINDS) * DRAWS


@pytest.mark.soak
def test_a_host_whose_generator_gives_nothing_keeps_no_guest_from_its_seed(tmp_path):
    guest = ReseedGuest(tmp_path, rng="rng-egd,chardev=rngs", workload=reseedguest.SILENT)
    try:
        confirmed = seeded(guest, 3)
        assert (confirmed.credited, confirmed.drained) == (True, 0)
    finally:
        guest.close()
