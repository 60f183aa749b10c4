"""A record's subjects and what was read of them: inventories, credentials, scans, and what proves them.

Inventories and credentials stand under their digests. One that no scan has, nor any image file answers
with, is removed with the last one that did.
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Select, bindparam, delete, exists, select

from undercroft.errors import NotFoundError
from undercroft.model.credentials import Credentials
from undercroft.model.fleet import FileIdentity, ReadSet, Scan
from undercroft.model.inventory import Inventory
from undercroft.model.verdict import Subject
from undercroft.store.fleet import tables
from undercroft.store.fleet.codec import from_text, from_texts
from undercroft.store.fleet.digests import software_digest, text_digest, to_text
from undercroft.store.fleet.session import VALUE, Fields, Session, chunks
from undercroft.store.fleet.tables import micros

MAX_ANSWERS = 16
"""Different inventories that are kept for one image file, the latest."""

MAX_READ_SETS = 8
"""Read sets that are kept for one inventory, the latest."""

_READ_SETS = (
    select(tables.read_set.c.digest)
    .where(tables.read_set.c.inventory == bindparam(VALUE))
    .order_by(tables.read_set.c.number.desc())
)
_SOFTWARE = select(tables.inventory.c.software).where(tables.inventory.c.digest == bindparam(VALUE))
_SCANNED = select(tables.scan.c.inventory, tables.scan.c.credentials).where(
    tables.scan.c.subject == bindparam(VALUE)
)
_LINEAGE = (
    select(tables.subject.c.body)
    .join(tables.scan, tables.scan.c.subject == tables.subject.c.key)
    .where(tables.scan.c.lineage == bindparam(VALUE))
)
_ANSWERS = (
    select(tables.answer.c.state, tables.answer.c.inventory)
    .where(tables.answer.c.place == bindparam(VALUE))
    .order_by(tables.answer.c.scanned_at.desc())
)
_CANDIDATES = (
    select(tables.answer.c.inventory, tables.read_set.c.digest)
    .join(tables.read_set, tables.read_set.c.inventory == tables.answer.c.inventory)
    .where(tables.answer.c.place == bindparam("place"), tables.answer.c.state == bindparam("state"))
    .order_by(tables.answer.c.scanned_at.desc(), tables.answer.c.inventory, tables.read_set.c.number.desc())
    .limit(bindparam("most"))
)


class ScanPart(Session):
    """The methods of subjects, inventories, credentials and scans."""

    def put_subject(self, subject: Subject) -> None:
        """See `ports.records.Record.put_subject`."""
        self._put(
            tables.subject, [{"key": subject.key, "machine": subject.machine, "body": to_text(subject)}]
        )

    def drop_subjects(self, keys: Iterable[str]) -> None:
        """See `ports.records.Record.drop_subjects`."""
        for some in chunks(keys):
            columns = (tables.scan.c.inventory, tables.scan.c.credentials)
            dropped = self._all(select(*columns).where(tables.scan.c.subject.in_(some)))
            self._write(delete(tables.subject).where(tables.subject.c.key.in_(some)))
            self._write(delete(tables.scan).where(tables.scan.c.subject.in_(some)))
            self._write(delete(tables.judgement).where(tables.judgement.c.subject.in_(some)))
            self._sweep({row[0] for row in dropped}, {row[1] for row in dropped})

    def subject(self, key: str) -> Subject | None:
        """See `ports.records.Record.subject`."""
        bodies = self._bodies_where(tables.subject.c.key, key)
        return from_text(Subject, bodies[0], f"subject {key}") if bodies else None

    def subjects(self, machine: str = "") -> tuple[Subject, ...]:
        """See `ports.records.Record.subjects`."""
        by = tables.subject.c.machine
        bodies = self._bodies_where(by, machine) if machine else self._bodies(select(tables.subject.c.body))
        found = from_texts(Subject, bodies, "subject")
        return _in_order(found)

    def put_inventory(self, inventory: Inventory, reads: ReadSet | None) -> tuple[str, str]:
        """See `ports.records.Record.put_inventory`."""
        text = to_text(inventory)
        digest, software = text_digest(text), software_digest(inventory)
        self._add(tables.inventory, {"digest": digest, "software": software, "body": text}, "digest")
        self._remember_later(Inventory, digest, inventory, len(text))
        if reads is not None:
            self._put_reads(digest, reads)
        return digest, software

    def inventory(self, digest: str) -> Inventory:
        """See `ports.records.Record.inventory`."""
        return self._document(tables.inventory, Inventory, digest)

    def reads(self, inventory: str) -> ReadSet | None:
        """See `ports.records.Record.reads`."""
        digests = self._bodies(_READ_SETS.limit(1), {VALUE: inventory})
        return self._document(tables.read_set, ReadSet, digests[0]) if digests else None

    def software_of(self, inventory: str) -> str:
        """See `ports.records.Record.software_of`."""
        found = self._bodies(_SOFTWARE, {VALUE: inventory})
        if not found:
            raise NotFoundError(f"the record holds no inventory {inventory}")
        return found[0]

    def software(self, digest: str) -> Inventory:
        """See `ports.records.Record.software`."""
        columns = select(tables.inventory.c.digest).where(tables.inventory.c.software == digest)
        found = self._bodies(columns.order_by(tables.inventory.c.digest).limit(1))
        if not found:
            raise NotFoundError(f"the record holds no inventory of software {digest}")
        return self.inventory(found[0])

    def put_credentials(self, credentials: Credentials) -> str:
        """See `ports.records.Record.put_credentials`."""
        text = to_text(credentials)
        digest = text_digest(text)
        self._add(tables.credentials, {"digest": digest, "body": text}, "digest")
        self._remember_later(Credentials, digest, credentials, len(text))
        return digest

    def credentials(self, digest: str) -> Credentials:
        """See `ports.records.Record.credentials`."""
        return self._document(tables.credentials, Credentials, digest)

    def put_scan(self, scan: Scan) -> None:
        """See `ports.records.Record.put_scan`."""
        replaced = self._all(_SCANNED, {VALUE: scan.subject})
        row = {
            "subject": scan.subject,
            "inventory": scan.inventory,
            "credentials": scan.credentials,
            "lineage": scan.lineage,
            "body": to_text(scan),
        }
        self._put(tables.scan, [row])
        stale = self._put_answers(scan) if scan.inventory else set[str]()
        inventories = {row[0] for row in replaced} | stale
        self._sweep(inventories - {scan.inventory}, {row[1] for row in replaced} - {scan.credentials})

    def scans(self, machine: str = "") -> Mapping[str, Scan]:
        """See `ports.records.Record.scans`."""
        statement: Select[*tuple[str, ...]] = select(tables.scan.c.body)
        if machine:
            statement = statement.join(tables.subject, tables.subject.c.key == tables.scan.c.subject)
            statement = statement.where(tables.subject.c.machine == machine)
        return {found.subject: found for found in from_texts(Scan, self._bodies(statement), "scan")}

    def scan(self, key: str) -> Scan | None:
        """See `ports.records.Record.scan`."""
        bodies = self._bodies_where(tables.scan.c.subject, key)
        return from_text(Scan, bodies[0], f"scan of {key}") if bodies else None

    def subjects_of_lineage(self, lineage: str) -> tuple[Subject, ...]:
        """See `ports.records.Record.subjects_of_lineage`."""
        return _in_order(from_texts(Subject, self._bodies(_LINEAGE, {VALUE: lineage}), "subject"))

    def candidates(self, base: FileIdentity, limit: int) -> tuple[tuple[str, ReadSet], ...]:
        """See `ports.records.Record.candidates`."""
        place, state = _identity(base)
        rows = self._all(_CANDIDATES, {"place": place, "state": state, "most": limit})
        return tuple((owner, self._document(tables.read_set, ReadSet, digest)) for owner, digest in rows)

    def _put_reads(self, owner: str, reads: ReadSet) -> None:
        """Keep a read set as the inventory's latest."""
        text = to_text(reads)
        digest = text_digest(text)
        known = self._bodies(_READ_SETS, {VALUE: owner})
        if known[:1] == [digest]:
            return
        gone = [digest, *[other for other in known if other != digest][MAX_READ_SETS - 1 :]]
        self._write(
            delete(tables.read_set).where(
                tables.read_set.c.inventory == owner, tables.read_set.c.digest.in_(gone)
            )
        )
        self._insert(tables.read_set, [{"inventory": owner, "digest": digest, "body": text}])
        self._remember_later(ReadSet, digest, reads, len(text))

    def _put_answers(self, value: Scan) -> set[str]:
        """Note what each file answers with; return the inventories that some file does so no more.

        A file's earlier identities are forgotten: its ctime never comes back.
        """
        stale: set[str] = set()
        rows: list[Fields] = []
        for place, state in dict.fromkeys(_identity(file) for file in value.files):
            known = self._all(_ANSWERS, {VALUE: place})
            others = [owner for found, owner in known if found == state and owner != value.inventory]
            excess = others[MAX_ANSWERS - 1 :]
            stale |= {owner for found, owner in known if found != state} | set(excess)
            if any(found != state for found, _ in known):
                self._write(
                    delete(tables.answer).where(
                        tables.answer.c.place == place, tables.answer.c.state != state
                    )
                )
            if excess:
                self._write(
                    delete(tables.answer).where(
                        tables.answer.c.place == place, tables.answer.c.inventory.in_(excess)
                    )
                )
            scanned_at = micros(value.scanned_at)
            rows.append(
                {"place": place, "state": state, "inventory": value.inventory, "scanned_at": scanned_at}
            )
        self._put(tables.answer, rows)
        return stale

    def _sweep(self, inventories: Iterable[str], secrets: Iterable[str]) -> None:
        """Remove those of these inventories and credentials that nothing refers to any more."""
        for some in chunks(inventories):
            unused = (
                tables.inventory.c.digest.in_(some)
                & ~exists().where(tables.scan.c.inventory == tables.inventory.c.digest)
                & ~exists().where(tables.answer.c.inventory == tables.inventory.c.digest)
            )
            rows = self._all(select(tables.inventory.c.digest, tables.inventory.c.software).where(unused))
            gone = [row[0] for row in rows]
            if gone:
                self._write(delete(tables.inventory).where(tables.inventory.c.digest.in_(gone)))
                self._write(delete(tables.read_set).where(tables.read_set.c.inventory.in_(gone)))
                self._drop_assessments([row[1] for row in rows])
        for some in chunks(secrets):
            used = exists().where(tables.scan.c.credentials == tables.credentials.c.digest)
            self._write(delete(tables.credentials).where(tables.credentials.c.digest.in_(some), ~used))

    def _drop_assessments(self, software: Sequence[str]) -> None:
        used = exists().where(tables.inventory.c.software == tables.assessment.c.software)
        self._write(delete(tables.assessment).where(tables.assessment.c.software.in_(software), ~used))


def _in_order(subjects: Iterable[Subject]) -> tuple[Subject, ...]:
    return tuple(sorted(subjects, key=lambda known: (known.kind, known.name, known.key)))


def _identity(file: FileIdentity) -> tuple[str, str]:
    """Return where a file is and what state it is in; as texts, since inodes may fill 64 bits."""
    return f"{file.device}:{file.inode}", f"{file.size_bytes}:{file.modified_ns}:{file.changed_ns}"
