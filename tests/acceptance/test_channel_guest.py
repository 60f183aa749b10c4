"""The helper in a real guest: a seed, a freeze, a load through the monitor that nobody told of, a reboot."""

import os
import time

import channelguest
import pytest
from channelguest import ChannelGuest
from channelpair import EID, MACHINE

from undercroft.channel.keys import confirmation
from undercroft.channel.messages import Confirmed, Pong, Quiesce, Quiesced, Thawed
from undercroft.channel.session import Broken

pytestmark = [
    pytest.mark.skipif(bool(channelguest.missing()), reason=channelguest.missing()),
    pytest.mark.timeout(300),
    pytest.mark.soak,
]
SEED = os.urandom(32)


@pytest.fixture
def guest(tmp_path):
    guest = ChannelGuest(tmp_path)
    yield guest
    guest.close()


def ping(guest):
    count = len(guest.said(Pong))
    guest.line.send(guest.host.session.ping())
    guest.until(lambda: len(guest.said(Pong)) > count)


def test_a_guest_is_seeded_frozen_and_found_out_when_it_was_put_back(guest):
    guest.meet(SEED, 3)
    (confirmed,) = guest.until(lambda: guest.said(Confirmed))
    assert confirmed == Confirmed(3, confirmation(SEED, MACHINE, EID, 3), True, 128, 1, 0)
    assert "HOOK 3, told 3" in guest.console()

    guest.line.send(guest.host.session.seal(Quiesce(1)))
    (quiesced,) = guest.until(lambda: guest.said(Quiesced))
    assert quiesced.frozen, quiesced
    guest.order("savevm frozen")
    ticks = guest.ticks()
    for _ in range(5):
        ping(guest)
        time.sleep(0.3)
    assert guest.ticks() == ticks, "only the helper runs"
    assert guest.meet(os.urandom(32), 4).frozen
    guest.until(lambda: guest.said(Thawed))
    guest.until(lambda: guest.ticks() > ticks)
    guest.until(lambda: len(guest.said(Confirmed)) == 2)

    ping(guest)
    guest.order("savevm now")
    ping(guest)
    guest.order("loadvm now")
    for _ in range(6):  # as once a second
        if guest.host.rewinds():
            break
        if not guest.host.session.is_open or guest.host.session.unanswered >= 3:
            guest.meet(None, 5)
            continue
        guest.line.send(guest.host.session.ping())
        until = time.monotonic() + 2
        while time.monotonic() < until and not any(isinstance(each, Broken) for each in guest.take()):
            continue
    assert guest.host.rewinds(), guest.host.events[-5:]


def test_a_guest_that_rebooted_is_let_in_again_and_proves_nothing(guest):
    guest.meet(SEED, 3)
    guest.until(lambda: guest.said(Confirmed))
    boot = guest.host.session.seen.boot
    guest.order("system_reset")
    guest.until(guest.host.breaks)  # its helper has started
    guest.meet(os.urandom(32), 4)
    guest.until(lambda: len(guest.said(Confirmed)) == 2)
    assert "HOOK 4, told 4" in guest.console(), "what was lost with the boot is told anew"
    assert guest.host.session.seen.boot != boot
    assert guest.host.session.seen.former == (boot,)
    assert not guest.host.rewinds()


def seeded(guest, generation):
    """Give a seed; return what was confirmed."""
    count = len(guest.said(Confirmed))
    guest.meet(os.urandom(32), generation)
    return guest.until(lambda: guest.said(Confirmed)[count:])[0]


def test_a_host_whose_generator_gives_nothing_keeps_no_guest_from_seeds_and_no_snapshot_from_being_quiesced(
    tmp_path,
):
    guest = ChannelGuest(tmp_path, rng=channelguest.SILENT_RNG)
    try:
        for generation in (3, 4):
            confirmed = seeded(guest, generation)
            assert (confirmed.credited, confirmed.drained) == (True, 0)
        guest.line.send(guest.host.session.seal(Quiesce(1)))
        (quiesced,) = guest.until(lambda: guest.said(Quiesced))
        assert quiesced.frozen, "a reader that was left behind is no process that runs"
        guest.order("savevm frozen")
        assert seeded(guest, 5).drained == 0
        assert guest.said(Thawed)

        guest.meet(os.urandom(32), 99)  # its hook kills the helper, whose reader waits in the kernel
        guest.until(lambda: "ENDED" in guest.console())
        guest.until(guest.host.breaks)  # it has started anew
        assert seeded(guest, 100).drained == 0

        with guest.random_peer() as peer:
            peer.sendall(os.urandom(4096))
            assert seeded(guest, 101).drained == 128
    finally:
        guest.close()
