"""One machine from a record: its states, what is wrong with it, and what helps."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from undercroft.advisories.asked import knows_exploited, knows_severities, knows_unfixed
from undercroft.errors import InputError, NotFoundError
from undercroft.model.credentials import Credentials
from undercroft.model.domain import Domain
from undercroft.model.finding import Assessment, FixState, Severity
from undercroft.model.fleet import Hold, MachineRecord, Scan
from undercroft.model.verdict import Verdict
from undercroft.ports.records import Record
from undercroft.usecases.fleet.views.channels import channel_rows, exposed_snapshots
from undercroft.usecases.fleet.views.fleet import Facts, machine_rows, network_of, snapshots_of
from undercroft.usecases.fleet.views.values import (
    CheckpointView,
    Counts,
    CredentialsView,
    DiskView,
    FleetRow,
    InterfaceView,
    MachineView,
    Mend,
    Network,
    StateView,
)

_NO_LOGIN = ("nologin", "false", "sync", "halt", "shutdown")
_NEAR_MISSES = 5
_TAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
"""Names that a shell takes as they are; for others a command names the UUID."""


def find_machine(record: Record, name: str) -> MachineRecord:
    """Return the one machine that is meant: one that is there before one that is gone.

    Args:
        record: an open transaction.
        name: a machine's name or UUID.

    Raises:
        NotFoundError: no machine on record has it; the message suggests near misses.
        InputError: several machines have it; the message lists them.
        OperationError: the record cannot be read.
    """
    found = record.find_machines(name)
    if not found:
        raise NotFoundError(f"{name}: no machine on record has this name or UUID{_suggestion(record, name)}")
    present = [machine for machine in found if machine.gone_at is None] or found[:1]
    if len(present) > 1:
        each = ", ".join(f"{machine.domain.uuid} on {machine.host}" for machine in present)
        raise InputError(f"{name}: {len(present)} machines have this name: {each}; give the UUID of one")
    return present[0]


def _suggestion(record: Record, name: str) -> str:
    names = {machine.domain.name for machine in record.machines(gone=True)}
    near = difflib.get_close_matches(name, names, _NEAR_MISSES)
    if near:
        return f"; did you mean {', '.join(near)}?"
    return "; undercroft fleet lists them" if names else "; the record holds no machine yet"


def machine_view(record: Record, name: str, now: datetime, *, limit: int = 20) -> MachineView:
    """Return what is on record of one machine.

    Args:
        record: an open transaction.
        name: see `find_machine`.
        now: with a time zone.
        limit: executions and decisions at most; at least 1.

    Raises what `find_machine` raises.
    """
    machine = find_machine(record, name)
    domain, uuid = machine.domain, machine.domain.uuid
    facts = Facts(record, record.machines(machine.host), uuid)
    rows = machine_rows(facts, machine, snapshots_of(record.subjects(uuid)))
    scan = facts.scans.get(rows[0].subject)
    assessment = _assessment(record, scan)
    hold = facts.holds.get(uuid)
    judgement = facts.judgements.get(rows[0].subject)
    executions = [execution for execution in record.executions(uuid) if execution.machine == uuid]
    return MachineView(
        taken_at=now,
        uuid=uuid,
        name=domain.name,
        host=machine.host,
        gone_at=machine.gone_at,
        system=_system(record, scan),
        support=assessment.end_of_life if assessment else None,
        persistent=domain.persistent,
        autostart=domain.autostart,
        genid=domain.genid,
        tainted=domain.tainted,
        addresses=domain.ownership.addresses,
        first_seen=machine.first_seen,
        last_seen=machine.last_seen,
        disks=_disks(domain),
        interfaces=_interfaces(domain, hold),
        hold=hold,
        states=_states(record, facts, domain, rows),
        rules=judgement.results if judgement else (),
        findings=assessment.findings if assessment else (),
        executions=tuple(reversed(executions[-limit:])),
        decisions=record.decisions(uuid, limit),
        credentials=_credentials(record, scan),
        floor=len(record.floor(uuid).entries),
        problems=_problems(domain, scan, assessment),
        mends=tuple(_mends(machine, rows[0], hold)),
        checkpoints=checkpoints_of(domain),
        channel=next(iter(channel_rows(record, [machine])), None) if machine.gone_at is None else None,
        exposed=exposed_snapshots(record, domain),
    )


def checkpoints_of(domain: Domain) -> tuple[CheckpointView, ...]:
    """Return a machine's checkpoints, parents before children."""
    return tuple(
        CheckpointView(checkpoint.name, checkpoint.parent, _moment(checkpoint.created_at_s or None))
        for checkpoint in domain.checkpoints
    )


def _disks(domain: Domain) -> tuple[DiskView, ...]:
    return tuple(
        DiskView(disk.target, disk.path, disk.format, tuple(e.path for e in disk.chain or ()), disk.problem)
        for disk in domain.disks
        if not disk.removable
    )


def _interfaces(domain: Domain, hold: Hold | None) -> tuple[InterfaceView, ...]:
    """Return the interfaces; only those whose taps are held are closed."""
    held = {tap.tap for tap in hold.taps} if hold else set()
    state = network_of(domain, hold)
    passing = network_of(domain, None)
    return tuple(
        InterfaceView(interface, state if interface.tap in held else passing)
        for interface in domain.interfaces
    )


def _states(record: Record, facts: Facts, domain: Domain, rows: Sequence[FleetRow]) -> tuple[StateView, ...]:
    taken = {snapshot.name: snapshot.created_at_s for snapshot in domain.snapshots}
    return tuple(
        _state(record, row, facts.scans.get(row.subject), None if number == 0 else taken.get(row.state))
        for number, row in enumerate(rows)
    )


def _state(record: Record, row: FleetRow, scan: Scan | None, created_at_s: int | None) -> StateView:
    assessment = _assessment(record, scan)
    credentials = record.credentials(scan.credentials) if scan and scan.credentials else None
    return StateView(
        row=row,
        taken_at=_moment(created_at_s),
        counts=_counts(assessment, whole=row.complete) if assessment else None,
        secrets=len(credentials.secrets) if credentials else None,
        problems=scan.problems if scan else (),
    )


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _counts(assessment: Assessment, *, whole: bool) -> Counts:
    found, feeds = assessment.findings, assessment.feeds
    severities = Counter(finding.severity for finding in found)
    exploited = sum(finding.known_exploited_on is not None for finding in found)
    rated = knows_severities(feeds)

    def known(severity: Severity) -> int | None:
        return severities[severity] if rated or severities[severity] else None

    return Counts(
        findings=len(found),
        fixable=sum(finding.fix is FixState.FIXABLE for finding in found),
        known_exploited=exploited if exploited or knows_exploited(feeds) else None,
        critical=known(Severity.CRITICAL),
        high=known(Severity.HIGH),
        medium=known(Severity.MEDIUM),
        low=known(Severity.LOW),
        negligible=known(Severity.NEGLIGIBLE),
        unknown=severities[Severity.UNKNOWN],
        whole=whole and assessment.complete and knows_unfixed(feeds),
    )


def _assessment(record: Record, scan: Scan | None) -> Assessment | None:
    return record.assessment(scan.software) if scan and scan.software else None


def _system(record: Record, scan: Scan | None) -> str:
    if scan is None or not scan.inventory:
        return ""
    system = record.inventory(scan.inventory).os
    return system.name or f"{system.ident} {system.version}".strip() if system else ""


def _credentials(record: Record, scan: Scan | None) -> CredentialsView | None:
    if scan is None or not scan.credentials:
        return None
    found: Credentials = record.credentials(scan.credentials)
    return CredentialsView(
        accounts=len(found.accounts),
        logins=sum(not account.shell.endswith(_NO_LOGIN) for account in found.accounts),
        authorized_keys=sum(key.role == "authorized" for key in found.keys),
        host_keys=sum(key.role == "host" for key in found.keys),
        certificates=len(found.certificates),
        secrets=len(found.secrets),
        whole=not found.problems,
    )


def _problems(domain: Domain, scan: Scan | None, assessment: Assessment | None) -> tuple[str, ...]:
    found = [domain.problem, domain.ownership.problem]
    found += [f"{disk.target}: {disk.problem}" for disk in domain.disks if disk.problem]
    found += scan.problems if scan else ()
    found += assessment.problems if assessment else ()
    return tuple(dict.fromkeys(problem for problem in found if problem))


def _mends(machine: MachineRecord, row: FleetRow, hold: Hold | None) -> Iterator[Mend]:
    """Yield what helps, the most urgent first; nothing helps a machine that is gone."""
    if machine.gone_at is not None:
        return
    domain = machine.domain
    name = domain.name if _TAME.fullmatch(domain.name) else domain.uuid
    if row.alarms:
        yield Mend("something of it lives twice", f"undercroft lineage {name}")
    if hold is not None and hold.reseed:
        yield Mend("its guest has to confirm fresh randomness", f"undercroft channel status {name}")
        if not domain.channel:
            yield Mend("it has no channel to confirm it at", f"undercroft channel enable {name}")
    if row.network is Network.CLOSED:
        yield Mend("its network is closed", f"undercroft release {name} --reason REASON")
    if row.verdict is not Verdict.STEADY:
        yield Mend("its verdict, rule by rule", f"undercroft policy explain {name}")
    if not domain.genid:
        yield Mend(
            "no <genid/>: the guest is not told of a restore and repeats its random numbers",
            f"undercroft machine {name} --mend genid",
        )
    if loose := [one for one in domain.interfaces if not one.holdable]:
        kinds = ", ".join(sorted({one.kind for one in loose}))
        yield Mend(f"{kinds} interface: the host cannot hold it off the network", f"virsh edit {name}")
    if not domain.ownership.owner:
        yield Mend("nobody owns it", f"undercroft machine {name} --owner WHO")
