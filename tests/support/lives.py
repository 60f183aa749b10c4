"""A model host: machines that start, are snapshotted, rolled back, saved, copied, and what libvirt tells.

    world = World(MemoryRecords())
    web = world.machine("web01")
    first = world.start(web)
    world.stop(web)

Each operation changes the model, delivers the hooks and events that libvirt would send, and lets the agent
look at the disks as it would; after `world.leave_agent()` hooks go to a spool, events are lost and nobody
looks, until `world.return_agent()`. `world.truth` is what really happened: (origin, parent) by execution.
A disk's content is a number; equal numbers are equal disks. Operations leave `pause_s` between each other.
"""

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from undercroft.model.domain import ChainEntry, DiskKind, Domain, DomainDisk, DomainSnapshot, Power, Survey
from undercroft.model.execution import Execution, Fingerprint, HookEvent, Origin, SaveImage
from undercroft.model.fleet import FileIdentity
from undercroft.ports.fleet import Happening, MachineEvent
from undercroft.ports.records import Records
from undercroft.usecases.fleet.history.events import machine_event
from undercroft.usecases.fleet.history.facts import NOT_LOOKED, Looked
from undercroft.usecases.fleet.history.hooks import hook_event
from undercroft.usecases.fleet.history.reconcile import surveyed
from undercroft.usecases.fleet.history.states import end_seen, snapshot_seen

BEGIN = datetime(2026, 11, 1, 8, tzinfo=UTC)


@dataclass
class Snap:
    """A snapshot: what it holds and the execution that it belongs to."""

    name: str
    content: int
    eid: str
    taken: DomainSnapshot


@dataclass
class Save:
    """A file with RAM in it. `times` counts how often it was continued."""

    machine: "Machine"
    content: int
    eid: str
    image: SaveImage
    times: int = 0


@dataclass
class Machine:
    """One machine. `put` is what was done to its disks while it was off, None for nothing."""

    name: str
    uuid: str
    content: int
    lineage: str
    inode: int
    written: int = 0
    eid: str = ""
    last: str = ""
    live: bool = False
    end: int = -1
    put: tuple[Origin, str] | None = None
    source: tuple[Origin, str] = (Origin.FIRST, "")
    snaps: list[Snap] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    current: str = ""
    libvirt_id: int = 0
    tainted: tuple[str, ...] = ()
    away: bool = False
    base: str = ""


class World:
    """One host with an agent that may be away. `host` names it; `twice` delivers each hook twice."""

    def __init__(self, records: Records, host: str = "alpha", pause_s: float = 3600.0) -> None:
        self.records = records
        self.host = host
        self.pause_s = pause_s
        self.now = BEGIN
        self.agent = True
        self.twice = False
        self.hooks = True
        self.truth: dict[str, tuple[Origin, str]] = {}
        self.machines: list[Machine] = []
        self.saves: list[Save] = []
        self._spool: list[HookEvent] = []
        self._numbers = 0

    # What people and guests do

    def machine(self, name: str, content: int | None = None, lineage: str = "") -> Machine:
        number = self.number()
        ident = str(uuid.UUID(int=number))
        fresh = number if content is None else content
        made = Machine(name, ident, fresh, lineage or f"lineage {number}", number)
        self.machines.append(made)
        return made

    def start(self, machine: Machine, *, refused: bool = False, fails: bool = False) -> str:
        """Boot a machine, and return its execution."""
        self._pause()
        if refused:
            self._hook(machine, "prepare", "begin", eid=self._eid(), decided="refuse", reason="too old")
            return ""
        if machine.last and (machine.put is None or machine.content == machine.ends.get(machine.last)):
            truth = (Origin.START, machine.last)
        elif machine.last and machine.put:
            truth = machine.put
        else:
            truth = machine.source
        if fails:
            self._hook(machine, "prepare", "begin", eid=(eid := self._eid()))
            self._hook(machine, "release", "end", eid=eid)
            return ""
        return self._begin(machine, truth, "booted")

    def write(self, machine: Machine) -> None:
        """Let the guest write something that its superblocks tell."""
        machine.content = self.number()

    def stop(self, machine: Machine, detail: str = "shutdown", *, writes: bool = True) -> None:
        self._pause()
        if writes:
            self.write(machine)
        self._end(machine, detail)

    def snapshot(self, machine: Machine, name: str) -> Snap:
        """Take an internal snapshot, with RAM where the machine runs."""
        self._pause()
        live = machine.live
        taken = DomainSnapshot(
            name,
            machine.current,
            int(self.now.timestamp()),
            "running" if live else "shutoff",
            "internal" if live else "no",
        )
        snap = Snap(name, machine.content, machine.eid if live else self._left(machine), taken)
        machine.snaps.append(snap)
        machine.current = name
        machine.written += 1
        self._look(machine)
        return snap

    def revert(self, machine: Machine, snap: Snap) -> str:
        """Let libvirt revert; a machine whose snapshot has RAM runs afterwards."""
        self._pause()
        if machine.live:
            self.write(machine)
            self._end(machine, "from-snapshot", looks=False)
        machine.current = snap.name
        self._replace(machine, snap.content, (Origin.REVERT, snap.eid))
        if snap.taken.memory == "no":
            self._look(machine)
            return ""
        return self._begin(machine, (Origin.REVERT, snap.eid), "from-snapshot")

    def apply(self, machine: Machine, snap: Snap) -> None:
        """`qemu-img snapshot -a` under a machine that is off."""
        self._pause()
        self._replace(machine, snap.content, (Origin.REVERT, snap.eid))

    def backup(self, machine: Machine, eid: str) -> None:
        """Put the disks back to how an execution left them, from a copy."""
        self._pause()
        self._replace(machine, machine.ends[eid], (Origin.BACKUP, eid))

    def read_ends(self, machine: Machine) -> list[str]:
        """Return the executions whose end the agent has read."""
        with self.records.reading() as record:
            marks = {state.key: state.fingerprint for state in record.states(machine.uuid)}
        return [
            eid
            for eid, content in machine.ends.items()
            if marks.get(f"end:{eid}") == self.fingerprint(content).digest
        ]

    def tamper(self, machine: Machine) -> None:
        """Change the disks from outside, into a state that nobody has seen."""
        self._pause()
        with self.records.reading() as record:
            seen = any(state.key == f"end:{machine.last}" for state in record.states(machine.uuid))
        self._replace(machine, self.number(), (Origin.UNKNOWN, machine.last))
        if machine.away and not seen:  # for whoever was away, as if the guest had written it
            machine.put, machine.ends[machine.last] = None, machine.content

    def touch(self, machine: Machine) -> None:
        """Change the file's ctime, not what it holds."""
        machine.written += 1

    def save(self, machine: Machine) -> Save:
        self._pause()
        self.write(machine)
        eid = machine.eid
        image = self._image(machine)
        self._end(machine, "saved")
        made = Save(machine, machine.content, eid, image)
        self.saves.append(made)
        return made

    def restore(self, save: Save, *, seen: bool = True) -> str:
        """`virsh restore`, of the image or of any copy of it."""
        self._pause()
        machine = save.machine
        self._hook(machine, "restore", "begin", save=save.image if seen else None)
        machine.content = save.content
        origin = Origin.FORK if save.times else Origin.RESTORE
        save.times += 1
        return self._begin(machine, (origin, save.eid), "restored")

    def clone(self, machine: Machine, name: str) -> Machine:
        """Copy the image of a machine that is off, and define a new machine on it."""
        self._pause()
        made = self.machine(name, machine.content, machine.lineage)
        made.source = (Origin.CLONE, self._left(machine))
        return made

    # The agent

    def leave_agent(self) -> None:
        self.agent = False
        for machine in self.machines:
            machine.away = True

    def return_agent(self) -> None:
        """Take the spool, survey, and look at everything that is off."""
        self._pause()
        self.agent = True
        for event in self._spool:
            self._deliver(event, NOT_LOOKED)
        self._spool.clear()
        self.survey()
        for machine in self.machines:
            self._look(machine)

    def survey(self) -> tuple[object, ...]:
        domains = tuple(self.domain(machine) for machine in self.machines)
        survey = Survey(self.host, "memory:", self.now, domains)
        with self.records.transaction() as record:
            alarms = surveyed(record, survey)
            record.put_survey(survey)
        return alarms

    def domain(self, machine: Machine) -> Domain:
        return Domain(
            machine.uuid,
            machine.name,
            Power.RUNNING if machine.live else Power.OFF,
            machine.libvirt_id if machine.live else 0,
            disks=(self._disk(machine),),
            snapshots=tuple(_listed(snap, machine) for snap in machine.snaps),
            tainted=machine.tainted,
        )

    def executions(self) -> dict[str, Execution]:
        with self.records.reading() as record:
            return {known.eid: known for known in record.executions()}

    def looked(self, machine: Machine) -> Looked:
        bases = (machine.base,) if machine.base else ()
        return Looked(self.fingerprint(machine.content, machine.lineage), (self.file(machine),), bases)

    @staticmethod
    def fingerprint(content: int, lineage: str = "") -> Fingerprint:
        return Fingerprint(hashlib.sha256(str(content).encode()).hexdigest(), lineage)

    @staticmethod
    def file(machine: Machine) -> FileIdentity:
        return FileIdentity(f"/i/{machine.name}", 1, machine.inode, 1, machine.written, machine.written)

    def event(self, machine: Machine, happening: Happening, detail: str) -> Execution | None:
        if not self.agent:
            return None
        self.now += timedelta(milliseconds=40)
        event = MachineEvent(happening, detail, machine.uuid, machine.name, self.now)
        with self.records.transaction() as record:
            result = machine_event(record, event, self.domain(machine), self.host)
            if self.twice:
                machine_event(record, event, self.domain(machine), self.host)
        return result

    # Inside

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _disk(self, machine: Machine) -> DomainDisk:
        chain = (ChainEntry(machine.base, "qcow2"),) if machine.base else ()
        return DomainDisk("vda", "disk", DiskKind.FILE, f"/i/{machine.name}", "qcow2", chain)

    def _left(self, machine: Machine) -> str:
        """Return the execution that left the disks as they are, "" for none."""
        if machine.put and machine.content != machine.ends.get(machine.last):
            return "" if machine.put[0] is Origin.UNKNOWN else machine.put[1]
        return machine.last or machine.source[1]

    def _replace(self, machine: Machine, content: int, put: tuple[Origin, str]) -> None:
        machine.written += 1
        if content != machine.content:
            machine.content = content
            machine.put = put

    def _image(self, machine: Machine) -> SaveImage:
        number = self.number()
        at_ns = int(self.now.timestamp() * 1e9)
        sample = hashlib.sha256(f"save {number}".encode()).hexdigest()
        return SaveImage(f"/save/{number}", 1, number, 1 << 20, at_ns, sample)

    def _pause(self) -> None:
        self.now += timedelta(seconds=self.pause_s)

    def _eid(self) -> str:
        return hashlib.md5(f"{self.host} {self.number()}".encode()).hexdigest()

    def _begin(self, machine: Machine, truth: tuple[Origin, str], detail: str) -> str:
        eid = self._eid()
        machine.eid = eid
        looked = self.looked(machine)
        self._hook(machine, "prepare", "begin", eid=eid, looked=looked)
        self._hook(machine, "start", "begin", eid=eid)
        machine.live, machine.put, machine.libvirt_id = True, None, self.number()
        machine.written += 1
        self._hook(machine, "started", "begin", eid=eid)
        self.truth[eid] = truth
        machine.last = eid
        self.event(machine, Happening.STARTED, detail)
        if detail in {"restored", "from-snapshot"}:
            self.event(machine, Happening.RESUMED, "from-snapshot")
        if detail == "booted":
            self.write(machine)
        return eid

    def _end(self, machine: Machine, detail: str, *, looks: bool = True) -> None:
        machine.live = False
        machine.ends[machine.eid] = machine.content
        machine.written += 1
        self._hook(machine, "stopped", "end", eid=machine.eid)
        self._hook(machine, "release", "end", eid=machine.eid)
        self.event(machine, Happening.STOPPED, detail)
        if looks:
            self._look(machine)

    def _look(self, machine: Machine) -> None:
        """Read what the agent would read by now: snapshots, and the disks of a machine that is off."""
        if not self.agent:
            return
        looked = self.looked(machine)
        with self.records.transaction() as record:
            for snap in machine.snaps:
                listed = _listed(snap, machine)
                snapshot_seen(record, machine.uuid, listed, self.fingerprint(snap.content))
            if not machine.live and machine.last:
                end_seen(record, machine.uuid, looked.fingerprint, looked.files, self.now)

    def _hook(
        self, machine: Machine, operation: str, sub: str, *, looked: Looked = NOT_LOOKED, **more: object
    ) -> None:
        if not self.hooks:
            return
        self.now += timedelta(milliseconds=20)
        event = HookEvent(
            ident=hashlib.md5(f"event {self.host} {self.number()}".encode()).hexdigest(),
            at_ns=int(self.now.timestamp()) * 10**9 + self.now.microsecond * 1000,
            name=machine.name,
            uuid=machine.uuid,
            operation=operation,
            sub=sub,
            extra="-",
            **{"eid": "", "xml": "<domain/>", **more},  # type: ignore[arg-type]
        )
        if not self.agent:
            self._spool.append(event)
            return
        for _time in range(2 if self.twice else 1):
            self._deliver(event, looked)

    def _deliver(self, event: HookEvent, looked: Looked) -> None:
        with self.records.transaction() as record:
            hook_event(record, event, self.host, looked)


def _listed(snap: Snap, machine: Machine) -> DomainSnapshot:
    taken = snap.taken
    return DomainSnapshot(
        taken.name,
        taken.parent,
        taken.created_at_s,
        taken.state,
        taken.memory,
        current=machine.current == taken.name,
    )
