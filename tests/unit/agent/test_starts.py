"""What a start is followed by: that which is stopped is the process that was judged."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from memoryfleet import MemoryFleet
from recordvalues import domain

from undercroft.agent.host import Host
from undercroft.agent.scans import Scans, Wish
from undercroft.agent.starts import Starts
from undercroft.model.domain import Domain, Power
from undercroft.usecases.fleet.starts.confirming import Confirmed, Next


class Scene:
    """A machine that runs and is refused, and what the agent asks of libvirt and of its queue."""

    def __init__(self) -> None:
        machine = domain(1)
        self.uuid = machine.uuid
        self.fleet = MemoryFleet([machine])
        self.fleet.start(self.uuid)
        self.wishes: list[Wish] = []
        self.reports: list[str] = []
        nothing = cast("Any", None)
        host = SimpleNamespace(
            fleet=self.fleet,
            ask=self._ask,
            report=self.reports.append,
            problem=lambda what, error: self.reports.append(f"{what}: {error}"),
        )
        scans = SimpleNamespace(add=lambda _uuid, wish, *, first: self.wishes.append(wish))
        self.starts = Starts(
            cast("Host", host), cast("Scans", scans), lambda _keys: None, nothing, lambda: None
        )

    @staticmethod
    async def _ask(call: Callable[..., None], *arguments: object, **named: object) -> None:
        call(*arguments, **named)

    @property
    def machine(self) -> Domain:
        """The machine as libvirt has it now."""
        return self.fleet.domain(self.uuid)

    def refuse(self, judged: Domain) -> None:
        """Follow a judgement of the process that ran then."""
        asyncio.run(self.starts._then(judged, Confirmed(Next.DESTROY, "the policy refuses what it runs")))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_machine_that_was_started_anew_since_it_was_judged_is_looked_at_not_stopped(scene: Scene) -> None:
    judged = scene.machine
    scene.fleet.destroy(scene.uuid)
    scene.fleet.start(scene.uuid)  # by an administrator, who has mended it
    scene.refuse(judged)
    assert scene.machine.power is Power.RUNNING
    assert scene.wishes == [Wish(settle=True)]
    assert "was started anew" in scene.reports[-1]


def test_control_the_process_that_was_judged_is_stopped(scene: Scene) -> None:
    scene.refuse(scene.machine)
    assert scene.machine.power is Power.OFF
    assert scene.wishes == []


def test_a_process_without_a_number_is_stopped_all_the_same(scene: Scene) -> None:
    scene.refuse(replace(scene.machine, libvirt_id=0))
    assert scene.machine.power is Power.OFF


def test_a_machine_that_has_stopped_meanwhile_is_no_problem(scene: Scene) -> None:
    judged = scene.machine
    scene.fleet.destroy(scene.uuid)
    scene.refuse(judged)
    assert scene.wishes == []
