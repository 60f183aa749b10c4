"""Open flows of machines that migrate: the host that they leave puts them on record, the next takes them.

The source tells them when the machine stands still there, before it goes on elsewhere, and once more at its
end. The destination adds them when libvirt says that the machine runs here, and what comes later as well. An
agent that comes back asks the record which machines have come meanwhile.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from datetime import timedelta

from undercroft.agent.host import Host, now
from undercroft.errors import UndercroftError
from undercroft.model.execution import Origin
from undercroft.model.filter import MovedFlows
from undercroft.ports.fleet import Happening, MachineEvent
from undercroft.usecases.firewall.enforcing import Enforcer
from undercroft.usecases.fleet.starts.labels import Labels

ADOPT_S = 10.0
"""For how long flows are looked for after a machine has come."""
LOOK_EVERY_S = 0.2
FRESH = timedelta(minutes=2)
"""Flows that are older, by the other host's clock, are of an earlier migration."""


class Moves:
    """Moves flows.

    Args:
        host: the host.
        labels: its ports.
        enforcer: of the kernel.
    """

    def __init__(self, host: Host, labels: Labels, enforcer: Enforcer) -> None:
        self._host = host
        self._labels = labels
        self._enforcer = enforcer
        self._background: set[asyncio.Task[None]] = set()

    def heard(self, event: MachineEvent) -> None:
        """Take libvirt's event as it arrives: flows go with a machine that migrates; what runs has come."""
        migrated, post_copy = event.detail == "migrated", event.detail == "postcopy"
        goes = (migrated or post_copy) and self._labels.required
        if event.happening is Happening.SUSPENDED and goes:
            self._begin(self._leaves(event.uuid, for_good=post_copy))
        elif event.happening is Happening.RESUMED:
            self._begin(self.arrived(event.uuid) if goes else self._is_here(event.uuid))

    def _begin(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _leaves(self, machine: str, *, for_good: bool) -> None:
        """Let flows go with a machine that stands still; one that does for good speaks from elsewhere."""
        await self._host.work(self.left, machine)
        if for_good:
            await self._host.work(self._labels.leave, machine)

    def left(self, machine: str) -> None:
        """Put the flows of a machine that leaves on record; what fails is told, its flows then begin anew."""
        try:
            ports = tuple(self._labels.ports(machine))
            elements = self._enforcer.flows_of(ports) if ports else {}
            if not elements:
                return
            flows = MovedFlows(machine, self._host.name, now(), elements)
            with self._host.records.transaction() as record:
                record.put_moved_flows(flows)
        except UndercroftError as error:
            self._host.problem(f"machine {machine}: its open flows do not go with it", error)

    async def arrived(self, machine: str) -> None:
        """Let a machine speak from here alone, and take its flows over."""
        try:
            await self._host.work(self._labels.arrived, machine)
            ends, last = time.monotonic() + ADOPT_S, None
            while time.monotonic() < ends:
                found = await self._host.work(self._flows, machine)
                if found is not None and found != last and self._labels.ports(machine):
                    await self._host.work(self._enforcer.adopt, found.elements, machine)
                    last = found
                await asyncio.sleep(LOOK_EVERY_S)
            if last is not None:
                await self._host.work(self._drop, last)
        except UndercroftError as error:
            self._host.problem(f"machine {machine}: its open flows did not come with it", error)

    async def catch_up(self) -> None:
        """Begin, after a start of the agent: take over flows of machines that have come while it was away."""
        begun: set[str] = set()
        ends = time.monotonic() + ADOPT_S  # hooks that nobody has heard come on record meanwhile
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < ends:
                came = await self._came()
                for machine in came.keys() - begun:
                    begun.add(machine)
                    # Whenever it came: it is here. Flows of long ago are over.
                    group.create_task(self.arrived(machine) if came[machine] else self._is_here(machine))
                await asyncio.sleep(LOOK_EVERY_S)

    async def _is_here(self, machine: str) -> None:
        await self._host.work(self._labels.arrived, machine)

    async def _came(self) -> Mapping[str, bool]:
        try:
            return await self._host.work(self._came_here)
        except UndercroftError as error:
            self._host.problem("which machines have come meanwhile is not known for a moment", error)
            return {}

    def _came_here(self) -> Mapping[str, bool]:
        """Return the machines that were migrated here, and run here alone by the record: whether lately."""
        with self._host.records.reading() as record:
            live = record.live_origins()
        elsewhere = {one.machine for one in live if one.host != self._host.name}
        mine = (one for one in live if one.host == self._host.name and one.origin is Origin.MIGRATE)
        return {
            one.machine: abs(now() - one.started_at) <= FRESH for one in mine if one.machine not in elsewhere
        }

    def _flows(self, machine: str) -> MovedFlows | None:
        with self._host.records.reading() as record:
            flows = record.moved_flows(machine)
        if flows is None or flows.host == self._host.name or abs(now() - flows.at) > FRESH:
            return None
        return flows

    def _drop(self, flows: MovedFlows) -> None:
        with self._host.records.transaction() as record:
            if record.moved_flows(flows.machine) == flows:
                record.drop_moved_flows(flows.machine)
