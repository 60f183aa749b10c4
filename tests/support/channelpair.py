"""A host's session and a guest's: the test carries the bytes, and may lose or alter them."""

import copy
import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

from undercroft.channel.messages import GuestMessage
from undercroft.channel.seen import Rewound, Seen
from undercroft.channel.session import Broken, Event, Message, Ready, Session

HELPER = Path(__file__).parents[2] / "guest" / "undercroft_guest.py"
MACHINE, EID = bytes(range(16)), bytes(range(16, 32))
BOOT = b"b" * 16


def load_helper() -> ModuleType:
    """Return the guest's one file as a module; nothing is written beside it."""
    spec = importlib.util.spec_from_file_location("undercroft_guest", HELPER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


helper = load_helper()


class Repeating:
    """Draws the same bytes from the same point on, as a resumed kernel does; copied with the guest."""

    def __init__(self, start: int = 1) -> None:
        self.count = start

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return helper.hashlib.shake_256(self.count.to_bytes(8, "big")).digest(size)


class Guest:
    """The guest's memory as far as it matters: what `put_back` of a copy restores whole."""

    def __init__(self, boot: bytes = BOOT, draws: int = 1000) -> None:
        self.session = helper.Session(helper.Standing(), boot, Repeating(draws))
        self.events: list[tuple] = []

    def take(self, data: bytes) -> bytes:
        """Take bytes of the host's; return what it sends."""
        self.events += self.session.receive(data)
        return self.sent()

    def sent(self) -> bytes:
        """Return what it wants to send, and forget it."""
        out = bytes(self.session.out)
        del self.session.out[:]
        return out

    def say(self, message: list) -> bytes:
        """Seal a message; return it as bytes."""
        self.session.send(message)
        return self.sent()

    def copy(self) -> "Guest":
        """A snapshot."""
        return copy.deepcopy(self)


class Host:
    """The host's session with all its events."""

    def __init__(self, seen: Seen | None = None, eid: bytes = EID, draws: int = 1) -> None:
        ticks = itertools.count(1000)
        self.session = Session(MACHINE, eid, Repeating(draws), lambda: next(ticks), seen)
        self.events: list[Event] = []

    def take(self, data: bytes) -> list[Event]:
        """Take bytes of the guest's; return the new events."""
        new = list(self.session.receive(data))
        self.events += new
        return new

    def said(self) -> list[GuestMessage]:
        """All messages so far."""
        return [event.message for event in self.events if isinstance(event, Message)]

    def rewinds(self) -> list[Rewound]:
        """All rewinds so far."""
        return [event for event in self.events if isinstance(event, Rewound)]

    def breaks(self) -> list[Broken]:
        """All sessions that ended so far, with why."""
        return [event for event in self.events if isinstance(event, Broken)]


def meet(
    host: Host, guest: Guest, seed: bytes | None = None, generation: int = 7, following: int = 1
) -> list[Event]:
    """Begin a session and welcome the guest if it is let in; return the events of its answer."""
    events = host.take(guest.take(host.session.begin()))
    if any(isinstance(event, Ready) for event in events):
        guest.take(host.session.welcome(generation, seed, following))
    return events


def ping(host: Host, guest: Guest) -> list[Event]:
    """One sign of life, there and back."""
    return host.take(guest.take(host.session.ping()))
