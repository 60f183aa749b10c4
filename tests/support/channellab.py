"""The agent's lab with a real guest service: QEMU is a socket that listens, its guest is played by a thread.

with ServiceProcess(folder) as service: ...
async with ChannelLab(folder, MemoryRecords(), service).running() as lab: ...
"""

import asyncio
import select
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentlab import UUID, Lab
from tests.support.channelpair import Guest, helper
from tests.support.guesthost import ServiceProcess

from undercroft.adapters.guestservice import GuestService
from undercroft.agent.admissionserver import AdmissionServer
from undercroft.agent.channels import Channels
from undercroft.agent.events import Events
from undercroft.agent.hooks import HookHandler
from undercroft.model.domain import Domain
from undercroft.ports.records import Records

REQUIRED = "version: 1\ndefaults: {drifting: quarantine, below_floor: quarantine, reseed: required}\n"


class Qemu:
    """A process with a channel: it listens until it ends, and takes one connection at a time.

    Args:
        path: of its socket.
        helps: whether a helper runs in its guest.
        credits: whether its kernel takes a seed.
    """

    def __init__(self, path: Path, *, helps: bool = True, credits: bool = True) -> None:  # noqa: A002
        self.path, self.helps, self.credits = path, helps, credits
        self.guest = Guest()
        self.sessions = 0
        self.confirmed: list[int] = []
        self.lock = threading.RLock()
        self._ends = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the process."""
        self._ends.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def take_snapshot(self) -> Guest:
        """Return the guest as it is now."""
        with self.lock:
            return self.guest.copy()

    def load(self, snapshot: Guest) -> None:
        """Put the guest back inside the process, as the monitor does; libvirt says nothing of it here."""
        with self.lock:
            self.guest = snapshot.copy()

    def _run(self) -> None:
        line: socket.socket | None = None
        while not self._ends.is_set():
            waits = [line if line is not None else self._listener]
            if not select.select(waits, [], [], 0.02)[0]:
                self._push(line)
                continue
            if line is None:
                line, _ = self._listener.accept()
                continue
            data = line.recv(65536)
            if not data:
                line.close()
                line = None
                continue
            if self.helps:
                self._take(data)
                self._push(line)
        if line is not None:
            line.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _push(self, line: socket.socket | None) -> None:
        with self.lock:
            data = self.guest.sent() if self.helps and line is not None else b""
        if data and line is not None:
            with suppress(OSError):  # its other end may have gone
                line.sendall(data)

    def _take(self, data: bytes) -> None:
        with self.lock:
            session = self.guest.session
            for event in session.receive(data):
                if event[0] == "welcome":
                    self._welcome(session, *event[1:])

    def _welcome(self, session: Any, generation: int, seed: bytes | None, following: int) -> None:
        self.sessions += 1
        session.standing.next_request = max(session.standing.next_request, following)
        session.send([6, "played 1", "6.1.0-18-amd64", ["credit"]])
        if seed is not None:
            tag = helper.confirmation(seed, session.machine, session.standing.eid, generation)
            session.send([1, generation, tag, self.credits, 64, 0, 0])
            self.confirmed.append(generation)


class ChannelLab(Lab):
    """One host with one machine that has a channel.

    Args:
        folder: short: sockets lie in it.
        records: the record.
        service: the guest service, which a test starts and kills.
        policy: by default one that wants fresh randomness.
    """

    def __init__(
        self, folder: Path, records: Records, service: ServiceProcess, *, policy: str = REQUIRED
    ) -> None:
        super().__init__(folder, records, policy=policy)
        self.places = replace(self.places, guest_address=str(service.socket))
        self.service = service
        self.lines = folder / "lines"
        self.lines.mkdir()
        self.qemu: Qemu | None = None
        self.how: dict[str, bool] = {}
        self.fleet.define(replace(self._domain(), channel=True))
        self.fleet.listens = self._listens

    def _listens(self, domain: Domain) -> str:
        """Start the machine's process, whose guest is a new one."""
        if self.qemu is not None:
            self.qemu.close()
        folder = self.lines / f"domain-{domain.libvirt_id}-{domain.name}"
        folder.mkdir()
        self.qemu = Qemu(folder / "org.undercroft.channel.0", **self.how)
        return str(self.qemu.path)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ChannelLab"]:
        """Run the agent's parts and its channels while the block runs."""
        async with super().running():
            task = asyncio.create_task(self.channels.run())
            try:
                yield self
                assert not task.done(), "the channels have died"
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def close(self) -> None:
        """End the machine's process."""
        if self.qemu is not None:
            self.qemu.close()

    def _wired(self) -> AdmissionServer:
        super()._wired()
        self.events = Events(
            self.host,
            self.scans,
            self.rounds.judge,
            lambda *_: None,
            self._hooks_behind,
            self.filters,
            self._lines,
        )
        handler = HookHandler(
            self.host,
            lambda uuid: self.scans.add(uuid, first=True),
            self.events.starts.look_at,
            self.events.starts.held,
            self.filters,
        )
        self.channels = Channels(self.host, self.events.starts, GuestService(self.service.socket, 1.0))
        self.server = AdmissionServer(
            self.places.state, self.places.admission_socket, handler, self.reports.append
        )
        return self.server

    def _lines(self, machines: Iterable[str]) -> None:
        self.channels.changed(machines)

    def execution(self) -> Any:
        """Return the machine's latest execution."""
        return self._read(lambda record: record.own_executions(UUID)[-1])

    def is_fresh(self) -> bool:
        """Tell whether the latest execution's guest has confirmed, on record."""
        return self._read(lambda record: record.reseed(record.own_executions(UUID)[-1].eid)) is not None

    def is_waiting(self) -> bool:
        """Tell whether its tap is held for nothing but its guest's confirmation."""
        holds = self._read(lambda record: record.holds())
        return self.is_closed() and [(hold.pending, hold.reseed) for hold in holds] == [(True, True)]

    def is_closed(self) -> bool:
        """Tell whether its tap is off its bridge."""
        return self.taps.bridges.get("vnet1") == ""

    def alarms(self) -> list[str]:
        """Return the alarms of the log."""
        return [one.body for one in self._read(lambda record: record.log_entries()) if one.kind == "alarm"]
