"""The whole agent but for its edges: its real parts over a record, with a libvirt, disks and taps in memory.

    async with Lab(tmp_path, MemoryRecords()).running() as lab:
        await lab.start("booted")
        await lab.until(lab.is_open, "its network is open")

The lab's hook does what the real one does: it keeps each event in the spool, asks over the socket, closes the
tap or has it labelled, notes it, and decides alone where nobody answers. It runs while libvirt holds its
lock, as the real one does. A disk is an inventory; each state of the machine has one. The kernel's filter is
in memory too, and has no table until a test applies a policy.
"""

import asyncio
import json
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import advisorydata
from comebackdata import CVE, NEW, OLD, PATCHED, UNPATCHED
from gatetraces import PlayedService
from memoryfilter import MemoryFilter
from memoryfleet import MemoryFleet

from undercroft.adapters import hookfiles
from undercroft.adapters.hookfiles import RunNote
from undercroft.advisories.knowledge import gather
from undercroft.advisories.match import assess
from undercroft.advisories.records import subject_name
from undercroft.agent import (
    admissionserver,
    events,
    filteralarms,
    filters,
    moves,
    rounds,
    scans,
    starts,
    surveys,
)
from undercroft.agent.admissionserver import AdmissionServer
from undercroft.agent.events import Events
from undercroft.agent.filters import Filters
from undercroft.agent.firewall import Firewall
from undercroft.agent.hooks import HookHandler
from undercroft.agent.host import Host, now
from undercroft.agent.rounds import Rounds
from undercroft.agent.scans import Scans
from undercroft.errors import NotFoundError, OperationError
from undercroft.firewall.policy import Address
from undercroft.model.domain import DiskKind, Domain, DomainDisk, DomainSnapshot, Interface, Power
from undercroft.model.execution import Fingerprint, HookEvent, StateKind
from undercroft.model.fleet import HeldTap
from undercroft.model.inventory import Inventory
from undercroft.model.report import CURRENT
from undercroft.model.schema import encode
from undercroft.model.verdict import Action, Subject, Verdict
from undercroft.ports.packetfilter import PacketFilter
from undercroft.ports.records import Records
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.reading.layers import How, Reading
from undercroft.usecases.fleet.reading.scanning import Scanned, Scanner
from undercroft.usecases.fleet.starts.confirming import Confirmed
from undercroft.usecases.fleet.starts.network import NO_FILTER, Filter
from undercroft.usecases.fleet.verdicts.advising import Advice
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper
from undercroft.usecases.target import MachineTarget

UUID = "0a0b0c0d-0000-4000-8000-000000000001"
HOST, NAME, TAP, BRIDGE, SNAPSHOT = "host1", "web01", "vnet1", "br0", "old"
WAIT_S = 60.0
POLICY = "version: 1\ndefaults: {drifting: quarantine, below_floor: quarantine}\n"
QUICK = (
    (admissionserver, "DRAIN_EVERY_S", 0.2),
    (events, "AGAIN_S", 0.01),
    (starts, "CONFIRM_AGAIN_S", (0.01,)),
    (scans, "RETRY_S", 0.02),
    (scans, "SETTLE_AGAIN_S", (0.02,)),
    (rounds, "LOOK_EVERY_S", 0.02),
    (rounds, "GATHER_S", 0.005),
    (surveys, "SURVEY_AFTER_S", 0.01),
    (surveys, "SURVEY_AT_MOST_EVERY_S", 0.05),
    (filters, "POLL_S", 0.02),
    (filters, "GATHER_S", 0.005),
    (filters, "PROVE_AFTER_S", 0.005),
    (filters, "AGAIN_S", 0.01),
    (filteralarms, "ALARM_EVERY_S", 0.0),
    (moves, "LOOK_EVERY_S", 0.01),
    (moves, "ADOPT_S", 0.3),
)
"""Pauses of the agent that a test shortens: (module, name, value)."""

_XML = """<domain type='qemu' id='1'><name>{name}</name><uuid>{uuid}</uuid><genid/><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>
<target dev='vda'/></disk>
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='{tap}'/>
</interface></devices></domain>"""


class MemoryTaps:
    """Taps in memory: the bridge of each, "" for one that is held."""

    def __init__(self) -> None:
        self.bridges: dict[str, str] = {}
        self.was_open: list[str] = []

    def plug(self, tap: str, bridge: str) -> None:
        """Make a tap, as libvirt does."""
        self.bridges[tap] = bridge

    def hold(self, tap: str) -> HeldTap:
        bridge = self._bridge(tap)
        self.bridges[tap] = ""
        return HeldTap(tap, bridge)

    def open_tap(self, held: HeldTap) -> None:
        self._bridge(held.tap)
        self.bridges[held.tap] = held.bridge

    def is_held(self, tap: str) -> bool:
        return not self._bridge(tap)

    def _bridge(self, tap: str) -> str:
        if tap not in self.bridges:
            raise NotFoundError(f"{tap}: no such network device")
        return self.bridges[tap]


class DiskScanner(Scanner):
    """Reads the disks of a lab: inventories by state."""

    def __init__(self, records: Records, disks: dict[str, Inventory]) -> None:
        super().__init__(records, None, now)  # type: ignore[arg-type]
        self._disks = disks

    def scan_states(
        self, target: MachineTarget, subjects: tuple[Subject, ...], *, credentials: bool = False
    ) -> tuple[Scanned, ...]:
        return tuple(self._read(subject) for subject in subjects)

    def _read(self, subject: Subject) -> Scanned:
        at, found = now(), self._disks.get(subject.state)
        if found is None:
            return self.failed(subject, NotFoundError(f"no state {subject.state}"))
        mark = Fingerprint(disk_mark(found), "a" * 64)
        return Scanned(subject, Reading(How.READ, found, "", None, mark, (), ""), None, (), at)


def disk_mark(inventory: Inventory) -> str:
    """Return what tells the disk of an inventory."""
    return "".join(f"{ord(letter):02x}" for letter in inventory.packages[0].version)[:64].ljust(64, "0")


class LabAdvisor:
    """Advisories that are fresh: the old openssl has a hole, both its versions are listed.

    `of_alma` is the same for a machine of AlmaLinux 9, whose publisher lists the fix alone.
    """

    @classmethod
    def of_alma(cls, fixed: str) -> "LabAdvisor":
        """Return advisories in which `fixed` is what mends openssl in AlmaLinux 9."""
        errata = advisorydata.header("osv:AlmaLinux:9", ("alma:9",), complete=True, published_at=now())
        kev = advisorydata.header("kev", (), published_at=now())
        subject = subject_name("openssl", binary=True)
        statement = advisorydata.statement(errata, subject, CVE, fixed, published_on=date(2024, 7, 1))
        editions = [(advisorydata.edition(errata, 1, now()), [statement])]
        made = cls()
        made._knowledge = gather("alma:9", [*editions, (advisorydata.edition(kev, 1, now()), [])])
        return made

    def __init__(self) -> None:
        tracker = advisorydata.header("debian-tracker", complete=True, published_at=now())
        dsa = advisorydata.header("debian-dsa", published_at=now())
        mirror = advisorydata.header("mirror:debian:12:bookworm-security", published_at=now())
        kev = advisorydata.header("kev", (), published_at=now())
        feeds = (
            (tracker, [advisorydata.statement(tracker, "openssl", CVE, NEW)]),
            (dsa, [advisorydata.statement(dsa, "openssl", CVE, NEW, published_on=date(2024, 7, 1))]),
            (mirror, [advisorydata.listed("openssl", version) for version in (NEW, OLD)]),
            (kev, []),
        )
        editions = [(advisorydata.edition(feed, 1, now()), list(records)) for feed, records in feeds]
        self._knowledge = gather(advisorydata.BOOKWORM, editions)

    def mark(self, _now: object) -> str:
        return "mark"

    @contextmanager
    def advice(self, at: Any) -> Iterator[Advice]:
        yield Advice(
            "mark",
            lambda machine: assess(machine, self._knowledge, now=at),
            lambda machine: self._knowledge,
        )


class AskedFleet:
    """libvirt as the agent asks it; a test replaces what is to fail."""

    def __init__(self, fleet: MemoryFleet) -> None:
        self._fleet = fleet

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)


class Lab:
    """One host with one machine, which has a snapshot with RAM from before it was patched."""

    def __init__(self, folder: Path, records: Records, *, policy: str = POLICY) -> None:
        self.places = Places(folder / "state", folder / "run", folder / "etc")
        self.places.etc.mkdir(parents=True, exist_ok=True)
        self.places.policy.write_text(policy)
        hookfiles.prepare_folders(self.places.state)
        self.records = records
        self.reports: list[str] = []
        self.taps = MemoryTaps()
        self.packet_filter: PacketFilter = MemoryFilter()
        self.addresses: tuple[Address, ...] = ()
        self.needs_labels: list[bool] = []
        self.disks = {CURRENT: PATCHED, SNAPSHOT: UNPATCHED}
        self.image = folder / f"{NAME}.qcow2"
        self.fleet = MemoryFleet([self._domain()], host=HOST)
        self.fleet.on_start = self._hooks_of_a_start
        self.fleet.on_stop = self._hooks_of_a_stop
        self.asked = AskedFleet(self.fleet)
        self.refused: list[str] = []
        self.guests = PlayedService()
        self.advisor = LabAdvisor()

    def _domain(self) -> Domain:
        snapshot = DomainSnapshot(SNAPSHOT, "", int(time.time()) - 3600, "running", "internal", current=True)
        disk = DomainDisk("vda", "disk", DiskKind.FILE, str(self.image), "qcow2", ())
        interface = Interface("52:54:00:00:00:01", "bridge", BRIDGE, BRIDGE, TAP)
        return Domain(
            UUID, NAME, Power.OFF, genid=True, disks=(disk,), interfaces=(interface,), snapshots=(snapshot,)
        )

    # The agent

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Lab"]:
        """Run the agent's parts while the block runs; a part that dies fails the test.

        Where it cannot begin it ends, and its service manager starts it again.
        """
        server = await self._begun()
        parts = (self.events, self.scans, self.rounds, self.filters)
        tasks = [asyncio.create_task(part.run()) for part in parts]
        try:
            yield self
            assert not [task for task in tasks if task.done()], "a part of the agent has died"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.close()
            await asyncio.to_thread(self.host.close)

    async def _begun(self) -> AdmissionServer:
        while True:
            server = self._wired()
            try:
                self.host.recall()
                await asyncio.to_thread(self.filters.begin)
                await server.start()
            except OperationError as error:
                self.reports.append(str(error))
            else:
                return server

    def _wired(self) -> AdmissionServer:
        self.firewall = Firewall.of(
            self.packet_filter, self.records, HOST, self.places.state, lambda: self.addresses
        )
        self.host = self._host(self.firewall.labels)
        self.filters = Filters(self.host, self.firewall, self._required_changed)
        self.rounds = Rounds(self.host, lambda: not self.scans.idle, lambda: None, lambda: None)
        self.scans = Scans(self.host, self.rounds.judge, self._follow)
        self.events = Events(
            self.host, self.scans, self.rounds.judge, lambda *_: None, self._hooks_behind, self.filters
        )
        handler = HookHandler(
            self.host,
            lambda uuid: self.scans.add(uuid, first=True),
            self.events.starts.look_at,
            self.events.starts.held,
            self.filters,
        )
        self.server = AdmissionServer(
            self.places.state, self.places.admission_socket, handler, self.reports.append
        )
        return self.server

    def _hooks_behind(self, uuid: str) -> bool:
        return self.server.is_behind(uuid)

    def _required_changed(self) -> None:
        self.needs_labels.append(self.firewall.labels.required)

    def _follow(self, domain: Domain, confirmed: Confirmed) -> None:
        self.events.starts.follow(domain, confirmed)

    def _host(self, filter: Filter = NO_FILTER) -> Host:  # noqa: A002
        @contextmanager
        def point_in_time(domain: Domain) -> Iterator[Any]:
            if self.fleet.domain(domain.uuid).power not in {Power.RUNNING, Power.PAUSED}:
                raise OperationError(f"{domain.name}: it does not run")
            yield type("Still", (), {"targets": (), "unavailable": {}})()

        return Host(
            self.places,
            HOST,
            records=self.records,
            fleet=self.asked,
            point_in_time=point_in_time,
            scanner=DiskScanner(self.records, self.disks),
            advisor=self.advisor,  # type: ignore[arg-type]
            policy=PolicyKeeper(self.places.policy, lambda: now().date()),
            taps=self.taps,
            report=self.reports.append,
            filter=filter,
        )

    # The administrator

    async def start(self) -> bool:
        """Start the machine; False where it was refused."""
        try:
            await asyncio.to_thread(self.fleet.start, UUID)
        except OperationError as error:
            self.refused.append(str(error))
            return False
        return True

    async def revert(self) -> bool:
        """Revert the machine with virsh; False where a hook refused, and it stays off."""
        try:
            await asyncio.to_thread(self.fleet.revert, UUID, SNAPSHOT)
        except OperationError as error:
            self.refused.append(str(error))
            return False
        return True

    async def stop(self) -> None:
        """Stop the machine."""
        await asyncio.to_thread(self.fleet.destroy, UUID)

    # The hook

    def _hooks_of_a_start(self, domain: Domain, way: str) -> None:
        eid = secrets.token_hex(16)
        answer = self._ask(domain, "prepare", eid)
        if answer["action"] == "refuse":
            self._tell(domain, "release", "", sub="end")
            raise OperationError(f"{domain.name} may not start: {answer['reason']}")
        action, label = Action(answer["action"]), answer["label"]
        closed = answer["hold"] or (action is Action.QUARANTINE and not label)
        self.taps.plug(TAP, BRIDGE)
        held = (self.taps.hold(TAP),) if closed else ()
        note = RunNote(UUID, NAME, eid, action, answer["hold"], closed, answer["reason"], held, label=label)
        hookfiles.write_note(self.places.state, note)
        if closed or not label:
            self._tell(domain, "start", eid)
        elif not self._is_labelled(domain, note):
            self._tell(domain, "start", eid, alone=True)
        self.on_run()
        if way == "from-snapshot":
            self.disks[CURRENT] = self.disks[SNAPSHOT]
        self._tell(domain, "started", eid)

    def _is_labelled(self, domain: Domain, note: RunNote) -> bool:
        """Have the tap labelled; where nobody says that it is, hold it and return False."""
        name = self._keep(self._event(domain, "start", "begin", note.eid))
        line = self._call(name)
        if line and not json.loads(line)["hold"]:
            return True
        held = replace(note, hold=True, closed=True, taps=(self.taps.hold(TAP),), reason="no labels yet")
        hookfiles.write_note(self.places.state, held)
        (self.places.spool / name).unlink(missing_ok=True)
        return False

    def on_run(self) -> None:
        """Be called when QEMU begins to run; a test looks at what is so then."""

    def _hooks_of_a_stop(self, domain: Domain) -> None:
        self.taps.bridges.pop(TAP, None)
        note = hookfiles.read_note(self.places.state, UUID)
        eid = note.eid if note else ""
        for operation in ("stopped", "release"):
            self._tell(domain, operation, eid, sub="end")
        (self.places.state / "run" / f"{UUID}.json").unlink(missing_ok=True)

    def _ask(self, domain: Domain, operation: str, eid: str) -> dict[str, Any]:
        event = self._event(domain, operation, "begin", eid)
        name = self._keep(event)
        if line := self._call(name):
            answer: dict[str, Any] = json.loads(line)
            return answer
        alone = replace(event, alone=True, decided="refuse", reason="the agent is away")
        self._keep(alone)
        (self.places.spool / name).unlink(missing_ok=True)
        return {"action": "refuse", "hold": False, "reason": "the agent is away", "label": False}

    def _tell(
        self, domain: Domain, operation: str, eid: str, *, sub: str = "begin", alone: bool = False
    ) -> None:
        event = replace(self._event(domain, operation, sub, eid), alone=alone)
        self._call(self._keep(event), wait=False)

    def _event(self, domain: Domain, operation: str, sub: str, eid: str) -> HookEvent:
        xml = _XML.format(name=domain.name, uuid=domain.uuid, path=self.image, tap=TAP)
        return HookEvent(
            secrets.token_hex(16), time.time_ns(), domain.name, domain.uuid, operation, sub, "-", eid, xml
        )

    def _keep(self, event: HookEvent) -> str:
        name = f"{time.time_ns():020d}-{event.ident}.json"
        hookfiles.write_file(self.places.spool / name, json.dumps(encode(event)).encode())
        return name

    def _call(self, name: str, *, wait: bool = True) -> bytes:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(WAIT_S)
            agent.connect(str(self.places.admission_socket))
            agent.sendall(name.encode() + b"\n")
            return agent.recv(65536) if wait else b""

    # What is so

    def is_open(self) -> bool:
        """Tell whether the machine's tap is on its bridge and nothing on record holds it."""
        return self.taps.bridges.get(TAP) == BRIDGE and not self._read(lambda record: record.holds())

    def is_quarantined(self) -> bool:
        """Tell whether its tap is off and a quarantine is on record."""
        holds = self._read(lambda record: record.holds())
        return self.taps.bridges.get(TAP) == "" and [hold.pending for hold in holds] == [False]

    def is_known(self) -> bool:
        """Tell whether all its states are judged, with a floor."""
        judged = self._read(lambda record: (record.judgements(), record.floor(UUID).entries))
        return len(judged[0]) == 2 and bool(judged[1])

    def is_over(self) -> bool:
        """Tell whether it is off, nothing lives or is held, and its disks were read since it stopped."""
        live, holds, own, known = self._read(
            lambda record: (
                record.live_executions(),
                record.holds(),
                record.own_executions(UUID),
                record.find_machines(UUID),
            )
        )
        if known[0].domain.power is not Power.OFF:
            return False
        end = own and self._read(lambda record: record.state(f"end:{own[-1].eid}"))
        return not live and not holds and bool(end)

    def is_judged(self) -> bool:
        """Tell whether it is over, and judged by what it has left: its next start would be closed."""
        judgement = self._read(lambda record: record.judgement(f"machine:{UUID}"))
        return self.is_over() and judgement.verdict is Verdict.QUARANTINED

    def action(self) -> Action | None:
        """Return what a start of it would meet, None while nobody has judged it."""
        judgement = self._read(lambda record: record.judgement(f"machine:{UUID}"))
        return judgement.action if judgement else None

    def is_quiet(self) -> bool:
        """Tell whether nothing waits anywhere."""
        return not hookfiles.spooled(self.places.state) and self.scans.idle and self.rounds.idle

    def _read(self, what: Callable[[Any], Any]) -> Any:
        while True:
            try:
                with self.records.reading() as record:
                    return what(record)
            except OperationError:
                time.sleep(0.001)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it is so, and nothing waits anywhere."""
        ends = time.monotonic() + WAIT_S
        while not (condition() and self.is_quiet()):
            assert time.monotonic() < ends, f"waited in vain: {what}: {self.story()} {self.reports[-20:]}"
            await asyncio.sleep(0.005)

    def story(self) -> dict[str, Any]:
        """Return what is on record and how the taps are, without what differs from run to run.

        What a hook decided alone is left out (also a start that it refused and the agent took up meanwhile,
        which is on record as failed), that a second look allowed what the first one had, and ends that were
        withdrawn.
        """
        return self._read(self._told) | {"taps": dict(self.taps.bridges)}  # type: ignore[no-any-return]

    def _told(self, record: Any) -> dict[str, Any]:
        own = [execution for execution in record.own_executions(UUID) if execution.ending != "failed"]
        place = {execution.eid: number for number, execution in enumerate(own)} | {"": ""}
        return {
            "executions": [
                (place[one.eid], one.origin.value, place[one.parent], one.ending, one.live) for one in own
            ],
            "decisions": sorted(
                (place[one.eid], one.action.value, one.hold, one.by)
                for one in record.decisions(limit=1000)
                if one.eid in place and one.by == "agent" and (one.hold or one.action is not Action.ALLOW)
            ),
            "holds": [(hold.taps, hold.pending, place[hold.eid]) for hold in record.holds()],
            "judgements": sorted(
                (key, one.verdict.value, one.action.value, one.why)
                for key, one in record.judgements().items()
            ),
            "floor": [(entry.source, entry.version) for entry in record.floor(UUID).entries],
            "states": sorted(
                (state.kind.value, place.get(state.eid, "?"), bool(state.fingerprint))
                for state in record.states(UUID)
                if state.fingerprint or state.kind is not StateKind.END
            ),
        }


class Fault:
    """A fault that strikes once, at the nth step; `count` goes on, and tells how many steps there were."""

    def __init__(self, strikes_at: int = 0, message: str = "No space left on device") -> None:
        self.count, self.strikes_at = 0, strikes_at
        self._message = message
        self._lock = threading.Lock()

    def step(self) -> None:
        """Raise OperationError at the nth call."""
        with self._lock:
            self.count += 1
            strikes = self.count == self.strikes_at
        if strikes:
            raise OperationError(self._message)

    def wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that is a step."""

        def stepping(*arguments: Any, **named: Any) -> Any:
            self.step()
            return call(*arguments, **named)

        return stepping


class FailingRecords:
    """A record whose transactions fail at their beginning or at their end, where nothing of them stays."""

    def __init__(self, records: Records, fault: Fault) -> None:
        self._records = records
        self._fault = fault

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self._fault.step()
        with self._records.transaction() as record:
            yield record
            self._fault.step()

    @contextmanager
    def reading(self) -> Iterator[Any]:
        self._fault.step()
        with self._records.reading() as record:
            yield record

    def close(self) -> None:
        self._records.close()
