"""The log as it grows: new entries in order, each once, with the name of what it is about."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from undercroft.model.audit import AuditEntry
from undercroft.ports.records import Record, Records

_PAGE = 1000


class Told(NamedTuple):
    """An entry, what people call its subject, and the UUID of the machine that it is about, "" for none."""

    entry: AuditEntry
    name: str
    machine: str


def follow(records: Records, after: int, pause: Callable[[], None]) -> Iterator[Told]:
    """Yield the entries with a number above `after`, then new ones for ever.

    Args:
        records: the record.
        after: number of an entry, 0 for all.
        pause: called whenever there is nothing new; what it raises ends the following.

    Raises OperationError.
    """
    names = _Names()
    while True:
        with records.reading() as record:
            entries = record.log_entries(after, _PAGE)
            told = [names.told(record, entry) for entry in entries]
        yield from told
        if entries:
            after = entries[-1].number
        if len(entries) < _PAGE:
            pause()


class _Names:
    """What machines are called; looked up anew only where an unknown one turns up."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def told(self, record: Record, entry: AuditEntry) -> Told:
        kind, _, rest = entry.subject.partition(":")
        if kind == "image":
            return Told(entry, rest.partition(":")[2], "")
        uuid, _, state = rest.partition(":") if rest else (entry.subject, "", "")
        name = self._name(record, uuid)
        if not name:
            return Told(entry, entry.subject, "")
        return Told(entry, f"{name}@{state}" if kind == "snapshot" else name, uuid)

    def _name(self, record: Record, uuid: str) -> str:
        if uuid not in self._names:
            found = record.find_machines(uuid)
            if not found:
                return ""
            self._names[uuid] = found[0].domain.name
        return self._names[uuid]
