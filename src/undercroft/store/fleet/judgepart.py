"""A record's assessments, judgements, decisions, holds, floors, intents and fixes."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from undercroft.model.finding import Assessment
from undercroft.model.fleet import Floor, Hold, Intent
from undercroft.model.verdict import Decision, Judgement
from undercroft.store.fleet import logged, tables
from undercroft.store.fleet.codec import from_text, from_texts
from undercroft.store.fleet.digests import text_digest, to_text
from undercroft.store.fleet.logpart import LogPart
from undercroft.store.fleet.session import Fields, bodies_of, chunks
from undercroft.store.fleet.tables import key_text, micros, moment

Fix = tuple[str, str, str]


class _Standing(NamedTuple):
    """When a subject was judged last, and verdict and action then, None for never."""

    judged_at: int
    judged: tuple[str, str] | None


_NOTHING = _Standing(0, None)


class JudgePart(LogPart):
    """The methods of what is judged and decided."""

    def put_assessment(self, software: str, advisories: str, assessment: Assessment) -> None:
        """See `ports.records.Record.put_assessment`."""
        text = to_text(assessment)
        digest = text_digest(text)
        row = {"software": software, "advisories": advisories, "digest": digest, "body": text}
        self._put(tables.assessment, [row])
        self._remember_later(Assessment, digest, assessment, len(text))

    def assessments(self, advisories: str) -> Mapping[str, Assessment]:
        """See `ports.records.Record.assessments`."""
        columns = select(tables.assessment.c.software, tables.assessment.c.digest)
        rows = self._all(columns.where(tables.assessment.c.advisories == advisories))
        holders = {digest: software for software, digest in rows}
        found = {digest: self._shared.remembered.get(Assessment, digest) for digest in holders}
        known = {digest: value for digest, value in found.items() if value is not None}
        body = select(tables.assessment.c.digest, tables.assessment.c.body)
        for some in chunks(holders[digest] for digest in found if digest not in known):
            for digest, text in self._all(body.where(tables.assessment.c.software.in_(some))):
                known[digest] = self._remember(tables.assessment, Assessment, digest, text)
        return {software: known[digest] for software, digest in rows}

    def assessment(self, software: str, advisories: str = "") -> Assessment | None:
        """See `ports.records.Record.assessment`."""
        statement = select(tables.assessment.c.digest).where(tables.assessment.c.software == software)
        if advisories:
            statement = statement.where(tables.assessment.c.advisories == advisories)
        digests = self._bodies(statement)
        return self._document(tables.assessment, Assessment, digests[0]) if digests else None

    def put_judgements(
        self, judgements: Sequence[Judgement], replacing: Mapping[str, Judgement] | None = None
    ) -> frozenset[str]:
        """See `ports.records.Record.put_judgements`."""
        latest = {key_text(value.subject): value for value in judgements}
        standing = self._standing(value.subject for value in latest.values())
        rows: list[Fields] = []
        lines: list[logged.Line | None] = []
        overtaken: set[str] = set()
        for key, value in latest.items():
            if key not in standing:
                continue
            if replacing is not None and standing[key].judged_at != _judged_at(replacing.get(value.subject)):
                overtaken.add(value.subject)
                continue
            rows.append(_judgement_row(value))
            lines.append(logged.judgement_line(standing[key].judged, value))
        self._put(tables.judgement, rows)
        self._append([line for line in lines if line is not None])
        return frozenset(overtaken)

    def judgements(self) -> Mapping[str, Judgement]:
        """See `ports.records.Record.judgements`."""
        found = from_texts(Judgement, self._bodies(select(tables.judgement.c.body)), "judgement")
        return {value.subject: value for value in found}

    def judgement(self, subject: str) -> Judgement | None:
        """See `ports.records.Record.judgement`."""
        bodies = self._bodies_where(tables.judgement.c.subject, subject)
        return from_text(Judgement, bodies[0], f"judgement of {subject}") if bodies else None

    def put_decision(self, decision: Decision) -> bool:
        """See `ports.records.Record.put_decision`."""
        row = {
            "ident": decision.ident,
            "machine": decision.machine,
            "at": micros(decision.at),
            "body": to_text(decision),
        }
        is_new = self._add(tables.decision, row, "ident")
        if is_new:
            self._append([logged.decision_line(decision)])
        return is_new

    def decision(self, ident: str) -> Decision | None:
        """See `ports.records.Record.decision`."""
        bodies = self._bodies_where(tables.decision.c.ident, ident)
        return from_text(Decision, bodies[0], f"decision {ident}") if bodies else None

    def decisions(self, machine: str = "", limit: int = 100) -> tuple[Decision, ...]:
        """See `ports.records.Record.decisions`."""
        statement = bodies_of(tables.decision, tables.decision.c.machine, machine)
        statement = statement.order_by(tables.decision.c.at.desc(), tables.decision.c.number.desc()).limit(
            limit
        )
        return tuple(from_texts(Decision, self._bodies(statement), "decision"))

    def put_hold(self, hold: Hold) -> None:
        """See `ports.records.Record.put_hold`; the same once more is nothing new."""
        text = to_text(hold)
        self._may_write()
        if self._bodies_where(tables.hold.c.machine, hold.machine) == [text]:
            return
        self._put(tables.hold, [{"machine": hold.machine, "body": text}])
        self._append([logged.hold_line(hold)])

    def drop_hold(self, machine: str, reason: str, at: datetime) -> None:
        """See `ports.records.Record.drop_hold`."""
        bodies = self._bodies_where(tables.hold.c.machine, machine)
        if self._write(tables.hold.delete().where(tables.hold.c.machine == machine)):
            held = from_text(Hold, bodies[0], f"hold of {machine}")
            self._append([logged.open_line(held, reason, at)])

    def holds(self, machines: Collection[str] | None = None) -> tuple[Hold, ...]:
        """See `ports.records.Record.holds`."""
        rows = self._about(select(tables.hold.c.body), tables.hold.c.machine, machines)
        found = from_texts(Hold, [row[0] for row in rows], "hold")
        return tuple(sorted(found, key=lambda value: value.machine))

    def put_floor(self, floor: Floor) -> None:
        """See `ports.records.Record.put_floor`."""
        self._put(tables.floor, [{"machine": floor.machine, "body": to_text(floor)}])

    def floor(self, machine: str) -> Floor:
        """See `ports.records.Record.floor`."""
        bodies = self._bodies_where(tables.floor.c.machine, machine)
        return from_text(Floor, bodies[0], f"floor of {machine}") if bodies else Floor(machine)

    def floors(self) -> Mapping[str, Floor]:
        """See `ports.records.Record.floors`."""
        found = from_texts(Floor, self._bodies(select(tables.floor.c.body)), "floor")
        return {value.machine: value for value in found}

    def put_intent(self, intent: Intent) -> None:
        """See `ports.records.Record.put_intent`."""
        row = {
            "machine": intent.machine,
            "kind": intent.kind,
            "at": micros(intent.at),
            "until": micros(intent.until),
            "body": to_text(intent),
        }
        self._insert(tables.intent, [row])
        self._append([logged.intent_line(intent)])

    def intent(self, machine: str, kind: str, at: datetime) -> Intent | None:
        """See `ports.records.Record.intent`."""
        when = micros(at)
        statement = (
            select(tables.intent.c.body)
            .where(
                tables.intent.c.machine == machine,
                tables.intent.c.kind == kind,
                tables.intent.c.ended_at.is_(None),
            )
            .where(tables.intent.c.at <= when, tables.intent.c.until >= when)
            .order_by(tables.intent.c.at.desc(), tables.intent.c.number.desc())
            .limit(1)
        )
        bodies = self._bodies(statement)
        return from_text(Intent, bodies[0], f"{kind} of {machine}") if bodies else None

    def end_intent(self, machine: str, kind: str, at: datetime) -> None:
        """See `ports.records.Record.end_intent`. An ended one never counts again, whatever the clock says."""
        live = (
            tables.intent.c.machine == machine,
            tables.intent.c.kind == kind,
            tables.intent.c.ended_at.is_(None),
        )
        self._write(tables.intent.update().where(*live).values(ended_at=micros(at)))

    def seen_fixes(self, fixes: Iterable[Fix], at: datetime) -> Mapping[Fix, datetime]:
        """See `ports.records.Record.seen_fixes`; a transaction that only reads keeps no new ones."""
        wanted: dict[Fix, datetime] = dict.fromkeys(fixes, at)
        sources: dict[str, set[str]] = defaultdict(set)
        for release, source, _ in wanted:
            sources[release].add(source)
        known = {
            row[:3]: moment(row[3]) for release in sources for row in self._fixes(release, sources[release])
        }
        seen = {value: known.get(_keys(value)) for value in wanted}
        new = [value for value in wanted if seen[value] is None]
        if self.writable:
            self._insert(tables.fix, [_fix_row(value, at) for value in new])
        return {value: found or at for value, found in seen.items()}

    def _standing(self, keys: Iterable[str]) -> dict[str, _Standing]:
        """Return what is on record of those of these subjects that are there, by the key as it is stored."""
        subject, judgement = tables.subject.c, tables.judgement.c
        joined = tables.subject.outerjoin(tables.judgement, judgement.subject == subject.key)
        columns = select(subject.key, judgement.verdict, judgement.action, judgement.judged_at)
        found: dict[str, _Standing] = {}
        for some in chunks(keys):
            statement = columns.select_from(joined).where(subject.key.in_(some))
            for key, verdict, action, judged_at in self._all(statement):
                found[key] = _NOTHING if verdict is None else _Standing(judged_at, (verdict, action))
        return found

    def _fixes(self, release: str, sources: Iterable[str]) -> Iterable[tuple[str, str, str, int]]:
        columns = select(
            tables.fix.c.release, tables.fix.c.source, tables.fix.c.vulnerability, tables.fix.c.seen_at
        )
        for some in chunks(sources):
            for row in self._all(
                columns.where(tables.fix.c.release == release, tables.fix.c.source.in_(some))
            ):
                yield row[0], row[1], row[2], row[3]


def _judged_at(judgement: Judgement | None) -> int:
    return micros(judgement.judged_at) if judgement else _NOTHING.judged_at


def _judgement_row(value: Judgement) -> Fields:
    return {
        "subject": value.subject,
        "verdict": value.verdict.value,
        "action": value.action.value,
        "judged_at": micros(value.judged_at),
        "body": to_text(value),
    }


def _keys(value: Fix) -> Fix:
    return key_text(value[0]), key_text(value[1]), key_text(value[2])


def _fix_row(value: Fix, at: datetime) -> Fields:
    release, source, vulnerability = value
    return {"release": release, "source": source, "vulnerability": vulnerability, "seen_at": micros(at)}
