"""A record's machines and volumes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, Text, bindparam, or_, select, type_coerce

from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.model.execution import Execution, Origin
from undercroft.model.filter import things_of
from undercroft.model.fleet import MachineRecord
from undercroft.store.fleet import tables
from undercroft.store.fleet.codec import from_text, from_texts, list_from_text
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.networked import claims_in, network_text, older, uuid_in, with_claims
from undercroft.store.fleet.session import VALUE, Fields, Session, chunks
from undercroft.store.fleet.tables import key_text, micros, moment

_COLUMNS = (
    tables.machine.c.body,
    tables.machine.c.host,
    tables.machine.c.first_seen,
    tables.machine.c.last_seen,
    tables.machine.c.gone_at,
)

_NAMED = select(*_COLUMNS).where(
    or_(tables.machine.c.uuid == bindparam(VALUE), tables.machine.c.name == bindparam(VALUE))
)


_BEFORE = (
    tables.machine.c.uuid,
    tables.machine.c.body,
    tables.machine.c.first_seen,
    tables.machine.c.gone_at,
    tables.machine.c.network,
)


_MIGRATED = '"origin":"migrate"'
"""Stands in the JSON of such executions; what has it is looked at."""


class _Before(NamedTuple):
    """A machine's row as it was; one that was not there is like one that was gone until now."""

    body: str
    first_seen: int
    gone_at: int | None
    network: str


class MachinePart(Session):
    """The methods of machines and volumes."""

    def put_survey(self, survey: Survey) -> None:
        """See `ports.records.Record.put_survey`. Rows that say the same already are left alone."""
        taken_at = micros(survey.taken_at)
        here = tables.machine.c.host == survey.host
        known = {row[0]: _Before(*row[1:]) for row in self._all(select(*_BEFORE).where(here))}
        changed: list[tuple[Domain, str, _Before]] = []
        for domain in survey.domains:
            before = known.pop(key_text(domain.uuid), _Before("", taken_at, taken_at, ""))
            text = to_text(domain)
            if text != before.body or before.gone_at is not None:
                changed.append((domain, text, before))
        self._put_machines(survey.host, changed, taken_at)
        for keys in chunks(uuid for uuid, row in known.items() if row.gone_at is None):
            missing = type_coerce(tables.machine.c.uuid, Text).in_(keys)
            self._write(tables.machine.update().where(here, missing).values(gone_at=taken_at))
        self._write(
            tables.machine.update().where(here, tables.machine.c.gone_at.is_(None)).values(last_seen=taken_at)
        )
        self._put_volumes(survey)

    def put_domain(self, host: str, uuid: str, domain: Domain | None, at: datetime) -> None:
        """See `ports.records.Record.put_domain`."""
        this = (tables.machine.c.host == host, tables.machine.c.uuid == uuid)
        if domain is None:
            present = tables.machine.update().where(*this, tables.machine.c.gone_at.is_(None))
            self._write(present.values(gone_at=micros(at)))
            return
        known = self._all(select(*_BEFORE).where(*this))
        before = _Before(*known[0][1:]) if known else _Before("", micros(at), micros(at), "")
        self._put_machines(host, [(domain, to_text(domain), before)], micros(at))

    def machines(self, host: str = "", *, gone: bool = False) -> tuple[MachineRecord, ...]:
        """See `ports.records.Record.machines`."""
        statement = select(*_COLUMNS)
        if host:
            statement = statement.where(tables.machine.c.host == host)
        if not gone:
            statement = statement.where(tables.machine.c.gone_at.is_(None))
        records = _machine_records(self._all(statement))
        return tuple(sorted(records, key=lambda record: (record.domain.name, record.host)))

    def find_machines(self, name: str) -> tuple[MachineRecord, ...]:
        """See `ports.records.Record.find_machines`."""
        records = _machine_records(self._all(_NAMED, {VALUE: name}))
        records.sort(key=lambda record: (record.last_seen, record.first_seen), reverse=True)
        return tuple(sorted(records, key=lambda record: record.gone_at is not None))

    def volumes(self, host: str) -> tuple[PoolVolume, ...]:
        """See `ports.records.Record.volumes`."""
        bodies = self._bodies(select(tables.volumes.c.body).where(tables.volumes.c.host == host))
        return list_from_text(PoolVolume, bodies[0], f"volumes of {host}") if bodies else ()

    def carry_over(self, host: str, uuid: str) -> None:
        """Let a machine that is migrated to a host go on having what it had on the one that it leaves."""
        here = (tables.machine.c.host == host, tables.machine.c.uuid == uuid)
        present = select(tables.machine.c.network).where(*here, tables.machine.c.gone_at.is_(None))
        for network in self._bodies(present):
            had = self._claims_elsewhere(host, [uuid]).get(key_text(uuid), {})
            text = with_claims(network, had)
            if text != network:
                self._write(tables.machine.update().where(*here).values(network=text))

    def _put_machines(self, host: str, changed: Sequence[tuple[Domain, str, _Before]], taken_at: int) -> None:
        """Put machines with their JSON; each goes on having what it had here, or on the host that it left."""
        elsewhere = self._claims_elsewhere(host, self._migrated(host, [one.uuid for one, _, _ in changed]))
        # By the record's own clock: a hook dates a machine as it was seen last, which may be long ago.
        now = micros(self._shared.now())
        rows: list[Fields] = []
        for domain, text, before in changed:
            claims = {} if before.gone_at is not None else claims_in(before.network)
            had = elsewhere.get(key_text(domain.uuid), {})
            if had.get(domain.uuid, 0) < claims.get(domain.uuid, 0):
                had = {}  # an older one's, by now that the one which this has come from is gone
            network = network_text(domain, older(claims, had), now)
            rows.append(_machine_row(host, domain, text, before.first_seen, taken_at, network))
        self._put(tables.machine, rows)
        self._put_things(host, [domain for domain, _, _ in changed])

    def _put_things(self, host: str, domains: Sequence[Domain]) -> None:
        """Let machines be found by what they have now."""
        claim = tables.claim
        for some in chunks(domain.uuid for domain in domains):
            self._write(claim.delete().where(claim.c.host == host, claim.c.uuid.in_(some)))
        self._insert(
            claim,
            [
                {"claim": thing, "host": host, "uuid": domain.uuid}
                for domain in domains
                for thing in things_of(host, domain)
            ],
        )

    def _migrated(self, host: str, uuids: Sequence[str]) -> list[str]:
        """Return those of these machines whose live execution on a host came there by migration."""
        execution = tables.execution.c
        live = select(execution.body).where(execution.ended_at.is_(None), execution.body.contains(_MIGRATED))
        found: list[str] = []
        for some in chunks(uuids):
            bodies = self._bodies(live.where(execution.machine.in_(some)))
            known = from_texts(Execution, bodies, "execution")
            found += [one.machine for one in known if (one.host, one.origin) == (host, Origin.MIGRATE)]
        return found

    def _claims_elsewhere(self, host: str, uuids: Sequence[str]) -> dict[str, Mapping[str, int]]:
        """Return what machines have on the hosts that they leave for this one, by UUID.

        Nobody tells which host that is: it is one where the machine lives, if it does anywhere. Of several it
        is taken for the one that has had the UUID for the shortest time, so that nobody who defines a machine
        of the same UUID and migrates it comes into what the older one has.
        """
        machine = tables.machine.c
        columns = select(type_coerce(machine.uuid, Text), machine.host, machine.network)
        columns = columns.where(machine.host != host, machine.gone_at.is_(None))
        found: dict[str, tuple[tuple[bool, int], Mapping[str, int]]] = {}
        for some in chunks(uuids):
            live = self._live_places(some)
            for uuid, place, network in self._all(columns.where(machine.uuid.in_(some))):
                claims = claims_in(network)
                rank = (uuid, place) in live, claims.get(uuid_in(network), 0)
                known = found.get(uuid, (rank, {}))
                if rank >= known[0]:
                    found[uuid] = rank, older(claims, known[1] if rank == known[0] else {})
        return {uuid: claims for uuid, (_, claims) in found.items()}

    def _live_places(self, uuids: Sequence[str]) -> set[tuple[str, str]]:
        """Return where machines have live executions: UUID, as it is stored, and host."""
        execution = tables.execution.c
        columns = select(type_coerce(execution.machine, Text), execution.body)
        columns = columns.where(execution.machine.in_(uuids), execution.ended_at.is_(None))
        return {
            (uuid, from_text(Execution, body, f"execution of {uuid}").host)
            for uuid, body in self._all(columns)
        }

    def _put_volumes(self, survey: Survey) -> None:
        text = to_text(sorted(survey.volumes, key=lambda volume: volume.path))
        if self._bodies(select(tables.volumes.c.body).where(tables.volumes.c.host == survey.host)) != [text]:
            self._put(tables.volumes, [{"host": survey.host, "body": text}])


def _machine_row(
    host: str, domain: Domain, text: str, first_seen: int, taken_at: int, network: str
) -> Fields:
    return {
        "host": host,
        "uuid": domain.uuid,
        "name": domain.name,
        "first_seen": first_seen,
        "last_seen": taken_at,
        "gone_at": None,
        "body": text,
        "network": network,
    }


def _machine_records(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[MachineRecord]:
    domains = from_texts(Domain, [row[0] for row in rows], "machine")
    return [
        MachineRecord(host, domain, moment(first), moment(last), None if gone is None else moment(gone))
        for domain, (_, host, first, last, gone) in zip(domains, rows, strict=True)
    ]
