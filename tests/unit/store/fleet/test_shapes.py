"""What stands in rows as JSON has the shape of the schema's revision: a change of it needs a new one."""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import undercroft.store.fleet
from undercroft.model.channel import GuestChannel, Quiesced, Reseed
from undercroft.model.credentials import Credentials
from undercroft.model.domain import Domain, PoolVolume
from undercroft.model.execution import Execution, RecordedState
from undercroft.model.filter import FilterState
from undercroft.model.finding import Assessment
from undercroft.model.fleet import Floor, Hold, Intent, ReadSet, Scan
from undercroft.model.inventory import Inventory
from undercroft.model.vaulthome import VaultHome
from undercroft.model.verdict import Decision, Judgement, Subject
from undercroft.store.fleet.filterpart import StoredFlows
from undercroft.store.fleet.migrate import HEAD
from undercroft.store.fleet.networked import StoredNetwork

STORED = (
    Assessment,
    Credentials,
    Decision,
    Domain,
    Execution,
    FilterState,
    Floor,
    GuestChannel,
    Hold,
    Intent,
    Inventory,
    Judgement,
    PoolVolume,
    Quiesced,
    ReadSet,
    RecordedState,
    Reseed,
    Scan,
    StoredFlows,
    StoredNetwork,
    Subject,
    VaultHome,
)
_READ = re.compile(r"\b(?:from_texts?|list_from_text|_document|_remember)\(\s*(?:tables\.\w+, )?([A-Z]\w+),")


def _shape(cls: type, seen: set[type]) -> Iterator[str]:
    """Yield one line for each field of a dataclass and of what it holds, and for each enum."""
    if cls in seen:
        return
    seen.add(cls)
    if issubclass(cls, Enum):
        yield f"{cls.__name__}: {' | '.join(str(member.value) for member in cls)}"
    if not dataclasses.is_dataclass(cls):
        return
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield f"{cls.__name__}.{field.name}: {_spelled(hints[field.name])}"
    for field in dataclasses.fields(cls):
        for inner in _classes(hints[field.name]):
            yield from _shape(inner, seen)


def _spelled(annotation: typing.Any) -> str:
    arguments = typing.get_args(annotation)
    if isinstance(annotation, types.UnionType):
        return " | ".join(map(_spelled, arguments))
    if arguments:
        return f"{typing.get_origin(annotation).__name__}[{', '.join(map(_spelled, arguments))}]"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("Ellipsis", "...")


def _classes(annotation: typing.Any) -> Iterator[type]:
    if typing.get_args(annotation):
        for argument in typing.get_args(annotation):
            yield from _classes(argument)
    elif isinstance(annotation, type):
        yield annotation


def test_a_changed_field_of_a_stored_dataclass_comes_with_a_revision():
    path = Path(__file__).parent / "shapes" / f"{HEAD}.txt"
    seen: set[type] = set()
    found = [line for cls in STORED for line in _shape(cls, seen)]
    expected = path.read_text().splitlines() if path.exists() else []
    changed = [line for line in difflib.ndiff(expected, found) if line[0] in "+-"]
    assert not changed, (
        f"rows that were written before would be damaged: {changed}. Add a revision to migrations/versions "
        f"that brings them along and is the new HEAD, with its shape beside {path.name}, and play it in "
        "test_revisions"
    )


def test_every_dataclass_that_is_read_from_a_row_is_guarded():
    folder = Path(undercroft.store.fleet.__file__).parent
    read = {name for path in folder.glob("*.py") for name in _READ.findall(path.read_text())}
    assert read == {cls.__name__ for cls in STORED}
