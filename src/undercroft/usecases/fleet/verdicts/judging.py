"""Judging what is on record: everything anew, or one subject that was just read. No disk is touched.

A round is worked out from one moment of the record and put there in short transactions, between which starts
come on record. Where somebody else has judged a subject meanwhile, it is judged once more: which of the two
saw what is newer, nobody can say.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.advisories.releases import known_release
from undercroft.model.domain import Domain
from undercroft.model.finding import Assessment, FixState
from undercroft.model.fleet import Floor, MachineRecord, Scan
from undercroft.model.verdict import Judgement, Subject
from undercroft.ports.records import Record, Records
from undercroft.steady.facts import Facts, FixesSeen
from undercroft.steady.judge import Judge
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.verdicts.advising import Advice, assess_all
from undercroft.usecases.fleet.verdicts.facts import Known, facts_of

_ONE_BY_ONE = 64
"""Up to so many subjects are asked for singly: a record of many thousands is then not read for them."""

_PUT_AT_ONCE = 250
"""Of judgements in one transaction: a start waits for it to end."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What judgements of one moment rest on beside the record: the policy, and the mark of the advisories."""

    policy: Policy
    mark: str


class Judging:
    """Judges from the record; for any number of threads.

    Args:
        records: no transaction of the calling thread may be open where a method takes no `record`.
        clock: gives the time.
        host: whose subjects are judged, "" for all.
    """

    def __init__(self, records: Records, clock: Callable[[], datetime], host: str = "") -> None:
        self._records = records
        self._clock = clock
        self._host = host
        self._fixes: dict[tuple[str, str], FixesSeen] = {}
        self._lock = threading.Lock()

    def everything(
        self, policy: Policy, advised: Advice, only: Iterable[str] = ()
    ) -> Mapping[str, Judgement]:
        """Judge every subject on record, or those with the keys `only`, and put the judgements there.

        Software that these advisories were not asked about yet is assessed.

        Returns:
            All judgements by subject key, also those that say what the earlier ones said.
        """
        wanted = frozenset(only)
        few = 0 < len(wanted) <= _ONE_BY_ONE
        with self._records.reading() as record:
            found = _subjects(record, wanted, few=few)
            subjects = [subject for subject in found if self._host in {"", subject.host}]
            scans = _scans(record, subjects, few=few)
        software = {scans[subject.key].software for subject in subjects if subject.key in scans}
        assessments = assess_all(self._records, advised, software)
        fixes = self._fixes_of(assessments, advised.mark)
        now = self._clock()
        judge = Judge(policy, now)
        with self._records.reading() as record:
            view = _view(record, subjects, few=few)
            view = replace(view, assessments=assessments, fixes=fixes, mark=advised.mark)
            before = _judgements(record, subjects, few=few)
            judgements = {
                subject.key: judge.judge(facts_of(record, view, subject), before.get(subject.key))
                for subject in subjects
            }
        changed = [one for key, one in judgements.items() if not _says_the_same(before.get(key), one)]
        overtaken: set[str] = set()
        for start in range(0, len(changed), _PUT_AT_ONCE):
            with self._records.transaction() as record:
                overtaken |= record.put_judgements(changed[start : start + _PUT_AT_ONCE], before)
        return {**judgements, **self.everything(policy, advised, overtaken)} if overtaken else judgements

    def facts(
        self, record: Record, subject: Subject, machine: MachineRecord, scan: Scan, basis: Basis
    ) -> Facts:
        """Return the facts of one state that was just read, with the assessment on record.

        `assess` has to have put one there.
        """
        found = record.assessment(scan.software, basis.mark) if scan.software else None
        assessments = {scan.software: found} if found else {}
        uuid = machine.domain.uuid
        with self._lock:
            fixes = self._fixes.get((scan.software, basis.mark), {})
        view = Known(
            machines={uuid: machine},
            scans={subject.key: scan},
            holds={hold.machine: hold for hold in record.holds() if hold.machine == uuid},
            floors={uuid: record.floor(uuid)},
            assessments=assessments,
            fixes={scan.software: fixes},
            mark=basis.mark,
        )
        return facts_of(record, view, subject)

    def assess(self, advised: Advice, software: str) -> Assessment | None:
        """Return what the advisories say of a software on record, None for "" or one that is not there."""
        found = assess_all(self._records, advised, (software,))
        self._fixes_of(found, advised.mark)
        return found.get(software)

    def _fixes_of(self, assessments: Mapping[str, Assessment], mark: str) -> dict[str, FixesSeen]:
        """Return since when undated fixes are there, noting those that are new; asked once for each mark."""
        with self._lock:
            known = {digest: self._fixes.get((digest, mark)) for digest in assessments}
            if any(place[1] != mark for place in self._fixes):
                self._fixes = {}  # what earlier advisories said
        fresh = {digest: _undated(assessments[digest]) for digest, seen in known.items() if seen is None}
        found = {digest: seen for digest, seen in known.items() if seen is not None}
        if any(fresh.values()):
            at = self._clock()
            with self._records.transaction() as record:
                for digest, pairs in fresh.items():
                    found[digest] = _seen(record, digest, pairs, at)
        else:
            found |= {digest: {} for digest in fresh}
        with self._lock:
            self._fixes |= {(digest, mark): seen for digest, seen in found.items()}
        return found


def machine_record(before: MachineRecord | None, domain: Domain, host: str, at: datetime) -> MachineRecord:
    """Return a machine as it stands in the record, with what its hypervisor says of it now."""
    if before is None:
        return MachineRecord(host, domain, at, at)
    return replace(before, domain=domain, last_seen=at)


def _subjects(record: Record, wanted: frozenset[str], *, few: bool) -> list[Subject]:
    if few:
        return [subject for key in sorted(wanted) if (subject := record.subject(key))]
    return [subject for subject in record.subjects() if not wanted or subject.key in wanted]


def _scans(record: Record, subjects: Sequence[Subject], *, few: bool) -> Mapping[str, Scan]:
    if not few:
        return record.scans()
    return {subject.key: scan for subject in subjects if (scan := record.scan(subject.key))}


def _judgements(record: Record, subjects: Sequence[Subject], *, few: bool) -> Mapping[str, Judgement]:
    if not few:
        return record.judgements()
    return {subject.key: found for subject in subjects if (found := record.judgement(subject.key))}


def _view(record: Record, subjects: Sequence[Subject], *, few: bool) -> Known:
    """Return what the record holds of these subjects, and of all others unless they are few."""
    hosts = {subject.machine: subject.host for subject in subjects if subject.machine}
    if few:
        machines = [machine for uuid, host in hosts.items() for machine in _there(record, uuid, host)]
        floors: Mapping[str, Floor] = {uuid: record.floor(uuid) for uuid in hosts}
    else:
        machines, floors = list(record.machines()), record.floors()
    return Known(
        machines={machine.domain.uuid: machine for machine in machines},
        scans=_scans(record, subjects, few=few),
        holds={hold.machine: hold for hold in record.holds()},
        floors=floors,
        assessments={},
        fixes={},
        mark="",
    )


def _there(record: Record, uuid: str, host: str) -> list[MachineRecord]:
    found = record.find_machines(uuid)
    return [one for one in found if one.domain.uuid == uuid and one.host == host and one.gone_at is None]


def _undated(assessment: Assessment) -> list[tuple[str, str]]:
    return [
        (finding.source, finding.vulnerability)
        for finding in assessment.findings
        if finding.fix is FixState.FIXABLE and finding.fixed_on is None
    ]


def _seen(record: Record, software: str, pairs: list[tuple[str, str]], at: datetime) -> FixesSeen:
    if not pairs:
        return {}
    release = known_release(record.software(software))
    seen = record.seen_fixes([(release, source, name) for source, name in pairs], at)
    return {(source, name): seen[release, source, name] for source, name in pairs}


def _says_the_same(before: Judgement | None, now: Judgement) -> bool:
    return before is not None and replace(before, judged_at=now.judged_at) == now
