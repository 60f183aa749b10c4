"""libvirt's events: with the test driver that libvirt itself carries, which runs in this process."""

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from undercroft.adapters.libvirt.fleet import LibvirtFleet
from undercroft.adapters.libvirt.watch import Mailbox, happening_of
from undercroft.ports.fleet import Happening, MachineEvent

if TYPE_CHECKING:
    import libvirt

URI = "test:///default"


@pytest.fixture
def driver() -> "Iterator[libvirt.virConnect]":
    """libvirt's own binding, on the same driver: the administrator's virsh."""
    libvirt = pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    with LibvirtFleet(URI), closing(libvirt.open(URI)) as connection:  # the event loop comes first
        yield connection


def xml(name: str) -> str:
    return (
        f"<domain type='test'><name>{name}</name><uuid>{uuid.uuid4()}</uuid><memory>8192</memory>"
        "<os><type>hvm</type></os></domain>"
    )


async def until(events: AsyncIterator[MachineEvent], name: str, happening: Happening) -> list[MachineEvent]:
    found = []
    async for event in events:
        found.append(event)
        if (event.name, event.happening) == (name, happening):
            return found
    raise AssertionError("events ended")


def words(events: list[MachineEvent]) -> list[tuple[str, str, str]]:
    return [(event.name, event.happening.value, event.detail) for event in events]


def test_a_life_is_told_in_order_with_its_reasons(driver: "libvirt.virConnect") -> None:
    async def listen() -> list[MachineEvent]:
        with LibvirtFleet(URI) as fleet:
            events = fleet.events()
            assert (await anext(events)).happening is Happening.CONNECTED
            await asyncio.to_thread(live)
            return await until(events, "brief", Happening.UNDEFINED)

    def live() -> None:
        domain = driver.defineXML(xml("brief"))
        domain.create()
        domain.suspend()
        domain.resume()
        domain.destroy()
        domain.undefine()

    found = asyncio.run(listen())
    assert words(found) == [
        ("brief", "defined", "added"),
        ("brief", "started", "booted"),
        ("brief", "suspended", "paused"),
        ("brief", "resumed", "unpaused"),
        ("brief", "stopped", "destroyed"),
        ("brief", "undefined", "removed"),
    ]
    assert {event.uuid for event in found} == {found[0].uuid}


def test_no_event_of_a_thousand_machines_is_lost(driver: "libvirt.virConnect") -> None:
    async def listen() -> list[MachineEvent]:
        with LibvirtFleet(URI) as fleet:
            events = fleet.events()
            await anext(events)
            await asyncio.to_thread(burst)  # nobody reads meanwhile
            return await until(events, "vm999", Happening.UNDEFINED)

    def burst() -> None:
        for number in range(1000):
            domain = driver.defineXML(xml(f"vm{number}"))
            domain.create()
            domain.destroy()
            domain.undefine()

    found = asyncio.run(listen())
    expected = [Happening.DEFINED, Happening.STARTED, Happening.STOPPED, Happening.UNDEFINED]
    assert [(event.name, event.happening) for event in found] == [
        (f"vm{number}", happening) for number in range(1000) for happening in expected
    ]


def test_one_asyncio_loop_after_another_can_listen(driver: "libvirt.virConnect") -> None:
    async def listen(name: str) -> list[MachineEvent]:
        with LibvirtFleet(URI) as fleet:
            events = fleet.events()
            await anext(events)
            domain = await asyncio.to_thread(driver.defineXML, xml(name))
            domain.undefine()
            return await until(events, name, Happening.UNDEFINED)

    for name in ("first", "second", "third"):
        assert len(asyncio.run(listen(name))) == 2


def test_two_listeners_hear_the_same(driver: "libvirt.virConnect") -> None:
    async def listen() -> tuple[list[MachineEvent], ...]:
        with LibvirtFleet(URI) as fleet:
            listeners = [fleet.events(), fleet.events()]
            for events in listeners:
                await anext(events)
            (await asyncio.to_thread(driver.defineXML, xml("both"))).undefine()
            return tuple([await until(events, "both", Happening.UNDEFINED) for events in listeners])

    first, second = asyncio.run(listen())
    assert words(first) == words(second)


def event(happening: Happening) -> MachineEvent:
    return MachineEvent(happening, "", "u", "n", datetime.now(UTC))


@pytest.mark.parametrize(
    ("last", "left"),
    [
        (Happening.STARTED, [Happening.CONNECTED, Happening.STARTED]),
        (Happening.LOST, [Happening.CONNECTED, Happening.LOST]),
        (Happening.CONNECTED, [Happening.CONNECTED, Happening.CONNECTED]),
    ],
)
def test_a_mailbox_that_overflows_leaves_one_connected(last: Happening, left: list[Happening]) -> None:
    async def fill() -> list[Happening]:
        mailbox = Mailbox(limit=10)
        events = [event(Happening.STARTED) for _ in range(11)] + [event(last)]
        writer = threading.Thread(target=lambda: [mailbox.put(event) for event in events])
        writer.start()
        writer.join()
        return [(await mailbox.get()).happening for _ in range(2)]

    assert asyncio.run(fill()) == left


def test_a_lost_connection_is_told_though_there_is_no_room() -> None:
    async def fill() -> list[Happening]:
        mailbox = Mailbox(limit=10)
        for happening in [Happening.STARTED] * 10 + [Happening.LOST]:
            mailbox.put(event(happening))
        return [(await mailbox.get()).happening for _ in range(2)]

    assert asyncio.run(fill()) == [Happening.CONNECTED, Happening.LOST]


def test_a_closed_loop_stops_no_thread_that_still_has_events() -> None:
    async def make() -> Mailbox:
        return Mailbox()

    mailbox = asyncio.run(make())
    mailbox.put(event(Happening.STARTED))


def test_every_number_of_libvirts_is_an_event_of_its_own() -> None:
    libvirt = pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    kinds = ("DEFINED", "UNDEFINED", "STARTED", "SUSPENDED", "RESUMED", "STOPPED", "PMSUSPENDED", "CRASHED")
    for kind in kinds:
        event = getattr(libvirt, f"VIR_DOMAIN_EVENT_{kind}")
        prefix = f"VIR_DOMAIN_EVENT_{kind}_"
        for constant in (name for name in dir(libvirt) if name.startswith(prefix)):
            found = happening_of(event, getattr(libvirt, constant))
            assert found is not None
            if kind in {"PMSUSPENDED", "CRASHED"}:
                assert found[0] is Happening.SUSPENDED
            else:
                word = constant.removeprefix(prefix).lower().replace("_", "-")
                assert found == (Happening(kind.lower()), word)


def test_numbers_of_a_newer_libvirt_make_a_change() -> None:
    assert happening_of(77, 0) == (Happening.CHANGED, "event-77")
    assert happening_of(2, 77) == (Happening.STARTED, "detail-77")


def test_a_program_that_listened_ends_by_itself() -> None:
    pytest.importorskip("libvirt", reason="needs libvirt-python: pip install libvirt-python")
    script = (
        "import asyncio\n"
        "from undercroft.adapters.libvirt.fleet import LibvirtFleet\n"
        "async def main(): print((await anext(LibvirtFleet('test:///default').events())).happening)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("connected\n", "")
