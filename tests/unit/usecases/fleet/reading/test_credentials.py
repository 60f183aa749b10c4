"""Credentials are remembered within limits, and given again only for the digest that proves them."""

from collections.abc import Sequence
from typing import cast

import pytest

from undercroft.errors import InputError
from undercroft.model.credentials import Account, Credentials
from undercroft.model.disk import Snapshot
from undercroft.model.fleet import FileIdentity
from undercroft.model.job import ProvenCredentials, ProvenReads, Replayed
from undercroft.usecases.fleet.reading import credentials
from undercroft.usecases.fleet.reading.credentials import CredentialsMemory
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.states import State

CURRENT = State("current", "", 0, {})
BASE = FileIdentity("/base.qcow2", 1, 2, 3, 4, 5)


class Clone:
    """An open machine whose disk is one text."""

    def __init__(self, path: str, disk: str, *, is_damaged: bool = False) -> None:
        self.top = FileIdentity(path, 1, len(path), 3, 4, 5)
        self.disk = disk
        self.is_damaged = is_damaged
        self.readings = 0

    def identities(self, state: State) -> tuple[FileIdentity, ...]:
        return self.top, BASE

    def image_snapshots(self) -> tuple[tuple[str, tuple[Snapshot, ...]], ...]:
        return (("vda", ()),)

    def problems(self, state: State) -> tuple[str, ...]:
        return (f"{self.top.path} changed",)

    def replay(self, state: State, sets: Sequence[ProvenReads]) -> Replayed:
        if self.is_damaged:
            raise InputError("the reader died")
        return Replayed(tuple(self.disk for _ in sets), None)

    def proven_credentials(self, state: State) -> ProvenCredentials:
        self.readings += 1
        account = Account(self.disk, 0, "/bin/sh", "none", -1)
        return ProvenCredentials(Credentials((account,)), ProvenReads((0, 0, 512), (512,), self.disk))


def read(memory: CredentialsMemory, clone: Clone) -> str:
    found = memory.read(cast("OpenMachine", clone), CURRENT)
    assert found.problems == (f"{clone.top.path} changed",)
    return found.accounts[0].name


def test_a_clone_with_its_bases_bytes_is_not_read_and_a_changed_one_is() -> None:
    memory = CredentialsMemory()
    first, same, other = Clone("/a", "one"), Clone("/b", "one"), Clone("/c", "two")
    assert [read(memory, clone) for clone in (first, same, other, same)] == ["one", "one", "two", "one"]
    assert (first.readings, same.readings, other.readings) == (1, 0, 1)


def test_what_cannot_be_replayed_is_read() -> None:
    memory = CredentialsMemory()
    read(memory, Clone("/a", "one"))
    damaged = Clone("/b", "one", is_damaged=True)
    assert read(memory, damaged) == "one"
    assert damaged.readings == 1


@pytest.mark.parametrize(("limit", "value"), [("MAX_ANSWERS", 4), ("MAX_ITEMS", 20)])
def test_memory_is_bounded_by_answers_and_by_what_they_hold(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(credentials, limit, value)
    memory = CredentialsMemory()
    for number in range(50):
        assert read(memory, Clone(f"/{number}", f"disk{number}")) == f"disk{number}"
        assert len(memory._answers) <= 5
        assert memory._items == sum(answer.items for answer in memory._answers.values())
