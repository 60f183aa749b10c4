"""A hypervisor in memory that implements `ports.hypervisor.FleetHypervisor`, for tests of what lies above it.

    fleet = MemoryFleet()
    fleet.define(domain)                  # DEFINED added
    fleet.start(domain.uuid)              # RESUMED unpaused, STARTED booted
    fleet.take_snapshot(uuid, "s1")       # SUSPENDED paused, RESUMED unpaused
    fleet.revert(uuid, "s1")              # STOPPED, STARTED, RESUMED, DEFINED; all from-snapshot
    fleet.fail("no libvirtd here"); fleet.mend()

The events are those that libvirt 9.0 sends (ADR 3), in its order. It keeps no images: a revert changes the
power and the current snapshot only. `on_start` and `on_stop` stand for the hook, which libvirt runs while it
holds the machine's lock: nobody can ask for the machine meanwhile.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime

from undercroft.errors import NotFoundError, OperationError, StateError
from undercroft.model.domain import Domain, DomainSnapshot, Ownership, PoolVolume, Power, Survey
from undercroft.ports.fleet import ChannelEnabled, Happening, MachineEvent

_LIVE = {Power.RUNNING, Power.PAUSED}


class MemoryFleet:
    """Domains in memory. Every method may be called from any thread.

    Attributes:
        volumes, problems: what `survey` tells besides the domains.
        now: the clock.
        on_start: called with the domain and libvirt's way of starting ("booted", "from-snapshot",
            "restored") before it starts; raises OperationError to refuse, as a hook does.
        on_stop: called with the domain when its process has ended, before anybody can see that.
        calls: the commands that were given, by method, UUID and argument.
        listens: returns where the process of a machine with a channel listens.
    """

    def __init__(self, domains: Sequence[Domain] = (), *, host: str = "host1", uri: str = "memory:") -> None:
        self.host = host
        self.uri = uri
        self.volumes: tuple[PoolVolume, ...] = ()
        self.problems: tuple[str, ...] = ()
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.on_start: Callable[[Domain, str], None] = lambda _domain, _way: None
        self.on_stop: Callable[[Domain], None] = lambda _domain: None
        self.calls: list[tuple[str, str, str]] = []
        self.listens: Callable[[Domain], str] = lambda domain: f"/run/{domain.uuid}-{domain.libvirt_id}.sock"
        self._domains = {domain.uuid: domain for domain in domains}
        self._next_id = 1 + max((domain.libvirt_id for domain in domains), default=0)
        self._failure = ""
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[MachineEvent]]] = []
        self._lock = threading.RLock()

    # What `FleetHypervisor` asks for.

    def survey(self) -> Survey:
        with self._asked():
            domains = tuple(sorted(self._domains.values(), key=lambda domain: domain.name))
            return Survey(self.host, self.uri, self.now(), domains, self.volumes, self.problems)

    def domain(self, uuid: str) -> Domain:
        with self._asked():
            if uuid not in self._domains:
                raise NotFoundError(f"machine {uuid!r}: not on {self.uri}")
            return self._domains[uuid]

    async def events(self) -> AsyncIterator[MachineEvent]:
        queue: asyncio.Queue[MachineEvent] = asyncio.Queue()
        listener = (asyncio.get_running_loop(), queue)
        with self._lock:
            self._listeners.append(listener)
            if not self._failure:
                queue.put_nowait(MachineEvent(Happening.CONNECTED, "", "", "", self.now()))
        try:
            while True:
                yield await queue.get()
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def revert(self, uuid: str, snapshot: str, *, paused: bool = False) -> None:
        with self._asked():
            self.calls.append(("revert", uuid, snapshot))
            domain = self.domain(uuid)
            found = self._snapshot(domain, snapshot)
            if domain.power in _LIVE:
                domain = self._stopped(domain, "from-snapshot")
            domain = self._put(replace(domain, snapshots=_with_current(domain.snapshots, snapshot)))
            if found.state in {"running", "paused"}:
                power = Power.PAUSED if paused or found.state == "paused" else Power.RUNNING
                loaded = snapshot if found.memory != "no" else ""
                self._started(replace(domain, loaded=loaded), "from-snapshot", power)
            self.emit(Happening.DEFINED, "from-snapshot", domain)

    def start(self, uuid: str) -> None:
        with self._asked():
            self.calls.append(("start", uuid, ""))
            domain = self.domain(uuid)
            if domain.power in _LIVE:
                raise OperationError(f"machine {domain.name}: already running")
            way = "restored" if domain.managed_save else "booted"
            self._started(domain, way, Power.RUNNING)

    def destroy(self, uuid: str, libvirt_id: int = 0) -> None:
        with self._asked():
            self.calls.append(("destroy", uuid, ""))
            domain = self.domain(uuid)
            if domain.power in _LIVE:
                if libvirt_id not in {0, domain.libvirt_id}:
                    raise StateError(f"machine {domain.name}: it was started anew since")
                self._stopped(domain, "destroyed")

    def enable_genid(self, uuid: str) -> None:
        with self._asked():
            self.calls.append(("enable_genid", uuid, ""))
            self.define(replace(self.domain(uuid), genid=True))

    def enable_channel(self, uuid: str) -> ChannelEnabled:
        with self._asked():
            self.calls.append(("enable_channel", uuid, ""))
            domain = self.domain(uuid)
            done = ChannelEnabled(not domain.channel, not domain.channel and domain.power in _LIVE)
            path = self.listens(domain) if domain.power in _LIVE else ""
            self._put(replace(domain, channel=True, channel_path=domain.channel_path or path))
            if done.plugged:
                self.emit(Happening.CHANGED, "device-added", domain)
            return done

    def is_paused(self, uuid: str) -> bool:
        with self._asked():
            return self.domain(uuid).power is Power.PAUSED

    def set_ownership(
        self,
        uuid: str,
        *,
        owner: str,
        labels: Sequence[str],
        expires_on: str,
        template: bool,
        addresses: Sequence[str],
    ) -> None:
        with self._asked():
            self.calls.append(("set_ownership", uuid, owner))
            expires = date.fromisoformat(expires_on) if expires_on else None
            written = tuple(sorted(set(addresses)))
            ownership = Ownership(owner, tuple(sorted(set(labels))), expires, template, addresses=written)
            domain = self._put(replace(self.domain(uuid), ownership=ownership))
            self.emit(Happening.CHANGED, "metadata", domain)

    def delete_snapshot(self, uuid: str, snapshot: str) -> None:
        with self._asked():
            self.calls.append(("delete_snapshot", uuid, snapshot))
            domain = self.domain(uuid)
            gone = self._snapshot(domain, snapshot)
            left = [
                replace(
                    other,
                    parent=gone.parent if other.parent == snapshot else other.parent,
                    current=other.current or (gone.current and other.name == gone.parent),
                )
                for other in domain.snapshots
                if other.name != snapshot
            ]
            self._put(replace(domain, snapshots=tuple(left)))

    def close(self) -> None:
        """Nothing is held."""

    # What tests do to it.

    def define(self, domain: Domain) -> None:
        """Define or redefine a machine: DEFINED."""
        with self._lock:
            detail = "updated" if domain.uuid in self._domains else "added"
            self._put(domain)
            self.emit(Happening.DEFINED, detail, domain)

    def undefine(self, uuid: str) -> None:
        """Remove a machine: UNDEFINED."""
        with self._lock:
            self.emit(Happening.UNDEFINED, "removed", self._domains.pop(uuid))

    def change(self, domain: Domain) -> None:
        """Replace a machine's facts without an event: what happens behind libvirt's back."""
        with self._lock:
            self._put(domain)

    def shut_down(self, uuid: str, detail: str = "shutdown") -> None:
        """Stop a machine as its guest would: STOPPED with this detail."""
        with self._lock:
            self._stopped(self._domains[uuid], detail)

    def save(self, uuid: str, path: str) -> None:
        """Save a machine into its managed save image: SUSPENDED paused, STOPPED saved."""
        with self._lock:
            self.emit(Happening.SUSPENDED, "paused", self._domains[uuid])
            domain = self._stopped(self._domains[uuid], "saved")
            self._put(replace(domain, power=Power.SAVED, managed_save=path))

    def restore(self, uuid: str) -> None:
        """Restore a machine from a save file of its own: STARTED restored."""
        with self._lock:
            self._started(self._domains[uuid], "restored", Power.RUNNING)

    def migrate_in(self, uuid: str) -> None:
        """Begin a migration to this host: STARTED migrated; it is paused until `resume`."""
        with self._lock:
            self._started(self._domains[uuid], "migrated", Power.PAUSED)

    def resume(self, uuid: str, detail: str = "migrated") -> None:
        """Let a machine that is paused run: RESUMED, unless `detail` is "" and the event is lost."""
        with self._lock:
            domain = self._put(replace(self._domains[uuid], power=Power.RUNNING))
            if detail:
                self.emit(Happening.RESUMED, detail, domain)

    def take_snapshot(self, uuid: str, name: str, *, state: str = "", memory: str = "") -> DomainSnapshot:
        """Take an internal snapshot, the new current one: SUSPENDED, RESUMED where it runs."""
        with self._asked():
            domain = self.domain(uuid)
            if any(other.name == name for other in domain.snapshots):
                raise StateError(f"machine {domain.name}: it has a snapshot {name!r} already")
            live = domain.power in _LIVE
            parent = next((other.name for other in domain.snapshots if other.current), "")
            taken = DomainSnapshot(
                name,
                parent,
                int(self.now().timestamp()),
                state or ("running" if live else "shutoff"),
                memory or ("internal" if live else "no"),
            )
            self._put(replace(domain, snapshots=_with_current((*domain.snapshots, taken), name)))
            if live:
                self.emit(Happening.SUSPENDED, "paused", domain)
                self.emit(Happening.RESUMED, "unpaused", domain)
            return taken

    def load_in_process(self, uuid: str) -> None:
        """Load a snapshot through QEMU's monitor: SUSPENDED, RESUMED, and a taint."""
        with self._lock:
            domain = self._domains[uuid]
            marks = tuple(sorted({*domain.tainted, "custom-monitor"}))
            self._put(replace(domain, tainted=marks))
            self.emit(Happening.SUSPENDED, "paused", domain)
            self.emit(Happening.RESUMED, "unpaused", domain)

    def emit(self, happening: Happening, detail: str, domain: Domain | None = None) -> None:
        """Send an event to whoever listens, even one that the domains do not bear out."""
        uuid, name = (domain.uuid, domain.name) if domain else ("", "")
        event = MachineEvent(happening, detail, uuid, name, self.now())
        with self._lock:
            for loop, queue in self._listeners:
                loop.call_soon_threadsafe(queue.put_nowait, event)

    def fail(self, reason: str = "Cannot read data: Connection reset by peer") -> None:
        """Take libvirt away: LOST, and every call raises OperationError."""
        with self._lock:
            self._failure = reason
            self.emit(Happening.LOST, reason)

    def mend(self) -> None:
        """Bring libvirt back: CONNECTED."""
        with self._lock:
            self._failure = ""
            self.emit(Happening.CONNECTED, "")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Hold the lock while answering; raises while libvirt is away."""
        with self._lock:
            if self._failure:
                raise OperationError(f"libvirt at {self.uri}: {self._failure}")
            yield

    def _put(self, domain: Domain) -> Domain:
        self._domains[domain.uuid] = domain
        return domain

    def _started(self, domain: Domain, way: str, power: Power) -> None:
        self.on_start(domain, way)
        self._next_id += 1
        domain = replace(domain, power=power, libvirt_id=self._next_id, managed_save="")
        if domain.channel:
            domain = replace(domain, channel_path=self.listens(domain))
        self._put(domain)
        if way == "booted":
            self.emit(Happening.RESUMED, "unpaused", domain)
        self.emit(Happening.STARTED, way, domain)
        if way not in {"booted", "migrated"}:
            paused = power is Power.PAUSED
            self.emit(Happening.SUSPENDED if paused else Happening.RESUMED, "from-snapshot", domain)

    def _stopped(self, domain: Domain, detail: str) -> Domain:
        self.on_stop(domain)
        domain = replace(domain, power=Power.OFF, libvirt_id=0, loaded="", tainted=(), channel_path="")
        if domain.persistent:
            self._put(domain)
        else:
            del self._domains[domain.uuid]
        self.emit(Happening.STOPPED, detail, domain)
        return domain

    def _snapshot(self, domain: Domain, name: str) -> DomainSnapshot:
        for snapshot in domain.snapshots:
            if snapshot.name == name:
                return snapshot
        raise NotFoundError(f"machine {domain.name}: it has no snapshot {name!r}")


def _with_current(snapshots: Sequence[DomainSnapshot], name: str) -> tuple[DomainSnapshot, ...]:
    return tuple(replace(snapshot, current=snapshot.name == name) for snapshot in snapshots)
