"""What the guest service says is checked before it is shown: it speaks with guests."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from undercroft.errors import InputError, NotFoundError, OperationError
from undercroft.usecases.vaults import asking
from undercroft.usecases.vaults.values import Counter

MACHINE, OTHER = "6d0e1a52-0f27-4b0e-9a3c-0a4f6ad1c001", "6d0e1a52-0f27-4b0e-9a3c-0a4f6ad1c002"
SUMMARY: dict[str, Any] = {"machine": MACHINE, "holder": "0" * 32, "lives": True} | dict.fromkeys(
    (
        "epoch",
        "executions",
        "names",
        "kept_bytes",
        "counters",
        "spent",
        "ledgers",
        "blobs",
        "revoked",
        "keys",
    ),
    1,
)


class Said:
    """A guest service that says what a test has it say."""

    def __init__(self, entries: list[dict[str, Any]] | None = None, **changes: Any) -> None:
        self._entries, self._summary = entries or [], SUMMARY | changes

    def status(self) -> dict[str, Any]:
        return {"state": "serving", "problem": "", "tpm": "none", "unprotected": "no TPM", "epoch": 3} | {
            "voids": [1],
            "anchors": 0,
            "writes": 0,
            "guests": 1,
            "told by a later version": True,
        }

    def guests(self) -> Iterator[dict[str, Any]]:
        yield {"machine": OTHER, "name": "attached"}
        yield {"machine": MACHINE, "name": ""}

    def vaults(self) -> Iterator[dict[str, Any]]:
        yield self._summary

    def vault(self, machine: str) -> dict[str, Any]:
        return self._summary | {"machine": machine}

    def entries(self, machine: str, kind: str) -> Iterator[dict[str, Any]]:
        yield from self._entries

    def verify(self) -> dict[str, Any]:
        return {}


def name(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_a_name_that_is_no_text_is_kept_byte_for_byte() -> None:
    said = Said([{"name": name(b"a\xff\n"), "shown": "anything", "value": 7}])
    found = asking.contents(said, MACHINE, {}, "counters")
    assert found.entries == {"counters": (Counter("a\udcff\n", 7),)}


def test_what_a_later_service_says_beyond_it_is_left_alone_and_what_is_missing_is_told() -> None:
    assert asking.state_of(Said()).voids == (1,)
    with pytest.raises(OperationError, match="another version"):
        asking.verification(Said())
    for wrong in ({"lives": "yes"}, {"counters": -(1 << 70)}, {"holder": 5}):
        with pytest.raises(OperationError):
            asking.listing(Said(**wrong), {})
    with pytest.raises(OperationError, match="base64"):
        asking.contents(Said([{"name": "%", "value": 1}]), MACHINE, {}, "counters")


def test_no_more_entries_are_asked_for_than_are_shown() -> None:
    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield {"name": name(b"x"), "value": 1}

    said = Said()
    said.entries = lambda machine, kind: endless()  # type: ignore[method-assign]
    assert len(asking.contents(said, MACHINE, {}, "counters", 8).entries["counters"]) == 8


def test_a_machine_is_meant_by_uuid_or_by_a_name_of_its_own() -> None:
    names = asking.names_of(Said(), [(MACHINE, "web01"), (OTHER, "gone")])
    assert names == {MACHINE: "web01", OTHER: "attached"}
    assert asking.meant(MACHINE.upper(), names) == MACHINE
    assert asking.meant("web01", names) == MACHINE
    with pytest.raises(NotFoundError, match="vault ls"):
        asking.meant("web02", names)
    with pytest.raises(InputError, match=f"{MACHINE}, {OTHER}"):
        asking.meant("web01", dict.fromkeys((OTHER, MACHINE), "web01"))
