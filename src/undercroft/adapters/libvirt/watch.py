"""libvirt's events as values, for ever: a connection of its own that is made anew whenever it is lost.

libvirt calls back in its event thread (`eventloop`), which only puts values into the mailbox; connecting and
waiting is done by the watcher's own thread. So no call of libvirt's ever runs on the asyncio loop, and a loop
that is busy or closed stops nobody.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime

from undercroft.adapters.libvirt.bindings import Connection, Domain, Libvirt, message
from undercroft.adapters.libvirt.connections import Connections, is_alive
from undercroft.errors import OperationError
from undercroft.ports.fleet import Happening, MachineEvent

MAX_QUEUED_EVENTS = 10_000
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
LOOK_INTERVAL_S = 5.0
"""How often the connection is looked at, besides libvirt's own word that it closed."""

_DEFINED, _UNDEFINED, _STARTED, _SUSPENDED, _RESUMED, _STOPPED, _SHUTDOWN, _PMSUSPENDED, _CRASHED = range(9)

_HAPPENINGS: dict[int, tuple[Happening, tuple[str, ...]]] = {
    _DEFINED: (Happening.DEFINED, ("added", "updated", "renamed", "from-snapshot")),
    _UNDEFINED: (Happening.UNDEFINED, ("removed", "renamed")),
    _STARTED: (Happening.STARTED, ("booted", "migrated", "restored", "from-snapshot", "wakeup")),
    _SUSPENDED: (
        Happening.SUSPENDED,
        (
            "paused",
            "migrated",
            "ioerror",
            "watchdog",
            "restored",
            "from-snapshot",
            "api-error",
            "postcopy",
            "postcopy-failed",
        ),
    ),
    _RESUMED: (
        Happening.RESUMED,
        ("unpaused", "migrated", "from-snapshot", "postcopy", "postcopy-failed"),
    ),
    _STOPPED: (
        Happening.STOPPED,
        ("shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from-snapshot"),
    ),
    _PMSUSPENDED: (Happening.SUSPENDED, ("suspended-to-memory", "suspended-to-disk")),
    _CRASHED: (Happening.SUSPENDED, ("crashed", "crashed")),
}
"""virDomainEventType -> (what it is, its details in the order of their numbers).

SHUTDOWN is left out: a STOPPED always follows. CRASHED is a pause: the process is still there, and a STOPPED
follows when it goes.
"""


_CLOSE_REASONS = {
    0: "the connection to libvirt broke",
    1: "libvirt closed the connection: it ended or restarts",
    2: "libvirt answers no keepalive: it hangs",
    3: "the connection was closed here",
}


class Mailbox:
    """Events from any thread to one asyncio task, in order and bounded. Made on the loop that reads it."""

    def __init__(self, limit: int = MAX_QUEUED_EVENTS) -> None:
        self._limit = limit
        self._events: deque[MachineEvent] = deque()
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()

    def put(self, event: MachineEvent) -> None:
        """Add an event; where there is no room, one CONNECTED stands for it and all that waited.

        A LOST is told all the same, after it.
        """
        with self._lock:
            overflows = len(self._events) >= self._limit
            if overflows:
                self._events.clear()
                self._events.append(connection_event(Happening.CONNECTED))
            if not overflows or event.happening is Happening.LOST:
                self._events.append(event)
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._filled.set)

    async def get(self) -> MachineEvent:
        """Return the oldest event, waiting for it."""
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                self._filled.clear()
            await self._filled.wait()


class Watcher:
    """A thread that keeps one event connection and fills a mailbox until it is stopped."""

    def __init__(self, libvirt: Libvirt, connections: Connections, mailbox: Mailbox) -> None:
        self._libvirt = libvirt
        self._connections = connections
        self._mailbox = mailbox
        self._stop = threading.Event()
        self._stirred = threading.Event()
        self._closed_because = ""
        self._listening = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="libvirt watcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; it does so by itself, without keeping the caller waiting."""
        self._stop.set()
        self._stirred.set()

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        told = False
        while not self._stop.is_set():
            try:
                with self._registered():
                    pause_s, told = FIRST_PAUSE_S, False
                    self._wait_while_alive()
                reason = self._closed_because or "the connection to libvirt died"
            except (OperationError, self._libvirt.libvirtError) as error:
                reason = message(error)
            if not told and not self._stop.is_set():
                self._mailbox.put(connection_event(Happening.LOST, reason))
                told = True
            self._stop.wait(pause_s)
            pause_s = min(pause_s * 2, LAST_PAUSE_S)

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        """Connect, register for all events, and say CONNECTED; undo it, so that the connection is freed."""
        with contextlib.ExitStack() as undo:
            self._connection = self._connections.open_for_events()
            undo.callback(self._quietly, self._connection.close)
            self._closed_because, self._listening = "", False
            self._stirred.clear()
            self._connection.registerCloseCallback(self._on_close, None)
            undo.callback(self._quietly, self._connection.unregisterCloseCallback)
            for event, callback in self._callbacks().items():
                number = self._connection.domainEventRegisterAny(None, event, callback, None)
                undo.callback(self._quietly, self._connection.domainEventDeregisterAny, number)
            with self._lock:  # what came before is told by the survey that follows CONNECTED
                self._mailbox.put(connection_event(Happening.CONNECTED))
                self._listening = True
            yield

    def _wait_while_alive(self) -> None:
        while not self._stop.is_set() and not self._closed_because:
            if not is_alive(self._libvirt, self._connection):
                return
            self._stirred.wait(LOOK_INTERVAL_S)

    def _quietly(self, call: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(self._libvirt.libvirtError):  # the other side is gone already
            call(*arguments)

    def _callbacks(self) -> dict[int, Callable[..., None]]:
        return {
            self._libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: self._on_lifecycle,
            self._libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: self._on_metadata,
            self._libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED: self._on_device_added,
            self._libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED: self._on_device_removed,
        }

    def _on_close(self, _connection: Connection, reason: int, _context: object) -> None:
        self._closed_because = _CLOSE_REASONS.get(reason, f"reason {reason}")
        self._stirred.set()

    def _on_lifecycle(
        self, _connection: Connection, domain: Domain, event: int, detail: int, _context: object
    ) -> None:
        found = happening_of(event, detail)
        if found is not None:
            self._put(domain, *found)

    def _on_metadata(
        self, _connection: Connection, domain: Domain, _kind: int, _uri: str | None, _context: object
    ) -> None:
        self._put(domain, Happening.CHANGED, "metadata")

    def _on_device_added(
        self, _connection: Connection, domain: Domain, _alias: str, _context: object
    ) -> None:
        self._put(domain, Happening.CHANGED, "device-added")

    def _on_device_removed(
        self, _connection: Connection, domain: Domain, _alias: str, _context: object
    ) -> None:
        self._put(domain, Happening.CHANGED, "device-removed")

    def _put(self, domain: Domain, happening: Happening, detail: str) -> None:
        event = MachineEvent(happening, detail, domain.UUIDString().lower(), domain.name(), datetime.now(UTC))
        with self._lock:
            if self._listening:
                self._mailbox.put(event)


async def watch(libvirt: Libvirt, connections: Connections) -> AsyncIterator[MachineEvent]:
    """Yield events for ever. See `FleetHypervisor.events`."""
    mailbox = Mailbox()
    watcher = Watcher(libvirt, connections, mailbox)
    watcher.start()
    try:
        while True:
            yield await mailbox.get()
    finally:
        watcher.stop()


def happening_of(event: int, detail: int) -> tuple[Happening, str] | None:
    """Return what libvirt's numbers mean, None for what is told otherwise.

    A number that this version does not know is a CHANGED, so that whoever listens looks at the machine.
    """
    if event == _SHUTDOWN:
        return None
    if event not in _HAPPENINGS:
        return Happening.CHANGED, f"event-{event}"
    happening, details = _HAPPENINGS[event]
    return happening, details[detail] if 0 <= detail < len(details) else f"detail-{detail}"


def connection_event(happening: Happening, detail: str = "") -> MachineEvent:
    """Return an event of the connection itself."""
    return MachineEvent(happening, detail, "", "", datetime.now(UTC))
