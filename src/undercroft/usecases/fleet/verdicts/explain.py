"""The judgement that is on record of a machine, a snapshot, a template or an image, by its name."""

from dataclasses import dataclass

from undercroft.errors import InputError, NotFoundError
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Judgement, Subject
from undercroft.ports.records import Record
from undercroft.usecases.fleet.views.machine import find_machine


@dataclass(frozen=True, slots=True)
class Explained:
    """A subject and what was last said of it."""

    subject: Subject
    judgement: Judgement


def explain(record: Record, reference: str) -> Explained:
    """Return the judgement of what `reference` names.

    Args:
        record: an open transaction.
        reference: "web01", "web01@before-upgrade", a UUID with or without @STATE, an image's path, or a
            subject's key. A name that holds an "@" wins over the reading as a state.

    Raises:
        NotFoundError: nothing on record has that name, or it was not judged yet.
        InputError: several have it; the message lists their keys.
        OperationError: the record cannot be read.
    """
    subject = _subject(record, reference)
    judgement = record.judgement(subject.key)
    if judgement is None:
        raise NotFoundError(f"{subject.name}: it was not judged yet; `undercroft up` on its host does that")
    return Explained(subject, judgement)


def _subject(record: Record, reference: str) -> Subject:
    named = [subject for subject in record.subjects() if reference in {subject.name, subject.key}]
    if len(named) > 1:
        keys = ", ".join(f"{subject.key} on {subject.host}" for subject in named)
        raise InputError(f"{reference}: {len(named)} things have this name: {keys}; give the key of one")
    if named:
        return named[0]
    name, _, state = reference.rpartition("@") if "@" in reference else (reference, "", CURRENT)
    machine = find_machine(record, name)
    states = {subject.state: subject for subject in record.subjects(machine.domain.uuid)}
    if state not in states:
        known = ", ".join(sorted(states)) or "none"
        raise NotFoundError(f"{reference}: no state {state!r} on record of {name}; there are: {known}")
    return states[state]
