"""Each call of a survey fails once, with each kind of error: nothing is silently less."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from undercroft.adapters.libvirt.bindings import load
from undercroft.adapters.libvirt.survey import Surveyor
from undercroft.model.domain import Domain, Survey

if TYPE_CHECKING:
    import libvirt

URI = "test:///default"
LOCAL = frozenset({"name", "UUIDString", "ID", "getName", "isAlive", "close"})
"""Calls that ask nobody."""
MAX_CALLS = 200


class Faulty:
    """Stands before an object of libvirt's and all that it gives out; one call, counted over all, fails."""

    def __init__(self, target: object, plan: "Plan") -> None:
        self._target = target
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)

        def call(*arguments: object) -> object:
            if name == "isAlive" and self._plan.failed:
                return int(self._plan.alive)
            if name not in LOCAL:
                self._plan.count(name)
            result = found(*arguments)
            if isinstance(result, list):
                return [self._wrapped(item) for item in result]
            return self._wrapped(result)

        return call

    def _wrapped(self, item: object) -> object:
        return Faulty(item, self._plan) if type(item).__module__ == "libvirt" else item


class Plan:
    """Which call fails, and how."""

    def __init__(self, number: int, code: int, *, alive: bool) -> None:
        self.number = number
        self.code = code
        self.alive = alive
        self.failed = ""
        self.calls = 0

    def count(self, name: str) -> None:
        import libvirt  # noqa: PLC0415 - only where it is installed

        self.calls += 1
        if self.calls == self.number:
            self.failed = name
            error = libvirt.libvirtError("planned")
            error.err = (self.code, 0, "planned", 2, "", None, None, 0, 0)
            raise error


@pytest.fixture
def connection() -> "Iterator[libvirt.virConnect]":
    libvirt = pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    load()
    with closing(libvirt.open(URI)) as connection:
        devices = (
            "<devices><disk type='volume'><driver type='raw'/><source pool='default-pool' volume='v1'/>"
            "<target dev='vda'/></disk><interface type='network'><source network='default'/></interface>"
            "</devices>"
        )
        volume = "<volume><name>v1</name><capacity>1048576</capacity></volume>"
        pool = connection.storagePoolLookupByName("default-pool")
        made = pool.createXML(volume)
        domains = [
            connection.defineXML(
                f"<domain type='test'><name>{name}</name><uuid>{uuid.uuid4()}</uuid><memory>8192</memory>"
                f"<os><type>hvm</type></os>{devices}</domain>"
            )
            for name in ("one", "two")
        ]
        domains[0].create()
        for name in ("s1", "s2"):
            domains[0].snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
        yield connection
        domains[0].destroy()
        for snapshot in domains[0].listAllSnapshots():
            snapshot.delete()
        for domain in domains:
            domain.undefine()
        made.delete()


def survey(connection: "libvirt.virConnect", plan: Plan) -> Survey:
    import libvirt  # noqa: PLC0415 - only where it is installed

    faulty: Any = Faulty(connection, plan)
    binding: Any = libvirt
    return replace(Surveyor(binding, faulty, Path("/save")).survey(URI), taken_at=None)  # type: ignore[arg-type]


def problems(found: Survey) -> set[str]:
    disks = {disk.problem for domain in found.domains for disk in domain.disks}
    return {*found.problems, *disks, *(domain.problem for domain in found.domains)}


def surveys(
    connection: "libvirt.virConnect", code: int, *, alive: bool
) -> Iterator[tuple[str, Survey | None]]:
    """Yield (the call that failed, what the survey said, None for an error) for each call that it makes."""
    import libvirt  # noqa: PLC0415 - only where it is installed

    for number in range(1, MAX_CALLS):
        plan = Plan(number, code, alive=alive)
        try:
            result: Survey | None = survey(connection, plan)
        except libvirt.libvirtError:
            result = None
        if not plan.failed:
            assert number > 20, "the survey makes fewer calls than there are to fail"
            return
        yield plan.failed, result
    raise AssertionError("the survey makes more calls than it should")


def test_a_call_that_fails_is_told_and_spoils_one_machine_at_most(
    connection: "libvirt.virConnect",
) -> None:
    import libvirt  # noqa: PLC0415 - only where it is installed

    whole = survey(connection, Plan(0, 0, alive=True))
    for call, result in surveys(connection, libvirt.VIR_ERR_INTERNAL_ERROR, alive=True):
        if result is None:
            assert call == "listAllDomains"
            continue
        assert problems(result) - problems(whole), f"{call} failed in silence"
        assert [domain.name for domain in result.domains] == [domain.name for domain in whole.domains]
        assert sum(bool(domain.problem) for domain in result.domains) <= 1


def test_a_machine_that_vanishes_is_left_out_and_the_others_are_whole(
    connection: "libvirt.virConnect",
) -> None:
    import libvirt  # noqa: PLC0415 - only where it is installed

    whole = survey(connection, Plan(0, 0, alive=True))
    of_domains = {"XMLDesc", "messages", "listAllSnapshots", "snapshotCurrent", "getXMLDesc"}
    left_out = 0
    for call, result in surveys(connection, libvirt.VIR_ERR_NO_DOMAIN, alive=True):
        if result is None or call not in of_domains or len(result.domains) == len(whole.domains):
            continue
        left_out += 1
        gone = set(whole.domains) - set(result.domains)
        assert len(gone) == 1
        assert set(result.domains) == set(whole.domains) - gone
        assert problems(result) <= problems(whole)
    assert left_out >= 6


def test_a_snapshot_that_vanishes_is_left_out(connection: "libvirt.virConnect") -> None:
    import libvirt  # noqa: PLC0415 - only where it is installed

    counts = []
    for call, result in surveys(connection, libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT, alive=True):
        if call == "getXMLDesc" and result is not None:
            (one,) = [domain for domain in result.domains if domain.name == "one"]
            assert one.problem == ""
            counts.append(len(one.snapshots))
    assert counts == [1, 1]


def test_a_driver_that_lacks_a_call_lacks_no_machine(connection: "libvirt.virConnect") -> None:
    import libvirt  # noqa: PLC0415 - only where it is installed

    for call, result in surveys(connection, libvirt.VIR_ERR_NO_SUPPORT, alive=True):
        if call == "messages":
            assert result is not None
            assert {domain.problem for domain in result.domains} == {""}


def test_a_connection_that_dies_is_never_a_smaller_fleet(connection: "libvirt.virConnect") -> None:
    import libvirt  # noqa: PLC0415 - only where it is installed

    whole = survey(connection, Plan(0, 0, alive=True))
    for call, result in surveys(connection, libvirt.VIR_ERR_RPC, alive=False):
        if result is not None:
            assert call in {"storagePoolLookupByName", "storageVolLookupByName", "path"}
            assert problems(result) - problems(whole)


def test_the_control_run_has_machines_in_it(connection: "libvirt.virConnect") -> None:
    found: dict[str, Domain] = {
        domain.name: domain for domain in survey(connection, Plan(0, 0, alive=True)).domains
    }
    assert set(found) == {"one", "two", "test"}
    assert [snapshot.name for snapshot in found["one"].snapshots] == ["s1", "s2"]
    assert found["one"].disks[0].path == "/default-pool/v1"
    assert found["one"].interfaces[0].bridge == "virbr0"
