"""Which disks are read when, and by whom: a queue of machines and images, worked off in the background.

Machines that are off are read in batches, with one transaction for a batch: a host with a thousand of them is
known in seconds. A running machine is held at one point in time, which asks libvirt, and so is read by
itself. What could not be read now (another job holds the machine) is tried again later; what is on record of
it stays, and grows old, which the policy minds.

Accounts, keys and secrets bear on no verdict, and come last: one machine at a time, when nothing else was
read for a while. What they rest on is proven by what was read lately where it can be: a thousand clones
that were never started cost one reading. A running machine's are read while it is held anyway.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from undercroft.agent.host import Host, now
from undercroft.errors import OperationError
from undercroft.model.domain import Domain
from undercroft.model.fleet import Scan
from undercroft.model.report import CURRENT
from undercroft.usecases.fleet.reading.rescan import (
    MachineScans,
    put_scans,
    scan_image,
    scan_running,
    scan_snapshots,
    scan_stopped,
)
from undercroft.usecases.fleet.starts.confirming import Confirmed, settle
from undercroft.usecases.fleet.subjects import image_key
from undercroft.usecases.fleet.verdicts.floors import raise_floors, seen_to_have

BATCH = 24
"""At most. After a rest batches grow, of 1, 2, 4, ...: what was found in one machine proves the next ones
like it only once it is on record, and until then each of them is read whole."""
WORKERS = 2
RETRY_S = 60.0
SETTLE_AGAIN_S = (2.0, 5.0, 15.0, RETRY_S)
"""Pauses before a machine whose network waits for it is read again; the last goes on."""
HELD_AT_MOST_S = 600.0
"""How long the reading of one running machine is waited for: libvirt answers some calls never."""
CALM_S = 2.0
"""Credentials wait until nothing else was read for so long, and judgements are made meanwhile."""
CALM_AT_MOST_S = 60.0
"""On a host on which something is read all the time: from then on they are read beside it."""
FIRST, LATER, LAST = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for beside the scan itself.

    Attributes:
        credentials: read accounts and keys too.
        settle: its network is opened or closed by what is found (`confirming.settle`).
        snapshots_alone: of a machine that runs, which is then not held for it.
    """

    credentials: bool = False
    settle: bool = False
    snapshots_alone: bool = False

    def with_(self, other: "Wish") -> "Wish":
        """Return what both ask for."""
        return Wish(
            self.credentials or other.credentials,
            self.settle or other.settle,
            self.snapshots_alone and other.snapshots_alone,
        )


@dataclass(frozen=True, slots=True)
class Put:
    """What came of putting scans on record.

    Attributes:
        keys: of the subjects, which are to be judged.
        bare: UUIDs of machines with a state whose credentials are not known.
    """

    keys: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()


class Scans:
    """The queue.

    Args:
        host: the host.
        judge: takes keys of subjects that were read anew.
        then: takes a machine and what follows from what `settle` found.
    """

    def __init__(
        self,
        host: Host,
        judge: Callable[[Iterable[str]], None],
        then: Callable[[Domain, Confirmed], None],
    ) -> None:
        self._host = host
        self._judge = judge
        self._then = then
        self._waiting: tuple[dict[str, Wish], dict[str, Wish], dict[str, Wish]] = {}, {}, {}
        self._busy: set[str] = set()
        self._last: set[str] = set()
        self._batch = 1
        self._calm_at = 0.0
        self._patient_until = 0.0
        self._failures: dict[str, int] = {}
        self._more = asyncio.Event()

    def add(self, key: str, wish: Wish = Wish(), *, first: bool = False) -> None:
        """Ask for a scan of a machine (its UUID) or an image (`image_key`); doubles become one."""
        rank = FIRST if first or wish.settle else LAST if self._can_wait(key, wish) else LATER
        queue = self._waiting[rank]
        queue[key] = queue[key].with_(wish) if key in queue else wish
        self._more.set()

    @property
    def idle(self) -> bool:
        """True when nothing that a verdict hangs on waits or is being read."""
        return not (self._waiting[FIRST] or self._waiting[LATER] or self._busy - self._last)

    def _can_wait(self, key: str, wish: Wish) -> bool:
        return wish.credentials and (wish.snapshots_alone or not self._is_live(key))

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            batch = self._next()
            if not batch:
                self._batch = 1
                self._more.clear()
                await self._more.wait()
                continue
            try:
                await self._read(batch)
                for key in batch:
                    self._failures.pop(key, None)
            except Exception as error:  # noqa: BLE001 - one machine must not end the reading of all others
                self._failed(batch, error)
            finally:
                self._busy.difference_update(batch)
                if not self._last.issuperset(batch):
                    self._calm_at = asyncio.get_running_loop().time() + CALM_S
                self._last.difference_update(batch)
                self._more.set()

    def _next(self) -> dict[str, Wish]:
        """Take a batch of what is off, or one machine that runs, or one that can wait."""
        batch: dict[str, Wish] = {}
        for queue in self._waiting[:LAST]:
            for key in [key for key in queue if key not in self._busy]:
                alone = self._is_live(key) or queue[key].credentials
                if alone and batch:
                    break
                batch[key] = queue.pop(key)
                if alone or len(batch) >= self._batch:
                    break
            if batch:
                break
        self._batch = min(BATCH, 2 * self._batch) if len(batch) == self._batch else self._batch
        batch = batch or self._next_of_last()
        self._busy |= batch.keys()
        return batch

    def _next_of_last(self) -> dict[str, Wish]:
        """Take one that can wait, unless such a one is being read: whoever is in a hurry finds a worker."""
        queue = self._waiting[LAST]
        if not queue:
            self._patient_until = 0.0
        if not queue or self._last or not self._is_calm():
            return {}
        for key in [key for key in queue if key not in self._busy]:
            wish = queue.pop(key)
            if self._is_live(key):  # it was started meanwhile: it is not held for this
                wish = replace(wish, snapshots_alone=True)
            self._last = {key}
            return {key: wish}
        return {}

    def _is_calm(self) -> bool:
        """Tell whether nothing else was read for a while, and have it asked again when that may be so."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        if at >= min(self._calm_at, self._patient_until or self._calm_at):
            return True
        self._patient_until = self._patient_until or at + CALM_AT_MOST_S
        loop.call_at(min(self._calm_at, self._patient_until), self._more.set)
        return False

    def _is_live(self, key: str) -> bool:
        domain = self._host.domain(key)
        return domain is not None and domain.power.has_process

    async def _read(self, batch: dict[str, Wish]) -> None:
        (key, wish), *others = batch.items()
        domain = self._host.domain(key)
        if not others and domain is not None and domain.power.has_process:
            await self._read_live(domain, wish)
        else:
            put = await self._host.work(self._read_off, batch)
            self._judge(put.keys)
            for uuid in put.bare:
                if not batch[uuid].credentials and not self._is_live(uuid):
                    self.add(uuid, Wish(credentials=True))

    def _failed(self, batch: dict[str, Wish], error: Exception) -> None:
        """Read a batch again later: soon where a network waits for it."""
        loop = asyncio.get_running_loop()
        domain = self._host.domain(next(iter(batch)))
        self._host.problem(f"reading {domain.name if domain else next(iter(batch))}", error)
        for key, wish in batch.items():
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            pauses = SETTLE_AGAIN_S if wish.settle else (RETRY_S,)
            loop.call_later(pauses[min(failures, len(pauses)) - 1], self.add, key, wish)

    # What is off

    def _read_off(self, batch: dict[str, Wish]) -> Put:
        host = self._host
        files = host.view().files
        volumes = {image_key(host.name, volume.path): volume for volume in host.volumes()}
        scans: list[MachineScans] = []
        for key, wish in batch.items():
            if (domain := host.domain(key)) is not None:
                scans.append(
                    scan_stopped(host.scanner, files, host.name, domain, credentials=wish.credentials)
                )
            elif (volume := volumes.get(key)) is not None:
                scans.append(scan_image(host.scanner, files, host.name, volume))
        return self._put(scans, off=True)

    # What runs

    async def _read_live(self, domain: Domain, wish: Wish) -> None:
        host, loop = self._host, asyncio.get_running_loop()

        def settled(then: Confirmed) -> None:
            loop.call_soon_threadsafe(self._then, domain, then)

        try:
            async with asyncio.timeout(HELD_AT_MOST_S):
                scans = await host.ask(self._held, domain, wish, settled)
        except TimeoutError as error:
            raise OperationError(f"libvirt has not answered for {HELD_AT_MOST_S:g} s") from error
        put = await host.work(self._put, scans)
        self._judge(put.keys)

    def _held(self, domain: Domain, wish: Wish, settled: Callable[[Confirmed], None]) -> list[MachineScans]:
        host = self._host
        files = host.view().files
        scans: list[MachineScans] = []
        if wish.settle or not wish.snapshots_alone:
            with host.point_in_time(domain) as still:
                if wish.settle:  # a network waits for this, and for nothing else
                    settled(self._settle(domain, scan_running(host.scanner, files, host.name, domain, still)))
                scans.append(scan_running(host.scanner, files, host.name, domain, still, credentials=True))
        if domain.snapshots:
            scans.append(scan_snapshots(host.scanner, files, host.name, domain, credentials=True))
        return scans

    def _settle(self, domain: Domain, current: MachineScans) -> Confirmed:
        self._put([current])
        scanned = next(one for one in current.scanned if one.subject.state == CURRENT)
        return settle(self._host.means, self._host.taps, domain, scanned)

    # Both

    def _put(self, scans: Sequence[MachineScans], *, off: bool = False) -> Put:
        keys: list[str] = []
        with self._host.records.transaction() as record:
            if off:
                # One that was started meanwhile was read by its hook, and is read anew when it stops.
                begun = {one.machine for one in record.live_executions() if one.host == self._host.name}
                scans = [scan for scan in scans if scan.domain is None or scan.domain.uuid not in begun]
            for scan in scans:
                keys.extend(put_scans(record, scan))
            read = [one.subject for scan in scans for one in scan.scanned if one.reading is not None]
            seen = [(subject, record.scan(subject.key)) for subject in read]
        for one in [one for scan in scans for one in scan.scanned if one.unread]:
            self._host.report(f"{one.subject.name} ({one.subject.state}): {one.unread}; it is tried again")
        found = [seen_to_have(subject, scan) for subject, scan in seen]
        reached = [one for one in found if one is not None]
        if reached:
            with self._host.advisor.advice(now()) as advised:
                raise_floors(self._host.records, reached, advised.knowledge)
        bare = dict.fromkeys(
            subject.machine for subject, scan in seen if subject.machine and lacks_credentials(scan)
        )
        return Put(tuple(keys), tuple(bare))


def lacks_credentials(scan: Scan | None) -> bool:
    """Tell whether a state could be read, and its accounts, keys and secrets were not yet."""
    return scan is not None and bool(scan.inventory) and not scan.credentials
