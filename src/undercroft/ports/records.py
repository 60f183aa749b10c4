"""The record of the fleet: what is known, what was decided, and the log that proves it.

    with records.transaction() as record:
        if record.take_event(event):
            record.put_execution(execution)
            record.log("execution", uuid, {"eid": eid}, at)

A transaction is whole or not at all, and durable when its block has ended: what is on record then survives
`kill -9` and a power cut. Transactions that write run one after the other, whatever process they are of.
All methods raise OperationError when the database fails; nothing of the transaction is then on record.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from undercroft.model.audit import AuditEntry
from undercroft.model.channel import GuestChannel, Quiesced, Reseed
from undercroft.model.credentials import Credentials
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.model.execution import Execution, HookEvent, RecordedState
from undercroft.model.filter import AppliedPolicy, FilterState, LiveOrigin, MovedFlows, NetworkedMachine
from undercroft.model.finding import Assessment
from undercroft.model.fleet import FileIdentity, Floor, Hold, Intent, MachineRecord, ReadSet, Scan
from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json
from undercroft.model.vaulthome import VaultHome
from undercroft.model.verdict import Decision, Judgement, Subject, Verdict


class Record(Protocol):
    """One transaction."""

    # Machines and volumes, as surveyed

    def put_survey(self, survey: Survey) -> None:
        """Take over all machines and volumes of `survey.host`; machines that it lacks are gone since."""
        ...

    def put_domain(self, host: str, uuid: str, domain: Domain | None, at: datetime) -> None:
        """Take over one machine of a host as it is now; None: it is gone since, its record stays."""
        ...

    def machines(self, host: str = "", *, gone: bool = False) -> tuple[MachineRecord, ...]:
        """Return the machines, sorted by name and host; also the gone ones where asked for."""
        ...

    def find_machines(self, name: str) -> tuple[MachineRecord, ...]:
        """Return the machines of that UUID or name, those that are there before gone ones, latest first."""
        ...

    def volumes(self, host: str) -> tuple[PoolVolume, ...]:
        """Return the volumes of a host's last survey, sorted by path."""
        ...

    # What was read

    def put_subject(self, subject: Subject) -> None:
        """Add or replace a subject."""
        ...

    def drop_subjects(self, keys: Iterable[str]) -> None:
        """Remove subjects, their scans and judgements; the log keeps what was said of them."""
        ...

    def subject(self, key: str) -> Subject | None:
        """Return one subject, None where it is not there."""
        ...

    def subjects(self, machine: str = "") -> tuple[Subject, ...]:
        """Return all subjects, or one machine's, sorted by kind and name."""
        ...

    def put_inventory(self, inventory: Inventory, reads: ReadSet | None) -> tuple[str, str]:
        """Keep an inventory once, whoever has it, and the read set that proves it.

        Returns:
            Its digest (`Scan.inventory`), and that of the part that advisories match (`Scan.software`).
        """
        ...

    def inventory(self, digest: str) -> Inventory:
        """Return an inventory. Raises NotFoundError."""
        ...

    def reads(self, inventory: str) -> ReadSet | None:
        """Return the read set that was kept last with an inventory of that digest, None for none."""
        ...

    def software_of(self, inventory: str) -> str:
        """Return the software digest of an inventory on record. Raises NotFoundError."""
        ...

    def software(self, digest: str) -> Inventory:
        """Return any one inventory with that software digest. Raises NotFoundError."""
        ...

    def put_credentials(self, credentials: Credentials) -> str:
        """Keep them once and return their digest."""
        ...

    def credentials(self, digest: str) -> Credentials:
        """Return credentials. Raises NotFoundError."""
        ...

    def put_scan(self, scan: Scan) -> None:
        """Replace what is known of a subject."""
        ...

    def scans(self, machine: str = "") -> Mapping[str, Scan]:
        """Return the scans by subject key: all, or those of one machine's subjects."""
        ...

    def scan(self, subject: str) -> Scan | None:
        """Return one subject's scan, None for none."""
        ...

    def subjects_of_lineage(self, lineage: str) -> tuple[Subject, ...]:
        """Return the subjects whose scans have that `lineage`, sorted by kind and name."""
        ...

    def candidates(self, base: FileIdentity, limit: int) -> tuple[tuple[str, ReadSet], ...]:
        """Return (inventory digest, read set) of the latest different answers that rest on this file.

        It is compared by device, inode, size and times. The latest comes first.
        """
        ...

    def put_assessment(self, software: str, advisories: str, assessment: Assessment) -> None:
        """Keep what one state of the advisories says of one software digest; older ones are dropped."""
        ...

    def assessments(self, advisories: str) -> Mapping[str, Assessment]:
        """Return what that state of the advisories says, by software digest."""
        ...

    def assessment(self, software: str, advisories: str = "") -> Assessment | None:
        """Return one assessment: of that state of the advisories, or the latest. None for none."""
        ...

    # Judged and decided

    def put_judgements(
        self, judgements: Sequence[Judgement], replacing: Mapping[str, Judgement] | None = None
    ) -> frozenset[str]:
        """Replace the judgements of these subjects; a verdict or action that differs goes into the log.

        Args:
            judgements: one of a subject that is gone is dropped.
            replacing: what was on record, by subject key, when they were made; None where that was in this
                transaction.

        Returns:
            The keys of subjects of which another judgement is on record by now than `replacing` has: that
            one stays.
        """
        ...

    def judgements(self) -> Mapping[str, Judgement]:
        """Return all, by subject key."""
        ...

    def judgement(self, subject: str) -> Judgement | None:
        """Return one subject's, None for none."""
        ...

    def put_decision(self, decision: Decision) -> bool:
        """Record and log a decision; False where one with its ident is on record already."""
        ...

    def decision(self, ident: str) -> Decision | None:
        """Return a decision by its ident."""
        ...

    def decisions(self, machine: str = "", limit: int = 100) -> tuple[Decision, ...]:
        """Return the latest decisions, latest first."""
        ...

    def put_hold(self, hold: Hold) -> None:
        """Record and log that a machine's network is closed; replaces the machine's earlier hold."""
        ...

    def drop_hold(self, machine: str, reason: str, at: datetime) -> None:
        """Record and log that it is open again; nothing where there was no hold."""
        ...

    def holds(self, machines: Collection[str] | None = None) -> tuple[Hold, ...]:
        """Return holds, of these machines or all, sorted by machine."""
        ...

    def put_floor(self, floor: Floor) -> None:
        """Replace a machine's patch floor."""
        ...

    def floor(self, machine: str) -> Floor:
        """Return a machine's patch floor, an empty one where it has none."""
        ...

    def floors(self) -> Mapping[str, Floor]:
        """Return the patch floors of all machines that have one, by UUID."""
        ...

    def put_intent(self, intent: Intent) -> None:
        """Record and log an administrator's decision."""
        ...

    def intent(self, machine: str, kind: str, at: datetime) -> Intent | None:
        """Return the latest one of that kind that counts at that time."""
        ...

    def end_intent(self, machine: str, kind: str, at: datetime) -> None:
        """Let those of that kind never count again: carried out, or given up."""
        ...

    def seen_fixes(
        self, fixes: Iterable[tuple[str, str, str]], at: datetime
    ) -> Mapping[tuple[str, str, str], datetime]:
        """Return when each (release, source, vulnerability) was first seen as fixable; new ones: `at`.

        A transaction that only reads keeps no new ones.
        """
        ...

    # Lineage

    def take_event(self, event: HookEvent) -> bool:
        """Record a hook event; False where its ident is on record already."""
        ...

    def put_execution(self, execution: Execution) -> None:
        """Add or replace an execution, and log what changed."""
        ...

    def execution(self, eid: str) -> Execution | None:
        """Return an execution."""
        ...

    def executions(self, machine: str = "") -> tuple[Execution, ...]:
        """Return all executions, or a machine's with their ancestors and descendants of any machine.

        In order of their start.
        """
        ...

    def own_executions(self, machine: str, limit: int = 0) -> tuple[Execution, ...]:
        """Return a machine's own executions in order of their start: the latest `limit`, 0 for all."""
        ...

    def executions_as_told(self, machine: str) -> tuple[Execution, ...]:
        """Return a machine's executions in the order in which the record learned of them.

        Unlike the times of their starts it does not rest on the clocks of several hosts.
        """
        ...

    def live_executions(self) -> tuple[Execution, ...]:
        """Return those without an end."""
        ...

    def put_state(self, state: RecordedState) -> None:
        """Add or replace a recorded state."""
        ...

    def state(self, key: str) -> RecordedState | None:
        """Return a recorded state by its key."""
        ...

    def states(self, machine: str = "") -> tuple[RecordedState, ...]:
        """Return all recorded states or one machine's, oldest first."""
        ...

    def states_like(self, *, fingerprint: str = "", sample: str = "") -> tuple[RecordedState, ...]:
        """Return the states of any machine with that fingerprint or that sample, latest first."""
        ...

    # Beneath the guest

    def put_reseed(self, reseed: Reseed) -> None:
        """Record and log that an execution's guest has confirmed its seed; the last one of each counts."""
        ...

    def reseed(self, eid: str) -> Reseed | None:
        """Return what an execution's guest has confirmed last, None for nothing."""
        ...

    def reseeds(self, eids: Collection[str]) -> Mapping[str, Reseed]:
        """Return what the guests of these executions have confirmed last, by execution."""
        ...

    def put_channels(self, channels: Sequence[GuestChannel]) -> None:
        """Replace what is known of these machines' channels. Not logged: it says how things are, not why."""
        ...

    def channels(self, machines: Collection[str] | None = None) -> Mapping[str, GuestChannel]:
        """Return what is known of channels, of these machines or all, by machine."""
        ...

    def put_quiesced(self, quiesced: Quiesced) -> None:
        """Record and log that a snapshot was taken of a guest that stood still."""
        ...

    def quiesced(self, machine: str = "") -> Mapping[str, Quiesced]:
        """Return the snapshots that were taken so, of one machine or all, by the key of their state."""
        ...

    def put_vault_home(self, home: VaultHome, by: str, reason: str) -> None:
        """Record which host keeps a machine's vault, and log it where that is another one than before."""
        ...

    def vault_home(self, machine: str) -> VaultHome | None:
        """Return which host keeps a machine's vault, None where it has none yet."""
        ...

    def vault_homes(self) -> Mapping[str, VaultHome]:
        """Return which host keeps which machine's vault, by machine."""
        ...

    # The firewall

    def put_applied_policy(self, body: str, digest: str, by: str, reason: str, at: datetime) -> AppliedPolicy:
        """Record and log a policy that is in force from now on, and return it with the next number."""
        ...

    def applied_policy(self) -> AppliedPolicy | None:
        """Return the policy that is in force, the one with the highest number; None for none ever."""
        ...

    def put_filter_state(self, state: FilterState) -> None:
        """Replace what is known of a host's filter; a digest or problem that differs goes into the log.

        Of a long problem the beginning is kept (`FilterState.bounded`).
        """
        ...

    def filter_states(self) -> tuple[FilterState, ...]:
        """Return what is known of all hosts' filters, sorted by host.

        A host whose row is damaged holds nothing that is known: `problem` says so, and it was `at` the epoch.
        """
        ...

    def filter_state(self, host: str) -> FilterState | None:
        """Return what is known of one host's filter, None for nothing. Raises DamagedError."""
        ...

    def drop_filter_state(self, host: str) -> None:
        """Forget what a host has said of its filter; nothing where it has not."""
        ...

    def networked_machines(self, machines: Collection[str] | None = None) -> tuple[NetworkedMachine, ...]:
        """Return machines that are there, of all hosts, sorted by name and host.

        Their `since` is by the record's clock: when a survey or a hook first put it on record. One whose live
        execution is one of MIGRATE goes on having what the machine had that it may have been until then.

        Args:
            machines: UUIDs, None for all.
        """
        ...

    def machines_with(
        self, things: Collection[str], names: Collection[str] = ()
    ) -> tuple[NetworkedMachine, ...]:
        """Return the machines, as `networked_machines`, that have one of these things or names anywhere.

        Args:
            things: as `model.filter.things_of` tells them.
            names: of machines.
        """
        ...

    def live_origins(self, machines: Collection[str] | None = None) -> tuple[LiveOrigin, ...]:
        """Return what is known of live executions, of these machines or all, in order of their start."""
        ...

    def verdicts(self, subjects: Collection[str] | None = None) -> Mapping[str, Verdict]:
        """Return the verdicts of machines and templates, of these or all, by subject key."""
        ...

    def put_moved_flows(self, flows: MovedFlows) -> None:
        """Keep the open flows of a machine that has left; those of an earlier time are replaced.

        Those of others that nobody has taken for `model.filter.FLOWS_KEPT` are forgotten.
        """
        ...

    def moved_flows(self, machine: str) -> MovedFlows | None:
        """Return a machine's flows from the host that it has left last, None for none."""
        ...

    def drop_moved_flows(self, machine: str) -> None:
        """Forget them; nothing where there are none."""
        ...

    # The log

    def log(self, kind: str, subject: str, body: Mapping[str, Json], at: datetime) -> AuditEntry:
        """Append one entry to the audit log."""
        ...

    def log_entries(
        self, after: int = 0, limit: int = 1000, subject: str = "", *, last: bool = False
    ) -> tuple[AuditEntry, ...]:
        """Return entries with a number above `after`, in order; those of one subject where it is given.

        At most `limit`: the first ones, or the `last`.
        """
        ...

    def log_head(self) -> tuple[str, int, str]:
        """Return the log's identity, the last entry's number and its digest (0 and zeros when empty)."""
        ...


class Records(Protocol):
    """The database."""

    def transaction(self) -> AbstractContextManager[Record]:
        """Begin one that may write. It waits for others' to end, at most 30 s, then raises OperationError."""
        ...

    def reading(self) -> AbstractContextManager[Record]:
        """Begin one that only reads: one consistent moment, and it waits for nobody."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...
