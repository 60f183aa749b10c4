"""An examiner that reads this host's disks itself: what the command line decides with.

with advice(database, now) as advised:
    examiner = HostExaminer(records, survey, Scanner(...), advised, policy, hold, clock)
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.releases import known_release
from undercroft.errors import BusyError
from undercroft.model.domain import Domain, Survey
from undercroft.model.execution import Origin
from undercroft.model.finding import Assessment, FixState
from undercroft.model.fleet import Floor, MachineRecord, Scan
from undercroft.model.inventory import Inventory
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Subject
from undercroft.ports.hypervisor import MachineDisks, PointInTime
from undercroft.ports.reader import Reader
from undercroft.ports.records import Record, Records
from undercroft.steady.facts import Facts, FixesSeen
from undercroft.steady.judge import Judge
from undercroft.steady.policy import DEFAULT, Policy
from undercroft.usecases.fleet.orders.examine import Look, Said, against_floor
from undercroft.usecases.fleet.orders.revert import HELD_AGAIN_S, HELD_TRIES, named_snapshot
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.layers import LayerReader
from undercroft.usecases.fleet.reading.scanning import Scanned, Scanner, put_scanned
from undercroft.usecases.fleet.reading.snapshotdisks import Whereabouts, whereabouts
from undercroft.usecases.fleet.starts.reseed import is_required
from undercroft.usecases.fleet.subjects import domain_subjects, snapshot_subject
from undercroft.usecases.fleet.verdicts.advising import Advice, Advisor
from undercroft.usecases.fleet.verdicts.facts import below_words, domain_target, goes_on, of_domain

_RECENT = 16

Hold = Callable[[Domain], AbstractContextManager[PointInTime]]
"""Holds a running machine's disks at one point in time (`ports.hypervisor.Hypervisor.point_in_time`)."""


@dataclass(frozen=True, slots=True)
class HostExaminer:
    """`examine.Examiner` over the machines of one host.

    Attributes:
        records: the record; answers in it that prove themselves spare a read.
        survey: what the host has now.
        scanner: reads states.
        advised: the advisories.
        policy: the policy.
        hold: holds a running machine.
        clock: gives the time.
        pause: waits for so many seconds.
    """

    records: Records
    survey: Survey
    scanner: Scanner
    advised: Advice
    policy: Policy
    hold: Hold
    clock: Callable[[], datetime]
    pause: Callable[[float], None] = time.sleep

    def look(self, machine: MachineRecord, state: str) -> Look:
        """Return what a state holds. See `Examiner.look`."""
        domain = machine.domain
        subject = _subject(machine, state)
        place = Whereabouts(domain, CURRENT, own=True)
        if state != CURRENT:
            place = whereabouts(domain, named_snapshot(domain, state))
        # The subject's name says under which state the reader finds it.
        asked = Subject(subject.key, subject.kind, subject.name, subject.host, subject.machine, place.state)
        files = HostFiles(self.survey, self.policy.backing)
        with ExitStack() as stack:
            still = self._held(stack, domain) if place.own and domain.power.has_process else None
            scanned = self.scanner.scan(files.target_for(place.domain, still), asked, credentials=True)
        self._put(replace(scanned, subject=subject))
        return self._look(scanned)

    def _put(self, scanned: Scanned) -> None:
        """Put what was read on record, unless something newer stands there or it is another state by now."""
        if scanned.reading is None:
            return  # that it could not be read just now is for this order alone
        subject = scanned.subject
        with self.records.transaction() as record:
            before = record.scan(subject.key)
            if before is not None and before.scanned_at > scanned.at:
                return
            begun = (one.started_at for one in record.live_executions() if one.machine == subject.machine)
            if subject.state == CURRENT and any(at > scanned.at for at in begun):
                return
            put_scanned(record, scanned)

    def _held(self, stack: ExitStack, domain: Domain) -> PointInTime:
        """Hold a running machine, as soon as no other scan does, which is a second or so."""
        for _ in range(HELD_TRIES - 1):
            try:
                return stack.enter_context(self.hold(domain))
            except BusyError:
                self.pause(HELD_AGAIN_S)
        return stack.enter_context(self.hold(domain))

    def knowledge(self, inventory: Inventory) -> Knowledge | None:
        """Return the advisories that bear on an inventory. See `Examiner.knowledge`."""
        return self.advised.knowledge(inventory)

    def judge(self, machine: MachineRecord, state: str, look: Look | None, floor: Floor) -> Said:
        """Return what the policy says of a state. See `Examiner.judge`."""
        subject = _subject(machine, state)
        judge = Judge(self.policy, self.clock())
        with self.records.reading() as record:
            facts = self._facts(record, machine, subject, look, floor)
            before = record.judgement(subject.key)
        judgement = judge.judge(facts, before)
        return Said(judgement, judge.reason(facts, judgement), judge.against(facts, judgement))

    def unknown_action(self, machine: MachineRecord) -> Action:
        """Return what is done where a state cannot be judged. See `Examiner.unknown_action`."""
        setting = self.policy.settings(domain_target(machine.domain, machine.host)).unknown
        return Action.REFUSE if setting.source == DEFAULT else setting.value

    def wants_fresh(self, machine: MachineRecord) -> bool:
        """Tell whether the policy wants fresh randomness of its guest. See `Examiner.wants_fresh`."""
        return is_required(self.policy, machine.domain, machine.host)

    def _look(self, scanned: Scanned) -> Look:
        reading = scanned.reading
        if reading is None:
            return Look(None, None, None, scanned.problems, scanned.at)
        inventory = reading.inventory
        if inventory is None:
            with self.records.reading() as record:
                inventory = record.inventory(reading.inventory_digest)
        assessment = self.advised.assess(inventory)
        unread = (scanned.unread,) if scanned.unread else ()
        problems = (*inventory.coverage.problems, *scanned.problems, *unread, *assessment.problems)
        return Look(inventory, scanned.credentials, assessment, problems, scanned.at)

    def _facts(
        self, record: Record, machine: MachineRecord, subject: Subject, look: Look | None, floor: Floor
    ) -> Facts:
        below, above = against_floor(floor, look)
        facts = Facts(
            subject=subject,
            target=domain_target(machine.domain, machine.host),
            scan=_scan(subject, look),
            assessment=look.assessment if look else None,
            advisories=self.advised.mark,
            fixes_seen=_fixes_seen(record, look, self.clock()),
            has_floor=bool(floor.entries),
            below_floor=tuple(map(below_words, below)),
            floor_unproven=above,
            goes_on=goes_on(subject, _origin(record, machine)),
        )
        return of_domain(facts, machine.domain, {hold.machine: hold for hold in record.holds()})


@dataclass(frozen=True, slots=True)
class Sources:
    """What an examiner of this host draws on.

    Attributes:
        connect: libvirt URI, "" for libvirt's default.
        database: path of the advisory database.
        policy: the policy.
    """

    connect: str
    database: str
    policy: Policy


@contextmanager
def host_examiner(
    records: Records, survey: Survey, reader: Reader, sources: Sources, clock: Callable[[], datetime]
) -> Iterator[HostExaminer]:
    """Give an examiner of this host for the length of a `with` block.

    Raises:
        StateError, OperationError: the advisory database cannot be used, or libvirt cannot be asked.
    """
    from undercroft.adapters.libvirt import LibvirtHypervisor  # noqa: PLC0415 - only where it is called

    scanner = Scanner(records, LayerReader(reader), clock)
    with (
        Advisor(sources.database).advice(clock()) as advised,
        LibvirtHypervisor(sources.connect) as hypervisor,
    ):

        def hold(domain: Domain) -> AbstractContextManager[PointInTime]:
            return hypervisor.point_in_time(MachineDisks(domain.name, domain.uuid, True, domain.disks))

        yield HostExaminer(records, survey, scanner, advised, sources.policy, hold, clock)


def _subject(machine: MachineRecord, state: str) -> Subject:
    if state == CURRENT:
        return domain_subjects(machine.host, machine.domain)[0]
    return snapshot_subject(machine.host, machine.domain, state)


def _origin(record: Record, machine: MachineRecord) -> Origin | None:
    """Return how the execution that lives on the machine's host began, None where it is off or not known."""
    own = record.own_executions(machine.domain.uuid, _RECENT)
    return next((one.origin for one in reversed(own) if one.live and one.host == machine.host), None)


def _scan(subject: Subject, look: Look | None) -> Scan | None:
    """Return what the rules about reading ask for; a look that is not on record has no digests."""
    if look is None:
        return None
    seen = "looked at" if look.inventory is not None else ""
    of_advisories = look.assessment.problems if look.assessment else ()
    problems = tuple(problem for problem in look.problems if problem not in of_advisories)
    return Scan(subject.key, seen, seen, "", "", "", (), problems, look.looked_at)


def _fixes_seen(record: Record, look: Look | None, at: datetime) -> FixesSeen:
    """Return when fixes that nobody dates were first seen."""
    assessment: Assessment | None = look.assessment if look else None
    if assessment is None or look is None or look.inventory is None:
        return {}
    release = known_release(look.inventory)
    wanted = [
        (release, finding.source, finding.vulnerability)
        for finding in assessment.findings
        if finding.fix is FixState.FIXABLE and finding.fixed_on is None
    ]
    seen = record.seen_fixes(wanted, at)
    return {(source, vulnerability): when for (_, source, vulnerability), when in seen.items()}
