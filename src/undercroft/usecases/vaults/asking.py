"""Asks the guest service for what the commands show. What it says is checked: it speaks with guests."""

import base64
import binascii
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol, TypeVar

from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.model.schema import decode
from undercroft.usecases.vaults.values import (
    KINDS,
    Blob,
    Contents,
    Counter,
    Entry,
    Holder,
    Key,
    Ledger,
    Name,
    ServiceState,
    Summary,
    Verification,
)

Answer = Mapping[str, object]
Value = TypeVar("Value")
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OF_KIND: Mapping[str, type[Entry]] = {
    "counters": Counter,
    "spent": Name,
    "ledgers": Ledger,
    "blobs": Blob,
    "revoked": Name,
    "keys": Key,
    "executions": Holder,
}
_ABSENT: Mapping[str, object] = {"name": "", "public": "", "elsewhere": ""}
"""What a service may leave out."""


class Asked(Protocol):
    """The guest service, as `adapters.guestservice.GuestService` reaches it."""

    def status(self) -> dict[str, object]:
        """Return how it stands."""
        ...

    def guests(self) -> Iterator[dict[str, object]]:
        """Yield each guest that is attached."""
        ...

    def vaults(self) -> Iterator[dict[str, object]]:
        """Yield each vault's summary."""
        ...

    def vault(self, machine: str) -> dict[str, object]:
        """Return a vault's summary."""
        ...

    def entries(self, machine: str, kind: str) -> Iterator[dict[str, object]]:
        """Yield what a vault has of a kind."""
        ...

    def verify(self) -> dict[str, object]:
        """Have the log read again."""
        ...


def state_of(service: Asked) -> ServiceState:
    """Return how the service stands. Raises OperationError as all of these do."""
    return _read(ServiceState, service.status())


def names_of(service: Asked, recorded: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the names of machines by UUID: those on record, and before them those that are attached.

    Args:
        service: the guest service.
        recorded: UUID and name of each machine that the fleet's record knows.
    """
    attached = ((str(one.get("machine")), str(one.get("name"))) for one in service.guests())
    return dict(recorded) | {machine: name for machine, name in attached if name}


def kept_elsewhere(service: Asked, homes: Mapping[str, str], here: str) -> dict[str, str]:
    """Return which other host keeps the vaults of machines, by UUID: as the record says, else as was ordered.

    Args:
        service: the guest service, of this host's guests that are attached.
        homes: hosts by machine, as on record.
        here: this host's name.
    """
    ordered = {str(one.get("machine")): str(one.get("elsewhere", "")) for one in service.guests()}
    return {machine: host for machine, host in (ordered | dict(homes)).items() if host not in {"", here}}


def listing(service: Asked, names: Mapping[str, str]) -> list[Summary]:
    """Return each vault, those with a name first, by name."""
    found = [_summary(each, names) for each in service.vaults()]
    return sorted(found, key=lambda one: (not one.name, one.name, one.machine))


def meant(asked: str, names: Mapping[str, str]) -> str:
    """Return the UUID of the machine that is meant.

    Args:
        asked: a name or a UUID.
        names: by UUID.

    Raises:
        NotFoundError: no machine has that name.
        InputError: several have it.
    """
    if _UUID.fullmatch(asked.lower()):
        return asked.lower()
    found = sorted(machine for machine, name in names.items() if name == asked)
    if not found:
        raise NotFoundError(f"{asked}: no machine has this name; undercroft vault ls lists them with UUIDs")
    if len(found) > 1:
        raise InputError(f"{asked}: {len(found)} machines have this name: give a UUID, {', '.join(found)}")
    return found[0]


def contents(
    service: Asked, machine: str, names: Mapping[str, str], kind: str = "", limit: int | None = None
) -> Contents:
    """Return what a vault has.

    Args:
        service: the guest service.
        machine: UUID.
        names: of machines, by UUID.
        kind: one of `KINDS`, "" for all of them.
        limit: entries of each kind at most, None for all.

    Raises:
        NotFoundError: the machine has no vault.
    """
    summary = _summary(service.vault(machine), names)
    entries = {
        each: tuple(_entry(each, one) for one in islice(service.entries(machine, each), limit))
        for each in ([kind] if kind else KINDS)
        if kind or getattr(summary, each)
    }
    return Contents(summary, entries)


def verification(service: Asked) -> Verification:
    """Have the whole log read again. Raises StateError where that is under way."""
    return _read(Verification, service.verify())


def _summary(answer: Answer, names: Mapping[str, str]) -> Summary:
    return _read(Summary, {**answer, "name": names.get(str(answer.get("machine")), "")})


def _entry(kind: str, answer: Answer) -> Entry:
    cls = _OF_KIND[kind]
    if cls is not Holder:
        answer = {**answer, "name": _text(answer.get("name"))}
    return _read(cls, answer)


def _text(name: object) -> str:
    """Return a name, which comes in base64, as text: what is not UTF-8 as surrogates."""
    try:
        return base64.b64decode(str(name), validate=True).decode("utf-8", "surrogateescape")
    except binascii.Error as error:
        raise OperationError(f"the guest service names a thing {name!r:.60}, which is no base64") from error


def _read(cls: type[Value], answer: Answer) -> Value:
    """Return a value; what a later service says beyond it is left alone."""
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    known = {
        name: answer.get(name, _ABSENT.get(name)) for name in fields if name in answer or name in _ABSENT
    }
    try:
        return decode(cls, known, "the guest service's answer")
    except InputError as error:
        raise OperationError(f"{error}: is the service of another version? restart it") from error
