"""Guests' links in the turns: who is read, how much, and what waits to be sent.

Who sends what counts for nothing is read more rarely, the longer it takes and the more of them there are:
all of them together get one part in `NOISE_SHARE` of the loop's time.
"""

import time
from collections.abc import Callable

from undercroft.guestservice.guest import Guest
from undercroft.guestservice.link import HIGH_BYTES, READ_BYTES
from undercroft.guestservice.loop import LOST, READ, WRITE, Loop

UNWELCOME_BYTES = 4 * 1024
"""What is read in a turn of a guest that has no session: no frame of a handshake is longer."""

NOISE_SHARE = 5


class Lines:
    """All links that are watched."""

    def __init__(self, loop: Loop, gone: Callable[[Guest], None], report: Callable[[str], None]) -> None:
        """Take the turns, who hears of a link that ended, and who takes lines for the log."""
        self._loop, self._gone, self._report = loop, gone, report
        self._watched: set[Guest] = set()
        self._sending: set[Guest] = set()
        self._noisy: set[Guest] = set()

    def add(self, guest: Guest) -> None:
        """Watch a guest's link."""
        guest.link.polled = READ
        self._watched.add(guest)
        self._loop.watch(guest.link.fileno(), READ, lambda mask: self._ready(guest, mask))

    def drop(self, guest: Guest) -> None:
        """Watch it no more; the link stays open."""
        self._loop.unwatch(guest.link.fileno())
        for group in (self._watched, self._sending, self._noisy):
            group.discard(guest)

    def send(self, guest: Guest) -> None:
        """Send what waits for a guest, at the end of this turn."""
        self._sending.add(guest)

    def flush(self) -> None:
        """Send what waits."""
        sending, self._sending = self._sending, set()
        for guest in sending:
            if guest not in self._watched:
                continue
            guest.link.flush()
            if guest.link.gone:
                self._gone(guest)
            else:
                self._poll(guest)

    def _ready(self, guest: Guest, mask: int) -> None:
        link = guest.link
        if mask & READ:
            self._read(guest)
        elif mask & LOST:
            link.gone = True
        if mask & WRITE or link.out:
            self.send(guest)
        if link.gone and guest in self._watched:
            self._gone(guest)

    def _read(self, guest: Guest) -> None:
        data = guest.link.read(READ_BYTES if guest.is_open else UNWELCOME_BYTES)
        if not data:
            return
        dropped, began = guest.dropped, time.monotonic()
        try:
            guest.receive(data, self._loop.now)
        except Exception as error:  # noqa: BLE001 - a mistake of ours that a guest found: only its own is over
            self._report(f"{guest.who.name}: cut off, an error of the service's: {error!r}")
            guest.link.gone = True
            return
        if guest.dropped != dropped:
            self._pause(guest, time.monotonic() - began)

    def _pause(self, guest: Guest, spent_s: float) -> None:
        self._noisy.add(guest)
        self._poll(guest)
        pause_s = spent_s * (NOISE_SHARE - 1) * len(self._noisy)
        self._loop.at(self._loop.now + pause_s, lambda: self._resume(guest))

    def _resume(self, guest: Guest) -> None:
        if guest in self._noisy:
            self._noisy.discard(guest)
            self._poll(guest)

    def _poll(self, guest: Guest) -> None:
        """Watch a link for what is wanted of it now."""
        link = guest.link
        wanted = WRITE if link.out else 0
        if len(link.out) < HIGH_BYTES and guest not in self._noisy:
            wanted |= READ
        if wanted != link.polled and guest in self._watched:
            link.polled = wanted
            self._loop.change(link.fileno(), wanted)
