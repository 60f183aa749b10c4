"""A record's machines and volumes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, Text, bindparam, or_, select, type_coerce

from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.model.fleet import MachineRecord
from undercroft.store.fleet import tables
from undercroft.store.fleet.codec import from_texts, list_from_text
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.networked import claims_in, network_text
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

    def _put_machines(self, host: str, changed: Sequence[tuple[Domain, str, _Before]], taken_at: int) -> None:
        """Put machines with their JSON; each goes on having what it had here, or on the host that it left."""
        came = [domain.uuid for domain, _, before in changed if before.gone_at is not None]
        elsewhere = self._claims_elsewhere(host, came)
        # By the record's own clock: a hook dates a machine as it was seen last, which may be long ago.
        now = micros(self._shared.now())
        rows: list[Fields] = []
        for domain, text, before in changed:
            is_new = before.gone_at is not None
            claims = elsewhere.get(key_text(domain.uuid), {}) if is_new else claims_in(before.network)
            network = network_text(domain, claims, now)
            rows.append(_machine_row(host, domain, text, before.first_seen, taken_at, network))
        self._put(tables.machine, rows)

    def _claims_elsewhere(self, host: str, uuids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return what machines have on other hosts, by UUID: one that migrates is on two for a while."""
        machine = tables.machine.c
        columns = select(type_coerce(machine.uuid, Text), machine.network)
        columns = columns.where(machine.host != host, machine.gone_at.is_(None))
        found: dict[str, dict[str, int]] = {}
        for some in chunks(uuids):
            for uuid, network in self._all(columns.where(machine.uuid.in_(some))):
                known = found.setdefault(uuid, {})
                for claim, since in claims_in(network).items():
                    known[claim] = min(since, known.get(claim, since))
        return found

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
